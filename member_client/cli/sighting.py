"""`stillwatch sighting`: say which patterns were seen here, in whole days and powers of ten; see who else saw them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session
from member_client.cli.publication import (
    DryRunOption,
    LegalBasisOption,
    MarkingOption,
    NoSyncOption,
    PurposeOption,
    ValidUntilOption,
    YesOption,
    bring_up_to_date,
    exit_if_refused,
    handling_options,
    may_publish,
    published_or_refused,
)
from member_client.detection import runs
from member_client.detection.findings import Summary, Tally
from member_client.detection.sighting_reports import parse_day, sighting_body
from member_client.errors import InvalidInput
from member_client.patterns.finding import resolve, short_id
from member_client.patterns.outbox import Wish, deliver_all
from member_client.patterns.presenting import choose, sightings_of
from member_client.patterns.submission import as_record, author_of, handling_of
from member_client.publishing import Published, draft, first_version
from member_client.session import Session
from member_client.sync.store import StoredVersion
from sharing_protocol.statements import RecordStatement

app = typer.Typer(help="Report which patterns were seen, and see who else saw them.", no_args_is_help=True)


@app.command()
def report(
    source: Annotated[
        str,
        typer.Argument(
            help="A run of `detect`, or a detections file; by default the newest run.", metavar="[RUN|FILE]"
        ),
    ] = "",
    pattern: Annotated[str, typer.Option(help="Only this pattern.", metavar="ID")] = "",
    period: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Days covered, the second the day after the last.", metavar="START END", show_default=False),
    ] = None,
    marking: MarkingOption = "",
    purpose: PurposeOption = "",
    legal_basis: LegalBasisOption = "",
    valid_until: ValidUntilOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish what a run of `detect` found as signed sightings: pattern version, days, and counts in buckets.

    What will be published is shown first, whole. Nothing else leaves the lab: no account, no prompt, no exact count.
    """
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    summary, tallies = _source(session, source)
    days = (parse_day(period[0]), parse_day(period[1])) if period else None
    handling = handling_options(marking, purpose, legal_basis, valid_until)
    bodies = [
        (tally, sighting_body(tally, days, handling_of(session, _seen_version(session, tally)) | handling))
        for tally in _to_report(session, tallies, pattern, summary)
    ]
    if not bodies:
        raise InvalidInput(
            "there is nothing to report: no pattern matched, or all was reported before",
            "run `stillwatch detect` over newer logs, or name another run",
        )
    shown = [(tally.title, body) for tally, body in bodies]
    if not may_publish(shown, [body for _, body in bodies], dry_run=dry_run, yes=yes, as_json=as_json):
        return
    documents = []
    outcomes = deliver_all(session, [_wish(session, body) for _, body in bodies])
    for (tally, _), outcome in zip(bodies, outcomes, strict=True):
        if summary is not None and isinstance(outcome, Published):
            summary.reported[tally.entry] = outcome.id
            runs.keep(session.home, summary)
        told = published_or_refused(outcome, f"{tally.title}: ", session, as_json, alone=len(bodies) == 1)
        documents.append({"pattern": tally.id, "pattern_version": tally.version} | told)
    if as_json:
        output.print_json(documents)
    exit_if_refused(documents)


@app.command("list")
def list_sightings(
    pattern: Annotated[str, typer.Option(help="Of this pattern only.", metavar="ID")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List which labs saw which patterns."""
    session = open_session(home)
    pattern_id = resolve(session.store, pattern)[-1].id if pattern else None
    found = sightings_of(session, pattern_id)
    if as_json:
        output.print_json(
            [{"pattern": version.refers_to, "index": version.index} | asdict(seen) for version, seen in found]
        )
        return
    output.table(
        ["pattern", "ver.", "seen by", "from", "until before", "matches", "accounts", "state"],
        [
            (
                short_id(version.refers_to),
                seen.pattern_version,
                seen.lab,
                seen.period_start,
                seen.period_end,
                seen.matches,
                seen.accounts or "not known",
                seen.state,
            )
            for version, seen in found
        ],
    )


def _source(session: Session, source: str) -> tuple[Summary | None, list[Tally]]:
    """The run's summary, if it is a run of this home, and the counts."""
    if source and Path(source).is_file():
        return None, runs.read_detections(Path(source))
    summary = runs.load(session.home, source)
    return summary, summary.tallies


def _to_report(session: Session, tallies: list[Tally], pattern: str, summary: Summary | None) -> list[Tally]:
    """The counts to report: what matched, and was not reported from this run before."""
    wanted = resolve(session.store, pattern)[-1].id if pattern else ""
    reported = summary.reported if summary else {}
    return [tally for tally in tallies if tally.matches and tally.entry not in reported and wanted in ("", tally.id)]


def _seen_version(session: Session, tally: Tally) -> StoredVersion:
    version = choose(resolve(session.store, tally.id), tally.version)
    if version.entry != tally.entry:
        raise InvalidInput(f"{tally.id} version {tally.version} is another one in the log", "run `detect` again")
    return version


def _wish(session: Session, body: dict[str, Any]) -> Wish:
    def write() -> RecordStatement:
        header = first_version(session, "sighting", author_of(session), session.now)
        return as_record(draft(header, "sighting", body))

    said = ("period_start", "period_end", "matches", "accounts", "marking", "purpose", "legal_basis")
    return ("sighting", body["pattern"]["entry"], *(str(body[name]) for name in said)), write

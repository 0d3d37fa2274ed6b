"""`stillwatch opinion | endorse`, `stillwatch pattern feedback`: what labs find of each other's patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client import feedback as voices
from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.publication import (
    DryRunOption,
    LegalBasisOption,
    MarkingOption,
    NoSyncOption,
    PurposeOption,
    ReasonOption,
    ValidUntilOption,
    YesOption,
    bring_up_to_date,
    handling_options,
    may_publish,
    report_published,
)
from member_client.cli.records import IdArgument, VersionOption
from member_client.errors import InvalidInput
from member_client.feedback import StoredVoice, VoiceKind
from member_client.feedback_in_words import names, precision_in_words, voice_document
from member_client.named_files import read_named
from member_client.patterns.finding import listing, resolve, short_id
from member_client.patterns.presenting import choose
from member_client.session import Session
from member_client.sync.store import StoredVersion
from sharing_protocol.feedback import Feedback, as_wire
from sharing_protocol.membership import Membership
from sharing_protocol.statements import Opinion
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.statements.opinions import MAX_REVIEWED, Verdict

app = typer.Typer(help="Say what you find of other labs' patterns, and see what others find.", no_args_is_help=True)

CommentOption = Annotated[str, typer.Option(help="A word to its author, for every lab to read.")]

_MAX_MEASURED_BYTES = 16 * 1024 * 1024


@app.command()
def give(
    pattern: IdArgument,
    verdict: Annotated[
        Verdict,
        typer.Option(help="That it is right, hits legitimate customers, or needs work.", show_default=False),
    ],
    reviewed: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_REVIEWED, help="How many of its matches people looked at.", show_default=False),
    ] = None,
    true_positives: Annotated[
        int | None, typer.Option(min=0, help="How many of these were what it says.", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option(help="How these matches were drawn and judged, in a line.")] = "",
    comment: CommentOption = "",
    version: VersionOption = None,
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
    """Publish what your lab finds of another lab's pattern version, with what you measured.

    A lab has one voice: the second time revises what it said before. A `false_positive` disputes the pattern: it takes
    counts, and other labs' policies may stop acting on the pattern until it is revised. What will be published is
    shown first, whole.
    """
    measured = _measured(verdict, reviewed, true_positives, method)
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    chosen = choose(resolve(session.store, pattern), version)
    handling = handling_options(marking, purpose, legal_basis, valid_until)
    said = {"verdict": verdict.value, "measured": measured, "comment": comment or None}
    if verdict is Verdict.FALSE_POSITIVE:
        warn_of_endorsement(session, chosen)
    _publish(session, "opinion", chosen, voices.voice_body(session, chosen, said, handling), dry_run, yes, as_json)


@app.command("list")
def list_opinions(
    pattern: Annotated[str, typer.Option(help="Of this pattern only.", metavar="ID")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what labs find of which patterns."""
    session = open_session(home)
    pattern_id = resolve(session.store, pattern)[-1].id if pattern else None
    found = voices.voices(session, "opinion", pattern_id)
    if as_json:
        output.print_json([voice_document(one, session.membership) for one in found])
        return
    _opinion_table(found, session.membership)


@app.command()
def withdraw(
    pattern: IdArgument,
    reason: ReasonOption,
    version: VersionOption = None,
    marking: MarkingOption = "",
    purpose: PurposeOption = "",
    legal_basis: LegalBasisOption = "",
    valid_until: ValidUntilOption = "",
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw your lab's opinion of a pattern version, for good: to change it, `give` another."""
    handling = handling_options(marking, purpose, legal_basis, valid_until)
    _withdraw("opinion", pattern, version, reason, handling, no_sync, home, as_json)


def endorse(
    pattern: IdArgument,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="What `pattern backtest PATTERN --json` printed on your own logs; by default the newest backtest of "
            "this version that the home keeps.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    unmeasured: Annotated[bool, typer.Option("--unmeasured", help="Say nothing of what was measured.")] = False,
    comment: CommentOption = "",
    take_back: Annotated[bool, typer.Option("--withdraw", help="Take the endorsement back, for good.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is taken back, for every lab to read.")] = "",
    version: VersionOption = None,
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
    """Stand for another lab's pattern version that you tested on your own traffic.

    It counts for this very version. A second time revises the first. `pattern backtest` of a record keeps what it
    measured in the home; that is published with it. What will be published is shown first, whole.
    """
    if unmeasured and measured is not None:
        raise InvalidInput("--measured and --unmeasured say opposite things", "give one of them")
    handling = handling_options(marking, purpose, legal_basis, valid_until)
    if take_back:
        if not reason:
            raise InvalidInput("an endorsement is taken back for a reason", "say why with --reason")
        _withdraw("endorsement", pattern, version, reason, handling, no_sync, home, as_json, dry_run=dry_run)
        return
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    chosen = choose(resolve(session.store, pattern), version)
    block = None if unmeasured else _backtested(measured, chosen) if measured else _kept(session, chosen, as_json)
    said = {"measured": block, "comment": comment or None}
    body = voices.voice_body(session, chosen, said, handling)
    _publish(session, "endorsement", chosen, body, dry_run, yes, as_json)


def pattern_feedback(
    record_id: IdArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what labs found of each version of a pattern: verdicts, endorsements, sightings, measured precision."""
    session = open_session(home)
    versions = resolve(session.store, record_id)
    found = voices.feedback_of(session, versions[-1].id, session.now)
    by_version = [(version, found.get(version.entry, Feedback(version.entry))) for version in versions]
    if as_json:
        documents = [as_wire(version.version, one).model_dump() for version, one in by_version]
        output.print_json({"id": versions[-1].id, "versions": documents})
        return
    membership = session.membership
    say(versions[-1].title, "bold")
    output.table(
        ["ver.", "state", "confirm", "dispute", "needs work", "endorse", "seen by", "matches", "precision"],
        [
            (
                version.version,
                listing(version, membership, session.now).state,
                *(
                    names(labs, membership) or "-"
                    for labs in (one.confirmed_by, one.disputed_by, one.needs_work_by, one.endorsed_by, one.seen_by)
                ),
                one.matches or "-",
                precision_in_words(one) or "not measured",
            )
            for version, one in by_version
        ],
    )
    said = voices.voices(session, "opinion", versions[-1].id)
    if said:
        say("")
        _opinion_table(said, membership)
    for one in said:
        if one.state == "active" and one.statement.body.comment:
            # Further lines are indented: none of them may look like what another lab said.
            comment = one.statement.body.comment.replace("\n", "\n  ")
            say(f"{membership.name_of(one.version.author)}: {comment}")


def warn_of_endorsement(session: Session, disputed: StoredVersion) -> None:
    """Say so if this lab endorses the very version that it is about to dispute."""
    if voices.own_voice(session, "endorsement", disputed) is not None:
        which = f"{short_id(disputed.id)} --version {disputed.version}"
        output.warn(
            "your lab endorses this very version: take that back too, with "
            f"`stillwatch endorse {which} --withdraw --reason …`"
        )


def _opinion_table(found: list[StoredVoice], membership: Membership) -> None:
    rows = []
    for one in found:
        if isinstance(one.statement, Opinion):
            body = one.statement.body
            measured = f"{body.measured.true_positives} of {body.measured.reviewed}" if body.measured else "-"
            rows.append(
                (
                    short_id(body.pattern.id),
                    body.pattern.version,
                    membership.name_of(one.version.author),
                    body.verdict,
                    measured,
                    one.version.created[:10],
                    one.state,
                )
            )
    output.table(["pattern", "ver.", "lab", "verdict", "right", "on", "state"], rows)


def _measured(verdict: Verdict, reviewed: int | None, true_positives: int | None, method: str) -> dict[str, Any] | None:
    if reviewed is None and true_positives is None and not method:
        if verdict is Verdict.FALSE_POSITIVE:
            hint = "review a sample of its matches; give --reviewed, --true-positives and --method"
            raise InvalidInput("a pattern is disputed with counts", hint)
        return None
    if reviewed is None or true_positives is None or not method:
        raise InvalidInput("what was measured takes all three of --reviewed, --true-positives and --method")
    if true_positives > reviewed:
        raise InvalidInput(f"of {reviewed} reviewed matches, {true_positives} cannot have been right")
    return {"reviewed": reviewed, "true_positives": true_positives, "method": method}


def _backtested(file: Path, pattern: StoredVersion) -> dict[str, Any]:
    """The `measured` block of a backtest of this very version.

    Raises:
        InvalidInput: the file has none.
    """
    hint = "write it with `stillwatch pattern backtest PATTERN --json > FILE`"
    data = read_named(file, _MAX_MEASURED_BYTES)
    try:
        document = json.loads(data) if len(data) <= _MAX_MEASURED_BYTES else None
    except (ValueError, RecursionError):
        document = None
    tested = document.get("pattern") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(tested, dict) or "measured" not in document:
        raise InvalidInput(f"{file} is no backtest", hint)
    if tested.get("entry") != pattern.entry:
        raise InvalidInput(f"{file} is a backtest of something else than {pattern.id} version {pattern.version}", hint)
    if not isinstance(document["measured"], dict):
        raise InvalidInput(f"the backtest in {file} measured nothing", "name logs that have the pattern's fields")
    measured: dict[str, Any] = document["measured"]
    return measured


def _kept(session: Session, pattern: StoredVersion, as_json: bool) -> dict[str, Any] | None:
    """The `measured` block of the newest backtest of this very version that the home keeps, and says which; or None."""
    from member_client.lifecycle.backtests import kept_backtest

    kept = kept_backtest(session, pattern.entry)
    if kept is None or not kept.measured:
        what = "no backtest of this version is kept here" if kept is None else "the backtest kept here has no measures"
        hint = f"run `stillwatch pattern backtest {short_id(pattern.id)} --version {pattern.version}` first"
        output.warn(f"{what}: this endorsement says nothing of what was measured; {hint} to say it")
        return None
    if not as_json:
        say(f"measured: as the backtest of {format_timestamp(kept.at)} that is kept here; --unmeasured leaves it out")
    block: dict[str, Any] = json.loads(kept.measured)
    return block


def _publish(
    session: Session,
    kind: VoiceKind,
    pattern: StoredVersion,
    body: dict[str, Any],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    voices.check_may_speak(session, kind, pattern)
    if not may_publish([(pattern.title, body)], body, dry_run=dry_run, yes=yes, as_json=as_json):
        return
    publish = voices.publish_opinion if kind == "opinion" else voices.publish_endorsement
    report_published(publish(session, pattern, body), session, as_json)


def _withdraw(
    kind: VoiceKind,
    pattern: str,
    version: int | None,
    reason: str,
    handling: dict[str, str],
    no_sync: bool,
    home: Path | None,
    as_json: bool,
    *,
    dry_run: bool = False,
) -> None:
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    chosen = choose(resolve(session.store, pattern), version)
    if dry_run:
        body = voices.withdrawal_of_voice(session, kind, chosen, reason, handling)
        may_publish([(f"withdrawal of {chosen.title}", body)], body, dry_run=True, yes=False, as_json=as_json)
        return
    report_published(voices.withdraw_voice(session, kind, chosen, reason, handling), session, as_json)

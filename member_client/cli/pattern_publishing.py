"""`stillwatch pattern submit | revise | resign | withdraw`: signed statements, with receipts that prove them logged."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output, sync
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.pattern_writing import FilesArgument, read_for_submission
from member_client.errors import InvalidInput
from member_client.patterns.authoring import WrittenPattern
from member_client.patterns.submission import (
    own_newest,
    own_suspects,
    resign_pattern,
    revise_pattern,
    submit_pattern,
    withdraw_record,
)
from member_client.publishing import Published
from member_client.session import Session

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, publish nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
NoSyncOption = Annotated[
    bool, typer.Option("--no-sync", help="Do not bring the local copy of the log up to date first.")
]
IdArgument = Annotated[str, typer.Argument(help="The pattern's id, or the beginning of it.", show_default=False)]
MarkingOption = Annotated[str, typer.Option("--marking", help="TLP marking; by default the pattern's.")]
PurposeOption = Annotated[str, typer.Option("--purpose", help="By default the pattern's.")]
LegalBasisOption = Annotated[str, typer.Option("--legal-basis", help="By default the pattern's.")]
ValidUntilOption = Annotated[
    str, typer.Option("--valid-until", help="A day, such as 2027-03-01; by default a year from now.", metavar="DAY")
]


def submit(
    files: FilesArgument,
    dry_run: DryRunOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish pattern files as new patterns.

    All must lint and pass their own tests before any is sent. Running it again after a lost answer makes no second
    record.
    """
    session = open_session(home)
    patterns = read_for_submission(files, session.now)
    if dry_run:
        _report_dry_run(patterns, as_json)
        return
    bring_up_to_date(session, no_sync, as_json)
    documents = []
    for pattern in patterns:
        published = submit_pattern(session, pattern)
        documents.append({"file": pattern.file, "title": pattern.content.title} | published_document(published))
        if not as_json:
            say_published(f"{pattern.file}: ", published, session)
    if as_json:
        output.print_json(documents)


def revise(
    record_id: IdArgument,
    file: Annotated[Path, typer.Argument(help="The pattern file.", show_default=False)],
    dry_run: DryRunOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a pattern file as the next version of one of your patterns."""
    session = open_session(home)
    (pattern,) = read_for_submission([file], session.now)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    if dry_run:
        own_newest(session, record_id)
        _report_dry_run([pattern], as_json)
        return
    report_published(revise_pattern(session, record_id, pattern), session, as_json)


def resign(
    record_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids, or their beginnings; by default all that are suspect.", metavar="[ID]..."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign suspect patterns of yours anew, with a key in force: that brings them back into force everywhere.

    Read them first (`pattern show`): whoever had the compromised key may have written them.
    """
    session = open_session(home)
    bring_up_to_date(session, no_sync, as_json)
    suspects = own_suspects(session, record_ids or [])
    for suspect in suspects:
        if not as_json:
            say(f"{suspect.id} version {suspect.version}, logged at index {suspect.index}: {suspect.title!r}")
    if not suspects:
        raise InvalidInput("no pattern of this lab is suspect")
    if not yes and (as_json or not sys.stdin.isatty()):
        raise InvalidInput("nothing was signed: nobody confirmed that these are the lab's own", "pass --yes")
    if not yes:
        typer.confirm("Have you read them, and are they as your lab wrote them?", abort=True)
    documents = []
    for suspect in suspects:
        published = resign_pattern(session, suspect)
        documents.append(published_document(published))
        if not as_json:
            say_published("", published, session)
    if as_json:
        output.print_json(documents)


def withdraw(
    record_id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why, for every lab to read.", show_default=False)],
    marking: MarkingOption = "",
    purpose: PurposeOption = "",
    legal_basis: LegalBasisOption = "",
    valid_until: ValidUntilOption = "",
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw one of your patterns: it stays in the log, and is in force nowhere after the next sync."""
    session = open_session(home)
    bring_up_to_date(session, no_sync, as_json)
    handling = handling_options(marking, purpose, legal_basis, valid_until)
    report_published(withdraw_record(session, record_id, reason, handling), session, as_json)


def handling_options(marking: str, purpose: str, legal_basis: str, valid_until: str) -> dict[str, str]:
    """What the user said about a record's handling; the rest comes from the pattern."""
    day = f"{valid_until}T00:00:00Z" if valid_until and "T" not in valid_until else valid_until
    given = {"marking": marking, "purpose": purpose, "legal_basis": legal_basis, "valid_until": day}
    return {name: value for name, value in given.items() if value}


def bring_up_to_date(session: Session, skip: bool, as_json: bool) -> None:
    """Follow the log first, so that versions and references are those that the hub has."""
    if not skip:
        sync.bring_up_to_date(session, show=not as_json)


def show_first(records: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """What would be published, whole: of what, and the body."""
    for title, body in records:
        say(f"would be published of {title!r}, signed, to all members:", "bold")
        say(json.dumps(body, ensure_ascii=False, indent=2))


def confirm_publication(count: int, yes: bool, as_json: bool) -> None:
    """Ask whether what was shown may be published.

    Raises:
        InvalidInput: it may not, or nobody is there to say so.
    """
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InvalidInput("nothing was published: nobody confirmed it", "look at --dry-run, then pass --yes")
    if not typer.confirm(f"Publish {'this' if count == 1 else f'these {count}'}?"):
        raise InvalidInput("nothing was published")


def published_document(published: Published) -> dict[str, Any]:
    """A publication for scripts."""
    return {
        "id": published.id,
        "version": published.version,
        "index": published.index,
        "entry": published.entry,
        "already_logged": published.already_logged,
    }


def report_published(published: Published, session: Session, as_json: bool) -> None:
    """One publication, for people or scripts."""
    if as_json:
        output.print_json(published_document(published))
    else:
        say_published("", published, session)


def say_published(prefix: str, published: Published, session: Session) -> None:
    """One publication in words."""
    verb = "was there before" if published.already_logged else "logged"
    say(f"{prefix}{published.id} version {published.version} {verb} at index {published.index}", "green")
    say(f"  entry {published.entry}; the receipt is kept in {session.home.store}")


def _report_dry_run(patterns: list[WrittenPattern], as_json: bool) -> None:
    if as_json:
        output.print_json([{"file": pattern.file, "body": pattern.body} for pattern in patterns])
        return
    for pattern in patterns:
        say(f"{pattern.file}: {pattern.content.title!r} would be published; nothing was sent", "green")

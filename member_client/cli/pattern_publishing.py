"""`stillwatch pattern submit | revise | resign | withdraw`: signed statements, with receipts that prove them logged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from member_client.cli import output
from member_client.cli.confirming import confirm
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.pattern_writing import FilesArgument, read_for_submission
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
    exit_if_refused,
    handling_options,
    published_document,
    published_or_refused,
    report_published,
    say_published,
)
from member_client.cli.records import IdArgument
from member_client.errors import InvalidInput
from member_client.patterns.authoring import WrittenPattern
from member_client.patterns.submission import (
    own_newest,
    own_suspects,
    resign_pattern,
    revise_pattern,
    submit_patterns,
    withdraw_record,
)


def submit(
    files: FilesArgument,
    dry_run: DryRunOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish pattern files as new patterns.

    All must lint and pass their own tests before any is sent, in few requests. One that the hub refuses keeps back no
    other. Running it again after a lost answer makes no second record.
    """
    session = open_session(home)
    patterns = read_for_submission(files, session.now)
    if dry_run:
        _report_dry_run(patterns, as_json)
        return
    bring_up_to_date(session, no_sync, as_json)
    documents = []
    for pattern, outcome in zip(patterns, submit_patterns(session, patterns), strict=True):
        told = published_or_refused(outcome, f"{pattern.file}: ", session, as_json, alone=len(patterns) == 1)
        documents.append({"file": pattern.file, "title": pattern.content.title} | told)
    if as_json:
        output.print_json(documents)
    exit_if_refused(documents)


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
    yes: YesOption = False,
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
    question = "Have you read them, and are they as your lab wrote them?"
    confirm(question, "nothing was signed", "read them with `stillwatch pattern show`", yes=yes, as_json=as_json)
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
    reason: ReasonOption,
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


def _report_dry_run(patterns: list[WrittenPattern], as_json: bool) -> None:
    if as_json:
        output.print_json([{"file": pattern.file, "body": pattern.body} for pattern in patterns])
        return
    for pattern in patterns:
        say(f"{pattern.file}: {pattern.content.title!r} would be published; nothing was sent", "green")

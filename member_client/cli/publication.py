"""What the commands that publish records share: options, showing and asking first, and saying what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from member_client.cli import output, sync
from member_client.cli.confirming import confirm
from member_client.cli.output import say
from member_client.errors import HubUnreachable, RefusedByHub
from member_client.publishing import Published
from member_client.session import Session

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, publish nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
NoSyncOption = Annotated[
    bool, typer.Option("--no-sync", help="Do not bring the local copy of the log up to date first.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for every lab to read.", show_default=False)]
MarkingOption = Annotated[str, typer.Option("--marking", help="TLP marking; by default the pattern's.")]
PurposeOption = Annotated[str, typer.Option("--purpose", help="By default the pattern's.")]
LegalBasisOption = Annotated[str, typer.Option("--legal-basis", help="By default the pattern's.")]
ValidUntilOption = Annotated[
    str, typer.Option("--valid-until", help="A day, such as 2027-03-01; by default a year from now.", metavar="DAY")
]


def handling_options(marking: str, purpose: str, legal_basis: str, valid_until: str) -> dict[str, str]:
    """What the user said about a record's handling; the rest comes from what it is about."""
    day = f"{valid_until}T00:00:00Z" if valid_until and "T" not in valid_until else valid_until
    given = {"marking": marking, "purpose": purpose, "legal_basis": legal_basis, "valid_until": day}
    return {name: value for name, value in given.items() if value}


def bring_up_to_date(session: Session, skip: bool, as_json: bool) -> None:
    """Follow the log first, so that versions and references are those that the hub has."""
    if not skip:
        sync.bring_up_to_date(session, show=not as_json)


def may_publish(
    records: Sequence[tuple[str, dict[str, Any]]],
    document: Any,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    note: str = "",
) -> bool:
    """Show what would be published, whole, and ask; False if it was only to be tried.

    Args:
        records: of what each is, and its body.
        document: the same for scripts, which see it with --dry-run.
        note: for people, below it.

    Raises:
        InvalidInput: it may not be published, or nobody is there to say so.
    """
    if not as_json:
        for title, body in records:
            say(f"would be published of {title!r}, signed, to all members:", "bold")
            say(json.dumps(body, ensure_ascii=False, indent=2))
        if note:
            say(note)
    elif dry_run:
        output.print_json(document)
    if not dry_run:
        what = "this" if len(records) == 1 else f"these {len(records)}"
        confirm(f"Publish {what}?", "nothing was published", "look at --dry-run", yes=yes, as_json=as_json)
    return not dry_run


def published_document(published: Published) -> dict[str, Any]:
    """A publication for scripts."""
    return {
        "id": published.id,
        "version": published.version,
        "index": published.index,
        "entry": published.entry,
        "already_logged": published.already_logged,
    }


def published_or_refused(
    outcome: Published | RefusedByHub | HubUnreachable, name: str, session: Session, as_json: bool, *, alone: bool
) -> dict[str, Any]:
    """Say what came of one publication of several; gives it for scripts, a refusal as its error and problem.

    Raises:
        RefusedByHub: it is the only one.
        HubUnreachable: this one, and perhaps those after it, are to be sent again.
    """
    if isinstance(outcome, HubUnreachable) or (alone and isinstance(outcome, RefusedByHub)):
        raise outcome
    if isinstance(outcome, RefusedByHub):
        if not as_json:
            output.warn(f"error: {name}{outcome}", "bold red")
        return {"error": outcome.code, "message": str(outcome), "problem": outcome.problem.model_dump()}
    if not as_json:
        say_published(name, outcome, session)
    return published_document(outcome)


def exit_if_refused(documents: Sequence[dict[str, Any]]) -> None:
    """End as a command ends that the hub refused, if it refused any of these."""
    if any("error" in document for document in documents):
        raise typer.Exit(RefusedByHub.exit_code)


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

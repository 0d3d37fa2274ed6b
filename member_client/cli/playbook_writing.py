"""`stillwatch playbook new | lint | submit | revise | withdraw | list | show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.pattern_writing import now, report_issues, to_mend
from member_client.cli.publication import (
    DryRunOption,
    NoSyncOption,
    ReasonOption,
    YesOption,
    bring_up_to_date,
    handling_options,
    may_publish,
    report_published,
)
from member_client.cli.records import VersionOption
from member_client.errors import InvalidInput
from member_client.named_files import write_new
from member_client.patterns.finding import ALL, STATES, Listed, listed_document, listing, resolve, short_id
from member_client.patterns.submission import own_newest, withdraw_record, withdrawal_body
from member_client.playbooks import library
from member_client.playbooks.leftovers import left_as_shipped
from member_client.playbooks.outline import outline, playbook_file, term
from member_client.playbooks.playbook_file import Reading, WrittenPlaybook, read
from member_client.playbooks.submission import playbook_of, revise_playbook, submit_playbook
from member_client.session import Session
from sharing_protocol.content import check_playbook
from sharing_protocol.playbooks import Action, Question
from sharing_protocol.statements import PlaybookBody, PlaybookKind
from sharing_protocol.statements.header import show_hidden

IdArgument = Annotated[str, typer.Argument(help="The playbook's id, or the beginning of it.", show_default=False)]
FileArgument = Annotated[Path, typer.Argument(help="The playbook file.", show_default=False)]
ChosenArgument = Annotated[
    str, typer.Argument(help="A playbook's id, or the beginning of it; or a file.", metavar="ID|FILE")
]


def new(
    kind: Annotated[
        PlaybookKind, typer.Option("--kind", help="Which kind's template.")
    ] = PlaybookKind.ESCALATION_PROTOCOL,
    starter: Annotated[
        str,
        typer.Option(
            "--from",
            help="Start from this starter playbook instead: access-revocation, three-level-escalation.",
            metavar="STARTER",
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this new file.", metavar="FILE")] = None,
) -> None:
    """Print (or write) a commented playbook file to start from."""
    text = library.starter(starter) if starter else library.template(kind)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    say(f"{out} written; edit it, then: stillwatch playbook lint {out}")


def lint_files(
    files: Annotated[list[Path], typer.Argument(help="Playbook files.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with playbook files: file, line, what, how to mend. Exits 2 if anything is.

    A template or starter that nobody has edited is warned of.
    """
    readings = [read(file, now()) for file in files]
    if as_json:
        output.print_json([_linted(reading) for reading in readings])
    else:
        for reading in readings:
            report_issues(reading.issues)
            if reading.playbook is None:
                continue
            if left := left_as_shipped(reading.playbook, now()):
                output.warn(f"{reading.file}: `submit` will refuse it: {left}")
            else:
                say(f"{reading.file}: nothing to mend", "green")
    if any(reading.issues for reading in readings):
        raise typer.Exit(InvalidInput.exit_code)


def submit(
    file: FileArgument,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a playbook file as a new playbook. Running it again after a lost answer makes no second record.

    What will be published is shown first, whole.
    """
    session = open_session(home)
    playbook = _to_publish(file, session)
    if not _may_publish_file(playbook, dry_run, yes, as_json):
        return
    bring_up_to_date(session, no_sync, as_json)
    report_published(submit_playbook(session, playbook), session, as_json)
    if not as_json:
        say("  `stillwatch playbook list` shows it after the next `stillwatch sync`")


def revise(
    record_id: IdArgument,
    file: FileArgument,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a playbook file as the next version of one of your playbooks.

    What will be published is shown first, whole.
    """
    session = open_session(home)
    playbook = _to_publish(file, session)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    own_newest(session, record_id, "playbook")
    if _may_publish_file(playbook, dry_run, yes, as_json):
        report_published(revise_playbook(session, record_id, playbook), session, as_json)


def withdraw(
    record_id: IdArgument,
    reason: ReasonOption,
    marking: Annotated[str, typer.Option("--marking", help="TLP marking; by default the playbook's.")] = "",
    valid_until: Annotated[
        str, typer.Option("--valid-until", help="A day; by default a year from now.", metavar="DAY")
    ] = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw one of your playbooks: it stays in the log, and is in force nowhere after the next sync.

    What will be published is shown first, whole.
    """
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    newest = own_newest(session, record_id, "playbook")
    handling = handling_options(marking, "", "", valid_until)
    body = withdrawal_body(session, newest, reason, handling)
    if may_publish([(f"withdrawal of {newest.title}", body)], body, dry_run=dry_run, yes=yes, as_json=as_json):
        report_published(withdraw_record(session, newest.id, reason, handling, "playbook"), session, as_json)


def list_playbooks(
    state: Annotated[str, typer.Option("--state", help=f"One of {', '.join((*STATES, ALL))}.")] = "active",
    kind: Annotated[PlaybookKind | None, typer.Option(help="Of this kind only.", show_default=False)] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List playbooks by their state here and now."""
    if state not in (*STATES, ALL):
        raise InvalidInput(f"{state!r} is not a state", f"use one of {', '.join((*STATES, ALL))}")
    session = open_session(home)
    versions = session.store.versions(type="playbook", newest_only=state not in ("superseded", ALL))
    listed = [listing(version, session.membership, session.now) for version in versions]
    found = [one for one in listed if state in (ALL, one.state) and (kind is None or one.version.kind == kind.value)]
    if as_json:
        output.print_json([listed_document(one) for one in found])
        return
    output.table(
        ["id", "ver.", "state", "kind", "author", "title"],
        [
            (short_id(one.version.id), one.version.version, one.state, one.version.kind, one.author_name,
             one.version.title)
            for one in found
        ],
    )  # fmt: skip
    say(f"{len(found)} playbook{'' if len(found) == 1 else 's'}")


def show(
    playbook: ChosenArgument,
    cacao: Annotated[bool, typer.Option("--cacao", help="Print the CACAO 2.0 document.")] = False,
    as_file: Annotated[bool, typer.Option("--yaml", help="Print it as a playbook file, to revise it with.")] = False,
    version: VersionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a playbook: whom it tells, and its steps, numbered as `run` walks through them."""
    chosen = choose_playbook(playbook, version, home)
    if cacao:
        output.print_json(chosen.body.cacao)
    elif as_file:
        typer.echo(playbook_file(chosen.body), nl=False)
    elif as_json:
        state = listed_document(chosen.listed) if chosen.listed else {}
        output.print_json(state | {"source": chosen.origin, "body": chosen.body.model_dump(mode="json")})
    else:
        _say_playbook(chosen)


@dataclass(frozen=True, slots=True)
class ChosenPlaybook:
    """A playbook, and exactly which text or record it is.

    Attributes:
        origin: in one line.
        listed: of a record; None of a file.
    """

    origin: str
    body: PlaybookBody
    listed: Listed | None


def choose_playbook(text: str, version: int | None, home: Path | None) -> ChosenPlaybook:
    """The playbook that a user means by a file's name, or by a record's id or the beginning of one.

    Raises:
        InvalidInput: there is none, or it has something to mend.
    """
    file = Path(text)
    if file.suffix in (".yaml", ".yml") or file.is_file():
        if version is not None:
            raise InvalidInput("a file has no versions", "leave --version out, or name a record")
        written = _usable(read(file, now()))
        name = show_hidden(file.name)[:80]
        return ChosenPlaybook(f"file {name}, SHA-256 {written.digest}", written.content, None)
    session = open_session(home)
    versions = resolve(session.store, text, "playbook")
    found = [one for one in versions if version in (None, one.version)]
    if not found:
        raise InvalidInput(f"{versions[-1].id} has no version {version}", f"it has {len(versions)}")
    body = playbook_of(session.store, found[-1])
    check_playbook(body)
    origin = f"{found[-1].id} version {found[-1].version}, entry {found[-1].entry}"
    return ChosenPlaybook(origin, body, listing(found[-1], session.membership, session.now))


def _to_publish(file: Path, session: Session) -> WrittenPlaybook:
    reading = read(file, session.now)
    report_issues(reading.issues)
    playbook = _usable(reading)
    if left := left_as_shipped(playbook, session.now):
        what, _, mend = left.partition(": ")
        raise InvalidInput(f"{file} cannot be published: {what}", mend)
    return playbook


def _usable(reading: Reading) -> WrittenPlaybook:
    if reading.playbook is None:
        raise to_mend(reading.file, reading.issues, "playbook lint")
    return reading.playbook


def _may_publish_file(playbook: WrittenPlaybook, dry_run: bool, yes: bool, as_json: bool) -> bool:
    body = playbook.content.model_dump(mode="json")
    note = "The CACAO document gets its own ids and dates when it is signed."
    document = {"file": playbook.file, "body": body}
    return may_publish([(playbook.content.title, body)], document, dry_run=dry_run, yes=yes, as_json=as_json, note=note)


def _linted(reading: Reading) -> dict[str, Any]:
    issues = [one.document() for one in reading.issues]
    left = left_as_shipped(reading.playbook, now()) if reading.playbook is not None else ""
    return {"file": reading.file, "ok": not issues, "issues": issues, "warnings": [left] if left else []}


def _say_playbook(chosen: ChosenPlaybook) -> None:
    body = chosen.body
    say(body.title, "bold")
    say(f"{body.kind.value.replace('_', ' ')}, TLP:{body.marking.value.upper()}, {chosen.origin}")
    if chosen.listed is not None:
        say(f"by {chosen.listed.author_name}, {chosen.listed.state}")
    description = body.description.replace("\n", "\n  ")  # none of its lines may look like one of ours
    say(f"\n  {description}\n")
    for level in body.levels:
        more = f", {level.approvals} labs must ask for it" if level.approvals > 1 else ""
        within = term(level.acknowledge_within_minutes)
        say(f"level {level.name}: tells {', '.join(level.tell)}; acknowledged within {within}{more}")
    for line in outline(check_playbook(body)):
        say_step(line.depth, line.number, line.text, line.step)


def say_step(depth: int, number: int, text: str, step: object) -> None:
    """A step as people read it."""
    indent = "   " * depth
    if not number:
        say(f"{indent}{text}", "cyan")
        return
    say(f"{indent}{number}. {text}", "bold")
    for line in terms_of(step):
        say(f"{indent}   {line}")


def terms_of(step: object) -> Sequence[str]:
    """By whom and within what time a step is done, and what is to be done, a line each."""
    if not isinstance(step, Action | Question):
        return ()
    said = [step.role or "anybody"]
    if step.due_within_minutes:
        said.append(f"within {term(step.due_within_minutes)}")
    if step.approvals:
        said.append(f"{step.approvals} approval{'s' if step.approvals > 1 else ''} by others first")
    texts = [command.text for command in step.commands] if isinstance(step, Action) else []
    shown = [part for text in [step.description, *texts] if text for part in show_hidden(text).split("\n")]
    return ["; ".join(said), *shown]

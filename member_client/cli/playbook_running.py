"""`stillwatch playbook run | step | runs | report`: walking through a playbook, and recording who did what when."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say, warn
from member_client.cli.playbook_writing import choose_playbook, terms_of
from member_client.errors import ClientError, InvalidInput
from member_client.patterns.submission import IN_FORCE
from member_client.playbooks import run_file
from member_client.playbooks.outline import numbers
from member_client.playbooks.report import due_in_words, markdown, run_document
from member_client.playbooks.run_file import Source, StoredRun
from member_client.playbooks.running import Event, Kind, Reached, steps_of
from member_client.session import Session
from sharing_protocol.playbooks import Question

RunArgument = Annotated[str, typer.Argument(help="The run's name, or the beginning of it.", show_default=False)]
ByOption = Annotated[str, typer.Option("--by", help="Who does it.", metavar="NAME")]


def run(
    playbook: Annotated[
        str, typer.Argument(help="A playbook's id, or the beginning of it; or a file.", metavar="[ID|FILE]")
    ] = "",
    resume: Annotated[str, typer.Option(help="Go on with this run.", metavar="RUN")] = "",
    status: Annotated[str, typer.Option(help="Show where this run stands.", metavar="RUN")] = "",
    about: Annotated[str, typer.Option(help="What it is about: an incident's id, or a few words.")] = "",
    by: ByOption = "",
    begin: Annotated[bool, typer.Option("--begin", help="Begin only; go on with `playbook step`.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk through a playbook: what is to be done, by whom, until when; records who did what when.

    It may be left at any point and resumed. With --json a run is begun and shown, for scripts.
    """
    if sum(map(bool, (playbook, resume, status))) != 1:
        raise InvalidInput("which playbook, or which run?", "name a playbook, or --resume RUN, or --status RUN")
    session = open_session(home)
    session.settings  # noqa: B018 - a folder that is no home keeps no runs
    if playbook:
        chosen = choose_playbook(playbook, None, home)
        if chosen.listed is not None and chosen.listed.state not in IN_FORCE:
            warn(f"this playbook is {chosen.listed.state}")
        source = Source(chosen.body, chosen.origin, about.strip(), by.strip())
        stored = run_file.begin(session.home, source, session.clock(), session.now)
    else:
        stored = run_file.load(session.home, resume or status)
    if as_json:
        output.print_json(run_document(stored, session.now))
    elif status or begin:
        _say_run(stored, session)
    else:
        _walk(stored, session, by)


def step(
    run: RunArgument,
    step: Annotated[str, typer.Argument(help="The step's number, id or name.", show_default=False)],
    by: ByOption,
    note: Annotated[str, typer.Option(help="What there is to say about it.")] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Approve it, for others to do it.")] = False,
    answer: Annotated[str, typer.Option(help="The answer to a question: yes or no.")] = "",
    skip: Annotated[str, typer.Option(help="Skip it, for this reason.", metavar="REASON")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record one step of a run as done, answered, approved or skipped, without being asked anything."""
    session = open_session(home)
    stored = run_file.load(session.home, run)
    event = _event(_step_id(stored, step), by, session, note, approve=approve, answer=answer, skip=skip)
    stored = run_file.append(session.home, stored.name, event)
    if as_json:
        output.print_json(run_document(stored, session.now))
    else:
        _say_run(stored, session)


def list_runs(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the runs of this home: what they are about, where they stand, what is overdue."""
    session = open_session(home)
    rows, failed = [], None
    for name in run_file.names(session.home):
        try:
            rows.append(run_document(run_file.load(session.home, name), session.now))
        except ClientError as error:
            failed = failed or error
            rows.append({"run": name, "state": "damaged", "problem": str(error)})
    if as_json:
        output.print_json(rows)
    else:
        output.table(
            ["run", "state", "settled", "overdue", "playbook", "about"],
            [
                (
                    row["run"],
                    row["state"],
                    len(row.get("settled", [])),
                    row.get("overdue", ""),
                    row.get("playbook", row.get("problem", "")),
                    row.get("about", ""),
                )
                for row in rows
            ],
        )
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def report(run: RunArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print a run as a report in Markdown: what was done, by whom and when, what was late, what is to be done."""
    session = open_session(home)
    stored = run_file.load(session.home, run)
    if as_json:
        output.print_json(run_document(stored, session.now))
    else:
        typer.echo(markdown(stored, session.now), nl=False)


def _event(
    step_id: str, by: str, session: Session, note: str, *, approve: bool = False, answer: str = "", skip: str = ""
) -> Event:
    if sum(map(bool, (approve, answer, skip))) > 1:
        raise InvalidInput("--approve, --answer and --skip exclude each other", "record one thing at a time")
    if skip and note:
        raise InvalidInput("--skip has a reason already", "leave --note out")
    given: Literal["", "yes", "no"] = ""
    if answer:
        if answer not in ("yes", "no"):
            raise InvalidInput(f"{answer!r} is no answer", "answer yes or no")
        given = "yes" if answer == "yes" else "no"
    kind = Kind.APPROVED if approve else Kind.ANSWERED if answer else Kind.SKIPPED if skip else Kind.DONE
    return Event(kind, step_id, by, session.now, skip or note, given)


def _step_id(stored: StoredRun, text: str) -> str:
    """The step that a user means by its number, id or name."""
    number = numbers(stored.run.workflow)
    named = {one.id for one in steps_of(stored.run.workflow.steps) if text in (str(number[one.id]), one.id, one.name)}
    if len(named) != 1:
        what = "no step" if not named else f"{len(named)} steps"
        raise InvalidInput(f"{text!r} means {what}", "see the numbers of `stillwatch playbook run --status`")
    return named.pop()


def _say_run(stored: StoredRun, session: Session) -> None:
    document = run_document(stored, session.now)
    say(f"run {stored.name}: {document['playbook']}, {document['state']}", "bold")
    if document["about"]:
        say(f"about {document['about']}")
    for one in document["settled"]:
        what = f"answered {one['answer']}" if one["answer"] else one["outcome"]
        say(f"  {one['number']}. {one['name']}: {what} by {one['by']} on {one['at']}{', late' if one['late'] else ''}")
    for reached in stored.run.state.reached:
        _say_reached(stored, reached, session)
    say(f"newest hash {stored.head}")


def _say_reached(stored: StoredRun, reached: Reached, session: Session) -> None:
    number = numbers(stored.run.workflow)[reached.step.id]
    overdue = reached.overdue(session.now)
    say(f"\n{number}. {reached.step.name}", "bold")
    say(f"   {due_in_words(reached.due, session.now)}", "bold red" if overdue else "")
    for line in terms_of(reached.step):
        say(f"   {line}")
    if reached.approved_by:
        say(f"   approved by {', '.join(reached.approved_by)}")


def _walk(stored: StoredRun, session: Session, by: str) -> None:
    """Ask for one step after the other; whatever happens, everything recorded is on disk."""
    if not sys.stdin.isatty():
        raise InvalidInput(
            f"run {stored.name} is begun, and nobody is there to be asked", "go on with `stillwatch playbook step`"
        )
    say(f"run {stored.name}: {stored.source.body.title}", "bold")
    while stored.run.state.reached:
        try:
            event = _ask(stored, session, by)
        except typer.Abort:
            event = None
        if event is None:
            say(f"\nstopped; go on with: stillwatch playbook run --resume {stored.name}")
            return
        by = event.by
        try:
            stored = run_file.append(session.home, stored.name, event)
        except InvalidInput as refused:
            say(f"not recorded: {refused}; {refused.hint}", "yellow")
    say(f"finished; see: stillwatch playbook report {stored.name}", "green")


def _ask(stored: StoredRun, session: Session, by: str) -> Event | None:
    """What a person says of a step that is to be done; None to stop."""
    reached = stored.run.state.reached
    for one in reached:
        _say_reached(stored, one, session)
    chosen = reached[0].step
    if len(reached) > 1:
        number = {str(numbers(stored.run.workflow)[one.step.id]): one.step for one in reached}
        chosen = number[_choice("Which of them", list(number))]
    question = isinstance(chosen, Question)
    choices = ["yes", "no"] if question else ["done", "skip"]
    choices += [*(["approve"] if chosen.approvals else []), "quit"]
    said = _choice("What", choices)
    if said == "quit":
        return None
    name = typer.prompt("Who", default=by or None)
    note = typer.prompt("Why" if said == "skip" else "Note", default=None if said == "skip" else "", show_default=False)
    return _event(
        chosen.id,
        name,
        session,
        "" if said == "skip" else note,
        approve=said == "approve",
        answer=said if question and said != "approve" else "",
        skip=note if said == "skip" else "",
    )


def _choice(question: str, choices: Sequence[str]) -> str:
    """One of the choices, asked for until it is one; a beginning that only one of them has is enough."""
    while True:
        said = str(typer.prompt(f"\n{question} ({', '.join(choices)})")).strip()
        fitting = [one for one in choices if said and one.startswith(said)]
        if said in choices or len(fitting) == 1:
            return said if said in choices else fitting[0]
        say("write one of them", "yellow")

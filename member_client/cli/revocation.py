"""`stillwatch revocation`: end the access of accounts by approved decisions through the lab's own hook, and undo it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say_line, warn
from member_client.errors import ClientError, InvalidInput
from member_client.home import write_privately
from member_client.revocation.authority import Decided, Target
from member_client.revocation.giving_back import ToGiveBack, plans_in_short, to_give_back
from member_client.revocation.hooks import Command, Hook, Webhook
from member_client.revocation.journal import Journal, Line, locked, read_journal
from member_client.revocation.planning import Plan, described, make_plan, read_plan
from member_client.revocation.reporting import report_document, report_markdown
from member_client.revocation.running import Clock, Limits, Tally, run_plan, to_undo, undo_plan
from member_client.session import Session

app = typer.Typer(help="End the access of accounts by approved decisions, and undo it.", no_args_is_help=True)

PlanArgument = Annotated[Path, typer.Argument(help="The plan's file.", dir_okay=False, show_default=False)]
HookOption = Annotated[
    str,
    typer.Option("--hook", help="Command for each account; gets JSON on standard input. No shell.", metavar="COMMAND"),
]
WebhookOption = Annotated[
    str, typer.Option("--webhook", help="URL that gets the same JSON, a POST for each account.", metavar="URL")
]
TokenOption = Annotated[
    Path | None,
    typer.Option(help="File (0600) with the bearer token for --webhook.", dir_okay=False, show_default=False),
]
RateOption = Annotated[float, typer.Option(min=0.01, max=1000, help="Calls a second, at most.")]
AttemptsOption = Annotated[int, typer.Option(min=1, max=10, help="Calls for one account, at most.")]
FailuresOption = Annotated[int, typer.Option(min=1, help="Stop when so many accounts have failed.")]
TimeoutOption = Annotated[float, typer.Option(min=0.1, max=600, help="Seconds to wait for one call.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_SHOWN = 20


class Incomplete(ClientError):
    """Not every account could be done; the plan can be run again."""

    exit_code = 4
    code = "revocation_incomplete"


@app.command()
def plan(
    decisions: Annotated[
        list[str] | None,
        typer.Argument(help="Decisions' ids, or their beginnings.", metavar="[DECISION]...", show_default=False),
    ] = None,
    all_approved: Annotated[
        bool, typer.Option("--all-approved", help="Every approved decision in force that blocks.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan to this new file (0600).", metavar="PLAN")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List whose access would end, and who is left out and why. Nothing is done: look at it, then run it."""
    if bool(decisions) == all_approved:
        raise InvalidInput("which decisions?", "name some, or pass --all-approved")
    session = open_session(home)
    with _decided(session) as decided:
        found = decided.all_approved() if all_approved else decided.find(decisions or [])
        planned = make_plan(decided, found)
    made = planned.plan
    if out is not None and made.targets:
        if out.exists():
            raise InvalidInput(f"{out} exists", "choose another name with --output")
        write_privately(out, made.encode())
    written = str(out) if out is not None and made.targets else None
    if as_json:
        left_out = [
            {"kind": one.kind, "id": one.id, "decision": one.decision, "why": why} for one, why in planned.left_out
        ]
        targets = [one.model_dump() for one in made.targets]
        output.print_json({**described(made), "targets": targets, "left_out": left_out, "file": written})
        return
    for one in made.decisions:
        say_line(f"{one.id}: {one.subject}, by {one.pattern}; approved by {', '.join(one.approved_by) or 'nobody'}")
    say_line(f"Access would end for {len(made.targets):,}:", "bold")
    _say_some([f"{one.kind} {one.id}" for one in made.targets])
    if planned.left_out:
        say_line(f"Left out, {len(planned.left_out):,}:", "bold")
        _say_some([f"{one.kind} {one.id}: {why}" for one, why in planned.left_out])
    if written:
        say_line(
            f"Plan written to {written}; nothing was done. Next: stillwatch revocation run {written} --hook COMMAND",
            "green",
        )
    elif made.targets:
        say_line("Nothing was written; --output PLAN makes it a plan that can be run.")
    else:
        say_line("There is nothing to do, so no plan was written.", "yellow")


@app.command()
def run(
    file: PlanArgument,
    hook: HookOption = "",
    webhook: WebhookOption = "",
    token_file: TokenOption = None,
    rate: RateOption = 5.0,
    attempts: AttemptsOption = 3,
    timeout: TimeoutOption = 30.0,
    max_failures: FailuresOption = 5,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go through a plan. Each account is asked about anew: what is no longer in effect, or allow-listed, is held back.

    It can be stopped and run again: what is noted as done is not done again, what was begun is tried again under the
    same idempotency key. Exits 4 if some accounts failed.
    """
    session, found = open_session(home), read_plan(file)
    limits = Limits(rate, attempts, max_failures)
    with _hook(hook, webhook, token_file, timeout) as called, locked(session.home), Journal(session.home) as journal:
        _confirm(f"End the access of up to {len(found.targets):,} accounts or organisations?", yes, as_json)
        with _decided(session) as decided, _progress(not as_json, "Ending access") as progress:
            decided.remember_enforced()
            tally = run_plan(found, decided, called, journal, limits, Clock(now=session.clock), progress)
    _report(found, tally, as_json, "revoked")


@app.command()
def undo(
    file: PlanArgument,
    hook: HookOption = "",
    webhook: WebhookOption = "",
    token_file: TokenOption = None,
    account: Annotated[
        list[str] | None,
        typer.Option(help="Only this account or organisation; may be repeated.", metavar="ID", show_default=False),
    ] = None,
    rate: RateOption = 5.0,
    attempts: AttemptsOption = 3,
    timeout: TimeoutOption = 30.0,
    max_failures: FailuresOption = 5,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give access back to everybody from whom this plan took it, or may have; the last first. Can be run again.

    Whose access another plan's decision ended too is held back until that plan is undone as well.
    """
    session, found = open_session(home), read_plan(file)
    limits = Limits(rate, attempts, max_failures)
    with _hook(hook, webhook, token_file, timeout) as called, locked(session.home), Journal(session.home) as journal:
        meant = account or []
        wanted = to_undo(found, journal, meant)
        if strangers := sorted({*meant} - {one.id for one in found.targets}):
            raise InvalidInput(f"the plan is not about {', '.join(strangers)}", "see `stillwatch revocation report`")
        _confirm(f"Give {len(wanted):,} accounts or organisations their access back?", yes, as_json)
        with _progress(not as_json, "Giving access back") as progress:
            tally = undo_plan(found, called, journal, limits, Clock(now=session.clock), progress, meant)
    _report(found, tally, as_json, "given back")


@app.command()
def report(file: PlanArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say what became of a plan, account by account, as Markdown.

    Whose decision no longer blocks takes the policy; while that cannot be read, this part is left out, and says so.
    """
    session, found = open_session(home), read_plan(file)
    lines = read_journal(session.home)
    owed = _to_give_back(session, lines)
    if as_json:
        output.print_json(report_document(found, lines, owed))
    else:
        typer.echo(report_markdown(found, lines, owed), nl=False)


@app.command("list")
def list_plans(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the plans that were run, and how many accounts are shut out although their decision no longer blocks."""
    session = open_session(home)
    lines = read_journal(session.home)
    owed = _to_give_back(session, lines)
    plans = plans_in_short(lines, owed)
    if as_json:
        output.print_json([asdict(one) for one in plans])
        return
    output.table(
        ("plan", "begun", "access ended", "to give back"),
        [
            (one.id, one.begun, f"{one.ended:,}", "not known" if one.to_give_back is None else f"{one.to_give_back:,}")
            for one in plans
        ],
    )
    if any(one.to_give_back for one in plans):
        warn(
            "Access ended, but the decision no longer blocks: `stillwatch revocation report PLAN` names them, "
            "`stillwatch revocation undo PLAN --account ID` gives it back (a plan's file begins with its id)"
        )


def _to_give_back(session: Session, lines: list[Line]) -> list[ToGiveBack] | None:
    """Who is shut out without reason; None, with a warning, while the policy that says so cannot be read."""
    try:
        with _decided(session) as decided:
            return to_give_back(lines, decided.at_one_moment())
    except InvalidInput as error:
        warn(f"left out is to whom access is to be given back, which takes the policy: {error}")
        return None


@contextmanager
def _decided(session: Session) -> Iterator[Decided]:
    decided = Decided(session)
    try:
        yield decided
    finally:
        decided.close()


@contextmanager
def _hook(command: str, webhook: str, token_file: Path | None, timeout: float) -> Iterator[Hook]:
    if bool(command) == bool(webhook):
        raise InvalidInput("how shall your systems be told?", "pass --hook COMMAND or --webhook URL, one of the two")
    if token_file is not None and not webhook:
        raise InvalidInput("--token-file goes with --webhook only")
    if command:
        yield Command(command, timeout)
        return
    with ExitStack() as stack:
        made = Webhook(webhook, timeout, token_file)
        stack.callback(made.close)
        yield made


@contextmanager
def _progress(shown: bool, label: str) -> Iterator[Any]:
    if not shown or not output.errors.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _confirm(question: str, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InvalidInput("nothing was done: nobody confirmed it", "look at the plan, then pass --yes")
    if not typer.confirm(question):
        raise InvalidInput("nothing was done")


def _report(found: Plan, tally: Tally, as_json: bool, verb: str) -> None:
    if as_json:
        output.print_json(
            {
                "plan": found.id,
                "done": tally.done,
                "done_before": tally.before,
                "held_back": _listed(tally.held_back),
                "failed": _listed(tally.failed),
                "stopped": tally.stopped,
            }
        )
        if tally.failed:
            raise typer.Exit(Incomplete.exit_code)
        return
    before = f", {tally.before:,} were {verb} before" if tally.before else ""
    say_line(f"{tally.done:,} {verb}{before}", "green")
    if tally.held_back:
        say_line(f"Held back, {len(tally.held_back):,}:", "bold")
        _say_some([f"{one.kind} {one.id}: {why}" for one, why in tally.held_back])
    if tally.failed:
        warn(f"Failed, {len(tally.failed):,}:", "bold red")
        _say_some([f"{one.kind} {one.id}: {why}" for one, why in tally.failed])
        stopped = "; it stopped there" if tally.stopped else ""
        raise Incomplete(f"{len(tally.failed):,} failed{stopped}", "mend the hook, then run it again")


def _listed(found: list[tuple[Target, str]]) -> list[dict[str, str]]:
    return [{"kind": one.kind, "id": one.id, "decision": one.decision, "why": why} for one, why in found]


def _say_some(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        say_line(f"  {line}")
    if len(lines) > _SHOWN:
        say_line(f"  and {len(lines) - _SHOWN:,} more; all of them with --json")

"""`stillwatch decide`: turn what `detect` found into decisions, by this lab's own policy."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say_line, warn
from member_client.decisions import allow_register
from member_client.decisions.allow_list import MAX_ID
from member_client.decisions.deciding import Decided, note_expiries
from member_client.decisions.deciding import decide as make_decisions
from member_client.decisions.in_effect import remember_enforced
from member_client.decisions.lab_policy import LabPolicy, climb, lab_policy
from member_client.decisions.matches import Counted, gather
from member_client.decisions.register import Register
from member_client.detection import runs
from member_client.detection.findings import Tally
from member_client.errors import InvalidInput
from member_client.session import Session

_CLOCKS_DIFFER = 60.0
"""Seconds by which a run may seem to begin after now."""


def decide(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs of `detect`, or detections files; by default every run since the last that was decided, "
            "at first the newest.",
            metavar="[RUN|FILE]...",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be decided, and write nothing.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn the matches of `detect` into decisions: one a pattern version and subject, explained line by line.

    The same matches decided again add nothing; new ones extend a decision's evidence and expiry. What is in effect
    depends on the pattern's stage, the allow-list, approvals and the stop switch at every moment: `decisions show`.
    """
    session = open_session(home)
    now = session.now
    register = Register.of(session.home)
    chosen = _chosen(session, register, sources or [])
    if not dry_run:
        note_expiries(register, now)
        climb(session, now)
    policy = lab_policy(session, now)
    decided, counted = Decided(), Counted()
    allowed = allow_register.load(register, now)
    scratch = runs.folder(session.home) / "spilled"
    with _progress(sum(one.size for one in chosen), as_json) as report:
        for one in chosen:
            gathered = gather(one.path, policy.rules.organisations, counted, scratch)
            decided.add(
                make_decisions(
                    register,
                    gathered,
                    policy.rules,
                    allowed,
                    now,
                    getpass.getuser(),
                    one.name,
                    keep=not dry_run,
                    progress=lambda: report(counted.matches),
                )
            )
            if one.is_run and not dry_run:
                register.note_decided(one.name, now)
    if not dry_run:
        remember_enforced(register, policy, now)
    _report(chosen, decided, counted, policy, dry_run=dry_run, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Source:
    """A run, or a file of matches; `size` is how many, 0 if that is not known."""

    name: str
    path: Path
    is_run: bool = False
    tallies: Sequence[Tally] = ()
    size: int = 0


def _chosen(session: Session, register: Register, named: Sequence[str]) -> list[_Source]:
    if named:
        return [_Source(name, Path(name)) if Path(name).is_file() else _run(session, name) for name in named]
    known = sorted(path.stem for path in runs.folder(session.home).glob("*.json"))
    done = {name for name in known if register.is_decided(name)}
    # A run that began by a clock which ran ahead says nothing of those that really came later.
    by_now = runs.new_name(session.now.timestamp() + _CLOCKS_DIFFER)
    last = max((place for place, name in enumerate(known) if name in done and name <= by_now), default=None)
    waiting = [name for name in known[0 if last is None else last + 1 :] if name not in done]
    if not known:
        raise InvalidInput("no run is remembered here", "run `stillwatch detect` first")
    return [_run(session, name) for name in (waiting[-1:] if last is None else waiting)]


def _run(session: Session, name: str) -> _Source:
    summary = runs.load(session.home, name)
    matches = sum(tally.matches for tally in summary.tallies)
    return _Source(summary.run, Path(summary.detections), True, summary.tallies, matches)


@contextmanager
def _progress(size: int, as_json: bool) -> Iterator[Callable[[int], None]]:
    if as_json or not output.errors.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("deciding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as bar:
        task = bar.add_task("deciding", total=size or None)
        yield lambda done: bar.update(task, completed=done)


def _report(
    chosen: Sequence[_Source],
    decided: Decided,
    counted: Counted,
    policy: LabPolicy,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        output.print_json(_document(chosen, decided, counted, dry_run))
        return
    if not chosen:
        say_line("every run was decided before; name one to decide it again")
        return
    would = "would be " if dry_run else ""
    say_line(f"{counted.matches:,} matches in {', '.join(one.name for one in chosen)}")
    say_line(
        f"{decided.new:,} decisions {would}new, {decided.extended:,} {would}extended, {decided.unchanged:,} unchanged, "
        f"{decided.left_alone:,} left alone (lifted before)"
    )
    if decided.actions:
        rising = sorted(decided.actions.items(), key=lambda item: item[0].rank)
        say_line("decided: " + ", ".join(f"{count:,} {action}" for action, count in rising))
    if decided.allow_listed:
        say_line(f"{decided.allow_listed:,} of these are on the allow-list, and only observed")
    if decided.unapproved:
        say_line(f"{decided.unapproved:,} need approval: `stillwatch decisions list --state proposed`")
    for tally in {tally.entry: tally for one in chosen for tally in one.tallies if tally.matches}.values():
        standing = policy.standings.get(tally.entry)
        stage = standing.stage if standing is not None else "not the newest version known here, so without effect"
        say_line(f"{tally.title}: {stage}")
    if counted.nobodys:
        warn(
            f"{counted.nobodys:,} matches name no account, organisation or cluster, or by an id that is empty or has "
            f"more than {MAX_ID} characters: nobody can be decided on"
        )


def _document(chosen: Sequence[_Source], decided: Decided, counted: Counted, dry_run: bool) -> dict[str, Any]:
    return {
        "runs": [one.name for one in chosen],
        "dry_run": dry_run,
        "matches": counted.matches,
        "without_subject": counted.nobodys,
        "new": decided.new,
        "extended": decided.extended,
        "unchanged": decided.unchanged,
        "left_alone": decided.left_alone,
        "allow_listed": decided.allow_listed,
        "unapproved": decided.unapproved,
        "actions": {action.value: count for action, count in decided.actions.items()},
    }

"""`stillwatch decisions`: see what was decided and what is in effect; approve, lift and review it."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.confirming import confirm
from member_client.cli.output import HomeOption, JsonOption, open_session, say_line
from member_client.decisions import allow_register
from member_client.decisions.in_effect import remember_enforced
from member_client.decisions.lab_policy import lab_policy, rules_at_hand
from member_client.decisions.model import PREFIX, Action, Decision, State
from member_client.decisions.presenting import decision_document, documents, event_document, write_csv, write_json
from member_client.decisions.register import Register, Wanted, check_text
from member_client.decisions.rules import Rules
from member_client.detection.findings import written_whole
from member_client.errors import InvalidInput
from member_client.session import Session

app = typer.Typer(help="See, approve, lift and review what `decide` made of matches.", no_args_is_help=True)

IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Decisions' ids, or the beginnings of them.", metavar="[ID]...", show_default=False),
]
StateOption = Annotated[str, typer.Option("--state", help=f"Only these: {', '.join(State)}.", metavar="STATE")]
ActionOption = Annotated[str, typer.Option("--action", help=f"Only these: {', '.join(Action)}.", metavar="ACTION")]
PatternOption = Annotated[str, typer.Option("--pattern", help="Only by this pattern.", metavar="ID")]
SubjectOption = Annotated[
    str, typer.Option("--subject", help="Only about this account, organisation or cluster.", metavar="ID")
]
ByPatternOption = Annotated[
    str, typer.Option("--pattern", help="Instead of ids: all by this pattern, proposed or in force.", metavar="ID")
]
LimitOption = Annotated[int, typer.Option(min=0, help="With --pattern, at most so many, the newest; 0 for all.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="With --pattern, do not ask.")]
NameOption = Annotated[
    str, typer.Option("--by", "--as", help="Who you are; by default the user of this machine.", metavar="NAME")
]


class Verdict(StrEnum):
    """What a person finds of a decision."""

    RIGHT = "right"
    WRONG = "wrong"


class Format(StrEnum):
    """How decisions are exported."""

    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a command is about: ids that were given, or what was shown and confirmed."""

    ids: Sequence[str]
    shown: Sequence[Decision]

    def numbers(self, register: Register, rules: Rules, now: datetime) -> list[int]:
        """Their numbers; inside the transaction that acts on them.

        Raises:
            InvalidInput: an id means none; or what was shown is no longer so.
        """
        numbers = [register.resolve(one) for one in (*self.ids, *(one.id for one in self.shown))]
        for number, one in zip(numbers, self.shown, strict=False):
            if register.get(number, rules, now) != one:
                raise InvalidInput(f"nothing was done: {one.id} changed after it was shown", "look again")
        return list(dict.fromkeys(numbers))


@app.command("list")
def list_decisions(
    state: StateOption = "",
    action: ActionOption = "",
    pattern: PatternOption = "",
    subject: SubjectOption = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the newest first; 0 for all.")] = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List decisions, the newest first, each with what of it is in effect now."""
    session = open_session(home)
    found = list(_found(session, Wanted(state, action, pattern, subject, limit)))
    if as_json:
        output.print_json(found)
        return
    _table(found)
    if limit and len(found) == limit:
        say_line(f"the newest {limit}; more with --limit")


@app.command()
def show(
    decision: Annotated[str, typer.Argument(help="The decision's id, or the beginning of it.", show_default=False)],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a decision: pattern and author, evidence, every policy line, who approved, what is in effect and why."""
    session = open_session(home)
    register, now, policy = Register.of(session.home), session.now, lab_policy(session, session.now)
    number = register.resolve(decision)
    allowed = allow_register.load(register, now)
    (document,) = documents(register, [register.get(number, policy.rules, now)], policy, allowed, now)
    standing = policy.standings.get(document["pattern_entry"])
    document |= {
        "author": _author(session, document["pattern"]),
        "stage": standing.stage.value if standing else None,
        "roll_out": standing.share if standing else 0,
        "review": register.verdict(number) or None,
        "history": [event_document(event) for event in register.history(number)],
        "stage_reasons": [
            {"line": one.line, "setting": one.setting, "holds": one.holds, "text": one.text}
            for one in (standing.reasons if standing else ())
        ],
    }
    if as_json:
        output.print_json(document)
    else:
        _say(document)


@app.command()
def approve(
    decisions: IdsArgument = None,
    name: NameOption = "",
    note: Annotated[str, typer.Option(help="Kept with the approval.")] = "",
    account: Annotated[
        list[str] | None,
        typer.Option(
            help="Act on this account too, which an appeal left out; may be repeated.", metavar="ID", show_default=False
        ),
    ] = None,
    pattern: ByPatternOption = "",
    subject: SubjectOption = "",
    limit: LimitOption = 0,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve decisions. Each name counts once; the home's owner answers for who acts under which name.

    An approval of a cluster's decision holds for the accounts that it has now. Those that join later wait until it is
    approved again.
    """
    session = open_session(home)
    register, now, policy = Register.of(session.home), session.now, lab_policy(session, session.now)
    if account and pattern:
        raise InvalidInput("--account goes with a decision's id, not with --pattern")
    who = name or getpass.getuser()
    wanted = Wanted(pattern=pattern, subject=subject, limit=limit)
    chosen = _choose(session, register, decisions or (), wanted, "approve", yes, as_json)
    with register.transaction():
        numbers = chosen.numbers(register, policy.rules, now)
        new = {number: register.approve(number, who, note, policy.rules, now, account or ()) for number in numbers}
    remember_enforced(register, policy, now)
    found = _shown(session, register, numbers)
    for one, is_new in zip(found, new.values(), strict=True):
        one["newly_approved"] = is_new
    if as_json:
        output.print_json(found)
        return
    if not name:
        say_line(f"approved as {who}, the system's user; --as gives another name")
    for one in found:
        missing = max(0, one["needs_approvals"] - len(one["approved_by"]))
        again = "" if one["newly_approved"] else f" (by {who} before)"
        wait = f"; {missing} more needed" if missing else f"; in effect: {one['in_effect']}"
        if one["waiting"] and not missing:
            wait += f", but {len(one['waiting']):,} of {len(one['accounts']):,} accounts still wait for approval"
        say_line(f"{_short(one['id'])} approved{again}{wait}")
        if missing or one["in_effect"] == one["action"]:
            continue
        standing = policy.standings.get(one["pattern_entry"])
        for why in (*one["held_by"], *(standing.held_by if standing else ())):
            say_line(f"  {why}")


@app.command()
def lift(
    reason: Annotated[str, typer.Option(help="Why.", show_default=False)],
    decisions: IdsArgument = None,
    pattern: ByPatternOption = "",
    subject: SubjectOption = "",
    limit: LimitOption = 0,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End decisions for good. Only matches that begin after this can lead to another decision on the same subject."""
    session = open_session(home)
    register, now, rules = Register.of(session.home), session.now, rules_at_hand(session)
    why = check_text(reason, "a reason")
    wanted = Wanted(pattern=pattern, subject=subject, limit=limit)
    chosen = _choose(session, register, decisions or (), wanted, "lift", yes, as_json)
    with register.transaction():
        numbers = chosen.numbers(register, rules, now)
        new = [register.lift(number, getpass.getuser(), why, rules, now) for number in numbers]
    try:
        found = _shown(session, register, numbers)
    except InvalidInput as error:  # what was lifted is lifted, whatever is wrong with the policy
        output.warn(f"they are lifted; left out is what the policy says of them now: {error}")
        found = [decision_document(register.get(number, rules, now), Action.OBSERVE, ()) for number in numbers]
    if as_json:
        output.print_json(found)
        return
    for one, is_new in zip(found, new, strict=True):
        say_line(
            f"{_short(one['id'])} {'lifted' if is_new else 'was lifted before'}: {one['subject_kind']} {one['subject']}"
        )


@app.command()
def review(
    verdict: Annotated[Verdict, typer.Option(help="Whether the match was what the pattern says.")],
    decisions: IdsArgument = None,
    note: Annotated[str, typer.Option(help="Kept with the verdict.")] = "",
    pattern: ByPatternOption = "",
    subject: SubjectOption = "",
    limit: LimitOption = 0,
    yes: YesOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether decisions were right. Wrong ones count against the pattern's false-positive budget, for good."""
    session = open_session(home)
    register, now, rules = Register.of(session.home), session.now, lab_policy(session, session.now).rules
    wanted = Wanted(pattern=pattern, subject=subject, limit=limit)
    chosen = _choose(session, register, decisions or (), wanted, f"review as {verdict}", yes, as_json)
    with register.transaction():
        numbers = chosen.numbers(register, rules, now)
        for number in numbers:
            register.review(number, verdict.value, getpass.getuser(), note, now)
    found = _shown(session, register, numbers)
    if as_json:
        output.print_json(found)
        return
    for one in found:
        say_line(f"{_short(one['id'])} reviewed as {verdict}")
        if verdict is Verdict.WRONG and one["state"] in (State.PROPOSED, State.IN_FORCE):
            say_line(
                f"  it is still {one['state']}: end it with `stillwatch decisions lift {_short(one['id'])} --reason …`"
            )


@app.command()
def export(
    state: StateOption = "",
    action: ActionOption = "",
    pattern: PatternOption = "",
    subject: SubjectOption = "",
    format: Annotated[
        Format, typer.Option("--format", help="CSV is for spreadsheets and has no evidence.")
    ] = Format.JSON,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Into this file, for its owner alone.", metavar="FILE")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write out all decisions, each with what of it is in effect now: JSON, or CSV."""
    session = open_session(home)
    found = _found(session, Wanted(state, action, pattern, subject))
    write = write_json if format is Format.JSON else write_csv
    if out is None:
        write(sys.stdout, found)
        return
    with written_whole(out) as file:
        count = write(file, found)
    output.warn(f"{count:,} decisions written to {out}", "")


def _found(session: Session, wanted: Wanted) -> Any:
    register, now, policy = Register.of(session.home), session.now, lab_policy(session, session.now)
    allowed = allow_register.load(register, now)
    return documents(register, register.find(wanted, policy.rules, now), policy, allowed, now)


def _choose(
    session: Session, register: Register, ids: Sequence[str], wanted: Wanted, what: str, yes: bool, as_json: bool
) -> _Chosen:
    """The ids that were given, or all open decisions by a pattern, once somebody has seen and confirmed them."""
    if bool(ids) == bool(wanted.pattern):
        raise InvalidInput("which decisions?", "give their ids, or --pattern ID, one of the two")
    if ids:
        if wanted.subject or wanted.limit:
            raise InvalidInput("--subject and --limit go with --pattern only")
        return _Chosen(ids, ())
    now, rules = session.now, lab_policy(session, session.now).rules
    each = register.find(replace(wanted, limit=0), rules, now)
    found = list(islice((one for one in each if one.state.is_open), wanted.limit or None))
    patterns = sorted({one.pattern_id for one in found})
    if not found:
        raise InvalidInput("no such decision is proposed or in force", "see `stillwatch decisions list --pattern`")
    if len(patterns) > 1:
        raise InvalidInput(f"{wanted.pattern} begins the ids of {len(patterns)} patterns", "give more of it")
    if not as_json:
        _table(_shown(session, register, [register.resolve(one.id) for one in found]))
    question = f"{what[:1].upper()}{what[1:]}: all {len(found):,} of these?"
    confirm(question, "nothing was done", "look at the decisions", yes=yes, as_json=as_json)
    return _Chosen((), found)


def _shown(session: Session, register: Register, numbers: Sequence[int]) -> list[dict[str, Any]]:
    now, policy = session.now, lab_policy(session, session.now)
    found = [register.get(number, policy.rules, now) for number in numbers]
    return list(documents(register, found, policy, allow_register.load(register, now), now))


def _author(session: Session, pattern: str) -> str:
    head = session.store.head(pattern)
    if head is None:
        return "not known here"
    return session.membership.name_of(head.author)


def _table(found: Sequence[dict[str, Any]]) -> None:
    output.table(
        ["decision", "state", "decided", "in effect", "subject", "matches", "until", "approvals", "pattern"],
        [
            (
                _short(one["id"]),
                one["state"],
                one["action"],
                one["in_effect"],
                _subject(one),
                f"{one['matches']:,}",
                one["expires"][:10],
                _approvals(one),
                f"{one['pattern_title']} (version {one['pattern_version']})",
            )
            for one in found
        ],
    )


def _subject(one: dict[str, Any]) -> str:
    accounts = f" ({len(one['accounts']):,} accounts)" if one["accounts"] else ""
    return f"{one['subject_kind']} {one['subject']}{accounts}"


def _approvals(one: dict[str, Any]) -> str:
    if not one["needs_approvals"]:
        return "-"
    count = len(one["approved_by"])
    later = f", {len(one['waiting']):,} accounts wait" if one["waiting"] and count >= one["needs_approvals"] else ""
    return f"{count} of {one['needs_approvals']}{later}"


def _short(decision: str) -> str:
    return decision.removeprefix(PREFIX)[:8]


def _say(one: dict[str, Any]) -> None:
    say_line(f"{one['id']}", "bold")
    until = (
        f"until {one['expires']}" if one["state"] in (State.PROPOSED, State.IN_FORCE) else f"was until {one['expires']}"
    )
    say_line(f"{one['state']}: {one['action']} {one['subject_kind']} {one['subject']}, {until}")
    say_line(f"in effect now: {one['in_effect']}", "green" if one["in_effect"] == one["action"] else "yellow")
    for why in one["held_by"]:
        say_line(f"  {why}")
    if one["models"]:
        say_line(f"only requests to {', '.join(one['models'])}")
    if one["accounts"]:
        say_line(
            f"{len(one['accounts']):,} accounts: {', '.join(one['accounts'][:20])}{' …' * (len(one['accounts']) > 20)}"
        )
        if one["spared"]:
            say_line(f"left out after appeals: {', '.join(one['spared'])}")
    say_line(f"pattern: {one['pattern_title']}, version {one['pattern_version']} of {one['pattern']}")
    say_line(f"  by {one['author']}; entry {one['pattern_entry']}; severity {one['severity']}")
    say_line(f"evidence: {one['matches']:,} matches, {one['first'] or 'undated'} to {one['last'] or 'undated'}")
    for name, value in one["numbers"].items():
        say_line(f"  {name} up to {value:,}")
    say_line(f"  {'first ' * (one['matches'] > len(one['detections']))}detections: {', '.join(one['detections'])}")
    say_line("policy when it was decided:")
    for reason in one["policy_reasons"]:
        say_line(f"  {reason}")
    say_line(
        f"stage of the pattern now: {one['stage'] or 'none'}"
        + (f", roll-out {one['roll_out']} %" if one["roll_out"] else "")
    )
    for reason in one["stage_reasons"]:
        place = f"policy.toml line {reason['line']}" if reason["line"] else "built in"
        say_line(f"  {'ok  ' if reason['holds'] else 'HELD'} {place} ({reason['setting']}): {reason['text']}")
    _say_approvals(one)
    for label in ("follows", "superseded_by", "review"):
        if one[label]:
            say_line(f"{label.replace('_', ' ')}: {one[label]}")
    say_line("history:")
    for event in one["history"]:
        by = f" by {event['who']}" if event["who"] else ""
        say_line(f"  {event['at']} {event['what']}{by}{': ' * bool(event['why'])}{event['why']}")


def _say_approvals(one: dict[str, Any]) -> None:
    needs = one["needs_approvals"]
    say_line(f"approvals: {len(one['approved_by'])} of {needs} needed" if needs else "approvals: none needed")
    for name in one["approved_by"]:
        say_line(f"  {name}")
    if one["waiting"]:
        some = ", ".join(one["waiting"][:20]) + " …" * (len(one["waiting"]) > 20)
        say_line(f"waiting for approval, {len(one['waiting']):,} of its accounts: {some}", "yellow")

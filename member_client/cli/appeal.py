"""`stillwatch appeal`: take down what affected customers say, rule on it, and tell other labs if the pattern errs."""

from __future__ import annotations

import getpass
import json
import sys
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.confirming import confirm
from member_client.cli.opinion import warn_of_endorsement
from member_client.cli.output import HomeOption, JsonOption, open_session, say, say_line
from member_client.cli.publication import (
    LegalBasisOption,
    MarkingOption,
    NoSyncOption,
    PurposeOption,
    ValidUntilOption,
    bring_up_to_date,
    handling_options,
)
from member_client.decisions import allow_register, appeals
from member_client.decisions.allow_list import AllowKind
from member_client.decisions.appeals import Ruling
from member_client.decisions.lab_policy import lab_policy
from member_client.decisions.opinions import Prepared, prepare, publish
from member_client.decisions.presenting import appeal_document
from member_client.decisions.register import Register
from member_client.errors import InvalidInput
from member_client.revocation.journal import read_journal
from member_client.revocation.running import TO_UNDO
from member_client.session import Session

app = typer.Typer(help="Take down affected customers' appeals, and rule on them.", no_args_is_help=True)
_MOST_READ = 65_536
"""Characters of a contact note; far more than one may have, so that a longer one is refused and not cut."""


@app.command("open")
def open_appeal(
    contact_note: Annotated[
        str,
        typer.Option(
            help="How to reach the customer; it stays in this home. With - it is read from standard input: arguments "
            "are seen by others on this machine, and kept by shells.",
            show_default=False,
        ),
    ],
    decision: Annotated[
        str, typer.Argument(help="The decision's id, or the beginning of it.", metavar="[DECISION]")
    ] = "",
    account: Annotated[
        str, typer.Option(help="All decisions on this account; with DECISION its part in a cluster's.", metavar="ID")
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take down an appeal. What it is about stays in effect until somebody rules on it."""
    if not decision and not account:
        raise InvalidInput("say what the appeal is about: a decision, or --account")
    note = sys.stdin.read(_MOST_READ) if contact_note == "-" else contact_note
    session = open_session(home)
    rules = lab_policy(session, session.now).rules
    register = Register.of(session.home)
    made = appeals.open_appeal(register, decision, account, note, getpass.getuser(), rules, session.now)
    if as_json:
        output.print_json(appeal_document(made))
        return
    say_line(f"appeal {made.number} opened; rule on it with `stillwatch appeal decide {made.number}`", "green")
    for one in appeals.on_organisations(register, made.account, rules, session.now):
        say_line(
            f"{one.id} is about its organisation {one.subject.id}, and no part of this appeal: "
            f"stillwatch appeal open {one.id} …",
            "yellow",
        )


@app.command("list")
def list_appeals(
    everything: Annotated[bool, typer.Option("--all", help="Those that were ruled on too.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the open appeals, oldest first."""
    session = open_session(home)
    found = list(appeals.appeals(Register.of(session.home), open_only=not everything))
    if as_json:
        output.print_json([appeal_document(one) for one in found])
        return
    output.table(
        ["appeal", "outcome", "opened", "about", "contact", "reason"],
        [
            (
                one.number,
                one.outcome,
                f"{one.opened:%Y-%m-%d}",
                " ".join(filter(None, (one.decision, one.account and f"account {one.account}"))),
                one.contact_note,
                one.reason,
            )
            for one in found
        ],
    )


@app.command()
def decide(
    number: Annotated[int, typer.Argument(help="The appeal's number.", show_default=False)],
    upheld: Annotated[
        bool | None,
        typer.Option("--upheld/--rejected", help="Whether the customer is right.", show_default=False),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it stays in this home.", show_default=False)] = "",
    allow_until: Annotated[
        str, typer.Option(help="If upheld, put the customer on the allow-list until this day.", metavar="DAY")
    ] = "",
    owner: Annotated[str, typer.Option(help="Who answers for that entry; by default you.")] = "",
    publish_it: Annotated[
        bool, typer.Option("--publish", help="If upheld, tell all labs, signed, that the pattern errs.")
    ] = False,
    comment: Annotated[str, typer.Option(help="Published with it; nothing of the customer belongs here.")] = "",
    marking: MarkingOption = "",
    purpose: PurposeOption = "",
    legal_basis: LegalBasisOption = "",
    valid_until: ValidUntilOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before publishing.")] = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rule on an appeal.

    Upheld, it lifts the decision (of a cluster's with --account only this account is left out), counts as a false
    positive, and prepares an opinion on the pattern, with counts only, which --publish sends after showing it.
    """
    if upheld is None:
        raise InvalidInput("say how the appeal ends", "--upheld or --rejected")
    if not upheld and (publish_it or allow_until):
        raise InvalidInput("--publish and --allow-until go with --upheld")
    session = open_session(home)
    now, rules, who = session.now, lab_policy(session, session.now).rules, getpass.getuser()
    register = Register.of(session.home)
    if allow_until:  # what is wrong with the day is said before anything is written
        allow_register.checked(AllowKind.ACCOUNT, "x", owner or who, "x", allow_until, now)
    ruling = appeals.rule_on(register, number, who, reason, rules, now, upheld=upheld)
    if allow_until:
        wishes = [
            allow_register.checked(kind, value, owner or who, f"appeal {number} was upheld", allow_until, now)
            for kind, value in ruling.subjects
        ]
        allow_register.add(register, wishes, who, now)
    ended = _ended(session, ruling)
    if not as_json:
        _say(ruling, bool(allow_until))
        for name in ended:
            say(f"access was ended, and still is: stillwatch revocation undo PLAN --account {name} …", "bold yellow")
    bring_up_to_date(session, no_sync or not publish_it, as_json)
    handling = handling_options(marking, purpose, legal_basis, valid_until)
    prepared = prepare(session, register, ruling.entries, comment, handling) if upheld else []
    for one in prepared:
        if one.stored is not None:
            warn_of_endorsement(session, one.stored)
    if not as_json:
        _show(prepared, number, publish_it)
    published = _publish(session, prepared, yes, as_json) if publish_it else []
    if as_json:
        output.print_json(
            {
                "appeal": appeal_document(ruling.appeal),
                "lifted": list(ruling.lifted),
                "spared": list(ruling.spared),
                "allow": [{"kind": kind.value, "id": value, "until": allow_until} for kind, value in ruling.subjects],
                "access_ended": ended,
                "opinions": [one.body for one in prepared if one.body],
                "published": published,
            }
        )


def _ended(session: Session, ruling: Ruling) -> list[str]:
    """Whose access a revocation has ended by a decision that this ruling takes back; lifting it gives none back."""
    last = {line.target: line.what for line in read_journal(session.home)}
    wrong, names = {*ruling.lifted, *ruling.spared}, {value for _, value in ruling.subjects}
    return sorted(
        target.id
        for target, what in last.items()
        if what in TO_UNDO and target.decision in wrong and target.id in names
    )


def _say(ruling: Ruling, allowed: bool) -> None:
    say_line(f"appeal {ruling.appeal.number} {ruling.appeal.outcome}", "green")
    for decision in ruling.lifted:
        say_line(f"lifted: {decision}")
    for decision in ruling.spared:
        say_line(f"left out of {decision}: account {ruling.appeal.account}")
    for kind, value in ruling.subjects:
        if allowed:
            say_line(f"on the allow-list: {kind} {value}")
        else:
            say_line(f"to leave it in peace: stillwatch allow add --{kind} {value} --owner … --reason … --expires …")


def _show(prepared: list[Prepared], number: int, publish_it: bool) -> None:
    for one in prepared:
        if one.why_not:
            say_line(f"no opinion on {one.pattern} version {one.version}: {one.why_not}", "yellow")
            continue
        say_line(f"{'would be published' if publish_it else 'ready to be published'}, signed, to all members:", "bold")
        say(json.dumps(one.body, ensure_ascii=False, indent=2))
        if not publish_it:
            say_line(f"publish it: stillwatch appeal decide {number} --upheld --reason … --publish")


def _publish(session: Session, prepared: list[Prepared], yes: bool, as_json: bool) -> list[dict[str, Any]]:
    ready = [one for one in prepared if not one.why_not]
    if not ready:
        return []
    undone = "the ruling stands, and nothing was published"
    confirm("Publish this?", undone, "run it again and look", yes=yes, as_json=as_json)
    return [publish(session, one) for one in ready]

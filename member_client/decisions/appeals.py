"""Appeals of affected customers: what they are about, how they end, and what the lab then says of the pattern.

An upheld appeal lifts the decision, also what another version of the pattern has decided on the same subject since, or
leaves one account out of a cluster's; it counts as one false positive in the lab's own budget and in its opinion of the
pattern version. A rejected one counts as looked at and true.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from sqlite3 import Row
from typing import Any

from member_client.decisions.allow_list import AllowKind
from member_client.decisions.model import Decision, State, SubjectKind, from_seconds, shown_id
from member_client.decisions.register import Register, check_text
from member_client.decisions.rules import Rules
from member_client.errors import InvalidInput

MAX_REVIEWED = 10_000
"""As an opinion counts at most."""
METHOD = "decisions of this lab that people reviewed, and appeals"


@dataclass(frozen=True, slots=True)
class Appeal:
    """An appeal.

    Attributes:
        number: by which people name it.
        decision: id of the decision that it is about; "" if it is about all on the account.
        account: "" if it is about all of the decision.
        contact_note: how to reach the customer; it never leaves this home.
        outcome: `open`, `upheld` or `rejected`.
    """

    number: int
    decision: str
    account: str
    opened: datetime
    opened_by: str
    contact_note: str
    outcome: str
    decided: datetime | None
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What came of an appeal.

    Attributes:
        lifted: ids of the decisions that it ended.
        spared: ids of the clusters' decisions that leave the account out from now on, by any version of the patterns.
        entries: hex entry hashes of the pattern versions concerned, by record id and version.
        subjects: whom to put on the allow-list, if they are to be left in peace for longer.
    """

    appeal: Appeal
    lifted: tuple[str, ...]
    spared: tuple[str, ...]
    entries: dict[str, tuple[str, int]]
    subjects: tuple[tuple[AllowKind, str], ...]


def open_appeal(
    register: Register, decision: str, account: str, contact_note: str, who: str, rules: Rules, now: datetime
) -> Appeal:
    """Take an appeal down, against a decision, all decisions on an account, or an account's part in a cluster's.

    Raises:
        InvalidInput: there is no such decision, it is too late, or the same appeal is open already.
    """
    note = check_text(contact_note, "a contact note")
    with register.transaction():
        number = register.resolve(decision) if decision else None
        about = [register.get(number, rules, now)] if number is not None else _on_account(register, account, rules, now)
        if number is not None and account and account not in (about[0].subject.id, *about[0].accounts):
            raise InvalidInput(f"{about[0].id} is not about account {account!r}", "see `stillwatch decisions show`")
        if not about:
            others = on_organisations(register, account, rules, now)
            hint = f"open it against that decision: `stillwatch appeal open {others[-1].id}`" if others else ""
            where = f", but {others[-1].id} is about its organisation {others[-1].subject.id!r}" if others else ""
            raise InvalidInput(
                f"no decision is about account {account!r}{where}",
                hint or "see `stillwatch decisions list --subject`",
            )
        if not any(_can_be_appealed(one, register, rules, now) for one in about):
            raise InvalidInput(
                f"the decision ended more than {rules.appeal_days} days ago; by the policy it is too late for an appeal"
            )
        twin = register.database.execute(
            "SELECT number FROM appeals WHERE decision IS ? AND account = ? AND decided IS NULL", (number, account)
        ).fetchone()
        if twin is not None:
            raise InvalidInput(f"appeal {twin['number']} is about the same, and open", "see `stillwatch appeal list`")
        made = register.database.execute(
            "INSERT INTO appeals (decision, account, opened, opened_by, contact_note) VALUES (?, ?, ?, ?, ?)",
            (number, account, int(now.timestamp()), who, note),
        ).lastrowid
        for one in about:
            register.note(register.resolve(one.id), now, "appealed", who, f"appeal {made}")
    return get(register, int(made or 0))


def get(register: Register, number: int) -> Appeal:
    """An appeal by its number.

    Raises:
        InvalidInput: there is none.
    """
    row = register.database.execute(f"{_APPEALS} WHERE a.number = ?", (number,)).fetchone()
    if row is None:
        raise InvalidInput(f"there is no appeal {number}", "see `stillwatch appeal list --all`")
    return _appeal(row)


def appeals(register: Register, *, open_only: bool) -> Iterator[Appeal]:
    """The appeals, oldest first."""
    condition = "WHERE a.decided IS NULL" if open_only else ""
    yield from map(_appeal, register.database.execute(f"{_APPEALS} {condition} ORDER BY a.number"))


def rule_on(
    register: Register, number: int, who: str, reason: str, rules: Rules, now: datetime, *, upheld: bool
) -> Ruling:
    """End an appeal. Asked again with the same outcome it changes nothing, and gives the same.

    Raises:
        InvalidInput: there is no such appeal, or it ended otherwise.
    """
    outcome = "upheld" if upheld else "rejected"
    said = check_text(reason, "a reason")
    with register.transaction():
        appeal = get(register, number)
        if appeal.outcome not in ("open", outcome):
            raise InvalidInput(f"appeal {number} was {appeal.outcome} by {appeal.decided_by}", "open another one")
        about = _about(register, appeal, rules, now)
        if appeal.outcome == "open":
            register.database.execute(
                "UPDATE appeals SET decided = ?, decided_by = ?, upheld = ?, reason = ? WHERE number = ?",
                (int(now.timestamp()), who, upheld, said, number),
            )
            for one in about:
                _settle(register, one, appeal, who, f"appeal {number}: {said}", rules, now, upheld=upheld)
            for one in about if upheld else ():
                where, why = register.resolve(one.id), f"appeal {number}: {said}"
                if _is_part(one, appeal):
                    register.spare_elsewhere(where, appeal.account, who, why, now)
                else:
                    register.lift_elsewhere(where, who, why, now)
        ruled = get(register, number)
        lifted = [one.id for one in about if upheld and not _is_part(one, appeal)]
        for lifted_id in tuple(lifted):
            lifted += register.lifted_elsewhere(register.resolve(lifted_id), ruled.decided or now)
        spared = [one.id for one in about if upheld and _is_part(one, appeal)]
        why, at = f"appeal {number}: {ruled.reason}", ruled.decided or now
        for spared_id in tuple(spared):
            spared += register.spared_elsewhere(register.resolve(spared_id), appeal.account, why, at)
    return Ruling(
        ruled,
        tuple(dict.fromkeys(lifted)),
        tuple(dict.fromkeys(spared)),
        {one.pattern_entry: (one.pattern_id, one.pattern_version) for one in about},
        tuple(dict.fromkeys(subject for one in about if upheld for subject in _subjects(one, appeal))),
    )


def measured(register: Register, entry: str) -> dict[str, Any] | None:
    """What this lab can say of a pattern version in an opinion: how many it reviewed, and how many were true.

    Returns:
        As the opinion's `measured`; None if nothing was reviewed. More than an opinion counts is scaled down.
    """
    reviewed, true_positives = register.reviewed(entry)
    if not reviewed:
        return None
    if reviewed > MAX_REVIEWED:
        reviewed, true_positives = MAX_REVIEWED, true_positives * MAX_REVIEWED // reviewed
    return {"reviewed": reviewed, "true_positives": true_positives, "method": METHOD}


def _settle(
    register: Register,
    one: Decision,
    appeal: Appeal,
    who: str,
    why: str,
    rules: Rules,
    now: datetime,
    *,
    upheld: bool,
) -> None:
    number = register.resolve(one.id)
    if not upheld:
        # What is true of one account of a cluster says little of the others.
        if not register.verdict(number) and not _is_part(one, appeal):
            register.review(number, "right", who, why, now)
    elif _is_part(one, appeal):
        register.spare(number, appeal.account, who, why, now)
    else:
        register.review(number, "wrong", who, why, now)
        register.lift(number, who, why, rules, now)


def on_organisations(register: Register, account: str, rules: Rules, now: datetime) -> list[Decision]:
    """What can be appealed of the decisions on the organisations that matches name for an account, oldest first.

    No appeal by the account alone ends them: others are in the organisation. People must see them all the same, since
    its customer feels them.
    """
    rows = register.database.execute(
        "SELECT d.number FROM decisions d JOIN facts f ON f.kind = 'organisation' AND f.value = d.subject "
        "WHERE d.kind = 'organisation' AND f.account = ? ORDER BY d.number",
        (account,),
    ).fetchall()
    found = [register.get(row[0], rules, now) for row in rows]
    return [one for one in found if _can_be_appealed(one, register, rules, now)]


def _about(register: Register, appeal: Appeal, rules: Rules, now: datetime) -> list[Decision]:
    """The decisions that an appeal ends if it is upheld."""
    if appeal.decision:
        return [register.get(register.resolve(appeal.decision), rules, now)]
    return [
        one
        for one in _on_account(register, appeal.account, rules, now)
        if appeal.outcome != "open" or _can_be_appealed(one, register, rules, now)
    ]


def _on_account(register: Register, account: str, rules: Rules, now: datetime) -> list[Decision]:
    rows = register.database.execute(
        "SELECT number FROM decisions WHERE kind = 'account' AND subject = :account "
        "UNION SELECT decision FROM members WHERE account = :account ORDER BY 1",
        {"account": account},
    ).fetchall()
    return [register.get(row[0], rules, now) for row in rows]


def _can_be_appealed(one: Decision, register: Register, rules: Rules, now: datetime) -> bool:
    if one.state.is_open or one.state is State.SUPERSEDED:
        return True
    ended = one.expires
    if one.state is State.LIFTED:
        ended = max(event.at for event in register.history(register.resolve(one.id)) if event.what == "lifted")
    return ended + timedelta(days=rules.appeal_days) > now


def _is_part(one: Decision, appeal: Appeal) -> bool:
    """Whether the appeal is only about one account of a cluster."""
    return bool(appeal.account) and one.subject.kind is SubjectKind.CLUSTER


def _subjects(one: Decision, appeal: Appeal) -> list[tuple[AllowKind, str]]:
    if appeal.account:
        return [(AllowKind.ACCOUNT, appeal.account)]
    if one.subject.kind is SubjectKind.CLUSTER:
        return [(AllowKind.ACCOUNT, account) for account in one.accounts]
    return [(AllowKind(one.subject.kind.value), one.subject.id)]


_APPEALS = "SELECT a.*, d.id AS decision_id FROM appeals a LEFT JOIN decisions d ON d.number = a.decision"


def _appeal(row: Row) -> Appeal:
    return Appeal(
        row["number"],
        shown_id(row["decision_id"]) if row["decision_id"] else "",
        row["account"],
        from_seconds(row["opened"]),
        row["opened_by"],
        row["contact_note"],
        "open" if row["decided"] is None else "upheld" if row["upheld"] else "rejected",
        None if row["decided"] is None else from_seconds(row["decided"]),
        row["decided_by"],
        row["reason"],
    )

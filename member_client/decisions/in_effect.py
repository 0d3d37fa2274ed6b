"""What is in effect now, computed from the register, the patterns' standings, the allow-list and the policy."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from sqlite3 import Row

from member_client.decisions import allow_register
from member_client.decisions.allow_list import Allowed, AllowList
from member_client.decisions.effect import Circumstances, effective, explained, in_roll_out
from member_client.decisions.lab_policy import LabPolicy, lab_policy
from member_client.decisions.model import ACTIONS, Action, Decision, State, Subject, SubjectKind, from_seconds, shown_id
from member_client.decisions.register import APPROVED, APPROVED_FOR, NEEDS, Register, moment
from member_client.lifecycle.policy import GateRule
from member_client.lifecycle.standing import Stage
from member_client.session import Session
from sharing_protocol.statements.handling import Severity

_ACTING = (Stage.FLAG, Stage.ENFORCE)
# What cannot be in effect is left out here already; `effective` decides of the rest.
_OPEN = f"""
SELECT d.number, d.id, d.kind, d.subject, d.action, d.models, d.expires, p.entry, p.id AS pattern_id, p.severity,
    d.kind AS acts_on, d.subject AS acts_on_id, 1 AS felt_by,
    CASE WHEN {NEEDS} = 0 THEN 0 ELSE {NEEDS} - {APPROVED} END AS missing
FROM decisions d JOIN patterns p ON p.number = d.pattern
WHERE d.lifted IS NULL AND d.superseded IS NULL AND d.action > 0 AND d.expires > :now
    AND p.entry IN (SELECT value FROM json_each(:acting))
"""  # noqa: S608 - ours
_PERSONS = f"{_OPEN} AND d.kind <> 'cluster' ORDER BY d.kind, d.subject"
_MEMBERS = (
    _OPEN.replace("d.kind AS acts_on, d.subject AS acts_on_id", "'account' AS acts_on, m.account AS acts_on_id")
    .replace(APPROVED, APPROVED_FOR.format(joined="m.joined"))
    .replace("FROM decisions d", "FROM members m CROSS JOIN decisions d ON d.number = m.decision")
    + " AND NOT m.spared ORDER BY m.account"
)
_NEW_PERSONS = f"{_OPEN} AND d.kind <> 'cluster' AND NOT d.enforced"
# Accounts that join later feel it too once people approved it for them, and what goes wrong with them counts no less.
_FELT_BY = (
    "(SELECT count(*) FROM members m WHERE m.decision = d.number AND m.spared <= m.cleared "  # noqa: S608 - ours
    f"AND ({NEEDS} = 0 OR {APPROVED_FOR.format(joined='m.joined')} >= {NEEDS}))"
)
_GROWN_CLUSTERS = (
    f"{_OPEN.replace('1 AS felt_by', f'{_FELT_BY} AS felt_by')} AND d.kind = 'cluster' AND d.enforced < felt_by"
)
_READ = 10_000
_SHOWN = 5
_KINDS = {kind.value: kind for kind in SubjectKind}


@dataclass(frozen=True, slots=True)
class Effective:
    """One action in effect on one account or organisation; a cluster is spread over its accounts.

    Attributes:
        action: FLAG or more.
        expires: from this moment on it has no effect.
        models: it acts on requests to these only; () for all.
    """

    kind: SubjectKind
    id: str
    action: Action
    expires: datetime
    models: tuple[str, ...]
    decision_id: str
    pattern_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is in effect at one moment.

    Attributes:
        synced: when the lab last learned from the forum; 1970 if never.
        generation: another one whenever anything that decides what is in effect has changed.
        rows: read once, by account and organisation. Of one subject there may be several: a weaker one that lasts
            longer or acts on other models. The strongest comes last.
        allowed: the entries that hold now, each with its expiry, and the accounts that they cover as detections told;
            they win over every row.
    """

    as_of: datetime
    synced: datetime
    generation: str
    rows: Iterator[Effective]
    allowed: tuple[Allowed, ...]
    policy: GateRule


def snapshot(session: Session, now: datetime, policy: LabPolicy | None = None) -> Snapshot:
    """What is in effect now; reads only.

    Args:
        policy: what holds now, if the caller knows it already.

    Raises:
        InvalidInput: the home, its policy or a file of it is not usable.
    """
    policy = policy or lab_policy(session, now)
    register = Register.of(session.home)
    database = register.database
    # One read transaction to the end of the rows: list, rows and generation are of one moment.
    database.execute("BEGIN")
    generation = register.generation
    allowed = allow_register.load(register, now)
    trusted = session.store.trusted()
    synced = from_seconds(trusted.timestamp if trusted is not None else 0)
    named = repr(
        (generation, session.store.cursor, synced, sorted(policy.standings.items()), policy.rules, policy.gate)
    )
    digest = hashlib.sha256(named.encode()).hexdigest()

    def rows() -> Iterator[Effective]:
        try:
            yield from effects(register, policy, allowed, now)
        finally:
            register.close()

    return Snapshot(now, synced, digest, rows(), tuple(allowed.spelled_out()), policy.gate)


def effects(register: Register, policy: LabPolicy, allowed: AllowList, now: datetime) -> Iterator[Effective]:
    """What is in effect, by subject; see `Snapshot.rows`."""
    streams = (_acting(register, query, policy, allowed, now) for query in (_PERSONS, _MEMBERS))
    for _, same in groupby(heapq.merge(*streams, key=_subject), key=_subject):
        strongest = list(same)
        yield from strongest if len(strongest) == 1 else _not_covered(strongest)


def circumstances(decision: Decision, policy: LabPolicy, allowed: AllowList, now: datetime) -> Circumstances:
    """All that decides what a decision does now."""
    missing = decision.needs_approvals - len(decision.approved_by)
    standing = policy.standings.get(decision.pattern_entry)
    return Circumstances(
        decision.action,
        decision.state,
        missing,
        policy.rules.action(Severity(decision.severity)),
        standing,
        in_roll_out(standing, decision.subject.id),
        allowed.covers_subject(decision.subject, now),
        policy.rules.stopped,
    )


def what_and_why(
    decision: Decision, policy: LabPolicy, allowed: AllowList, now: datetime
) -> tuple[Action, tuple[str, ...]]:
    """The action in effect, and what holds it below what was decided."""
    found = circumstances(decision, policy, allowed, now)
    why = explained(found)
    if decision.waiting and found.missing_approvals <= 0:
        why += (_for_whom_it_waits(decision.waiting),)
    return effective(found), why


def _for_whom_it_waits(accounts: tuple[str, ...]) -> str:
    who = f"{', '.join(accounts[:_SHOWN])}{' …' * (len(accounts) > _SHOWN)}"
    return (
        f"not on {len(accounts):,} of its accounts, which joined after people approved it: {who}; "
        "to approve it for them too: `stillwatch decisions approve`"
    )


def remember_enforced(register: Register, policy: LabPolicy, now: datetime) -> int:
    """Note which decisions customers feel by now, for the roll-out's budget; gives how many are new, or have grown."""
    allowed = allow_register.load(register, now)
    found: list[tuple[int, int]] = []
    with register.reading():
        for query in (_NEW_PERSONS, _GROWN_CLUSTERS):
            if any(one.share for one in policy.standings.values()):
                found += [
                    (row["felt_by"], row["number"])
                    for row, action in _effective_rows(register, query, policy, allowed, now)
                    if action.enforces
                ]
    if found:
        with register.transaction():
            register.database.executemany("UPDATE decisions SET enforced = max(enforced, ?) WHERE number = ?", found)
    return len(found)


def _acting(
    register: Register, query: str, policy: LabPolicy, allowed: AllowList, now: datetime
) -> Iterator[Effective]:
    for row, action in _effective_rows(register, query, policy, allowed, now):
        if action is Action.OBSERVE:
            continue
        if row["kind"] == "cluster" and allowed.covers(now, account=row["acts_on_id"]) is not None:
            continue
        yield Effective(
            _KINDS[row["acts_on"]],
            row["acts_on_id"],
            action,
            datetime.fromtimestamp(row["expires"], UTC),
            _models(row["models"]),
            shown_id(row["id"]),
            row["pattern_id"],
        )


def _effective_rows(
    register: Register, query: str, policy: LabPolicy, allowed: AllowList, now: datetime
) -> Iterator[tuple[Row, Action]]:
    acting = [entry for entry, standing in policy.standings.items() if standing.stage in _ACTING]
    values = {**moment(policy.rules, now), "acting": json.dumps(acting)}
    covers_any = len(allowed) > 0
    ruled: dict[tuple[object, ...], Action] = {}
    cursor = register.database.execute(query, values)
    while some := cursor.fetchmany(_READ):
        for row in some:
            entry, id_, missing = row["entry"], row["subject"], row["missing"]
            standing = policy.standings.get(entry)
            reached = in_roll_out(standing, id_)
            found = allowed.covers_subject(Subject(_KINDS[row["kind"]], id_), now) if covers_any else None
            key = row["action"], missing > 0, row["severity"], entry, reached, found is None
            if key not in ruled:
                ruled[key] = effective(
                    Circumstances(
                        ACTIONS[row["action"]],
                        State.PROPOSED if missing > 0 else State.IN_FORCE,
                        missing,
                        policy.rules.action(Severity(row["severity"])),
                        standing,
                        reached,
                        found,
                        policy.rules.stopped,
                    )
                )
            yield row, ruled[key]


def _not_covered(same: list[Effective]) -> list[Effective]:
    """Of one subject's, those that no other makes idle, the strongest last."""
    kept: list[Effective] = []
    for one in sorted(same, key=lambda one: (one.action.rank, one.expires, not one.models), reverse=True):
        if not any(_covers(other, one) for other in kept):
            kept.append(one)
    return kept[::-1]


def _covers(strong: Effective, weak: Effective) -> bool:
    models = not strong.models or (bool(weak.models) and set(weak.models) <= set(strong.models))
    return models and strong.action >= weak.action and strong.expires >= weak.expires


@lru_cache(maxsize=1024)
def _models(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


_subject = attrgetter("kind.value", "id")

"""From matches to decisions: one a pattern version and subject, whatever runs they come from, and in whatever order.

Matches that were counted before change nothing. New ones extend what is open: its evidence, its expiry, and the action
that the policy now asks for. After a lift only what began after it makes a new decision; after an expiry, any new
match does. Both get a new id, and approvals of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from sqlite3 import Row
from typing import NamedTuple
from uuid import UUID

from member_client.decisions.allow_list import Allowed, AllowKind, AllowList
from member_client.decisions.matches import Gathered, Match, SeenPattern
from member_client.decisions.model import ACTIONS, Action, SubjectKind, decision_uuid
from member_client.decisions.register import Register
from member_client.decisions.rules import Rules
from sharing_protocol.statements.handling import Severity

_SUBJECTS = 5_000
_MATCHES = 40_000
"""At most so many in one transaction, or a little more."""
_SECOND = 1_000_000
_ONCE_WRONG = (
    "built in: an earlier decision by this pattern was found wrong, or lifted, so people must approve this one"
)


@dataclass(slots=True)
class Decided:
    """What came of it, counted in decisions.

    Attributes:
        extended: had new matches.
        unchanged: had been decided from the same matches.
        left_alone: was lifted, and nothing new has begun since.
        allow_listed: of the new and extended ones, whose subject is on the allow-list.
        actions: of the new and extended ones.
        unapproved: of these, how many wait for people.
    """

    new: int = 0
    extended: int = 0
    unchanged: int = 0
    left_alone: int = 0
    allow_listed: int = 0
    actions: Counter[Action] = field(default_factory=Counter)
    unapproved: int = 0

    def add(self, more: Decided) -> None:
        """Count what came of another source."""
        for name in ("new", "extended", "unchanged", "left_alone", "allow_listed", "unapproved"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.actions.update(more.actions)


def decide(
    register: Register,
    gathered: Iterable[Gathered],
    rules: Rules,
    allowed: AllowList,
    now: datetime,
    who: str,
    source: str,
    *,
    keep: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> Decided:
    """Turn matches into decisions, some thousands a transaction: broken off, it goes on when it is run again.

    Args:
        who, source: who asked for it, and what the matches are of; for the history.
        keep: False to see what would be done, and do nothing.
        progress: called after every transaction.
    """
    decided = Decided()
    for batch in _batches(gathered):
        with register.transaction(keep=keep):
            _Batch(register, rules, allowed, now, who, source, decided).take(batch)
        progress()
    return decided


def note_expiries(register: Register, now: datetime) -> None:
    """Write into the history which decisions have expired since this was last asked."""
    seconds = int(now.timestamp())
    expired = "NOT expiry_noted AND expires <= :now"
    with register.transaction():
        register.database.execute(
            "INSERT INTO history (decision, at, what, who, why) "  # noqa: S608 - ours
            f"SELECT number, expires, 'expired', '', '' FROM decisions WHERE {expired} AND lifted IS NULL",
            {"now": seconds},
        )
        register.database.execute(f"UPDATE decisions SET expiry_noted = 1 WHERE {expired}", {"now": seconds})  # noqa: S608 - ours


def _batches(gathered: Iterable[Gathered]) -> Iterator[list[Gathered]]:
    batch: list[Gathered] = []
    matches = 0
    for one in gathered:
        # What goes on must find what it goes on from.
        if batch and (one.goes_on or len(batch) >= _SUBJECTS or matches >= _MATCHES):
            yield batch
            batch, matches = [], 0
        batch.append(one)
        matches += len(one.matches)
    if batch:
        yield batch


class _Verdict(NamedTuple):
    """What the policy asks for, how many must approve it, and why; `number` is of the reasons."""

    action: Action
    reasons: tuple[str, ...]
    needs: int
    number: int


class _Batch:
    """One transaction's work."""

    def __init__(
        self,
        register: Register,
        rules: Rules,
        allowed: AllowList,
        now: datetime,
        who: str,
        source: str,
        decided: Decided,
    ) -> None:
        self._database = register.database
        self._rules, self._allowed, self._now, self._decided = rules, allowed, now, decided
        self._who, self._source = who, source
        self._seconds = int(now.timestamp())
        self._next: int = self._database.execute("SELECT coalesce(max(number), 0) + 1 FROM decisions").fetchone()[0]
        self._patterns: dict[str, int] = {}
        self._verdicts: dict[tuple[Severity, int | None], _Verdict] = {}
        self._models = json.dumps(rules.models)
        self._made: list[tuple[object, ...]] = []
        self._evidence: list[tuple[int, bytes, int]] = []
        self._members: list[dict[str, object]] = []
        self._events: list[tuple[int, int, str, str, str]] = []

    def take(self, batch: list[Gathered]) -> None:
        fresh = [self._decide(one) for one in batch]
        write = self._database.executemany
        write(
            "INSERT INTO decisions (number, id, kind, subject, pattern, root, follows, action, models, created, "
            "expires, matches, first, last, numbers, reasons, needs) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self._made,
        )
        write("INSERT INTO evidence VALUES (?, ?, ?)", self._evidence)
        write(
            "INSERT OR IGNORE INTO members (decision, account, joined, spared) "
            "SELECT :decision, :account, count, "
            "EXISTS (SELECT 1 FROM spared WHERE pattern = :pattern AND account = :account) FROM generation",
            self._members,
        )
        write("INSERT INTO history (decision, at, what, who, why) VALUES (?, ?, ?, ?, ?)", self._events)
        write(
            "INSERT OR IGNORE INTO facts VALUES (?, ?, ?)",
            ((account, kind.value, value) for one in batch for account, kind, value in one.facts),
        )
        several = {row[0] for row in self._database.execute("SELECT id FROM patterns GROUP BY id HAVING count(*) > 1")}
        for one, is_new in zip(batch, fresh, strict=True):
            if is_new and one.pattern.id in several:
                self._supersede(one)

    def _decide(self, one: Gathered) -> bool:
        """Work out what these matches add; gives whether that is a new decision."""
        known = self._known(one)
        if known is None:
            self._make(one, list(one.matches.values()), None)
            return True
        added = self._not_counted(one, known["root"])
        if known["lifted"] is not None:
            before = len(added)
            since = (known["lifted"] + 1) * _SECOND
            added = [match for match in added if match.began is not None and match.began >= since]
            if not added:
                self._decided.left_alone += bool(before) and not one.goes_on
                self._decided.unchanged += not before and not one.goes_on
                return False
        if not added:
            self._decided.unchanged += not one.goes_on
            return False
        closed = known["superseded"] is None and known["expires"] <= self._seconds
        if known["lifted"] is not None or closed:
            self._make(one, added, known)
            return True
        self._extend(one, added, known)
        return False

    def _known(self, one: Gathered) -> Row | None:
        """The newest decision on this pattern version and subject."""
        found: Row | None = self._database.execute(
            "SELECT * FROM decisions WHERE kind = ? AND subject = ? AND pattern = ? ORDER BY number DESC LIMIT 1",
            (one.subject.kind.value, one.subject.id, self._pattern(one.pattern)),
        ).fetchone()
        return found

    def _not_counted(self, one: Gathered, root: int) -> list[Match]:
        ask = self._database.execute
        query = "SELECT 1 FROM evidence WHERE root = ? AND detection = ?"
        return [match for match in one.matches.values() if ask(query, (root, match.id)).fetchone() is None]

    def _make(self, one: Gathered, matches: list[Match], known: Row | None) -> None:
        number, self._next = self._next, self._next + 1
        root = number if known is None else known["root"]
        follows = None if known is None else UUID(bytes=known["id"])
        action, reasons, needs, why = self._action(one)
        needs, why = self._once_wrong(one, action, reasons, needs, why)
        first, last = _span(matches)
        self._made.append(
            (
                number,
                decision_uuid(one.pattern.entry, one.subject, follows).bytes,
                one.subject.kind.value,
                one.subject.id,
                self._pattern(one.pattern),
                root,
                None if known is None else known["number"],
                action.rank,
                self._models,
                self._seconds,
                self._seconds + self._rules.seconds(action),
                len(matches),
                first,
                last,
                _numbers(_largest({}, matches)),
                why,
                needs,
            )
        )
        self._keep(one, number, root, matches, "proposed", action, needs)
        self._decided.new += known is not None or not one.goes_on

    def _extend(self, one: Gathered, matches: list[Match], known: Row) -> None:
        action, reasons, needs, why = self._action(one)
        grown = one.subject.kind is SubjectKind.CLUSTER  # also by accounts of a cluster that was found wrong
        if action.rank != known["action"] or (grown and known["needs"] == needs == 0):
            needs, why = self._once_wrong(one, action, reasons, needs, why)
        elif known["needs"] > needs:  # it follows one that was wrong
            needs, why = known["needs"], known["reasons"]
        first, last = _span(matches, known["first"], known["last"])
        self._database.execute(
            "UPDATE decisions SET action = ?, expires = max(expires, ?), matches = matches + ?, first = ?, last = ?, "
            "numbers = ?, reasons = ?, needs = ? WHERE number = ?",
            (
                action.rank,
                self._seconds + self._rules.seconds(action),
                len(matches),
                first,
                last,
                _numbers(_largest(json.loads(known["numbers"]), matches)),
                why,
                needs,
                known["number"],
            ),
        )
        what = "extended" if action is ACTIONS[known["action"]] else f"extended, now {action}"
        self._keep(one, known["number"], known["root"], matches, what, action, needs)
        self._decided.extended += not one.goes_on

    def _once_wrong(
        self, one: Gathered, action: Action, reasons: tuple[str, ...], needs: int, why: int
    ) -> tuple[int, int]:
        """How many must approve an action, and why: at least one, if the pattern was wrong about the subject before."""
        if action is Action.OBSERVE or not self._was_wrong(one):
            return needs, why
        return max(1, needs), self._reason((*reasons, _ONCE_WRONG))

    def _was_wrong(self, one: Gathered) -> bool:
        """Whether a decision on this subject was, by any version of the pattern: its author can make more of them.

        Or one on a cluster that had the account, or the account's part in it; or, of a cluster, one on another that had
        any of its accounts, since a next version may link them by another key. What people lifted without a verdict
        binds the version that it was by, which knows when; the author's next version must ask them.
        """
        ask = self._database.execute(
            "SELECT 1 FROM decisions d JOIN patterns p ON p.number = d.pattern "
            "LEFT JOIN reviews v ON v.decision = d.number "
            "WHERE d.kind = :kind AND d.subject = :id AND p.id = :pattern "
            "AND (v.verdict = 'wrong' OR (d.lifted IS NOT NULL AND p.entry <> :entry)) "
            "UNION ALL SELECT 1 FROM spared WHERE :kind = 'account' AND account = :id AND pattern = :pattern "
            "UNION ALL SELECT 1 FROM members m JOIN reviews v ON v.decision = m.decision "
            "JOIN decisions d ON d.number = m.decision JOIN patterns p ON p.number = d.pattern "
            "WHERE m.account IN (SELECT value FROM json_each(:accounts)) AND v.verdict = 'wrong' AND p.id = :pattern",
            {
                "kind": one.subject.kind.value,
                "id": one.subject.id,
                "accounts": json.dumps(
                    [one.subject.id] if one.subject.kind is SubjectKind.ACCOUNT else [*one.accounts]
                ),
                "pattern": one.pattern.id,
                "entry": one.pattern.entry,
            },
        )
        return ask.fetchone() is not None

    def _keep(
        self, one: Gathered, number: int, root: int, matches: list[Match], what: str, action: Action, needs: int
    ) -> None:
        self._evidence += [(root, match.id, number) for match in matches]
        self._members += [
            {"decision": number, "account": account, "pattern": one.pattern.id} for account in one.accounts
        ]
        several = "es" if len(matches) > 1 else ""
        self._events.append(
            (number, self._seconds, what, self._who, f"{len(matches)} match{several} in {self._source}")
        )
        if not one.goes_on:
            self._decided.actions[action] += 1
            self._decided.unapproved += needs > 0

    def _action(self, one: Gathered) -> _Verdict:
        """What the policy asks for, and by which lines of it."""
        covered = self._covered(one)
        self._decided.allow_listed += covered is not None and not one.goes_on
        key = one.pattern.severity, None if covered is None else covered.number
        if key not in self._verdicts:
            action = self._rules.action(one.pattern.severity)
            reasons = self._rules.reasons(one.pattern.severity, action)
            if covered is not None:
                action = Action.OBSERVE
                reasons = (*reasons, f"on the allow-list, so only observed: {covered}")
            self._verdicts[key] = _Verdict(action, reasons, self._rules.needed(action), self._reason(reasons))
        return self._verdicts[key]

    def _covered(self, one: Gathered) -> Allowed | None:
        found = self._allowed.covers_subject(one.subject, self._now)
        if found is not None or one.subject.kind is not SubjectKind.ACCOUNT:
            return found
        for _, kind, value in sorted(one.facts):
            name = "organisation" if kind is AllowKind.ORGANISATION else "address"
            if (found := self._allowed.covers(self._now, **{name: value})) is not None:
                return found
        return None

    def _supersede(self, one: Gathered) -> None:
        """Let the newest version of the pattern speak alone about this subject."""
        rows = self._database.execute(
            "SELECT d.number, d.lifted, d.superseded, p.version FROM decisions d "
            "JOIN patterns p ON p.number = d.pattern "
            "WHERE d.kind = ? AND d.subject = ? AND p.id = ? ORDER BY p.version, d.number",
            (one.subject.kind.value, one.subject.id, one.pattern.id),
        ).fetchall()
        newest = rows[-1]
        for row in rows:
            if row["version"] < newest["version"] and row["lifted"] is None and row["superseded"] is None:
                self._database.execute(
                    "UPDATE decisions SET superseded = ? WHERE number = ?", (newest["number"], row["number"])
                )
                self._database.execute(
                    "INSERT INTO history (decision, at, what, who, why) VALUES (?, ?, 'superseded', '', ?)",
                    (row["number"], self._seconds, f"by version {newest['version']} of the pattern"),
                )

    def _pattern(self, pattern: SeenPattern) -> int:
        if pattern.entry not in self._patterns:
            self._database.execute(
                "INSERT OR IGNORE INTO patterns (entry, id, version, title, severity) VALUES (?, ?, ?, ?, ?)",
                (pattern.entry, pattern.id, pattern.version, pattern.title, pattern.severity.value),
            )
            row = self._database.execute("SELECT number FROM patterns WHERE entry = ?", (pattern.entry,)).fetchone()
            self._patterns[pattern.entry] = row[0]
        return self._patterns[pattern.entry]

    def _reason(self, reasons: tuple[str, ...]) -> int:
        text = json.dumps(reasons)
        self._database.execute("INSERT OR IGNORE INTO reasons (text) VALUES (?)", (text,))
        number: int = self._database.execute("SELECT number FROM reasons WHERE text = ?", (text,)).fetchone()[0]
        return number


def _span(matches: list[Match], *known: int | None) -> tuple[int | None, int | None]:
    times = [time for time in (*known, *(match.time for match in matches)) if time is not None]
    return (min(times), max(times)) if times else (None, None)


def _numbers(largest: dict[str, float]) -> str:
    return json.dumps(largest) if largest else "{}"


def _largest(known: dict[str, float], matches: list[Match]) -> dict[str, float]:
    largest = dict(known)
    for match in matches:
        for name, value in match.numbers.items():
            largest[name] = max(value, largest.get(name, value))
    return dict(sorted(largest.items()))

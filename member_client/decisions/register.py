"""The register of decisions: `decisions.sqlite` of a home, for its owner alone.

Every change is one transaction with its line of history, so a crash leaves the state before it or after it. Whether a
decision is proposed, in force or expired is no stored state: it follows from its approvals, the policy and the moment.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from member_client.decisions.model import (
    ACTIONS,
    PREFIX,
    Action,
    Decision,
    Event,
    State,
    Subject,
    SubjectKind,
    from_microseconds,
    from_seconds,
    shown_id,
)
from member_client.decisions.rules import Rules
from member_client.decisions.schema import SCHEMA_VERSION, prepare
from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.session import Session
from member_client.sqlite_transaction import transaction
from sharing_protocol.statements.header import show_hidden

WAIT_SECONDS = 10.0
"""For another process that writes."""
MAX_NAME = 100
"""Characters of the name of a person, and of a reason ten times as many."""
_SHOWN_DETECTIONS = 20
_SHORTEST_PREFIX = 4
_UNSEEN = re.compile("[\u180b-\u180d\u2800\ufe00-\ufe0f]")
"""Variation selectors and a blank, which count as printable."""

SIZE = "max(1, (SELECT count(*) FROM members m WHERE m.decision = decisions.number))"
APPROVED_FOR = (
    "(SELECT count(*) FROM approvals a WHERE a.decision = d.number AND a.action >= d.action AND a.seen >= {joined})"
)
"""How many approvals hold for who joined in a generation: those of people who could see them."""
_FIRST_JOINED = """(CASE d.kind WHEN 'cluster' THEN coalesce((SELECT min(joined) FROM members
    WHERE decision = d.number AND NOT spared), 0) ELSE 0 END)"""
APPROVED = APPROVED_FOR.format(joined=_FIRST_JOINED)
"""How many hold for anybody: who joined first is seen by all who saw others."""
NEEDS = "max(d.needs, CASE d.action WHEN 0 THEN :needs_0 WHEN 1 THEN :needs_1 WHEN 2 THEN :needs_2 ELSE :needs_3 END)"
_STATE = f"""CASE WHEN d.lifted IS NOT NULL THEN 'lifted' WHEN d.superseded IS NOT NULL THEN 'superseded'
    WHEN d.expires <= :now THEN 'expired' WHEN {APPROVED} < {NEEDS} THEN 'proposed' ELSE 'in force' END"""
_DECISIONS = f"""
SELECT d.number, d.id, d.kind, d.subject, {_FIRST_JOINED} AS first_joined, d.root, d.action, d.models, d.created,
    d.expires, d.matches, d.first, d.last, d.numbers, p.id AS pattern_id, p.version, p.entry, p.title, p.severity,
    r.text AS reasons, {NEEDS} AS needs, {_STATE} AS state, f.id AS follows, s.id AS superseded_by
FROM decisions d JOIN patterns p ON p.number = d.pattern JOIN reasons r ON r.number = d.reasons
    LEFT JOIN decisions f ON f.number = d.follows LEFT JOIN decisions s ON s.number = d.superseded
"""  # noqa: S608 - ours

_SAME_SUBJECT = """FROM decisions d JOIN patterns p ON p.number = d.pattern
JOIN decisions o ON o.kind = d.kind AND o.subject = d.subject JOIN patterns q ON q.number = o.pattern AND q.id = p.id
WHERE o.number = :number AND d.number <> o.number"""
_RECORD = "(SELECT p.id FROM decisions d JOIN patterns p ON p.number = d.pattern WHERE d.number = ?)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is narrowed to; what is empty narrows nothing.

    Attributes:
        pattern: id of a record, or the beginning of one.
        subject: an id; for an account also its clusters' decisions.
        limit: at most so many, the newest; 0 for all.
    """

    state: str = ""
    action: str = ""
    pattern: str = ""
    subject: str = ""
    limit: int = 0


class Register:
    """The register, open."""

    def __init__(self, path: Path) -> None:
        """Open the register, making it if there is none.

        Raises:
            InvalidInput: the file is none, or of a later version of this program.
        """
        self.path = path
        try:
            self.database = sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)
            path.chmod(0o600)
            self.database.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -65536"):
                self.database.execute(f"PRAGMA {pragma}")
            if self.database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                with transaction(self.database):
                    prepare(self.database, path)
        except (sqlite3.Error, OSError) as error:
            raise InvalidInput(f"{path} cannot be opened: {error}", "check the file and its permissions") from error

    @classmethod
    def of(cls, home: Home) -> Register:
        """The register of a home.

        Raises:
            InvalidInput: the folder is no home, which must not get a register; or see above.
        """
        home.settings()
        return cls(path_of(home))

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    @contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator[None]:
        """All or nothing: what is written inside is there after the block, or none of it.

        Args:
            keep: False to see what would be written, and write nothing.
        """
        with transaction(self.database, keep=keep):
            before = self.database.total_changes
            yield
            if self.database.total_changes != before:
                self.database.execute("UPDATE generation SET count = count + 1")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """All that is read inside is of one moment."""
        with transaction(self.database, "DEFERRED"):
            yield

    @property
    def generation(self) -> int:
        """Grows with every change."""
        count: int = self.database.execute("SELECT count FROM generation").fetchone()[0]
        return count

    # -- reading ---------------------------------------------------------------------------------------------------

    def find(self, wanted: Wanted, rules: Rules, now: datetime) -> Iterator[Decision]:
        """Decisions that fit, the newest first.

        Raises:
            InvalidInput: there is no such state or action.
        """
        conditions, values = _conditions(wanted)
        query = (
            f"SELECT * FROM ({_DECISIONS}) WHERE {' AND '.join(conditions)} ORDER BY number DESC"  # noqa: S608 - fixed text
            + (" LIMIT :limit" if wanted.limit else "")
        )
        for row in self.database.execute(query, {**moment(rules, now), **values}):
            yield self._decision(row)

    def resolve(self, text: str) -> int:
        """The number of the decision that an id, or the beginning of one, means.

        Raises:
            InvalidInput: none, or more than one.
        """
        prefix = text.removeprefix(PREFIX).replace("-", "").lower()
        if len(prefix) < _SHORTEST_PREFIX or len(prefix) > 32 or set(prefix) - set("0123456789abcdef"):
            raise InvalidInput(
                f"{text!r} is not a decision's id",
                f"give at least {_SHORTEST_PREFIX} of its digits, see `decisions list`",
            )
        bounds = [bytes.fromhex(prefix.ljust(32, digit)) for digit in "0f"]
        found = self.database.execute(
            "SELECT number, id FROM decisions WHERE id BETWEEN ? AND ? LIMIT 2", bounds
        ).fetchall()
        if not found:
            raise InvalidInput(f"there is no decision {text}", "see `stillwatch decisions list`")
        if len(found) > 1:
            raise InvalidInput(f"{text} begins more than one decision's id", "give more of it")
        number: int = found[0]["number"]
        return number

    def get(self, number: int, rules: Rules, now: datetime) -> Decision:
        """A decision by its number."""
        values = {**moment(rules, now), "number": number}
        return self._decision(self.database.execute(f"{_DECISIONS} WHERE d.number = :number", values).fetchone())

    def history(self, number: int) -> list[Event]:
        """What happened to a decision, oldest first."""
        rows = self.database.execute(
            "SELECT at, what, who, why FROM history WHERE decision = ? ORDER BY number", (number,)
        )
        return [Event(from_seconds(row["at"]), row["what"], row["who"], row["why"]) for row in rows]

    def spared(self, number: int) -> tuple[str, ...]:
        """The accounts that an appeal left out of a cluster's decision."""
        rows = self.database.execute("SELECT account FROM members WHERE decision = ? AND spared", (number,))
        return tuple(row[0] for row in rows)

    def unapproved(self, number: int, needed: int) -> tuple[str, ...]:
        """The accounts of a cluster's decision for which fewer than `needed` people approved it, by id.

        An approval holds for the accounts that the decision had at that moment. Those that an appeal left out do not
        wait for any.
        """
        rows = self.database.execute(
            "SELECT m.account FROM members m JOIN decisions d ON d.number = m.decision "  # noqa: S608 - ours
            f"WHERE d.number = ? AND NOT m.spared AND {APPROVED_FOR.format(joined='m.joined')} < ? ORDER BY m.account",
            (number, needed),
        )
        return tuple(row[0] for row in rows)

    def verdict(self, number: int) -> str:
        """`right`, `wrong`, or "" if nobody has reviewed it."""
        row = self.database.execute("SELECT verdict FROM reviews WHERE decision = ?", (number,)).fetchone()
        return row[0] if row else ""

    def outcomes(self, entry: str) -> tuple[int, int]:
        """How many subjects a pattern version was enforced upon, and on how many of them wrongly; neither ever falls.

        A cluster counts by its accounts. Wrong is what any review found wrong, and whom an upheld appeal cleared.

        Args:
            entry: hex entry hash.
        """
        row = self.database.execute("SELECT enforced, wrong FROM patterns WHERE entry = ?", (entry,)).fetchone()
        return (row["enforced"], row["wrong"]) if row else (0, 0)

    def reviewed(self, entry: str) -> tuple[int, int]:
        """Of the decisions by a pattern version, how many people judged, and how many of these were right.

        An account that an upheld appeal left out of a cluster counts as one that was judged, and was not right.
        """
        about = "JOIN decisions d ON d.number = {}.decision JOIN patterns p ON p.number = d.pattern WHERE p.entry = ?"
        judged, right = self.database.execute(
            f"SELECT count(*), total(v.verdict = 'right') FROM reviews v {about.format('v')}",  # noqa: S608 - ours
            (entry,),
        ).fetchone()
        (spared,) = self.database.execute(
            f"SELECT count(*) FROM members m {about.format('m')} AND m.cleared "  # noqa: S608 - ours
            "AND NOT EXISTS (SELECT 1 FROM reviews v WHERE v.decision = d.number AND v.verdict = 'wrong')",
            (entry,),
        ).fetchone()
        return judged + spared, int(right)

    def is_decided(self, run: str) -> bool:
        """Whether a run was turned into decisions before."""
        return self.database.execute("SELECT 1 FROM decided_runs WHERE run = ?", (run,)).fetchone() is not None

    def note_decided(self, run: str, now: datetime) -> None:
        """Note that a run was turned into decisions, all of it."""
        with self.transaction():
            self.database.execute("INSERT OR IGNORE INTO decided_runs VALUES (?, ?)", (run, int(now.timestamp())))

    # -- what people do --------------------------------------------------------------------------------------------

    def approve(
        self, number: int, name: str, note: str, rules: Rules, now: datetime, spared: Sequence[str] = ()
    ) -> bool:
        """Note that somebody approves what was decided; gives whether that is new. Inside a transaction.

        Of a cluster it holds for the accounts that it has now; for who joins later people must approve it again.

        Args:
            spared: accounts that an appeal left out of it, and that it is to act on all the same.

        Raises:
            InvalidInput: the decision is closed, the name is none, or no appeal left such an account out.
        """
        decision = self.get(number, rules, now)
        if not decision.state.is_open:
            raise InvalidInput(
                f"{decision.id} is {decision.state}", "only what is proposed or in force can be approved"
            )
        shown = check_name(name)
        folded = fold(shown)
        for account in spared:
            self._take_back_in(number, account)
        row = self.database.execute(
            "SELECT action, (SELECT count(*) FROM members m WHERE m.decision = a.decision AND NOT m.spared "
            "AND m.joined > a.seen) AS unseen FROM approvals a WHERE decision = ? AND folded = ?",
            (number, folded),
        ).fetchone()
        if row is not None and row["action"] >= decision.action.rank and not row["unseen"]:
            return False
        self.database.execute(
            "INSERT OR REPLACE INTO approvals (decision, folded, name, action, seen) VALUES (?, ?, ?, ?, ?)",
            (number, folded, shown, decision.action.rank, self.generation),
        )
        whom = f" {len(decision.accounts):,} accounts" if decision.accounts else ""
        named = f", {', '.join(spared)} by name" if spared else ""
        why = f"{decision.action}{whom}{named}" + (f": {note}" if note else "")
        self.note(number, now, "approved", shown, why)
        return True

    def lift(self, number: int, who: str, reason: str, rules: Rules, now: datetime) -> bool:
        """End a decision for good; gives False if it had ended before. Inside a transaction."""
        state = self.get(number, rules, now).state
        if state is State.LIFTED:
            return False
        seconds = int(now.timestamp())
        self.database.execute("UPDATE decisions SET lifted = ? WHERE number = ?", (seconds, number))
        self.note(number, now, "lifted", who, reason)
        return True

    def lift_elsewhere(self, number: int, who: str, reason: str, now: datetime) -> None:
        """End what other versions of the pattern decided on the same subject, too. Inside a transaction."""
        others = self.database.execute(
            f"SELECT d.number {_SAME_SUBJECT} AND d.lifted IS NULL AND d.superseded IS NULL AND d.expires > :now",
            {"number": number, "now": int(now.timestamp())},
        ).fetchall()
        for (other,) in others:
            self.database.execute("UPDATE decisions SET lifted = ? WHERE number = ?", (int(now.timestamp()), other))
            self.note(other, now, "lifted", who, reason)

    def lifted_elsewhere(self, number: int, at: datetime) -> list[str]:
        """Ids of the decisions by other versions on the same subject that were lifted at this moment."""
        rows = self.database.execute(
            f"SELECT d.id {_SAME_SUBJECT} AND d.lifted = :at ORDER BY d.number",
            {"number": number, "at": int(at.timestamp())},
        )
        return [shown_id(row[0]) for row in rows]

    def spare(self, number: int, account: str, who: str, reason: str, now: datetime) -> None:
        """Leave an account out of a cluster's decision, and of all later ones by the record. Inside a transaction.

        What was left out already, by an appeal against an earlier decision, does not count as wrong once more.
        """
        one = (number, account)
        cleared = self.database.execute(
            "UPDATE members SET cleared = 1 WHERE decision = ? AND account = ? AND NOT spared AND NOT cleared", one
        )
        self.database.execute("UPDATE decisions SET wrong = wrong + ? WHERE number = ?", (cleared.rowcount, number))
        self.database.execute("UPDATE members SET spared = 1 WHERE decision = ? AND account = ?", one)
        self.database.execute(f"INSERT OR IGNORE INTO spared SELECT {_RECORD}, ?", one)
        self.note(number, now, "spared", who, f"account {account}: {reason}")

    def spare_elsewhere(self, number: int, account: str, who: str, reason: str, now: datetime) -> None:
        """Leave an account out of the other decisions by the same record too; they count no more for that."""
        others = self.database.execute(
            "SELECT m.decision FROM members m JOIN decisions d ON d.number = m.decision "  # noqa: S608 - ours
            "JOIN patterns p ON p.number = d.pattern "
            f"WHERE m.account = ? AND NOT m.spared AND d.lifted IS NULL AND p.id = {_RECORD}",
            (account, number),
        ).fetchall()
        for (other,) in others:
            self.database.execute("UPDATE members SET spared = 1 WHERE decision = ? AND account = ?", (other, account))
            self.note(other, now, "spared", who, f"account {account}: {reason}")

    def spared_elsewhere(self, number: int, account: str, reason: str, at: datetime) -> list[str]:
        """Ids of the other decisions by the same record that left an account out at this moment, for this reason."""
        rows = self.database.execute(
            "SELECT DISTINCT d.id FROM members m JOIN decisions d ON d.number = m.decision "  # noqa: S608 - ours
            "JOIN patterns p ON p.number = d.pattern JOIN history h ON h.decision = d.number "
            "WHERE m.account = :account AND d.number <> :number AND h.what = 'spared' AND h.at = :at AND h.why = :why "
            f"AND p.id = {_RECORD.replace('?', ':number')} ORDER BY d.number",
            {
                "number": number,
                "account": account,
                "at": int(at.timestamp()),
                "why": f"account {account}: {reason}",
            },
        )
        return [shown_id(row[0]) for row in rows]

    def _take_back_in(self, number: int, account: str) -> None:
        """Let a decision act on an account that was left out; what was approved before does not hold for it."""
        taken = self.database.execute(
            "UPDATE members SET spared = 0, joined = ? WHERE decision = ? AND account = ? AND spared",
            (self.generation, number, account),
        )
        if not taken.rowcount:
            raise InvalidInput(
                f"no appeal left account {account!r} out of the decision", "see `stillwatch decisions show`"
            )
        self.database.execute(
            f"DELETE FROM spared WHERE pattern = {_RECORD} AND account = ?",  # noqa: S608 - ours
            (number, account),
        )

    def review(self, number: int, verdict: str, who: str, note: str, now: datetime) -> None:
        """Note whether a decision was right; the newest verdict counts. Inside a transaction."""
        self.database.execute("INSERT OR REPLACE INTO reviews VALUES (?, ?)", (number, verdict))
        if verdict == "wrong":
            self.database.execute(f"UPDATE decisions SET wrong = max(wrong, {SIZE}) WHERE number = ?", (number,))  # noqa: S608 - ours
        self.note(number, now, f"reviewed as {verdict}", who, note)

    def note(self, number: int, now: datetime, what: str, who: str, why: str) -> None:
        """Add a line of history. Inside a transaction."""
        self.database.execute(
            "INSERT INTO history (decision, at, what, who, why) VALUES (?, ?, ?, ?, ?)",
            (number, int(now.timestamp()), what, who, why),
        )

    def _decision(self, row: sqlite3.Row) -> Decision:
        number, kind = row["number"], SubjectKind(row["kind"])
        ask = self.database.execute
        accounts: Sequence[sqlite3.Row] = ()
        if kind is SubjectKind.CLUSTER:
            accounts = ask("SELECT account FROM members WHERE decision = ? ORDER BY account", (number,)).fetchall()
        detections = ask(
            "SELECT detection FROM evidence WHERE root = ? AND decision = ? LIMIT ?",
            (row["root"], number, _SHOWN_DETECTIONS),
        )
        approvals = ask(
            "SELECT name FROM approvals WHERE decision = ? AND action >= ? AND seen >= ? ORDER BY folded",
            (number, row["action"], row["first_joined"]),
        )
        is_waited_for = kind is SubjectKind.CLUSTER and row["needs"] > 0
        return Decision(
            id=shown_id(row["id"]),
            subject=Subject(kind, row["subject"]),
            accounts=tuple(one["account"] for one in accounts),
            action=ACTIONS[row["action"]],
            models=tuple(json.loads(row["models"])),
            created=from_seconds(row["created"]),
            expires=from_seconds(row["expires"]),
            pattern_id=row["pattern_id"],
            pattern_version=row["version"],
            pattern_entry=row["entry"],
            pattern_title=row["title"],
            severity=row["severity"],
            detections=tuple(one["detection"].hex() for one in detections),
            matches=row["matches"],
            first=from_microseconds(row["first"]),
            last=from_microseconds(row["last"]),
            numbers=json.loads(row["numbers"]),
            policy_reasons=tuple(json.loads(row["reasons"])),
            needs_approvals=row["needs"],
            approved_by=tuple(one["name"] for one in approvals),
            waiting=self.unapproved(number, row["needs"]) if is_waited_for else (),
            state=State(row["state"]),
            follows=shown_id(row["follows"]) if row["follows"] else "",
            superseded_by=shown_id(row["superseded_by"]) if row["superseded_by"] else "",
        )


def outcomes_of(session: Session) -> Callable[[str], tuple[int, int]]:
    """`Register.outcomes` of a home, by hex entry hash; a home without decisions gets no register by it."""
    if not path_of(session.home).exists():
        return lambda _: (0, 0)
    return Register.of(session.home).outcomes


def path_of(home: Home) -> Path:
    """Where a home's register is."""
    return home.path / "decisions.sqlite"


def moment(rules: Rules, now: datetime) -> dict[str, int]:
    """The values by which a query tells the states of decisions."""
    needs = {f"needs_{action.rank}": rules.needed(action) for action in ACTIONS}
    return {"now": int(now.timestamp()), **needs}


def fold(name: str) -> str:
    """What is the same for all ways to write one name."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_name(text: str) -> str:
    """A person's name, without the spaces around it.

    Raises:
        InvalidInput: it is empty or too long, or has what nobody sees: it would make two people of one.
    """
    name = check_text(text, "a name", MAX_NAME)
    if not name.isprintable() or show_hidden(name) != name or _UNSEEN.search(name):
        raise InvalidInput(f"the name {name!r} has characters that nobody sees", "write the name without them")
    return name


def check_text(text: str, what: str, limit: int = 10 * MAX_NAME) -> str:
    """A text that a person gave, without the spaces around it.

    Raises:
        InvalidInput: it is empty or too long.
    """
    stripped = text.strip()
    if not 0 < len(stripped) <= limit:
        raise InvalidInput(f"{what} has 1 to {limit} characters")
    return stripped


def _conditions(wanted: Wanted) -> tuple[list[str], dict[str, Any]]:
    conditions, values = ["1"], dict[str, Any]()
    if wanted.state:
        if wanted.state not in list(State):
            raise InvalidInput(f"{wanted.state!r} is not a state", f"use one of {', '.join(State)}")
        conditions.append("state = :state")
        values["state"] = wanted.state
    if wanted.action:
        if wanted.action not in list(Action):
            raise InvalidInput(f"{wanted.action!r} is not an action", f"use one of {', '.join(Action)}")
        conditions.append("action = :action")
        values["action"] = Action(wanted.action).rank
    if wanted.pattern:
        conditions.append("substr(pattern_id, 1, length(:pattern)) = :pattern")
        values["pattern"] = "pattern--" + wanted.pattern.removeprefix("pattern--").lower()
    if wanted.subject:
        conditions.append("(subject = :subject OR number IN (SELECT decision FROM members WHERE account = :subject))")
        values["subject"] = wanted.subject
    if wanted.limit:
        values["limit"] = wanted.limit
    return conditions, values

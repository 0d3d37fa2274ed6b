"""Keeping the allow-list in the register: each entry with its owner, reason and expiry, and all that happened to it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Row

from member_client.backtest.legitimate import read_legitimate
from member_client.decisions.allow_list import Allowed, AllowKind, AllowList, check_id
from member_client.decisions.model import from_seconds
from member_client.decisions.register import MAX_NAME, Register, check_text
from member_client.errors import InvalidInput

ENDS_SOON = timedelta(days=14)
_COLUMNS = ("kind", "id", "owner", "reason", "expires")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be put on the allow-list; `checked` makes it."""

    kind: AllowKind
    id: str
    owner: str
    reason: str
    expires: datetime


def checked(kind: AllowKind, id: str, owner: str, reason: str, expires: str, now: datetime) -> Wish:
    """A wish in its one form.

    Args:
        expires: a day such as 2027-03-01; the entry holds to its beginning (UTC).

    Raises:
        InvalidInput: which part is not usable.
    """
    try:
        moment = datetime.strptime(expires.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"{expires!r} is not a day", "write it like 2027-03-01") from error
    if moment <= now:
        raise InvalidInput(f"{expires} is over", "an entry ends in the future")
    return Wish(
        kind, check_id(kind, id), check_text(owner, "an owner", MAX_NAME), check_text(reason, "a reason"), moment
    )


def add(register: Register, wishes: Iterable[Wish], who: str, now: datetime) -> dict[str, int]:
    """Put all of these on the list, or change what is there; gives how many were `added`, `changed` and `unchanged`."""
    counts = {"added": 0, "changed": 0, "unchanged": 0}
    ask, seconds = register.database.execute, int(now.timestamp())
    with register.transaction():
        for wish in wishes:
            said = (wish.owner, wish.reason, int(wish.expires.timestamp()))
            known = ask(
                "SELECT * FROM allowed WHERE kind = ? AND id = ? AND removed IS NULL", (wish.kind.value, wish.id)
            ).fetchone()
            if known is None:
                number = ask(
                    "INSERT INTO allowed (kind, id, owner, reason, expires, added) VALUES (?, ?, ?, ?, ?, ?)",
                    (wish.kind.value, wish.id, *said, seconds),
                ).lastrowid
            else:
                number = known["number"]
                if (known["owner"], known["reason"], known["expires"]) == said:
                    counts["unchanged"] += 1
                    continue
                ask("UPDATE allowed SET owner = ?, reason = ?, expires = ? WHERE number = ?", (*said, number))
            what = "added" if known is None else "changed"
            counts[what] += 1
            why = f"until {wish.expires:%Y-%m-%d}, {wish.owner}: {wish.reason}"
            _note(register, number, seconds, what, who, why)
    return counts


def remove(register: Register, number: int, who: str, reason: str, now: datetime) -> Allowed:
    """Take an entry off the list; it stays in the history.

    Raises:
        InvalidInput: there is none of this number.
    """
    with register.transaction():
        row = register.database.execute(
            "SELECT * FROM allowed WHERE number = ? AND removed IS NULL", (number,)
        ).fetchone()
        if row is None:
            raise InvalidInput(f"there is no entry {number} on the allow-list", "see `stillwatch allow list`")
        seconds = int(now.timestamp())
        register.database.execute("UPDATE allowed SET removed = ? WHERE number = ?", (seconds, number))
        _note(register, number, seconds, "removed", who, reason)
    return _allowed(row)


def entries(register: Register) -> Iterator[Allowed]:
    """All entries that were not removed, those that have expired too."""
    yield from map(_allowed, register.database.execute("SELECT * FROM allowed WHERE removed IS NULL ORDER BY number"))


def load(register: Register, now: datetime) -> AllowList:
    """The list as it holds now, with the accounts whose organisation or network is on it, as far as matches told."""
    listed = AllowList(entry for entry in entries(register) if entry.expires > now)
    if not any(entry.kind is not AllowKind.ACCOUNT for entry in listed):
        return listed
    remembered: dict[str, Allowed] = {}
    for account, kind, value in register.database.execute("SELECT account, kind, value FROM facts"):
        found = (
            listed.covers(now, organisation=value)
            if kind == AllowKind.ORGANISATION
            else listed.covers(now, address=value)
        )
        # Of a customer with many addresses, the one entry that holds the longest says it all.
        if found is not None and (account not in remembered or found.expires > remembered[account].expires):
            remembered[account] = found
    return AllowList(listed, remembered)


def inside(register: Register, listed: AllowList, organisation: str, now: datetime) -> Allowed | None:
    """An entry that covers an account which matches showed in this organisation; None if none does."""
    accounts = register.database.execute(
        "SELECT account FROM facts WHERE kind = 'organisation' AND value = ?", (organisation,)
    )
    return next((found for (account,) in accounts if (found := listed.covers(now, account=account)) is not None), None)


def wishes_of(written: str, owner: str, reason: str, expires: str, now: datetime) -> list[Wish]:
    """The entries that a file names: a CSV with the columns kind, id, owner, reason and expires; or only accounts.

    A file without these columns is read as `pattern backtest --legitimate` reads it, one account a line or a column
    `account.id` (`FILE:COLUMN`), and what it does not say is taken from the arguments.

    Raises:
        InvalidInput: the file cannot be read, or which line is not usable.
    """
    path = Path(written)
    if path.suffix.lower() == ".csv" and path.is_file():
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file, strict=True)
                if set(_COLUMNS[:2]) <= set(rows.fieldnames or ()):
                    return [
                        _wish(path, number, row, (owner, reason, expires), now) for number, row in enumerate(rows, 2)
                    ]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InvalidInput(f"{path} cannot be read: {error}", "give UTF-8 text") from error
    return [
        checked(AllowKind.ACCOUNT, account, owner, reason, expires, now) for account in sorted(read_legitimate(written))
    ]


def _wish(path: Path, number: int, row: dict[str, str], defaults: tuple[str, str, str], now: datetime) -> Wish:
    said = [row.get(name) or default for name, default in zip(_COLUMNS[2:], defaults, strict=True)]
    kind = (row["kind"] or "").strip()
    try:
        if kind not in list(AllowKind):
            raise InvalidInput(f"{kind!r} is not one of {', '.join(AllowKind)}")
        return checked(AllowKind(kind), row["id"] or "", said[0], said[1], said[2], now)
    except InvalidInput as error:
        raise InvalidInput(f"{path}:{number}: {error}", error.hint or "nothing was imported") from error


def _note(register: Register, number: int | None, seconds: int, what: str, who: str, why: str) -> None:
    register.database.execute(
        "INSERT INTO allow_history (entry, at, what, who, why) VALUES (?, ?, ?, ?, ?)",
        (number, seconds, what, who, why),
    )


def _allowed(row: Row) -> Allowed:
    return Allowed(
        row["number"],
        AllowKind(row["kind"]),
        row["id"],
        row["owner"],
        row["reason"],
        from_seconds(row["added"]),
        from_seconds(row["expires"]),
    )

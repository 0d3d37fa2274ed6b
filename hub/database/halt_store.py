"""Whether the log is halted, and the checkpoints that members have shown. The caller commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, Insert, Table, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import checkpoint_reports, log_halt, unproven_checkpoints

Kind = Literal["restored", "rolled back"]

_READ = select(log_halt.c.kind, log_halt.c.reason, log_halt.c.note, log_halt.c.since)


@dataclass(frozen=True, slots=True)
class Halt:
    """Why the log must not be extended or served.

    Attributes:
        kind: "restored" from a backup and not confirmed yet, or found to be "rolled back".
        reason: for the operator.
        note: a checkpoint that the log signed and does not extend, if one is known.
    """

    kind: Kind
    reason: str
    note: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """The largest checkpoint that a member has shown. `reporter` is the lab's id, or the id of an admin's key."""

    reporter: str
    size: int
    note: str
    reported_at: datetime


async def read_halt(connection: AsyncConnection) -> Halt | None:
    """The halt in force, None for a log in order."""
    row = (await connection.execute(_READ)).one_or_none()
    return None if row is None else Halt(*row)


async def halt(connection: AsyncConnection, kind: Kind, reason: str, note: str | None = None) -> bool:
    """Halt the log for every process; say whether that is news. A roll back takes the place of a restoration."""
    row = (await connection.execute(_halting(kind, reason, note).returning(log_halt.c.single))).one_or_none()
    return row is not None


def halt_restored(connection: Connection, reason: str) -> None:
    """Halt a log that has just been restored, in place of any halt that the backup may hold."""
    connection.execute(delete(log_halt))
    connection.execute(_halting("restored", reason, None))


async def lift_halt(connection: AsyncConnection) -> None:
    """Let the log go on."""
    await connection.execute(delete(log_halt))
    await connection.execute(delete(unproven_checkpoints))


async def put_report(connection: AsyncConnection, reporter: str, size: int, note: str) -> None:
    """Keep a checkpoint that a member has shown, if it is that member's largest."""
    await connection.execute(_putting(checkpoint_reports, reporter, size, note))


async def put_unproven(connection: AsyncConnection, reporter: str, size: int, note: str) -> None:
    """Keep likewise a checkpoint of which it is not known whether the log signed it, for as long as it is halted."""
    await connection.execute(_putting(unproven_checkpoints, reporter, size, note))


async def read_reports(connection: AsyncConnection) -> Sequence[Report]:
    """Every member's largest, the largest of all first."""
    return await _read(connection, checkpoint_reports)


async def read_unproven(connection: AsyncConnection) -> Sequence[Report]:
    """Likewise what `put_unproven` keeps."""
    return await _read(connection, unproven_checkpoints)


async def _read(connection: AsyncConnection, table: Table) -> Sequence[Report]:
    shown = table.c
    query = select(shown.reporter, shown.tree_size, shown.note, shown.reported_at)
    rows = await connection.execute(query.order_by(shown.tree_size.desc(), shown.reporter))
    return [Report(*row) for row in rows]


def _putting(table: Table, reporter: str, size: int, note: str) -> Insert:
    statement = upsert(table).values(reporter=reporter, tree_size=size, note=note)
    larger = statement.excluded.tree_size >= table.c.tree_size
    kept = {name: case((larger, statement.excluded[name]), else_=table.c[name]) for name in ("tree_size", "note")}
    return statement.on_conflict_do_update(index_elements=[table.c.reporter], set_={**kept, "reported_at": func.now()})


def _halting(kind: Kind, reason: str, note: str | None) -> Insert:
    statement = upsert(log_halt).values(kind=kind, reason=reason, note=note)
    return statement.on_conflict_do_update(
        index_elements=[log_halt.c.single],
        set_={name: statement.excluded[name] for name in ("kind", "reason", "note", "since")},
        where=(log_halt.c.kind == "restored") & (statement.excluded.kind == "rolled back"),
    )

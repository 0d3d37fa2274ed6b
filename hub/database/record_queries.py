"""Finding records: filters, text search and history over the projection, in log order."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, exists, false, func, literal, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import log_head, member_keys, members, record_heads, records
from sharing_protocol.membership import Status

_own, _own_heads, _own_keys = records.alias("own"), record_heads.alias("own_heads"), member_keys.alias("own_keys")
_VOUCHED_FOR = exists(
    select(_own.c.entry)
    .join(_own_heads, and_(_own_heads.c.id == _own.c.id, _own_heads.c.version == _own.c.version))
    .outerjoin(_own_keys, _own_keys.c.key_id == _own.c.signer)
    .where(
        _own.c.refers_to == records.c.id,
        _own.c.type == "endorsement",
        _own.c.author == records.c.author,
        _own.c.statement["body"]["pattern"]["entry"].astext == func.encode(records.c.leaf_hash, "hex"),
        _own_heads.c.withdrawn_at.is_(None),
        not_(func.coalesce(_own_keys.c.suspect_from <= _own.c.entry, false())),
    )
    .correlate(records)
)
"""Whether a pattern version's own lab endorsed it by a key that is not suspect."""
_IS_SUSPECT = and_(func.coalesce(member_keys.c.suspect_from <= records.c.entry, false()), not_(_VOUCHED_FOR))
"""Whether the key that signed a record was reported compromised from its index, or one below, on."""
_patterns = record_heads.alias("patterns")


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look for; None means anything.

    Attributes:
        author: a lab's id, or its name in any case.
        state: `active`, `withdrawn`, `suspect`, `expired` or `superseded`.
        technique: an ATLAS id; `AML.T0024` also finds its sub-techniques.
        text: words as a web search takes them ("quoted", or, -not).
    """

    type: str | None = None
    kind: str | None = None
    author: str | None = None
    state: str | None = None
    technique: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """One version of a record, with what else is known of it at the time of asking."""

    entry: int
    leaf_hash: bytes
    id: str
    type: str
    version: int
    author: str
    author_name: str
    created: datetime
    state: str
    kind: str | None
    title: str | None
    techniques: list[str]
    severity: str | None
    marking: str
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class SaidOf:
    """What a lab says of a pattern: a record's newest version, neither withdrawn nor expired.

    Attributes:
        statement: as JSON.
        suspect: whether its key was reported compromised from its index, or one below, on.
        lab_active: whether its author is neither suspended nor expelled.
        of_own: whether the pattern is its author's own.
    """

    entry: int
    statement: str
    suspect: bool
    lab_active: bool
    of_own: bool


async def find_records(
    connection: AsyncConnection, filters: Filters, now: datetime, after: int, limit: int
) -> tuple[list[FoundRecord], int]:
    """A page of records beyond log index `after`, in log order, and the log's size when it was made.

    The size is read first, and nothing beyond it is shown: a page never runs ahead of the size it names.
    """
    size: int = (await connection.execute(select(log_head.c.tree_size))).scalar_one()
    query = (
        _summaries(now)
        .where(records.c.entry > after, records.c.entry < size, *_conditions(filters, now))
        .order_by(records.c.entry)
        .limit(limit)
    )
    return [FoundRecord(*row) for row in await connection.execute(query)], size


async def read_versions(
    connection: AsyncConnection, record_id: str, now: datetime, limit: int, only: Collection[int] = ()
) -> list[tuple[FoundRecord, dict[str, Any]]]:
    """At most so many versions of a record, the oldest first, each with its statement.

    Args:
        only: the numbers of those that are wanted; () for all.
    """
    query = _summaries(now).add_columns(records.c.statement).where(records.c.id == record_id)
    if only:
        query = query.where(records.c.version.in_(only))
    rows = await connection.execute(query.order_by(records.c.version).limit(limit))
    return [(FoundRecord(*row[:-1]), row[-1]) for row in rows]


async def read_withdrawal(
    connection: AsyncConnection, record_id: str, now: datetime
) -> tuple[FoundRecord, dict[str, Any]] | None:
    """The withdrawal that names a record, or None."""
    at = select(record_heads.c.withdrawn_at).where(record_heads.c.id == record_id).scalar_subquery()
    query = _summaries(now).add_columns(records.c.statement).where(records.c.entry == at)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (FoundRecord(*row[:-1]), row[-1])


async def read_said_of(connection: AsyncConnection, pattern_id: str, now: datetime, limit: int) -> list[SaidOf]:
    """Sightings, opinions and endorsements of any version of a pattern, in log order; not what no longer can count."""
    columns = records.c
    query = (
        select(
            columns.entry,
            cast(columns.statement, Text),
            _IS_SUSPECT,
            members.c.status == Status.ACTIVE.value,
            _patterns.c.author == columns.author,
        )
        .join(record_heads, record_heads.c.id == columns.id)
        .join(_patterns, _patterns.c.id == columns.refers_to)
        .join(members, members.c.id == columns.author)
        .outerjoin(member_keys, member_keys.c.key_id == columns.signer)
        .where(
            columns.refers_to == pattern_id,
            columns.type.in_(("sighting", "opinion", "endorsement")),
            columns.version == record_heads.c.version,
            record_heads.c.withdrawn_at.is_(None),
            columns.valid_until > now,
        )
        .order_by(columns.entry)
        .limit(limit)
    )
    return [SaidOf(*row) for row in await connection.execute(query)]


async def read_version_entries(connection: AsyncConnection, record_id: str, limit: int) -> list[tuple[int, bytes]]:
    """Number and leaf hash of at most so many versions of a record, the oldest first."""
    query = select(records.c.version, records.c.leaf_hash).where(records.c.id == record_id)
    rows = await connection.execute(query.order_by(records.c.version).limit(limit))
    return [(version, leaf) for version, leaf in rows]


def _state(now: datetime) -> ColumnElement[str]:
    return case(
        (records.c.version < record_heads.c.version, literal("superseded")),
        (record_heads.c.withdrawn_at.is_not(None), literal("withdrawn")),
        (_IS_SUSPECT, literal("suspect")),
        (records.c.valid_until <= now, literal("expired")),
        else_=literal("active"),
    )


def _summaries(now: datetime) -> Select[Any]:
    columns = records.c
    return (
        select(
            columns.entry,
            columns.leaf_hash,
            columns.id,
            columns.type,
            columns.version,
            columns.author,
            members.c.name,
            columns.created,
            _state(now),
            columns.kind,
            columns.title,
            columns.techniques,
            columns.severity,
            columns.marking,
            columns.valid_until,
        )
        .join(record_heads, record_heads.c.id == columns.id)
        .join(members, members.c.id == columns.author)
        .outerjoin(member_keys, member_keys.c.key_id == columns.signer)
    )


def _conditions(filters: Filters, now: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.type is not None:
        conditions.append(records.c.type == filters.type)
    if filters.kind is not None:
        conditions.append(records.c.kind == filters.kind)
    if filters.author is not None:
        named = func.lower(members.c.name) == filters.author.lower()
        conditions.append(or_(records.c.author == filters.author, named))
    if filters.state is not None:
        conditions.append(_state(now) == filters.state)
    if filters.technique is not None:
        conditions.append(_has_technique(filters.technique))
    if filters.text is not None:
        conditions.append(records.c.search.op("@@")(func.websearch_to_tsquery("english", filters.text)))
    return conditions


def _has_technique(technique: str) -> ColumnElement[bool]:
    exactly = records.c.techniques.contains([technique])
    if technique.count(".") > 1:
        return exactly
    below = func.array_to_string(records.c.techniques, " ").like(f"%{technique}.%")
    return or_(exactly, and_(func.cardinality(records.c.techniques) > 0, below))

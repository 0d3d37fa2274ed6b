"""How many bytes of entries every member has added, hour by hour. The caller holds the log's lock, and commits.

A row says how many bytes there were *in all* by the end of its hour, so that two rows tell what was added between
them, and no row is ever needed but the newest and the one of a day before.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hub.database.tables import member_usage, members
from hub.quotas import Usage

# The server's clock, which all processes share. Read now, not at the transaction's begin: it may have waited for the
# lock meanwhile. And never before an hour that has a row, or the newest row would not be the largest.
_READ = text("""
    SELECT asked.member, coalesce(newest.bytes, 0), coalesce(before.bytes, 0),
        greatest(date_trunc('hour', clock_timestamp()), newest.hour)
    FROM unnest(CAST(:members AS text[])) AS asked (member)
    LEFT JOIN LATERAL (
        SELECT hour, bytes FROM member_usage AS usage WHERE usage.member = asked.member ORDER BY hour DESC LIMIT 1
    ) AS newest ON true
    LEFT JOIN LATERAL (
        SELECT bytes FROM member_usage AS usage
        WHERE usage.member = asked.member AND hour <= clock_timestamp() - interval '25 hours'
        ORDER BY hour DESC LIMIT 1
    ) AS before ON true
""")

_BEGIN_EARLIER = """
    INSERT INTO member_usage (member, hour, bytes)
    SELECT CAST(:member AS text), date_trunc('hour', clock_timestamp()) - interval '26 hours', 0
    WHERE NOT EXISTS (
        SELECT FROM member_usage WHERE member = :member AND hour <= clock_timestamp() - interval '25 hours'
    )
"""

_ADD = text("""
    INSERT INTO member_usage (member, hour, bytes)
    SELECT * FROM unnest(CAST(:members AS text[]), CAST(:hours AS timestamptz[]), CAST(:bytes AS bigint[]))
    ON CONFLICT (member, hour) DO UPDATE SET bytes = excluded.bytes
""")


@dataclass(frozen=True, slots=True)
class StoredUsage:
    """A member's usage, and the hour that what is added now belongs to."""

    usage: Usage
    hour: datetime


async def read(connection: AsyncConnection, asked: Collection[str]) -> dict[str, StoredUsage]:
    """The usage of each of these members."""
    if not asked:
        return {}
    rows = await connection.execute(_READ, {"members": sorted(asked)})
    return {row[0]: StoredUsage(Usage(row[1], row[2]), row[3]) for row in rows}


async def read_all(connection: AsyncConnection) -> dict[str, Usage]:
    """The usage of every member there ever was."""
    known = list((await connection.execute(select(members.c.id))).scalars())
    return {member: stored.usage for member, stored in (await read(connection, known)).items()}


async def add_earlier(connection: AsyncConnection, added: Mapping[str, int]) -> None:
    """Count bytes of entries that were added longer ago than a day, such as those that come back after a loss."""
    for member, size in added.items():
        await connection.execute(text(_BEGIN_EARLIER), {"member": member})
        await connection.execute(
            update(member_usage).where(member_usage.c.member == member).values(bytes=member_usage.c.bytes + size)
        )


async def add(connection: AsyncConnection, before: Mapping[str, StoredUsage], added: Mapping[str, int]) -> None:
    """Count bytes that were added to what was read before."""
    if not added:
        return
    await connection.execute(
        _ADD,
        {
            "members": list(added),
            "hours": [before[member].hour for member in added],
            "bytes": [before[member].usage.in_all + size for member, size in added.items()],
        },
    )

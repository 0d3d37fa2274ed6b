"""Asserting what a hub refuses: with which words, and that its log is as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import psycopg

from hub.database.connections import plain_url
from sharing_protocol import notes, wire
from sharing_protocol.envelope import Envelope
from tests.forum import ForumInABox, code_of

_TABLES = (
    "log_entries", "tiles", "checkpoints", "log_head", "records", "record_heads", "forum", "members", "member_keys",
    "proposals",
)  # fmt: skip
_COUNTED = " UNION ALL ".join(
    f"SELECT '{table}', count(*), md5(coalesce(string_agg(t::text, ' ' ORDER BY t::text), '')) FROM {table} t"
    for table in _TABLES
)


@dataclass(frozen=True)
class LogContents:
    """What a hub holds: its newest checkpoint as members get it, and each table's rows, counted and hashed."""

    checkpoint: str
    tables: dict[str, tuple[int, str]]

    @property
    def entries(self) -> int:
        """Rows of the log."""
        return self.tables["log_entries"][0]


def contents(box: ForumInABox, reader: str = "Ada") -> LogContents:
    """Read the log over HTTP and in Postgres; a hub without a forum has no checkpoint, and no reader either."""
    response = box.get(wire.CHECKPOINT, reader)
    checkpoint = notes.parse(response.content).text if response.status_code == 200 else code_of(response)
    url = plain_url(box.hub.database_url)
    with psycopg.connect(url) as connection:
        rows = connection.execute(_COUNTED.encode()).fetchall()
    return LogContents(checkpoint, {table: (count, digest) for table, count, digest in rows})


def problem_of(response: httpx.Response, status: int, code: str, where: str = "", says: str = "") -> wire.Problem:
    """A response that must be this problem document; `says` is a part of its sentence for people."""
    assert code_of(response) == code, response.text
    assert response.status_code == status
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("www-authenticate") == ('Signature realm="stillwatch"' if status == 401 else None)
    problem = wire.Problem.model_validate_json(response.content)
    assert problem.title
    assert problem.where == where, problem
    assert says in problem.detail, problem.detail
    return problem


def refused(
    box: ForumInABox,
    send: Callable[[], httpx.Response],
    status: int,
    code: str,
    where: str = "",
    says: str = "",
    reader: str = "Ada",
) -> wire.Problem:
    """Do what the hub must refuse with this problem, and see that nothing it holds has changed.

    Args:
        says: a part of the sentence for people.
        reader: name of a key that may read the checkpoint before and after.
    """
    before = contents(box, reader)
    problem = problem_of(send(), status, code, where, says)
    assert contents(box, reader) == before
    return problem


def refuses(
    box: ForumInABox,
    made: Envelope | bytes,
    sender: str,
    status: int,
    code: str,
    where: str = "",
    says: str = "",
) -> wire.Problem:
    """Send an entry that the hub must refuse with this problem, without any effect."""
    body = made.encode() if isinstance(made, Envelope) else made
    return refused(box, lambda: box.post(wire.ENTRIES, body, sender), status, code, where, says)

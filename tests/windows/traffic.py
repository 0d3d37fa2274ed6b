"""Small invented traffic: a request is a dict of the catalogue's fields, and a log is a list of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from member_client.detection.rows import template_of
from member_client.windows import build_windows
from sharing_protocol.pattern_logic.catalogue import Category, FieldType, fields_in

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MONDAY = 1_772_409_600 * SECOND  # 2026-03-02T00:00:00Z

_ARROW = {
    FieldType.TEXT: pa.string(),
    FieldType.ADDRESS: pa.string(),
    FieldType.INTEGER: pa.float64(),
    FieldType.NUMBER: pa.float64(),
    FieldType.SHARE: pa.float64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TIME: pa.int64(),
}

Request = Mapping[str, Any]
Row = dict[str, Any]

WORDS = [
    "river",
    "stone",
    "market",
    "window",
    "garden",
    "letter",
    "engine",
    "planet",
    "doctor",
    "bridge",
    "summer",
    "coffee",
    "ticket",
    "camera",
    "forest",
    "mirror",
    "pocket",
    "silver",
    "dinner",
    "island",
    "violin",
    "puzzle",
    "rocket",
    "butter",
    "candle",
    "desert",
    "feather",
    "harbor",
    "jacket",
    "kettle",
]
VERBS = ["describe", "compare", "translate", "summarise", "explain", "draft", "check", "improve", "shorten", "plan"]


def sentence(rng: random.Random, words: Sequence[str] = WORDS, length: int = 12) -> str:
    return f"{rng.choice(VERBS)} {' '.join(rng.choice(words) for _ in range(length))}"


def with_template(request: Request) -> Row:
    """As a reader hands it on: with a `prompt.template`."""
    prompt = request.get("prompt.text")
    return dict(request) if prompt is None else {"prompt.template": template_of(prompt)} | dict(request)


def table(requests: Iterable[Request]) -> pa.Table:
    """The canonical relation."""
    rows = [with_template(request) | {"event.id": number} for number, request in enumerate(requests, start=1)]
    columns = {"event.id": pa.int64()} | {
        field.name: _ARROW[field.type] for field in fields_in(Category.REQUEST).values()
    }
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in columns.items()})


def windows_of(
    requests: Iterable[Request], *, threads: int = 2, hits: Iterable[int] | None = None, **options: Any
) -> duckdb.DuckDBPyConnection:
    """A connection with the windows of these requests; `hits` are numbers of requests, from 1."""
    connection = duckdb.connect(config={"threads": threads})
    connection.register("requests", table(requests))
    if hits is not None:
        connection.register("hits", pa.table({"event_id": pa.array(list(hits), pa.int64())}))
        options["query_pattern_hits"] = "hits"
    build_windows(connection, **options)
    return connection


def rows(connection: duckdb.DuckDBPyConnection, relation: str) -> list[Row]:
    """All rows of a relation in order, as dicts."""
    found: list[Row] = connection.table(relation).to_arrow_table().to_pylist()
    return found


def members(connection: duckdb.DuckDBPyConnection, kind: str, hours: int = 24) -> list[set[str]]:
    """The accounts of each cluster of a kind, the largest first."""
    found = connection.execute(
        """select list("account.id") from cluster_member join cluster_window on "event.id" = cluster
        where "cluster.key_kind" = $kind and "window.hours" = $hours group by cluster""",
        {"kind": kind, "hours": hours},
    ).fetchall()
    return sorted((set(accounts) for (accounts,) in found), key=len, reverse=True)


def ordinary_account(number: int, rng: random.Random, start: int = MONDAY, requests: int = 4) -> list[Request]:
    """A day of somebody unremarkable: a popular client, an address of their own network, any subject."""
    account = {
        "account.id": f"ordinary-{number}",
        "account.created": start - rng.randrange(1, 700 * 24) * HOUR - rng.randrange(HOUR),
        "payment.fingerprint": f"card-{number}",
        "network.asn": float(rng.randrange(60)),
        "network.ip": f"10.{rng.randrange(64)}.{rng.randrange(64)}.{rng.randrange(1, 255)}",
        "client.fingerprint": f"client-{min(int(rng.expovariate(0.4)), 15)}",
        "org.id": f"org-{number // 7}" if number % 5 == 0 else None,
    }
    return [
        account | {"timestamp": start + rng.randrange(DAY), "prompt.text": sentence(rng), "prompt.turns": 1}
        for _ in range(requests)
    ]

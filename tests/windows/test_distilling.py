"""Windows are the same if requests were distilled elsewhere, batch by batch, and no text came along."""

from __future__ import annotations

import random
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.windows import build_windows
from member_client.windows.distilling import Distilled, Distiller, Text
from tests.windows.test_demand import week
from tests.windows.test_features import requests
from tests.windows.traffic import Request, Row, rows, table, windows_of

RELATIONS = ("account_window", "cluster_window", "cluster_member")


class Elsewhere:
    """Where the requests are; it remembers of which it was asked for texts."""

    def __init__(self, log: list[Request], size: int) -> None:
        self.asked: dict[Text, int] = {}
        self._batches = table(log).to_batches(max_chunksize=size)
        self._distillers = [Distiller(duckdb.connect(config={"threads": 1})) for _ in range(2)]

    def rows(self) -> pa.Table:
        """The narrow rows of all batches, the last batch first."""
        parts = [self._distillers[n % 2].rows(batch) for n, batch in enumerate(self._batches)]
        return pa.concat_tables(parts[::-1])

    def windows(self, **options: Any) -> duckdb.DuckDBPyConnection:
        """A connection with the windows, which never saw the requests."""
        connection = duckdb.connect(config={"threads": 2})
        connection.register("narrow", self.rows())

        def texts(text: Text, events: str, into: str) -> None:
            wanted = {event for (event,) in connection.execute(f"select event from {events}").fetchall()}
            self.asked[text] = len(wanted)
            found = [row for batch in self._batches for row in self._distillers[0].texts(batch, [text]).to_pylist()]
            kept = [(row["event"], row[text.name]) for row in found if row["event"] in wanted]
            connection.execute(f"create or replace temp table {into} (event bigint, text varchar)")
            if kept:
                connection.executemany(f"insert into {into} values (?, ?)", kept)

        build_windows(connection, requests=Distilled("narrow", texts), **options)
        return connection


def built(connection: duckdb.DuckDBPyConnection) -> list[list[Row]]:
    return [rows(connection, name) for name in RELATIONS]


def test_campaigns_are_the_same_and_few_texts_are_asked_for() -> None:
    log = week(random.Random(4))
    elsewhere = Elsewhere(log, 100)
    found = built(elsewhere.windows())
    assert found == built(windows_of(log))
    assert any(row["window.mmd_z"] is not None for row in found[1])
    assert {"template", "component"} <= {row["cluster.key_kind"] for row in found[1]}
    assert elsewhere.asked[Text.TEMPLATE] == 1


@settings(max_examples=5, deadline=None)
@given(log=st.lists(requests, min_size=1, max_size=40), size=st.sampled_from([1, 7, 100]))
def test_random_requests_give_the_same_windows(log: list[Request], size: int) -> None:
    assert built(Elsewhere(log, size).windows()) == built(windows_of(log))


@pytest.mark.parametrize("field", ["prompt.text", "prompt.system", "prompt.template", "gen_ai.conversation.id"])
def test_no_text_is_in_the_narrow_rows(field: str) -> None:
    secret = "xylophone quartz " * 9
    log: list[Request] = [{"timestamp": 1, "account.id": "a", field: secret}]
    (row,) = Elsewhere(log, 1).rows().to_pylist()
    assert not any(isinstance(value, str) and "quartz" in value for value in row.values())
    assert not any(isinstance(value, bytes) for value in row.values())


def test_requests_without_an_account_still_say_when_a_model_was_released() -> None:
    day = 86_400_000_000
    log: list[Request] = [
        {"timestamp": day, "gen_ai.request.model": "m"},
        {"timestamp": 3 * day, "account.id": "a", "gen_ai.request.model": "m"},
        {"account.id": "a", "gen_ai.request.model": "m"},
    ]
    found = rows(Elsewhere(log, 1).windows(hours=(24,)), "account_window")
    assert [(row["window.requests"], row["window.new_model_share"]) for row in found] == [(1, 0)]

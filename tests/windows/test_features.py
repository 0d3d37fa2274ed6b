"""The windows in SQL say what the plain reference says, whatever the order of the rows."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from member_client.windows.distilling import REASONING_ELICITATION, RUBRIC_ELICITATION
from sharing_protocol.pattern_logic.catalogue import Category, fields_in
from tests.windows.reference import Log, account_windows, cluster_windows
from tests.windows.traffic import DAY, HOUR, MONDAY, SECOND, Request, Row, members, rows, windows_of

LENGTHS = (1, 24, 168)
PROMPTS = (
    "Name three rivers.",
    "Explain step by step why the river Danube flows into the Black Sea, please",
    "Explain step by step why the river Danube flows into the North Sea, please",
    "  Rate the following answer from 1 to 10 and write\n a rubric for Straßenbahn and Ärger  ",
    "one two three four five six seven eight",
    "one two three four five six seven eight 9 10 11",
    "one two three four five six seven eight nine Zebra zebra yak internationalisation",
    "",
)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


requests = st.fixed_dictionaries(
    {
        "timestamp": maybe(st.integers(MONDAY - 3 * DAY, MONDAY + 5 * DAY)) | st.integers(MONDAY, MONDAY + 3 * HOUR),
        "account.id": maybe(st.sampled_from("abcdef")),
        "account.created": maybe(st.sampled_from([MONDAY - 90 * DAY, MONDAY - DAY, MONDAY - DAY + 1, -HOUR, MONDAY])),
        "org.id": maybe(st.sampled_from(["o1", "o2"])),
        "payment.fingerprint": maybe(st.sampled_from(["p1", "p2"])),
        "network.ip": maybe(st.sampled_from(["192.0.2.1", "192.0.2.9", "198.51.100.7"])),
        "network.asn": maybe(st.sampled_from([1.0, 64500.0])),
        "client.fingerprint": maybe(st.sampled_from(["c1", "c2", "c3"])),
        "gen_ai.request.model": maybe(st.sampled_from(["m1", "m2"])),
        "gen_ai.conversation.id": maybe(st.sampled_from(["1", "2", "3"])),
        "gen_ai.usage.input_tokens": maybe(st.integers(0, 900).map(float)),
        "gen_ai.usage.output_tokens": maybe(st.integers(0, 9_000_000_000).map(float)),
        "prompt.text": maybe(st.sampled_from(PROMPTS)),
        "prompt.system": maybe(st.sampled_from(["Think out loud.", "Be brief."])),
        "prompt.turns": maybe(st.sampled_from([1.0, 2.0])),
    }
)


def differences(found: Row, wanted: Row) -> dict[str, tuple[Any, Any]]:
    def same(one: Any, other: Any) -> bool:
        both_numbers = isinstance(one, float) and isinstance(other, float | int)
        return math.isclose(one, other, abs_tol=1e-6) if both_numbers else bool(one == other)

    return {field: (found[field], value) for field, value in wanted.items() if not same(found[field], value)}


@settings(max_examples=10, deadline=None)
@given(log=st.lists(requests, max_size=40), data=st.data())
def test_every_feature_of_accounts_and_clusters_agrees_with_the_reference(
    log: list[Request], data: st.DataObject
) -> None:
    hits = data.draw(st.none() | st.sets(st.integers(1, max(len(log), 1))))
    batch = data.draw(st.sampled_from([20, 1000]))
    reference = Log(log, hits)
    connection = windows_of(log, hits=hits, hours=LENGTHS, batch_requests=batch)
    found, wanted = rows(connection, "account_window"), account_windows(reference, LENGTHS) if reference.counted else []
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert not differences(one, other)

    accounts: dict[int, set[str]] = {}
    for cluster, account in connection.execute("select * from cluster_member").fetchall():
        accounts.setdefault(cluster, set()).add(account)
    single = [row for row in rows(connection, "cluster_window") if row["cluster.key_kind"] != "component"]
    expected = cluster_windows(reference, LENGTHS) if reference.counted else []
    assert len(single) == len(expected)
    unmatched = [(row, accounts[row["event.id"]]) for row in single]
    for row, its in expected:
        match = next(
            (i for i, (one, those) in enumerate(unmatched) if those == its and not differences(one, row)), None
        )
        assert match is not None, row
        del unmatched[match]


def test_windows_have_exactly_the_fields_of_the_catalogue() -> None:
    connection = windows_of([{"timestamp": MONDAY, "account.id": "a"}])
    for category in (Category.ACCOUNT_WINDOW, Category.CLUSTER_WINDOW):
        assert set(connection.table(str(category)).columns) == {"event.id", *fields_in(category)}


def test_no_requests_no_windows() -> None:
    connection = windows_of([])
    assert rows(connection, "account_window") == rows(connection, "cluster_window") == []


def test_a_length_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="1, 24 or 168 hours, not 12"):
        windows_of([], hours=(24, 12))


def test_only_the_windows_that_end_in_the_asked_time_are_built() -> None:
    log = [{"timestamp": MONDAY + day * DAY, "account.id": "a"} for day in range(5)]
    connection = windows_of(log, hours=(24, 168), ends_after=MONDAY + 2 * DAY, ends_by=MONDAY + 4 * DAY)
    found = [
        (row["window.hours"], row["timestamp"], row["window.requests_before"])
        for row in rows(connection, "account_window")
    ]
    assert found == [
        (24, MONDAY + 3 * DAY, 1),
        (24, MONDAY + 4 * DAY, 1),
        (168, MONDAY + 3 * DAY, 0),
        (168, MONDAY + 4 * DAY, 0),
    ]


def test_a_release_that_the_lab_knows_counts_before_the_first_request() -> None:
    log = [{"timestamp": MONDAY + hour * HOUR, "account.id": "a", "gen_ai.request.model": "m"} for hour in range(4)]
    assert rows(windows_of(log, hours=(24,)), "account_window")[0]["window.new_model_share"] == 1


def test_addresses_of_one_ipv6_site_are_one_subnet_however_they_are_written() -> None:
    written = {
        "a": "2001:db8:1::1",
        "b": "2001:0DB8:0001:ffff::2",
        "c": "2001:db8:2::1",
        "d": "2001:db8::1",
        "e": "2001:db8:0:7::1",
        "f": "::ffff:192.0.2.3",
        "g": "192.0.2.200",
        "h": "not an address",
        "i": "not an address",
    }
    log = [{"timestamp": MONDAY, "account.id": account, "network.ip": ip} for account, ip in written.items()]
    assert sorted(map(sorted, members(windows_of(log, hours=(24,)), "subnet"))) == [["a", "b"], ["d", "e"], ["f", "g"]]


def test_order_threads_and_batches_of_the_requests_do_not_show() -> None:
    rng = random.Random(8)
    log = [
        {
            "timestamp": MONDAY + rng.randrange(2 * DAY),
            "account.id": f"a{(account := rng.randrange(60))}",
            "client.fingerprint": f"c{account % 4}",
            "gen_ai.usage.output_tokens": rng.random() * 1000,
            "prompt.text": " ".join(rng.choice(["alpha", "beta", "gamma", "delta", "epsilon"]) for _ in range(9)),
        }
        for _ in range(3000)
    ]

    def built(threads: int, batch: int) -> list[list[Row]]:
        connection = windows_of(log, threads=threads, batch_requests=batch)
        return [rows(connection, name) for name in ("account_window", "cluster_window", "cluster_member")]

    first = built(1, 10_000_000)
    assert any(row["window.mmd_z"] is not None for row in first[1])
    rng.shuffle(log)
    assert built(4, 500) == first


def test_a_metronome_and_chance_differ_in_their_gaps() -> None:
    rng = random.Random(1)
    log = [{"timestamp": MONDAY + n * 60 * SECOND, "account.id": "metronome"} for n in range(500)]
    log += [{"timestamp": MONDAY + rng.randrange(DAY), "account.id": "chance"} for _ in range(500)]
    chance, metronome = rows(windows_of(log, hours=(24,)), "account_window")
    assert metronome["window.gap_variation"] == 0
    assert 0.85 < chance["window.gap_variation"] < 1.15


def test_the_expressions_are_the_documented_ones() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "log-sources.md").read_text(encoding="utf-8")
    assert f"`{REASONING_ELICITATION}`" in page
    assert RUBRIC_ELICITATION in page.replace("\n  |", "|")

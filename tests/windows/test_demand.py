"""What no pattern could match is not built, and what is built does not depend on that."""

from __future__ import annotations

import random
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from member_client.evaluation.candidates import starters
from member_client.windows.demand import ACCOUNT, COMPONENT, EVERYTHING, KINDS, LENGTHS, Demand, demands
from sharing_protocol.pattern_logic import Logic, compile_logic
from sharing_protocol.pattern_logic.catalogue import Category, fields_in
from sharing_protocol.pattern_logic.conditions import (
    All,
    Comparison,
    Condition,
    Either,
    Not,
    NumberTest,
    PresenceTest,
    TextTest,
    Wildcard,
)
from sharing_protocol.pattern_logic.events import Event
from sharing_protocol.pattern_logic.logic import Rule
from sharing_protocol.pattern_logic.predicates import build
from tests.pattern_logic.documents import rule
from tests.windows.traffic import DAY, MONDAY, Request, ordinary_account, rows, windows_of

FIELDS = fields_in(Category.CLUSTER_WINDOW)
NUMBERS = st.sampled_from([0, 1, 2, 3, 8, 9.5, 10, 24, 168])
tests = (
    st.builds(
        NumberTest,
        st.sampled_from(["window.hours", "cluster.accounts", "cluster.units", "window.requests"]),
        st.sampled_from(Comparison),
        NUMBERS,
    )
    | st.builds(TextTest, st.just("cluster.key_kind"), st.sampled_from([(kind,) for kind in KINDS]), st.booleans())
    | st.just(TextTest("cluster.key_kind", ("c", Wildcard.RUN), True))
    | st.builds(PresenceTest, st.sampled_from(["window.hours", "cluster.key_kind", "cluster.units"]), st.booleans())
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    tests,
    lambda parts: (
        st.builds(Not, parts)
        | st.lists(parts, min_size=1, max_size=3).map(lambda some: All(tuple(some)))
        | st.lists(parts, min_size=1, max_size=3).map(lambda some: Either(tuple(some)))
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    condition=conditions,
    hours=st.sampled_from(LENGTHS),
    kind=st.sampled_from(KINDS),
    accounts=st.integers(2, 12),
    data=st.data(),
)
def test_whatever_a_rule_matches_is_in_demand(
    condition: Condition, hours: int, kind: str, accounts: int, data: st.DataObject
) -> None:
    holds = build(condition, FIELDS.__getitem__)
    asked = demands([Logic(Category.CLUSTER_WINDOW, (Rule("r", "r", condition, True, holds),), ())])
    window: dict[str, Any] = {
        "window.hours": hours,
        "cluster.key_kind": kind,
        "cluster.accounts": accounts,
        "cluster.units": data.draw(st.integers(1, accounts)),
        "window.requests": data.draw(st.integers(1, 30)),
    }
    if holds(Event(window)):
        assert any((one.hours, one.kind) == (hours, kind) and one.least <= accounts for one in asked)


def over(category: str, **selection: Any) -> Logic:
    return compile_logic([rule(category=category, s=selection)])


def test_several_patterns_ask_for_the_least_of_each_length_and_kind() -> None:
    small = {"window.hours": 24, "cluster.key_kind": "payment", "cluster.accounts|gte": 5}
    large = {"window.hours": [24, 168], "cluster.key_kind": "payment", "cluster.units|gt": 7, "window.mmd_z|gte": 3}
    assert demands([over("cluster_window", **small), over("cluster_window", **large)]) == {
        Demand(24, "payment", 5, unlikeness=True),
        Demand(168, "payment", 8, unlikeness=True),
    }
    assert demands([over("account_window", **{"window.hours|lt": 20, "window.requests|gte": 9})]) == {
        Demand(1, ACCOUNT, 1, unlikeness=False)
    }
    assert demands([over("request", **{"prompt.text|contains": "tasks"})]) == frozenset()
    assert demands([over("cluster_window", **{"window.requests|gte": 9})]) == {
        Demand(hours, kind, 2, unlikeness=False) for hours in LENGTHS for kind in KINDS
    }


def test_no_starter_asks_for_clusters_of_fewer_than_eight_accounts_or_for_hours() -> None:
    asked = demands(one.logic for one in starters())
    assert {one.hours for one in asked} == {24, 168}
    assert min(one.least for one in asked if one.kind != ACCOUNT) == 8
    assert {one.hours for one in demands(one.logic for one in starters(["new-model-rush"]))} == {24}


def week(rng: random.Random) -> list[Request]:
    """A few days of some ordinary accounts, and of twelve that share cards, subnets, clients and templates."""
    log = [one for n in range(120) for one in ordinary_account(n, rng, MONDAY + rng.randrange(3) * DAY)]
    for number in range(12):
        shared = {
            "account.id": f"pool-{number}",
            "account.created": MONDAY - DAY + number,
            "payment.fingerprint": f"pool-{number // 4}",
            "network.ip": f"192.0.2.{number}",
            "client.fingerprint": f"client-{number % 2}",
            "prompt.turns": 1,
        }
        log += [
            shared
            | {
                "timestamp": MONDAY + rng.randrange(3 * DAY),
                "prompt.text": f"Write one more question like these ones and answer it {rng.random()}",
            }
            for _ in range(6)
        ]
    return log


def test_what_is_built_is_the_same_whatever_else_is() -> None:
    log = week(random.Random(4))
    whole = windows_of(log)
    accounts, clusters = rows(whole, "account_window"), rows(whole, "cluster_window")
    assert any(one["cluster.key_kind"] == COMPONENT and one["window.mmd_z"] for one in clusters)

    def bare(row: dict[str, Any], *, scored: bool = True) -> tuple[Any, ...]:
        return tuple(value for name, value in row.items() if name != "event.id" and (scored or name != "window.mmd_z"))

    some = frozenset({Demand(24, "subnet", 3, unlikeness=False), Demand(168, COMPONENT, 8), Demand(24, "payment", 2)})
    built = windows_of(log, demands=some)
    assert {bare(one, scored=False) for one in rows(built, "account_window")} == {
        bare(one, scored=False) for one in accounts if one["window.hours"] in (24, 168)
    }
    least = {(one.hours, one.kind): one for one in some}
    wanted = [
        (one, least[key])
        for one in clusters
        if (key := (one["window.hours"], one["cluster.key_kind"])) in least
        and one["cluster.accounts"] >= least[key].least
    ]
    assert {one["cluster.key_kind"] for one, _ in wanted} == {"subnet", "payment", COMPONENT}
    assert {bare(one) for one in rows(built, "cluster_window")} == {
        bare(one if demand.unlikeness else one | {"window.mmd_z": None}) for one, demand in wanted
    }
    members = 'select count(*) from cluster_member join cluster_window on cluster = "event.id"'
    (found,) = built.execute(members).fetchall()
    assert found == (sum(one["cluster.accounts"] for one, _ in wanted),)
    assert rows(windows_of(log, demands=EVERYTHING), "cluster_window") == clusters

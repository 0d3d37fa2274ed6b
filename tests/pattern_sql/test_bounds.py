"""What a pattern of few words may become as SQL."""

from __future__ import annotations

from typing import Any

import pytest

from member_client.pattern_sql import DIALECTS, Unsupported, compile_sql
from member_client.pattern_sql.compiling import MAX_SQL
from sharing_protocol.pattern_logic import Logic, compile_logic
from sharing_protocol.pattern_logic.conditions import All, Either, SameAs, TextTest, Wildcard
from tests.pattern_logic.documents import rule

SAME = {"prompt.text|fieldref": "prompt.system"}


def test_what_is_said_twice_is_asked_once() -> None:
    (asked,) = compile_logic([rule(" and ".join(["s"] * 80), s=[SAME] * 32)]).rules
    assert asked.condition == SameAs("prompt.text", "prompt.system")


def test_the_order_of_different_parts_stays() -> None:
    words = {name: TextTest("prompt.text", (Wildcard.RUN, name, Wildcard.RUN), cased=False) for name in "abc"}
    selections: dict[str, Any] = {name: {"prompt.text|contains": name} for name in words}
    (asked,) = compile_logic([rule(["b and a and b", "c", "b and a"], **selections)]).rules
    assert asked.condition == Either((All((words["b"], words["a"])), words["c"]))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_sql_of_half_a_megabyte_is_refused(dialect: str) -> None:
    def logic(count: int) -> Logic:
        return compile_logic([rule(s=[{**SAME, "prompt.turns": number} for number in range(count)])])

    assert len(compile_sql(logic(8), dialect).query.encode()) < MAX_SQL
    selections: dict[str, Any] = {f"s{n}": [{**SAME, "prompt.turns": 32 * n + m} for m in range(32)] for n in range(8)}
    with pytest.raises(Unsupported, match="too large as SQL"):
        compile_sql(compile_logic([rule("1 of s*", **selections)]), dialect)

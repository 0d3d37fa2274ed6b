"""Spark puts settings and the environment for every `${…}` of a statement: none of a pattern's may reach it."""

from __future__ import annotations

import pytest
from sqlglot import exp, parse_one

from member_client.pattern_sql import compile_sql
from member_client.pattern_sql.dialects import spark_constant
from sharing_protocol.pattern_logic import compile_logic
from tests.pattern_logic.documents import rule


def meant(constant: exp.Expr) -> str:
    """The text of a constant, or of constants that are put together."""
    return "".join(part.name for part in constant.find_all(exp.Literal, bfs=False))


@pytest.mark.parametrize("text", ["", "$", "{", "a$b", "${", "${env:HOME}", "x${a}${b}y", "$${a}", "a'\\${b}", "{${"])
def test_a_constant_stays_what_it_is(text: str) -> None:
    written = spark_constant(text).sql(dialect="spark")
    assert "${" not in written
    assert meant(parse_one(written, read="spark")) == text


@pytest.mark.parametrize(
    "selection",
    [
        {"prompt.text": "${env:HOME}"},
        {"prompt.text|contains|cased": "${env:HOME}"},
        {"prompt.text|startswith|cased": "${env:HOME}"},
        {"prompt.text|endswith|cased": "a${spark.app.id}"},
        {"prompt.text|cased": "${env:HOME}"},
        {"prompt.text|re": "x[${]env:HOME[}]"},
        {"prompt.text|re": r"\$\{env:HOME\}"},
    ],
)
def test_nothing_of_a_pattern_is_substituted(selection: dict[str, str]) -> None:
    untitled = {**rule(s=selection), "title": "${env:PATH}"}
    del untitled["name"]  # so it goes by its title
    compiled = compile_sql(compile_logic([untitled]), "spark")
    assert "${" not in compiled.query
    assert "${" not in compiled.rules[0].where
    assert "PATH" in compiled.query

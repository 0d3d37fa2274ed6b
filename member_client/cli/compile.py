"""`stillwatch compile`: a pattern as SQL that a lab can schedule in its own engine."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from member_client.cli import output
from member_client.cli.chosen_pattern import ChosenPattern, choose_pattern
from member_client.cli.output import HomeOption, JsonOption
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.statements.header import show_hidden


class Target(StrEnum):
    """The engines that there is SQL for."""

    DUCKDB = "duckdb"
    SPARK = "spark"
    TRINO = "trino"
    BIGQUERY = "bigquery"
    SNOWFLAKE = "snowflake"


def compile_pattern(
    pattern: Annotated[
        str, typer.Argument(help="A record's id, or the beginning of one; or a pattern file.", show_default=False)
    ],
    target: Annotated[Target, typer.Option("--target", "-t", help="The engine.")] = Target.DUCKDB,
    table: Annotated[
        str,
        typer.Option(help="The table, as the engine writes its name; by default the category's.", show_default=False),
    ] = "",
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, help="Of a record; by default the newest.", metavar="N", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.", metavar="FILE")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a pattern as one SQL query: one row a match, the same matches as `detect` finds.

    docs/log-sources.md says what columns the table has and what the query gives. Exits 2 with the reason if the engine
    cannot say exactly what the pattern means.
    """
    from member_client.pattern_sql import compile_sql  # slow to load

    source = choose_pattern(pattern, version, home)
    over = table or _default_table(source.logic)
    compiled = compile_sql(source.logic, target.value, over)
    text = _header(source, target, over) + compiled.query + ";\n"
    if out is not None:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"cannot write {out}: {error.strerror}", "choose another --output") from error
    if as_json:
        rules = [
            {"name": rule.name, "title": rule.title, "emits": rule.emits, "where": rule.where}
            for rule in compiled.rules
        ]
        output.print_json(
            {
                "title": source.body.title,
                "origin": source.origin,
                "target": target.value,
                "table": over,
                "category": compiled.category.value,
                "columns": sorted(source.logic.required_fields),
                "rules": rules,
                "query": compiled.query,
            }
        )
    elif out is None:
        # a terminal would obey what a value says to it; a file gets the exact query
        typer.echo(show_hidden(text) if sys.stdout.isatty() else text, nl=False)
    else:
        output.say(f"query for {target} written to {out}", "green")


def _default_table(logic: Logic) -> str:
    return "requests" if logic.category == "request" else logic.category.value


def _header(source: ChosenPattern, target: Target, table: str) -> str:
    columns = ", ".join(["event.id", "timestamp", *sorted(source.logic.required_fields - {"timestamp"})])
    named = " (with _ for each . in their names)" if target is Target.BIGQUERY else ""
    lines = [
        source.body.title,
        source.origin,
        f"{target.value}; {table}: one row an event of category {source.logic.category}, as docs/log-sources.md has it",
        f"columns{named}: {columns}",
    ]
    # one line each, whatever a title has in it: what follows a line break would be taken for SQL
    return "".join(f"-- {' '.join(line.split())}\n" for line in lines)

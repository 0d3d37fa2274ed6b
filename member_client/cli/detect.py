"""`stillwatch detect`: run the patterns in force over this lab's own request logs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.chosen_pattern import check_is_id
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.reading_logs import (
    Broken,
    FilesArgument,
    LogsOption,
    MapOption,
    MemoryOption,
    SinceOption,
    progress,
    sources_of,
    warn_left_out,
    warn_missing,
    warn_unreadable,
)
from member_client.detection import runs
from member_client.detection.detecting import Options, Place, Result, parse_memory, parse_since
from member_client.detection.detecting import detect as run_detection
from member_client.detection.findings import Summary, Tally, check_target, to_parquet
from member_client.detection.in_force import Selection, select
from member_client.detection.log_settings import all_files
from member_client.detection.request_logs import STDIN, total_bytes
from member_client.detection.spark_engine import check_pyspark, only_on_spark, spark_session
from member_client.errors import InvalidInput
from member_client.patterns.finding import short_id
from member_client.patterns.trials import try_new


class EngineName(StrEnum):
    """What evaluates the patterns."""

    DUCKDB = "duckdb"
    REFERENCE = "reference"
    SPARK = "spark"


def detect(
    files: FilesArgument = None,
    logs: LogsOption = None,
    patterns: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            help="Only this record (repeatable); `pattern backtest` runs a file.",
            metavar="ID",
            show_default=False,
        ),
    ] = None,
    since: SinceOption = "",
    new: Annotated[
        bool | None,
        typer.Option(
            "--new/--whole",
            help="Read only what no earlier run with --new has read, or all of it. "
            "By default --new for the sources of logs.toml, --whole for files that you name.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write the matches: JSON lines, or Parquet if so called; by default into the home.",
            metavar="FILE",
        ),
    ] = None,
    mappings: MapOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 if any row is broken.")] = False,
    memory: MemoryOption = "2GB",
    engine: Annotated[
        EngineName,
        typer.Option(help="The reference is slow, and is what the others must agree with; Spark is your own."),
    ] = EngineName.DUCKDB,
    spark_master: Annotated[
        str,
        typer.Option(
            help="Where Spark runs, as local[4]; by default as spark-submit, SPARK_REMOTE or spark-defaults.conf say.",
            metavar="MASTER",
            show_default=False,
        ),
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the patterns in force over request logs; write every match, and count them by pattern.

    Nothing leaves this machine. `stillwatch sighting report` publishes the counts, in buckets, if you say so.
    With --json, first and last of a pattern are microseconds since 1970; first_time and last_time say them in RFC 3339.
    """
    for one in patterns or []:
        check_is_id(one)
    session = open_session(home)
    sources = sources_of(session.home, files or [], logs, mappings or [])
    follow = (not files) if new is None else new
    if engine is not EngineName.DUCKDB and follow:
        raise InvalidInput(f"--engine {engine} follows no logs", "name files, or add --whole")
    options = Options(
        follow, parse_since(since) if since else None, parse_memory(memory), engine is EngineName.REFERENCE
    )
    names = all_files(sources)
    _check_spark(engine, spark_master, names)
    size = total_bytes(names)
    if out is not None:
        check_target(out)
    try_new(session.store)
    selection = select(session, patterns or [])
    if engine is EngineName.SPARK:
        selection = only_on_spark(selection)
    if not selection.runnable:
        warn_left_out(selection)
        raise InvalidInput("no pattern in force can run on request logs", "run `stillwatch sync`, see `pattern list`")
    run = runs.new_name(session.clock())
    folder = runs.folder(session.home)
    lines = folder / f"{run}.jsonl" if out is None or out.suffix == ".parquet" else out
    broken = Broken()
    started = time.monotonic()

    def summarise(result: Result) -> dict[str, Any]:
        return Summary(
            run=run,
            files=[name if name == STDIN else os.path.abspath(name) for name in names],  # noqa: PTH100 - links stay as named
            rows=result.rows,
            broken=broken.count,
            seconds=time.monotonic() - started,
            detections=str(lines.absolute()),
            tallies=result.tallies,
            left_out=list(selection.left_out),
            reported={},
            readability=result.readability.document(),
        ).document()

    with ExitStack() as running:
        if engine is EngineName.SPARK:
            options = replace(options, spark=running.enter_context(spark_session(spark_master)))
        report_progress = running.enter_context(progress(size, as_json or engine is EngineName.SPARK))
        result = run_detection(
            sources,
            selection.runnable,
            options,
            Place(folder, lines.absolute(), run, lambda summary: runs.keep_document(session.home, summary)),
            broken.note,
            summarise,
            report_progress,
        )
    if out is not None and out != lines:
        to_parquet(lines, out)
    summary = runs.load(session.home, run)
    _report(summary, broken, result, selection, as_json)
    if strict and broken.count:
        raise typer.Exit(InvalidInput.exit_code)


def _report(summary: Summary, broken: Broken, result: Result, selection: Selection, as_json: bool) -> None:
    if as_json:
        document = summary.document()
        document["first_broken_rows"] = broken.document()
        document["could_not_match"] = {entry: list(result.missing[entry]) for entry in sorted(result.hopeless)}
        document["missing_fields"] = {entry: list(fields) for entry, fields in result.missing.items()}
        document["files_unchanged"] = result.files_unchanged
        output.print_json(document)
        return
    matched = [tally for tally in summary.tallies if tally.matches]
    if matched:
        output.table(
            ["matches", "accounts", "first", "last", "severity", "pattern", "title"],
            [_cells(tally) for tally in sorted(matched, key=lambda tally: -tally.matches)],
        )
    rate = summary.rows / summary.seconds if summary.seconds > 0 else 0.0
    say(
        f"{len(matched)} of {len(summary.tallies)} patterns matched; "
        f"{summary.rows:,} rows in {summary.seconds:.1f} s ({rate:,.0f} rows/s)"
    )
    say(f"run {summary.run}; every match: {summary.detections}")
    warn_left_out(selection)
    if result.files_unchanged:
        say(f"nothing new in {result.files_unchanged} of {len(summary.files)} files")
    warn_missing(result.missing, result.hopeless, {tally.entry: tally.title for tally in summary.tallies})
    warn_unreadable(result.readability)
    broken.warn()


def _cells(tally: Tally) -> Sequence[object]:
    return (
        f"{tally.matches:,}",
        f"{tally.accounts:,}" if tally.accounts else "not known",
        _shown(tally.first),
        _shown(tally.last),
        tally.severity,
        short_id(tally.id),
        tally.title,
    )


def _shown(microseconds: int | None) -> str:
    if microseconds is None:
        return "undated"
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")


def _check_spark(engine: EngineName, master: str, files: Sequence[str]) -> None:
    if engine is EngineName.SPARK:
        if STDIN in files:
            raise InvalidInput("Spark's machines cannot read this command's standard input", "name files")
        check_pyspark()
    elif master:
        raise InvalidInput("--spark-master goes with --engine spark", "add it, or leave the master out")

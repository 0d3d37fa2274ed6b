"""`stillwatch detect`: run the patterns in force over this lab's own request logs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.detection import runs
from member_client.detection.findings import Summary, Tally, detection_line, written_whole
from member_client.detection.in_force import Selection, select
from member_client.detection.request_logs import BrokenRow, rows, total_bytes
from member_client.detection.rows import parse_columns
from member_client.detection.running import Detection
from member_client.errors import InvalidInput
from member_client.patterns.finding import short_id
from member_client.patterns.trials import try_new

MAX_SHOWN = 20
MAX_IN_JSON = 100
BROKEN_ROWS = 2


@dataclass(slots=True)
class _Broken:
    """Broken rows: all are counted, the first are kept to be shown."""

    count: int = 0
    first: list[BrokenRow] = field(default_factory=list)

    def note(self, row: BrokenRow) -> None:
        self.count += 1
        if len(self.first) < MAX_IN_JSON:
            self.first.append(row)


def detect(
    files: Annotated[
        list[str],
        typer.Argument(help="Request logs: JSON lines, also gzip or zstd; - for standard input.", show_default=False),
    ],
    patterns: Annotated[
        list[str] | None,
        typer.Option("--pattern", help="Only this pattern (repeatable).", metavar="ID", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write the matches; by default into the home.", metavar="FILE"),
    ] = None,
    mappings: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="Read a field from another column (repeatable).", metavar="FIELD=COLUMN", show_default=False
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 if any row is broken.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the patterns in force over request logs; write every match, and count them by pattern.

    Nothing leaves this machine. `stillwatch sighting report` publishes the counts, in buckets, if you say so.
    """
    session = open_session(home)
    columns = parse_columns(mappings or [])
    size = total_bytes(files)
    try_new(session.store)
    selection = select(session, patterns or [])
    if not selection.runnable:
        _warn_left_out(selection)
        raise InvalidInput("no pattern in force can run on request logs", "run `stillwatch sync`, see `pattern list`")
    run = runs.new_name(session.clock())
    target = out or runs.folder(session.home) / f"{run}.jsonl"
    broken = _Broken()
    started = time.monotonic()
    with written_whole(target) as file:
        detection = Detection(
            selection.runnable,
            columns,
            lambda pattern, rule, moment, window: file.write(detection_line(pattern, rule, moment, window)),
        )
        with _progress(size, as_json) as progress:
            detection.run(rows(files, broken.note, progress), broken.note)
    summary = Summary(
        run=run,
        files=[name if name == "-" else os.path.abspath(name) for name in files],  # noqa: PTH100 - links stay as named
        rows=detection.rows,
        broken=broken.count,
        seconds=time.monotonic() - started,
        detections=str(target.absolute()),
        tallies=detection.tallies,
        left_out=list(selection.left_out),
        reported={},
    )
    runs.keep(session.home, summary)
    _report(summary, broken, detection, selection, as_json)
    if strict and broken.count:
        raise typer.Exit(BROKEN_ROWS)


def _report(summary: Summary, broken: _Broken, detection: Detection, selection: Selection, as_json: bool) -> None:
    missing = detection.missing_fields()
    if as_json:
        document = summary.document()
        document["first_broken_rows"] = [
            {"file": row.place.file, "line": row.place.line, "reason": row.reason} for row in broken.first
        ]
        document["could_not_match"] = {entry: sorted(fields) for entry, fields in missing.items()}
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
    _warn_left_out(selection)
    _warn_missing(missing, summary.tallies)
    _warn_broken(broken)


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


def _warn_left_out(selection: Selection) -> None:
    for one in selection.left_out:
        output.warn(f"left out: {short_id(one.id)} {one.title}: {one.reason}")


def _warn_missing(missing: dict[str, frozenset[str]], tallies: Sequence[Tally]) -> None:
    titles = {tally.entry: tally.title for tally in tallies}
    for fields, names in _grouped(missing).items():
        shown = ", ".join(fields)
        output.warn(
            f"no row has any of {shown}, so these could not match: {'; '.join(titles[entry] for entry in names)}"
        )
        output.warn(f"hint: if the log calls it otherwise, add --map {fields[0]}=COLUMN")


def _grouped(missing: dict[str, frozenset[str]]) -> dict[tuple[str, ...], list[str]]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for entry, fields in missing.items():
        groups.setdefault(tuple(sorted(fields)), []).append(entry)
    return groups


def _warn_broken(broken: _Broken) -> None:
    for row in broken.first[:MAX_SHOWN]:
        output.warn(f"{row.place}: left out: {row.reason}")
    if broken.count:
        more = broken.count - min(len(broken.first), MAX_SHOWN)
        also = f" ({more} more than shown)" if more else ""
        output.warn(f"{broken.count} broken row{'s' if broken.count > 1 else ''} left out{also}; all others were used")


@contextmanager
def _progress(size: int | None, as_json: bool) -> Iterator[Callable[[int], None] | None]:
    if as_json or not output.errors.is_terminal:
        yield None
        return
    columns = (TextColumn("detecting"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as bar:
        task = bar.add_task("detecting", total=size)
        yield lambda done: bar.update(task, completed=done)

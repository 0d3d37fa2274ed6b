"""How commands that run patterns over request logs are told which, and what they say while and after they read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from member_client.cli import output
from member_client.detection.in_force import Selection
from member_client.detection.log_settings import Column, Source, as_settings_say, expanded, read_settings
from member_client.detection.request_logs import BrokenRow
from member_client.detection.rows import parse_columns
from member_client.detection.unreadable import Readability
from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.patterns.finding import short_id

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LOGS]...",
        help="Request logs: JSON lines, CSV, Parquet or OTLP/JSON, also gzip or zstd; folders and patterns; "
        "- for standard input. By default the sources of --logs.",
        show_default=False,
    ),
]
LogsOption = Annotated[
    Path | None,
    typer.Option(
        help="What your logs are called and what their columns mean; by default the home's logs.toml. "
        "Beside LOGS only their columns are taken from it.",
    ),
]
SinceOption = Annotated[
    str, typer.Option(help="Leave out requests before this day or time (UTC).", metavar="TIME", show_default=False)
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="Read a field from another column (repeatable).", metavar="FIELD=COLUMN", show_default=False
    ),
]
MemoryOption = Annotated[str, typer.Option(help="What the engine may use before it spills to disk.")]

MAX_SHOWN = 20
MAX_IN_JSON = 100


@dataclass(slots=True)
class Broken:
    """Broken rows: all are counted, the first are kept to be shown."""

    count: int = 0
    first: list[BrokenRow] = field(default_factory=list)

    def note(self, row: BrokenRow) -> None:
        """Take one."""
        self.count += 1
        if len(self.first) < MAX_IN_JSON:
            self.first.append(row)

    def document(self) -> list[dict[str, Any]]:
        """The first ones for scripts."""
        return [{"file": row.place.file, "line": row.place.line, "reason": row.reason} for row in self.first]

    def warn(self) -> None:
        """Name the first ones, and say how many there are."""
        for row in self.first[:MAX_SHOWN]:
            output.warn(f"{row.place}: left out: {row.reason}")
        if self.count:
            more = self.count - min(len(self.first), MAX_SHOWN)
            also = f" ({more} more than shown)" if more else ""
            rows = f"{self.count} broken row{'s' if self.count > 1 else ''}"
            output.warn(f"{rows} left out{also}; all others were used")


def sources_of(home: Home, files: Sequence[str], logs: Path | None, mappings: Sequence[str]) -> list[Source]:
    """The logs that a user names, or those of a settings file; expanded.

    Args:
        files: named ones; with `logs` too, they are read as its source that lists them says, or its only one.
        mappings: `--map`, which goes before what settings say.

    Raises:
        InvalidInput: there are none, or the settings do not say what is meant.
    """
    columns = {field: Column(column) for field, column in parse_columns(list(mappings)).items()}
    if files:
        named = expanded(Source(tuple(files), columns=columns))
        if logs is None:
            return [named]
        return [
            replace(one, columns={**one.columns, **columns})
            for one in as_settings_say(named.files, read_settings(logs), logs)
        ]
    chosen = logs or home.logs
    if not chosen.exists():
        raise InvalidInput(
            f"no logs are named, and there is no {chosen}", "name files, or write logs.toml: docs/log-sources.md"
        )
    if columns:
        raise InvalidInput("--map goes with files", f"write the columns into {chosen}")
    return [expanded(source) for source in read_settings(chosen)]


def warn_left_out(selection: Selection) -> None:
    """Say which patterns do not run, and why."""
    for one in selection.left_out:
        output.warn(f"left out: {short_id(one.id)} {one.title}: {one.reason}")


def warn_missing(missing: Mapping[str, tuple[str, ...]], hopeless: frozenset[str], titles: Mapping[str, str]) -> None:
    """Say which patterns read fields that no row has.

    Args:
        missing, hopeless: see `detecting.missing_fields`.
        titles: of patterns, by entry.
    """
    groups: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for entry, fields in missing.items():
        groups.setdefault((entry in hopeless, fields), []).append(titles[entry])
    for (cannot, fields), names in sorted(groups.items(), reverse=True):
        shown = ", ".join(fields)
        if cannot:
            output.warn(f"no row has any of {shown}, so these could not match: {'; '.join(names)}")
            output.warn(f"hint: if the log calls it otherwise, add --map {fields[0]}=COLUMN")
        else:
            output.warn(f"no row has {shown}, so these may match less than they could: {'; '.join(names)}", "")


def warn_unreadable(readability: Readability) -> None:
    """Say by field what could not be read or meant, and which columns were named that no row has."""
    for name, found in sorted(readability.unreadable.items()):
        rows = f"{found.rows:,} row{'' if found.rows == 1 else 's'}"
        output.warn(f"{name} could not be read in {rows}, where it counts as absent; the first has {found.kind}")
        output.warn(f"hint: {found.hint}")
    for name, times in sorted(readability.implausible.items()):
        rows = f"{times.rows:,} row{'' if times.rows == 1 else 's'}"
        output.warn(f"{name} is before 2015 or in the future in {rows}, the first of these in the year {times.year}")
        output.warn(f"hint: {times.hint}")
    for name, column in readability.unmet:
        output.warn(f"no row has the column {column!r}, which {name} is mapped to")


@contextmanager
def progress(size: int | None, as_json: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar on a terminal: told how many bytes have been read of `size`."""
    if as_json or not output.errors.is_terminal:
        yield None
        return
    columns = (TextColumn("detecting"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as bar:
        task = bar.add_task("detecting", total=size)
        yield lambda done: bar.update(task, completed=done)

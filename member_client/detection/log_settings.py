"""What a lab's own logs are called and what their columns mean: `logs.toml`, `--map`, folders and globs.

[[source]]
files = ["/var/log/gateway/*.jsonl.gz", "archive/"]   # relative to this file
format = "csv"                                        # left out: told by each file's first bytes and name

[source.fields]
"account.id" = "customer"                             # from a column of another name
"org.id" = { column = "org_number", text = true }     # a number that is a name
timestamp = { column = "sent", unit = "ms" }          # milliseconds since 1970
"account.created" = { column = "opened", zone = "UTC" }   # times written without an offset
"request.batch" = { value = false }                   # the same for every row
"""

from __future__ import annotations

import glob
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from member_client.detection.request_logs import STDIN
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic.catalogue import Category, Field, FieldType, fields_in, how_to_mend_field

FORMATS = ("jsonl", "csv", "parquet")
UNITS: Mapping[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
MAX_FILES = 100_000
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".pq", ".log")
_PACKED = (".gz", ".zst", ".zstd")
_OFFSET = re.compile(r"UTC|[+-]\d\d:\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Column:
    """Where a field's values come from.

    Attributes:
        name: the column, dotted if nested; "" if `value` stands for every row.
        unit: of numbers that are times, a key of UNITS.
        zone: of times without an offset: Z or ±hh:mm; "" if there is none to add.
        text: whether whole numbers and truth values are taken as text.
        value: the constant.
    """

    name: str
    unit: str = "s"
    zone: str = ""
    text: bool = False
    value: Any = None

    def convert(self, value: Any) -> Any:
        """A value of the column as a value of the field."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.text and isinstance(value, int):
                return str(value)
            if self.unit != "s":
                return _seconds(value, UNITS[self.unit])
        if self.zone and isinstance(value, str) and value:
            return value + self.zone
        return value


def _seconds(value: int | float, parts: int) -> int | float | str:
    """Whole parts of a second stay exact: as text where a float could not hold the microseconds."""
    if isinstance(value, int) and value >= 0:
        from datetime import UTC, datetime, timedelta

        whole, rest = divmod(value, parts)
        try:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)
        except OverflowError:
            return value
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest * (1_000_000_000 // parts):09d}Z"
    return value / parts


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one kind.

    Attributes:
        files: their names, or `-`; after `expanded`, no folders and patterns any more.
        format: one of FORMATS, "" to tell by the file.
        columns: field to column, for what is called otherwise.
    """

    files: tuple[str, ...]
    format: str = ""
    columns: Mapping[str, Column] = field(default_factory=dict)


def read_settings(path: Path) -> list[Source]:
    """The sources of a `logs.toml`.

    Raises:
        InvalidInput: it cannot be read or says something that cannot be meant; the message says where.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", "name the file with --logs") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}", "see docs/log-sources.md, A lab's own files") from error
    sources = document.pop("source", None)
    if document or not isinstance(sources, list) or not sources:
        odd = f"unknown key {next(iter(document))!r}" if document else "no [[source]]"
        raise InvalidInput(f"{path}: {odd}", "write one [[source]] table for each kind of log")
    return [_source(one, f"{path}: source {number}", path.parent) for number, one in enumerate(sources, 1)]


def _source(written: Any, where: str, folder: Path) -> Source:
    known = {"files", "format", "fields"}
    if not isinstance(written, dict) or set(written) - known:
        odd = next(iter(set(written) - known), "") if isinstance(written, dict) else ""
        raise InvalidInput(f"{where}: unknown key {odd!r}", f"use {', '.join(sorted(known))}")
    files = written.get("files")
    files = [files] if isinstance(files, str) else files
    if not isinstance(files, list) or not files or not all(isinstance(name, str) and name for name in files):
        raise InvalidInput(f"{where}: files is a list of names", 'write files = ["requests/*.jsonl.gz"]')
    kind = written.get("format", "")
    if kind not in ("", *FORMATS):
        raise InvalidInput(f"{where}: there is no format {kind!r}", f"use one of {', '.join(FORMATS)}, or leave it out")
    fields = written.get("fields", {})
    if not isinstance(fields, dict):
        raise InvalidInput(f"{where}: fields is a table", 'write "account.id" = "customer" under [source.fields]')
    columns = {name: _column(name, column, f"{where}, {name}") for name, column in _flat(fields).items()}
    return Source(tuple(str(folder / name) for name in files), kind, columns)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`account.id = "x"` without quotation marks is a nested table in TOML, and meant as the field."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict) and not set(value) & {"column", "value"} and prefix + name not in _known():
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _known() -> Mapping[str, Field]:
    return fields_in(Category.REQUEST)


def _column(name: str, written: Any, where: str) -> Column:
    entry = _known().get(name)
    if entry is None:
        raise InvalidInput(f"{where}: there is no such field", how_to_mend_field(name, Category.REQUEST))
    if isinstance(written, str) and written:
        return Column(written)
    if not isinstance(written, dict) or set(written) - {"column", "unit", "zone", "text", "value"}:
        raise InvalidInput(f"{where}: not a column", 'write "column", or a table of column, unit, zone, text, or value')
    if set(written) == {"value"}:
        if not isinstance(written["value"], str | int | float | bool):
            raise InvalidInput(f"{where}: value is text, a number or a truth value", "write one of these")
        return Column("", value=written["value"])
    column, unit = written.get("column"), written.get("unit", "s")
    zone, text = written.get("zone", ""), written.get("text", False)
    if not isinstance(column, str) or not column or "value" in written:
        raise InvalidInput(f"{where}: either column or value", 'write { column = "name" } or { value = false }')
    if unit not in UNITS or (unit != "s" and entry.type is not FieldType.TIME):
        raise InvalidInput(f"{where}: there is no unit {unit!r} of it", "times have the units s, ms, us and ns")
    if zone and (entry.type is not FieldType.TIME or not isinstance(zone, str) or not _OFFSET.fullmatch(zone)):
        raise InvalidInput(f"{where}: {zone!r} is not the zone of a time", "write UTC, or an offset like +02:00")
    if not isinstance(text, bool) or (text and entry.type is not FieldType.TEXT):
        raise InvalidInput(f"{where}: text is true or false, and for text fields", "leave it out")
    return Column(column, unit, "Z" if zone == "UTC" else zone, text)


def expanded(source: Source) -> Source:
    """The source with folders and glob patterns replaced by the files in them, sorted by name.

    Raises:
        InvalidInput: nothing is there, or more than MAX_FILES.
    """
    files: list[str] = []
    for name in source.files:
        if name != STDIN and Path(name).is_dir():
            found = sorted(str(path) for path in Path(name).rglob("*") if path.is_file() and _is_log(path, source))
            if not found:
                raise InvalidInput(f"there are no logs in {name}", f"their names end in {', '.join(_ENDINGS)}")
            files += found
        elif name != STDIN and not Path(name).exists() and glob.has_magic(name):
            found = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())  # noqa: PTH207 - absolute patterns
            if not found:
                raise InvalidInput(f"no file is called {name}", "check the pattern, and quote it for the shell")
            files += found
        else:
            files.append(name)
    if len(files) > MAX_FILES:
        raise InvalidInput(f"these are {len(files):,} files", f"name at most {MAX_FILES:,} in one run")
    return Source(tuple(files), source.format, source.columns)


def as_settings_say(files: Sequence[str], sources: Sequence[Source], settings: Path) -> list[Source]:
    """Files that a user names, each with the columns and format of the source that lists it, or of the only one.

    Args:
        files: expanded.
        sources: of the settings file, not expanded.

    Raises:
        InvalidInput: there are several sources, and none lists a file.
    """
    found: list[Source] = []
    for name in files:
        listing = [one for one in sources if name != STDIN and _lists(one, name)]
        if not listing and len(sources) > 1:
            raise InvalidInput(
                f"{settings} has {len(sources)} sources, and none of them lists {name}",
                "name with --logs a file with the one [[source]] that tells its columns",
            )
        source = (listing or sources)[0]
        found.append(Source((name,), source.format, source.columns))
    return found


def _lists(source: Source, name: str) -> bool:
    path = Path(name).resolve()
    return any(
        path.is_relative_to(Path(listed).resolve()) or fnmatch(str(path), str(Path(listed).resolve()))
        for listed in source.files
    )


def _is_log(path: Path, source: Source) -> bool:
    name = path.name.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return not name.startswith(".") and (bool(source.format) or name.endswith(_ENDINGS))


def all_files(sources: Sequence[Source]) -> list[str]:
    """The files of all sources, in order."""
    return [name for source in sources for name in source.files]

"""A lab's logs read by the machines of a Spark: a task reads a file as `reading` does, so rows are the same everywhere.

A request comes with the rules whose literals it has (`text_scan`): Spark asks their exact conditions about it alone.
Java's expressions are slow, and most requests have no literal of any rule.

For patterns over windows a task distils each batch (`windows.distilling`). Spark does nothing with the narrow rows but
keep them, so a batch's are one value to it, packed; so are the beginnings of its texts, which stay on these machines
until they are asked for by event.

This runs on Spark's workers, whose Python therefore has this program installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from member_client.detection.canonical import CLOSED, EVENT_FILE, EVENT_ID, EVENT_LINE, batch_schema, keep_from_files
from member_client.detection.engine import Coverage, sent_since
from member_client.detection.literals import Required
from member_client.detection.log_settings import Source
from member_client.detection.reading import Request, read
from member_client.detection.request_logs import BrokenRow
from member_client.detection.text_scan import TextScan
from member_client.detection.unreadable import Implausible, Readability, Unreadable
from member_client.errors import InvalidInput
from member_client.windows.distilling import Distiller, Text
from sharing_protocol.pattern_logic.catalogue import Field

REPORT = "report"
"""The column that is NULL in requests, and in a file's last row says how it was read: a `FileReport` as JSON."""
CANDIDATES = "candidates"
"""The column with the numbers of the rules that could match, of those that need some literal."""
DISTILLED = "distilled"
"""The column that is NULL in requests, and in rows behind them has the narrow rows of many, packed."""
TEXTS = "texts"
"""The column that goes with it: texts of the same requests, packed."""
DESCRIBED = 100
"""Broken rows of a file that are told with their lines and reasons; the others are counted."""
_FILE_BITS = 40  # of an event's id lie below the file's number: no file has 2^40 rows
_PACKED_ROWS = 32_768
_FOR_FINDINGS = (EVENT_FILE, EVENT_LINE, "network.ip")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machines make of requests.

    Attributes:
        fields: that are read.
        since: leave out requests before this (microseconds since 1970).
        needed: number of a rule to what it cannot match without; the other rules are candidates nowhere.
        sent: fields of the rows that Spark asks the rules about.
        asked: whether there are any rules, so that rows are sent at all.
        distils: whether narrow rows are made, for windows.
        texts: that windows may ask for.
    """

    fields: tuple[Field, ...]
    since: int | None
    needed: Mapping[int, Required]
    sent: tuple[Field, ...]
    asked: bool = True
    distils: bool = False
    texts: tuple[Text, ...] = ()


@dataclass(slots=True)
class FileReport:
    """How a file was read.

    Attributes:
        rows, present, first, last: its coverage.
        broken: rows left out; the first of them are `described`, by line and reason.
        failed: why it could not be read at all; "" if it could.
        distilled: bytes of its narrow rows, packed.
        unreadable, implausible, mapped, met: its `Readability`.
    """

    rows: int = 0
    present: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    broken: int = 0
    described: list[tuple[int, str]] = field(default_factory=list)
    failed: str = ""
    distilled: int = 0
    unreadable: dict[str, dict[str, Any]] = field(default_factory=dict)
    implausible: dict[str, dict[str, Any]] = field(default_factory=dict)
    mapped: list[tuple[str, str]] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)

    @property
    def readability(self) -> Readability:
        """What of its columns was there, and could be read."""
        unreadable = {name: Unreadable(**found) for name, found in self.unreadable.items()}
        implausible = {name: Implausible(**found) for name, found in self.implausible.items()}
        return Readability(unreadable, {(a, b) for a, b in self.mapped}, {(a, b) for a, b in self.met}, implausible)


def rows_schema(fields: Sequence[Field]) -> pa.Schema:
    """Canonical batches with the columns for Spark."""
    more = {CANDIDATES: pa.list_(pa.int32()), REPORT: pa.string(), DISTILLED: pa.binary(), TEXTS: pa.binary()}
    return pa.schema([*batch_schema(fields), *more.items()])


def numbered_rows(source: Source, reading: Reading, number: int) -> Iterator[pa.RecordBatch]:
    """The requests in a file, what windows need of them, and behind them the file's report.

    Args:
        source: of this one file.
        number: of the file among all; events of later files have higher ids.
    """
    (name,) = source.files
    schema, scan = rows_schema(reading.sent), TextScan(reading.needed)
    first_id = number << _FILE_BITS
    coverage, report = Coverage(), FileReport()
    readability = coverage.readability

    def broken(row: BrokenRow) -> None:
        report.broken += 1
        if len(report.described) < DESCRIBED:
            report.described.append((row.place.line, row.reason))

    try:
        request = Request(name, source.format, source.columns, reading.fields)
        with _distiller(reading) as distiller:
            for chunk in read(request, first_id, broken, readability=readability):
                batch = sent_since(chunk.batch, reading.since)
                if not batch.num_rows:
                    continue
                coverage.add(batch, reading.fields)
                if reading.asked:
                    columns = [batch.column(column) for column in batch_schema(reading.sent).names]
                    nothing = [pa.nulls(batch.num_rows, schema.field(one).type) for one in (REPORT, DISTILLED, TEXTS)]
                    yield pa.RecordBatch.from_arrays([*columns, _candidates(batch, scan), *nothing], schema=schema)
                if distiller is not None:
                    for row in _distilled(batch, distiller, reading.texts):
                        report.distilled += len(row[DISTILLED])
                        yield pa.RecordBatch.from_pylist([row], schema=schema)
    except (InvalidInput, OSError) as error:
        report.failed = str(error)
    report.rows, report.present = coverage.rows, coverage.present
    report.first, report.last = coverage.first, coverage.last
    report.unreadable = {field_name: asdict(found) for field_name, found in readability.unreadable.items()}
    report.implausible = {field_name: asdict(found) for field_name, found in readability.implausible.items()}
    report.mapped, report.met = sorted(readability.mapped), sorted(readability.met)
    last = {EVENT_ID: first_id, EVENT_FILE: name, REPORT: json.dumps(asdict(report))}
    yield pa.RecordBatch.from_pylist([last], schema=schema)


@contextmanager
def _distiller(reading: Reading) -> Iterator[Distiller | None]:
    if not reading.distils:
        yield None
        return
    with duckdb.connect(config={**CLOSED, "threads": 1, "temp_directory": ""}) as connection:
        keep_from_files(connection)
        yield Distiller(connection, _FOR_FINDINGS)


def _distilled(batch: pa.RecordBatch, distiller: Distiller, texts: Sequence[Text]) -> Iterator[dict[str, Any]]:
    """Rows for Spark with the narrow rows of a batch and the texts that go with them."""
    for start in range(0, batch.num_rows, _PACKED_ROWS):
        some = batch.slice(start, _PACKED_ROWS)
        narrow = distiller.rows(some)
        if narrow.num_rows:
            yield {
                EVENT_ID: some.column(EVENT_ID)[0].as_py(),
                EVENT_FILE: some.column(EVENT_FILE)[0].as_py(),
                DISTILLED: _packed(narrow),
                TEXTS: _packed(distiller.texts(some, texts)) if texts else None,
            }


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpacked(content: bytes) -> pa.Table:
    """The rows of a value of the columns `DISTILLED` and `TEXTS`."""
    return pa.ipc.open_stream(content).read_all()


def picked(content: bytes, text: str, wanted: NDArray[np.int64]) -> list[tuple[int, str | None]]:
    """Of a value of the column `TEXTS`, the event and the text of this name of the requests that are wanted.

    Args:
        wanted: ids of events, ascending.
    """
    table = unpacked(content)
    events = table.column("event").to_numpy()
    found = table.filter(pa.array(np.isin(events, _within(wanted, events))))
    return list(zip(found.column("event").to_pylist(), found.column(text).to_pylist(), strict=True))


def _within(wanted: NDArray[np.int64], events: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those between the first and the last of some events."""
    if not len(events):
        return wanted[:0]
    return wanted[np.searchsorted(wanted, events.min()) : np.searchsorted(wanted, events.max(), "right")]


def _candidates(batch: pa.RecordBatch, scan: TextScan) -> pa.Array:
    rows, rules = scan.scan(batch)
    order = np.argsort(rows, kind="stable")
    ends = np.searchsorted(rows[order], np.arange(batch.num_rows + 1))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(rules[order], pa.int32()))

"""A lab's logs read by the machines of a Spark: a task reads a file as `reading` does, so rows are the same everywhere.

A request comes with the rules whose literals it has (`text_scan`): Spark asks their exact conditions about it alone.
Java's expressions are slow, and most requests have no literal of any rule.

This runs on Spark's workers, whose Python therefore has this program installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from member_client.detection.canonical import EVENT_FILE, EVENT_ID, batch_schema
from member_client.detection.engine import Coverage, sent_since
from member_client.detection.literals import Required
from member_client.detection.log_settings import Source
from member_client.detection.reading import Request, read
from member_client.detection.request_logs import BrokenRow
from member_client.detection.text_scan import TextScan
from member_client.detection.unreadable import Implausible, Readability, Unreadable
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic.catalogue import Field

REPORT = "report"
"""The column that is NULL in requests, and in a file's last row says how it was read: a `FileReport` as JSON."""
CANDIDATES = "candidates"
"""The column with the numbers of the rules that could match, of those that need some literal."""
DESCRIBED = 100
"""Broken rows of a file that are told with their lines and reasons; the others are counted."""
_FILE_BITS = 40  # of an event's id lie below the file's number: no file has 2^40 rows


@dataclass(slots=True)
class FileReport:
    """How a file was read.

    Attributes:
        rows, present, first, last: its coverage.
        broken: rows left out; the first of them are `described`, by line and reason.
        failed: why it could not be read at all; "" if it could.
        unreadable, implausible, mapped, met: its `Readability`.
    """

    rows: int = 0
    present: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    broken: int = 0
    described: list[tuple[int, str]] = field(default_factory=list)
    failed: str = ""
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
    """Canonical batches with the two columns for Spark."""
    more = [pa.field(CANDIDATES, pa.list_(pa.int32())), pa.field(REPORT, pa.string())]
    return pa.schema([*batch_schema(fields), *more])


def numbered_rows(
    source: Source, fields: Sequence[Field], since: int | None, needed: Mapping[int, Required], number: int
) -> Iterator[pa.RecordBatch]:
    """The requests in a file, and behind them its report.

    Args:
        source: of this one file.
        since: leave out requests before this (microseconds since 1970).
        needed: number of a rule to what it cannot match without; the other rules are candidates nowhere.
        number: of the file among all; events of later files have higher ids.
    """
    (name,) = source.files
    schema, scan = rows_schema(fields), TextScan(needed)
    first_id = number << _FILE_BITS
    coverage, report = Coverage(), FileReport()
    readability = coverage.readability

    def broken(row: BrokenRow) -> None:
        report.broken += 1
        if len(report.described) < DESCRIBED:
            report.described.append((row.place.line, row.reason))

    try:
        request = Request(name, source.format, source.columns, fields)
        for chunk in read(request, first_id, broken, readability=readability):
            batch = sent_since(chunk.batch, since)
            if batch.num_rows:
                coverage.add(batch, fields)
                nothing = pa.nulls(batch.num_rows, pa.string())
                columns = [*batch.columns, _candidates(batch, scan), nothing]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except (InvalidInput, OSError) as error:
        report.failed = str(error)
    report.rows, report.present = coverage.rows, coverage.present
    report.first, report.last = coverage.first, coverage.last
    report.unreadable = {field_name: asdict(found) for field_name, found in readability.unreadable.items()}
    report.implausible = {field_name: asdict(found) for field_name, found in readability.implausible.items()}
    report.mapped, report.met = sorted(readability.mapped), sorted(readability.met)
    last = {EVENT_ID: first_id, EVENT_FILE: name, REPORT: json.dumps(asdict(report))}
    yield pa.RecordBatch.from_pylist([last], schema=schema)


def _candidates(batch: pa.RecordBatch, scan: TextScan) -> pa.Array:
    rows, rules = scan.scan(batch)
    order = np.argsort(rows, kind="stable")
    ends = np.searchsorted(rows[order], np.arange(batch.num_rows + 1))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(rules[order], pa.int32()))

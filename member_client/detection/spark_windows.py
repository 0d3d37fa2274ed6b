"""Windows over what a lab's Spark has read: narrow rows come to this machine, texts only of the few that are asked for.

Spark keeps what its machines made of each batch (`spark_reading`): its narrow rows, packed, and the texts that windows
might ask for. The rows are fetched some tens of megabytes at a time into Parquet beside the state; windows are then
built by the same code as on DuckDB, and match by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from member_client.detection.findings import Finding
from member_client.detection.in_force import RunnablePattern
from member_client.detection.parquet_rows import literal
from member_client.detection.segments import Segment
from member_client.detection.spark_reading import DISTILLED, TEXTS, picked, unpacked
from member_client.detection.state import State
from member_client.detection.window_matches import matches_of
from member_client.windows import build_windows
from member_client.windows.demand import all_windows
from member_client.windows.distilling import Distilled, Text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

T = TypeVar("T")

_FETCHED_BYTES = 64 * 1024 * 1024
_FETCHED_ROWS = 50_000
_ASKED_TOGETHER = 1_000_000
_PYTHON_ROWS = "spark.sql.execution.python.udf.maxRecordsPerBatch"


class SparkWindows:
    """The windows of one run, in the DuckDB of its state."""

    def __init__(self, session: SparkSession, kept: str, state: State) -> None:
        """Begin.

        Args:
            kept: view with the columns of `spark_reading`, which Spark has persisted.
        """
        self._session = session
        self._kept = kept
        self._state = state
        self._connection = state.connection
        self._connection.execute("CREATE OR REPLACE TEMP TABLE query_pattern_hits (event_id BIGINT)")

    def note_query_hits(self, events: Iterable[int]) -> None:
        """Requests that a query pattern in force matched."""
        for some in _by(events):
            self._insert("query_pattern_hits", pa.table({"event_id": pa.array(some, pa.int64())}))

    def found(self, patterns: Sequence[RunnablePattern], size: int) -> Iterator[Finding]:
        """Every match of patterns over windows.

        Args:
            size: of all narrow rows as they are packed, in bytes; not 0.
        """
        path = self._fetch(size)
        self._connection.execute(
            f"CREATE OR REPLACE TEMP VIEW requests AS SELECT * FROM read_parquet({literal(str(path))})"  # noqa: S608 - ours
        )
        build_windows(
            self._connection,
            requests=Distilled("requests", self._look_up),
            demands=all_windows(one.logic for one in patterns),
            query_pattern_hits="query_pattern_hits",
        )
        for pattern in patterns:
            yield from matches_of(self._connection, pattern)

    def _fetch(self, size: int) -> Path:
        """The narrow rows, in a file."""
        path = self._state.folder / f"{uuid4().hex}.parquet"
        packed = self._session.sql(
            f"SELECT `event.id` AS first, {DISTILLED} FROM {self._kept} WHERE {DISTILLED} IS NOT NULL"  # noqa: S608 - ours
        )
        segment: Segment | None = None
        for _, content in packed.repartition(1 + size // _FETCHED_BYTES, "first").toLocalIterator():
            table = unpacked(content)
            segment = segment or Segment(path, table.schema)
            segment.add(table)
        if segment is not None:
            segment.close()
        return path

    def _look_up(self, text: Text, events: str, into: str) -> None:
        """See `windows.distilling.Texts`; the machines look through what Spark keeps."""
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {into} (event BIGINT, text VARCHAR)")
        asked = f"SELECT DISTINCT event FROM {events} ORDER BY event"  # noqa: S608 - ours
        wanted = self._connection.execute(asked).fetchnumpy()["event"]
        for start in range(0, len(wanted), _ASKED_TOGETHER):
            some = wanted[start : start + _ASKED_TOGETHER]
            found = self._picked(text, some).repartition(1 + len(some) // _FETCHED_ROWS, "event")
            with self._packed_alone():
                for rows in _by(found.toLocalIterator()):
                    columns = {"event": [row[0] for row in rows], "text": [row[1] for row in rows]}
                    self._insert(into, pa.table(columns, pa.schema({"event": pa.int64(), "text": pa.string()})))

    def _picked(self, text: Text, wanted: NDArray[np.int64]) -> DataFrame:
        from pyspark.sql import functions

        name = text.name

        def pick(content: bytes) -> list[tuple[int, str | None]]:
            return picked(content, name, wanted)

        # of the ways of Python in Spark, the one that does not also ask for pandas
        asked = functions.udf(pick, "array<struct<event: bigint, text: string>>", useArrow=False)
        kept = self._session.sql(f"SELECT {TEXTS} FROM {self._kept} WHERE {TEXTS} IS NOT NULL")  # noqa: S608 - ours
        return kept.select(functions.explode(asked(TEXTS)).alias("one")).select("one.event", "one.text")

    @contextmanager
    def _packed_alone(self) -> Iterator[None]:
        """Spark hands its Python workers one value at a time: each holds the texts of a batch."""
        before = self._session.conf.get(_PYTHON_ROWS)
        self._session.conf.set(_PYTHON_ROWS, "1")
        try:
            yield
        finally:
            self._session.conf.set(_PYTHON_ROWS, str(before))

    def _insert(self, relation: str, rows: pa.Table) -> None:
        self._connection.register("fetched_rows", rows)
        try:
            self._connection.execute(f"INSERT INTO {relation} SELECT * FROM fetched_rows")  # noqa: S608 - ours
        finally:
            self._connection.unregister("fetched_rows")


def _by(values: Iterable[T]) -> Iterator[list[T]]:
    """So many at a time."""
    rest = iter(values)
    while some := list(islice(rest, _FETCHED_ROWS)):
        yield some

"""Requests, or what is kept of them, as Parquet beside the state: windows are built over it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


class Segment:
    """A file of requests, readable by its owner alone.

    Attributes:
        first, last: the earliest and latest timestamp in it, microseconds since 1970.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.first: int | None = None
        self.last: int | None = None
        path.touch(mode=0o600)
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)

    def add(self, requests: pa.RecordBatch | pa.Table) -> None:
        """Keep some."""
        ends = pc.min_max(requests.column("timestamp")).as_py()
        if ends["min"] is not None:
            self.first = ends["min"] if self.first is None else min(self.first, ends["min"])
            self.last = ends["max"] if self.last is None else max(self.last, ends["max"])
        self._writer.write(requests)

    def close(self) -> None:
        """All of it is on disk."""
        self._writer.close()

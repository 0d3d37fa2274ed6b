"""The reference evaluator in the engine's place: the same batches in, the same matches out, a row at a time.

It is the definition, and slow; windows of accounts and clusters are the engine's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from member_client.detection.canonical import EVENT_FILE, EVENT_LINE, request_fields
from member_client.detection.engine import Coverage, sent_since
from member_client.detection.findings import WHOSE, Finding, Moment, shown_time
from member_client.detection.in_force import RunnablePattern
from member_client.detection.running import Detection
from sharing_protocol.pattern_logic import MatchedWindow
from sharing_protocol.pattern_logic.catalogue import Category, FieldType


class ReferenceEngine:
    """See `engine.Engine`, whose interface this has."""

    def __init__(self, patterns: Sequence[RunnablePattern], since: int | None = None) -> None:
        self.coverage = Coverage()
        self.patterns = [one for one in patterns if one.logic.category is Category.REQUEST]
        needed = {"timestamp", *WHOSE}.union(*(one.logic.required_fields for one in self.patterns))
        self.fields = request_fields(needed)
        self._times = [entry.name for entry in self.fields if entry.type is FieldType.TIME]
        self._since = since
        self._found: list[Finding] = []
        self._detection = Detection(self.patterns, {}, self._note)

    def take(self, batch: pa.RecordBatch, identity: str) -> None:
        """Ask all request patterns about a batch."""
        del identity  # matches are told apart by it where runs follow each other; this one stands alone
        batch = sent_since(batch, self._since)
        if not batch.num_rows:
            return
        self.coverage.add(batch, self.fields)
        for row in batch.to_pylist():
            fields = {entry.name: row[entry.name] for entry in self.fields if row[entry.name] is not None}
            for name in self._times:
                if name in fields:
                    fields[name] = shown_time(fields[name])  # to the microsecond, which seconds as a float are not
            self._detection.take(row[EVENT_FILE], row[EVENT_LINE], fields)

    def settle(self) -> None:
        """Nothing waits here."""

    def found(self) -> Iterator[Finding]:
        """Every match."""
        self._detection.conclude()
        yield from self._found

    def window_fields(self, category: Category) -> frozenset[str]:
        """None: windows are not built."""
        del category
        return frozenset()

    def _note(self, pattern: RunnablePattern, rule: str, moment: Moment, window: MatchedWindow | None) -> None:
        key = (moment.place.file, moment.place.line)
        self._found.append(Finding(pattern, rule, moment, key, window=window))

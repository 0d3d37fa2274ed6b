"""One pass over a column of texts for the literals of all rules: which rows could match which rules.

A column's texts lie one after the other in one Arrow buffer, which Hyperscan scans whole, all literals at once; where a
match ends says which row it is in. A literal found across two rows, or in a longer word, costs an exact test and no
more: what this pass gives is what the exact conditions are then asked about. What it leaves out cannot match
(`literals`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import cast

import hyperscan
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from member_client.detection.literals import FOLDED_TO_ASCII, Required

COMMON_SHARE = 0.1
"""Of the rows: a literal that more of them have tells nothing, and its rules are better asked everywhere."""
_ENOUGH_ROWS = 10_000

Numbers = NDArray[np.int64]


class TextScan:
    """The literals of many rules, by the field in which they stand."""

    def __init__(self, needed: Mapping[int, Required]) -> None:
        """Compile.

        Args:
            needed: number of a rule to what it needs.
        """
        by_field: dict[str, dict[int, Required]] = defaultdict(dict)
        for number, required in needed.items():
            by_field[required.field][number] = required
        self._columns = {field: _Column(rules) for field, rules in by_field.items()}

    @property
    def fields(self) -> frozenset[str]:
        """The fields that are scanned."""
        return frozenset(self._columns)

    def scan(self, batch: pa.RecordBatch) -> tuple[Numbers, Numbers]:
        """Rows and rules that could match: two arrays of one length, each pair once."""
        found = [column.scan(batch.column(field)) for field, column in self._columns.items()]
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate([rows for rows, _ in found]), np.concatenate([rules for _, rules in found])

    def too_common(self) -> frozenset[int]:
        """Rules whose literals most rows seen so far had."""
        return frozenset().union(*(column.too_common() for column in self._columns.values()))


class _Column:
    def __init__(self, needed: Mapping[int, Required]) -> None:
        rules_of: dict[bytes, list[int]] = defaultdict(list)
        for number, required in needed.items():
            for literal in required.literals:
                rules_of[literal].append(number)
        # A text with a letter that folds into ASCII is a candidate of every rule: its letters cannot be searched.
        for odd in FOLDED_TO_ASCII:
            rules_of[odd.encode()] = list(needed)
        literals = list(rules_of)
        self._rules = [np.array(rules_of[literal], dtype=np.int64) for literal in literals]
        self._found = np.zeros(len(literals), dtype=np.int64)
        self._rows = 0
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=literals,
            ids=list(range(len(literals))),
            elements=len(literals),
            flags=[hyperscan.HS_FLAG_CASELESS] * len(literals),
            literal=True,
        )

    def scan(self, texts: pa.Array) -> tuple[Numbers, Numbers]:
        offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
        self._rows += len(texts)
        literals: list[int] = []
        ends: list[int] = []
        add_literal, add_end = literals.append, ends.append

        def found(literal: int, _start: int, end: int, _flags: int, _context: object) -> None:
            add_literal(literal)
            add_end(end)

        content = texts.buffers()[2]
        if len(texts) and content is not None and offsets[-1] > offsets[0]:
            texts_alone = memoryview(content)[offsets[0] : offsets[-1]]
            self._database.scan(cast(bytes, texts_alone), match_event_handler=found)
        if not ends:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        which = np.array(literals, dtype=np.int64)
        rows = np.searchsorted(offsets, np.array(ends, dtype=np.int64) + offsets[0], side="left") - 1
        pairs = np.unique(which * (len(texts) + 1) + rows)
        which, rows = pairs // (len(texts) + 1), pairs % (len(texts) + 1)
        self._found += np.bincount(which, minlength=len(self._found))
        counts = np.array([len(self._rules[literal]) for literal in which], dtype=np.int64)
        rules = np.concatenate([self._rules[literal] for literal in which])
        both = np.unique(rules * (len(texts) + 1) + np.repeat(rows, counts))
        return both % (len(texts) + 1), both // (len(texts) + 1)

    def too_common(self) -> frozenset[int]:
        if self._rows < _ENOUGH_ROWS:
            return frozenset()
        common = np.flatnonzero(self._found[: -len(FOLDED_TO_ASCII)] > COMMON_SHARE * self._rows)
        return frozenset(int(rule) for literal in common for rule in self._rules[literal])

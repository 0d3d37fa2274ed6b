"""One pass over a column of texts for the literals of all rules: which rows could match which rules.

A column's texts lie one after the other in one Arrow buffer, which Hyperscan scans whole, all literals at once; where a
match ends says which row it is in. A literal found across two rows, or in a longer word, costs an exact test and no
more: what this pass gives is what the exact conditions are then asked about. What it leaves out cannot match
(`literals`).

Every literal found costs a call. A text made to have millions of them is scanned again by itself, each literal told
once; work and memory are bounded by the size of the texts, whatever stands in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import cast

import hyperscan
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from member_client.detection.literals import FOLDED_TO_ASCII, Required

COMMON_SHARE = 0.1
"""Of the rows: a literal that more of them have tells nothing, and its rules are better asked everywhere."""
_ENOUGH_ROWS = 10_000
"""To tell by them which literals are common."""
_MOST_FOUND = 1_000_000
"""Literals found in one pass over many texts; if there are more, each text is scanned by itself."""
_MOST_IN_ONE = 1_000
"""Different literals found in such a text; one with more is a candidate of every rule."""
_MOST_PAIRS = 8_000_000
"""Of rows and rules, or rows and literals, in memory at once."""

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
        widest = max((column.width for column in self._columns.values()), default=1)
        self._rows_at_once = max(1, _MOST_PAIRS // widest)

    @property
    def fields(self) -> frozenset[str]:
        """The fields that are scanned."""
        return frozenset(self._columns)

    def scan(self, batch: pa.RecordBatch) -> tuple[Numbers, Numbers]:
        """Rows and rules that could match: two arrays of one length, each pair once."""
        parts = list(self.parts(batch))
        return _joined([rows for rows, _ in parts]), _joined([rules for _, rules in parts])

    def parts(self, batch: pa.RecordBatch) -> Iterator[tuple[Numbers, Numbers]]:
        """What `scan` gives, in parts of bounded size."""
        for first in range(0, batch.num_rows, self._rows_at_once):
            some = batch.slice(first, self._rows_at_once)
            for field, column in self._columns.items():
                rows, rules = column.scan(some.column(field))
                if len(rows):
                    yield rows + first, rules

    def too_common(self) -> frozenset[int]:
        """Rules whose literals most rows seen so far had."""
        return frozenset().union(*(column.too_common() for column in self._columns.values()))


def rarest(choices: Mapping[int, Sequence[Required]], batch: pa.RecordBatch) -> dict[int, Required]:
    """Of all that each rule needs, what the fewest rows of a batch have; of those, what tells most by itself."""
    numbered = [(rule, one) for rule, needs in choices.items() for one in needs]
    had = np.zeros(len(numbered), dtype=np.int64)
    for _, which in TextScan({number: one for number, (_, one) in enumerate(numbered)}).parts(batch):
        had += np.bincount(which, minlength=len(numbered))
    # the last one of a rule stays
    by_worth = sorted(range(len(numbered)), key=lambda number: (-had[number], numbered[number][1].worth))
    return dict(numbered[number] for number in by_worth)


def _joined(arrays: list[Numbers]) -> Numbers:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)


class _Column:
    """The literals of one field.

    They are known by number. Behind them come the letters that fold into ASCII, which no rule needs, and last the
    number that stands for too many literals, with every rule.

    Attributes:
        width: how many rules or literals a row can have.
    """

    def __init__(self, needed: Mapping[int, Required]) -> None:
        rules_of: dict[bytes, list[int]] = defaultdict(list)
        for number, required in needed.items():
            for literal in _shortest(required.literals):
                rules_of[literal].append(number)
        self._literals = list(rules_of)
        self._first_odd = len(self._literals)
        self._too_many = self._first_odd + len(FOLDED_TO_ASCII)
        of_each = [rules_of[literal] for literal in self._literals] + [[] for _ in FOLDED_TO_ASCII] + [list(needed)]
        self._rules = [np.array(rules, dtype=np.int64) for rules in of_each]
        self._counts = np.array([len(rules) for rules in of_each], dtype=np.int64)
        self.width = max(len(needed), len(of_each))
        self._found = np.zeros(len(of_each), dtype=np.int64)
        self._rows = 0
        self._database = self._compiled(hyperscan.HS_FLAG_CASELESS)
        self._each_once: hyperscan.Database | None = None

    def _compiled(self, flags: int) -> hyperscan.Database:
        expressions = self._literals + [odd.encode() for odd in FOLDED_TO_ASCII]
        database = hyperscan.Database()
        database.compile(
            expressions=expressions,
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=[flags] * len(expressions),
            literal=True,
        )
        return database

    def scan(self, texts: pa.Array) -> tuple[Numbers, Numbers]:
        """Rows and rules, each pair once."""
        self._rows += len(texts)
        rows, which = self._literals_in(texts)
        odd = np.unique(rows[(which >= self._first_odd) & (which < self._too_many)])
        if len(odd):
            # No search for ASCII sees these letters, so their texts are searched as they fold.
            folded = texts.take(pa.array(odd))
            for letter in FOLDED_TO_ASCII:
                folded = pc.replace_substring(folded, letter, letter.casefold())
            again, which_again = self._literals_in(folded)
            plain = ~np.isin(rows, odd)
            rows = np.concatenate([rows[plain], odd[again]])
            which = np.concatenate([which[plain], which_again])
        if not len(rows):
            return rows, which
        self._found += np.bincount(which, minlength=len(self._found))
        rules = np.concatenate([self._rules[literal] for literal in which])
        both = np.unique(rules * (len(texts) + 1) + np.repeat(rows, self._counts[which]))
        return both % (len(texts) + 1), both // (len(texts) + 1)

    def _literals_in(self, texts: pa.Array) -> tuple[Numbers, Numbers]:
        """Rows and literals, each pair once."""
        offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
        content = texts.buffers()[2]
        if not len(texts) or content is None or offsets[-1] == offsets[0]:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        texts_alone = memoryview(content)[offsets[0] : offsets[-1]]
        literals: list[int] = []
        ends: list[int] = []
        add_literal, add_end = literals.append, ends.append

        def found(literal: int, _start: int, end: int, _flags: int, _context: object) -> bool | None:
            add_literal(literal)
            add_end(end)
            return len(ends) > _MOST_FOUND or None

        try:
            self._database.scan(cast(bytes, texts_alone), match_event_handler=found)
        except hyperscan.ScanTerminated:
            return self._literals_in_each(texts_alone, offsets - offsets[0])
        which = np.array(literals, dtype=np.int64)
        rows = np.searchsorted(offsets, np.array(ends, dtype=np.int64) + offsets[0], side="left") - 1
        pairs = np.unique(which * (len(texts) + 1) + rows)
        return pairs % (len(texts) + 1), pairs // (len(texts) + 1)

    def _literals_in_each(self, texts: memoryview, offsets: NDArray[np.int32]) -> tuple[Numbers, Numbers]:
        """The same, a row at a time and each literal told once, or that there are too many."""
        if self._each_once is None:
            self._each_once = self._compiled(hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_SINGLEMATCH)
        rows: list[Numbers] = []
        which: list[Numbers] = []
        literals: set[int] = set()

        def found(literal: int, _start: int, _end: int, _flags: int, _context: object) -> bool | None:
            literals.add(literal)
            return len(literals) > _MOST_IN_ONE or None

        places = offsets.tolist()
        for row, (start, end) in enumerate(pairwise(places)):
            if start == end:
                continue
            literals.clear()
            try:
                self._each_once.scan(cast(bytes, texts[start:end]), match_event_handler=found)
            except hyperscan.ScanTerminated:
                literals.clear()
                literals.add(self._too_many)
            if literals:
                which.append(np.fromiter(literals, np.int64, len(literals)))
                rows.append(np.full(len(literals), row, np.int64))
        return _joined(rows), _joined(which)

    def too_common(self) -> frozenset[int]:
        if self._rows < _ENOUGH_ROWS:
            return frozenset()
        common = np.flatnonzero(self._found[: self._first_odd] > COMMON_SHARE * self._rows)
        return frozenset(int(rule) for literal in common for rule in self._rules[literal])


def _shortest(literals: frozenset[bytes]) -> list[bytes]:
    """Without those that have another of them in them: where they stand, so does the other."""
    return [one for one in literals if not any(other in one for other in literals if other != one)]

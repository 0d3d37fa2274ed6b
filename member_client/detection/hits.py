"""The rules of all patterns over batches of requests, into one table of hits, on DuckDB.

A rule that cannot match without some literal is asked only about rows that have it (`text_scan`), of several literals
the one that the fewest of the first rows have. The others are asked about every row, all of them in one scan. The
condition is the compiled SQL in either case, so the hits are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from member_client.detection.canonical import EVENT_FILE, EVENT_ID, EVENT_LINE, request_fields
from member_client.detection.findings import WHOSE
from member_client.detection.in_force import RunnablePattern
from member_client.detection.literals import all_required
from member_client.detection.parquet_rows import quoted
from member_client.detection.text_scan import Numbers, TextScan, rarest
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import NUMERIC, Category, Field, fields_in
from sharing_protocol.pattern_logic.conditions import Condition, fields_of

# Planning the conditions of a thousand rules takes a fraction of a second, so many rows share it.
_CANDIDATES = 1_000_000
_CANDIDATE_BYTES = 256 * 1024 * 1024
_COPIED_BYTES = 64 * 1024 * 1024
_WAITING_BYTES = 128 * 1024 * 1024
_RULES_A_QUERY = 250
_ROWS_A_THREAD = 32_768
_FEWEST_TO_CHOOSE_BY, _MOST_TO_CHOOSE_BY = 1_000, 20_000


@dataclass(frozen=True)
class NumberedRule:
    """A rule of one of the patterns.

    Attributes:
        number: its own in this run.
        pattern: position of its pattern among the patterns.
        name: of the rule, in its pattern.
        emits: whether its hits are matches by themselves.
        where, keeps: its condition in SQL, as `CompiledRule` has it.
    """

    number: int
    pattern: int
    name: str
    emits: bool
    where: str
    keeps: str
    condition: Condition

    @cached_property
    def shows(self) -> tuple[str, ...]:
        """The number fields that it reads: what made it match."""
        types = fields_in(Category.REQUEST)
        return tuple(sorted(name for name in fields_of(self.condition) if types[name].type in NUMERIC))


def numbered_rules(
    pattern: RunnablePattern, position: int, numbers: Mapping[tuple[str, str], int]
) -> list[NumberedRule]:
    """The rules of a pattern over requests.

    Args:
        position: of the pattern among the patterns.
        numbers: of rules, by the pattern's entry and their names.

    Raises:
        Unsupported: DuckDB cannot say a condition exactly.
    """
    return [
        NumberedRule(
            numbers[pattern.entry, rule.name],
            position,
            rule.name,
            rule.emits,
            compiled.where,
            compiled.keeps,
            rule.condition,
        )
        for compiled, rule in zip(pattern.rules, pattern.logic.rules, strict=True)
    ]


def fields_kept(logics: Sequence[Logic], rules: Sequence[NumberedRule]) -> tuple[Field, ...]:
    """The fields of a request that correlations and reports need of a hit."""
    kept = {"timestamp", *WHOSE}.union(*(rule.shows for rule in rules))
    for logic in logics:
        if logic.category is Category.REQUEST:
            for correlation in logic.correlations:
                kept |= {*correlation.group_by} | ({correlation.value_field} - {""})
    return request_fields(kept)


class Hits:
    """The rules at work on batches.

    What they hit goes into the table `hit`: `rule` (the number), `identity` of the log, `event.id`, `event.file`,
    `event.line`, and the fields kept; never the prompt, unless a pattern groups by it.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, rules: Sequence[NumberedRule], kept: Sequence[Field]
    ) -> None:
        self._connection = connection
        self._rules = {rule.number: rule for rule in rules}
        self._kept = [EVENT_ID, EVENT_LINE, *(entry.name for entry in kept)]
        choices = {rule.number: all_required(rule.condition) for rule in rules}
        self._needed = {number: max(needs, key=lambda one: one.worth) for number, needs in choices.items() if needs}
        self._choices = {number: needs for number, needs in choices.items() if len(needs) > 1}
        self._log = ("", "")
        self._whole: list[pa.RecordBatch] = []
        self._candidates: list[pa.RecordBatch] = []
        self._whole_bytes = self._candidate_rows = self._candidate_bytes = 0
        self._divide()

    def take(self, batch: pa.RecordBatch, identity: str) -> None:
        """Ask all rules about a batch of one file that has every field that they read; `flush` for the last of it.

        Args:
            identity: of its log.
        """
        log = (identity, batch.column(EVENT_FILE)[0].as_py())
        if log != self._log:
            self.flush()
            self._log = log
        if self._choices and batch.num_rows >= _FEWEST_TO_CHOOSE_BY:
            self.flush()
            self._needed |= rarest(self._choices, batch.slice(0, _MOST_TO_CHOOSE_BY))
            self._choices = {}
            self._divide()
        if self._everywhere:
            self._whole.append(batch.select(self._columns_everywhere))
            self._whole_bytes += batch.nbytes  # a column may keep in memory all that was read with it
            if self._whole_bytes >= _WAITING_BYTES:
                self._ask_everywhere()
        narrow = batch.select(self._columns)
        sizes = _text_bytes(narrow)
        for rows, rules in self._scan.parts(batch):
            # A row is copied for each of its rules, so long texts are taken few at a time.
            copied = np.cumsum(sizes[rows])
            first = 0
            while first < len(rows):
                done = int(copied[first - 1]) if first else 0
                last = int(np.searchsorted(copied, done + _COPIED_BYTES, side="right"))
                last = min(max(last, first + 1), first + _CANDIDATES)
                self._wait(narrow, rows[first:last], rules[first:last])
                first = last
        if common := self._scan.too_common() & self._needed.keys():
            self._needed = {number: need for number, need in self._needed.items() if number not in common}
            self._choices = {}
            self.flush()
            self._divide()

    def _wait(self, batch: pa.RecordBatch, rows: Numbers, rules: Numbers) -> None:
        candidates = batch.take(pa.array(rows))
        if self._candidate_bytes + candidates.nbytes > _CANDIDATE_BYTES:
            self._ask_about_candidates()
        self._candidates.append(candidates.append_column("rule", pa.array(rules.astype("int32"))))
        self._candidate_rows += len(rows)
        self._candidate_bytes += candidates.nbytes
        if self._candidate_rows >= _CANDIDATES or self._candidate_bytes >= _CANDIDATE_BYTES:
            self._ask_about_candidates()

    def flush(self) -> None:
        """Ask about all that waits."""
        self._ask_everywhere()
        self._ask_about_candidates()

    def _divide(self) -> None:
        """Which rules are asked about candidates, and which about every row."""
        self._scan = TextScan(self._needed)
        self._everywhere = [rule for number, rule in self._rules.items() if number not in self._needed]
        self._columns = self._columns_of([self._rules[number] for number in self._needed])
        self._columns_everywhere = self._columns_of(self._everywhere)

    def _columns_of(self, rules: Sequence[NumberedRule]) -> list[str]:
        read = {name for rule in rules for name in fields_of(rule.condition)}
        return [*self._kept, *sorted(read - set(self._kept))]

    def _ask_about_candidates(self) -> None:
        """Ask the exact conditions about all candidates that wait."""
        if not self._candidates:
            return
        candidates = pa.Table.from_batches(self._candidates).combine_chunks()
        self._candidates, self._candidate_rows, self._candidate_bytes = [], 0, 0
        # by rule, so that few conditions are asked about the rows that DuckDB takes at once
        order = np.argsort(candidates.column("rule").to_numpy(), kind="stable")
        candidates = candidates.take(pa.array(order))
        numbers, starts = np.unique(candidates.column("rule").to_numpy(), return_index=True)
        ends = [*starts[1:].tolist(), candidates.num_rows]
        for first in range(0, len(numbers), _RULES_A_QUERY):
            last = min(first + _RULES_A_QUERY, len(numbers)) - 1
            begin = int(starts[first])
            some = candidates.slice(begin, int(ends[last]) - begin)
            asked = [self._rules[int(number)] for number in numbers[first : last + 1]]
            branches = " ".join(f"WHEN {rule.number} THEN ({rule.where})" for rule in asked)
            self._insert(some, "rule", f"CASE rule {branches} ELSE false END")

    def _ask_everywhere(self) -> None:
        """Ask the rules that could match any row about all rows that wait."""
        if not self._whole:
            return
        batches, self._whole, self._whole_bytes = self._whole, [], 0
        numbers = ", ".join(str(rule.number) for rule in self._everywhere)
        wheres = ", ".join(f"({rule.where})" for rule in self._everywhere)
        any_of_them = " OR ".join(f"({rule.keeps})" for rule in self._everywhere)
        self._insert(pa.Table.from_batches(batches), f"unnest(list_where([{numbers}], [{wheres}]))", any_of_them)

    def _insert(self, table: pa.Table, rule: str, where: str) -> None:
        columns = ", ".join(map(quoted, self._kept))
        self._connection.register("batch", pa.Table.from_batches(table.to_batches(max_chunksize=_ROWS_A_THREAD)))
        try:
            self._connection.execute(
                f"INSERT INTO hit (rule, identity, {quoted(EVENT_FILE)}, {columns}) "  # noqa: S608 - ours
                f"SELECT {rule}, ?, ?, {columns} FROM batch WHERE {where}",
                [*self._log],
            )
        finally:
            self._connection.unregister("batch")


def _text_bytes(batch: pa.RecordBatch) -> Numbers:
    """How many bytes of text each row has."""
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return sizes

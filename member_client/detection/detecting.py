"""One run: the sources read, the patterns run over them, what they found written, and what was read remembered.

    finish what an earlier run left → read leg by leg → conclude → write → remember

A run that follows its logs reads only what no earlier one has read. Whatever kills it, the next run goes on from the
last leg that was remembered, and every detection is told exactly once: a file gets its name only after the state knows
that its detections are told, and a run that finds such a file still nameless names it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from member_client.detection.canonical import shown_name
from member_client.detection.engine import REACH, Engine
from member_client.detection.findings import Counter, Finding, Tally, detection_line, written_whole
from member_client.detection.in_force import RunnablePattern
from member_client.detection.log_settings import Source
from member_client.detection.reading import Broken, Position, Request, read
from member_client.detection.reference_engine import ReferenceEngine
from member_client.detection.request_logs import STDIN, Progress
from member_client.detection.spark_engine import SparkEngine
from member_client.detection.state import State
from member_client.detection.unreadable import Readability
from member_client.errors import InvalidInput
from member_client.garbage import little_collecting
from sharing_protocol.pattern_logic.catalogue import Category
from sharing_protocol.pattern_logic.events import parse_time

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LEG_ROWS = 4_000_000
_CHECKED = 10_000
_MEMORY = re.compile(r"[1-9][0-9]{0,4} ?[MG]i?B", re.ASCII)
_ID = pa.schema([("id", pa.string()), ("moment", pa.int64())])


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes.

    Attributes:
        follow: read only what no earlier run has read, and remember how far that was.
        since: leave out requests before this (microseconds since 1970).
        memory: what DuckDB may use before it spills, as it writes it.
        reference: let the reference evaluator do it, for requests alone; such a run follows nothing.
        spark: let this session do it; such a run follows nothing either.
    """

    follow: bool = False
    since: int | None = None
    memory: str = "2GB"
    reference: bool = False
    spark: SparkSession | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run leaves what it found.

    Attributes:
        folder: of the state, and for what does not fit into memory.
        target: file for the detections, JSON lines.
        run: its name.
        keep: keeps a summary.
    """

    folder: Path
    target: Path
    run: str
    keep: Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Result:
    """What a run came to.

    Attributes:
        rows: read by this run.
        tallies: one for each pattern that ran.
        files_unchanged: logs in which nothing was new.
        missing: entry of each pattern to the fields that it reads and no row had.
        hopeless: entries of those that no row had any field of.
        readability: what of the columns was there, and could be read.
    """

    rows: int = 0
    tallies: list[Tally] = field(default_factory=list)
    files_unchanged: int = 0
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hopeless: frozenset[str] = frozenset()
    readability: Readability = field(default_factory=Readability)


def detect(
    sources: Sequence[Source],
    patterns: Sequence[RunnablePattern],
    options: Options,
    place: Place,
    broken: Broken,
    summarise: Callable[[Result], dict[str, Any]],
    progress: Progress | None = None,
) -> Result:
    """Run patterns over sources and write what they find.

    Args:
        sources: expanded.
        broken: told of rows that are left out.
        summarise: makes the run's summary.
        progress: told how many bytes of all files have been read.

    Raises:
        InvalidInput: a file cannot be read, the target cannot be written, or another run is under way.
    """
    with opened_state(place.folder, options) as state, little_collecting():
        for name, draft, target, summary in state.unfinished():
            if draft.exists():
                draft.replace(target)
            place.keep(summary)
            state.finished(name)
        result = Result()
        engine: Engine | ReferenceEngine | SparkEngine
        if options.spark is not None:
            engine = SparkEngine(options.spark, state, patterns, options.since)
            engine.read(sources, broken)
        else:
            engine = (
                ReferenceEngine(patterns, options.since)
                if options.reference
                else Engine(state, patterns, options.since)
            )
            result.files_unchanged = read_all(sources, engine, state, options, broken, progress)
        draft = place.target.with_name(f".{place.target.name}.{place.run}")
        with _removed_unless_told(draft):
            with written_whole(draft) as file:
                ids = _tell(engine, state, result, file.write)
            result.rows = engine.coverage.rows
            result.missing, result.hopeless = missing_fields(engine)
            result.readability = engine.coverage.readability
            summary = summarise(result)
            state.conclude(place.run, draft, place.target, summary, ids)
        # If we stop here, the next run finds the draft, and what it is to be called, in the state.
        draft.replace(place.target)
        place.keep(summary)
        state.finished(place.run)
        if options.follow and engine.coverage.last is not None:
            reach = max([REACH, *(c.timespan for one in patterns for c in one.logic.correlations)])
            for path in state.forget(engine.coverage.last - reach):
                path.unlink(missing_ok=True)
        return result


@contextmanager
def _removed_unless_told(draft: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def opened_state(folder: Path, options: Options) -> Iterator[State]:
    """The state of the home, or one for this run alone that leaves nothing.

    Raises:
        InvalidInput: another run is under way.
    """
    if options.follow:
        state = State(folder, lasting=True, memory=options.memory)
        try:
            yield state
        finally:
            state.close()
        return
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as place:
        state = State(Path(place), lasting=False, memory=options.memory)
        try:
            yield state
        finally:
            state.close()


def read_all(
    sources: Sequence[Source],
    engine: Engine | ReferenceEngine,
    state: State,
    options: Options,
    broken: Broken,
    progress: Progress | None,
) -> int:
    """Show the engine every request, or what is new; gives the number of logs in which nothing was.

    Args:
        sources, broken, progress: see `detect`.

    Raises:
        InvalidInput: a file cannot be read.
    """
    done = unchanged = 0
    for source in sources:
        for name in source.files:
            remembered = options.follow and name != STDIN
            size = 0 if name == STDIN else Path(name).stat().st_size
            file = name if name == STDIN else shown_name(os.path.abspath(name))  # noqa: PTH100 - links stay as named
            if remembered and state.is_unchanged(file, name):
                unchanged += 1
            else:
                _read_file(source, name, file if remembered else None, engine, state, broken, _shifted(progress, done))
            done += size
            if progress is not None:
                progress(done)
    return unchanged


def _shifted(progress: Progress | None, done: int) -> Progress | None:
    return None if progress is None else lambda read_bytes: progress(done + read_bytes)


def _read_file(
    source: Source,
    name: str,
    remembered_as: str | None,
    engine: Engine | ReferenceEngine,
    state: State,
    broken: Broken,
    progress: Progress | None,
) -> None:
    """One log, leg by leg.

    Args:
        remembered_as: its absolute name, None if its watermark is not kept.
    """
    start, identity = state.start_of(remembered_as, name) if remembered_as else (Position(), shown_name(name))
    seen = Path(name).stat() if remembered_as else None
    request = Request(name, source.format, source.columns, engine.fields, start, growing=remembered_as is not None)
    chunks = read(request, state.next_event, broken, progress, engine.coverage.readability)
    upcoming = next(chunks, None)
    while upcoming is not None:
        rows, last = 0, upcoming
        with state.transaction():
            while upcoming is not None and rows < LEG_ROWS:
                engine.take(upcoming.batch, identity)
                rows += upcoming.batch.num_rows
                last, upcoming = upcoming, next(chunks, None)
            engine.settle()
            state.advance(rows)
            if remembered_as:
                at_end = seen if upcoming is None else None
                state.remember(remembered_as, name, identity, last.position, at_end)


def _tell(
    engine: Engine | ReferenceEngine | SparkEngine, state: State, result: Result, write: Callable[[str], object]
) -> pa.Table:
    """Write and count what was found and not yet told; gives its ids."""
    counters = {
        pattern.entry: Counter(Tally(pattern.id, pattern.version, pattern.entry, pattern.title, pattern.severity))
        for pattern in engine.patterns
    }
    told: list[pa.RecordBatch] = []
    for some in _by_thousands(engine.found()):
        ids = [one.id for one in some] if state.lasting else []
        before = state.already_told(ids) if ids else frozenset()
        fresh = [one for one in some if one.id not in before] if before else some
        for one in fresh:
            write(detection_line(one))
            counters[one.pattern.entry].count(one.counted, one.is_window, one.accounts)
        if state.lasting:
            told.append(
                pa.RecordBatch.from_arrays(
                    [pa.array([one.id for one in fresh]), pa.array([one.moment.time for one in fresh], pa.int64())],
                    schema=_ID,
                )
            )
    result.tallies = [counter.tally for counter in counters.values()]
    return pa.Table.from_batches(told, schema=_ID)


def _by_thousands(found: Iterator[Finding]) -> Iterator[list[Finding]]:
    some: list[Finding] = []
    for one in found:
        some.append(one)
        if len(some) >= _CHECKED:
            yield some
            some = []
    if some:
        yield some


def missing_fields(engine: Engine | ReferenceEngine | SparkEngine) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Which patterns read fields that no row had, and which of them had none at all; without a row nothing is known.

    Returns:
        Entry to fields, and entries: `Result.missing` and `Result.hopeless`.
    """
    present = {name for name, count in engine.coverage.present.items() if count}
    missing: dict[str, tuple[str, ...]] = {}
    if not engine.coverage.rows:
        return missing, frozenset()
    hopeless = set()
    for pattern in engine.patterns:
        fields = pattern.logic.required_fields
        have = present if pattern.logic.category is Category.REQUEST else engine.window_fields(pattern.logic.category)
        if absent := tuple(sorted(fields - have)):
            missing[pattern.entry] = absent
            if len(absent) == len(fields):
                hopeless.add(pattern.entry)
    return missing, frozenset(hopeless)


def parse_since(text: str) -> int:
    """Microseconds since 1970 of a day (its midnight, UTC) or of an RFC 3339 time.

    Raises:
        InvalidInput: it is neither.
    """
    time = parse_time(text if "T" in text.upper() else f"{text}T00:00:00Z")
    if time is None:
        raise InvalidInput(f"{text!r} is neither a day nor a time", "write 2026-03-01, or 2026-03-01T09:00:00Z")
    return time


def parse_memory(text: str) -> str:
    """An amount of memory as DuckDB takes it.

    Raises:
        InvalidInput: it is none.
    """
    if not _MEMORY.fullmatch(text):
        raise InvalidInput(f"{text!r} is not an amount of memory", "write it like 2GB or 800MB")
    return text

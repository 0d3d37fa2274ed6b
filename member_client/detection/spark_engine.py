"""The patterns in force on a Spark that is already there: the same matches as the engine's, in the same order.

    read     every file by a task of its own (`spark_reading`), all rules over its rows at once; Spark keeps what they
             hit, with what the findings need and never the prompt, unless a pattern groups by it; and, if a pattern
             is over windows, what these need
    found    matches of single requests, then those of correlations over the hits, one by one from Spark, then those
             of windows, which are built here (`spark_windows`)

Nothing here imports PySpark before it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from member_client.detection.canonical import EVENT_FILE, EVENT_ID, EVENT_LINE, request_fields
from member_client.detection.engine import QUERY_PATTERN, Coverage, firing, request_finding
from member_client.detection.findings import SAMPLES, WHOSE, Finding, Moment, NotRunnable, shown_time
from member_client.detection.hits import NumberedRule, fields_kept
from member_client.detection.in_force import RunnablePattern, Selection
from member_client.detection.literals import required
from member_client.detection.log_settings import Source
from member_client.detection.reading import Broken
from member_client.detection.request_logs import BrokenRow, Place
from member_client.detection.spark_reading import (
    CANDIDATES,
    DISTILLED,
    REPORT,
    TEXTS,
    FileReport,
    Reading,
    numbered_rows,
    rows_schema,
)
from member_client.detection.spark_windows import SparkWindows
from member_client.detection.state import State
from member_client.detection.window_matches import fields_built, measured
from member_client.errors import InvalidInput
from member_client.pattern_sql import Unsupported, compile_sql, correlation_query
from member_client.pattern_sql.dialects import spark_constant
from member_client.pattern_sql.spark import check_session
from member_client.windows.demand import all_windows
from member_client.windows.distilling import Text
from sharing_protocol.pattern_logic import Logic, MatchedWindow
from sharing_protocol.pattern_logic.catalogue import Category, Field, FieldType
from sharing_protocol.pattern_logic.correlations import Correlation

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_MOST_TASKS = 10_000
_REPORTED = 0  # stands where a hit has its rule's number
_NOTED_TOGETHER = 50_000
_QUERY_SHARE = "window.query_pattern_share"
_SQL = {FieldType.TEXT: "STRING", FieldType.ADDRESS: "STRING", FieldType.BOOLEAN: "BOOLEAN", FieldType.TIME: "BIGINT"}


def check_pyspark() -> None:
    """See whether PySpark can be imported, before anything else is done.

    Raises:
        InvalidInput: it cannot.
    """
    try:
        import pyspark.sql  # noqa: F401
    except ImportError as error:
        raise InvalidInput(
            f"--engine spark needs PySpark, which cannot be imported here ({error})",
            "pip install 'stillwatch[spark]', or start stillwatch by your cluster's spark-submit",
        ) from error


@contextmanager
def spark_session(master: str = "") -> Iterator[SparkSession]:
    """The session that is there, or one as Spark's own settings say, which is ended again.

    Args:
        master: where Spark runs; "" for what spark-submit, SPARK_REMOTE or spark-defaults.conf say.

    Raises:
        InvalidInput: there is no PySpark, or Spark does not start.
    """
    check_pyspark()
    import os
    import sys

    from pyspark.sql import SparkSession

    # Workers need a Python that has this program. Where spark-submit or the cluster names one, it is that one.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    active = SparkSession.getActiveSession()
    builder = SparkSession.builder.appName("stillwatch detect")
    with _refused_clearly("Spark does not start", "check JAVA_HOME, --spark-master and Spark's own settings"):
        session = active or (builder.master(master) if master else builder).getOrCreate()
    try:
        yield session
    finally:
        if active is None:
            session.stop()


def only_on_spark(selection: Selection) -> Selection:
    """What of a selection Spark can run; the others are left out, with the reason."""
    runnable: list[RunnablePattern] = []
    left_out = list(selection.left_out)
    unknown = {pattern.entry: reason for pattern in selection.runnable if (reason := _why_not(pattern.logic))}
    if any(pattern.entry in unknown and pattern.kind == QUERY_PATTERN for pattern in selection.runnable):
        unknown |= {
            pattern.entry: f"not run on Spark: it reads {_QUERY_SHARE}, and a query pattern in force cannot run there"
            for pattern in selection.runnable
            if pattern.logic.category is not Category.REQUEST and _QUERY_SHARE in pattern.logic.required_fields
        }
    for pattern in selection.runnable:
        if pattern.entry in unknown:
            left_out.append(NotRunnable(pattern.id, pattern.version, pattern.title, unknown[pattern.entry]))
        else:
            runnable.append(pattern)
    return Selection(tuple(runnable), tuple(left_out))


def _why_not(logic: Logic) -> str:
    if logic.category is not Category.REQUEST:
        return ""  # windows are built and asked by DuckDB
    try:
        compile_sql(logic, "spark")
    except Unsupported as error:
        return f"not runnable on Spark: {error}"
    return ""


class SparkEngine:
    """One run of patterns. See `engine.Engine`; this one reads files whole, and reads them itself.

    Attributes:
        coverage: known once all was read.
    """

    def __init__(
        self, session: SparkSession, state: State, patterns: Sequence[RunnablePattern], since: int | None = None
    ) -> None:
        """Compile.

        Args:
            state: where windows are built.
            patterns: such as Spark can run.
            since: leave out requests before this, and those without a time (microseconds since 1970).

        Raises:
            Unsupported: Spark cannot say exactly what a pattern means.
            InvalidInput: the session reads SQL otherwise than Spark does by default.
        """
        check_session(session)
        self.coverage = Coverage()
        self.patterns = patterns
        self._session = session
        self._state = state
        requests = [one for one in patterns if one.logic.category is Category.REQUEST]
        self._over_windows = [one for one in patterns if one.logic.category is not Category.REQUEST]
        self._distilled = 0
        self._persisted: DataFrame | None = None
        self._rules: list[NumberedRule] = []
        for position, pattern in enumerate(patterns):
            if pattern.logic.category is not Category.REQUEST:
                continue
            compiled = compile_sql(pattern.logic, "spark")
            for rule, done in zip(pattern.logic.rules, compiled.rules, strict=True):
                number = len(self._rules) + 1
                self._rules.append(
                    NumberedRule(number, position, rule.name, rule.emits, done.where, done.keeps, rule.condition)
                )
        self._needed = {rule.number: need for rule in self._rules if (need := required(rule.condition)) is not None}
        self._kept = fields_kept([one.logic for one in requests], self._rules)
        needed = {"timestamp", *WHOSE}.union(*(one.logic.required_fields for one in requests))
        self._reading = Reading(
            # like the engine, which keeps all of them for windows
            fields=request_fields(None if self._over_windows else needed),
            since=since,
            needed=self._needed,
            sent=request_fields(needed),
            asked=bool(self._rules),
            distils=bool(self._over_windows),
            texts=_texts_asked(self._over_windows),
        )
        name = uuid4().hex
        self._requests, self._hits, self._own_hits, self._fired = (
            f"stillwatch_{kind}_{name}" for kind in ("requests", "hits", "pattern_hits", "fired")
        )

    # -- requests ----------------------------------------------------------------------------------------------------

    def read(self, sources: Sequence[Source], broken: Broken) -> None:
        """Read all files and ask all rules about every request.

        Args:
            sources: expanded, of files alone.
            broken: told of rows that are left out; beyond a hundred a file without their lines.

        Raises:
            InvalidInput: a file cannot be read where Spark runs, or Spark fails.
        """
        files = [Source((name,), one.format, dict(one.columns)) for one in sources for name in one.files]
        with _spark_failures():
            source = _log_source(files, self._reading)
            self._session.dataSource.register(source)
            self._session.read.format(source.name()).load().createOrReplaceTempView(self._requests)
            hits = self._session.sql(self._asked())
            self._persisted = hits.persist()
            hits.createOrReplaceTempView(self._hits)
            reports = self._session.sql(
                f"SELECT `{EVENT_FILE}`, {REPORT} FROM {self._hits} WHERE {REPORT} IS NOT NULL ORDER BY `{EVENT_ID}`"  # noqa: S608 - ours
            ).collect()
        for file, report in reports:
            self._note_report(file, FileReport(**json.loads(report)), broken)

    def _asked(self) -> str:
        """The hits: a row for each rule and request that it matched, and one for each file's report."""
        kept = ", ".join(_quoted(name) for name in self._columns)
        by_need = {True: "", False: ""}
        for rule in self._rules:
            by_need[rule.number in self._needed] += f" WHEN {rule.number} THEN {rule.where}"
        # Each rule is chosen by its number: what conditions share, Spark would else work out for every request.
        asked = [
            f"filter({numbers}, n -> CASE n{whens} END)"
            for numbers, whens in (
                (CANDIDATES, by_need[True]),
                (
                    f"array({', '.join(str(n.number) for n in self._rules if n.number not in self._needed)})",
                    by_need[False],
                ),
            )
            if whens
        ]
        hit = f"array({_REPORTED})"
        if asked:
            request = f"{REPORT} IS NULL AND {DISTILLED} IS NULL"
            hit = f"CASE WHEN {request} THEN concat({', '.join(asked)}) ELSE {hit} END"
        return f"SELECT {kept}, {REPORT}, {DISTILLED}, {TEXTS}, explode({hit}) AS rule FROM {self._requests}"  # noqa: S608 - ours

    @property
    def _columns(self) -> list[str]:
        return [EVENT_ID, EVENT_FILE, EVENT_LINE, *(entry.name for entry in self._kept)]

    def _note_report(self, file: str, report: FileReport, broken: Broken) -> None:
        if report.failed:
            raise InvalidInput(
                f"a machine of this Spark cannot read {file}: {report.failed}",
                "all of them must see the logs under the names that they have here",
            )
        self._distilled += report.distilled
        for line, reason in report.described:
            broken(BrokenRow(Place(file, line), reason))
        for _ in range(report.broken - len(report.described)):
            broken(BrokenRow(Place(file, 0), "broken too; only the first of a file are described"))
        self.coverage.include(Coverage(report.rows, report.present, report.first, report.last, report.readability))

    # -- what it comes to --------------------------------------------------------------------------------------------

    def found(self) -> Iterator[Finding]:
        """Every match: those of single requests in their order, then those of correlations, then those of windows.

        Raises:
            InvalidInput: Spark fails.
        """
        with _spark_failures():
            windows = SparkWindows(self._session, self._hits, self._state)
            yield from self._single_requests(windows)
            for position, pattern in enumerate(self.patterns):
                if pattern.logic.category is Category.REQUEST and pattern.logic.has_correlations:
                    yield from self._correlated(position, pattern, windows)
            if self._over_windows and self._distilled:
                yield from windows.found(self._over_windows, self._distilled)
            if self._persisted is not None:
                self._persisted.unpersist()

    def window_fields(self, category: Category) -> frozenset[str]:
        """The fields that some window of a kind has, once they have been built."""
        return fields_built(self._state.connection, category)

    def _single_requests(self, windows: SparkWindows) -> Iterator[Finding]:
        by_number = {rule.number: rule for rule in self._rules if rule.emits}
        if not by_number:
            return
        chosen = ", ".join(_quoted(name) for name in self._columns)
        numbers = ", ".join(map(str, by_number))
        hits = self._session.sql(
            f"SELECT rule, {chosen} FROM {self._hits} WHERE rule IN ({numbers}) ORDER BY `{EVENT_ID}`, rule"  # noqa: S608 - ours
        )
        in_force: list[int] = []
        for number, *values in _fetched(hits):
            rule = by_number[number]
            row = dict(zip(self._columns, values, strict=True))
            if self._over_windows and self.patterns[rule.pattern].kind == QUERY_PATTERN:
                in_force.append(row[EVENT_ID])
                if len(in_force) >= _NOTED_TOGETHER:
                    windows.note_query_hits(in_force)
                    in_force.clear()
            yield request_finding(self.patterns[rule.pattern], rule, row[EVENT_FILE], row)

        windows.note_query_hits(in_force)

    def _correlated(self, position: int, pattern: RunnablePattern, windows: SparkWindows) -> Iterator[Finding]:
        names = {rule.number: _literal(rule.name) for rule in self._rules if rule.pattern == position}
        whens = " ".join(f"WHEN {number} THEN {name}" for number, name in names.items())
        columns = ", ".join(_quoted(name) for name in self._columns if name != EVENT_ID)
        self._session.sql(
            f"SELECT `{EVENT_ID}` AS event_id, CASE rule {whens} END AS rule, {columns} "  # noqa: S608 - ours
            f"FROM {self._hits} WHERE rule IN ({', '.join(map(str, names))})"
        ).createOrReplaceTempView(self._own_hits)
        fired = self._session.sql(correlation_query(pattern.logic, self._own_hits, "spark"))
        fired.createOrReplaceTempView(self._fired)
        if self._over_windows and pattern.kind == QUERY_PATTERN:
            windows.note_query_hits(event for (event,) in _fetched(fired.select("event_id")))
        for correlation in pattern.logic.correlations:
            if correlation.emits:
                yield from self._firings(pattern, correlation)

    def _firings(self, pattern: RunnablePattern, correlation: Correlation) -> Iterator[Finding]:
        groups = [_quoted(name) for name in correlation.group_by]
        partition = f"PARTITION BY {', '.join(groups)}" if groups else ""
        rows = self._session.sql(
            f"""
            WITH event AS (
              SELECT event_id, any_value(`{EVENT_FILE}`) AS file, any_value(`{EVENT_LINE}`) AS line,
                any_value(`timestamp`) AS t, any_value(`account.id`) AS account,
                any_value(`org.id`) AS organisation, any_value(`network.ip`) AS address
                {"".join(f", any_value({name}) AS {name}" for name in groups)}
              FROM {self._own_hits} GROUP BY event_id
            ), trail AS (
              SELECT *, collect_list(struct(file, line, t)) OVER (
                {partition} ORDER BY t, event_id ROWS BETWEEN {SAMPLES - 1} PRECEDING AND CURRENT ROW) AS recent
              FROM event WHERE t IS NOT NULL
            )
            SELECT window_value, window_start, window_end, file, line, t, account, organisation, address,
              filter(recent, one -> one.t > window_start) AS recent
              {"".join(f", trail.{one}" for one in groups)}
            FROM {self._fired} JOIN trail USING (event_id)
            WHERE rule = {_literal(correlation.name)} AND window_end IS NOT NULL
            ORDER BY event_id
            """  # noqa: S608 - names of the catalogue
        )
        for value, start, end, file, line, time, account, organisation, address, recent, *group in _fetched(rows):
            moment = Moment(Place(file, line), shown_time(time), time, account, organisation, address)
            named = dict(zip(correlation.group_by, group, strict=True))
            window = MatchedWindow(named, measured(correlation, value), start, end)
            yield firing(pattern, correlation, file, moment, window, recent)


def _texts_asked(patterns: Sequence[RunnablePattern]) -> tuple[Text, ...]:
    """The texts that windows may need for these patterns."""
    demands = all_windows(one.logic for one in patterns)
    wanted = {Text.TEMPLATE: bool(patterns), Text.EXCERPT: any(one.unlikeness for one in demands)}
    return tuple(text for text, asked in wanted.items() if asked)


def _fetched(rows: DataFrame) -> Iterator[tuple[Any, ...]]:
    """A query's rows in its order, a partition at a time."""
    yield from rows.toLocalIterator()


def _log_source(files: Sequence[Source], reading: Reading) -> Any:
    """The requests in the files as a data source of Spark's, the class of one; a task for each file, or for some.

    Spark sends it to its machines with all that it holds.
    """
    from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

    name, schema = f"stillwatch_{uuid4().hex}", _spark_schema(reading.sent)
    tasks = min(len(files), _MOST_TASKS)

    class Reader(DataSourceReader):  # type: ignore[misc] # PySpark is not there when types are checked
        def partitions(self) -> Sequence[Any]:
            return [InputPartition(task) for task in range(tasks)]

        def read(self, partition: Any) -> Iterator[pa.RecordBatch]:
            for number in range(partition.value, len(files), tasks):
                yield from numbered_rows(files[number], reading, number)

    class Logs(DataSource):  # type: ignore[misc] # likewise
        @classmethod
        def name(cls) -> str:
            return name

        def schema(self) -> str:
            return schema

        def reader(self, schema: Any) -> Reader:
            del schema
            return Reader()

    return Logs


def _spark_schema(fields: Sequence[Field]) -> str:
    types = {entry.name: _SQL.get(entry.type, "DOUBLE") for entry in fields}
    types |= {
        EVENT_ID: "BIGINT",
        EVENT_FILE: "STRING",
        EVENT_LINE: "BIGINT",
        CANDIDATES: "ARRAY<INT>",
        REPORT: "STRING",
        DISTILLED: "BINARY",
        TEXTS: "BINARY",
    }
    return ", ".join(f"{_quoted(name)} {types[name]}" for name in rows_schema(fields).names)


def _quoted(name: str) -> str:
    """A name of the catalogue as Spark writes it."""
    return f"`{name}`"


def _literal(text: str) -> str:
    """A text as Spark writes it; unlike DuckDB it reads backslashes."""
    return spark_constant(text).sql(dialect="spark")


def _spark_failures() -> Any:
    return _refused_clearly("Spark failed", "its own log says more; --engine duckdb runs the same on this machine")


@contextmanager
def _refused_clearly(what: str, hint: str) -> Iterator[None]:
    """Spark's own errors as ours, in a line.

    Raises:
        InvalidInput: instead of them.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("pyspark", "py4j"):
            raise
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InvalidInput(f"{what}: {first[:500]}", hint) from error

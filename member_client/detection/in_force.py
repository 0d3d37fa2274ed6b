"""Which patterns run over a lab's logs, and why others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from threading import Lock

import duckdb

from member_client.detection.canonical import CLOSED, keep_from_files, sql_type
from member_client.detection.findings import NotRunnable
from member_client.errors import InvalidInput
from member_client.pattern_sql import CompiledPattern, CompiledRule, Unsupported, compile_rules, compile_sql
from member_client.patterns.finding import Listed, listing, resolve
from member_client.session import Session
from member_client.sync.store import StoredVersion
from sharing_protocol.content import check_pattern
from sharing_protocol.errors import ProtocolError
from sharing_protocol.pattern_logic import Logic
from sharing_protocol.pattern_logic.catalogue import Category, fields_in

_TOO_DEEP = "it is nested too deeply to be read here"
_MAX_PREPARED = 4096


@dataclass(frozen=True, slots=True)
class RunnablePattern:
    """A pattern in force, compiled.

    Attributes:
        id, version, entry: exactly which version of the record.
        kind: query_pattern, behavioral_signature or detection_method.
    """

    id: str
    version: int
    entry: str
    title: str
    severity: str
    logic: Logic
    kind: str = ""

    @property
    def compiled(self) -> CompiledPattern:
        """Its SQL, over a relation named as its category, `requests` of requests.

        Raises:
            Unsupported: DuckDB cannot say exactly what it means.
        """
        return _compiled(self.logic)

    @property
    def rules(self) -> tuple[CompiledRule, ...]:
        """Those of `compiled`, and all that is needed of a pattern over requests.

        Raises:
            Unsupported: likewise.
        """
        return _compiled_rules(self.logic)


@dataclass(frozen=True, slots=True)
class Selection:
    """The patterns for a run."""

    runnable: tuple[RunnablePattern, ...]
    left_out: tuple[NotRunnable, ...]


def select(session: Session, ids: Sequence[str] = ()) -> Selection:
    """The patterns that are active here and passed their trial, or of these the ones asked for.

    Args:
        ids: record ids, or beginnings of them; naming one that is not in force is an error, not a silent nothing.

    Raises:
        InvalidInput: no such pattern, or it is not in force.
    """
    if ids:
        wanted = list(dict.fromkeys(resolve(session.store, text)[-1] for text in ids))
    else:
        wanted = session.store.versions(type="pattern", newest_only=True)
    runnable: list[RunnablePattern] = []
    left_out: list[NotRunnable] = []
    for version in wanted:
        listed = listing(version, session.membership, session.now)
        if listed.state != "active" or version.trial is None:
            if ids:
                raise InvalidInput(f"{version.id} is not in force: {_why(listed)}", "see `pattern show`")
            if listed.why:  # it was in force until somebody said otherwise: whoever relies on it must hear
                left_out.append(NotRunnable(version.id, version.version, version.title, _why(listed)))
            continue
        prepared = _prepared(session, version)
        if isinstance(prepared, RunnablePattern):
            runnable.append(prepared)
        else:
            left_out.append(prepared)
    return Selection(tuple(runnable), tuple(left_out))


@lru_cache(maxsize=4096)
def _compiled(logic: Logic) -> CompiledPattern:
    """Once a logic: it takes some milliseconds."""
    table = "requests" if logic.category is Category.REQUEST else str(logic.category)
    return compile_sql(logic, table=table)


@lru_cache(maxsize=4096)
def _compiled_rules(logic: Logic) -> tuple[CompiledRule, ...]:
    """Once a logic too."""
    return compile_rules(logic)


def _why(listed: Listed) -> str:
    if listed.state == "active":
        return "it was not tried here yet"
    detail = listed.version.trial if listed.state == "unsound" else listed.why
    return f"{listed.state} ({detail})" if detail else listed.state


def _prepared(session: Session, version: StoredVersion) -> RunnablePattern | NotRunnable:
    """The same as of the last time, if there was one: an entry never changes, and its hash names all that is in it."""
    if (known := _PREPARED.get(version.entry)) is not None:
        return known
    with _PREPARING:
        if len(_PREPARED) >= _MAX_PREPARED:
            del _PREPARED[next(iter(_PREPARED))]
        return _PREPARED.setdefault(version.entry, _prepare(session, version))


def _prepare(session: Session, version: StoredVersion) -> RunnablePattern | NotRunnable:
    pattern = session.store.pattern(version)
    try:
        logic = check_pattern(pattern.body)
    except ProtocolError as error:  # it passed its trial under an earlier version of this program
        return NotRunnable(version.id, version.version, version.title, error.detail)
    except RecursionError:
        return NotRunnable(version.id, version.version, version.title, _TOO_DEEP)
    runnable = RunnablePattern(
        version.id, version.version, version.entry, version.title, version.severity, logic, version.kind
    )
    if reason := why_not_runnable(runnable):
        return NotRunnable(version.id, version.version, version.title, reason)
    return runnable


def why_not_runnable(pattern: RunnablePattern) -> str:
    """Why DuckDB cannot run a pattern, "" if it can: found out here, where it can still be left out.

    All patterns are asked in one statement, so one that DuckDB refuses would stop the others.
    """
    try:
        category = pattern.logic.category
        rules = pattern.rules if category is Category.REQUEST else pattern.compiled.rules
        with _empty_tables().cursor() as cursor:
            for rule in rules:
                cursor.execute(f'SELECT {rule.where} FROM "{category}"')  # noqa: S608 - what the compiler gives
    except Unsupported as error:
        return f"not runnable on DuckDB: {error}"
    except duckdb.Error as error:
        return f"not runnable on DuckDB: {str(error)[:300]}"
    except RecursionError:
        return f"not runnable on DuckDB: {_TOO_DEEP}"
    return ""


def check_runnable(pattern: RunnablePattern) -> None:
    """See that DuckDB can run a pattern that is to run by itself, before hours of work.

    Raises:
        InvalidInput: it cannot.
    """
    if reason := why_not_runnable(pattern):
        raise InvalidInput(f"{pattern.title!r} is {reason}", "change what its rules ask: docs/pattern-format.md")


_PREPARED: dict[str, RunnablePattern | NotRunnable] = {}
"""What became of patterns in this process, by entry hash, the oldest first."""
_PREPARING = Lock()


@cache
def _empty_tables() -> duckdb.DuckDBPyConnection:
    """A table without rows for each category, with the columns that its rules may read."""
    connection = duckdb.connect(config=CLOSED)
    keep_from_files(connection)
    for category in Category:
        columns = ", ".join(f'"{entry.name}" {sql_type(entry)}' for entry in fields_in(category).values())
        connection.execute(f'CREATE TABLE "{category}" ({columns})')
    return connection

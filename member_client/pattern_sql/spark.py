"""A pattern on a Spark that is already there: the same matches as everywhere else.

Nothing here imports PySpark: whoever has a session has it. Install it with `pip install 'stillwatch[spark]'`, or use
the one that a cluster brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from member_client.errors import InvalidInput
from member_client.pattern_sql.compiling import compile_sql
from sharing_protocol.pattern_logic import Logic

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_LITERALS = "spark.sql.parser.escapedStringLiterals"


def run_on_spark(session: SparkSession, logic: Logic, table: str = "requests") -> DataFrame:
    """The matches of a pattern over a table or temporary view of the session; Spark runs it when they are read.

    Args:
        session: a running one; classic or Spark Connect.
        logic: the pattern's.
        table: as Spark writes its name; its columns are the canonical ones (docs/log-sources.md, "As SQL").

    Returns:
        The columns of `CompiledPattern.query`.

    Raises:
        Unsupported: Spark cannot say exactly what the pattern means.
        InvalidInput: the session reads constants otherwise than Spark does by default.
    """
    check_session(session)
    return session.sql(compile_sql(logic, "spark", table).query)


def check_session(session: SparkSession) -> None:
    """See whether the session reads SQL as it is written for Spark.

    Raises:
        InvalidInput: it reads constants otherwise than Spark does by default.
    """
    if session.conf.get(_LITERALS, "false") == "true":
        raise InvalidInput(
            f"this session sets {_LITERALS}, so a backslash in a constant would mean something else",
            f"run `SET {_LITERALS} = false`",
        )

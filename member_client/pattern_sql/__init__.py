"""A pattern's logic as SQL for a lab's own engine: what it matches there is what the reference evaluator matches.

`compile_sql` takes the `Logic` that `sharing_protocol.pattern_logic` makes of a record and gives a boolean expression
for each rule, and one query for all matches, in the dialect of DuckDB, Spark, Trino, BigQuery or Snowflake. They go
over a table whose columns are the catalogue's fields (docs/log-sources.md, "As SQL"). What a dialect cannot say exactly
raises `Unsupported`; nothing is said approximately.
"""

from member_client.pattern_sql.compiling import (
    CompiledPattern,
    CompiledRule,
    compile_rules,
    compile_sql,
    correlation_query,
)
from member_client.pattern_sql.dialects import DIALECTS
from member_client.pattern_sql.unsupported import Unsupported

__all__ = [
    "DIALECTS",
    "CompiledPattern",
    "CompiledRule",
    "Unsupported",
    "compile_rules",
    "compile_sql",
    "correlation_query",
]

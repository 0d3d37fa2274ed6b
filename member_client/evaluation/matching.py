"""Which events of a relation a pattern matches, by its compiled SQL."""

from __future__ import annotations

import duckdb
import numpy as np

from member_client.evaluation.population import Integers
from member_client.pattern_sql import compile_sql
from sharing_protocol.pattern_logic import Logic


def matching_events(connection: duckdb.DuckDBPyConnection, logic: Logic, relation: str) -> Integers:
    """The `event.id` of each event that a rule matches, or at which a correlation does; ascending.

    Args:
        relation: in the canonical form of the logic's category; of columns that the logic does not read, it needs only
            `timestamp`.
    """
    query = compile_sql(logic, table=relation).query
    # The query is of our own making, and its literals are escaped by sqlglot.
    found = connection.execute(f"SELECT DISTINCT event_id FROM ({query}) ORDER BY 1").fetchnumpy()["event_id"]  # noqa: S608
    return np.asarray(found, dtype=np.int64)

"""Which events of a relation a pattern matches."""

from __future__ import annotations

import duckdb
import numpy as np

from member_client.evaluation.population import Integers
from sharing_protocol.pattern_logic import Evaluation, Logic
from sharing_protocol.pattern_logic.catalogue import FieldType, fields_in

_CHUNK = 10_000


def matching_events(connection: duckdb.DuckDBPyConnection, logic: Logic, relation: str) -> Integers:
    """The `event.id` of each match, ascending.

    Args:
        relation: in the canonical form of the logic's category; it may lack columns that the logic does not read.
    """
    types = {name: field.type for name, field in fields_in(logic.category).items()}
    read = sorted(logic.required_fields)
    columns = ", ".join(f'"{name}"' for name in ["event.id", *read])
    rows = connection.execute(f'SELECT {columns} FROM {relation} ORDER BY "event.id"')  # noqa: S608 - catalogue names
    evaluation = Evaluation(logic)
    ids: list[int] = []
    matched: set[int] = set()
    while chunk := rows.fetchmany(_CHUNK):
        for identity, *values in chunk:
            ids.append(identity)
            fields = {
                name: value / 1_000_000 if types[name] is FieldType.TIME and value is not None else value
                for name, value in zip(read, values, strict=True)
            }
            matched.update(match.index for match in evaluation.observe(fields))
    matched.update(match.index for match in evaluation.conclude())
    return np.array([ids[index] for index in sorted(matched)], dtype=np.int64)

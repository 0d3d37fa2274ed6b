"""`/records`: conveniences over the projection. A member that wants to be sure reads the log."""

import asyncio
import json
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from hub.database import record_queries
from hub.database.record_queries import Filters, FoundRecord
from hub.errors import Denied
from hub.problems import documented
from hub.routes.parameters import AS_WRITTEN, only_documented
from hub.routes.services import Services
from sharing_protocol.line_diff import line_diff
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.wire import (
    MAX_PAGE,
    RECORDS,
    RecordDifference,
    RecordHistory,
    RecordPage,
    RecordSummary,
    RecordVersion,
    WireModel,
)

MAX_VERSIONS = 100
"""Versions that one answer has, of up to 64 kB each: their author may write as many as the quota takes."""

RecordType = Literal[
    "pattern",
    "withdrawal",
    "sighting",
    "opinion",
    "endorsement",
    "playbook",
    "referral_criteria",
    "incident",
    "incident_action",
]
RecordKind = Literal[
    "query_pattern", "behavioral_signature", "detection_method", "escalation_protocol", "revocation_procedure"
]
RecordId = Annotated[str, Path(pattern="^[a-z-]{1,40}--[0-9a-f-]{36}$")]
Name = Annotated[str | None, Query(max_length=200, pattern="^[^\\x00-\\x1f]+$")]
FromVersion = Annotated[int, Query(alias="from", ge=1, le=1_000_000), AS_WRITTEN]
ToVersion = Annotated[int, Query(ge=1, le=1_000_000), AS_WRITTEN]


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["records"], dependencies=[Depends(only_documented)])

    @routes.get(
        RECORDS,
        summary="Find records, in log order",
        response_model=RecordPage,
        responses=documented((HTTPStatus.UNPROCESSABLE_ENTITY,)),
    )
    async def find(
        type: RecordType | None = None,
        kind: RecordKind | None = None,
        author: Name = None,
        state: Literal["active", "withdrawn", "suspect", "expired", "superseded"] | None = None,
        technique: Annotated[str | None, Query(pattern=r"^AML\.T[0-9]{4}(\.[0-9]{3})?$")] = None,
        q: Name = None,
        after: Annotated[int, Query(ge=-1, le=2**48), AS_WRITTEN] = -1,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE), AS_WRITTEN] = 50,
    ) -> Response:
        filters = Filters(type, kind, author, state, technique, q)
        async with services.engine.connect() as connection:
            # One more than asked for tells whether there is a next page.
            found, size = await record_queries.find_records(connection, filters, services.clock(), after, limit + 1)
        page = found[:limit]
        return _json(
            RecordPage(
                records=[_summary(record) for record in page],
                next=page[-1].entry if len(found) > limit else None,
                tree_size=size,
            )
        )

    @routes.get(
        RECORDS + "/{record_id}",
        summary="All versions of a record, and its withdrawal",
        response_model=RecordHistory,
        responses=documented((HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)),
    )
    async def history(record_id: RecordId) -> Response:
        async with services.engine.connect() as connection:
            versions = await record_queries.read_versions(connection, record_id, services.clock(), MAX_VERSIONS + 1)
            withdrawal = await record_queries.read_withdrawal(connection, record_id, services.clock())
        if not versions:
            raise _unknown(record_id)
        if len(versions) > MAX_VERSIONS:
            what = f"{record_id} has more than {MAX_VERSIONS:,} versions; read them from the log, as members do"
            raise Denied("too_much_said", what)
        return _json(
            RecordHistory(
                id=record_id,
                versions=[_version(version) for version in versions],
                withdrawal=_version(withdrawal) if withdrawal else None,
            )
        )

    @routes.get(
        RECORDS + "/{record_id}/diff",
        summary="What changed between two versions",
        response_model=RecordDifference,
        responses=documented((HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)),
    )
    async def difference(record_id: RecordId, from_version: FromVersion, to: ToVersion) -> Response:
        async with services.engine.connect() as connection:
            versions = await record_queries.read_versions(
                connection, record_id, services.clock(), 2, only=(from_version, to)
            )
        texts = {record.version: _pretty(statement) for record, statement in versions}
        if from_version not in texts or to not in texts:
            raise _unknown(f"{record_id} in versions {from_version} and {to}")
        names = f"version {from_version}", f"version {to}"
        lines = await asyncio.to_thread(line_diff, texts[from_version], texts[to], names)
        return _json(RecordDifference(id=record_id, from_version=from_version, to_version=to, diff=lines))

    return routes


def _summary(record: FoundRecord) -> RecordSummary:
    return RecordSummary(
        index=record.entry,
        entry=record.leaf_hash.hex(),
        id=record.id,
        type=record.type,
        version=record.version,
        author=record.author,
        author_name=record.author_name,
        created=format_timestamp(record.created),
        state=record.state,
        title=record.title,
        kind=record.kind,
        techniques=record.techniques,
        severity=record.severity,
        marking=record.marking,
        valid_until=format_timestamp(record.valid_until),
    )


def _version(found: tuple[FoundRecord, dict[str, Any]]) -> RecordVersion:
    record, statement = found
    return RecordVersion(summary=_summary(record), statement=statement)


def _pretty(statement: dict[str, Any]) -> list[str]:
    return json.dumps(statement, indent=2, ensure_ascii=False, sort_keys=True).split("\n")


def _unknown(what: str) -> Denied:
    return Denied("not_found", f"the log has no {what}")


def _json(model: WireModel) -> Response:
    return Response(model.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")

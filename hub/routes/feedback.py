"""`GET /patterns/{id}/feedback`: what labs say of a pattern, added up as every member adds it up for itself."""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from hub.database import log_store, record_queries
from hub.database.record_queries import SaidOf
from hub.errors import Denied
from hub.problems import documented
from hub.routes.parameters import only_documented
from hub.routes.services import Services
from hub.routes.shared import Content, SharedAnswers
from sharing_protocol import statements
from sharing_protocol.feedback import Feedback, Said, Voice, as_wire, feedback
from sharing_protocol.wire import PATTERNS, PatternFeedback

MAX_SAID = 20_000
"""Voices that one answer adds up: one lab's quota is enough for ten times as many. Who asks at once gets one answer."""
MAX_VERSIONS = 1_000
"""Versions that one answer tells of: their author may write as many as the quota takes."""

PatternId = Annotated[str, Path(pattern="^pattern--[0-9a-f-]{36}$")]


def router(services: Services) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["records"], dependencies=[Depends(only_documented)])
    shared = SharedAnswers()

    @routes.get(
        PATTERNS + "/{pattern_id}/feedback",
        summary="What labs say of each version of a pattern",
        response_model=PatternFeedback,
        responses=documented((HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)),
    )
    async def pattern_feedback(pattern_id: PatternId) -> Response:
        now = services.clock()
        async with services.engine.connect() as connection:
            head = await log_store.read_head(connection)
        # Nothing of it changes while the log does not grow, within a second: statements expire at whole ones.
        moment = (pattern_id, head.size, int(now.timestamp()))
        found = await shared.get(moment, lambda: _answer(services, pattern_id, now))
        return Response(found.data, 200, {"Cache-Control": "no-store"}, "application/json")

    return routes


async def _answer(services: Services, pattern_id: str, now: datetime) -> Content:
    async with services.engine.connect() as connection:
        # One moment: between two, a lab's voice could have left the old version and not be in the new one yet.
        await connection.execution_options(isolation_level="REPEATABLE READ")
        head = await log_store.read_head(connection)
        versions = await record_queries.read_version_entries(connection, pattern_id, MAX_VERSIONS + 1)
        said = await record_queries.read_said_of(connection, pattern_id, now, MAX_SAID + 1)
    if not versions:
        raise Denied("not_found", f"the log has no {pattern_id}")
    for size, most, what in ((len(said), MAX_SAID, "voices"), (len(versions), MAX_VERSIONS, "versions")):
        if size > most:
            told = f"of {pattern_id} there are more than {most:,} {what}; add them up from the log, as members do"
            raise Denied("too_much_said", told)
    found = await asyncio.to_thread(_added_up, said, now)
    answer = PatternFeedback(
        id=pattern_id,
        versions=[as_wire(version, found.get(leaf.hex(), Feedback(leaf.hex()))) for version, leaf in versions],
        tree_size=head.size,
    )
    return Content(answer.model_dump_json().encode())


def _added_up(said: list[SaidOf], now: datetime) -> dict[str, Feedback]:
    """The sums, with each statement read again: all that a hub's table says of one is where it stands."""
    voices = []
    for one in said:
        statement = statements.parse(one.statement.encode(), is_strict=True)
        if isinstance(statement, Voice):
            voices.append(
                Said(
                    one.entry,
                    statement,
                    newest=True,
                    withdrawn=False,
                    suspect=one.suspect,
                    lab_active=one.lab_active,
                    of_own=one.of_own,
                )
            )
    return feedback(voices, now)

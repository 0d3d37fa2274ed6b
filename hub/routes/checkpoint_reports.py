"""`POST /checkpoint`: a member shows the newest checkpoint that it knows, and so whether this hub was rolled back."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import Response

from hub.problems import documented
from hub.routes.services import Services, body_of, caller_of
from sharing_protocol.wire import CHECKPOINT, NOTE_MEDIA_TYPE, CheckpointComparison

_NOTE_BODY = {
    "requestBody": {
        "required": True,
        "description": "A checkpoint that this log's key signed; other signatures are ignored.",
        "content": {NOTE_MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


def router(services: Services) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["log"])

    @routes.post(
        CHECKPOINT,
        summary="Show the hub a checkpoint that it signed; one that its log does not extend halts the log",
        response_model=CheckpointComparison,
        responses=documented((HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)),
        openapi_extra=_NOTE_BODY,
    )
    async def show(request: Request) -> Response:
        reporter = services.member_of(caller_of(request))
        comparison = await services.guard.compare(reporter, body_of(request))
        return Response(
            comparison.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json"
        )

    return routes

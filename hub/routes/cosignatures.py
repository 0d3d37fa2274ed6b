"""`/cosignatures`: witnesses send what they have cosigned, and members ask who did."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from hub.problems import documented
from hub.routes.parameters import only_documented
from hub.routes.services import Services, body_of, caller_of
from sharing_protocol.wire import COSIGNATURES, NOTE_MEDIA_TYPE, CosignatureReceipt, CosignedCheckpoints

_NOTE_BODY = {
    "requestBody": {
        "required": True,
        "description": "A checkpoint that this log's key signed, with cosignatures (C2SP tlog-cosignature v1) by "
        "current witness keys.",
        "content": {NOTE_MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}
_NO_STORE = {"Cache-Control": "no-store"}


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["log"], dependencies=[Depends(only_documented)])

    @routes.post(
        COSIGNATURES,
        summary="Send cosignatures of a checkpoint; one that the log does not extend halts the log",
        response_model=CosignatureReceipt,
        responses=documented((HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)),
        openapi_extra=_NOTE_BODY,
    )
    async def take(request: Request) -> Response:
        reporter = services.member_of(caller_of(request))
        receipt, labs = await services.cosigning.take(reporter, body_of(request))
        for lab in labs:
            services.metrics.has(lab, receipt.tree_size)
        return Response(receipt.model_dump_json(), headers=_NO_STORE, media_type="application/json")

    @routes.get(
        COSIGNATURES,
        summary="The checkpoints that witnesses have cosigned, as far as they are kept",
        response_model=CosignedCheckpoints,
        responses=documented((HTTPStatus.UNPROCESSABLE_ENTITY,)),
    )
    async def show(
        member: Annotated[str, Query(max_length=80, description="only what this lab has cosigned")] = "",
    ) -> Response:
        shown = CosignedCheckpoints(checkpoints=await services.cosigning.notes(member))
        return Response(shown.model_dump_json(), headers=_NO_STORE, media_type="application/json")

    return routes

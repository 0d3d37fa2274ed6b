"""`POST /entries`: a signed statement in, a receipt out."""

from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hub.problems import documented
from hub.routes.direct import Endpoint
from hub.routes.parameters import refuse_others
from hub.routes.services import Services, body_of, caller_of
from sharing_protocol.envelope import MAX_SIGNATURES, STATEMENT_TYPE
from sharing_protocol.wire import ENTRIES, ENVELOPE_MEDIA_TYPE, Receipt

_SIGNATURE = {
    "type": "object",
    "required": ["keyid", "sig"],
    "properties": {
        "keyid": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "sig": {"type": "string", "pattern": "^[A-Za-z0-9+/]{86}==$"},
    },
    "additionalProperties": False,
}
_ENVELOPE = {
    "type": "object",
    "required": ["payload", "payloadType", "signatures"],
    "properties": {
        "payload": {"type": "string", "contentEncoding": "base64", "description": "A statement, as JSON."},
        "payloadType": {"const": STATEMENT_TYPE},
        "signatures": {"type": "array", "minItems": 1, "maxItems": MAX_SIGNATURES, "items": _SIGNATURE},
    },
    "additionalProperties": False,
}
ENVELOPE_BODY = {
    "requestBody": {
        "required": True,
        "description": "A DSSE envelope in the one strict form, at most 65,535 bytes.",
        "content": {ENVELOPE_MEDIA_TYPE: {"schema": _ENVELOPE}},
    }
}
SUBMISSION_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


def endpoint(services: Services) -> Endpoint:
    """What the route does."""

    async def submit(request: Request) -> Response:
        refuse_others(request, ())
        receipt = await services.intake.submit(body_of(request), caller_of(request).key_id)
        # The receipt is complete before the response begins, and durable before that.
        return Response(
            receipt.model_dump_json(exclude_none=True),
            200 if receipt.already_logged else 201,
            {"Cache-Control": "no-store"},
            media_type="application/json",
        )

    return submit


def router(submit: Endpoint) -> APIRouter:
    """The route, as it is documented; `submit` is its `endpoint`."""
    routes = APIRouter(tags=["log"])
    routes.add_api_route(
        ENTRIES,
        submit,
        methods=["POST"],
        summary="Put a signed statement into the log",
        status_code=201,
        response_model=Receipt,
        responses={200: {"model": Receipt, "description": "The log has it already"}, **documented(SUBMISSION_PROBLEMS)},
        openapi_extra=ENVELOPE_BODY,
    )
    return routes

"""`POST /entries`: a signed statement in, a receipt out; `POST /entries/bulk`: many, each decided on its own."""

import logging
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hub.errors import HubError
from hub.problems import documented, problem_of
from hub.routes.direct import Endpoint
from hub.routes.parameters import refuse_others
from hub.routes.services import Services, body_of, caller_of, place_of
from sharing_protocol.envelope import MAX_SIGNATURES, STATEMENT_TYPE
from sharing_protocol.errors import Malformed, ProtocolError
from sharing_protocol.wire import (
    BULK_ENTRIES,
    ENTRIES,
    ENVELOPE_LINES_MEDIA_TYPE,
    ENVELOPE_MEDIA_TYPE,
    MAX_BULK_BYTES,
    MAX_BULK_ENVELOPES,
    Problem,
    Receipt,
)

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
_LINES_BODY = {
    "requestBody": {
        "required": True,
        "description": f"1 to {MAX_BULK_ENVELOPES} DSSE envelopes in the one strict form, one a line, at most "
        f"{MAX_BULK_BYTES:,} bytes together. Whoever signs the request is one of the signers of each.",
        "content": {ENVELOPE_LINES_MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}
SUBMISSION_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


_log = logging.getLogger(__name__)


def endpoint(services: Services) -> Endpoint:
    """What the route for one envelope does."""

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


def bulk_endpoint(services: Services) -> Endpoint:
    """What the route for many envelopes does."""

    async def submit_all(request: Request) -> Response:
        refuse_others(request, ())
        envelopes = _lines_of(body_of(request))
        place = place_of(request)
        # The gate has counted the request, as one submission.
        allowed = 1 + place.count_more(len(envelopes) - 1)
        outcomes = await services.intake.submit_all(
            envelopes[:allowed], caller_of(request).key_id, lambda: place.has_time
        )
        if allowed < len(envelopes):
            outcomes += [place.too_many] * (len(envelopes) - allowed)
        # Each receipt is complete before the response begins, and durable before that.
        told = [_told(outcome, request.state.request_id, services) for outcome in outcomes]
        return Response(f"[{','.join(told)}]", 200, {"Cache-Control": "no-store"}, media_type="application/json")

    return submit_all


def _lines_of(body: bytes) -> list[bytes]:
    """The lines of a body; the last may end in a newline or not.

    Raises:
        Malformed: `empty_bulk`, `bulk_too_large`.
    """
    lines = body.removesuffix(b"\n").split(b"\n", MAX_BULK_ENVELOPES)
    if lines == [b""]:
        raise Malformed("empty_bulk", "a bulk submission has at least one envelope, one a line")
    if len(lines) > MAX_BULK_ENVELOPES:
        raise Malformed("bulk_too_large", f"a bulk submission has at most {MAX_BULK_ENVELOPES} envelopes; send several")
    return lines


def _told(outcome: Receipt | BaseException, request_id: str, services: Services) -> str:
    if isinstance(outcome, Receipt):
        return outcome.model_dump_json(exclude_none=True)
    if not isinstance(outcome, ProtocolError | HubError):
        _log.error("unforeseen error", exc_info=outcome, extra={"request_id": request_id})
    problem = problem_of(outcome, request_id)
    services.metrics.refused(problem.code)
    return problem.model_dump_json(exclude_none=True)


def router(submit: Endpoint, submit_all: Endpoint) -> APIRouter:
    """The routes, as they are documented; given what they do."""
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
    routes.add_api_route(
        BULK_ENTRIES,
        submit_all,
        methods=["POST"],
        summary="Put many signed statements into the log, each as if it were sent by itself, in order",
        response_model=list[Receipt | Problem],
        response_description="For each envelope, in order, its receipt, or the problem that it would be answered with",
        responses=documented(
            (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
        ),
        openapi_extra=_LINES_BODY,
    )
    return routes

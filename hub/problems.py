"""From what went wrong to what a client is told: RFC 9457 problem details, each with a stable code.

This is the one place where errors get an HTTP status. What is not listed is a flaw of ours: it says nothing but the
id under which the hub's log tells more.
"""

from collections.abc import Iterable
from http import HTTPStatus

from starlette.responses import Response

from hub.errors import Denied, HubError, LogDamaged, OverLimit, Unavailable
from sharing_protocol.errors import Malformed, ProtocolError, Refused
from sharing_protocol.wire import PROBLEM_MEDIA_TYPE, PROBLEM_TYPE_PREFIX, Problem

_CODES_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: (
        "unsigned_request bad_request_signature wrong_digest stale_request replayed_request unknown_key"
    ),
    HTTPStatus.FORBIDDEN: (
        "revoked_key member_suspended member_expelled wrong_role not_the_author not_the_signer bad_signature "
        "insufficient_signatures unexpected_signature"
    ),
    HTTPStatus.NOT_FOUND: "not_found unknown_tile",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.CONFLICT: (
        "version_conflict version_gap previous_mismatch withdrawn already_founded not_founded not_bound "
        "bad_transition name_taken key_reused too_many_proposals"
    ),
    HTTPStatus.GONE: "proposal_dropped",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "envelope_too_large bulk_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many_requests too_many_followers quota_exceeded",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "head_too_large",
}
_STATUS_BY_CODE = {code: status for status, codes in _CODES_BY_STATUS.items() for code in codes.split()}

_TITLES = {
    HTTPStatus.BAD_REQUEST: "The request does not parse",
    HTTPStatus.UNAUTHORIZED: "The request is not authenticated",
    HTTPStatus.FORBIDDEN: "The signer may not do this",
    HTTPStatus.NOT_FOUND: "There is no such thing here",
    HTTPStatus.METHOD_NOT_ALLOWED: "This cannot be done here",
    HTTPStatus.REQUEST_TIMEOUT: "The request took too long",
    HTTPStatus.CONFLICT: "The log's state does not allow this",
    HTTPStatus.GONE: "This is no longer there",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The content is not acceptable",
    HTTPStatus.TOO_MANY_REQUESTS: "More than a member may have",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Too large",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The hub failed",
    HTTPStatus.SERVICE_UNAVAILABLE: "The hub cannot answer now",
}


def status_of(error: BaseException) -> HTTPStatus:
    """The HTTP status of an error."""
    if isinstance(error, LogDamaged | Unavailable):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, ProtocolError | Denied | OverLimit):
        known = _STATUS_BY_CODE.get(error.code)
        if known is not None:
            return known
        return HTTPStatus.BAD_REQUEST if isinstance(error, Malformed) else HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem_of(error: BaseException, request_id: str) -> Problem:
    """What a client is told of an error."""
    status = status_of(error)
    if isinstance(error, LogDamaged):
        # The details are for the operator, who finds them in the log.
        code, detail = error.code, "the hub's stored log is damaged; its operator has to look at it"
    elif isinstance(error, ProtocolError | HubError) and status != HTTPStatus.INTERNAL_SERVER_ERROR:
        code, detail = error.code, error.detail
    else:
        code, detail = "internal_error", "the hub failed in a way it did not foresee; tell its operator the request id"
    return Problem(
        type=PROBLEM_TYPE_PREFIX + code,
        title=_TITLES[status],
        status=status,
        detail=detail,
        code=code,
        where=error.where if isinstance(error, Refused) else "",
        request_id=request_id,
        retry_after=error.retry_after if isinstance(error, Unavailable | OverLimit) else None,
    )


def respond(error: Exception, request_id: str) -> Response:
    """The response that tells a client of an error."""
    problem = problem_of(error, request_id)
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Signature realm="stillwatch"'
    return Response(problem.model_dump_json(exclude_none=True), problem.status, headers, media_type=PROBLEM_MEDIA_TYPE)


_GATE = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
_GATE_TO_MEMBERS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


def documented(statuses: Iterable[HTTPStatus], *, signed: bool = True) -> dict[int | str, dict[str, object]]:
    """OpenAPI's `responses` for these statuses, and for those that the gate answers on any route.

    Args:
        signed: whether the route takes signed requests only.
    """
    everywhere = _GATE + _GATE_TO_MEMBERS if signed else _GATE
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        int(status): {"description": _TITLES[status], "content": {PROBLEM_MEDIA_TYPE: schema}}
        for status in sorted({*statuses, *everywhere})
    }

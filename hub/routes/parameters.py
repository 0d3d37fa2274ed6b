"""Query parameters are taken as they are documented, or refused: a filter that is passed over finds too much."""

import re
from collections import Counter
from collections.abc import Collection

from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from sharing_protocol.errors import Refused


async def only_documented(request: Request) -> None:
    """For a router's dependencies: every query parameter is one of the route's, and is there once.

    Raises:
        Refused: `invalid_parameter`.
    """
    route = request.scope["route"]
    if not isinstance(route, APIRoute):
        raise TypeError("this is about routes whose parameters FastAPI knows")
    refuse_others(request, {parameter.alias for parameter in route.dependant.query_params})


def refuse_others(request: Request, known: Collection[str]) -> None:
    """See that every query parameter is one of `known`, and is there once.

    Raises:
        Refused: `invalid_parameter`.
    """
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        where = f"query.{name[:80]}"
        if name not in known:
            raise Refused("invalid_parameter", f"{where}: there is no such parameter here", where)
        if times > 1:
            raise Refused("invalid_parameter", f"{where}: is there {times} times", where)


def _as_written(value: object) -> object:
    # `int` takes "+5", "1_000", "1.0" and the digits of every script.
    if isinstance(value, str) and not re.fullmatch("0|-?[1-9][0-9]{0,18}", value):
        raise PydanticCustomError("whole_number", "should be a whole number, in decimal digits")
    return value


AS_WRITTEN = BeforeValidator(_as_written)
"""For an integer that is written as we write one. It goes after the `Query`, whose bounds are not documented else."""

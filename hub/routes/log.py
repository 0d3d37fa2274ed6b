"""The log itself, as C2SP tlog-tiles has it: `/checkpoint`, `/tile/…`, `/tile/entries/…`.

Plain Starlette routes: these bytes need no validation, and FastAPI's took three times as long for them.
"""

import asyncio
import re
import time

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hub.database import log_store
from hub.errors import Denied
from hub.publication import Vouched
from hub.routes.direct import Endpoint
from hub.routes.encodings import choose, encode
from hub.routes.services import Services, caller_of, place_of
from hub.routes.shared import Content, SharedAnswers
from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.tiles import MAX_TREE_SIZE, TILE_WIDTH, Bundle, Tile, encode_bundle, parse_path
from sharing_protocol.wire import CHECKPOINT, MAX_WAIT_SECONDS, TILE_MEDIA_TYPE

TILES = "/tile/"
# For ever the same, but for members only: a cache that they share with others may not keep it.
_IMMUTABLE = "private, max-age=31536000, immutable"


def checkpoint_endpoint(services: Services) -> Endpoint:
    """What `GET /checkpoint` does."""

    async def checkpoint(request: Request) -> Response:
        after = _number(request, "after", MAX_TREE_SIZE)
        seconds = _number(request, "wait", MAX_WAIT_SECONDS)
        if after is not None:
            services.metrics.has(services.member_of(caller_of(request)), after, exactly=True)
        if seconds:
            if after is None:
                raise Refused("invalid_parameter", "wait goes with after: the size that you know", "query.wait")
            newest = await _news(services, request, after, seconds)
        else:
            newest = await services.publication.checkpoint(after)
        if newest is None:
            raise Denied("not_founded", "the log is empty: no forum is founded here yet")
        return PlainTextResponse(newest.note, headers={"Cache-Control": "no-store"})

    return checkpoint


def tile_endpoint(services: Services) -> Endpoint:
    """What `GET /tile/…` does."""
    shared = SharedAnswers()

    async def tile(request: Request) -> Response:
        # As it was sent: a percent-encoded spelling would be another URL for the same tile.
        place = parse_path(request.scope["raw_path"].decode("latin-1").removeprefix("/"))
        if place.index > MAX_TREE_SIZE:
            raise _beyond(place.path)  # and perhaps beyond what the database takes for a number
        if not isinstance(place, Bundle):
            found = await shared.get(place, lambda: _tile(services, place))
            return Response(found.data, headers={"Cache-Control": _IMMUTABLE}, media_type=TILE_MEDIA_TYPE)
        coding = choose(request.headers.get("accept-encoding", ""))
        found = await shared.get((place, coding), lambda: _bundle(services, place, coding))
        services.metrics.has(services.member_of(caller_of(request)), place.index * TILE_WIDTH + place.width)
        headers = {"Cache-Control": _IMMUTABLE, "Vary": "Accept-Encoding"}
        if found.coding != "identity":
            headers["Content-Encoding"] = found.coding
        return Response(found.data, headers=headers, media_type=TILE_MEDIA_TYPE)

    return tile


def routes(checkpoint: Endpoint, tile: Endpoint) -> list[Route]:
    """The routes of `checkpoint_endpoint` and `tile_endpoint`."""
    return [
        Route(CHECKPOINT, checkpoint, methods=["GET"]),
        Route(TILES + "{path:path}", tile, methods=["GET"]),
    ]


def _number(request: Request, name: str, most: int) -> int | None:
    values = request.query_params.getlist(name)
    if not values:
        return None
    # `int` takes "+5", "1_000" and the digits of every script.
    if len(values) > 1 or not re.fullmatch("0|[1-9][0-9]{0,15}", values[0]) or int(values[0]) > most:
        raise Refused("invalid_parameter", f"{name} is one whole number from 0 to {most}", f"query.{name}")
    return int(values[0])


async def _news(services: Services, request: Request, after: int, seconds: float) -> Vouched | None:
    """The newest checkpoint, once it is another than that of `after` entries; at the latest after so many seconds."""
    ends = time.monotonic() + seconds
    while True:
        if not services.following.tells_at_once(after):
            with place_of(request).given_up():
                await _until_it_grows(services, request, after, ends - time.monotonic())
        newest = await services.publication.checkpoint(after)
        if newest is None or newest.size != after or not services.following.waits_on(after, ends):
            return newest


async def _until_it_grows(services: Services, request: Request, after: int, seconds: float) -> None:
    """Wait for the log, but no longer than the client waits for us."""
    waiting = asyncio.ensure_future(services.following.wait(after, seconds, services.member_of(caller_of(request))))
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Malformed("bad_request", "the client went away")
        await waiting
    finally:
        waiting.cancel()
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _tile(services: Services, tile: Tile) -> Content:
    async with services.engine.connect() as connection:
        hashes = await log_store.read_tile(connection, tile)
    if hashes is None:
        raise _beyond(tile.path)
    return Content(hashes)


async def _bundle(services: Services, bundle: Bundle, coding: str) -> Content:
    async with services.engine.connect() as connection:
        entries = await log_store.read_bundle(connection, bundle)
    if entries is None:
        raise _beyond(bundle.path)
    return await encode(encode_bundle(entries), coding)


def _beyond(path: str) -> Denied:
    return Denied("unknown_tile", f"{path} is beyond the published log")

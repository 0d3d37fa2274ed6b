"""`GET /healthz` and `GET /readyz`: what strangers may ask. Neither costs anything that members need."""

from http import HTTPStatus
from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import Response

from hub.errors import Unavailable
from hub.problems import documented
from hub.readiness import REASONS
from hub.routes.services import Services
from sharing_protocol.wire import HEALTH, READY, Health


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        HEALTH, summary="Whether the process answers", response_model=Health, responses=documented((), signed=False)
    )
    async def health() -> Response:
        # Nothing of the database: a hub whose database is away is not mended by being started anew.
        return _healthy("ok")

    @routes.get(
        READY,
        summary="Whether the process can do all of its work now",
        response_model=Health,
        responses=documented((HTTPStatus.SERVICE_UNAVAILABLE,), signed=False),
    )
    async def ready() -> Response:
        missing = await services.readiness.missing()
        if missing:
            raise Unavailable("not_ready", "; ".join(text for name, text in REASONS.items() if name in missing))
        return _healthy("ready")

    return routes


def _healthy(status: str) -> Response:
    answer = Health(status=status, version=version("stillwatch"))
    return Response(answer.model_dump_json(), headers={"Cache-Control": "no-store"}, media_type="application/json")

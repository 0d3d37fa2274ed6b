"""The hub's parts put together as one ASGI application."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from hub import problems, tracing
from hub.authentication import Authenticator
from hub.cosigning import Cosigning
from hub.database import nonce_store
from hub.database.connections import NO_ANSWER, make_engine
from hub.directory import Directory
from hub.errors import DatabaseSilent, Denied, HubError
from hub.following import Following
from hub.gate import Gate
from hub.identity import HubIdentity
from hub.instruments import Instruments
from hub.intake import Intake
from hub.limits import Limits
from hub.log_keys import LogKeys
from hub.metrics import Metrics
from hub.proposals import Proposals
from hub.publication import Publication
from hub.quotas import Quotas
from hub.readiness import Readiness
from hub.rollback import RollBackGuard
from hub.routes import attach
from hub.routes.direct import Direct
from hub.routes.services import Services
from hub.scraping import HubState, Listener
from hub.sequencer import Sequencer
from hub.settings import HubSettings
from sharing_protocol.errors import ProtocolError, Refused

_METHODS = ("GET", "HEAD", "POST")
_NONCE_SWEEP_SECONDS = 60.0

_log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The hub's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub as an ASGI application."""

    gate: Gate
    following: Following
    metrics: Listener
    running: Callable[[], AbstractAsyncContextManager[None]]
    """Starts the hub and, at the end, stops it. Raises why it cannot start: HubError, or what the database says."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        await self.gate(scope, receive, send)

    def release(self) -> None:
        """Answer the requests that only wait, since the server is about to stop."""
        self.following.release()


def create_app(
    database_url: str,
    identity: HubIdentity,
    settings: HubSettings | None = None,
    clock: Callable[[], datetime] = utc_now,
    home: Path | None = None,
) -> Hub:
    """Compose a hub; `Hub.running`, or its ASGI lifespan, starts and stops it. The database must be migrated.

    Args:
        database_url: of the database itself; what `settings` say of it was followed before.
        identity: the pair of keys to begin with.
        home: where further pairs are looked for, and where the newest checkpoint is kept, so that a roll back is
            noticed; None for nowhere.
    """
    settings = settings or HubSettings()
    instruments = Instruments(tracing=tracing.start(settings.traces))
    metrics = instruments.metrics
    quotas = Quotas(settings.entry_bytes_per_day, settings.entry_bytes_per_member)
    readers = make_engine(database_url, size=settings.database_connections)
    # Of its own, so that no crowd of readers keeps the log waiting.
    writer = make_engine(database_url, size=1)
    directory = Directory(readers)
    keys = LogKeys(identity, home)
    guard = RollBackGuard(readers, keys, directory)
    cosigning = Cosigning(readers, directory, guard, clock)
    publication = Publication(readers, keys, directory, guard, clock, cosigning)
    sequencer = Sequencer(writer, keys, directory, guard, clock, quotas, instruments)
    intake = Intake(readers, directory, sequencer, publication, keys, clock)
    proposals = Proposals(readers, directory, intake, publication, clock)
    following = Following(database_url, most=settings.max_followers, most_per_member=settings.max_followers_per_member)
    readiness = Readiness(readers, sequencer, following, guard, directory, keys)
    services = Services(
        readers, directory, intake, proposals, publication, cosigning, following, guard, readiness, metrics, clock
    )
    limits = Limits(settings)
    state = HubState(readers, publication, directory, readiness, metrics, quotas, clock, home)
    metrics.registry.register(state)
    metrics.watch("requests_in_work", "Requests of members in work", lambda: limits.in_work)
    metrics.watch("strangers_in_work", "Requests in work that may be anybody's", lambda: limits.strangers)
    metrics.watch("followers", "Callers who wait for the log to grow", lambda: following.followers)
    metrics.watch("queue_length", "Submissions that wait for a batch", lambda: sequencer.waiting)
    listener = Listener(settings.metrics_host, settings.metrics_port, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(readers.dispose)
            stack.push_async_callback(writer.dispose)
            stack.callback(intake.close)
            stack.push_async_callback(asyncio.to_thread, instruments.tracing.stop)
            intake.warm()
            await guard.start()
            stack.push_async_callback(guard.stop)
            await sequencer.start()
            stack.push_async_callback(sequencer.stop)
            await following.start()
            stack.push_async_callback(following.stop)
            state.start()
            await stack.enter_async_context(listener.started())
            sweeper = asyncio.create_task(_sweep_nonces(readers, metrics, clock), name="nonce sweeper")
            stack.callback(sweeper.cancel)
            yield

    application = FastAPI(
        title="Stillwatch hub",
        version=version("stillwatch"),
        description="Keeps the forum's log. All but /healthz and /readyz takes requests signed by a member (RFC 9421).",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    endpoints = attach(application, services)
    for kind in (ProtocolError, HubError, HTTPException, RequestValidationError, *NO_ANSWER):
        application.add_exception_handler(kind, _as_problem)
    application.add_exception_handler(Exception, _as_unforeseen)
    authenticator = Authenticator(readers, directory, guard, clock)
    direct = Direct(application, endpoints)
    templates = _templates(application)
    templates.update((endpoint, path) for (_, path), endpoint in endpoints.items() if endpoint not in templates)
    gate = Gate(direct, authenticator, directory, limits, instruments, settings, templates)
    return Hub(gate, following, listener, lambda: lifespan(application))


async def _as_problem(request: Request, error: Exception) -> Response:
    """Answer an error of a known kind as a problem document, in the hub's own words."""
    request_id: str = request.state.request_id
    allowed = ""
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            allowed = ", ".join(method for method in _METHODS if _takes(request, method))
            error = Denied("method_not_allowed", f"{request.method} cannot be done here")
        elif error.status_code == 404:
            error = Denied("not_found", "there is no such path on this hub")
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        error = Refused("invalid_parameter", f"{where}: {first['msg']}", where)
    elif isinstance(error, NO_ANSWER):
        _log.error("the database does not answer: %s", error, extra={"request_id": request_id})
        error = DatabaseSilent()
    if problems.status_of(error) >= 500 and not isinstance(error, HubError):
        _log.error("unforeseen error", exc_info=error, extra={"request_id": request_id})
    response = _answer(request, error)
    if allowed:
        response.headers["Allow"] = allowed
    return response


async def _as_unforeseen(request: Request, error: Exception) -> Response:
    """Log and answer what nobody foresaw. Starlette raises it again, for the gate, which must know it from others."""
    _log.error("unforeseen error", exc_info=error, extra={"request_id": request.state.request_id})
    request.state.answered = error
    return _answer(request, error)


def _answer(request: Request, error: Exception) -> Response:
    request_id: str = request.state.request_id
    request.state.problem = problems.problem_of(error, request_id).code
    return problems.respond(error, request_id)


def _takes(request: Request, method: str) -> bool:
    # What Starlette names is only what one of the path's routes takes.
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def _templates(application: FastAPI) -> dict[object, str]:
    return {route.endpoint: route.path for route in application.routes if isinstance(route, Route)}


async def _sweep_nonces(engine: AsyncEngine, metrics: Metrics, clock: Callable[[], datetime]) -> None:
    while True:
        try:
            async with engine.begin() as connection:
                swept = await nonce_store.forget_expired(connection, clock())
            metrics.swept(swept)
        except NO_ANSWER as error:
            _log.warning("expired nonces stay for now: %s", error)
        await asyncio.sleep(_NONCE_SWEEP_SECONDS)

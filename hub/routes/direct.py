"""What is asked most often, led to its endpoint at once: routing by FastAPI costs more than answering a follower.

Only the very method and path, or the very method and the beginning of a path; all the rest goes to the application.
What an endpoint raises, the gate answers.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class Direct:
    """Wraps the application.

    Args:
        endpoints: by method and path, or the beginning of a path up to its second "/".
    """

    def __init__(self, application: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._application = application
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        endpoint = self._find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._application(scope, receive, send)
            return
        scope["endpoint"] = endpoint
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    def _find(self, method: str, path: str) -> Endpoint | None:
        found = self._endpoints.get((method, path))
        return found if found is not None else self._endpoints.get((method, path[: path.find("/", 1) + 1]))

"""What routes are given to work with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from hub.authentication import Caller
from hub.cosigning import Cosigning
from hub.directory import Directory
from hub.following import Following
from hub.intake import Intake
from hub.limits import Place
from hub.metrics import Metrics
from hub.proposals import Proposals
from hub.publication import Publication
from hub.readiness import Readiness
from hub.rollback import RollBackGuard


@dataclass(frozen=True, slots=True)
class Services:
    """The hub's parts, as far as routes need them."""

    engine: AsyncEngine
    directory: Directory
    intake: Intake
    proposals: Proposals
    publication: Publication
    cosigning: Cosigning
    following: Following
    guard: RollBackGuard
    readiness: Readiness
    metrics: Metrics
    clock: Callable[[], datetime]

    def member_of(self, caller: Caller) -> str:
        """The lab whose key the caller has; for an admin, the key itself."""
        return self.directory.member_of(caller.key_id)


def caller_of(request: Request) -> Caller:
    """Who the gate found to have sent the request."""
    caller: Caller = request.state.caller
    return caller


def place_of(request: Request) -> Place:
    """The request's place among those in work."""
    place: Place = request.state.place
    return place


def body_of(request: Request) -> bytes:
    """The body, which the gate has read and checked against its digest."""
    body: bytes = request.state.body
    return body

"""Who sends a request: an RFC 9421 signature by a key that may act now, never seen before.

The order matters. The signature is checked first, in memory, before there is a body; only a request whose signature
holds may write a nonce. Whom this process does not know may be new, or named by what they send: that is looked up,
but few of those look at the same time.

The nonce's round trip also brings how far the membership has come, so a key that another process has just seen
revoked is refused here too; and whether the log is halted (`rollback`).
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from hub.database import binding_store, proposal_store
from hub.database.nonce_store import Nonce
from hub.directory import Directory
from hub.errors import Denied
from hub.intake import named_admins
from hub.nonces import Nonces
from hub.rollback import RollBackGuard
from sharing_protocol import envelope as envelopes
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.keys import PublicKey
from sharing_protocol.request_signing import WINDOW_SECONDS, SignedHead, SignedRequest, verify_head
from sharing_protocol.statements import ChangeAdmins, Found, parse
from sharing_protocol.wire import CHECKPOINT, ENTRIES, PROPOSALS


@dataclass(frozen=True, slots=True)
class Request:
    """What of an HTTP request its signature covers, and its headers.

    Attributes:
        url: absolute, as the client wrote it.
        path: of it, without any prefix that a proxy adds.
    """

    method: str
    url: str
    path: str
    headers: Iterable[tuple[str, str]]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        future_admin: the key is not registered yet, but a pending proposal appoints it; it may read that proposal
            and sign it, and nothing else.
    """

    key_id: str
    future_admin: bool = False


_LOOKING_AT_ONCE = 2


class Authenticator:
    """Says who sent a request, or refuses it."""

    def __init__(
        self, engine: AsyncEngine, directory: Directory, guard: RollBackGuard, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._nonces = Nonces(engine)
        self._directory = directory
        self._guard = guard
        self._clock = clock
        self._looking = asyncio.Semaphore(_LOOKING_AT_ONCE)

    def recognise(self, head: Request) -> SignedHead | None:
        """See in memory, by a request's head alone, that a key which may act now signed it; None if not."""
        try:
            return self._verify(head, {})
        except ProtocolError:
            return None

    async def authenticate(self, request: Request, recognised: SignedHead | None) -> Caller:
        """Check signature, digest, age, authority and novelty.

        Args:
            recognised: what `recognise` said of the request's head.

        Raises:
            ProtocolError: `unsigned_request`, `bad_request_signature`, `wrong_digest`, `stale_request`,
                `replayed_request`, `unknown_key`, `revoked_key`, `member_suspended`, `member_expelled`.
            Denied: `not_bound`.
            LogHalted: nobody is served now, whoever it is, except to show a checkpoint.
        """
        extra: dict[str, PublicKey] = {}
        try:
            head = recognised or self._verify(request, extra)
        except Refused as refusal:
            if refusal.code == "stale_request":
                raise
            # Our view may be behind, or the key may be one that only a founding or a change of admins names.
            await self._directory.refresh()
            async with self._looking:
                extra = await self._keys_by_statement(request)
            head = self._verify(request, extra)
        head.check_content(request.body)
        signed = head.signed
        halted = await self._remember(signed, extra)
        if (halted or self._guard.halted is not None) and (request.method, request.path) != ("POST", CHECKPOINT):
            async with self._engine.connect() as connection:
                await self._guard.refuse_if_halted(connection)
        return Caller(signed.key_id, future_admin=signed.key_id in extra)

    def _verify(self, request: Request, extra: dict[str, PublicKey]) -> SignedHead:
        def find(key_id: str) -> PublicKey:
            return extra.get(key_id) or self._directory.membership.current_key(key_id).public_key

        return verify_head(request.method, request.url, request.headers, find, self._clock().timestamp())

    async def _keys_by_statement(self, request: Request) -> dict[str, PublicKey]:
        membership = self._directory.membership
        if membership.forum is None:
            return await self._founders(request) if (request.method, request.path) == ("POST", ENTRIES) else {}
        if request.path == PROPOSALS or request.path.startswith(f"{PROPOSALS}/"):
            appointed = await self._appointed()
            return {key_id: key for key_id, key in appointed.items() if key_id not in membership.keys}
        return {}

    async def _founders(self, request: Request) -> dict[str, PublicKey]:
        envelope = envelopes.parse(request.body)
        statement = parse(envelope.payload)
        if not isinstance(statement, Found):
            return {}
        async with self._engine.connect() as connection:
            bound_to = await binding_store.read_binding(connection)
        if bound_to != envelope.payload_sha256:
            now = "bound to another forum" if bound_to else "not bound to any forum yet"
            raise Denied(
                "not_bound",
                f"this hub is {now}; its operator has to run `stillwatch-hub bind {envelope.payload_sha256}`, after "
                "comparing that fingerprint with the forum's admins over another channel",
            )
        return named_admins(statement)

    async def _appointed(self) -> dict[str, PublicKey]:
        async with self._engine.connect() as connection:
            pending = await proposal_store.read_pending(connection)
        keys: dict[str, PublicKey] = {}
        for proposal in pending:
            statement = parse(envelopes.parse(proposal.envelope).payload)
            if isinstance(statement, ChangeAdmins):
                keys.update(named_admins(statement))
        return keys

    async def _remember(self, signed: SignedRequest, extra: dict[str, PublicKey]) -> bool:
        """See that the request is new, and that its key may still act; say whether the log is halted."""
        # As long again as the window: a clock that is set back must not open it for old requests.
        expires = datetime.fromtimestamp(signed.created + 2 * WINDOW_SECONDS, UTC)
        novelty = await self._nonces.remember(Nonce(signed.key_id, signed.nonce, expires))
        if not novelty.fresh:
            raise Refused("replayed_request", "this request was received before; sign each request anew")
        if novelty.last_membership > self._directory.membership.as_of:
            await self._directory.refresh()
            if signed.key_id not in extra:
                self._directory.membership.current_key(signed.key_id)
        return novelty.halted


def explain(error: Exception) -> str:
    """The code of an error, for the access log."""
    return error.code if isinstance(error, ProtocolError | Denied) else type(error).__name__

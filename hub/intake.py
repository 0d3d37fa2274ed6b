"""Taking an entry in: parse → who sent it → signatures → authority → content → sequence → receipt.

What is slow (signatures, a pattern's own tests) happens here, outside the log's lock and in threads. Authority is
asked twice: here, so that nobody makes us compile logic that they may not submit; and by the sequencer, whose
answer counts, since it knows what comes before.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncEngine

from hub.batch import AlreadyLogged, Candidate, unknown_type
from hub.database import log_store
from hub.directory import Directory
from hub.errors import Denied, Overloaded
from hub.log_keys import LogKeys
from hub.publication import Publication
from hub.sequencer import Sequencer
from sharing_protocol import envelope as envelopes
from sharing_protocol.content import check_clock, check_content
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import InvalidKey, Malformed, ProtocolError, Refused
from sharing_protocol.keys import PublicKey
from sharing_protocol.membership import Membership, authorize
from sharing_protocol.pattern_logic import compile_logic
from sharing_protocol.personal_data import find_personal_data
from sharing_protocol.statements import ChangeAdmins, ChangeLog, Found, Statement, Unknown, parse
from sharing_protocol.strict_json import Json
from sharing_protocol.wire import Receipt

T = TypeVar("T")

MAX_IN_WORK = 512
CHECKING_THREADS = 4
CHECKING_THREADS_EACH = 2
"""Of which one member may keep so many busy: whoever floods us with slow patterns waits for themselves."""

_ANY_RULE: dict[str, Json] = {
    "title": "Loads what compiles rules",
    "logsource": {"product": "llm_api", "category": "request"},
    "detection": {"selection": {"prompt.text|contains": "anything"}, "condition": "selection"},
}


@dataclass(frozen=True, slots=True)
class Submission:
    """An envelope that parses, of a type that we know, whose known signatures hold."""

    candidate: Candidate

    @property
    def envelope(self) -> Envelope:
        """As it was sent."""
        return self.candidate.envelope

    @property
    def statement(self) -> Statement:
        """What it says."""
        return self.candidate.statement


class Intake:
    """Takes entries in."""

    def __init__(
        self,
        engine: AsyncEngine,
        directory: Directory,
        sequencer: Sequencer,
        publication: Publication,
        keys: LogKeys,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._sequencer = sequencer
        self._publication = publication
        self._keys = keys
        self._clock = clock
        self._threads = ThreadPoolExecutor(CHECKING_THREADS, thread_name_prefix="intake")
        self._in_work = 0
        self._turns = WeakValueDictionary[str, asyncio.Semaphore]()  # by member, while one of theirs is in work

    def warm(self) -> None:
        """Load, in a thread, what the first submission would wait for otherwise: a fifth of a second or more."""
        self._threads.submit(_load_checks)

    def close(self) -> None:
        """Give the threads back."""
        self._threads.shutdown()

    async def submit(self, body: bytes, signer: str) -> Receipt:
        """Put an envelope into the log.

        Args:
            body: the envelope's bytes.
            signer: id of the key that signed the HTTP request.

        Raises:
            ProtocolError, Denied, Unavailable: why not.
        """

        def open_and_check() -> tuple[Submission, ProtocolError | None]:
            submission = open_envelope(body, signer, self._directory.membership)
            return submission, self._refusal(submission)

        with self._sequencer.expecting():
            checked = await self._in_thread(signer, open_and_check)
        return await self._into_log(*checked)

    async def open(self, body: bytes, signer: str) -> Submission:
        """Parse an envelope and check its signatures, in a thread.

        Raises:
            ProtocolError: malformed, of an unknown type, or a signature that does not hold.
            Denied: `not_the_signer`.
        """
        return await self._in_thread(signer, lambda: open_envelope(body, signer, self._directory.membership))

    async def sequence(self, submission: Submission, signer: str) -> Receipt:
        """Check an envelope's authority and content, and put it into the log; `signer` as for `submit`."""
        return await self._into_log(submission, await self._in_thread(signer, lambda: self._refusal(submission)))

    async def find(self, submission: Submission) -> AlreadyLogged | None:
        """Where the payload is in the log, if it is."""
        payload = submission.candidate.payload_sha256
        async with self._engine.connect() as connection:
            logged = await log_store.find_logged(connection, [payload])
        return AlreadyLogged(logged[payload]) if logged else None

    async def _into_log(self, submission: Submission, refusal: ProtocolError | None) -> Receipt:
        try:
            if refusal is not None:
                raise refusal
            answer = await self._sequencer.submit(submission.candidate)
        except ProtocolError:
            # Perhaps it is refused now because it took effect before: then this is a repetition.
            logged = await self.find(submission)
            if logged is None:
                raise
            answer = logged
        if isinstance(answer, AlreadyLogged):
            sent = submission.candidate.entry
            return await self._publication.receipt(answer.index, already_logged=answer.before, sent=sent)
        return answer

    def _refusal(self, submission: Submission) -> ProtocolError | None:
        try:
            self._check(submission)
        except ProtocolError as refusal:
            return refusal
        return None

    def _check(self, submission: Submission) -> None:
        statement = submission.statement
        authorize(self._directory.membership, statement, submission.envelope, submission.candidate.check)
        self.check_log(statement)
        check_clock(statement, self._clock())
        check_content(statement)

    def check_log(self, statement: Statement) -> None:
        """See that we hold the keys which a statement makes the log's.

        Raises:
            Refused: `wrong_log`.
        """
        if isinstance(statement, Found) and self._keys.holding(statement.body.log) is None:
            raise Refused("wrong_log", "the statement names another log than this hub's", "body.log")
        if isinstance(statement, ChangeLog) and self._keys.holding(statement.body.named(self._keys.origin)) is None:
            raise Refused(
                "wrong_log",
                "this hub does not hold the keys that the statement names; its operator makes them, and brings them to "
                "every process",
                "body",
            )

    async def _in_thread(self, signer: str, work: Callable[[], T]) -> T:
        if self._in_work >= MAX_IN_WORK:
            raise Overloaded
        self._in_work += 1
        turns = self._turns.setdefault(self._directory.member_of(signer), asyncio.Semaphore(CHECKING_THREADS_EACH))
        try:
            async with turns:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._in_work -= 1


def _load_checks() -> None:
    find_personal_data("nothing", "body")
    compile_logic([_ANY_RULE])


def open_envelope(body: bytes, signer: str, membership: Membership) -> Submission:
    """Parse an envelope, see that `signer` signed it, and check the signatures of all keys that are known.

    Raises:
        Malformed, Refused: what is wrong with it.
        Denied: `not_the_signer`.
    """
    envelope = envelopes.parse(body)
    if signer not in {signature.key_id for signature in envelope.signatures}:
        raise Denied("not_the_signer", "whoever sends an envelope must be one of those who signed it")
    statement = parse(envelope.payload)
    if isinstance(statement, Unknown):
        raise unknown_type(statement)
    named = named_admins(statement)
    keys = {}
    for signature in envelope.signatures:
        registered = membership.keys.get(signature.key_id)
        key = registered.public_key if registered is not None else named.get(signature.key_id)
        if key is not None:
            keys[signature.key_id] = key
    return Submission(Candidate(envelope, body, statement, _verify(envelope, keys)))


def named_admins(statement: Statement) -> dict[str, PublicKey]:
    """The keys, by id, of the admins that a statement is about to appoint."""
    if not isinstance(statement, Found | ChangeAdmins):
        return {}
    keys = {}
    for admin in statement.body.admins:
        try:
            key = PublicKey.parse(admin.key)
        except (Malformed, InvalidKey) as error:
            raise Refused("invalid_key", error.detail, "body.admins") from error
        keys[key.key_id] = key
    return keys


def _verify(envelope: Envelope, keys: Mapping[str, PublicKey]) -> frozenset[tuple[bytes, bytes]]:
    verified = set()
    for signature in envelope.signatures:
        key = keys.get(signature.key_id)
        if key is None:
            continue  # authorize will say what it thinks of it
        if not key.verifies(envelope.signed_message, signature.value):
            raise Refused("bad_signature", f"the signature by {signature.key_id[:16]}… does not hold")
        verified.add((key.raw, signature.value))
    return frozenset(verified)

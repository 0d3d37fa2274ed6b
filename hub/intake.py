"""Taking entries in: parse → who sent it → signatures → authority → content → sequence → receipt.

What is slow (signatures, a pattern's own tests) happens here, outside the log's lock and in threads. Authority is
asked twice: here, so that nobody makes us compile logic that they may not submit; and by the sequencer, whose
answer counts, since it knows what comes before.

Many envelopes that come together go the same way in parts, each of which waits for its turn: so many of a member and of
all members go at a time, and what is left of threads and of the sequencer's queue is for those who send one.
"""

import asyncio
import functools
import gc
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.ext.asyncio import AsyncEngine

from hub.batch import AlreadyLogged, Candidate, unknown_type
from hub.database import log_store
from hub.directory import Directory
from hub.errors import Denied, OverLimit, Overloaded, Unavailable
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
from sharing_protocol.statements import (
    ChangeAdmins,
    ChangeLog,
    Found,
    MembershipStatement,
    Statement,
    Unknown,
    parse,
)
from sharing_protocol.strict_json import Json
from sharing_protocol.wire import Receipt

T = TypeVar("T")

MAX_IN_WORK = 512
CHECKING_THREADS = 4
CHECKING_THREADS_EACH = 2
"""Of which one member may keep so many busy: whoever floods us with slow patterns waits for themselves."""
CHECKING_SECONDS = 0.01
"""After this a thread begins with no other envelope of those that came together, but looks who waits."""
MAX_PART = 64
PARTS, PARTS_EACH = 8, 2
"""Parts of bulk submissions that go at a time, and of one member's: half of the sequencer's places at the most."""

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


@dataclass(frozen=True, slots=True)
class _Checked:
    """An envelope that was looked at: what it says, if that can be said, and why it is refused, if it is."""

    submission: Submission | None
    refusal: Exception | None

    @property
    def changes_membership(self) -> bool:
        """Whether it may decide what those after it may do."""
        statement = self.submission.statement if self.submission is not None and self.refusal is None else None
        return isinstance(statement, MembershipStatement)


Outcome = Receipt | BaseException
"""What came of an envelope: a receipt, or why there is none."""


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
        self._parts_each = WeakValueDictionary[str, asyncio.Semaphore]()
        self._parts = asyncio.Semaphore(PARTS)

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
        return _receipt(*await self._take_in([body], signer))

    async def submit_all(self, bodies: Sequence[bytes], signer: str, has_time: Callable[[], bool]) -> list[Outcome]:
        """Put envelopes into the log, in this order, as if each were submitted once the one before is decided.

        Args:
            bodies: the bytes of each.
            signer: as for `submit`.
            has_time: whether to go on.

        Returns:
            For each what `submit` returns or raises. When there is no more time, or no room to wait for the log, the
            rest gets an error that says to try again.
        """
        outcomes: list[Outcome] = []
        member = self._directory.member_of(signer)
        turns = self._parts_each.setdefault(member, asyncio.Semaphore(PARTS_EACH))
        while len(outcomes) < len(bodies):
            async with turns, self._parts:
                if has_time():
                    part = await self._take_in(bodies[len(outcomes) : len(outcomes) + MAX_PART], signer)
                else:
                    part = [Overloaded("there was no time for this one; send it again")]
            outcomes += part
            shed = next((outcome for outcome in part if _is_shed(outcome)), None)
            if shed is not None:
                outcomes += [shed] * (len(bodies) - len(outcomes))
        return outcomes

    async def open(self, body: bytes, signer: str) -> Submission:
        """Parse an envelope and check its signatures, in a thread.

        Raises:
            ProtocolError: malformed, of an unknown type, or a signature that does not hold.
            Denied: `not_the_signer`.
        """
        return await self._in_thread(signer, lambda: open_envelope(body, signer, self._directory.membership))

    async def sequence(self, submission: Submission, signer: str) -> Receipt:
        """Check an envelope's authority and content, and put it into the log; `signer` as for `submit`."""
        refusal = await self._in_thread(signer, lambda: self._refusal(submission))
        return _receipt(*await self._into_log([_Checked(submission, refusal)]))

    async def find(self, submission: Submission) -> AlreadyLogged | None:
        """Where the payload is in the log, if it is."""
        return (await self._find([submission])).get(submission.candidate.payload_sha256)

    async def _find(self, submissions: Sequence[Submission]) -> dict[bytes, AlreadyLogged]:
        payloads = [submission.candidate.payload_sha256 for submission in submissions]
        async with self._engine.connect() as connection:
            logged = await log_store.find_logged(connection, payloads)
        return {payload: AlreadyLogged(index) for payload, index in logged.items()}

    async def _take_in(self, bodies: Sequence[bytes], signer: str) -> list[Outcome]:
        """Check and sequence envelopes: all, or the first of them up to one that decides what the next may do."""
        checked: list[_Checked] = []
        with self._sequencer.expecting():
            while len(checked) < len(bodies) and not (checked and checked[-1].changes_membership):
                look = functools.partial(self._look, bodies[len(checked) :], signer)
                try:
                    checked += await self._in_thread(signer, look)
                except Overloaded as shed:
                    checked += [_Checked(None, shed)] * (len(bodies) - len(checked))
        return await self._into_log(checked)

    async def _into_log(self, checked: Sequence[_Checked]) -> list[Outcome]:
        ready = [one.submission for one in checked if one.submission is not None and one.refusal is None]
        answers = iter(await self._sequencer.submit_all([submission.candidate for submission in ready]))
        outcomes = [one.refusal if one.refusal is not None else next(answers) for one in checked]
        # Perhaps some are refused now because they took effect before: then these are repetitions.
        refused = [
            one.submission
            for one, outcome in zip(checked, outcomes, strict=True)
            if one.submission is not None and isinstance(outcome, ProtocolError)
        ]
        logged = await self._find(refused) if refused else {}
        told: list[Outcome] = []
        for one, outcome in zip(checked, outcomes, strict=True):
            sent = one.submission.candidate if one.submission is not None else None
            answer = outcome
            if isinstance(answer, ProtocolError) and sent is not None:
                answer = logged.get(sent.payload_sha256, answer)
            if isinstance(answer, AlreadyLogged):
                entry = sent.entry if sent is not None else None
                answer = await self._publication.receipt(answer.index, already_logged=answer.before, sent=entry)
            told.append(answer)
        return told

    def _look(self, bodies: Sequence[bytes], signer: str) -> list[_Checked]:
        """Check envelopes for a while, at least one, and none after one that decides what the next may do."""
        ends = time.monotonic() + CHECKING_SECONDS
        checked: list[_Checked] = []
        for body in bodies:
            checked.append(self._look_at(body, signer))
            if checked[-1].changes_membership or time.monotonic() >= ends:
                break
        return checked

    def _look_at(self, body: bytes, signer: str) -> _Checked:
        submission = None
        try:
            submission = open_envelope(body, signer, self._directory.membership)
            self._check(submission)
        except Exception as refusal:  # noqa: BLE001 - also a flaw of ours that one envelope sets off is that one's alone
            return _Checked(submission, refusal)
        return _Checked(submission, None)

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


def _receipt(outcome: Outcome) -> Receipt:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _is_shed(outcome: Outcome) -> bool:
    """Whether nothing was decided, since there was no room, or nobody to decide."""
    if isinstance(outcome, OverLimit):
        return outcome.code == "too_many_requests"
    return isinstance(outcome, Unavailable)


def _load_checks() -> None:
    find_personal_data("nothing", "body")
    compile_logic([_ANY_RULE])
    # What is loaded by now stays: the garbage collector need not go through it again and again.
    gc.collect()
    gc.freeze()


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

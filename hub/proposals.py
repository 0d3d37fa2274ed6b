"""Gathering the signatures that a membership statement needs.

The hub only carries the envelope from one admin to the next; it holds no admin's key and each of them checks what
they sign. A statement for a state of the forum that has passed can never be logged, so it is dropped, with the
reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub.authentication import Caller
from hub.batch import Candidate, KnownRecords
from hub.database import log_store, proposal_store
from hub.database.proposal_store import MAX_PENDING, StoredProposal
from hub.directory import Directory
from hub.errors import Denied, Unavailable
from hub.intake import Intake, Submission, named_admins
from hub.publication import Publication
from sharing_protocol import envelope as envelopes
from sharing_protocol.admission import consequences
from sharing_protocol.content import check_clock
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.membership import ADMIN_ROLE, Membership, authorize
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import ChangeAdmins, MembershipStatement, Statement, parse
from sharing_protocol.wire import Proposal, Receipt

_NOT_ENOUGH = "insufficient_signatures"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A proposal that could still be logged."""

    envelope: Envelope
    statement: MembershipStatement
    missing: str


class Proposals:
    """Proposals as members see them."""

    def __init__(
        self,
        engine: AsyncEngine,
        directory: Directory,
        intake: Intake,
        publication: Publication,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._intake = intake
        self._publication = publication
        self._clock = clock

    async def sign(self, body: bytes, caller: Caller) -> Proposal:
        """Begin a proposal, or add signatures to it; log it when they are enough.

        Raises:
            ProtocolError, Denied, Unavailable: why not.
        """
        submission = await self._intake.open(body, caller.key_id)
        logged = await self._intake.find(submission)
        if logged is None:
            try:
                submission = await self._gather(submission, caller)
                missing = self._missing(submission)
                if missing:
                    return self._describe(_Pending(submission.envelope, _membership_statement(submission), missing))
                return await self._describe_logged(await self._intake.sequence(submission, caller.key_id))
            except ProtocolError:
                # Perhaps it is refused now because another signature completed it meanwhile.
                logged = await self._intake.find(submission)
                if logged is None:
                    raise
        return await self._describe_logged(await self._publication.receipt(logged.index))

    async def pending(self, caller: Caller) -> list[Proposal]:
        """The proposals that can still be logged; for a future admin, those that appoint them."""
        await self._directory.refresh()
        async with self._engine.connect() as connection:
            stored = await proposal_store.read_pending(connection)
            found = [await self._review(connection, proposal) for proposal in stored]
            await connection.commit()
        return [self._describe(item) for item in found if isinstance(item, _Pending) and _may_see(item, caller)]

    async def find(self, proposal_id: str, caller: Caller) -> Proposal:
        """One proposal, with its receipt once it is logged.

        Raises:
            Denied: `not_found`, or `proposal_dropped` with the reason.
        """
        await self._directory.refresh()
        payload = bytes.fromhex(proposal_id)
        async with self._engine.connect() as connection:
            stored = await proposal_store.read(connection, payload)
            if stored is None:
                raise Denied("not_found", "there is no such proposal")
            reviewed = None if stored.logged else await self._review(connection, stored)
            # Asked last: perhaps it cannot be logged any more because it was, meanwhile.
            logged = (await log_store.find_logged(connection, [payload])).get(payload)
            await connection.commit()
        if isinstance(reviewed, str) and logged is None:
            raise Denied("proposal_dropped", f"the proposal can never be logged any more: {reviewed}")
        item = reviewed if isinstance(reviewed, _Pending) else _Pending(*_open(stored.envelope), "")
        if not _may_see(item, caller):
            raise Denied("not_found", "there is no such proposal")
        if logged is None:
            return self._describe(item)
        return await self._describe_logged(await self._publication.receipt(logged))

    async def _gather(self, submission: Submission, caller: Caller) -> Submission:
        """Merge what was sent with what is stored, under the row's lock, so that no signature is lost."""
        statement = _membership_statement(submission)
        payload = submission.candidate.payload_sha256
        async with self._engine.connect() as connection:
            # Refuses what could never be logged, or carries a signature of someone who has no say in it.
            await self._check_possible(connection, statement, submission.envelope)
            self._intake.check_log(statement)
            try:
                authorize(self._directory.membership, statement, submission.envelope, submission.candidate.check)
            except Refused as refusal:
                if refusal.code != _NOT_ENOUGH:
                    raise
            if await proposal_store.read(connection, payload) is None:
                await self._check_may_begin(connection, caller)
                check_clock(statement, self._clock())
                await proposal_store.begin(connection, payload, submission.candidate.entry)
            stored = await proposal_store.read(connection, payload, lock=True)
            if stored is None:
                raise Unavailable("proposal_lost", "the proposal was removed meanwhile; send it again")
            merged = envelopes.parse(stored.envelope).with_signatures(submission.envelope.signatures)
            await proposal_store.put(connection, payload, merged.encode())
            await connection.commit()
        # Signatures that were stored were verified then; the candidate's own check verifies what it does not know.
        candidate = Candidate(merged, merged.encode(), statement, submission.candidate.verified)
        return Submission(candidate)

    async def _check_may_begin(self, connection: AsyncConnection, caller: Caller) -> None:
        key = self._directory.membership.keys.get(caller.key_id)
        if key is None or caller.future_admin:
            raise Refused("unknown_key", "a present admin has to propose this first; then a new one can sign it")
        if key.role != ADMIN_ROLE:
            raise Refused("wrong_role", "only the forum's admins make proposals; send the entry itself")
        if await proposal_store.count_pending(connection) >= MAX_PENDING:
            # Perhaps some have lost meanwhile, and nobody has asked for them since.
            for stored in await proposal_store.read_pending(connection):
                await self._review(connection, stored)
            await connection.commit()
        if await proposal_store.count_pending(connection) >= MAX_PENDING:
            raise Denied("too_many_proposals", f"{MAX_PENDING} proposals wait for signatures; sign some of them first")

    async def _check_possible(
        self, connection: AsyncConnection, statement: MembershipStatement, envelope: Envelope
    ) -> None:
        head = await log_store.read_head(connection)
        records = KnownRecords(await log_store.read_heads(connection, [statement.id]), {})
        entry = leaf_hash(envelope.encode()).hex()
        consequences(statement, envelope.payload_sha256, head.size, entry, self._directory.membership, records)

    async def _review(self, connection: AsyncConnection, stored: StoredProposal) -> _Pending | str:
        """Whether a proposal can still be logged; if not, note why, and say it."""
        if stored.dropped_because is not None:
            return stored.dropped_because
        envelope, statement = _open(stored.envelope)
        missing = ""
        try:
            await self._check_possible(connection, statement, envelope)
            authorize(self._directory.membership, statement, envelope)
        except ProtocolError as error:
            if error.code != _NOT_ENOUGH:
                await proposal_store.drop(connection, stored.payload_sha256, error.detail)
                return error.detail
            missing = error.detail
        return _Pending(envelope, statement, missing)

    def _missing(self, submission: Submission) -> str:
        try:
            authorize(self._directory.membership, submission.statement, submission.envelope, submission.candidate.check)
        except Refused as refusal:
            if refusal.code != _NOT_ENOUGH:
                raise
            return refusal.detail
        return ""

    async def _describe_logged(self, receipt: Receipt) -> Proposal:
        """A proposal that is in the log, as it is there: signatures that came too late are not what was logged."""
        async with self._engine.connect() as connection:
            entry = await log_store.read_entry(connection, receipt.index)
        return self._describe(_Pending(*_open(entry), "")).model_copy(update={"receipt": receipt})

    def _describe(self, pending: _Pending) -> Proposal:
        names = _names(self._directory.membership, pending.statement)
        return Proposal(
            id=pending.envelope.payload_sha256,
            envelope=pending.envelope.encode().decode(),
            signed_by=[names.get(signature.key_id, signature.key_id) for signature in pending.envelope.signatures],
            missing=pending.missing,
        )


def _open(entry: bytes) -> tuple[Envelope, MembershipStatement]:
    envelope = envelopes.parse(entry)
    statement = parse(envelope.payload)
    if not isinstance(statement, MembershipStatement):
        raise Refused("not_a_proposal", "only membership statements are proposed")
    return envelope, statement


def _membership_statement(submission: Submission) -> MembershipStatement:
    statement = submission.statement
    if not isinstance(statement, MembershipStatement):
        raise Refused("not_a_proposal", f"a {statement.type} needs no other signatures; send it to the log itself")
    return statement


def _may_see(pending: _Pending, caller: Caller) -> bool:
    return not caller.future_admin or caller.key_id in named_admins(pending.statement)


def _names(membership: Membership, statement: Statement) -> dict[str, str]:
    names = {key_id: key.name for key_id, key in membership.keys.items() if key.name}
    if isinstance(statement, ChangeAdmins):
        by_key = {admin.key: admin.name for admin in statement.body.admins}
        names.update({key_id: by_key[str(key)] for key_id, key in named_admins(statement).items()})
    return names

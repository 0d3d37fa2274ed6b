"""The one place that extends the log: submissions wait here, and go in together, in one order.

A single task takes up to 256 waiting submissions, and in one transaction locks the log, decides (`batch`), writes
entries, tiles and projections, signs the checkpoint that covers them, moves the head, and commits. Only then are
the submitters told. A batch costs hardly more for many entries than for one, so it waits a little for those that are
being checked at the moment: a lone submission waits for nobody.
Several processes may do so on one database: the lock makes them take turns, and who gets it reads what the others
appended.

    stage → sign → durable commit → publish

- If we stop before the commit, Postgres undoes everything. The checkpoint we had signed dies with the transaction:
  nobody can read an uncommitted row, so the log never signed two trees of one size in anyone's sight.
- If we stop after the commit, the entries are in the log and nobody was told. Submitting again returns their index.
- If the connection breaks during the commit, we cannot know which of the two it was. Then nothing is answered and
  nothing else is sequenced until the log could be locked and read again. Having the lock means that the broken
  session is over, so what we read then is final; and the same batch goes through the same path once more, where
  idempotence sorts out what is there already.
- If the log was put back to an older state, by a restored backup for instance, it is not extended (`rollback`).
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub.batch import AlreadyLogged, Appended, Candidate, Decision, KnownRecords, LogState, decide, mentioned
from hub.database import log_store, usage_store
from hub.database.log_store import LogHead
from hub.directory import Directory
from hub.errors import HubError, LogDamaged, LogHalted, OverLimit, Unavailable
from hub.fair_queue import FairQueue
from hub.instruments import Instruments
from hub.log_keys import LogKeys
from hub.proofs import TileHashes
from hub.publication import make_receipt
from hub.quotas import Allowance, Quotas, counted
from hub.rollback import RollBackGuard
from hub.stored_log import load_log, write_entries
from sharing_protocol import notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError
from sharing_protocol.merkle import inclusion_proof
from sharing_protocol.tiles import GrowingTree, right_edge
from sharing_protocol.wire import Receipt

MAX_BATCH = 256
MAX_WAITING = 1024
MAX_WAITING_EACH = 256
GATHER_SECONDS = 0.02
_STAGED_AT_ONCE = 8
_RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)

_log = logging.getLogger(__name__)

Answer = Receipt | AlreadyLogged


@dataclass(slots=True)
class _Submission:
    """A candidate in the queue.

    Attributes:
        doubtful: it was appended in a commit whose outcome is unknown; if the log has it, this may have put it there.
    """

    candidate: Candidate
    answer: asyncio.Future[Answer]
    doubtful: bool = False

    def tell(self, outcome: Answer | BaseException) -> None:
        if self.answer.done():
            return  # whoever asked has given up waiting
        if isinstance(outcome, BaseException):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass(frozen=True, slots=True)
class _Staged:
    """A decided batch with the checkpoint that covers it, signed but not published.

    Attributes:
        note: the checkpoint as the log signed it, None if the batch adds nothing.
        answers: what to tell each submitter, once this is committed.
    """

    decision: Decision
    checkpoint: Checkpoint
    note: notes.Note | None
    answers: list[Answer | ProtocolError | OverLimit]


class _CommitUnknown(Exception):
    """The connection broke while the transaction was being committed."""


class Sequencer:
    """Extends the log. `start` it, `submit` to it, `stop` it."""

    def __init__(
        self,
        engine: AsyncEngine,
        keys: LogKeys,
        directory: Directory,
        guard: RollBackGuard,
        clock: Callable[[], datetime],
        quotas: Quotas | None = None,
        instruments: Instruments | None = None,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._directory = directory
        self._guard = guard
        self._clock = clock
        self._quotas = quotas
        self._instruments = instruments or Instruments()
        self._queue = FairQueue[_Submission](MAX_WAITING, MAX_WAITING_EACH)
        self._state = LogState(GrowingTree(), directory.membership)
        self._root = b""
        self._coming = 0
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._in_doubt = False
        self._stopping = False

    async def start(self) -> None:
        """Read where the log ends, and begin; a log that turns out to be rolled back is halted, and not extended.

        Raises:
            LogDamaged: the stored log contradicts itself, or other keys than ours signed it.
            LogKeysMissing: the keys that it has now are not here.
        """
        async with self._engine.connect() as connection:
            # One moment of the log, without its lock: others may be extending it, and whoever hangs must not stop us.
            await connection.execution_options(isolation_level="REPEATABLE READ")
            with contextlib.suppress(LogHalted):
                await self._take_up(connection, await log_store.read_head(connection))
        self._task = asyncio.create_task(self._run(), name="sequencer")

    async def stop(self) -> None:
        """Stop once the submissions that wait are answered; a database that stays away is not waited for."""
        if self._task is not None:
            self._stopping = True
            self._queue.close()
            await self._task
            self._task = None

    @property
    def waiting(self) -> int:
        """How many submissions wait for a batch."""
        return len(self._queue)

    @property
    def running(self) -> bool:
        """Whether submissions are being taken."""
        return self._task is not None and not self._task.done() and not self._stopping

    @property
    def in_doubt(self) -> bool:
        """Whether it is being found out how the last commit ended."""
        return self._in_doubt

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """While a submission is being checked that is then submitted, or refused."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._came.set()

    async def submit(self, candidate: Candidate) -> Answer:
        """Put a candidate into the log; return when that is durable.

        Returns:
            A receipt, or where the payload was before.

        Raises:
            ProtocolError: why the rules refuse it.
            OverLimit: the author has too many waiting, or has used up what it may add.
            Unavailable: too many wait, or the database does not answer; nothing is decided.
        """
        (answer,) = await self.submit_all([candidate])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def submit_all(self, candidates: Sequence[Candidate]) -> list[Answer | BaseException]:
        """Put candidates into the log, in this order; return when all are decided, and what is logged is durable.

        Returns:
            For each what `submit` returns or raises. Whatever has no room to wait takes those after it along: they may
            build on it.
        """
        waiting: list[asyncio.Future[Answer]] = []
        shed: HubError | None = _in_doubt() if self._in_doubt else None
        for candidate in candidates if shed is None else ():
            submission = _Submission(candidate, asyncio.get_running_loop().create_future())
            try:
                # Intake has seen that the author signed it: nobody waits at another's expense.
                self._queue.put(candidate.statement.author, submission)
            except HubError as error:
                shed = error
                break
            waiting.append(submission.answer)
        answers: list[Answer | BaseException] = [*await asyncio.gather(*waiting, return_exceptions=True)]
        return answers + [shed] * (len(candidates) - len(answers)) if shed is not None else answers

    async def _run(self) -> None:
        while batch := await self._gather():
            with self._instruments.tracing.span("sequence a batch", {"stillwatch.submissions": len(batch)}):
                await self._settle(batch)

    async def _gather(self) -> list[_Submission]:
        await self._queue.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                while self._coming and len(self._queue) < MAX_BATCH:
                    self._came.clear()
                    await self._came.wait()
                # Who was checked last is about to be in the queue.
                await asyncio.sleep(0)
        return await self._queue.take(MAX_BATCH)

    async def _settle(self, batch: Sequence[_Submission]) -> None:
        """Bring a batch to its end: every submitter gets an answer that is final, or `Unavailable`."""
        attempt = 0
        while True:
            try:
                return await self._sequence(batch)
            except _CommitUnknown as unknown:
                _log.error("commit outcome unknown, reading the log again: %s", unknown.__cause__)
                self._in_doubt = True
            except (OperationalError, InterfaceError, PoolTimeout) as error:
                # Before the commit: the transaction is undone.
                _log.warning("the database does not answer: %s", error)
                if attempt >= len(_RETRY_SECONDS) and not self._in_doubt:
                    return _tell_all(batch, Unavailable("database_unavailable", "the hub's database does not answer"))
            except LogHalted as error:
                return _tell_all(batch, error)
            except HubError as error:
                _log.critical("the log cannot be extended: %s", error)
                return _tell_all(batch, Unavailable(error.code, "the hub cannot extend its log; its operator was told"))
            except Exception as error:  # noqa: BLE001 - whatever it is, the sequencer must not die of it
                if not self._in_doubt:
                    return await self._settle_apart(batch, error)
                # The log was not read yet, so it is not the fault of any submission.
                _log.error("cannot find out how the last commit ended", exc_info=error)
            if self._in_doubt and self._stopping and attempt >= len(_RETRY_SECONDS):
                return _tell_all(batch, _in_doubt())
            await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            attempt += 1

    async def _settle_apart(self, batch: Sequence[_Submission], error: Exception) -> None:
        """After a flaw of ours that one submission may have set off: it must not cost the others theirs."""
        if len(batch) == 1:
            _tell_all(batch, error)
            return
        _log.error("a batch failed; taking its submissions one by one", exc_info=error)
        for submission in batch:
            await self._settle([submission])

    async def _sequence(self, batch: Sequence[_Submission]) -> None:
        candidates = [submission.candidate for submission in batch]
        begun = time.perf_counter()
        async with self._engine.connect() as connection:
            await log_store.lock_log(connection)
            ids, versions = mentioned([candidate.statement for candidate in candidates])
            payloads = [candidate.payload_sha256 for candidate in candidates]
            known = await log_store.look(connection, payloads, ids, versions)
            head = known.head
            self._in_doubt = False
            if known.halted or self._guard.halted is not None:
                await self._guard.refuse_if_halted(connection)
            if (head.size, head.root) != (self._state.size, self._root):
                # Another process extended it, or we did, in an unknown commit; or it was put back to an older state.
                await self._take_up(connection, head)
            records = KnownRecords(known.heads, known.versions)
            authors = counted({candidate.statement.author for candidate in candidates})
            usage = await usage_store.read(connection, authors)
            allowance = Allowance(self._quotas, {author: stored.usage for author, stored in usage.items()})
            stage = functools.partial(self._stage, candidates, records, known.logged, allowance)
            # A thread costs as much as a few entries, and more while the others are busy.
            staged = stage() if len(candidates) <= _STAGED_AT_ONCE else await asyncio.to_thread(stage)
            if staged.note is not None:
                await self._write(connection, head, staged, str(staged.note))
                await usage_store.add(connection, usage, allowance.added)
                with self._instruments.tracing.span("commit", {"stillwatch.entries": len(staged.decision.entries)}):
                    await _commit(connection, batch, staged.decision)
        # Durable. From here on the rows can be read by anybody; we are only the first to say so.
        self._state = staged.decision.after
        if staged.note is not None:
            self._root = staged.checkpoint.root
            self._guard.advance(staged.checkpoint, str(staged.note))
        self._directory.advance(self._state.membership)
        self._instruments.metrics.sequenced(len(staged.decision.entries), time.perf_counter() - begun)
        for submission, answer in zip(batch, staged.answers, strict=True):
            if submission.doubtful and isinstance(answer, AlreadyLogged):
                submission.tell(AlreadyLogged(answer.index, before=False))
            else:
                submission.tell(answer)

    def _stage(
        self,
        candidates: Sequence[Candidate],
        records: KnownRecords,
        logged: dict[bytes, int],
        allowance: Allowance,
    ) -> _Staged:
        decision = decide(candidates, self._state, records, logged, allowance)
        tree = decision.after.tree
        checkpoint = Checkpoint(self._keys.origin, tree.size, tree.root())
        if not decision.entries:
            answered = [outcome for outcome in decision.outcomes if not isinstance(outcome, Appended)]
            return _Staged(decision, checkpoint, None, [*answered])
        # By the keys that the log has after this batch: it may be the one that exchanges them.
        signer = self._keys.signer(decision.after.membership, tree.size)
        note = signer.sign(checkpoint)
        # We hold the lock, so this is the newest checkpoint at this time; the cosignature says so.
        vouched = str(signer.vouch(note, int(self._clock().timestamp())))
        # A new leaf's proof needs no other tiles than those that changed and the edge as it is now.
        edge = {(tile.level, tile.index): tree.edge[tile.level] for tile in right_edge(tree.size)}
        hashes = TileHashes({**edge, **decision.tiles})
        answers: list[Answer | ProtocolError | OverLimit] = []
        for outcome in decision.outcomes:
            if isinstance(outcome, Appended):
                leaf = decision.entries[outcome.index - self._state.size].leaf_hash
                proof = inclusion_proof(outcome.index, tree.size, hashes)
                answers.append(make_receipt(outcome.index, leaf, proof, vouched, already_logged=False))
            else:
                answers.append(outcome)
        return _Staged(decision, checkpoint, note, answers)

    async def _write(self, connection: AsyncConnection, head: LogHead, staged: _Staged, note: str) -> None:
        decision = staged.decision
        membership = decision.after.membership
        await write_entries(connection, self._state.membership, decision)
        after = LogHead(decision.after.size, max(head.last_membership, membership.as_of))
        if not await log_store.advance_head(connection, head, after, staged.checkpoint, note):
            raise LogDamaged("the log's head moved although we hold its lock")

    async def _take_up(self, connection: AsyncConnection, head: LogHead) -> None:
        """Go on from the log as it is stored, if it extends what was published of it."""
        # Nobody extends the log meanwhile: we hold its lock, or (at the start) read one moment of it.
        published = self._guard.newest
        state = await load_log(connection, self._keys, self._directory, head)
        self._directory.advance(state.membership)
        newest = await log_store.read_checkpoint(connection, head.size)
        await self._guard.confront(connection, published, newest[1] if newest else None)
        self._state, self._root = state, head.root


async def _commit(connection: AsyncConnection, batch: Sequence[_Submission], decision: Decision) -> None:
    try:
        await connection.commit()
    except DBAPIError as error:
        for submission, outcome in zip(batch, decision.outcomes, strict=True):
            submission.doubtful = submission.doubtful or isinstance(outcome, Appended)
        raise _CommitUnknown from error


def _in_doubt() -> Unavailable:
    return Unavailable("log_in_doubt", "the hub is finding out how its last write to the database ended")


def _tell_all(batch: Sequence[_Submission], outcome: BaseException) -> None:
    for submission in batch:
        submission.tell(outcome)

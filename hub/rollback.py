"""Noticing that the log in the database is older than what was published of it, before anything is signed.

A restored backup *is* a roll back: going on from it, the hub would sign a second history. What was published is known
from three sources, each a lower bound that our own signature proves:

- what this process has seen committed, and `newest-checkpoint` of its home (`newest_checkpoint`);
- what members show: `POST /checkpoint`;
- a mark of `stillwatch-hub restore`, that nobody knows yet.

Whoever finds the log behind halts it by a row in the database (`database.halt_store`), which every process reads with
every request and, under the log's lock, before every batch. Then nothing is signed or served; only checkpoints are
still taken. `stillwatch-hub resume` lifts the halt, once the log extends everything that is known.

For a readiness probe: `RollBackGuard.read_halt` asks the database, `RollBackGuard.halted` is what was seen last.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub import newest_checkpoint
from hub.database import halt_store, log_store
from hub.database.halt_store import Halt
from hub.directory import Directory
from hub.errors import LogDamaged, LogHalted
from hub.identity import IdentityError
from hub.log_keys import LogKeys, history_of
from hub.proofs import TileHashes, tiles_for_consistency
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.merkle import EMPTY_ROOT, consistency_proof, verify_consistency
from sharing_protocol.wire import CheckpointComparison

WRITE_SECONDS = 1.0
"""How often, at most, the home's file is written: an fsync for every commit would cost throughput."""

_log = logging.getLogger(__name__)


class RollBackGuard:
    """Compares the log with what was published of it. `start` it, `stop` it.

    Attributes:
        halted: the halt that this process saw last; the database has the truth.
    """

    def __init__(self, engine: AsyncEngine, keys: LogKeys, directory: Directory) -> None:
        self._engine = engine
        self._keys = keys
        self._directory = directory
        self._home = keys.home
        self._newest: tuple[Checkpoint, str] | None = None
        self._unwritten = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self.halted: Halt | None = None

    async def start(self) -> None:
        """Read what this home knows, and begin to keep what is published.

        Raises:
            NewestCheckpointError: the home's file cannot be believed.
        """
        if self._home is not None:
            if (self._home / newest_checkpoint.FILE).exists():
                await self._directory.refresh()  # for it knows which keys the log had
            self._newest = newest_checkpoint.load(self._home, self._keys, history_of(self._directory.membership))
            self._writer = asyncio.create_task(self._keep_writing(self._home), name="newest checkpoint")

    async def stop(self) -> None:
        """Keep what is not kept yet."""
        if self._writer is None or self._home is None:
            return
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer
        await self._write(self._home)

    @property
    def newest(self) -> Checkpoint | None:
        """The largest checkpoint that is known to be published."""
        return self._newest[0] if self._newest else None

    def is_newest(self, note: str) -> bool:
        """Whether this very note, signed by the log's key alone, is the largest that is known."""
        return self._newest is not None and self._newest[1] == note

    def advance(self, checkpoint: Checkpoint, note: str) -> None:
        """Take note of a checkpoint that was committed, signed by the log's key."""
        if self._newest is None or self._newest[0].size < checkpoint.size:
            self._newest = checkpoint, note
            self._unwritten.set()

    async def confront(self, connection: AsyncConnection, known: Checkpoint | None, note: str | None) -> None:
        """See that a log's newest checkpoint, as it was just read, extends what is known to be published.

        Args:
            connection: its transaction is undone if the log is halted.
            known: `newest` as it was *before* reading: what another process commits meanwhile is no contradiction.
            note: the log's newest, None for the empty log.

        Raises:
            LogHalted: it does not; from here on, no process builds on the log.
            LogDamaged: the checkpoint is not signed by the log's key, as far as the directory has read.
        """
        found, own = self._open(note)
        if known is not None and not await extends(connection, found, known):
            await self._halt(connection, found, known, self._newest[1] if self._newest else None)
        elif own:
            self.advance(found, own)

    async def compare(self, reporter: str, body: bytes) -> CheckpointComparison:
        """Take a checkpoint that a member shows, and halt the log if it is not one of the log's past.

        One that keys signed which the log gave up since says nothing of what was published later, and somebody else
        may have these keys: it is compared, and neither kept nor obeyed.

        Raises:
            Malformed, Refused: it is no checkpoint of this log.
        """
        async with self._engine.connect() as connection:
            logs = history_of(await self._directory.current(connection))
            try:
                shown, note = self._keys.own_checkpoint(logs, body)
            except Refused:
                await self._keep_unproven(connection, logs, reporter, body)
                raise
            newest = await log_store.read_checkpoint(connection)
            found, _ = self._open(newest[1] if newest is not None else None)
            holds = await extends(connection, found, shown)
            if logs is not None and logs.at(shown.size) != logs.current:
                return CheckpointComparison(tree_size=found.size, extends=holds)
            await halt_store.put_report(connection, reporter, shown.size, note)
            await connection.commit()
            if not holds:
                with contextlib.suppress(LogHalted):
                    await self._halt(connection, found, shown, note)
        return CheckpointComparison(tree_size=found.size, extends=holds)

    async def _keep_unproven(
        self, connection: AsyncConnection, logs: LogHistory | None, reporter: str, body: bytes
    ) -> None:
        """Keep for the operator what nobody here can verify, while the log is halted.

        A backup of before an exchange of the log's keys knows nothing of it, nor does a home of that time.
        """
        shown = self._keys.unproven_checkpoint(logs, body)
        if shown is not None and await halt_store.read_halt(connection) is not None:
            await halt_store.put_unproven(connection, reporter, shown[0].size, shown[1])
            await connection.commit()

    async def read_halt(self) -> Halt | None:
        """The halt in force, None for a log in order."""
        async with self._engine.connect() as connection:
            return self._see(await halt_store.read_halt(connection))

    async def refuse_if_halted(self, connection: AsyncConnection) -> None:
        """Ask the database before building on the log.

        Raises:
            LogHalted: the log is halted.
        """
        halt = self._see(await halt_store.read_halt(connection))
        if halt is not None:
            raise refusal(halt)

    def _see(self, halt: Halt | None) -> Halt | None:
        if halt != self.halted:
            if halt is not None:
                _log.critical("the log is halted: %s", halt.reason)
            else:
                _log.warning("the log is not halted any more")
            self.halted = halt
        return halt

    def _open(self, note: str | None) -> tuple[Checkpoint, str]:
        if note is None:
            return Checkpoint(self._keys.origin, 0, EMPTY_ROOT), ""
        try:
            return self._keys.own_checkpoint(history_of(self._directory.membership), note.encode())
        except ProtocolError as error:
            raise LogDamaged(f"the newest checkpoint is refused: {error.detail}") from error

    async def _halt(self, connection: AsyncConnection, found: Checkpoint, known: Checkpoint, note: str | None) -> None:
        if found.size < known.size:
            reason = f"it has {found.size} entries, and {known.size} were published"
        else:
            reason = f"its {found.size} entries do not begin with the {known.size} that were published"
        # Whatever this connection was about to do is off; and what it saw of the log need not be the newest any more.
        await connection.rollback()
        await connection.execution_options(isolation_level="READ COMMITTED")
        await halt_store.halt(connection, "rolled back", f"the log was rolled back: {reason}", note)
        await connection.commit()
        await self.refuse_if_halted(connection)

    async def _keep_writing(self, home: Path) -> None:
        while True:
            await self._unwritten.wait()
            await self._write(home)
            await asyncio.sleep(WRITE_SECONDS)

    async def _write(self, home: Path) -> None:
        if self._newest is None or not self._unwritten.is_set():
            return
        self._unwritten.clear()
        try:
            logs = history_of(self._directory.membership)
            await asyncio.to_thread(newest_checkpoint.save, home, self._keys, logs, *self._newest)
        except (OSError, newest_checkpoint.NewestCheckpointError, IdentityError) as error:
            self._unwritten.set()
            _log.error("cannot keep the newest checkpoint in %s: %s", home, error)


def refusal(halt: Halt) -> LogHalted:
    """What a member is told of a halted log; the details are for the operator."""
    if halt.kind == "restored":
        return LogHalted(
            "log_unconfirmed",
            "the hub was restored from a backup, and its operator is finding out whether anything newer was published",
        )
    return LogHalted(
        "log_rolled_back", "the hub's log is older than what it published before; its operator has to recover the rest"
    )


async def extends(connection: AsyncConnection, log: Checkpoint, older: Checkpoint) -> bool:
    """Whether the stored log, whose newest checkpoint is `log`, has `older` in its past.

    By a consistency proof from the stored tiles, checked against both roots: an altered tile cannot make it hold.
    """
    if older.size in (0, log.size):
        return older.size == 0 or older.root == log.root
    if older.size > log.size:
        return False
    tiles = await log_store.read_tiles(connection, tiles_for_consistency(older.size, log.size))
    try:
        proof = consistency_proof(older.size, log.size, TileHashes(tiles))
    except (KeyError, IndexError) as error:
        raise LogDamaged(f"a tile that joins {older.size} and {log.size} entries is missing") from error
    return verify_consistency(older.size, log.size, older.root, log.root, proof)

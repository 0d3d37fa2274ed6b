"""What the hub says of its log: the newest checkpoint, and receipts for entries that are in it.

Everything here is read from committed rows. A checkpoint says nothing of time (C2SP tlog-checkpoint), so the
timestamp key adds when it was the newest; that statement is true only of the newest one, and at the time of reading.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub.cosigning import Cosigning
from hub.database import log_store
from hub.directory import Directory
from hub.errors import LogDamaged
from hub.log_keys import LogKeys
from hub.proofs import TileHashes, tiles_for_proof
from hub.rollback import RollBackGuard
from sharing_protocol import notes
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import inclusion_proof, leaf_hash
from sharing_protocol.wire import Receipt

VOUCH_SECONDS = 5
"""For how long one cosignature serves: short beside any client's freshness limit, long beside a burst of readers."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A checkpoint of `size` entries, with the cosignature that says when it was the newest."""

    size: int
    made: datetime
    note: str
    cosigned: str | None = None
    """The note with what witnesses have cosigned, once somebody has asked for it."""

    @property
    def shown(self) -> str:
        """The note as members are shown it."""
        return self.cosigned or self.note


class Publication:
    """Reads the log for members."""

    def __init__(
        self,
        engine: AsyncEngine,
        keys: LogKeys,
        directory: Directory,
        guard: RollBackGuard,
        clock: Callable[[], datetime],
        cosigning: Cosigning,
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._directory = directory
        self._guard = guard
        self._clock = clock
        self._cosigning = cosigning
        self._vouched: Vouched | None = None

    async def checkpoint(self, after: int | None = None) -> Vouched | None:
        """The newest checkpoint, vouched for now, with its cosignatures; None while the log is empty.

        Args:
            after: a caller who follows is content with any checkpoint of more entries that was the newest just now,
                so that a crowd which is woken at once shares one read.
        """
        known = self._vouched
        if after is not None and known is not None and known.size > after and not self._is_old(known):
            return known
        async with self._engine.connect() as connection:
            if after is not None:  # whoever waited was let in a while ago
                await self._guard.refuse_if_halted(connection)
            vouched = await self._newest(connection)
            if vouched is None:
                return None
            if vouched.cosigned is None:
                lines = await self._cosigning.lines(connection, vouched.size)
                cosigned = replace(vouched, cosigned=str(notes.parse(vouched.note.encode()).signed_by(lines)))
                if self._vouched is vouched:  # and not a newer one meanwhile
                    self._vouched = cosigned
                vouched = cosigned
        return vouched

    async def receipt(self, index: int, *, already_logged: bool = True, sent: bytes | None = None) -> Receipt:
        """A receipt for an entry that is in the log.

        Args:
            sent: the envelope that it is the answer to; if the entry is not that very envelope, the receipt has it.
        """
        async with self._engine.connect() as connection:
            vouched = await self._newest(connection)
            if vouched is None or index >= vouched.size:
                raise LogDamaged(f"entry {index} is beyond the newest checkpoint")
            leaf = await log_store.read_leaf_hash(connection, index)
            other = sent is not None and leaf_hash(sent) != leaf
            entry = (await log_store.read_entry(connection, index)).decode() if other else None
            places = tiles_for_proof(index, vouched.size)
            tiles = await log_store.read_tiles(connection, places) if places else {}
        try:
            proof = inclusion_proof(index, vouched.size, TileHashes(tiles))
        except (KeyError, IndexError) as error:
            raise LogDamaged(f"a tile for the proof of entry {index} is missing") from error
        made = make_receipt(index, leaf, proof, vouched.note, already_logged=already_logged)
        return made.model_copy(update={"envelope": entry}) if entry is not None else made

    async def _newest(self, connection: AsyncConnection) -> Vouched | None:
        # The time is taken first: at that time, nothing newer had been read by anyone.
        now, published = self._clock(), self._guard.newest
        newest = await log_store.read_checkpoint(connection)
        size, note = newest if newest is not None else (0, None)
        known = self._vouched
        if note is None or not self._guard.is_newest(note):
            # Grown by another process, or put back to what it was: then it must not be said to be the newest.
            await self._directory.current(connection)
            await self._guard.confront(connection, published, note)
        if note is None:
            return None
        if known is None or known.size != size or self._is_old(known):
            signer = self._keys.signer(self._directory.membership, size)
            signed = signer.vouch(notes.parse(note.encode()), int(now.timestamp()))
            known = self._vouched = Vouched(size, now, str(signed))
        return known

    def _is_old(self, vouched: Vouched) -> bool:
        return (self._clock() - vouched.made).total_seconds() >= VOUCH_SECONDS


def make_receipt(index: int, leaf: bytes, proof: Sequence[bytes], checkpoint: str, *, already_logged: bool) -> Receipt:
    """Write a receipt as the wire has it."""
    return Receipt(
        index=index,
        entry=leaf.hex(),
        inclusion_proof=[encode_base64(step) for step in proof],
        checkpoint=checkpoint,
        already_logged=already_logged,
    )

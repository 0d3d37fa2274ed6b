"""Taking cosignatures from witnesses, and showing them: who else has seen this very log.

The hub vouches for none of it: every member checks each line for itself. What the hub refuses is what would only be a
burden to them, such as lines by keys that are not a witness's now.

Whoever sends a cosignature shows the checkpoint with it, which is compared with the log (`rollback`): a hub that was
put back to an older state learns of it from the next witness.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hub.database import cosignature_store, log_store
from hub.database.cosignature_store import Cosignature
from hub.directory import Directory
from hub.rollback import RollBackGuard
from sharing_protocol import checkpoints, notes
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.membership import Membership
from sharing_protocol.notes import Note, NoteSignature, VerifierKey
from sharing_protocol.statements import Role
from sharing_protocol.trust import MAX_SKEW_SECONDS
from sharing_protocol.wire import CosignatureReceipt
from sharing_protocol.witnesses import all_witnesses, key_named, witness_key

LINES_SHOWN = notes.MAX_NOTE_SIGNATURES - 10
"""In one note: what the log adds, and whoever passes it on, must have room."""


SHOWN_SECONDS = 2.0
"""For how long what all have cosigned serves everybody who asks: members who lack a quorum ask every few seconds."""


@dataclass(frozen=True, slots=True)
class _Shown:
    as_of: int
    read: float
    notes: list[str]


class Cosigning:
    """Keeps what witnesses have cosigned."""

    def __init__(
        self, engine: AsyncEngine, directory: Directory, guard: RollBackGuard, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._guard = guard
        self._clock = clock
        self._shown: _Shown | None = None
        self._taken = 0

    async def take(self, reporter: str, body: bytes) -> tuple[CosignatureReceipt, set[str]]:
        """Take the cosignatures on a checkpoint note that this log signed.

        Args:
            reporter: the member that sends it, or an admin's key.

        Returns:
            What to answer, and the labs that have cosigned.

        Raises:
            Malformed, Refused: it is no checkpoint of this log; a line is not by a key that is a witness's now, does
                not hold, or is not of now; there is none; or the checkpoint is none that was published.
            LogHalted: the log does not have that checkpoint in its past.
        """
        comparison = await self._guard.compare(reporter, body)
        if not comparison.extends:
            async with self._engine.connect() as connection:
                await self._guard.refuse_if_halted(connection)
        note = notes.parse(body)
        size = checkpoints.parse_text(note.text).size
        given = _cosignatures(note, size, self._directory.membership, self._clock().timestamp())
        async with self._engine.begin() as connection:
            published = await log_store.read_checkpoint(connection, size)
            if published is None or notes.parse(published[1].encode()).text != note.text:
                raise Refused("unknown_checkpoint", f"no checkpoint of {size} entries is published here")
            await cosignature_store.put(connection, list(given.values()))
        self._shown, self._taken = None, self._taken + 1
        return CosignatureReceipt(tree_size=size, cosigned=len(given)), {key.name for key in given}

    async def lines(self, connection: AsyncConnection, size: int) -> list[NoteSignature]:
        """The cosignatures of a checkpoint by those who are witnesses now: the newest that a note has room for."""
        stored = await cosignature_store.read(connection, size)
        return [_line(one) for one in stored if self._is_current(one)][:LINES_SHOWN]

    async def notes(self, member: str = "") -> list[str]:
        """Every checkpoint that witnesses of now have cosigned, the largest first; with many lines as several notes.

        Args:
            member: only this lab's lines. What all have cosigned is read for everybody at once, for a moment.
        """
        membership, known = self._directory.membership, self._shown
        if member:
            return await self._read(witness for witness in all_witnesses(membership) if witness.name == member)
        if known is None or known.as_of != membership.as_of or time.monotonic() - known.read >= SHOWN_SECONDS:
            begun, taken = time.monotonic(), self._taken
            known = _Shown(membership.as_of, begun, await self._read(all_witnesses(membership)))
            if taken == self._taken:  # else what was just read may lack what was taken meanwhile
                self._shown = known
        return known.notes

    async def _read(self, witnesses: Iterable[VerifierKey]) -> list[str]:
        async with self._engine.connect() as connection:
            stored = await cosignature_store.read_by(connection, [witness.key.key_id for witness in witnesses])
        shown = []
        for note, pairs in groupby(stored, key=lambda pair: pair[0]):
            lines = [_line(one) for _, one in pairs]
            for start in range(0, len(lines), LINES_SHOWN):
                shown.append(str(notes.parse(note.encode()).signed_by(lines[start : start + LINES_SHOWN])))
        return shown

    def _is_current(self, cosignature: Cosignature) -> bool:
        try:
            return self._directory.membership.current_key(cosignature.key_id).role == Role.WITNESS
        except ProtocolError:
            return False


def _cosignatures(note: Note, size: int, membership: Membership, now: float) -> dict[VerifierKey, Cosignature]:
    named = {line: key for line in note.signatures if (key := key_named(membership, line)) is not None}
    for key in named.values():
        membership.current_key(key.public_key.key_id)
        if key.role != Role.WITNESS:
            raise Refused("wrong_role", f"a witness key cosigns; {key.public_key.key_id[:16]}… is a key for {key.role}")
    witnesses = {witness_key(key.holder, key.public_key): key for key in named.values()}
    given = {}
    for signature in notes.verify(note, list(witnesses)):
        at = signature.timestamp or 0
        if abs(at - now) > MAX_SKEW_SECONDS:
            raise Refused(
                "bad_cosignature_time",
                f"it was cosigned {at - now:+.0f} s from now, by this hub's clock; {MAX_SKEW_SECONDS} are allowed",
            )
        line = _newest_line(note, signature.key)
        given[signature.key] = Cosignature(size, witnesses[signature.key].public_key.key_id, at, line.line)
    if not given:
        raise Refused("no_cosignature", "no line of this note is a cosignature by a witness of the forum")
    return given


def _newest_line(note: Note, key: VerifierKey) -> NoteSignature:
    lines = (line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id))
    return max(lines, key=lambda line: line.value)  # which begins with the time


def _line(cosignature: Cosignature) -> NoteSignature:
    return notes.parse(f"cosigned\n\n{cosignature.line}".encode()).signatures[0]

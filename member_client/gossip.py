"""Comparing checkpoints with other labs, by a channel that the hub does not carry.

A hub can show two labs two logs, each consistent in itself, and neither notices alone. But it signs a checkpoint for
each. Whoever lays the two side by side has the proof, and whoever holds the entries can also compare checkpoints of
different sizes: the smaller tree has to be the beginning of the larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path

from member_client.errors import InvalidInput
from member_client.session import Session
from member_client.sync.store import Store
from member_client.sync.stored_tree import StoredTree
from sharing_protocol.errors import Misbehaviour
from sharing_protocol.evidence import conflict
from sharing_protocol.keys import encode_base64
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.notes import MAX_NOTE_BYTES
from sharing_protocol.trust import TrustedCheckpoint, open_checkpoint

MAX_FILES = 100
MAX_EVIDENCE = 20
"""Evidence files of one comparison: one is a proof already."""
_SHOWN = 5
CODE = "split_view"
OWN = "this home's checkpoint"


class Standing(StrEnum):
    """What comparing came to for one file."""

    AGREES = "agrees"
    CONTRADICTS = "contradicts"
    UNDECIDED = "undecided"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Compared:
    """One file.

    Attributes:
        size: entries that its checkpoint covers; None if it is none.
        told: one sentence: why.
    """

    file: str
    standing: Standing
    size: int | None
    told: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All files, and each proven contradiction with its evidence file."""

    files: list[Compared]
    evidence: list[Path]


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    trusted: TrustedCheckpoint


@dataclass(frozen=True, slots=True)
class _Contradiction:
    one: _Named
    other: _Named
    misbehaviour: Misbehaviour

    def against(self, trusted: TrustedCheckpoint) -> str:
        """Name of the checkpoint that contradicts this one here, "" if none does."""
        if trusted == self.one.trusted:
            return self.other.name
        return self.one.name if trusted == self.other.trusted else ""


def own_note(session: Session) -> str:
    """The newest checkpoint that this home has verified.

    Raises:
        InvalidInput: nothing was synced yet.
    """
    trusted = session.store.trusted()
    if trusted is None:
        raise InvalidInput("nothing is known of the log yet", "run `stillwatch sync` first")
    return trusted.note


def compare(session: Session, paths: Sequence[Path]) -> Comparison:
    """Compare checkpoint notes with each other and with this home's log; what is proven is kept as evidence.

    A file that cannot be used is named, and stops nothing.

    Raises:
        InvalidInput: too many files; nothing was synced yet.
    """
    if len(paths) > MAX_FILES:
        raise InvalidInput(f"at most {MAX_FILES} files are compared at once")
    logs = session.forum.logs
    notes: list[_Named] = []
    files: dict[str, Compared] = {}
    for path in dict.fromkeys(paths):
        try:
            notes.append(_Named(str(path), open_checkpoint(_read(path), logs)))
        except (Misbehaviour, InvalidInput) as error:
            told = str(error)
            if isinstance(error, Misbehaviour) and error.code == "unsigned_checkpoint":
                told += "; if the admins exchanged its keys since your last sync: sync, and compare again"
            files[str(path)] = Compared(str(path), Standing.UNUSABLE, None, told)
    held = _Held(session, logs)
    contradictions = held.contradictions(notes)
    kept = [session.keep_evidence(found.misbehaviour) for found in contradictions[:MAX_EVIDENCE]]
    for note in notes:
        files[note.name] = held.judge(note, contradictions)
    return Comparison([files[str(path)] for path in dict.fromkeys(paths)], kept)


class _Held:
    """What this home holds of the log, to compare with."""

    def __init__(self, session: Session, logs: LogHistory) -> None:
        own = open_checkpoint(own_note(session).encode(), logs)
        self._own = _Named(OWN, own)
        self._stored = session.store.cursor
        self._tree = StoredTree(session.store)
        self._store: Store = session.store

    def contradictions(self, notes: list[_Named]) -> list[_Contradiction]:
        """Every pair of checkpoints that cannot both be of one log; of equal ones the first stands for all."""
        distinct: dict[TrustedCheckpoint, _Named] = {}
        for note in (self._own, *notes):
            distinct.setdefault(note.trusted, note)
        found = []
        for one, other in combinations(distinct.values(), 2):
            smaller, larger = sorted((one, other), key=lambda note: note.trusted.checkpoint.size)
            steps = self._prefix_proof(smaller, larger)
            between = conflict(smaller.trusted, larger.trusted, tuple(steps))
            if between is None:
                continue
            fault, reason = between
            evidence = {"old_checkpoint": smaller.trusted.note, "new_checkpoint": larger.trusted.note}
            if steps:
                evidence["prefix_proof"] = "\n".join(encode_base64(step) for step in steps)
            told = f"the log signed {one.name} and {other.name}: {reason}"
            found.append(_Contradiction(one, other, Misbehaviour(fault, CODE, told, evidence)))
        return found

    def judge(self, note: _Named, contradictions: list[_Contradiction]) -> Compared:
        """Where one checkpoint stands."""
        checkpoint, size = note.trusted.checkpoint, note.trusted.checkpoint.size
        others = [other for found in contradictions if (other := found.against(note.trusted))]
        if others:
            told = f"the log signed it, and also what contradicts it: {', '.join(others[:_SHOWN])}"
            return Compared(note.name, Standing.CONTRADICTS, size, told)
        if size > self._stored:
            told = f"it covers {size} entries, and {self._stored} are stored here: sync, and compare again"
            return Compared(note.name, Standing.UNDECIDED, size, told)
        if self._tree.root(size) == checkpoint.root:
            return Compared(note.name, Standing.AGREES, size, f"its {size} entries are those that are stored here")
        told = "it is not of the log that is stored here, but that log is not stored whole: sync, and compare again"
        return Compared(note.name, Standing.UNDECIDED, size, told)

    def _prefix_proof(self, smaller: _Named, larger: _Named) -> list[bytes]:
        """Which root this home's own tree has at the smaller size, if it is this tree that the larger one signs."""
        size, whole = smaller.trusted.checkpoint.size, larger.trusted.checkpoint
        if not 0 < size < whole.size <= self._stored or self._tree.root(whole.size) != whole.root:
            return []
        return self._tree.prefix_proof(size, whole.size)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"it cannot be read: {error.strerror}") from error

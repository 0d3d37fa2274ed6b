"""This lab as a witness: its word, for all others, that the log extends everything it cosigned before.

What was cosigned last is kept beside the key, apart from the store: who moves a damaged store away and syncs anew must
not cosign another history. The steps, and what happens if this process dies between them:

1. `check`: the newest checkpoint extends the last that was cosigned, by a verified consistency proof. The hub is also
   asked what it knows this lab to have cosigned: a home that was restored from an older copy learns of it here.
2. `cosign` signs, keeps the cosigned note, durably, and only then sends it. If we stop before, nobody has seen a
   cosignature; if we stop after, the next run sends the one that is kept.

Source: C2SP tlog-cosignature, tlog-witness.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from member_client.errors import ClientError, InvalidInput
from member_client.home import write_privately
from sharing_protocol import checkpoints, notes
from sharing_protocol.errors import Malformed, Misbehaviour, ProtocolError
from sharing_protocol.keys import Signer
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership
from sharing_protocol.notes import Note, NoteSignature, VerifierKey
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.trust import TrustedCheckpoint, check_consistency
from sharing_protocol.witnesses import all_witnesses, claims_more, open_cosigned

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

RENEW_SECONDS = 240
"""How old a cosignature of the newest checkpoint gets before it is made anew: well within members' freshness limit."""


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness key of this home.

    Attributes:
        verifier: what others check its lines with.
        path: where what it cosigned last is kept.
        open: opens the private key.
    """

    verifier: VerifierKey
    path: Path
    open: Callable[[], Signer]

    def last(self) -> TrustedCheckpoint | None:
        """What it cosigned last, and when; None for nothing.

        Raises:
            InvalidInput: the file is not what was written.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            note = notes.parse(data)
            (held,) = notes.verify(note, [self.verifier])
            return TrustedCheckpoint(checkpoints.parse_text(note.text), str(note), held.timestamp or 0)
        except (ProtocolError, ValueError) as error:
            raise InvalidInput(
                f"{self.path} is damaged: it is not what the witness key beside it cosigned last",
                "revoke that key, make a new one with `stillwatch key new witness`, and register it",
            ) from error

    def keep(self, note: Note) -> None:
        """Keep what is cosigned, so that it is there after a loss of power too."""
        write_privately(self.path, str(note).encode())
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(slots=True)
class WitnessReport:
    """What became of cosigning in one run.

    Attributes:
        cosigned: entries in the checkpoint that the hub has a cosignature of by this home, None for none.
        problem: why it has not, "" if all is well; the sync succeeded all the same.
        warning: what somebody should look at, "" for nothing.
    """

    cosigned: int | None = None
    problem: str = ""
    warning: str = ""


class Witness:
    """The witness keys of a home, in one run.

    Args:
        keys: oldest first; the newest in force cosigns, all are held to what they cosigned.
        cosigns: whether to cosign in this run.
    """

    def __init__(
        self,
        hub: HubConnection,
        keys: Sequence[WitnessKey] = (),
        clock: Callable[[], float] = time.time,
        *,
        cosigns: bool = False,
    ) -> None:
        self._hub = hub
        self._keys = keys
        self._clock = clock
        self.report = WitnessReport() if cosigns else None

    def check(self, newest: TrustedCheckpoint, tree: VerifiedTree, logs: LogHistory) -> None:
        """See that the newest checkpoint extends everything that was cosigned with the keys of this home.

        Args:
            tree: over `newest`'s size and root.

        Raises:
            Misbehaviour: `ROLL_BACK`, `FORK`, with both checkpoints, the older one cosigned; `ALTER`, `FORGE`.
            InvalidInput: what was cosigned last is damaged.
        """
        for key in self._keys:
            check_consistency(key.last(), newest, tree)
        if self.report is not None and self._keys:
            self._check_forgotten(self.report, newest, tree, logs)

    def cosign(self, newest: TrustedCheckpoint, logs: LogHistory, membership: Membership) -> None:
        """Cosign a checkpoint that passed `check`, once in a run; failing is only reported."""
        report, chosen = self.report, self._chosen(membership)
        if report is None or chosen is None or report.problem or report.cosigned is not None:
            return
        try:
            report.cosigned = self._cosign(chosen, newest, logs)
        except (ClientError, OSError) as error:
            report.problem = str(error)

    def _cosign(self, key: WitnessKey, newest: TrustedCheckpoint, logs: LogHistory) -> int:
        last, now, size = key.last(), int(self._clock()), newest.checkpoint.size
        text = newest.checkpoint.text
        if last is not None and size < last.checkpoint.size:
            raise InvalidInput("a smaller tree than the last is not cosigned")
        note = notes.parse(newest.note.encode())
        if last is not None and last.checkpoint == newest.checkpoint and now < last.timestamp + RENEW_SECONDS:
            if _newest_line(note, key.verifier) >= last.timestamp:
                return size
            cosigned = notes.parse(last.note.encode())  # made before, and perhaps never sent
        else:
            # Time does not run backwards between two cosignatures, whatever this machine's clock does.
            at = max(now, last.timestamp if last is not None else 0)
            line = notes.cosign(text, key.verifier.name, key.open(), at)
            cosigned = Note(text, (*_lines_of(note, VerifierKey.parse(logs.at(size).log_key)), line))
            key.keep(cosigned)
        self._hub.send_cosignature(str(cosigned))
        return size

    def _check_forgotten(
        self, report: WitnessReport, newest: TrustedCheckpoint, tree: VerifiedTree, logs: LogHistory
    ) -> None:
        """Hold the log to what these keys are known to have cosigned, and this home does not remember."""
        try:
            shown = self._hub.cosigned_checkpoints(self._keys[0].verifier.name)
        except ClientError as error:
            report.problem = f"the hub cannot be asked what is cosigned already: {error}"
            return
        last = {key.verifier: key.last() for key in self._keys}
        for data in shown:
            try:
                found = open_cosigned(data, logs, list(last))
            except Misbehaviour:
                if claims_more(data, newest.checkpoint.size):
                    continue  # signed since, and perhaps by keys that we do not know yet
                raise
            for key, then in found.times.items():
                known = last[key]
                if known is not None and found.checkpoint.size < known.checkpoint.size:
                    continue
                if known is not None and found.checkpoint == known.checkpoint:
                    continue
                check_consistency(TrustedCheckpoint(found.checkpoint, str(found.note), then), newest, tree)
                report.warning = (
                    f"a witness key of this home has cosigned {found.checkpoint.size} entries, and the home does not "
                    "know of it: it was restored from an older copy, or somebody else has the key; in doubt revoke it"
                )

    def is_registered(self, membership: Membership) -> bool:
        """Whether there is a key here that may cosign, or none that is to."""
        return self.report is None or self._chosen(membership) is not None

    def remembered(self) -> list[str]:
        """The notes that were cosigned last."""
        return [last.note for key in self._keys if (last := key.last()) is not None]

    def _chosen(self, membership: Membership) -> WitnessKey | None:
        in_force = set(all_witnesses(membership))
        return next((key for key in reversed(self._keys) if key.verifier in in_force), None)


def _newest_line(note: Note, key: VerifierKey) -> int:
    """When a witness cosigned a note that somebody shows, -1 if it has not."""
    try:
        return next((held.timestamp or 0 for held in notes.verify(note, [key])), -1)
    except Malformed:
        return -1


def _lines_of(note: Note, key: VerifierKey) -> list[NoteSignature]:
    return [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id)]

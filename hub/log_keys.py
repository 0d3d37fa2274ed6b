"""The pairs of keys that this hub holds for its log, and which of them signs what.

A log begins with one pair, and its admins may exchange it (`membership.change_log`, sharing_protocol.log_keys). Which
pair signs a tree is said by the log itself, up to that tree; nothing in the home says it. So no file has to change at
the moment of the exchange, and every process, whenever it starts, signs with the same keys as the others:

    stillwatch-hub next-keys   makes a pair in keys/ of the home, and prints what the admins sign
    the entry is logged        its batch, and everything from there on, is signed by the new pair

A process that meets keys which it does not hold looks into its home again, and signs nothing until it has them.
"""

from pathlib import Path

from hub.errors import LogKeysMissing
from hub.identity import HubIdentity, further_pairs
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Refused
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership
from sharing_protocol.statements.membership import LogIdentity


class LogKeys:
    """Every pair that this process holds.

    Attributes:
        first: the pair that the hub was started with.
        home: where further pairs are looked for, None for nowhere.
    """

    def __init__(self, first: HubIdentity, home: Path | None = None) -> None:
        self.first = first
        self.home = home
        self._pairs = {first.public: first}

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.first.origin

    def holding(self, log: LogIdentity) -> HubIdentity | None:
        """The pair with these public keys, if this hub holds it."""
        if log not in self._pairs:
            self._look()
        return self._pairs.get(log)

    def signer(self, membership: Membership, size: int) -> HubIdentity:
        """The pair that signs the tree of so many entries, the last of which led to `membership`.

        Raises:
            LogKeysMissing: this hub does not hold it.
        """
        if membership.forum is None:
            return self.first
        pair = self.holding(membership.forum.logs.at(size))
        if pair is None:
            raise LogKeysMissing(
                "the hub does not hold the keys that its log has: its operator has to bring them into its home, or, if "
                "they are lost, to have the admins exchange them"
            )
        return pair

    def may_keep(self, logs: LogHistory) -> bool:
        """Whether a log with this history is ours: we hold its keys, or keys of its name that may follow them."""
        held = any(self.holding(term.log) for term in logs.terms)
        return held or (self.origin == logs.current.origin and self.first.is_further)

    def check_may_keep(self, logs: LogHistory) -> None:
        """See that a log of ours can be signed on, now or once its keys are exchanged.

        Raises:
            LogKeysMissing: its keys were exchanged for some that are not here.
        """
        if self.holding(logs.current) is None and not any(pair not in _all(logs) for pair in self._pairs):
            raise LogKeysMissing(
                f"entry {logs.terms[-1].since} exchanged the log's keys for a pair that is not in this home: copy "
                "keys/ of the home where `stillwatch-hub next-keys` made it"
            )

    def own_checkpoint(self, logs: LogHistory | None, data: bytes) -> tuple[Checkpoint, str]:
        """A checkpoint that this log signed, and its note with that signature alone.

        Args:
            logs: what the log says of its keys, None for an empty one. A key of ours that it does not know of (yet, or
                any more, if it was put back to an older state) counts as its own; one that it gave up does not.

        Raises:
            Malformed: it is none, or a signature of this log's key does not hold.
            Refused: `foreign_checkpoint`: another log's, or not signed by this log's key.
        """
        note = notes.parse(data)
        checkpoint = checkpoints.parse_text(note.text)
        verifiers = self._verifiers(logs, checkpoint.size)
        verified = notes.verify(note, verifiers)
        if checkpoint.origin != self.origin or not verified:
            raise Refused("foreign_checkpoint", "this hub's log key did not sign that checkpoint")
        verifier = verified[0].key
        ours = [line for line in note.signatures if (line.name, line.key_id) == (verifier.name, verifier.key_id)]
        return checkpoint, str(notes.Note(note.text, tuple(ours[:1])))

    def unproven_checkpoint(self, logs: LogHistory | None, data: bytes) -> tuple[Checkpoint, str] | None:
        """A checkpoint that `own_checkpoint` refuses as foreign, if it is said to be signed by a key of this log's name
        of which neither we nor the log know, and its note with that line alone; else None.

        Raises:
            Malformed: it is no checkpoint.
        """
        note = notes.parse(data)
        checkpoint = checkpoints.parse_text(note.text)
        terms = logs.terms if logs is not None else ()
        known = {notes.VerifierKey.parse(term.log.log_key).key_id for term in terms}
        known |= {pair.log_verifier.key_id for pair in self._pairs.values()}
        named = [line for line in note.signatures if line.name == self.origin and line.key_id not in known]
        if checkpoint.origin != self.origin or not named:
            return None
        return checkpoint, str(notes.Note(note.text, tuple(named[:1])))

    def _verifiers(self, logs: LogHistory | None, size: int) -> list[notes.VerifierKey]:
        self._look()
        if logs is None:
            return [pair.log_verifier for pair in self._pairs.values()]
        unknown = [pair.log_verifier for public, pair in self._pairs.items() if public not in _all(logs)]
        return [notes.VerifierKey.parse(logs.at(size).log_key), *unknown]

    def _look(self) -> None:
        if self.home is not None:
            known = [pair.log_key.public_key.key_id for pair in self._pairs.values()]
            found = further_pairs(self.home, self.origin, known)
            # A new dictionary, for other threads may be reading the old one.
            self._pairs = {**self._pairs, **{pair.public: pair for pair in found}}


def history_of(membership: Membership) -> LogHistory | None:
    """The history of the log's keys, None for an empty log."""
    return membership.forum.logs if membership.forum is not None else None


def _all(logs: LogHistory) -> set[LogIdentity]:
    return {term.log for term in logs.terms}

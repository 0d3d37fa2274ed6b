"""Some entries of a log, judged without the others.

Whoever holds every entry computes from them what any entry may do (`admission`). Whoever is shown a few, each proven to
be in one signed tree, can compute the same from these few, and has to know what that is worth:

- The versions of a record form a chain: each names the leaf hash of the one before. So of the forum's own record, and
  of a lab's, nothing can have been left out before the last version that is there; after it, everything can.
- What the few entries do not tell of other records, they are taken at their word for.
- An honest hub lets no entry in that the log's rules refuse. So if a few entries of its log cannot all have been
  admitted, whatever else the log holds, the hub is not honest: `contradicts` says which refusals are of that kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, ValidationError

from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.admission import Admission, Head, admit, type_named_by
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES, Envelope
from sharing_protocol.errors import Malformed, ProtocolError, Unproven
from sharing_protocol.keys import encode_base64
from sharing_protocol.membership import Membership
from sharing_protocol.merkle import leaf_hash, verify_inclusion
from sharing_protocol.statements import MembershipStatement, RecordStatement, Statement, Withdrawal, references_in
from sharing_protocol.statements.header import StrictModel
from sharing_protocol.strict_json import Json
from sharing_protocol.tiles import MAX_TREE_SIZE
from sharing_protocol.tlog_proof import MAX_STEPS, decode_steps

MAX_ENTRIES = 1024
"""In one excerpt: more changes of one lab and of the admins than a forum sees in decades."""

_NEEDS_WHOLE_CHAIN = frozenset({"unknown_key", "member_suspended", "insufficient_signatures", "unexpected_signature"})
_SHOWS_NOTHING = frozenset({"version_gap"})


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry and the proof that it is in a tree; `steps` are hashes, leaf to root."""

    index: int
    entry: bytes
    steps: tuple[bytes, ...]

    def check_in(self, checkpoint: Checkpoint) -> None:
        """Check the proof.

        Raises:
            Unproven: `not_in_the_log`.
        """
        leaf = leaf_hash(self.entry)
        if not verify_inclusion(leaf, self.index, checkpoint.size, self.steps, checkpoint.root):
            raise Unproven(
                "not_in_the_log",
                f"the inclusion proof of entry {self.index} does not lead to the signed root of {checkpoint.size}",
            )


class _Written(StrictModel):
    index: Annotated[int, Field(ge=0, lt=MAX_TREE_SIZE)]
    entry: Annotated[str, Field(max_length=MAX_ENVELOPE_BYTES)]
    inclusion_proof: Annotated[list[str], Field(max_length=MAX_STEPS)]


def write_entries(entries: Iterable[LoggedEntry]) -> list[Json]:
    """Entries as JSON objects with `index`, `entry` (its text) and `inclusion_proof` (base64 hashes)."""
    return [
        {
            "index": entry.index,
            "entry": entry.entry.decode("utf-8"),
            "inclusion_proof": [encode_base64(step) for step in entry.steps],
        }
        for entry in entries
    ]


def read_entries(document: Json) -> list[LoggedEntry]:
    """Read what `write_entries` wrote: at most 1,024 entries, by rising index.

    Raises:
        Malformed: `malformed_excerpt`.
    """
    if not isinstance(document, list) or len(document) > MAX_ENTRIES:
        raise _malformed(f"it is an array of at most {MAX_ENTRIES} entries")
    found = []
    for item in document:
        try:
            written = _Written.model_validate(item)
            found.append(LoggedEntry(written.index, written.entry.encode(), decode_steps(written.inclusion_proof)))
        except (ValidationError, Malformed, UnicodeEncodeError) as error:
            raise _malformed("an item has exactly index, entry and inclusion_proof, as documented") from error
    indices = [entry.index for entry in found]
    if indices != sorted(set(indices)):
        raise _malformed("the entries are not in the order of their indices, each once")
    return found


@dataclass(frozen=True, slots=True)
class Admitted:
    """An entry that the rules admit at its place.

    Attributes:
        before: the membership that the entries before it left, as far as they are there.
    """

    index: int
    envelope: Envelope
    statement: Statement
    before: Membership


class Excerpt:
    """The state that a few entries of a log lead to; give them in the order of their indices.

    It is what `admission.admit` looks records up in. What an entry says of a record that is not here is presumed.
    """

    def __init__(self) -> None:
        self.membership = Membership()
        self.admitted: list[Admitted] = []
        self._heads: dict[str, Head] = {}
        self._versions: dict[tuple[str, int], str] = {}
        self._presumed: dict[str, Head] = {}
        self._named: dict[tuple[str, int], str] = {}

    def admit(self, index: int, entry: bytes) -> Admitted:
        """Take the next of the entries.

        Raises:
            Malformed, Refused: the rules do not admit it here.
            Unproven: `not_understood`: it is of a later version of the protocol.
        """
        signed = envelopes.parse(entry)
        statement = statements.parse(signed.payload)
        self._presume(statement)
        before = self.membership
        decision = admit(signed, index, leaf_hash(entry).hex(), before, self)
        if not isinstance(decision, Admission):
            raise Unproven("not_understood", f"entry {index} is of a later version of the protocol: upgrade")
        head = decision.head
        self.membership = decision.membership
        self._heads[head.id] = head
        self._versions[head.id, head.version] = head.entry
        if (withdrawn := decision.withdrawn) is not None:
            self._heads[withdrawn.id] = replace(withdrawn, withdrawn=True)
        self.admitted.append(Admitted(index, signed, decision.statement, before))
        return self.admitted[-1]

    def head(self, record_id: str) -> Head | None:
        """See `admission.Records`."""
        known, presumed = self._heads.get(record_id), self._presumed.get(record_id)
        if known is None or presumed is None:
            return known or presumed
        # The version before may be one that was left out; who wrote the record, and that it was withdrawn, stays.
        if known.version < presumed.version:
            return replace(presumed, author=known.author, withdrawn=known.withdrawn)
        return known

    def entry_of(self, record_id: str, version: int) -> str | None:
        """See `admission.Records`."""
        return self._versions.get((record_id, version)) or self._named.get((record_id, version))

    def known_head(self, record_id: str) -> Head | None:
        """The newest version of a record among the entries."""
        return self._heads.get(record_id)

    def _presume(self, statement: object) -> None:
        self._presumed, self._named = {}, {}
        if not isinstance(statement, RecordStatement):
            return
        if statement.version > 1:
            previous, version = statement.previous or "", statement.version - 1
            self._presumed[statement.id] = Head(statement.id, statement.type, version, previous, statement.author)
        if isinstance(statement, Withdrawal):
            named = statement.body.record
            kind = type_named_by(named.id)
            self._presumed[named.id] = Head(named.id, kind, named.version, named.entry, statement.author)
            return
        for other in references_in(statement):
            self._named[other.reference.id, other.reference.version] = other.reference.entry


def is_unbroken(excerpt: Excerpt, record_id: str, index: int) -> bool:
    """Whether nothing can have been left out of a record's versions below `index`: a later one continues the chain."""
    return any(other.index > index and other.statement.id == record_id for other in excerpt.admitted)


def contradicts(
    error: ProtocolError, accused: Statement | None, before: Head | None, later: Sequence[Statement]
) -> bool:
    """Whether a refusal holds whatever other entries the log may have: then an honest hub never let this entry in.

    Most refusals rest on the entry alone, or on what cannot be taken back: a key's holder and role, that it was
    revoked, that a lab was expelled, a version that is there already. Others rest on a state of the author's record
    that a statement which was left out could have changed; they hold if the chain goes on without a gap.

    Args:
        error: why the excerpt refuses the entry.
        accused: the refused statement, None if there is none that can be read.
        before: the newest version of the author's record (a lab's, or the forum's) below the entry.
        later: membership statements from the entry on, itself included.
    """
    if error.code in _SHOWS_NOTHING or isinstance(error, Unproven):
        return False
    if error.code not in _NEEDS_WHOLE_CHAIN or accused is None:
        return True
    if error.code == "unexpected_signature" and isinstance(accused, RecordStatement):
        return True
    return before is not None and any(
        isinstance(statement, MembershipStatement)
        and (statement.id, statement.version, statement.previous) == (before.id, before.version + 1, before.entry)
        for statement in later
        if accused.author == before.id
    )


def _malformed(reason: str) -> Malformed:
    return Malformed("malformed_excerpt", f"not entries of a log with their proofs: {reason}")

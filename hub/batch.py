"""What a batch of submissions does to the log: decided here, as a pure function; written by `sequencer`.

Candidates are taken in order. One that the rules refuse changes nothing and harms no other; one whose payload the
log holds already, or an earlier candidate brought, gets that one's index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hub.database.log_store import NewEntry
from hub.errors import OverLimit
from hub.projection import HeadRow, RecordRow, head_row, record_row
from hub.proofs import Tiles
from hub.quotas import Allowance
from sharing_protocol.admission import Admission, Head, admit
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.keys import PublicKey
from sharing_protocol.membership import Membership
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import RecordStatement, Statement, Unknown, references_in
from sharing_protocol.tiles import GrowingTree


@dataclass(frozen=True, slots=True)
class Candidate:
    """A submission that is ready to be sequenced.

    Attributes:
        entry: the envelope's bytes.
        verified: `(public key, signature)` pairs that were found to hold, so that nothing is verified twice.
    """

    envelope: Envelope
    entry: bytes
    statement: Statement
    verified: frozenset[tuple[bytes, bytes]]

    def check(self, key: PublicKey, envelope: Envelope, signature: Signature) -> bool:
        """A `membership.SignatureCheck`."""
        if (key.raw, signature.value) in self.verified:
            return True
        return key.verifies(envelope.signed_message, signature.value)

    def read(self, _envelope: Envelope) -> Statement:
        """An `admission.StatementReader`, so that nothing is parsed twice."""
        return self.statement

    @property
    def payload_sha256(self) -> bytes:
        """Raw SHA-256 of the payload: what idempotence goes by."""
        return bytes.fromhex(self.envelope.payload_sha256)


@dataclass(frozen=True, slots=True)
class LogState:
    """What the sequencer keeps in memory between batches: never more than was committed."""

    tree: GrowingTree
    membership: Membership

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self.tree.size


@dataclass(frozen=True, slots=True)
class AlreadyLogged:
    """The payload is entry `index`.

    Attributes:
        before: False if this very submission put it there, in a commit whose outcome was unknown for a while.
    """

    index: int
    before: bool = True


@dataclass(frozen=True, slots=True)
class Appended:
    """The candidate becomes entry `index`."""

    index: int


Outcome = Appended | AlreadyLogged | ProtocolError | OverLimit


@dataclass(frozen=True, slots=True)
class Decision:
    """What a batch comes to.

    Attributes:
        outcomes: one for each candidate, in order.
        after: the state once `entries` are committed.
        tiles: all hashes of every tile that changed.
        heads: the newest version of every record that got one, by its id: a row changes once in a statement.
        withdrawals: record ids, and the index of the entry that withdraws each.
    """

    outcomes: list[Outcome]
    after: LogState
    entries: list[NewEntry]
    tiles: Tiles
    records: list[RecordRow]
    heads: dict[str, HeadRow]
    withdrawals: dict[str, int]


class KnownRecords:
    """The records that a batch speaks of (`admission.Records`), kept up to date while it is decided."""

    def __init__(self, heads: Mapping[str, Head], versions: Mapping[tuple[str, int], str]) -> None:
        self._heads = dict(heads)
        self._versions = dict(versions)

    def head(self, record_id: str) -> Head | None:
        """The newest version of a record."""
        return self._heads.get(record_id)

    def entry_of(self, record_id: str, version: int) -> str | None:
        """Hex leaf hash of the entry with that version."""
        return self._versions.get((record_id, version))

    def apply(self, admission: Admission) -> None:
        """Take an admitted entry into account."""
        head = admission.head
        self._heads[head.id] = head
        if isinstance(admission.statement, RecordStatement):
            self._versions[head.id, head.version] = head.entry
        if admission.withdrawn is not None:
            self._heads[admission.withdrawn.id] = replace(admission.withdrawn, withdrawn=True)


def mentioned(statements: Sequence[Statement]) -> tuple[set[str], set[tuple[str, int]]]:
    """The record ids, and the `(id, version)`s, that admission will look up for these statements."""
    ids = {statement.id for statement in statements}
    versions = set()
    for statement in statements:
        if not isinstance(statement, RecordStatement):
            continue
        for named in references_in(statement):
            ids.add(named.reference.id)
            versions.add((named.reference.id, named.reference.version))
    return ids, versions


def decide(
    candidates: Sequence[Candidate],
    state: LogState,
    records: KnownRecords,
    logged: Mapping[bytes, int],
    allowance: Allowance,
) -> Decision:
    """Decide on candidates in order.

    Args:
        state: as of the last commit; it is not changed.
        records: what the log knows of everything `mentioned`.
        logged: indices of the candidates' payloads (raw SHA-256) that the log holds.
        allowance: what members may still add; what the batch adds is counted in it.
    """
    indices = dict(logged)
    membership = state.membership
    decision = Decision([], state, [], {}, [], {}, {})
    for candidate in candidates:
        known = indices.get(candidate.payload_sha256)
        if known is not None:
            decision.outcomes.append(AlreadyLogged(known))
            continue
        index = state.size + len(decision.entries)
        leaf = leaf_hash(candidate.entry)
        try:
            admission = admit(
                candidate.envelope, index, leaf.hex(), membership, records, candidate.check, candidate.read
            )
            if isinstance(admission, Unknown):
                raise unknown_type(admission)
        except ProtocolError as error:
            decision.outcomes.append(error)
            continue
        too_much = allowance.take(candidate.statement.author, len(candidate.entry))
        if too_much is not None:
            decision.outcomes.append(too_much)
            continue
        indices[candidate.payload_sha256] = index
        membership = admission.membership
        records.apply(admission)
        _record(decision, candidate, admission, index, leaf)
    tree = GrowingTree(state.size, {level: list(hashes) for level, hashes in state.tree.edge.items()})
    changed = tree.append(entry.leaf_hash for entry in decision.entries)
    # The tree goes on appending to these lists; what this batch wrote must not change with it.
    tiles = {place: tuple(hashes) for place, hashes in changed.items()}
    return replace(decision, after=LogState(tree, membership), tiles=tiles)


def unknown_type(statement: Unknown) -> Refused:
    """The refusal of a statement of a type or schema that this hub does not know."""
    return Refused(
        "unknown_statement_type",
        f"this hub knows no statement of type {statement.type[:80]!r} in schema {statement.schema}",
        "type",
    )


def _record(decision: Decision, candidate: Candidate, admission: Admission, index: int, leaf: bytes) -> None:
    statement = admission.statement
    decision.outcomes.append(Appended(index))
    decision.entries.append(NewEntry(index, leaf, candidate.payload_sha256, statement.type, candidate.entry))
    decision.heads[admission.head.id] = head_row(admission.head, index)
    row = record_row(index, admission, candidate.envelope)
    if row is not None:
        decision.records.append(row)
    if admission.withdrawn is not None:
        decision.withdrawals[admission.withdrawn.id] = index

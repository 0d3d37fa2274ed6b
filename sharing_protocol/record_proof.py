"""A proof, in one file, of who said what: a record's version, and why its author could say it, for somebody outside.

Whoever checks it needs the forum's fingerprint and nothing else: no account, no network, no clock. The file is one line
of compact JSON, in one strict form:

    {"format":"stillwatch-proof/1","entry":"<the envelope>","tlog_proof":"<C2SP tlog-proof of it>",
     "membership":[{"index":0,"entry":"<an envelope>","inclusion_proof":["<base64>",…]},…]}

`membership` holds the whole history, as far as its maker knows it, of the two records that decide whether the author
could speak: the forum's own (founding, changes of admins, exchanges of the log's keys) and the author's (admission,
keys, standing). All of them are proven to be in the tree of the one checkpoint, which is signed by the keys that the
forum's record names for its size, and are judged by the log's own rules (`log_excerpt`).

What that shows and what it does not: see `ProvenStatement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sharing_protocol import envelope as envelopes
from sharing_protocol import notes, statements, strict_json, tlog_proof
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES
from sharing_protocol.errors import Malformed, Misbehaviour, ProtocolError, Unproven
from sharing_protocol.log_excerpt import Admitted, Excerpt, LoggedEntry, is_unbroken, read_entries, write_entries
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership, RegisteredKey
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import Found, MembershipStatement, Unknown
from sharing_protocol.statements.header import StrictModel
from sharing_protocol.statements.membership import LogIdentity
from sharing_protocol.strict_json import Json
from sharing_protocol.tlog_proof import TlogProof
from sharing_protocol.trust import TrustedCheckpoint, open_checkpoint

FORMAT = "stillwatch-proof/1"
MAX_PROOF_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordProof:
    """What the file holds.

    Attributes:
        entry: the envelope of the statement that is proven.
        proof: where it is, in which signed tree.
        membership: the other entries, by rising index; the first is the founding statement.
    """

    entry: bytes
    proof: TlogProof
    membership: tuple[LoggedEntry, ...]

    def encode(self) -> bytes:
        """Write the one strict form.

        Raises:
            Malformed: `not_a_proof` beyond 8 MiB.
        """
        document: Json = {
            "format": FORMAT,
            "entry": self.entry.decode("utf-8"),
            "tlog_proof": str(self.proof),
            "membership": write_entries(self.membership),
        }
        data = strict_json.dumps(document) + b"\n"
        if len(data) > MAX_PROOF_BYTES:
            raise _not_a_proof(f"it has at most {MAX_PROOF_BYTES} bytes")
        return data


class _Written(StrictModel):
    format: Literal["stillwatch-proof/1"]
    entry: Annotated[str, Field(max_length=MAX_ENVELOPE_BYTES)]
    tlog_proof: Annotated[str, Field(max_length=tlog_proof.MAX_BYTES)]
    membership: list[dict[str, object]]


def decode(data: bytes) -> RecordProof:
    """Read the file; what it says is not verified.

    Raises:
        Malformed: `not_a_proof`.
    """
    if len(data) > MAX_PROOF_BYTES:
        raise _not_a_proof(f"it has at most {MAX_PROOF_BYTES} bytes")
    try:
        document = strict_json.loads(data, "it")
        written = _Written.model_validate(document)
        membership = document["membership"] if isinstance(document, dict) else None
        proof = RecordProof(
            written.entry.encode(), tlog_proof.parse(written.tlog_proof.encode()), tuple(read_entries(membership))
        )
    except ValidationError as error:
        raise _not_a_proof(f"it has exactly format ({FORMAT!r}), entry, tlog_proof and membership") from error
    except Malformed as error:
        raise _not_a_proof(error.detail) from error
    if proof.encode() != data:
        raise _not_a_proof("it is not in the strict form: one line, member order, no white space, nothing after it")
    return proof


@dataclass(frozen=True, slots=True)
class ProvenStatement:
    """What a verified proof shows.

    - The statement is entry `index` of a tree that the forum's log signed, and the log vouched for that tree at
      `checkpoint.timestamp` by the hub's clock. Its own `created` is what the author says.
    - `signers` signed it, and the entries in `path` gave them their right, each signed by who had to sign it. Nothing
      can have been left out of the forum's or the author's history before the last entry of each that is there, since
      each names the one before it.
    - If `admins_unbroken` and `author_unbroken`, a later entry of each of these histories is there too, so that they
      have no gap at `index`. Otherwise a change after the last one there and below `index` could have been left out.
      But an honest hub would not have let the statement in then, and every member that follows the log would have
      caught it.

    It does not show that this is the record's newest version, that it was not withdrawn, that the key was not
    revoked since, nor that the hub shows everybody the same log; nor that the log had these keys still: if a later
    exchange of them was left out, somebody who got hold of the old ones may have signed the tree.

    Attributes:
        statement: what was said.
        before: the membership before it, as far as the path tells.
        after: the same after all of the path: what became of the key and the lab since.
    """

    index: int
    entry: str
    statement: Admitted
    checkpoint: TrustedCheckpoint
    path: tuple[Admitted, ...]
    before: Membership
    after: Membership
    admins_unbroken: bool
    author_unbroken: bool

    @property
    def signers(self) -> list[RegisteredKey]:
        """The keys that signed, as the log registered them; of a founding statement, its own admins'."""
        known = self.before.keys or self.after.keys
        signed_by = [signature.key_id for signature in self.statement.envelope.signatures]
        return [known[key_id] for key_id in signed_by if key_id in known]


def verify(data: bytes, fingerprint: str) -> ProvenStatement:
    """Check a proof against the forum that this fingerprint names.

    Raises:
        Malformed: `not_a_proof`.
        Unproven: `wrong_forum`, `not_in_the_log`, `superfluous_entry`, `not_understood`, a code of
            `trust.open_checkpoint` for its checkpoint, or of `admission.admit` for an entry that the rules refuse.
    """
    proof = decode(data)
    entries = sorted([*proof.membership, LoggedEntry(proof.proof.index, proof.entry, proof.proof.steps)], key=_by_index)
    if len({entry.index for entry in entries}) != len(entries):
        raise _not_a_proof("one entry stands in it twice")
    trusted = _open(proof.proof.checkpoint, log_history(entries, fingerprint))
    for entry in entries:
        entry.check_in(trusted.checkpoint)
    excerpt = Excerpt()
    for entry in entries:
        _admit(excerpt, entry)
    proven = next(admitted for admitted in excerpt.admitted if admitted.index == proof.proof.index)
    path = tuple(admitted for admitted in excerpt.admitted if admitted is not proven)
    forum_id, author = excerpt.admitted[0].statement.id, _subject(proven)
    _check_needed(path, {forum_id, author})
    return ProvenStatement(
        proven.index,
        leaf_hash(proof.entry).hex(),
        proven,
        trusted,
        path,
        proven.before,
        excerpt.membership,
        is_unbroken(excerpt, forum_id, proven.index),
        is_unbroken(excerpt, author, proven.index),
    )


def log_history(entries: Sequence[LoggedEntry], fingerprint: str) -> LogHistory:
    """The keys of the log that the forum with this fingerprint trusts, as its own entries among these name them.

    Args:
        entries: by rising index, the founding statement first; an exchange of keys counts from its index on.

    Raises:
        Unproven: `wrong_forum`, or why an entry of the forum's record is not admitted.
    """
    founding = read_founding(entries[0], fingerprint)
    excerpt = Excerpt()
    logs = LogHistory.of(founding.body.log)
    for entry in entries:
        if _record_of(entry) == founding.id:
            _admit(excerpt, entry)
            logs = excerpt.membership.forum.logs if excerpt.membership.forum is not None else logs
    return logs


def read_founding(founding: LoggedEntry, fingerprint: str) -> Found:
    """The founding statement of the forum with this fingerprint.

    Raises:
        Unproven: `wrong_forum`, or why it founds nothing.
    """
    try:
        signed = envelopes.parse(founding.entry)
    except Malformed as error:
        raise Unproven(error.code, f"the founding statement: {error.detail}") from error
    if founding.index != 0 or signed.payload_sha256 != fingerprint:
        raise Unproven("wrong_forum", f"it is not about forum {fingerprint}: its first entry does not found that one")
    statement = _admit(Excerpt(), founding).statement
    if not isinstance(statement, Found):
        raise Unproven("wrong_forum", "the first entry does not found a forum")
    return statement


def _record_of(entry: LoggedEntry) -> str | None:
    try:
        statement = statements.parse(envelopes.parse(entry.entry).payload)
    except ProtocolError:
        return None
    return None if isinstance(statement, Unknown) else statement.id


def _admit(excerpt: Excerpt, entry: LoggedEntry) -> Admitted:
    try:
        return excerpt.admit(entry.index, entry.entry)
    except Unproven:
        raise
    except ProtocolError as error:
        raise Unproven(error.code, f"entry {entry.index} has no right to be there: {error.detail}") from error


def _open(note: str, logs: LogHistory) -> TrustedCheckpoint:
    try:
        trusted = open_checkpoint(note.encode(), logs)
    except Misbehaviour as error:
        raise Unproven(error.code, error.detail) from error
    if note != own_signatures(note, logs.at(trusted.checkpoint.size)):
        raise _not_a_proof("its checkpoint has the log's signature and its newest timestamp, and no other line")
    return trusted


def own_signatures(note: str, log: LogIdentity) -> str:
    """A checkpoint note with the log's own two signature lines: of others nobody could tell if they were changed.

    Args:
        note: one that `trust.open_checkpoint` took.
    """
    parsed = notes.parse(note.encode())
    keys = [notes.VerifierKey.parse(text) for text in (log.log_key, log.timestamp_key)]
    lines: list[notes.NoteSignature] = []
    for key in keys:
        of_key = [line for line in parsed.signatures if (line.name, line.key_id) == (key.name, key.key_id)]
        # A cosignature begins with its time, so the greatest is the newest; of plain signatures there is one value.
        lines.append(max(of_key, key=lambda line: line.value))
    return str(notes.Note(parsed.text, tuple(lines)))


def _subject(proven: Admitted) -> str:
    """The lab whose history decides whether the statement could be made, or which it is about."""
    statement = proven.statement
    return statement.id if isinstance(statement, MembershipStatement) else statement.author


def _check_needed(path: Sequence[Admitted], records: set[str]) -> None:
    # Who is shown a proof about one lab has no business with the others' keys and standing.
    for admitted in path:
        if admitted.statement.id not in records:
            raise Unproven("superfluous_entry", f"entry {admitted.index} has no bearing on the statement")


def _by_index(entry: LoggedEntry) -> int:
    return entry.index


def _not_a_proof(reason: str) -> Malformed:
    return Malformed("not_a_proof", f"not a proof of a record: {reason}")

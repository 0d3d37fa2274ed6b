"""What can be said of the tables that the log does not fill: what they hold must go with the log, and be signed.

Not everything in them can be derived. When a proposal was made, which requests were answered, why a log is halted:
there the database's word is all there is.
"""

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection

from hub.database import audit
from hub.database.audit import StoredReport
from hub.database.proposal_store import StoredProposal
from hub.differences import Difference
from hub.intake import named_admins
from hub.quotas import counted
from hub.replay import Replay
from sharing_protocol import checkpoints, notes
from sharing_protocol import envelope as envelopes
from sharing_protocol.admission import consequences
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.membership import Forum, authorize
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import MembershipStatement, Role, parse
from sharing_protocol.witnesses import witness_key


def open_note(forum: Forum, note: str) -> Checkpoint:
    """The checkpoint in a note that the log's key has to have signed, and nobody else.

    Raises:
        ProtocolError: it is none, or not signed like that.
    """
    parsed = notes.parse(note.encode())
    checkpoint = checkpoints.parse_text(parsed.text)
    if not notes.verify(parsed, [notes.VerifierKey.parse(forum.log.log_key)]) or len(parsed.signatures) != 1:
        raise Refused("unsigned_checkpoint", "it is not signed by the log's key alone")
    return checkpoint


def compare_binding(connection: Connection, replay: Replay) -> Iterator[Difference]:
    """The hub is bound to the forum that its log founds."""
    forum, bound = replay.membership.forum, audit.read_binding(connection)
    if forum is not None and bound != bytes.fromhex(forum.fingerprint):
        what = "is missing" if bound is None else "fingerprint: not that of the forum that is founded here"
        yield Difference("hub_binding", "", what)


def compare_report(replay: Replay, report: StoredReport, root: bytes) -> Iterator[Difference]:
    """A checkpoint that a member has shown, of as many entries as `replay` has read, against their root."""
    forum, row = replay.membership.forum, report.reporter
    if forum is None:
        yield Difference("checkpoint_reports", row, "cannot be checked: no founding statement names the log's key")
        return
    try:
        shown = open_note(forum, report.note)
    except ProtocolError as error:
        yield Difference("checkpoint_reports", row, f"the note is refused: {error.detail}")
        return
    if shown.size != report.tree_size:
        yield Difference("checkpoint_reports", row, f"tree_size is {report.tree_size}, the note says {shown.size}")
    elif shown.origin != forum.log.origin:
        yield Difference("checkpoint_reports", row, f"the note is of another log, {shown.origin}")
    elif shown.root != root:
        yield Difference(
            "checkpoint_reports", row, f"the log signed another history of {shown.size} entries: it was rolled back"
        )


def compare_long_report(replay: Replay, report: StoredReport, size: int) -> Iterator[Difference]:
    """A checkpoint that a member has shown, of more entries than there are."""
    wrong = list(compare_report(replay, report, b""))
    if len(wrong) == 1 and wrong[0].what.startswith("the log signed another history"):
        what = f"the log signed {report.tree_size} entries and has {size}: it was rolled back"
        wrong = [Difference("checkpoint_reports", report.reporter, what)]
    yield from wrong


def compare_unproven(connection: Connection) -> Iterator[Difference]:
    """What members have shown a halted hub, and no key of the log has signed: the note is as long as the row says."""
    for report in audit.read_unproven(connection):
        try:
            shown = checkpoints.parse_text(notes.parse(report.note.encode()).text)
        except ProtocolError as error:
            yield Difference("unproven_checkpoints", report.reporter, f"the note is refused: {error.detail}")
            continue
        if shown.size != report.tree_size:
            what = f"tree_size is {report.tree_size}, the note says {shown.size}"
            yield Difference("unproven_checkpoints", report.reporter, what)


def compare_cosignatures(connection: Connection, replay: Replay) -> Iterator[Difference]:
    """What witnesses have cosigned are checkpoints of this log, and the cosignatures hold."""
    for stored in audit.read_cosignatures(connection):
        row = f"{stored.tree_size}/{stored.key_id}"
        key = replay.membership.keys.get(stored.key_id)
        if stored.note is None:
            yield Difference("cosignatures", row, "there is no such checkpoint")
        elif key is None or key.role != Role.WITNESS:
            yield Difference("cosignatures", row, "no witness's key has this id")
        else:
            try:
                note = notes.parse(f"{notes.parse(stored.note.encode()).text}\n{stored.line}".encode())
                held = notes.verify(note, [witness_key(key.holder, key.public_key)])
            except ProtocolError as error:
                yield Difference("cosignatures", row, f"the line is refused: {error.detail}")
                continue
            if [signature.timestamp for signature in held] != [stored.timestamp]:
                yield Difference("cosignatures", row, "the line is not a cosignature by that key of that time")


def compare_usage(connection: Connection, added: Mapping[str, int]) -> Iterator[Difference]:
    """The bytes that count against members' quotas are those of their entries."""
    stored = audit.read_usage(connection)
    for member in sorted(counted(added) | stored.keys()):
        if member not in stored:
            yield Difference("member_usage", member, "is missing")
        elif stored[member] != added.get(member, 0):
            what = f"bytes is {stored[member]}, the log has {added.get(member, 0)} bytes of its entries"
            yield Difference("member_usage", member, what)


def compare_proposals(connection: Connection, replay: Replay, size: int) -> Iterator[Difference]:
    """Every proposal, judged by the membership after all entries."""
    for proposal in audit.read_proposals(connection):
        row = proposal.payload_sha256.hex()
        try:
            envelope = envelopes.parse(proposal.envelope)
            statement = parse(envelope.payload)
            if not isinstance(statement, MembershipStatement):
                raise Refused("not_a_proposal", "it is not a membership statement")
            named = named_admins(statement)
        except ProtocolError as error:
            yield Difference("proposals", row, f"the envelope is refused: {error.detail}")
            continue
        if envelope.payload_sha256 != row:
            yield Difference("proposals", row, "payload_sha256 is not that of the payload")
        for signature in envelope.signatures:
            registered = replay.membership.keys.get(signature.key_id)
            key = named.get(signature.key_id) if registered is None else registered.public_key
            if key is None:
                yield Difference("proposals", row, f"is signed by {signature.key_id}, which nobody registered")
            elif not key.verifies(envelope.signed_message, signature.value):
                yield Difference("proposals", row, f"the signature by {signature.key_id} does not hold")
        yield from _dropped(proposal, envelope, statement, replay, size)


def _dropped(
    proposal: StoredProposal, envelope: Envelope, statement: MembershipStatement, replay: Replay, size: int
) -> Iterator[Difference]:
    # Once it can never be logged any more, that stays so: a version that was passed over does not come back, nor
    # does a key or a name. One that is logged may have been dropped in the same moment, without any effect.
    if proposal.dropped_because is None or proposal.logged:
        return
    try:
        entry = leaf_hash(proposal.envelope).hex()
        consequences(statement, envelope.payload_sha256, size, entry, replay.membership, replay)
        authorize(replay.membership, statement, envelope)
    except ProtocolError as error:
        if error.code != "insufficient_signatures":
            return
    yield Difference("proposals", proposal.payload_sha256.hex(), "dropped_because: it can be logged still")

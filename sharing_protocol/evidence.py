"""Evidence files: what a member keeps of a lie, and whether it proves the lie to somebody who was not there.

A member knows what it was shown and when. Somebody else knows only what was signed. So the same file can be reason
enough for its member to stop, and prove nothing to others: then `judge` says so. It proves misbehaviour if the log's
own signatures contradict each other, or the rules:

- two checkpoints of one size with two roots, or of two sizes whose trees do not continue each other (fork);
- a smaller checkpoint that the log vouched for as its newest well after a larger one (roll back);
- a checkpoint that signs what no checkpoint can say (forge);
- an entry of a signed tree that no honest hub lets in, whatever else that log holds (forge; `log_excerpt.contradicts`).

What the file itself says of fault, code and detail is only a claim; `judge` goes by the documents. The log's keys come
from the forum's founding statement, whose hash is the forum's fingerprint, and from what its admins signed since, as
far as it is in the file. Anybody can found a forum and name another hub's key in it, so where a verdict rests on more
than that key's own signatures, the reader has to name the forum.

No file can show that no later exchange of keys was left out of it. Whoever got hold of keys that a log gave up can sign
with them what contradicts it, and that looks like a lie of the hub's from before: a member that holds the log can tell
when the keys were exchanged, and nobody can tell when they were used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from sharing_protocol import checkpoints, notes, statements, strict_json
from sharing_protocol import envelope as envelopes
from sharing_protocol.errors import Fault, Malformed, Misbehaviour, ProtocolError, Unproven
from sharing_protocol.keys import decode_base64
from sharing_protocol.log_excerpt import Admitted, Excerpt, LoggedEntry, contradicts, read_entries
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.merkle import EMPTY_ROOT, prefix_root
from sharing_protocol.record_proof import log_history, read_founding
from sharing_protocol.statements import RecordStatement, Statement, Unknown
from sharing_protocol.statements.header import Sha256Hex, StrictModel
from sharing_protocol.tlog_proof import decode_steps
from sharing_protocol.trust import MAX_SKEW_SECONDS, TrustedCheckpoint, open_checkpoint

FORMAT = "stillwatch-evidence/2"
FORUM_RECORD = "forum_record"
"""The document with the forum's own entries after the founding one: among them the exchanges of the log's keys."""
MAX_EVIDENCE_BYTES = 64 * 1024 * 1024
"""Above what the largest bundle and its file can need."""
_INDEX = re.compile(r"0|[1-9][0-9]{0,14}")
_UNSIGNED = "what a hub answers is not signed, so that anybody could have made these bytes up"
_NOT_PROVEN = {
    Fault.ALTER: f"these bytes are not of the signed tree, but {_UNSIGNED}",
    Fault.WITHHOLD: "that a hub did not answer is seen only by who asked",
    Fault.FREEZE: "a checkpoint was genuine once, and when it was shown is known only to who was there",
    Fault.FORGE: f"the log's key signed nothing of this that contradicts itself; {_UNSIGNED}",
}
"""Why what a member saw with its own eyes is no proof for others; there are two checkpoints of the other faults."""


class Evidence(StrictModel):
    """An evidence file.

    Attributes:
        fault, code, detail: what its maker found.
        seen_at: when, by its maker's clock.
        hub: the URL it came from.
        forum: the fingerprint that its maker has pinned.
        founding: the forum's founding statement, as an envelope's text; null if it was not known.
        documents: what was shown, by name.
    """

    format: Literal["stillwatch-evidence/2"]
    fault: Annotated[Fault, Field(strict=False)]
    code: Annotated[str, Field(max_length=100)]
    detail: str
    seen_at: str
    hub: str
    forum: Sha256Hex
    founding: str | None
    documents: dict[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file proves.

    Attributes:
        fault: what is proven, or claimed if nothing is.
        proven: whether it is proven to somebody who was not there.
        culprits: who misbehaved: `hub`, or a lab's id.
        reasons: sentences: how it is known, or why it is not.
    """

    fault: Fault
    proven: bool
    culprits: tuple[str, ...]
    reasons: tuple[str, ...]


def parse(data: bytes) -> Evidence:
    """Read a file; what it says is not verified.

    Raises:
        Malformed: `not_evidence`.
    """
    if len(data) > MAX_EVIDENCE_BYTES:
        raise _not_evidence(f"it has at most {MAX_EVIDENCE_BYTES} bytes")
    try:
        return Evidence.model_validate(strict_json.loads(data, "it"))
    except Malformed as error:
        raise _not_evidence(error.detail) from error
    except ValidationError as error:
        issue = error.errors()[0]
        where = ".".join(map(str, issue["loc"]))[:80]
        raise _not_evidence(f"{where!a}: {issue['msg']}") from error


def judge(evidence: Evidence, fingerprint: str | None = None) -> Verdict:
    """Say what a file proves.

    Args:
        fingerprint: the forum that it must be about; by default the one that it names.
    """
    try:
        if fingerprint not in (None, evidence.forum):
            raise Unproven("wrong_forum", f"it is about forum {evidence.forum}, not about {fingerprint}")
        return _judge(evidence, pinned=fingerprint is not None)
    except ProtocolError as error:
        return Verdict(evidence.fault, False, (), (error.detail,))


def _judge(evidence: Evidence, *, pinned: bool) -> Verdict:
    documents = evidence.documents
    if evidence.founding is None:
        raise Unproven("no_founding", "it lacks the forum's founding statement, which names the log's keys")
    founding = LoggedEntry(0, evidence.founding.encode(), ())
    record = read_entries(strict_json.loads(documents.get(FORUM_RECORD, "[]").encode(), "its forum record"))
    logs = log_history([founding, *record], evidence.forum)
    if {"old_checkpoint", "new_checkpoint"} <= documents.keys():
        return _two_checkpoints(documents, logs, pinned)
    if "checkpoint" in documents and "index" in documents:
        return _let_in(documents, logs, evidence.forum, pinned)
    if "checkpoint" in documents and evidence.fault is Fault.FORGE:
        return _impossible_checkpoint(documents["checkpoint"], logs, pinned)
    raise Unproven("not_proven", _NOT_PROVEN.get(evidence.fault, "it lacks one of the two checkpoints"))


# -- two checkpoints -------------------------------------------------------------------------------------------------


def _two_checkpoints(documents: dict[str, str], logs: LogHistory, pinned: bool) -> Verdict:
    notes_ = [_open(documents[name], logs) for name in ("old_checkpoint", "new_checkpoint")]
    smaller, larger = sorted(notes_, key=lambda trusted: trusted.checkpoint.size)
    proof = documents.get("prefix_proof")
    steps = decode_steps(proof.split("\n")) if proof else ()
    found = conflict(smaller, larger, steps)
    if found is None:
        raise Unproven(
            "not_proven",
            f"the log signed both checkpoints, of {smaller.checkpoint.size} and {larger.checkpoint.size} entries, and "
            "they do not contradict each other as far as this file shows: a log grows, and anybody can show an old one "
            f"(the smaller was not vouched for more than {MAX_SKEW_SECONDS} s after the larger)",
        )
    fault, reason = found
    if fault is Fault.ROLL_BACK:
        _need_forum(pinned)
    named = "key, which the forum's founding statement names" if len(logs.terms) == 1 else "keys, which its admins name"
    signed = f"the log's {named}, signed both checkpoints"
    return Verdict(fault, True, ("hub",), (signed, reason, *_given_up(logs, smaller, larger)))


def conflict(
    smaller: TrustedCheckpoint, larger: TrustedCheckpoint, steps: tuple[bytes, ...] = ()
) -> tuple[Fault, str] | None:
    """How two checkpoints that the log signed contradict each other, if they do.

    Args:
        steps: `merkle.prefix_proof` of the smaller size in the larger tree, if there is one.

    Returns:
        The fault, and a sentence that says how it is known.
    """
    small, large = smaller.checkpoint, larger.checkpoint
    if small.size == large.size:
        if small.root == large.root:
            return None
        return Fault.FORK, f"they are of one size, {small.size} entries, and have two roots: two histories"
    prefix = prefix_root(small.size, large.size, large.root, steps)
    if prefix not in (None, small.root):
        told = (
            f"the first {small.size} of the {large.size} entries do not have the root that was signed for {small.size}"
        )
        return Fault.FORK, f"{told}, as the hashes in between show: two histories"
    later = smaller.timestamp - larger.timestamp
    if later > MAX_SKEW_SECONDS:
        told = (
            f"{later} s after it had vouched for {large.size} entries, the log vouched for {small.size} as its newest"
        )
        return Fault.ROLL_BACK, f"{told}; no clock is allowed to be that wrong"
    return None


# -- one checkpoint --------------------------------------------------------------------------------------------------


def _impossible_checkpoint(text: str, logs: LogHistory, pinned: bool) -> Verdict:
    # Only the log's own signature counts here: a line that is missing or does not hold, anybody can bring about.
    note = notes.parse(text.encode())
    # What a log has not given up, as far as is known here: nobody else has it to sign such a thing.
    log = logs.current
    key = notes.VerifierKey.parse(log.log_key)
    checkpoint = checkpoints.parse_text(note.text)
    if not notes.verify(note, [key]):
        raise Unproven("not_proven", "the log's key did not sign this checkpoint: anybody could have made it up")
    if checkpoint.origin != log.origin:
        reason = f"the log's key signed a checkpoint of {checkpoint.origin!r}, and is for {log.origin!r} alone"
    elif checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        reason = "the log's key signed a tree without entries that has another root than the empty tree"
    else:
        raise Unproven("not_proven", _NOT_PROVEN[Fault.FORGE])
    _need_forum(pinned)
    return Verdict(Fault.FORGE, True, ("hub",), (reason,))


# -- an entry --------------------------------------------------------------------------------------------------------


def _let_in(documents: dict[str, str], logs: LogHistory, fingerprint: str, pinned: bool) -> Verdict:
    trusted = _open(documents["checkpoint"], logs)
    accused = _accused(documents)
    accused.check_in(trusted.checkpoint)
    context = read_entries(strict_json.loads(documents.get("context", "[]").encode(), "its context"))
    for entry in context:
        entry.check_in(trusted.checkpoint)
    reason = f"the log's key signed a tree in which this is entry {accused.index}"
    if accused.index == 0:
        _need_forum(pinned)
        return _other_founding(accused, fingerprint, reason)
    if not context or context[0].index != 0:
        raise Unproven("not_proven", "it lacks the entries by which the accused one is judged, the founding one first")
    read_founding(context[0], fingerprint)
    if accused.index in {entry.index for entry in context}:
        raise Unproven("not_proven", f"entry {accused.index} stands in it both as accused and as rightful")
    return _refused(accused, context, reason)


def _other_founding(accused: LoggedEntry, fingerprint: str, reason: str) -> Verdict:
    try:
        read_founding(accused, fingerprint)
    except Unproven as error:
        return Verdict(Fault.FORGE, True, ("hub",), (reason, f"but not the founding statement: {error.detail}"))
    raise Unproven("not_proven", "entry 0 is the forum's founding statement, as it has to be")


def _refused(accused: LoggedEntry, context: list[LoggedEntry], reason: str) -> Verdict:
    excerpt = Excerpt()
    for entry in context:
        if entry.index < accused.index:
            excerpt.admit(entry.index, entry.entry)
    statement = _read(accused.entry)
    before = excerpt.known_head(statement.author) if statement is not None else None
    try:
        excerpt.admit(accused.index, accused.entry)
    except Unproven:
        raise
    except ProtocolError as error:
        refusal = error
    else:
        raise Unproven("not_proven", f"entry {accused.index} is rightly there, as far as this file shows")
    later: list[Statement] = [] if statement is None else [statement]
    for entry in context:
        if entry.index > accused.index:
            later.append(excerpt.admit(entry.index, entry.entry).statement)
    told = f"and no honest hub lets it in: {refusal.detail} [{refusal.code}]"
    if not contradicts(refusal, statement, before, later):
        raise Unproven(
            "not_proven",
            f"{reason}, and its maker says: {refusal.detail} [{refusal.code}]. But that rests on no other entry "
            "having been left out here, which only a member that holds the whole log can tell",
        )
    return _verdict(accused, statement, refusal, excerpt.admitted, (reason, told))


def _verdict(
    accused: LoggedEntry,
    statement: Statement | None,
    refusal: ProtocolError,
    context: list[Admitted],
    reasons: tuple[str, ...],
) -> Verdict:
    twins = [
        other
        for other in context
        if isinstance(statement, RecordStatement)
        and refusal.code == "version_conflict"
        and (other.statement.id, other.statement.version) == (statement.id, statement.version)
        and other.index < accused.index
    ]
    if not twins or statement is None:
        return Verdict(Fault.FORGE, True, ("hub",), reasons)
    # Authority was checked before the version: the author's own key signed both.
    told = (
        f"entries {twins[0].index} and {accused.index} are two different statements of one version, both signed "
        f"by keys of their author {statement.author}: it said two things, and the hub let both in"
    )
    return Verdict(Fault.FORGE, True, ("hub", statement.author), (*reasons, told))


def _accused(documents: dict[str, str]) -> LoggedEntry:
    index = documents["index"]
    if not _INDEX.fullmatch(index):
        raise Unproven("not_proven", "its index is not a plain decimal number")
    if "inclusion_proof" not in documents:
        raise Unproven(
            "not_proven", "it lacks the inclusion proof: its maker's sync was interrupted, and the next one adds it"
        )
    proof = documents["inclusion_proof"]
    steps = decode_steps(proof.split("\n")) if proof else ()
    if "entry_base64" in documents:
        return LoggedEntry(int(index), decode_base64(documents["entry_base64"], "the entry"), steps)
    return LoggedEntry(int(index), documents.get("entry", "").encode(), steps)


def _read(entry: bytes) -> Statement | None:
    try:
        statement = statements.parse(envelopes.parse(entry).payload)
    except ProtocolError:
        return None
    return None if isinstance(statement, Unknown) else statement


def _need_forum(pinned: bool) -> None:
    if not pinned:
        raise Unproven("no_forum", "whether it proves anything hangs on which forum it is about: give its fingerprint")


def _given_up(logs: LogHistory, *signed: TrustedCheckpoint) -> tuple[str, ...]:
    """What has to be said where a checkpoint is by keys that the log has no more."""
    if all(logs.at(one.checkpoint.size) == logs.current for one in signed):
        return ()
    since = logs.terms[-1].since
    return (f"the log gave such keys up at entry {since}: if others got hold of them, this may be their work",)


def _open(note: str, logs: LogHistory) -> TrustedCheckpoint:
    try:
        return open_checkpoint(note.encode(), logs)
    except Misbehaviour as error:
        raise Unproven(error.code, error.detail) from error


def _not_evidence(reason: str) -> Malformed:
    return Malformed("not_evidence", f"not an evidence file: {reason}")

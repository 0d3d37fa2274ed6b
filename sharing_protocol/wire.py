"""The HTTP contract between hub and members: paths, JSON bodies, and how refusals are told.

A member believes nothing in here for itself: receipts carry proofs, and lists are conveniences over a log that
every member has read. Errors are RFC 9457 problem details with two more members, `code` and `where`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE_PREFIX = "urn:stillwatch:problem:"
ENVELOPE_MEDIA_TYPE = "application/json"
TILE_MEDIA_TYPE = "application/octet-stream"
ENVELOPE_LINES_MEDIA_TYPE = "application/jsonl"
NOTE_MEDIA_TYPE = "text/plain; charset=utf-8"

HEALTH = "/healthz"
READY = "/readyz"
ENTRIES = "/entries"
BULK_ENTRIES = "/entries/bulk"
CHECKPOINT = "/checkpoint"
COSIGNATURES = "/cosignatures"
PROPOSALS = "/proposals"
RECORDS = "/records"
PATTERNS = "/patterns"
MEMBERS = "/members"
MAX_PAGE = 200
MAX_BULK_ENVELOPES = 128
MAX_BULK_BYTES = 2**20
"""Of one bulk submission: its envelopes, and all its lines together."""
MAX_WAIT_SECONDS = 55
"""For `GET /checkpoint?after=SIZE&wait=SECONDS`: less than the minute after which proxies give up by default."""


HALTED = frozenset({"log_rolled_back", "log_unconfirmed"})
LOG_KEYS_MISSING = "log_keys_missing"
"""Problem codes of a hub that serves nothing because its log is, or may be, older than what it published."""


class WireModel(BaseModel):
    """Strict about types, tolerant of members that a newer hub adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Receipt(WireModel):
    """Proof that an entry is in the log.

    Attributes:
        index: its place, from 0.
        entry: hex leaf hash.
        inclusion_proof: base64 hashes, leaf to root, in the tree of the checkpoint.
        checkpoint: the signed note.
        already_logged: whether the same payload was there before, so that nothing was added.
        envelope: the entry as text, where it is another envelope of that payload than the one that was sent.
    """

    index: Annotated[int, Field(ge=0)]
    entry: str
    inclusion_proof: list[str]
    checkpoint: str
    already_logged: bool
    envelope: str | None = None


class CheckpointComparison(WireModel):
    """What a hub says to a checkpoint that a member shows it.

    Attributes:
        tree_size: entries in the hub's log.
        extends: whether the log has the checkpoint in its past; if not, the hub was rolled back and halts.
    """

    tree_size: int
    extends: bool


class CosignatureReceipt(WireModel):
    """What a hub says to cosignatures that it was sent.

    Attributes:
        tree_size: of the checkpoint.
        cosigned: how many witnesses' cosignatures of it were taken.
    """

    tree_size: int
    cosigned: int


class CosignedCheckpoints(WireModel):
    """Checkpoints that witnesses cosigned, the largest first, as notes; one may be there twice, with other lines."""

    checkpoints: list[str]


class Proposal(WireModel):
    """A membership statement that gathers signatures.

    Attributes:
        id: hex SHA-256 of the payload.
        envelope: the envelope with the signatures so far, as text; whoever signs checks it by itself.
        signed_by: names of the admins (or key ids of owners) that signed.
        missing: what is still needed, in words.
    """

    id: str
    envelope: str
    signed_by: list[str]
    missing: str
    receipt: Receipt | None = None


class ProposalPage(WireModel):
    """All pending proposals."""

    proposals: list[Proposal]


class RecordSummary(WireModel):
    """One version of a record, as the hub's projection has it."""

    index: int
    entry: str
    id: str
    type: str
    version: int
    author: str
    author_name: str
    created: str
    state: str
    title: str | None = None
    kind: str | None = None
    techniques: list[str] = []
    severity: str | None = None
    marking: str | None = None
    valid_until: str | None = None


class RecordPage(WireModel):
    """Records in log order. `next` is the `after` of the next page, null on the last.

    Attributes:
        tree_size: the log's size when the page was made.
    """

    records: list[RecordSummary]
    next: int | None
    tree_size: int


class RecordVersion(WireModel):
    """One version of a record with all it says."""

    summary: RecordSummary
    statement: dict[str, Any]


class RecordHistory(WireModel):
    """Every version of one record, oldest first, and the withdrawal if there is one."""

    id: str
    versions: list[RecordVersion]
    withdrawal: RecordVersion | None


class RecordDifference(WireModel):
    """What changed between two versions: a unified diff of their statements, pretty-printed."""

    id: str
    from_version: int
    to_version: int
    diff: list[str]


class DisputeInformation(WireModel):
    """An open `false_positive` opinion of a pattern version.

    Attributes:
        lab: id of the lab that disputes it.
        opinion: id of the record.
        created: when this version of the opinion was written.
    """

    lab: str
    opinion: str
    created: str
    reviewed: int
    true_positives: int
    comment: str | None


class VersionFeedback(WireModel):
    """What counts of what labs said of one pattern version; labs are named by their ids, in their order.

    Attributes:
        reviewed: matches that people looked at, each lab's by its weight; `true_positives` of these were right.
        precision: their share with its 95 % interval, null while nobody has reviewed any.
        matches: the bucket of what was seen at the least, null for no sighting.
        first_seen, last_seen: from the first day to the day after the last.
    """

    version: int
    entry: str
    confirmed_by: list[str]
    disputed_by: list[str]
    needs_work_by: list[str]
    endorsed_by: list[str]
    seen_by: list[str]
    reviewed: int
    true_positives: int
    precision: float | None
    precision_interval: list[float] | None
    matches: str | None
    first_seen: str | None
    last_seen: str | None
    disputes: list[DisputeInformation]


class PatternFeedback(WireModel):
    """Feedback on every version of a pattern, oldest first, as of a tree size."""

    id: str
    versions: list[VersionFeedback]
    tree_size: int


class KeyInformation(WireModel):
    """A registered key."""

    key_id: str
    role: str
    name: str
    since: int
    revoked_at: int | None


class MemberInformation(WireModel):
    """A lab and its keys."""

    id: str
    name: str
    status: str
    since: int
    keys: list[KeyInformation]


class Directory(WireModel):
    """The forum as of a tree size."""

    forum: str
    fingerprint: str
    threshold: int
    admins: list[KeyInformation]
    members: list[MemberInformation]
    tree_size: int


class Health(WireModel):
    """What anybody may know of a hub."""

    status: str
    version: str


class Problem(WireModel):
    """RFC 9457 problem details.

    Attributes:
        type: `urn:stillwatch:problem:<code>`.
        code: stable name of what is wrong.
        where: JSON path of the offending part, "" for the whole.
        request_id: what the hub's log calls this request.
        retry_after: seconds after which the same may succeed, if it may.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    where: str = ""
    request_id: str = ""
    retry_after: Annotated[int, Field(ge=0)] | None = None

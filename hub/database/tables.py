"""The tables. `log_entries` is the truth; what else there is can be rebuilt from it (`stillwatch-hub check`).

    log                  log_entries, tiles, checkpoints, log_head
    what the log says    records, record_heads, forum, members, member_keys
    what is not logged   proposals, request_nonces, hub_binding, log_halt, checkpoint_reports, member_usage,
                         cosignatures, unproven_checkpoints

Hashes are raw bytes. The index is no serial column: a sequence has gaps, and hands out numbers in another order
than the transactions commit.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

metadata = MetaData()

SEARCHED_TEXT = (
    "setweight(to_tsvector('english', coalesce(title, '')), 'A') || "
    "setweight(to_tsvector('english', coalesce(statement -> 'body' ->> 'description', "
    "statement -> 'body' ->> 'reason', '')), 'B')"
)
MEMBERSHIP_ENTRIES = "type LIKE 'membership.%'"

log_entries = Table(
    "log_entries",
    metadata,
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf_hash", LargeBinary, nullable=False, unique=True),
    Column("payload_sha256", LargeBinary, nullable=False, unique=True),
    Column("type", Text, nullable=False, comment="of the statement; found again in the envelope"),
    Column("envelope", LargeBinary, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("index >= 0", name="log_entries_index_check"),
    # A restart reads these and no others.
    Index("log_entries_membership", "index", postgresql_where=text(MEMBERSHIP_ENTRIES)),
)

tiles = Table(
    "tiles",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tree_size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False, comment="signed by the log key alone"),
)

log_head = Table(
    "log_head",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("tree_size", BigInteger, nullable=False),
    Column("last_membership", BigInteger, nullable=False, comment="newest membership entry's index, -1 for none"),
    CheckConstraint("single", name="log_head_single_check"),
)

records = Table(
    "records",
    metadata,
    Column("entry", BigInteger, primary_key=True, autoincrement=False, comment="log index of this version"),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("type", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("author", Text, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("kind", Text),
    Column("title", Text),
    Column("techniques", ARRAY(Text), nullable=False),
    Column("severity", Text),
    Column("marking", Text, nullable=False),
    Column("valid_until", DateTime(timezone=True), nullable=False),
    Column("statement", JSONB, nullable=False),
    Column("refers_to", Text, comment="id of the one record that it is about"),
    Column("signer", Text, nullable=False, comment="id of the key that signed this version"),
    Column("search", TSVECTOR, Computed(SEARCHED_TEXT, persisted=True), nullable=False),
    UniqueConstraint("id", "version", name="records_id_version_key"),
    Index("records_author", "author", "entry"),
    Index("records_kind", "kind", "entry"),
    Index("records_refers_to", "refers_to", "entry", postgresql_where=text("refers_to IS NOT NULL")),
    Index("records_techniques", "techniques", postgresql_using="gin"),
    Index("records_search", "search", postgresql_using="gin"),
)

record_heads = Table(
    "record_heads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("entry", BigInteger, nullable=False, comment="log index of the newest version"),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("author", Text, nullable=False),
    Column("withdrawn_at", BigInteger, comment="log index of the withdrawal"),
)

forum = Table(
    "forum",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),
    Column("log_key", Text, nullable=False),
    Column("timestamp_key", Text, nullable=False),
    Column("admins", ARRAY(Text), nullable=False),
    Column("threshold", SmallInteger, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)

member_keys = Table(
    "member_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("holder", Text, nullable=False, comment="a member, or the forum for an admin's key"),
    Column("role", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("suspect_from", BigInteger),
)

proposals = Table(
    "proposals",
    metadata,
    Column("payload_sha256", LargeBinary, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("dropped_because", Text, comment="why it can never be logged any more"),
)

request_nonces = Table(
    "request_nonces",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("nonce", Text, primary_key=True),
    Column("expires", DateTime(timezone=True), nullable=False),
    Index("request_nonces_expires", "expires"),
)

hub_binding = Table(
    "hub_binding",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("bound_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("single", name="hub_binding_single_check"),
)

log_halt = Table(
    "log_halt",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text, comment="a checkpoint that the log signed and does not extend"),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("single", name="log_halt_single_check"),
    CheckConstraint("kind IN ('restored', 'rolled back')", name="log_halt_kind_check"),
)

checkpoint_reports = Table(
    "checkpoint_reports",
    metadata,
    Column("reporter", Text, primary_key=True, comment="a member, or an admin's key"),
    Column("tree_size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

unproven_checkpoints = Table(
    "unproven_checkpoints",
    metadata,
    Column("reporter", Text, primary_key=True, comment="a member, or an admin's key"),
    Column("tree_size", BigInteger, nullable=False),
    Column("note", Text, nullable=False, comment="named as this log, signed by keys that the hub does not know"),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

member_usage = Table(
    "member_usage",
    metadata,
    Column("member", Text, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("bytes", BigInteger, nullable=False, comment="of entries, added in all by the end of that hour"),
)

cosignatures = Table(
    "cosignatures",
    metadata,
    Column("tree_size", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", Text, primary_key=True, comment="the witness's"),
    Column("timestamp", BigInteger, nullable=False, comment="POSIX seconds, as the line says"),
    Column("line", Text, nullable=False, comment="of the checkpoint note"),
)

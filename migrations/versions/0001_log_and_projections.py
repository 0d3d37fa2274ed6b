"""The log, what it says, proposals, nonces and the binding."""

from alembic import op
from sqlalchemy import text

from hub.errors import DatabaseUnusable

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Plain DDL, frozen as it was: a migration must not change when the tables in the code do.
LOG = """
CREATE TABLE log_entries (
    index bigint PRIMARY KEY CONSTRAINT log_entries_index_check CHECK (index >= 0),
    leaf_hash bytea NOT NULL UNIQUE,
    payload_sha256 bytea NOT NULL UNIQUE,
    type text NOT NULL,
    envelope bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN log_entries.type IS 'of the statement; found again in the envelope';
CREATE INDEX log_entries_membership ON log_entries (index) WHERE type LIKE 'membership.%';

CREATE TABLE tiles (
    level smallint,
    index bigint,
    hashes bytea NOT NULL,
    PRIMARY KEY (level, index)
);

CREATE TABLE checkpoints (
    tree_size bigint PRIMARY KEY,
    root bytea NOT NULL,
    note text NOT NULL
);
COMMENT ON COLUMN checkpoints.note IS 'signed by the log key alone';

CREATE TABLE log_head (
    single boolean PRIMARY KEY DEFAULT true CONSTRAINT log_head_single_check CHECK (single),
    tree_size bigint NOT NULL,
    last_membership bigint NOT NULL
);
COMMENT ON COLUMN log_head.last_membership IS 'newest membership entry''s index, -1 for none';
INSERT INTO log_head (tree_size, last_membership) VALUES (0, -1);

-- A slip of the operator's hand must not change history. (Members would notice; this is to spare them.)
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

PROJECTIONS = """
CREATE TABLE records (
    entry bigint PRIMARY KEY,
    leaf_hash bytea NOT NULL,
    type text NOT NULL,
    id text NOT NULL,
    version integer NOT NULL,
    author text NOT NULL,
    created timestamptz NOT NULL,
    kind text,
    title text,
    techniques text[] NOT NULL,
    severity text,
    marking text NOT NULL,
    valid_until timestamptz NOT NULL,
    statement jsonb NOT NULL,
    search tsvector GENERATED ALWAYS AS (
        setweight(to_tsvector('english', coalesce(title, '')), 'A') ||
        setweight(to_tsvector('english', coalesce(statement -> 'body' ->> 'description',
                                                  statement -> 'body' ->> 'reason', '')), 'B')
    ) STORED NOT NULL,
    CONSTRAINT records_id_version_key UNIQUE (id, version)
);
COMMENT ON COLUMN records.entry IS 'log index of this version';
CREATE INDEX records_author ON records (author, entry);
CREATE INDEX records_kind ON records (kind, entry);
CREATE INDEX records_techniques ON records USING gin (techniques);
CREATE INDEX records_search ON records USING gin (search);

CREATE TABLE record_heads (
    id text PRIMARY KEY,
    type text NOT NULL,
    version integer NOT NULL,
    entry bigint NOT NULL,
    leaf_hash bytea NOT NULL,
    author text NOT NULL,
    withdrawn_at bigint
);
COMMENT ON COLUMN record_heads.entry IS 'log index of the newest version';
COMMENT ON COLUMN record_heads.withdrawn_at IS 'log index of the withdrawal';

CREATE TABLE forum (
    id text PRIMARY KEY,
    name text NOT NULL,
    fingerprint bytea NOT NULL,
    origin text NOT NULL,
    log_key text NOT NULL,
    timestamp_key text NOT NULL,
    admins text[] NOT NULL,
    threshold smallint NOT NULL
);

CREATE TABLE members (
    id text PRIMARY KEY,
    name text NOT NULL,
    status text NOT NULL,
    since bigint NOT NULL
);

CREATE TABLE member_keys (
    key_id text PRIMARY KEY,
    public_key bytea NOT NULL,
    holder text NOT NULL,
    role text NOT NULL,
    name text NOT NULL,
    since bigint NOT NULL,
    revoked_at bigint,
    suspect_from bigint
);
COMMENT ON COLUMN member_keys.holder IS 'a member, or the forum for an admin''s key';
"""

NOT_LOGGED = """
CREATE TABLE proposals (
    payload_sha256 bytea PRIMARY KEY,
    envelope bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    dropped_because text
);
COMMENT ON COLUMN proposals.dropped_because IS 'why it can never be logged any more';

CREATE TABLE request_nonces (
    key_id text,
    nonce text,
    expires timestamptz NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE INDEX request_nonces_expires ON request_nonces (expires);

CREATE TABLE hub_binding (
    single boolean PRIMARY KEY DEFAULT true CONSTRAINT hub_binding_single_check CHECK (single),
    fingerprint bytea NOT NULL,
    bound_at timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    for script in (LOG, PROJECTIONS, NOT_LOGGED):
        op.execute(script)


def downgrade() -> None:
    """For a database that was made by mistake, and holds no log."""
    entries = op.get_bind().execute(text("SELECT count(*) FROM log_entries")).scalar_one()
    if entries:
        raise DatabaseUnusable(f"this database holds a log of {entries} entries, which this downgrade would delete")
    op.execute("""
        DROP TABLE hub_binding, request_nonces, proposals,
            member_keys, members, forum, record_heads, records, log_head, checkpoints, tiles, log_entries;
        DROP FUNCTION refuse_change();
    """)

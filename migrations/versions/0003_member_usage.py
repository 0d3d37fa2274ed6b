"""How many bytes of entries every member has added, hour by hour."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE member_usage (
            member text,
            hour timestamptz,
            bytes bigint NOT NULL,
            PRIMARY KEY (member, hour)
        );
        COMMENT ON COLUMN member_usage.bytes IS 'of entries, added in all by the end of that hour';
    """)
    # What is logged already, as it came in. The envelope is JSON and so is its base64 payload.
    op.execute("""
        INSERT INTO member_usage (member, hour, bytes)
        SELECT member, hour, sum(sum(size)) OVER (PARTITION BY member ORDER BY hour)
        FROM (
            SELECT date_trunc('hour', received_at) AS hour, length(envelope) AS size, convert_from(
                decode(convert_from(envelope, 'UTF8')::json ->> 'payload', 'base64'), 'UTF8'
            )::json ->> 'author' AS member
            FROM log_entries
        ) AS entry
        WHERE member NOT LIKE 'forum--%'
        GROUP BY member, hour;
    """)


def downgrade() -> None:
    op.execute("DROP TABLE member_usage;")

"""Which record each record is about, so that opinions and sightings are found by their pattern."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE records ADD COLUMN refers_to text;
        COMMENT ON COLUMN records.refers_to IS 'id of the one record that it is about';
        UPDATE records SET refers_to = coalesce(
            statement -> 'body' -> 'record' ->> 'id', statement -> 'body' -> 'pattern' ->> 'id'
        ) WHERE type IN ('withdrawal', 'sighting');
        CREATE INDEX records_refers_to ON records (refers_to, entry) WHERE refers_to IS NOT NULL;
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE records DROP COLUMN refers_to;")

"""Which key signed each record, so that what a compromised key signed is found."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Admission lets exactly one signature stand on a record's envelope.
    op.execute("""
        ALTER TABLE records ADD COLUMN signer text;
        COMMENT ON COLUMN records.signer IS 'id of the key that signed this version';
        UPDATE records SET signer = convert_from(envelope, 'UTF8')::jsonb -> 'signatures' -> 0 ->> 'keyid'
        FROM log_entries WHERE log_entries.index = records.entry;
        ALTER TABLE records ALTER COLUMN signer SET NOT NULL;
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE records DROP COLUMN signer;")

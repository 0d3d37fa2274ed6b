"""What witnesses have cosigned."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE cosignatures (
            tree_size bigint,
            key_id text,
            timestamp bigint NOT NULL,
            line text NOT NULL,
            PRIMARY KEY (tree_size, key_id)
        );
        COMMENT ON COLUMN cosignatures.key_id IS 'the witness''s';
        COMMENT ON COLUMN cosignatures.timestamp IS 'POSIX seconds, as the line says';
        COMMENT ON COLUMN cosignatures.line IS 'of the checkpoint note';
    """)


def downgrade() -> None:
    # Nothing is lost that does not come again: witnesses cosign anew every few minutes.
    op.execute("DROP TABLE cosignatures;")

"""What members show a halted hub that none of its keys has signed: perhaps by keys that it was not given back."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE unproven_checkpoints (
            reporter text PRIMARY KEY,
            tree_size bigint NOT NULL,
            note text NOT NULL,
            reported_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON COLUMN unproven_checkpoints.reporter IS 'a member, or an admin''s key';
        COMMENT ON COLUMN unproven_checkpoints.note IS 'named as this log, signed by keys that the hub does not know';
    """)


def downgrade() -> None:
    # Members show theirs again with every sync, for as long as the log is halted.
    op.execute("DROP TABLE unproven_checkpoints;")

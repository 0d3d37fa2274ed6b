"""Why the log must not be extended or served, and which checkpoints of it members have shown."""

from alembic import op
from sqlalchemy import text

from hub.errors import DatabaseUnusable

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE log_halt (
            single boolean PRIMARY KEY DEFAULT true CONSTRAINT log_halt_single_check CHECK (single),
            kind text NOT NULL CONSTRAINT log_halt_kind_check CHECK (kind IN ('restored', 'rolled back')),
            reason text NOT NULL,
            note text,
            since timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON COLUMN log_halt.note IS 'a checkpoint that the log signed and does not extend';

        CREATE TABLE checkpoint_reports (
            reporter text PRIMARY KEY,
            tree_size bigint NOT NULL,
            note text NOT NULL,
            reported_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON COLUMN checkpoint_reports.reporter IS 'a member, or an admin''s key';
    """)


def downgrade() -> None:
    """An older version would extend a halted log: it knows of no halt. Reports are lost; members show them again."""
    if op.get_bind().execute(text("SELECT count(*) FROM log_halt")).scalar_one():
        raise DatabaseUnusable("this log is halted, which older versions would not know; see `stillwatch-hub resume`")
    op.execute("DROP TABLE checkpoint_reports, log_halt;")

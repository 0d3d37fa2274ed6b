"""Alembic's entry point. The hub calls it with a connection that already holds the migration lock."""

from alembic import context
from sqlalchemy import Connection

from hub.database.tables import metadata

connection = context.config.attributes.get("connection")
if not isinstance(connection, Connection):
    raise SystemExit("run migrations through hub.database.migrating, which locks the database for them")
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()

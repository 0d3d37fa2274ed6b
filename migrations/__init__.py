"""Alembic's scripts: how the hub's database came to be. Run by `stillwatch-hub serve`; see `hub.database.migrating`."""

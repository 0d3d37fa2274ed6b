"""Where the data lives: tables with the SQL that goes with them, and the Postgres that comes along."""

-- The hub's role and its database, made once by a superuser: psql -X -v ON_ERROR_STOP=1 -f database.sql
-- The password comes from the file that STILLWATCH_PASSWORD_FILE names, so it is in no history and no list of processes.
\getenv password_file STILLWATCH_PASSWORD_FILE
\set password `cat "$STILLWATCH_PASSWORD_FILE"`
\if :{?password_file}
\else
  \warn 'set STILLWATCH_PASSWORD_FILE to a file with the password for the role stillwatch'
  SELECT 1 / 0;
\endif

-- It owns its database and nothing else. It makes its tables by itself, and needs no extension.
CREATE ROLE stillwatch LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'password';
-- C collation: the same on every machine, so that an upgrade of the system cannot corrupt an index.
CREATE DATABASE stillwatch OWNER stillwatch TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
REVOKE ALL ON DATABASE stillwatch FROM PUBLIC;

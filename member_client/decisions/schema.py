"""The tables of `decisions.sqlite`, and how a file of an earlier version is brought up to date.

generation       counts the transactions that changed anything
patterns         the pattern versions that decisions are about; how many subjects felt one, and how many wrongly
reasons          texts of the policy's reasons, each once
decisions        one a pattern version and subject, and after it was lifted or has expired perhaps another; `enforced`
                 is how many subjects felt it, `wrong` on how many of them that was found wrong
members          the accounts of a cluster's decision; `joined` is the generation in which one became part of it,
                 `spared` for those that an appeal left out, `cleared` where that appeal was about this very decision
spared           the accounts that a record's later decisions leave out too, until a person approves one by name
evidence         the matches that a decision rests on, so that none counts twice
facts            organisations and addresses of accounts, where matches tell them
approvals        who approved which action of a decision, and in which generation: accounts that joined later nobody saw
reviews          the newest verdict on a decision: right or wrong
history          all that happened to decisions; append only
allowed          the allow-list; those removed stay
allow_history    all that happened to its entries; append only
appeals          of affected customers
decided_runs     the runs of `detect` that were turned into decisions
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from member_client.errors import InvalidInput

SCHEMA_VERSION = 2

_TABLES = """
CREATE TABLE generation (only INTEGER PRIMARY KEY CHECK (only = 1), count INTEGER NOT NULL);
INSERT INTO generation VALUES (1, 0);
CREATE TABLE patterns (
    number INTEGER PRIMARY KEY,
    entry TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    title TEXT NOT NULL,
    severity TEXT NOT NULL,
    enforced INTEGER NOT NULL DEFAULT 0,
    wrong INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE reasons (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('account', 'organisation', 'cluster')),
    subject TEXT NOT NULL,
    pattern INTEGER NOT NULL REFERENCES patterns (number),
    root INTEGER NOT NULL REFERENCES decisions (number),
    follows INTEGER REFERENCES decisions (number),
    action INTEGER NOT NULL CHECK (action BETWEEN 0 AND 3),
    models TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    matches INTEGER NOT NULL,
    first INTEGER,
    last INTEGER,
    numbers TEXT NOT NULL,
    reasons INTEGER NOT NULL REFERENCES reasons (number),
    needs INTEGER NOT NULL,
    lifted INTEGER,
    superseded INTEGER REFERENCES decisions (number),
    expiry_noted INTEGER NOT NULL DEFAULT 0,
    enforced INTEGER NOT NULL DEFAULT 0,
    wrong INTEGER NOT NULL DEFAULT 0
);
CREATE TRIGGER outcomes_counted AFTER UPDATE OF enforced, wrong ON decisions BEGIN
    UPDATE patterns SET enforced = enforced + NEW.enforced - OLD.enforced,
        wrong = wrong + min(NEW.wrong, NEW.enforced) - min(OLD.wrong, OLD.enforced) WHERE number = NEW.pattern;
END;
CREATE INDEX decisions_by_subject ON decisions (kind, subject, pattern);
CREATE INDEX decisions_by_pattern ON decisions (pattern);
CREATE INDEX decisions_by_expiry ON decisions (expires) WHERE NOT expiry_noted;
CREATE TABLE members (
    decision INTEGER NOT NULL REFERENCES decisions (number),
    account TEXT NOT NULL,
    spared INTEGER NOT NULL DEFAULT 0,
    joined INTEGER NOT NULL DEFAULT 0,
    cleared INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (decision, account)
) WITHOUT ROWID;
CREATE TABLE spared (pattern TEXT NOT NULL, account TEXT NOT NULL, PRIMARY KEY (pattern, account)) WITHOUT ROWID;
CREATE INDEX members_cleared ON members (decision) WHERE cleared;
CREATE INDEX members_by_account ON members (account);
CREATE TABLE evidence (
    root INTEGER NOT NULL,
    detection BLOB NOT NULL,
    decision INTEGER NOT NULL REFERENCES decisions (number),
    PRIMARY KEY (root, detection)
) WITHOUT ROWID;
CREATE TABLE facts (
    account TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('organisation', 'network')),
    value TEXT NOT NULL,
    PRIMARY KEY (account, kind, value)
) WITHOUT ROWID;
CREATE TABLE approvals (
    decision INTEGER NOT NULL REFERENCES decisions (number),
    folded TEXT NOT NULL,
    name TEXT NOT NULL,
    action INTEGER NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (decision, folded)
) WITHOUT ROWID;
CREATE TABLE reviews (
    decision INTEGER PRIMARY KEY REFERENCES decisions (number),
    verdict TEXT NOT NULL CHECK (verdict IN ('right', 'wrong'))
);
CREATE TABLE history (
    number INTEGER PRIMARY KEY,
    decision INTEGER NOT NULL REFERENCES decisions (number),
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL
);
CREATE INDEX history_by_decision ON history (decision);
CREATE TRIGGER history_kept BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'history is append only'); END;
CREATE TRIGGER history_fixed BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'history is append only'); END;
CREATE TABLE allowed (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('account', 'organisation', 'network')),
    id TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    added INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    removed INTEGER
);
CREATE UNIQUE INDEX allowed_once ON allowed (kind, id) WHERE removed IS NULL;
CREATE TABLE allow_history (
    number INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL REFERENCES allowed (number),
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL
);
CREATE TRIGGER allow_history_kept BEFORE DELETE ON allow_history
    BEGIN SELECT RAISE(ABORT, 'history is append only'); END;
CREATE TRIGGER allow_history_fixed BEFORE UPDATE ON allow_history
    BEGIN SELECT RAISE(ABORT, 'history is append only'); END;
CREATE TABLE appeals (
    number INTEGER PRIMARY KEY,
    decision INTEGER REFERENCES decisions (number),
    account TEXT NOT NULL,
    opened INTEGER NOT NULL,
    opened_by TEXT NOT NULL,
    contact_note TEXT NOT NULL,
    decided INTEGER,
    decided_by TEXT NOT NULL DEFAULT '',
    upheld INTEGER,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE decided_runs (run TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
"""

# Version 1 did not note who joined after an approval. Where a cluster's decision got matches after it, nobody can tell
# whom the approver saw, so it holds for none of the accounts: people approve once more.
_UPGRADES = {
    1: """
ALTER TABLE members ADD COLUMN joined INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN cleared INTEGER NOT NULL DEFAULT 0;
UPDATE members SET cleared = 1 WHERE spared;
DROP INDEX members_spared;
CREATE INDEX members_cleared ON members (decision) WHERE cleared;
CREATE TABLE spared (pattern TEXT NOT NULL, account TEXT NOT NULL, PRIMARY KEY (pattern, account)) WITHOUT ROWID;
INSERT OR IGNORE INTO spared SELECT p.id, m.account FROM members m
    JOIN decisions d ON d.number = m.decision JOIN patterns p ON p.number = d.pattern WHERE m.spared;
UPDATE members SET spared = 1 WHERE EXISTS (SELECT 1 FROM decisions d JOIN patterns p ON p.number = d.pattern
    JOIN spared s ON s.pattern = p.id WHERE d.number = members.decision AND s.account = members.account);
ALTER TABLE approvals ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
UPDATE approvals SET seen = -1
    WHERE (SELECT kind FROM decisions WHERE number = approvals.decision) = 'cluster'
    AND (SELECT coalesce(max(h.number), 0) FROM history h
            WHERE h.decision = approvals.decision AND h.what = 'approved' AND h.who = approvals.name)
        < (SELECT coalesce(max(h.number), 0) FROM history h
            WHERE h.decision = approvals.decision AND h.what LIKE 'extended%');
""",
}
"""The step from each version of the file to the next."""


def prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring those of an earlier version up to date; inside the caller's transaction.

    Raises:
        InvalidInput: the file is of a later version of this program.
    """
    version: int = database.execute("PRAGMA user_version").fetchone()[0]
    if not 0 <= version <= SCHEMA_VERSION:
        raise InvalidInput(f"{path} was written by a later Stillwatch (version {version} of the file)", "upgrade")
    for script in [_UPGRADES[step] for step in range(version, SCHEMA_VERSION)] if version else [_TABLES]:
        for command in _statements(script):
            database.execute(command)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _statements(script: str) -> list[str]:
    """Its statements one by one: `executescript` would end the transaction."""
    found, part = [], ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            found.append(part)
            part = ""
    return found

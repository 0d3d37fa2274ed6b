"""Makes the table of a home's gate: what its decisions have in effect now.

python -m member_client.gate HOME TABLE
"""

from __future__ import annotations

import os
import sqlite3
import sys
from datetime import datetime
from pathlib import Path

from member_client.decisions.in_effect import remember_enforced, snapshot
from member_client.decisions.lab_policy import lab_policy
from member_client.decisions.register import Register
from member_client.errors import ClientError
from member_client.gate import table
from member_client.home import Home
from member_client.session import Session
from sharing_protocol.errors import ProtocolError
from sharing_protocol.statements.header import parse_timestamp

_NICENESS = 5
"""The gate, and whatever else runs here, goes first; but a lifted decision should not have to wait for long."""


def ends_of_patterns(session: Session) -> dict[str, datetime]:
    """Until when each pattern is valid, by its id: nothing by it has an effect later, whatever table is in force."""
    newest = session.store.versions(type="pattern", newest_only=True)
    return {one.id: parse_timestamp(one.valid_until) for one in newest}


def main(arguments: list[str]) -> int:
    """Make the table; exit code 2, and why, if that does not work."""
    home, path = Home(Path(arguments[0])), Path(arguments[1])
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    session = Session(home)
    try:
        now = session.now
        policy = lab_policy(session, now)
        table.write(path, snapshot(session, now, policy), ends_of_patterns(session))
        # From here on customers feel these: what goes wrong with them counts against their patterns.
        remember_enforced(Register.of(home), policy, now)
    except (ClientError, ProtocolError, table.Unusable, OSError, sqlite3.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

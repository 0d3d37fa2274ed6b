"""Makes the table of a home's gate: what its decisions have in effect now.

python -m member_client.gate HOME TABLE

With a policy.toml that cannot be followed the last one that could is, which is kept beside the table: what was lifted,
withdrawn, disputed, allow-listed or stopped since must have its effect also while somebody mends the file.
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
from member_client.gate.building import MADE_WITH_FAULT
from member_client.home import Home, write_privately
from member_client.lifecycle.policy import BUILT_IN, Policy
from member_client.lifecycle.policy_file import PolicyRefused, parse, read_bytes, read_file
from member_client.session import Session
from sharing_protocol.errors import ProtocolError
from sharing_protocol.statements.header import parse_timestamp

_NICENESS = 5
"""The gate, and whatever else runs here, goes first; but a lifted decision should not have to wait for long."""


def ends_of_patterns(session: Session) -> dict[str, datetime]:
    """Until when each pattern is valid, by its id: nothing by it has an effect later, whatever table is in force."""
    newest = session.store.versions(type="pattern", newest_only=True)
    return {one.id: parse_timestamp(one.valid_until) for one in newest}


def policy_to_follow(home: Home, kept: Path) -> tuple[Policy, str]:
    """The home's policy, and ""; or the one that was kept, and what is wrong with the home's.

    Args:
        kept: where the last policy is that could be followed.

    Raises:
        PolicyRefused: neither can be followed.
    """
    path = home.lifecycle_policy
    try:
        if not path.exists():
            kept.unlink(missing_ok=True)
            return BUILT_IN, ""
        written = read_bytes(path)
        policy = parse(written, str(path))
    except (PolicyRefused, OSError) as error:
        try:
            return read_file(kept), f"the last policy that could be followed still is: {error}"
        except (PolicyRefused, OSError):
            raise error from None
    if not kept.exists() or read_bytes(kept) != written:
        write_privately(kept, written)
    return policy, ""


def main(arguments: list[str]) -> int:
    """Make the table; exit code 2, and why, if that does not work, `MADE_WITH_FAULT` if there is something to mend."""
    home, path = Home(Path(arguments[0])), Path(arguments[1])
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    session = Session(home)
    try:
        now = session.now
        followed, wrong = policy_to_follow(home, path.with_name("policy.toml"))
        policy = lab_policy(session, now, followed)
        table.write(path, snapshot(session, now, policy), ends_of_patterns(session))
    except (ClientError, ProtocolError, table.Unusable, OSError, sqlite3.Error) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        # From here on customers feel these: what goes wrong with them counts against their patterns.
        remember_enforced(Register.of(home), policy, now)
    except (ClientError, sqlite3.Error) as error:  # a lift must not wait for whoever else writes there
        wrong = wrong or f"what is enforced could not be noted: {error}"
    sys.stderr.write(wrong)
    return MADE_WITH_FAULT if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

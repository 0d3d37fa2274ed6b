"""A member that follows a log from a folder of its own, for tests of what it believes."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from member_client.errors import VerificationFailed
from member_client.hub_connection import HubConnection
from member_client.sync import evidence
from member_client.sync.cosigning import Witness, WitnessKey
from member_client.sync.following import SyncReport, follow
from member_client.sync.quorum import Rule
from member_client.sync.store import Store
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.witnesses import witness_key
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import AURORA, BOREAL, CIRRUS, ForumLog, identifier, key, pattern_body

MAX_AGE = 900.0
MEMBERS = {"Aurora": AURORA, "Boreal": BOREAL, "Cirrus": CIRRUS}


class Lab:
    """A member that follows a hub, with a store and an evidence folder of its own."""

    def __init__(self, home: Path, hub: LyingHub, fingerprint: str, name: str = "Aurora") -> None:
        self.home, self.hub, self.fingerprint, self.name = home, hub, fingerprint, name
        self.rule: Rule | None = None
        self.cosigns = False
        home.mkdir(exist_ok=True)
        self.store = Store(home / "store.sqlite")

    def witness_key(self) -> WitnessKey:
        """The lab's witness key, which goes by the lab's name."""
        signer = key(f"{self.name} witness")
        return WitnessKey(witness_key(MEMBERS[self.name], signer.public_key), self.home / "cosigned", lambda: signer)

    def sync(
        self, bundles_per_batch: int = 8, clock: Callable[[], float] = time.time, note: bytes | None = None
    ) -> SyncReport:
        with HubConnection(self.hub.url, key(f"{self.name} sync"), attempts=1) as connection:
            keys = [self.witness_key()] if self.cosigns else []
            return follow(
                self.store,
                connection,
                self.fingerprint,
                max_age=MAX_AGE,
                clock=clock,
                keep_evidence=self._keep,
                note=note,
                rule=self.rule,
                witness=Witness(connection, keys, clock, cosigns=self.cosigns),
                bundles_per_batch=bundles_per_batch,
            )

    def _keep(self, misbehaviour: Misbehaviour, record: Sequence[LoggedEntry]) -> Path:
        return evidence.keep(self.home / "evidence", misbehaviour, self.fingerprint, record, self.hub.url, time.time())

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything in the store that is about the log."""
        return dump(self.home / "store.sqlite")

    def refused_with(self, fault: Fault, code: str, **arguments: Callable[[], float]) -> VerificationFailed:
        """Sync, and see it refused as this lie, with evidence, and the last good state kept."""
        before = self.contents()
        with pytest.raises(VerificationFailed) as caught:
            self.sync(**arguments)  # type: ignore[arg-type] # only the clock is ever given here
        assert (caught.value.misbehaviour.fault, caught.value.misbehaviour.code) == (fault, code)
        assert self.contents() == before
        kept = json.loads(caught.value.evidence.read_text())
        assert (kept["fault"], kept["code"], kept["forum"]) == (fault.value, code, self.fingerprint)
        assert caught.value.evidence.stat().st_mode & 0o777 == 0o600
        return caught.value


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table of a store; the checkpoint's timestamp and signatures differ from run to run and are left out."""
    with sqlite3.connect(path) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: list(database.execute(f"SELECT * FROM {name}")) for name in sorted(tables)}
    database.close()
    found["log_state"] = [(row[1], str(row[2]).split("\n\n")[0], row[4]) for row in found["log_state"]]
    return found


def entries_of(log: ForumLog) -> list[bytes]:
    return [made.encode() for made in log.entries]


def many_patterns(log: ForumLog, count: int) -> ForumLog:
    for number in range(count):
        body = pattern_body(title=f"Pattern {number}")
        log.say("pattern", identifier("pattern", 0x1000 + number), AURORA, body, ["Aurora analyst"])
    return log

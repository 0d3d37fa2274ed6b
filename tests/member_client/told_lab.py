"""A lab that is told of incidents: Boreal's home, which follows a log in memory, and a clock that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from member_client.home import Home, Settings
from member_client.incidents.deliveries import Deliveries, Delivery
from member_client.incidents.notifying import Report, notify, outbox_file
from member_client.session import Session
from tests.member_client.lab_homes import keep_key
from tests.member_client.lying_hub import LyingHub
from tests.member_client.receivers import MailServer
from tests.protocol.forum_log import AURORA, BOREAL, CREATED, ForumLog, forum_of_two_labs, identifier, record_reference
from tests.protocol.response_bodies import Document, action_body, incident_body, playbook_body

KEYS = {AURORA: "Aurora analyst", BOREAL: "Boreal analyst"}
HANDLING: Document = {
    "marking": "amber",
    "purpose": "Detect adversarial distillation",
    "legal_basis": "No personal data",
    "valid_until": "2028-03-01T00:00:00Z",
}
START = datetime.fromisoformat(CREATED).timestamp()


def email(server: MailServer, *more: str, to: str = "duty@lab.example") -> str:
    """A mailbox of `hooks.toml`, and more of its settings."""
    lines = ["[[email]]", 'name = "duty"', f'to = ["{to}"]', 'from = "stillwatch@lab.example"', 'host = "127.0.0.1"']
    return "\n".join([*lines, f"port = {server.port}", *more, ""])


class ToldLab:
    """Boreal, and the log that both labs write.

    Attributes:
        now: POSIX seconds, of the lab's clock and the hub's.
    """

    def __init__(self, folder: Path, hub: LyingHub) -> None:
        self.now = START
        self.log: ForumLog = forum_of_two_labs()
        self.hub = hub
        hub.clock = self.clock
        home = Home(folder)
        home.create()
        home.keys.mkdir(mode=0o700)
        home.save(Settings(hub=hub.url, forum=self.log.fingerprint, name="Boreal", member=BOREAL))
        keep_key(folder, "sync", "Boreal sync")
        self.session = Session(home, clock=self.clock)
        self.sync()

    def clock(self) -> float:
        return self.now

    def hooks(self, text: str, mode: int = 0o600) -> None:
        """Write hooks.toml, and let the hooks begin here."""
        self.write_hooks(text, mode)
        assert self.notify() == Report()

    def write_hooks(self, text: str, mode: int = 0o600) -> None:
        self.session.home.hooks.write_text(text)
        self.session.home.hooks.chmod(mode)

    def sync(self) -> None:
        self.hub.entries = [made.encode() for made in self.log.entries]
        with self.session.connect() as hub:
            self.session.sync(hub)

    def notify(self, **settings: Any) -> Report:
        return notify(self.session, **settings)

    def deliveries(self) -> list[Delivery]:
        with Deliveries(outbox_file(self.session.home)) as outbox:
            return outbox.listed(10_000)

    def protocol(self) -> Document:
        record = identifier("playbook", 0x700)
        self.log.say("playbook", record, AURORA, playbook_body(HANDLING), [KEYS[AURORA]])
        return record_reference(self.log.head(record))

    def open(self, number: int = 1, **changes: Any) -> str:
        """An incident of Aurora's, followed; gives its id."""
        record = self.say_open(number, **changes)
        self.sync()
        return record

    def say_open(self, number: int, **changes: Any) -> str:
        """The same, not followed yet."""
        record = identifier("incident", 0x800 + number)
        body = incident_body(HANDLING, **{"title": f"Incident {number}", **changes})
        self.log.say("incident", record, AURORA, body, [KEYS[AURORA]])
        return record

    def act(self, incident: str, lab: str, action: str, level: str | None = None) -> None:
        """An act, followed."""
        record = identifier("incident-action", 0x9000 + self.log.size)
        first = {"id": incident, "version": 1, "entry": self.log.versions[incident, 1]}
        body = action_body(HANDLING, first, action, level=level)
        self.log.say("incident_action", record, lab, body, [KEYS[lab]])
        self.sync()

    def opened(self) -> datetime:
        return datetime.fromtimestamp(START, UTC)

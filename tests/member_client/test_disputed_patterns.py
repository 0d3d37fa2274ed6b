"""What other labs log of a pattern, and how far it then goes here: signed voices, a sync, and its stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharing_protocol.statements import voice_id
from tests.forum import handling, pattern_body
from tests.member_client.command import Command, settle
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lab_homes import keep_key
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import (
    BOREAL,
    CIRRUS,
    FORUM,
    ForumLog,
    admit_body,
    forum_of_two_labs,
    identifier,
    lab_keys,
    record_reference,
)
from tests.protocol.response_bodies import endorsement_body, opinion_body

PATTERN, DRIFT = identifier("pattern", 0x1000), identifier("member", 0xD)
NAMES = {CIRRUS: "Cirrus", DRIFT: "Drift"}
POLICY = """highest_stage = "enforce"
backtest.required = false
shadow.hours = 0
flag.hours = 0
enforce.endorsements = 2
enforce.precision = 0.8
"""


class World:
    """Aurora's home, and a log in which Boreal has a pattern and two more labs speak of it."""

    def __init__(self, folder: Path, hub: LyingHub, log: ForumLog, command: Command) -> None:
        self.hub, self.log, self.command = hub, log, command
        self.home = settle(Lab(folder / "lab", hub, log.fingerprint))
        (self.home / "keys").mkdir(mode=0o700)
        keep_key(self.home, "sync", "Aurora sync")
        (self.home / "policy.toml").write_text(POLICY)

    def say(self, kind: Any, lab: str, body: Any) -> None:
        """A lab's voice on the newest version of the pattern."""
        head = self.log.head(PATTERN)
        assert head is not None
        name = NAMES[lab]
        whole = body(handling(), record_reference(head))
        self.log.say(kind, voice_id(kind, lab, head.entry), lab, whole, [f"{name} analyst"])

    def endorse(self, *labs: str) -> None:
        measured = {"reviewed": 40, "true_positives": 40, "method": "A sample"}
        for lab in labs:
            self.say("endorsement", lab, endorsement_body)
            self.say("opinion", lab, lambda *of: opinion_body(*of, verdict="confirm", measured=measured))

    def sync(self) -> dict[str, str]:
        """Follow the log; gives the stage that the pattern changed to, if it did, and the line that took it down."""
        self.hub.entries = entries_of(self.log)
        moved = self.command.json("sync", "--home", self.home)["lifecycle"]
        assert moved["problem"] is None
        return {one["to"]: one["why"][0] if one["why"] else "" for one in [*moved["demoted"], *moved["promoted"]]}


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[World]:
    log = forum_of_two_labs()
    for lab, name in NAMES.items():
        log.say("membership.admit", lab, FORUM, admit_body(lab, name, lab_keys(name)), ["Ada", "Ben"])
    log.say("pattern", PATTERN, BOREAL, pattern_body(), ["Boreal analyst"])
    with LyingHub(entries_of(log)) as hub:
        yield World(tmp_path, hub, log, Command(capsys))


def test_a_good_pattern_enforces_once_two_labs_endorse_it_and_reviewed_enough(world: World) -> None:
    assert world.sync() == {"flag": ""}
    world.endorse(CIRRUS)
    assert world.sync() == {}
    world.endorse(DRIFT)
    assert world.sync() == {"enforce": ""}


def test_one_dispute_takes_it_down_at_the_next_sync_and_two_retire_it(world: World) -> None:
    world.endorse(CIRRUS, DRIFT)
    assert world.sync() == {"enforce": ""}
    world.say("opinion", CIRRUS, opinion_body)
    [(stage, why)] = world.sync().items()
    assert (stage, "(disputes.demote): 1 lab calls it a false positive (Cirrus)" in why) == ("shadow", True)
    world.say("opinion", DRIFT, opinion_body)
    [(stage, why)] = world.sync().items()
    assert (stage, "2 labs call it a false positive (Cirrus, Drift)" in why) == ("retired", True)
    assert world.sync() == {}


def test_a_new_version_has_nothing_of_what_was_said_of_the_old_one(world: World) -> None:
    world.endorse(CIRRUS, DRIFT)
    assert world.sync() == {"enforce": ""}
    world.log.say("pattern", PATTERN, BOREAL, pattern_body("Another title"), ["Boreal analyst"])
    assert world.sync() == {"flag": ""}
    world.say("opinion", CIRRUS, opinion_body)
    assert list(world.sync()) == ["shadow"]

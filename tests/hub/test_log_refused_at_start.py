"""A hub does not build on a stored log that contradicts itself, or that other keys signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.errors import LogDamaged
from hub.identity import HubIdentity
from tests.forum import ForumInABox, code_of, make_identity, pattern_body, running_hub, sql
from tests.hub.lone_sequencer import sequencing
from tests.hub.stored_log import copied, number


@pytest.fixture(scope="module")
def whole_log(new_database: Callable[[], str], hub_identity: HubIdentity) -> str:
    """The database of a log of five entries: a founding, an admission and three patterns."""
    database_url = new_database()
    with running_hub(database_url, hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        for title in ("One", "Two", "Three"):
            box.publish(lab, pattern_body(title))
        assert box.size() == 5
    return database_url


@pytest.fixture
def stored(whole_log: str) -> str:
    """A copy of it, to be damaged."""
    return copied(whole_log)


def start(database_url: str, identity: HubIdentity) -> int:
    """Start a sequencer, and stop it; how many entries it found."""

    async def read() -> int:
        async with sequencing(database_url, identity) as (sequencer, _):
            return sequencer._state.size

    return asyncio.run(read())


def test_a_whole_log_is_taken_up(stored: str, hub_identity: HubIdentity) -> None:
    assert start(stored, hub_identity) == 5


DAMAGE = {
    "edge tile altered": (
        "UPDATE tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1)",
        "does not sign the stored tree",
    ),
    "edge tile too short": ("UPDATE tiles SET hashes = substr(hashes, 1, 128)", "missing or too short"),
    "edge tile too long": ("UPDATE tiles SET hashes = hashes || decode(repeat('00', 32), 'hex')", "missing or too"),
    "edge tile with half a hash": ("UPDATE tiles SET hashes = hashes || '\\x00'", "0/0 does not consist of"),
    "edge tile missing": ("DELETE FROM tiles", "missing or too short"),
    "newest checkpoint missing": ("DELETE FROM checkpoints WHERE tree_size = 5", "newest checkpoint is not that of"),
    "no checkpoint": ("DELETE FROM checkpoints", "newest checkpoint is not that of"),
    "checkpoint is an older one's note": (
        "UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE tree_size = 4) WHERE tree_size = 5",
        "does not sign the stored tree",
    ),
    "checkpoint without its signature": (
        "UPDATE checkpoints SET note = substr(note, 1, strpos(note, E'\\n\\n') + 1) WHERE tree_size = 5",
        "newest checkpoint is refused",
    ),
    "checkpoint with another signature": (
        "UPDATE checkpoints SET note = regexp_replace(note, '....\\n$', E'AAAA\\n') WHERE tree_size = 5",
        "newest checkpoint is refused",
    ),
    "checkpoint is no note": ("UPDATE checkpoints SET note = 'no note' WHERE tree_size = 5", "checkpoint is refused"),
    "head set back": ("UPDATE log_head SET tree_size = 4", "missing or too short"),
    "head set ahead": ("UPDATE log_head SET tree_size = 6", "missing or too short"),
    "head set to nothing": ("UPDATE log_head SET tree_size = 0", "newest checkpoint is not that of"),
    "head missing": ("DELETE FROM log_head", "head is missing"),
    "membership entry missing": ("DELETE FROM log_entries WHERE index = 1", "membership entry 1 is missing"),
    "membership entry passed over": ("UPDATE log_head SET last_membership = 2", "membership entry 2 is missing"),
    "membership entry altered": (
        "UPDATE log_entries SET envelope = set_byte(envelope, 200, get_byte(envelope, 200) # 1) WHERE index = 1",
        "entry 1 is not",
    ),
    "pattern filed as a membership entry": (
        "UPDATE log_entries SET type = 'membership.admit' WHERE index = 4; UPDATE log_head SET last_membership = 4",
        "entry 4 is not the membership statement",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_log_is_refused(stored: str, hub_identity: HubIdentity, kind: str) -> None:
    statement, complaint = DAMAGE[kind]
    with sql(stored) as connection:
        connection.execute(statement.encode())
    with pytest.raises(LogDamaged, match=complaint) as caught:
        start(stored, hub_identity)
    assert "stillwatch-hub check" in caught.value.detail


def test_a_log_that_is_kept_with_other_keys_is_refused(stored: str, tmp_path: Path) -> None:
    for origin in ("forum.example/log", "other.example/log"):
        with pytest.raises(LogDamaged, match=r"kept with other keys, as 'forum\.example/log'"):
            start(stored, make_identity(tmp_path / origin.replace("/", "-"), origin))


def test_a_hub_with_other_keys_does_not_extend_the_log_that_appeared_beside_it(
    database: str, hub_identity: HubIdentity, tmp_path: Path
) -> None:
    """Two hubs were started on one empty database, each with a home of its own."""
    with running_hub(database, hub_identity) as hub, running_hub(database, make_identity(tmp_path)) as stranger:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        made = box.record(lab, pattern_body())
        size = number(database, "SELECT tree_size FROM log_head")
        at_stranger = ForumInABox(stranger, box.admins, box.threshold, box.id, box.fingerprint)
        refused = at_stranger.submit(made, lab.analyst)
        assert (refused.status_code, code_of(refused)) == (503, "log_damaged")
        assert "keys" not in refused.text, "the details are for the operator"
        assert number(database, "SELECT tree_size FROM log_head") == size
        box.log(made, lab.analyst)

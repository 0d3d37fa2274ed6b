"""`stillwatch-hub check`: whatever is altered in the database behind the hub's back is named, and nothing else is.

One log of 270 entries, made once by a real hub. Each tampering is done, checked and rolled back.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from hub.check import Check
from hub.cli import commands
from hub.database.connections import make_command_engine
from hub.identity import HubIdentity
from sharing_protocol import wire
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.envelope import Envelope
from tests.forum import (
    ForumInABox,
    Lab,
    key,
    pattern_body,
    running_hub,
    sighting_body,
    signed,
    sql,
    withdrawal_body,
)
from tests.hub.lone_sequencer import sequence_at_once
from tests.hub.stored_log import copied
from tests.hub.table_tamperings import PROJECTIONS, UNLOGGED
from tests.hub.tamperings import LOG, LONG, Tampering

TILE = 256


@dataclass(frozen=True)
class StoredForum:
    """A hub's database that nobody uses any more, and names for what is in it."""

    database_url: str
    names: dict[str, str]
    more: list[Envelope]

    @functools.cached_property
    def engine(self) -> Engine:
        """Connects to it; for all cases the same, which spares most of their time."""
        return make_command_engine(self.database_url)

    def spelled(self, text: str) -> str:
        """The text with `<name>` replaced."""
        for name, value in self.names.items():
            text = text.replace(f"<{name}>", value)
        return text


def revise(box: ForumInABox, lab: Lab, record_id: str, title: str) -> None:
    """Publish a pattern's next version."""
    box.publish(lab, pattern_body(title), record_id)


def propose(box: ForumInABox, lab: Lab, kind: str) -> str:
    """Propose to do something to a lab; the proposal's id."""
    made = signed(box.statement(kind, lab.id, box.id, {"reason": "Asked for it"}), "Ada")
    answer = box.post(wire.PROPOSALS, made.encode(), "Ada")
    assert answer.status_code == 202, answer.text
    return made.payload_sha256


@pytest.fixture(scope="module")
def stored(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[StoredForum]:
    database_url = new_database()
    with running_hub(database_url, hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal, cirrus = box.admit("Aurora", "witness"), box.admit("Boreal"), box.admit("Cirrus")
        assert box.witness(aurora).status_code == 200
        pattern, _ = box.publish(aurora, pattern_body("Bootstrapped instructions"))
        revise(box, aurora, pattern, "Bootstrapped tasks")
        other, _ = box.publish(boreal, pattern_body("Translated prompts"))
        withdrawal, _ = box.publish(boreal, withdrawal_body(box.reference(other)))
        sighting, _ = box.publish(boreal, sighting_body(box.reference(pattern)))
        revoked = key(boreal.sync).public_key.key_id
        body = {"key_id": revoked, "reason": "Lost", "suspect_from": 3}
        box.decree("membership.revoke_key", boreal.id, body)
        dropped = propose(box, cirrus, "membership.suspend")
        box.decree("membership.suspend", cirrus.id, {"reason": "Decided otherwise"})
        pending = propose(box, cirrus, "membership.reinstate")
        assert [one["id"] for one in box.get(wire.PROPOSALS).json()["proposals"]] == [pending]
        shown = box.get(wire.CHECKPOINT)
        with box.client(aurora.sync) as client:
            assert client.post(wire.CHECKPOINT, content=shown.content).status_code == 200
        size = box.size()
        more = [box.record(aurora, sighting_body(box.reference(pattern))) for _ in range(TILE + 5 - size)]
    unsent = more[-1]
    names = {"forum": box.id, "aurora": aurora.id, "boreal": boreal.id, "cirrus": cirrus.id}
    names |= {"pattern": pattern, "other": other, "withdrawal": withdrawal, "sighting": sighting}
    names |= {"ada": key("Ada").public_key.key_id, "analyst": key(aurora.analyst).public_key.key_id, "revoked": revoked}
    names |= {"witness": key(aurora.witness).public_key.key_id}
    names |= {"pending": pending, "dropped": dropped, "unsent": json.loads(unsent.payload)["id"]}
    names |= {"unsent envelope": unsent.encode().hex(), "unsent payload": unsent.payload_sha256}
    forum = StoredForum(database_url, names, more)
    yield forum
    forum.engine.dispose()


@pytest.fixture(scope="module")
def long(stored: StoredForum, hub_identity: HubIdentity) -> Iterator[StoredForum]:
    """The same with more than 256 entries: one tile is full, and has a hash on the next level."""
    stored.engine.dispose()  # a template has no visitors
    database_url = copied(stored.database_url)
    for batch in (stored.more[:-5], stored.more[-5:-1]):
        answers = sequence_at_once(database_url, hub_identity, batch)
        assert not any(isinstance(answer, Exception) for answer in answers)
    forum = StoredForum(database_url, stored.names, [])
    yield forum
    forum.engine.dispose()


def check_after(stored: StoredForum, tampering: str) -> list[str]:
    """What the check says of the database once it was tampered with; afterwards it is as before."""
    with stored.engine.connect() as connection:
        for table in ("log_entries", "checkpoints"):
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        for statement in stored.spelled(tampering).split(";"):
            assert connection.exec_driver_sql(statement).rowcount != 0, statement
        found = [str(difference) for difference in Check(connection).run()]
        connection.rollback()
    return found


def said(stored: StoredForum, tampering: Tampering) -> None:
    """See that the check says exactly what it has to."""
    statements, expected = tampering
    found = check_after(stored, statements)
    beginnings = [stored.spelled(line) for line in expected]
    unmatched = [line for line in found if not any(line.startswith(beginning) for beginning in beginnings)]
    unsaid = [beginning for beginning in beginnings if not any(line.startswith(beginning) for line in found)]
    assert (unmatched, unsaid) == ([], []), "\n".join(found)
    assert len(found) == len(expected)


def test_nothing_is_said_of_a_log_in_order(stored: StoredForum, long: StoredForum) -> None:
    for forum in (stored, long):
        said(forum, ("SELECT 1", []))


@pytest.mark.parametrize("what", LOG)
def test_what_is_altered_in_the_log_is_named(stored: StoredForum, what: str) -> None:
    said(stored, LOG[what])


@pytest.mark.parametrize("what", LONG)
def test_what_is_altered_in_a_log_of_several_tiles_is_named(long: StoredForum, what: str) -> None:
    said(long, LONG[what])


@pytest.mark.parametrize("what", PROJECTIONS)
def test_what_the_log_does_not_say_is_named(stored: StoredForum, what: str) -> None:
    said(stored, PROJECTIONS[what])


@pytest.mark.parametrize("what", UNLOGGED)
def test_what_does_not_go_with_the_log_is_named(stored: StoredForum, what: str) -> None:
    said(stored, UNLOGGED[what])


@pytest.mark.parametrize(
    ("size", "complaint"),
    [
        (7, "the log signed another history of 7 entries: it was rolled back"),
        (300, "the log signed 300 entries and has 11: it was rolled back"),
    ],
)
def test_what_the_log_signed_and_does_not_extend_is_named(
    stored: StoredForum, hub_identity: HubIdentity, size: int, complaint: str
) -> None:
    note = hub_identity.sign(Checkpoint(hub_identity.origin, size, bytes(32)))
    tampering = f"UPDATE checkpoint_reports SET tree_size = {size}, note = $note${note}$note$"
    said(stored, (tampering, [f"checkpoint_reports <aurora>: {complaint}"]))


# -- the command ---------------------------------------------------------------------------------------------------


def run(database_url: str, *options: str) -> tuple[int, str]:
    """Run the command; its exit code and what it says."""
    result = CliRunner().invoke(commands, ["check", "--database-url", database_url, *options])
    return result.exit_code, result.output


def test_exit_code_and_words_of_the_command(stored: StoredForum) -> None:
    stored.engine.dispose()
    database_url = copied(stored.database_url)
    checked = "11 entries, 1 tiles, 11 checkpoints and 5 records checked: "
    assert run(database_url) == (0, f"{checked}no differences\n")
    assert run(database_url, "--content") == (0, f"{checked}no differences\n")
    with sql(database_url) as connection:
        connection.execute("DELETE FROM members WHERE name = 'Cirrus'")
    line = stored.spelled("members <cirrus>: is missing\n")
    assert run(database_url) == (1, f"{line}{checked}1 difference\n")
    with sql(database_url) as connection:
        connection.execute("UPDATE tiles SET hashes = ''")
    code, output = run(database_url, "--json")
    assert code == 1
    assert json.loads(output) == {
        "checked": {"entries": 11, "tiles": 1, "checkpoints": 11, "records": 5},
        "differences": [
            {"table": "tiles", "row": "0/0", "what": "holds 0 hashes, the log has 11"},
            {"table": "members", "row": stored.names["cirrus"], "what": "is missing"},
        ],
    }


def test_an_empty_log_is_in_order(database: str) -> None:
    assert run(database) == (0, "0 entries, 0 tiles, 0 checkpoints and 0 records checked: no differences\n")


def test_content_that_its_author_should_have_tested_is_named_when_asked_for(
    database: str, hub_identity: HubIdentity
) -> None:
    """The hub's own intake would have refused it: it came in by the sequencer alone."""
    with running_hub(database, hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        body = pattern_body()
        body["tests"][0]["expect"] = "no_match"
        unsound = box.record(lab, body)
    sequence_at_once(database, hub_identity, [unsound])
    assert run(database)[0] == 0
    code, output = run(database, "--content")
    assert code == 1
    assert output.startswith("log_entries 2: its content is not sound: ")
    assert "(tests_failed)" in output

"""What a hub takes from witnesses, what it refuses, and what of it it shows to members."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from hub import cosigning
from hub.app import utc_now
from hub.database import cosignature_store
from hub.identity import HubIdentity
from hub.publication import VOUCH_SECONDS
from sharing_protocol import notes, wire
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.merkle import EMPTY_ROOT
from sharing_protocol.trust import MAX_SKEW_SECONDS
from sharing_protocol.witnesses import open_cosigned, witness_key
from tests.forum import ForumInABox, Lab, code_of, key, pattern_body, running_hub, signed, sql
from tests.hub.refusals import problem_of
from tests.hub.stored_log import differences, number, rows


class Clock:
    """A hub's clock that tests move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead

    def pass_seconds(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


class Witnessed:
    """A forum of two labs with a witness key each."""

    def __init__(self, box: ForumInABox, clock: Clock) -> None:
        self.box, self.clock = box, clock
        self.aurora, self.boreal = (box.admit(name, "witness") for name in ("Aurora", "Boreal"))

    def shown(self) -> list[tuple[int, list[str]]]:
        """The sizes of the checkpoints that are served as cosigned, and by whom; every line is checked."""
        response = self.box.get(wire.COSIGNATURES)
        assert response.status_code == 200, response.text
        found = wire.CosignedCheckpoints.model_validate_json(response.content).checkpoints
        return [self.signers(note) for note in found]

    def newest(self) -> tuple[int, list[str]]:
        """The same of the newest checkpoint, once what the hub remembers of it is old."""
        self.clock.pass_seconds(VOUCH_SECONDS)
        return self.signers(self.box.get(wire.CHECKPOINT).text)

    def signers(self, note: str) -> tuple[int, list[str]]:
        names = ("Aurora witness", "Boreal witness", "Aurora second witness")
        known = {witness_key(lab.id, key(name).public_key): name for lab in self.labs for name in names}
        opened = open_cosigned(note.encode(), self.box.hub.identity.public, known)
        return opened.checkpoint.size, sorted(known[cosigner] for cosigner in opened.times)

    @property
    def labs(self) -> list[Lab]:
        return [self.aurora, self.boreal]


@contextmanager
def witnessed_forum(database_url: str, identity: HubIdentity) -> Iterator[Witnessed]:
    clock = Clock()
    with running_hub(database_url, identity, clock) as hub:
        box = ForumInABox(hub)
        box.found()
        yield Witnessed(box, clock)


@pytest.fixture
def forum(database: str, hub_identity: HubIdentity) -> Iterator[Witnessed]:
    with witnessed_forum(database, hub_identity) as made:
        yield made


def test_cosignatures_are_shown_with_their_checkpoint(forum: Witnessed) -> None:
    size = forum.box.size()
    assert forum.shown() == []
    for lab, number_so_far in ((forum.aurora, 1), (forum.boreal, 2)):
        taken = forum.box.witness(lab)
        assert taken.status_code == 200, taken.text
        assert taken.json() == {"tree_size": size, "cosigned": 1}
        assert len(forum.shown()[0][1]) == number_so_far
    both = ["Aurora witness", "Boreal witness"]
    assert forum.shown() == [(size, both)]
    assert forum.newest() == (size, both)
    forum.box.publish(forum.aurora, pattern_body())
    assert forum.newest() == (size + 1, [])
    assert forum.box.witness(forum.boreal).status_code == 200
    assert forum.shown() == [(size + 1, ["Boreal witness"]), (size, both)]
    assert differences(forum.box.hub.database_url) == []


def test_receipts_stay_as_short_as_they_were(forum: Witnessed) -> None:
    _, receipt = forum.box.publish(forum.aurora, pattern_body())
    assert forum.box.witness(forum.aurora).status_code == 200
    assert forum.newest()[1] == ["Aurora witness"]
    made = forum.box.record(forum.aurora, pattern_body("Another"))
    forum.box.log(made, forum.aurora.analyst)
    again = wire.Receipt.model_validate_json(forum.box.submit(made, forum.aurora.analyst).content)
    assert len(notes.parse(again.checkpoint.encode()).signatures) == 2
    assert len(notes.parse(receipt.checkpoint.encode()).signatures) == 2


def test_the_newest_cosignature_of_a_witness_counts(forum: Witnessed) -> None:
    now = forum.clock().timestamp()
    for seconds in (0, -20, -10):
        assert forum.box.witness(forum.aurora, forum.box.cosign(forum.aurora, at=now + seconds)).status_code == 200
    stored = rows(forum.box.hub.database_url, "SELECT timestamp FROM cosignatures")
    assert stored == [(int(now),)]
    both_times = notes.parse(forum.box.cosign(forum.boreal, at=now - 5).encode())
    newer = notes.parse(forum.box.cosign(forum.boreal, at=now - 3).encode())
    sent = str(both_times.signed_by(newer.signatures))
    assert forum.box.witness(forum.boreal, sent).json() == {"tree_size": forum.box.size(), "cosigned": 1}
    stored = rows(forum.box.hub.database_url, "SELECT timestamp FROM cosignatures ORDER BY 1")
    assert stored == [(int(now) - 3,), (int(now),)]


def test_a_second_witness_key_of_a_lab_is_another_line(forum: Witnessed) -> None:
    forum.box.add_key(forum.aurora, "witness", "Aurora second witness")
    assert forum.box.witness(forum.aurora).status_code == 200
    assert forum.box.witness(forum.aurora, forum.box.cosign(forum.aurora, "Aurora second witness")).status_code == 200
    assert forum.shown()[0][1] == ["Aurora second witness", "Aurora witness"]


def test_what_is_kept_is_bounded_and_every_witness_keeps_its_newest(
    forum: Witnessed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosignature_store, "KEPT_CHECKPOINTS", 3)
    assert forum.box.witness(forum.boreal).status_code == 200
    first = forum.box.size()
    for count in range(6):
        forum.box.publish(forum.aurora, pattern_body(f"Pattern {count}"))
        assert forum.box.witness(forum.aurora).status_code == 200
    sizes = [size for size, _ in forum.shown()]
    assert sizes == [first + 6, first + 5, first + 4, first]
    assert forum.shown()[-1][1] == ["Boreal witness"]


def test_a_crowd_that_waits_for_a_quorum_shares_one_read(forum: Witnessed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosigning, "SHOWN_SECONDS", 1000.0)
    size = forum.box.size()
    assert forum.box.witness(forum.aurora).status_code == 200
    assert forum.shown() == [(size, ["Aurora witness"])]
    with sql(forum.box.hub.database_url) as connection:
        connection.execute("UPDATE cosignatures SET key_id = 'nobody'")
    assert forum.shown() == [(size, ["Aurora witness"])]
    assert forum.box.get(wire.COSIGNATURES, member=forum.aurora.id).json() == {"checkpoints": []}
    # What this process takes is shown at once.
    assert forum.box.witness(forum.boreal).status_code == 200
    assert forum.shown() == [(size, ["Boreal witness"])]


def test_more_lines_than_a_note_has_room_for_are_several_notes(
    forum: Witnessed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cosigning, "LINES_SHOWN", 1)
    for lab in forum.labs:
        assert forum.box.witness(lab).status_code == 200
    size = forum.box.size()
    assert sorted(forum.shown()) == [(size, ["Aurora witness"]), (size, ["Boreal witness"])]
    assert len(forum.newest()[1]) == 1


def test_who_is_no_witness_any_more_is_not_shown(forum: Witnessed) -> None:
    for lab in forum.labs:
        assert forum.box.witness(lab).status_code == 200
    box = forum.box
    box.decree("membership.suspend", forum.boreal.id, {"reason": "For now"})
    stolen = {"key_id": key(forum.aurora.witness).public_key.key_id, "reason": "Stolen", "suspect_from": None}
    revoking = signed(
        box.statement("membership.revoke_key", forum.aurora.id, forum.aurora.id, stolen), forum.aurora.owner
    )
    box.log(revoking, forum.aurora.owner)
    assert forum.shown() == []
    box.decree("membership.reinstate", forum.boreal.id, {"reason": "All is well"})
    assert [signers for _, signers in forum.shown()] == [["Boreal witness"]]
    assert differences(box.hub.database_url) == []


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refusing(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[Witnessed]:
    """A forum that takes nothing of what these tests send."""
    with witnessed_forum(new_database(), hub_identity) as made:
        yield made


def refused(forum: Witnessed, note: str | bytes, status: int, code: str, says: str = "") -> None:
    kept = number(forum.box.hub.database_url, "SELECT count(*) FROM cosignatures")
    body = note if isinstance(note, bytes) else note.encode()
    problem_of(forum.box.post(wire.COSIGNATURES, body, forum.aurora.sync), status, code, says=says)
    assert number(forum.box.hub.database_url, "SELECT count(*) FROM cosignatures") == kept


def test_keys_that_are_no_witness_keys_do_not_cosign(refusing: Witnessed) -> None:
    cosign = refusing.box.cosign
    for name, role in (
        (refusing.aurora.analyst, "analyst"),
        (refusing.aurora.sync, "sync"),
        (refusing.aurora.owner, "owner"),
    ):
        refused(refusing, cosign(refusing.aurora, name), 403, "wrong_role", f"is a key for {role}")
    refused(refusing, cosign(refusing.aurora, "a stranger"), 422, "no_cosignature")
    refused(
        refusing, cosign(refusing.aurora, refusing.boreal.witness), 422, "no_cosignature"
    )  # Boreal's key in Aurora's name
    refused(refusing, refusing.box.get(wire.CHECKPOINT).text, 422, "no_cosignature")


def test_a_witness_key_signs_no_requests(refusing: Witnessed) -> None:
    for path in (wire.CHECKPOINT, wire.COSIGNATURES, wire.MEMBERS):
        problem_of(refusing.box.get(path, refusing.aurora.witness), 403, "wrong_role", says="signs no requests")


def test_one_labs_cosignatures_can_be_asked_for(forum: Witnessed) -> None:
    for lab in forum.labs:
        assert forum.box.witness(lab).status_code == 200
    found = forum.box.get(wire.COSIGNATURES, member=forum.boreal.id).json()["checkpoints"]
    assert [forum.signers(note)[1] for note in found] == [["Boreal witness"]]
    assert forum.box.get(wire.COSIGNATURES, member="member--none").json() == {"checkpoints": []}
    problem_of(forum.box.get(f"{wire.COSIGNATURES}?lab=x"), 422, "invalid_parameter", "query.lab", "lab")


def test_a_stolen_key_cosigns_nothing_once_it_is_revoked(refusing: Witnessed) -> None:
    lab = refusing.box.admit("Drift", "witness")
    made = refusing.box.cosign(lab)
    body = {"key_id": key(lab.witness).public_key.key_id, "reason": "Stolen", "suspect_from": 0}
    refusing.box.decree("membership.revoke_key", lab.id, body)
    refused(refusing, made, 403, "revoked_key")
    refused(refusing, refusing.box.cosign(lab), 403, "revoked_key")


def test_a_suspended_lab_cosigns_nothing(refusing: Witnessed) -> None:
    lab = refusing.box.admit("Ember", "witness")
    refusing.box.decree("membership.suspend", lab.id, {"reason": "For now"})
    refused(refusing, refusing.box.cosign(lab), 403, "member_suspended")


def test_forged_and_replayed_lines_are_refused(refusing: Witnessed) -> None:
    before = notes.parse(refusing.box.cosign(refusing.aurora).encode())
    line = before.signatures[-1]
    forged = notes.NoteSignature(line.name, line.key_id, line.value[:-1] + bytes([line.value[-1] ^ 1]))
    later = notes.NoteSignature(
        line.name, line.key_id, (int(line.value[:8].hex(), 16) + 1).to_bytes(8) + line.value[8:]
    )
    for wrong in (forged, later, notes.NoteSignature(line.name, line.key_id, line.value[:-1])):
        refused(refusing, str(notes.Note(before.text, (*before.signatures[:-1], wrong))), 400, "bad_note_signature")
    refusing.box.publish(refusing.aurora, pattern_body())
    newest = notes.parse(refusing.box.get(wire.CHECKPOINT).content)
    refused(refusing, str(newest.signed_by([line])), 400, "bad_note_signature")  # of the checkpoint before


@pytest.mark.parametrize("seconds", [MAX_SKEW_SECONDS + 20, -MAX_SKEW_SECONDS - 20])
def test_a_cosignature_is_of_now(refusing: Witnessed, seconds: int) -> None:
    note = refusing.box.cosign(refusing.aurora, at=refusing.clock().timestamp() + seconds)
    refused(refusing, note, 422, "bad_cosignature_time", "s from now, by this hub's clock")


def test_checkpoints_that_this_log_did_not_sign_are_refused(refusing: Witnessed) -> None:
    made = notes.parse(refusing.box.cosign(refusing.aurora).encode())
    refused(refusing, str(notes.Note(made.text, made.signatures[1:])), 422, "foreign_checkpoint")
    refused(refusing, made.text.encode(), 400, "malformed_note")
    empty = Checkpoint(
        refusing.box.hub.identity.origin,
        0,
        EMPTY_ROOT,
    )
    refused(refusing, refusing.box.cosign(refusing.aurora, text=empty.text), 422, "unknown_checkpoint")


def test_a_witness_shows_a_hub_that_was_rolled_back_that_it_was(forum: Witnessed) -> None:
    size = forum.box.size()
    other = Checkpoint(forum.box.hub.identity.origin, size + 5, bytes(32))
    answer = forum.box.witness(forum.aurora, forum.box.cosign(forum.aurora, text=other.text))
    assert (answer.status_code, code_of(answer)) == (503, "log_rolled_back")
    assert number(forum.box.hub.database_url, "SELECT count(*) FROM cosignatures") == 0
    shown = rows(forum.box.hub.database_url, "SELECT reporter, tree_size FROM checkpoint_reports")
    assert shown == [(forum.aurora.id, size + 5)]
    assert code_of(forum.box.get(wire.CHECKPOINT)) == "log_rolled_back"

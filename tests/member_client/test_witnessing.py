"""Members as witnesses: what they cosign, and what they never do. Who is killed, restored or robbed is a lab."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from member_client.errors import HubUnreachable, InvalidInput, VerificationFailed
from member_client.hub_connection import HubConnection
from member_client.sync.cosigning import RENEW_SECONDS, Witness, WitnessKey
from member_client.sync.store import Store
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership
from sharing_protocol.merkle import leaf_hash, root_from_leaves
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.trust import TrustedCheckpoint, open_checkpoint
from sharing_protocol.witnesses import witness_key
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lying_hub import Answer, LyingHub
from tests.member_client.test_following import halted
from tests.member_client.witness_forum import branch, cosign, cosigned, forum_of_witnesses, grow
from tests.protocol.forum_log import (
    AURORA,
    LOG,
    ORIGIN,
    ForumLog,
    key,
    revoke_body,
)


@pytest.fixture
def log() -> ForumLog:
    return forum_of_witnesses()


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def labs(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[list[Lab]]:
    made = [Lab(tmp_path / name, hub, log.fingerprint, name) for name in ("Aurora", "Boreal", "Cirrus")]
    for lab in made:
        lab.cosigns = True
    yield made
    for lab in made:
        lab.store.close()


@pytest.fixture
def aurora(labs: list[Lab]) -> Lab:
    return labs[0]


# -- what a witness cosigns ----------------------------------------------------------------------------------------


def test_what_was_verified_is_cosigned_once_and_anew_when_it_is_old(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    now = time.time()
    report = aurora.sync()
    assert report.witness is not None
    assert (report.witness.cosigned, report.witness.problem, report.witness.warning) == (log.size, "", "")
    assert cosigned(hub) == [("Aurora", log.size)]
    aurora.sync()
    assert len(hub.cosigned) == 1
    grow(hub, log)
    aurora.sync()
    assert cosigned(hub) == [("Aurora", log.size), ("Aurora", log.size - 1)]
    later = now + RENEW_SECONDS + 2
    hub.clock = lambda: later
    aurora.sync(clock=lambda: later)
    assert cosigned(hub)[0] == ("Aurora", log.size)
    assert len(hub.cosigned) == 3
    last = aurora.witness_key().last()
    assert last is not None
    assert last.timestamp == int(later)


def test_time_does_not_run_backwards_between_cosignatures(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    ahead = time.time() + 200
    hub.clock = lambda: ahead
    aurora.sync(clock=lambda: ahead)
    grow(hub, log)
    hub.clock = time.time
    aurora.sync()
    times = [int.from_bytes(notes.parse(note.encode()).signatures[-1].value[:8]) for note in hub.cosigned]
    assert times == [int(ahead), int(ahead)]


def test_nothing_is_cosigned_that_was_not_verified(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    other = branch(log, log.size - 1)
    hub.lie = lambda path, answer: Answer(200, hub.checkpoint(other)) if path == "/checkpoint" else answer
    aurora.refused_with(Fault.ALTER, "altered_tile")
    hub.lie = lambda path, answer: Answer(404) if path.startswith("/tile/entries") else answer
    hub.requests.clear()
    aurora.home.joinpath("store.sqlite").unlink()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever lie it is taken for
        aurora.sync()
    assert hub.cosigned == []
    assert aurora.witness_key().last() is None


def test_a_fork_is_not_cosigned_though_the_store_is_new(
    aurora: Lab, hub: LyingHub, log: ForumLog, tmp_path: Path
) -> None:
    grow(hub, log)
    aurora.sync()
    kept = hub.cosigned[0]
    moved = Lab(tmp_path / "anew", hub, log.fingerprint)
    moved.cosigns = True
    shutil.copy(aurora.home / "cosigned", moved.home / "cosigned")
    hub.entries, hub.cosigned = [*branch(log, log.size - 1), *entries_of(log)[-1:]], []
    caught = moved.refused_with(Fault.FORK, "forked")
    documents = json.loads(caught.evidence.read_text())["documents"]
    assert documents["old_checkpoint"] == kept  # with our own cosignature: it proves that we saw it
    assert notes.parse(documents["new_checkpoint"].encode()).text.split("\n")[1] == str(log.size + 1)
    hub.entries = branch(log, log.size - 1)
    moved.refused_with(Fault.FORK, "forked")
    hub.entries = entries_of(log)[:-1]
    moved.refused_with(Fault.ROLL_BACK, "rolled_back")
    assert hub.cosigned == []
    moved.store.close()


def test_a_home_that_forgot_what_it_cosigned_learns_it_from_the_hub(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    aurora.sync()
    backup = (aurora.home / "cosigned").read_bytes()
    grow(hub, log, 3)
    aurora.sync()
    (aurora.home / "cosigned").write_bytes(backup)
    grow(hub, log)
    report = aurora.sync()
    assert report.witness is not None
    assert f"has cosigned {log.size - 1} entries, and the home does not know of it" in report.witness.warning
    assert cosigned(hub)[0] == ("Aurora", log.size)
    report = aurora.sync()
    assert report.witness is not None
    assert report.witness.warning == ""


def test_what_was_cosigned_since_by_keys_of_a_later_log_accuses_nobody(
    aurora: Lab, hub: LyingHub, log: ForumLog
) -> None:
    """Another machine of the lab is further: the log has exchanged its keys there. This one was shown less."""
    aurora.sync()
    further = checkpoints.sign(Checkpoint(ORIGIN, log.size + 1, bytes(32)), key("log 2"))
    hub.cosigned = [str(checkpoints.cosign(further, AURORA, key("Aurora witness"), int(time.time())))]
    report = aurora.sync()
    assert report.witness is not None
    assert (report.witness.problem, report.witness.warning) == ("", "")
    kept = aurora.witness_key().last()
    assert kept is not None
    # After it there is what the hub knows too, and that is looked at.
    hub.cosigned.append(cosign(hub, "Aurora", branch(log, log.size - 1)[: log.size]))
    del hub.cosigned[0]
    aurora.refused_with(Fault.FORK, "forked")


@pytest.mark.parametrize("of_another_log", [True, False])
def test_what_the_hub_only_pretends_was_cosigned_is_a_forgery(
    aurora: Lab, hub: LyingHub, log: ForumLog, of_another_log: bool
) -> None:
    aurora.sync()
    if of_another_log:
        note = checkpoints.sign(Checkpoint(ORIGIN, log.size, bytes(32)), key("Mallory"))
        hub.cosigned = [str(checkpoints.cosign(note, AURORA, key("Aurora witness"), int(time.time())))]
        aurora.refused_with(Fault.FORGE, "unsigned_checkpoint")
    else:
        made = notes.parse(hub.cosigned[0].encode())
        line = made.signatures[-1]
        forged = notes.NoteSignature(line.name, line.key_id, line.value[:-1] + bytes([line.value[-1] ^ 1]))
        hub.cosigned = [str(notes.Note(made.text, (*made.signatures[:-1], forged)))]
        hub.lie = lambda path, answer: Answer(200, honest) if path == "/checkpoint" else answer
        honest = hub.checkpoint().replace(hub.cosigned[0].encode().splitlines()[-1] + b"\n", b"")
        aurora.refused_with(Fault.FORGE, "bad_note_signature")


def test_a_broken_line_in_this_labs_name_is_mended(aurora: Lab, hub: LyingHub) -> None:
    """The hub shows what it was sent, but damaged: it is sent again."""
    aurora.sync()
    [sent] = hub.cosigned
    line = sent.splitlines()[-1]
    damaged = hub.checkpoint().decode().replace(line, line[:-8] + "AAAAAAA=")
    assert damaged != hub.checkpoint().decode()
    hub.lie = lambda path, answer: Answer(200, damaged.encode()) if path == "/checkpoint" else answer
    hub.cosigned = []
    report = aurora.sync()
    assert report.witness is not None
    assert report.witness.problem == ""
    assert hub.cosigned == [sent]


def test_what_another_run_cosigned_meanwhile_is_not_gone_behind(
    hub: LyingHub, log: ForumLog, tmp_path: Path, connection: HubConnection
) -> None:
    """Two runs of one home: the slower one has checked before the other cosigned more, and comes after it."""
    signer = key("Aurora witness")
    witness = WitnessKey(witness_key(AURORA, signer.public_key), tmp_path / "cosigned", lambda: signer)
    logs, older = LogHistory.of(LOG), open_checkpoint(hub.checkpoint(), LOG)
    slow = Witness(connection, [witness], cosigns=True)
    slow.check(older, VerifiedTree(log.size, older.checkpoint.root, connection.tile), logs)
    grow(hub, log)
    Witness(connection, [witness], cosigns=True).cosign(open_checkpoint(hub.checkpoint(), LOG), logs, log.membership)
    slow.cosign(older, logs, log.membership)
    assert slow.report is not None
    assert (slow.report.cosigned, slow.report.problem) == (None, "a smaller tree than the last is not cosigned")
    assert cosigned(hub) == [("Aurora", log.size)]


@pytest.mark.parametrize("remembers", [True, False])
def test_a_forgotten_cosignature_of_another_history_is_evidence(
    aurora: Lab, hub: LyingHub, log: ForumLog, remembers: bool
) -> None:
    if remembers:
        aurora.sync()
    grow(hub, log)
    made = cosign(hub, "Aurora", [*branch(log, log.size - 1), b"more"])
    hub.cosigned = [made]
    grow(hub, log, 4)
    caught = aurora.refused_with(Fault.FORK, "forked")
    assert json.loads(caught.evidence.read_text())["documents"]["old_checkpoint"] == made
    hub.cosigned = [cosign(hub, "Aurora", [*entries_of(log), b"more"])]
    aurora.refused_with(Fault.ROLL_BACK, "rolled_back")


def test_a_witness_killed_before_it_sent_sends_what_it_kept(
    aurora: Lab, hub: LyingHub, log: ForumLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr("member_client.hub_connection.HubConnection.send_cosignature", killed)
        with pytest.raises(Killed):
            aurora.sync()
    last = aurora.witness_key().last()
    assert last is not None
    assert hub.cosigned == []
    aurora.sync()
    assert hub.cosigned == [last.note]
    # And what it had kept binds it, sent or not.
    with monkeypatch.context() as dying:
        dying.setattr("member_client.hub_connection.HubConnection.send_cosignature", killed)
        grow(hub, log)
        with pytest.raises(Killed):
            aurora.sync()
    aurora.store.close()
    aurora.home.joinpath("store.sqlite").unlink()
    again = Lab(aurora.home, hub, log.fingerprint)
    again.cosigns = True
    hub.entries = branch(log, log.size - 1)
    again.refused_with(Fault.FORK, "forked")
    assert len(hub.cosigned) == 1
    again.store.close()


def test_a_witness_killed_before_it_kept_anything_has_sent_nothing(
    aurora: Lab, hub: LyingHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("member_client.sync.cosigning.write_privately", full)
    report = aurora.sync()
    assert report.witness is not None
    assert "No space left" in report.witness.problem
    assert hub.cosigned == []


def test_an_answer_from_before_another_run_went_further_accuses_nobody(
    aurora: Lab, hub: LyingHub, log: ForumLog
) -> None:
    early = hub.checkpoint()
    grow(hub, log)
    aurora.sync()
    assert aurora.sync(note=early).cursor == log.size
    aurora.store.close()
    (aurora.home / "store.sqlite").unlink()
    aurora.store = Store(aurora.home / "store.sqlite")  # which knows less than what was cosigned
    assert aurora.sync(note=early).cursor == log.size
    hub.entries = hub.entries[:-1]
    with pytest.raises(VerificationFailed) as caught:
        aurora.sync(note=early)
    assert caught.value.misbehaviour.fault is Fault.ROLL_BACK


def test_nor_does_one_at_a_home_that_cosigns_nothing(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    aurora.cosigns = False
    early = hub.checkpoint()
    grow(hub, log)
    aurora.sync()
    assert aurora.sync(note=early).cursor == log.size


def test_a_hub_that_forgot_is_shown_what_was_cosigned_though_the_store_is_new(aurora: Lab, hub: LyingHub) -> None:
    aurora.sync()
    kept = aurora.witness_key().last()
    assert kept is not None
    aurora.store.close()
    (aurora.home / "store.sqlite").unlink()
    aurora.store = Store(aurora.home / "store.sqlite")
    hub.lie = halted("log_rolled_back")
    with pytest.raises(HubUnreachable):
        aurora.sync()
    assert hub.reminded == [kept.note]


def test_an_answer_that_came_already_is_not_asked_for_again(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    aurora.sync()
    grow(hub, log)
    hub.requests.clear()
    assert aurora.sync(note=hub.checkpoint()).cursor == log.size
    assert "/checkpoint" not in hub.requests
    hub.requests.clear()
    assert aurora.sync(note=hub.checkpoint()).cursor == log.size  # nothing new is an answer, too
    assert "/checkpoint" not in hub.requests


class Killed(BaseException):
    """As if by kill -9: nothing that comes after is done."""


def killed(*_: object) -> None:
    raise Killed


HISTORIES = st.lists(
    st.sampled_from(["grow", "grow", "fork", "shrink", "later", "die before it keeps", "die before it sends"]),
    min_size=4,
    max_size=10,
)


@pytest.fixture
def connection(hub: LyingHub) -> Iterator[HubConnection]:
    with HubConnection(hub.url, key("Aurora sync"), attempts=1) as made:
        yield made


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_a_witness_never_cosigns_two_histories(
    tmp_path_factory: pytest.TempPathFactory,
    hub: LyingHub,
    log: ForumLog,
    connection: HubConnection,
    history: list[str],
) -> None:
    """Whatever the hub shows, and whenever the witness dies: all that it ever signed is of one log, and grows."""
    signer = key("Aurora witness")
    kept_at = tmp_path_factory.mktemp("witness") / "cosigned"
    witness = WitnessKey(witness_key(AURORA, signer.public_key), kept_at, lambda: signer)
    hub.entries, hub.cosigned = [b"entry 0"], []
    hub.lie = lambda path, answer: Answer(200, b'{"checkpoints": []}') if path.startswith("/cosig") else answer
    shown: dict[Checkpoint, list[bytes]] = {}
    moment = time.time()
    for number, step in enumerate(history, start=1):
        match step:
            case "grow" | "die before it keeps" | "die before it sends":
                hub.entries = [*hub.entries, b"entry %d" % number]
            case "fork":
                hub.entries = [*hub.entries[:-1], b"entry %d" % number]
            case "shrink":
                hub.entries = hub.entries[:-1] or hub.entries
            case "later":
                moment += RENEW_SECONDS
        newest = open_checkpoint(hub.checkpoint(), LOG)
        shown[newest.checkpoint] = list(hub.entries)
        cosign_once(witness, log, connection, newest, moment, step)
    kept = witness.last()
    signed = [*hub.cosigned, *([kept.note] if kept is not None else [])]
    heads = [checkpoints.parse_text(notes.parse(note.encode()).text) for note in signed]
    longest = shown[max(heads, key=lambda head: head.size)] if heads else []
    for head in heads:
        assert head.root == root_from_leaves(map(leaf_hash, longest[: head.size]))
    sizes = [head.size for head in heads[: len(hub.cosigned)]]
    assert sizes == sorted(sizes, reverse=True)  # the newest is the first


def cosign_once(
    key: WitnessKey, log: ForumLog, connection: HubConnection, newest: TrustedCheckpoint, moment: float, step: str
) -> None:
    with pytest.MonkeyPatch.context() as dying:
        if step == "die before it keeps":
            dying.setattr(WitnessKey, "keep", killed)
        elif step == "die before it sends":
            dying.setattr(HubConnection, "send_cosignature", killed)
        witness = Witness(connection, [key], lambda: moment, cosigns=True)
        tree = VerifiedTree(newest.checkpoint.size, newest.checkpoint.root, connection.tile)
        with contextlib.suppress(Misbehaviour, Killed):
            witness.check(newest, tree, LogHistory.of(LOG))
            witness.cosign(newest, LogHistory.of(LOG), log.membership)


def test_the_sync_succeeds_though_the_hub_takes_no_cosignature(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    for status, says in ((404, "not as a Stillwatch hub would"), (503, "it answered 503")):
        hub.takes_cosignatures = status
        report = aurora.sync()
        assert report.cursor == log.size
        assert report.witness is not None
        assert says in report.witness.problem
    hub.lie = lambda path, answer: Answer(404) if path.startswith("/cosignatures") else answer
    report = aurora.sync()
    assert report.witness is not None
    assert "cannot be asked what is cosigned already" in report.witness.problem
    assert hub.cosigned == []


def test_a_damaged_memory_is_never_taken_for_none(aurora: Lab, hub: LyingHub) -> None:
    aurora.sync()
    path = aurora.home / "cosigned"
    whole = path.read_bytes()
    others = hub.checkpoint(hub.entries[:-1])
    for damaged in (b"", whole[:-9], whole.replace(b"\n4\n", b"\n3\n"), others):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInput, match="is damaged"):
            aurora.sync()
    path.write_bytes(whole)
    aurora.sync()


def test_a_key_that_is_not_registered_or_revoked_cosigns_nothing(aurora: Lab, hub: LyingHub, log: ForumLog) -> None:
    revoked, before = revoke_body("Aurora witness"), log.membership
    log.say("membership.revoke_key", AURORA, AURORA, revoked, ["Aurora owner"])
    hub.entries = entries_of(log)
    report = aurora.sync()
    assert report.witness is not None
    assert (report.witness.cosigned, hub.cosigned) == (None, [])
    for cosigns, state, registered in ((True, Membership(), False), (True, before, True), (False, Membership(), True)):
        asks_nobody = Witness(None, [aurora.witness_key()], cosigns=cosigns)  # type: ignore[arg-type]
        assert asks_nobody.is_registered(state) is registered


def test_a_home_that_is_not_to_cosign_is_still_held_to_what_it_cosigned(
    aurora: Lab, hub: LyingHub, log: ForumLog, connection: HubConnection
) -> None:
    aurora.sync()
    newest, logs = open_checkpoint(hub.checkpoint(hub.entries[:-1]), LOG), LogHistory.of(LOG)
    hub.cosigned, tree = [], VerifiedTree(log.size - 1, newest.checkpoint.root, connection.tile)
    hub.requests.clear()
    silent = Witness(connection, [aurora.witness_key()])
    with pytest.raises(Misbehaviour) as caught:
        silent.check(newest, tree, logs)
    assert caught.value.fault is Fault.ROLL_BACK
    newest = open_checkpoint(hub.checkpoint(), LOG)
    silent.check(newest, VerifiedTree(log.size, newest.checkpoint.root, connection.tile), logs)
    silent.cosign(newest, logs, log.membership)
    assert silent.report is None
    assert not [path for path in hub.requests if "cosignatures" in path]


def test_a_home_without_a_witness_key_cosigns_nothing(hub: LyingHub, log: ForumLog, connection: HubConnection) -> None:
    newest, logs = open_checkpoint(hub.checkpoint(), LOG), LogHistory.of(LOG)
    keyless = Witness(connection, cosigns=True)
    keyless.check(newest, VerifiedTree(log.size, newest.checkpoint.root, connection.tile), logs)
    keyless.cosign(newest, logs, log.membership)
    assert keyless.report is not None
    assert (keyless.report.cosigned, keyless.report.problem) == (None, "")
    assert hub.requests == []

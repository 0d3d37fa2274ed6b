"""Members as witnesses: what they cosign, what they never cosign, and what others make of it.

Three labs with a witness key each. Who is killed, restored or robbed is a lab; who lies is the hub.
"""

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

from member_client.errors import InvalidInput, VerificationFailed
from member_client.hub_connection import HubConnection
from member_client.sync.cosigning import RENEW_SECONDS, Witness, WitnessKey
from member_client.sync.store import Store
from sharing_protocol import checkpoints, notes, witness_policy
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.keys import encode_base64
from sharing_protocol.membership import Membership
from sharing_protocol.merkle import inclusion_proof, leaf_hash, root_from_leaves, subtree_root
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.trust import TrustedCheckpoint, open_checkpoint
from sharing_protocol.wire import Receipt
from sharing_protocol.witness_policy import MembersRule
from sharing_protocol.witnesses import witness_key
from tests.member_client.follower import MAX_AGE, MEMBERS, Lab, entries_of
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    LOG,
    LOG_KEY,
    ORIGIN,
    ForumLog,
    admit_body,
    founded,
    identifier,
    key,
    lab_keys,
    pattern_body,
    registration,
    revoke_body,
)

ADMINS = ["Ada", "Ben"]
MAJORITY = MembersRule(None)


def forum_of_witnesses() -> ForumLog:
    log = founded()
    for name, member in MEMBERS.items():
        keys = [*lab_keys(name), (f"{name} witness", "witness")]
        log.say("membership.admit", member, FORUM, admit_body(member, name, keys), ADMINS)
    return log


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


def grow(hub: LyingHub, log: ForumLog, count: int = 1) -> None:
    """Let the log have so many patterns more."""
    for _ in range(count):
        body = pattern_body(title=f"Pattern {log.size}")
        log.say("pattern", identifier("pattern", 0x100 + log.size), AURORA, body, ["Aurora analyst"])
    hub.entries = entries_of(log)


def branch(log: ForumLog, size: int, title: str = "Another history") -> list[bytes]:
    """The log's first entries, and one that it does not have."""
    twin = ForumLog()
    for made in log.entries[:size]:
        twin.append(made)
    twin.say("pattern", identifier("pattern", 0x999), BOREAL, pattern_body(title=title), ["Boreal analyst"])
    return entries_of(twin)


def cosigned(hub: LyingHub) -> list[tuple[str, int]]:
    """Who sent what to the hub, the newest first: names and sizes. Every line holds."""
    found = []
    for text in hub.cosigned:
        note = notes.parse(text.encode())
        witness = note.signatures[-1]
        name = next(name for name, member in MEMBERS.items() if member == witness.name)
        assert notes.verify(note, [witness_key(witness.name, key(f"{name} witness").public_key)])
        found.append((name, checkpoints.parse_text(note.text).size))
    return found


def cosign(hub: LyingHub, name: str, entries: list[bytes], at: float | None = None, signer: str = "") -> str:
    """A note of these entries by the log's key, cosigned in a lab's name; put where the hub shows it."""
    head = Checkpoint(ORIGIN, len(entries), root_from_leaves(leaf_hash(entry) for entry in entries))
    note = checkpoints.sign(head, LOG_KEY)
    made = checkpoints.cosign(
        note, MEMBERS[name], key(signer or f"{name} witness"), int(time.time() if at is None else at)
    )
    hub.cosigned.insert(0, str(made))
    return str(made)


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
            witness.check(newest, tree, LOG)
            witness.cosign(newest, LOG, log.membership)


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
    revoked = revoke_body("Aurora witness")
    log.say("membership.revoke_key", AURORA, AURORA, revoked, ["Aurora owner"])
    hub.entries = entries_of(log)
    report = aurora.sync()
    assert report.witness is not None
    assert (report.witness.cosigned, hub.cosigned) == (None, [])
    assert not Witness(None, [aurora.witness_key()], cosigns=True).is_registered(Membership())  # type: ignore[arg-type] # it asks nobody


# -- what others make of it ----------------------------------------------------------------------------------------


def reader(tmp_path: Path, hub: LyingHub, log: ForumLog, rule: str = "majority") -> Lab:
    """A home of Aurora's that cosigns nothing, and believes what its rule allows."""
    made = Lab(tmp_path / "reader", hub, log.fingerprint)
    made.rule = witness_policy.parse(rule.encode())
    return made


@pytest.fixture
def wary(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    made = reader(tmp_path, hub, log)
    yield made
    made.store.close()


def test_nothing_is_believed_before_a_majority_has_cosigned(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    report = wary.sync()
    assert (report.cursor, wary.store.trusted()) == (0, None)
    labs[0].sync()
    report = wary.sync()
    assert (report.cursor, wary.store.trusted()) == (0, None)
    assert report.waiting.startswith("1 have cosigned it lately, 2 must; missing: ")
    labs[1].sync()
    report = wary.sync()
    assert (report.cursor, report.waiting) == (log.size, "")
    trusted = wary.store.trusted()
    assert trusted is not None
    assert {line.name for line in notes.parse(trusted.note.encode()).signatures} == {ORIGIN, AURORA, BOREAL}
    grow(hub, log)
    report = wary.sync()
    assert report.cursor == log.size - 1
    assert report.waiting == "0 have cosigned it lately, 2 must; missing: Aurora, Boreal, Cirrus"
    labs[1].sync()
    assert wary.sync().waiting == "1 have cosigned it lately, 2 must; missing: Aurora, Cirrus"
    labs[2].sync()
    assert wary.sync().cursor == log.size


def test_witnesses_that_sync_at_different_moments_come_to_a_quorum(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    for lab in labs:
        lab.sync()
        grow(hub, log, 2)
    report = wary.sync()
    # Boreal has cosigned two entries more than Aurora, Cirrus four: of the three, two have seen what Boreal saw.
    assert (report.cursor, log.size) == (6, 10)
    assert report.waiting.startswith("0 have cosigned it lately")


def test_witnesses_with_a_policy_of_their_own_do_not_wait_for_each_other(
    labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    for lab in labs:
        lab.rule = MAJORITY
    assert [lab.sync().cursor for lab in labs] == [0, log.size, log.size]
    assert labs[0].sync().cursor == log.size
    grow(hub, log)
    assert [lab.sync().cursor for lab in labs] == [log.size - 1, log.size, log.size]


def test_one_short_of_the_quorum_is_too_few(wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog) -> None:
    wary.rule = MembersRule(3)
    for lab in labs[:2]:
        lab.sync()
    assert wary.sync().cursor == 0
    labs[2].sync()
    assert wary.sync().cursor == log.size


def test_one_lab_with_two_witness_keys_counts_once(wary: Lab, hub: LyingHub, log: ForumLog) -> None:
    added = {"key": registration("Aurora second", "witness", AURORA), "reason": "Another machine"}
    log.say("membership.add_key", AURORA, AURORA, added, ["Aurora owner"])
    hub.entries = entries_of(log)
    cosign(hub, "Aurora", hub.entries)
    cosign(hub, "Aurora", hub.entries, signer="Aurora second")
    assert wary.sync().cursor == 0
    cosign(hub, "Cirrus", hub.entries)
    assert wary.sync().cursor == log.size


def test_other_keys_of_a_lab_do_not_count(wary: Lab, hub: LyingHub, log: ForumLog) -> None:
    cosign(hub, "Aurora", hub.entries)
    for other in ("Boreal analyst", "Boreal sync", "Boreal owner", "Aurora witness", "nobody"):
        cosign(hub, "Boreal", hub.entries, signer=other)
    assert wary.sync().cursor == 0
    cosign(hub, "Boreal", hub.entries)
    assert wary.sync().cursor == log.size


def test_a_stolen_key_counts_no_longer_than_until_it_is_revoked(wary: Lab, hub: LyingHub, log: ForumLog) -> None:
    before = list(hub.entries)
    log.say("membership.revoke_key", BOREAL, BOREAL, revoke_body("Boreal witness"), ["Boreal owner"])
    grow(hub, log)
    cosign(hub, "Aurora", hub.entries)
    cosign(hub, "Boreal", hub.entries)
    # For what was before the revocation it counts, for what was after it does not.
    assert wary.sync().cursor == 0
    cosign(hub, "Boreal", before)
    report = wary.sync()
    assert report.cursor == len(before)
    assert report.waiting == "1 have cosigned it lately, 2 must; missing: Cirrus"


@pytest.mark.parametrize("change", ["time", "signature", "checkpoint"])
def test_forged_and_replayed_cosignatures_are_a_forgery(wary: Lab, hub: LyingHub, log: ForumLog, change: str) -> None:
    made = notes.parse(cosign(hub, "Boreal", hub.entries).encode())
    hub.cosigned.clear()
    line = made.signatures[-1]
    if change == "checkpoint":
        grow(hub, log)
        made = notes.parse(hub.checkpoint())
        forged = line
    elif change == "time":
        forged = notes.NoteSignature(line.name, line.key_id, (2**40).to_bytes(8) + line.value[8:])
    else:
        forged = notes.NoteSignature(line.name, line.key_id, line.value[:-1] + bytes([line.value[-1] ^ 1]))
    others = [other for other in made.signatures if other.name == ORIGIN]
    hub.cosigned = [str(notes.Note(made.text, (*others, forged)))]
    wary.refused_with(Fault.FORGE, "bad_note_signature")


def test_cosignatures_of_another_history_are_a_fork(wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog) -> None:
    grow(hub, log, 2)
    for lab in labs:
        lab.sync()
    wary.sync()
    shown = cosign(hub, "Boreal", branch(log, log.size - 1))
    caught = wary.refused_with(Fault.FORK, "forked")
    documents = json.loads(caught.evidence.read_text())["documents"]
    assert notes.parse(documents["old_checkpoint"].encode()) == notes.parse(shown.encode())
    hub.cosigned = [str(notes.Note(notes.parse(shown.encode()).text, notes.parse(shown.encode()).signatures[1:]))]
    wary.refused_with(Fault.FORGE, "unsigned_checkpoint")  # and nobody but the log is blamed for what it did not sign


def test_a_hub_that_strips_cosignatures_freezes_in_the_end(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    for lab in labs:
        lab.sync()
    wary.sync()
    grow(hub, log)
    for lab in labs:
        lab.sync()
    taken, hub.cosigned = hub.cosigned, []
    report = wary.sync()
    assert report.cursor == log.size - 1
    assert report.waiting
    later = time.time() + MAX_AGE + 60
    hub.clock = lambda: later
    caught = wary.refused_with(Fault.FREEZE, "unwitnessed_checkpoint", clock=lambda: later)
    assert "missing: Aurora, Boreal, Cirrus" in str(caught)
    # Old cosignatures show that it once was the newest, and not that it is.
    hub.cosigned = taken
    wary.refused_with(Fault.FREEZE, "unwitnessed_checkpoint", clock=lambda: later)
    for lab in labs[:2]:
        lab.sync(clock=lambda: later)
    assert wary.sync(clock=lambda: later).cursor == log.size


def test_an_idle_log_stays_believed_while_it_is_cosigned_anew(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    now = time.time()
    for step in range(6):
        moment = now + step * 400
        hub.clock = lambda moment=moment: moment  # type: ignore[misc] # bound now
        for lab in labs[:2]:
            lab.sync(clock=hub.clock)
        report = wary.sync(clock=hub.clock)
        assert (report.cursor, report.waiting) == (log.size, "")
        assert report.checkpoint_age < 2


def test_cosignatures_of_the_future_count_for_nothing(wary: Lab, hub: LyingHub) -> None:
    for name in ("Aurora", "Boreal", "Cirrus"):
        cosign(hub, name, hub.entries, at=time.time() + 400)
    assert wary.sync().cursor == 0


def test_a_policy_of_named_witnesses_holds_from_the_first_contact_on(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    boreal, cirrus = (lab.witness_key().verifier for lab in labs[1:])
    wary.rule = witness_policy.parse_text(
        f"witness boreal {boreal}\nwitness cirrus {cirrus}\ngroup both all boreal cirrus\nquorum both\n".encode()
    )
    labs[0].sync()
    labs[1].sync()
    report = wary.sync()
    assert report.cursor == 0
    assert report.waiting == "1 have cosigned it lately, 2 must; missing: cirrus"
    labs[2].sync()
    assert wary.sync().cursor == log.size
    wary.rule = witness_policy.parse_text(b"quorum none\n")
    grow(hub, log)
    assert wary.sync().cursor == log.size
    foreign = notes.VerifierKey("other.example/log", notes.SignatureType.ED25519, key("other").public_key)
    wary.rule = witness_policy.parse_text(f"log {foreign}\nquorum none\n".encode())
    with pytest.raises(InvalidInput, match="about other logs"):
        wary.sync()


def test_receipts_are_not_settled_by_what_is_not_believed(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog
) -> None:
    for lab in labs:
        lab.sync()
    wary.sync()
    grow(hub, log)
    leaves = [leaf_hash(entry) for entry in hub.entries]

    def node(height: int, index: int) -> bytes:
        return subtree_root(leaves[index << height : (index + 1) << height])

    proof = inclusion_proof(log.size - 1, log.size, node)
    receipt = Receipt(
        index=log.size - 1,
        entry=leaves[-1].hex(),
        inclusion_proof=[encode_base64(step) for step in proof],
        checkpoint=hub.checkpoint().decode(),
        already_logged=False,
    )
    wary.store.put_receipt(receipt.entry, receipt.index, receipt.model_dump_json())
    assert wary.sync().cursor == log.size - 1
    assert wary.store.unsettled_receipts()
    for lab in labs:
        lab.sync()
    assert wary.sync().cursor == log.size
    assert not wary.store.unsettled_receipts()

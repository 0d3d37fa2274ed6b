"""Members that believe what others have witnessed, and what a hub may do about that. Who lies is the hub."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from member_client.errors import InvalidInput
from sharing_protocol import envelope, notes, witness_policy
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Fault
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import inclusion_proof, leaf_hash, subtree_root
from sharing_protocol.wire import Receipt
from sharing_protocol.witness_policy import MembersRule
from tests.member_client.follower import MAX_AGE, Lab, entries_of
from tests.member_client.lying_hub import LyingHub
from tests.member_client.witness_forum import branch, cosign, forum_of_witnesses, grow
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    LOG,
    ORIGIN,
    Document,
    ForumLog,
    add_key_body,
    key,
    registration,
    revoke_body,
    signed,
)

MAJORITY = MembersRule(None)


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
    hub.requests.clear()
    assert [lab.sync().cursor for lab in labs] == [log.size - 1, log.size, log.size]
    assert hub.requests.count("POST /cosignatures") == len(labs)


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


def spelt_with_escapes(document: Document) -> Envelope:
    """The same statement, whose type no search for its letters finds."""
    spelling = json.dumps(document).replace("membership.revoke_key", "\\u006dembership\\u002erevoke_key")
    return envelope.sign(spelling.encode(), [key("Boreal owner")])


def spelt_plainly(document: Document) -> Envelope:
    return signed(document, "Boreal owner")


@pytest.mark.parametrize("spelt", [spelt_plainly, spelt_with_escapes])
def test_a_revocation_that_is_not_stored_yet_counts_too(
    wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog, spelt: Callable[[Document], Envelope]
) -> None:
    for lab in labs[:2]:
        lab.sync()
    assert wary.sync().cursor == log.size
    log.append(spelt(log.next("membership.revoke_key", BOREAL, BOREAL, revoke_body("Boreal witness"))))
    log.say("membership.add_key", BOREAL, BOREAL, add_key_body("Boreal next", "witness", BOREAL), ["Boreal owner"])
    hub.entries = entries_of(log)
    cosign(hub, "Aurora", hub.entries)
    cosign(hub, "Boreal", hub.entries)
    report = wary.sync()
    assert report.cursor == log.size - 2
    assert report.waiting == "1 have cosigned it lately, 2 must; missing: Boreal, Cirrus"
    cosign(hub, "Boreal", hub.entries, signer="Boreal next")
    assert wary.sync().cursor == log.size


def test_what_has_no_right_to_be_there_revokes_nobody(wary: Lab, hub: LyingHub, log: ForumLog) -> None:
    """Read ahead, such entries change nothing, and stop nothing."""
    document = log.next("membership.revoke_key", BOREAL, BOREAL, revoke_body("Boreal witness"))
    intruders = [
        signed(document, "Cirrus owner").encode(),
        signed({**document, "schema": 2}, "Boreal owner").encode(),
        signed({**document, "extra": 1}, "Boreal owner").encode(),
        b'{"type":"membership.revoke_key"}',
    ]
    hub.entries += intruders
    cosign(hub, "Aurora", hub.entries)
    cosign(hub, "Boreal", hub.entries)
    report = wary.sync()
    assert report.cursor == log.size + len(intruders)
    assert [entry.index - log.size for entry in report.rejected] == [0, 2, 3]


def test_older_cosignatures_do_not_take_a_member_back(wary: Lab, labs: list[Lab], hub: LyingHub, log: ForumLog) -> None:
    for lab in labs[:2]:
        lab.sync()
    early = list(hub.cosigned)
    grow(hub, log)
    for lab in labs[:2]:
        lab.sync()
    wary.sync()
    before = wary.store.trusted()
    grow(hub, log)
    hub.cosigned = early
    report = wary.sync()
    assert (report.cursor, wary.store.trusted()) == (log.size - 1, before)
    assert report.waiting


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
        trusted = wary.store.trusted()
        assert trusted is not None
        assert trusted.timestamp >= int(moment), "its age counts from the newest cosignatures"


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
    wary.rule = witness_policy.parse_text(f"log {LOG.log_key}\nquorum none\n".encode())
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

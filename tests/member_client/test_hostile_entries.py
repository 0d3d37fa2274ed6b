"""Entries that a hub has let into its log although no two parsers, or no two readers, would agree on them.

Each is in the signed tree, so the log itself is whole. It must have no effect, must be proven against the hub, and
must never wedge a member. Here too: checkpoints that are signed by others, and places that no tree has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature, pre_authentication_encoding
from sharing_protocol.errors import Fault
from sharing_protocol.keys import encode_base64
from sharing_protocol.merkle import leaf_hash, root_from_leaves
from tests.member_client.follower import Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    ORIGIN,
    PATTERN,
    TIMESTAMP_KEY,
    Document,
    ForumLog,
    admit_body,
    forum_of_two_labs,
    identifier,
    key,
    lab_keys,
    pattern_body,
    payload,
    reason,
    signed,
)


@pytest.fixture
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 3)


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    yield lab
    lab.store.close()


def signed_bytes(data: bytes, *signers: str) -> Envelope:
    """Any bytes in an envelope, signed as a statement is."""
    message = pre_authentication_encoding(STATEMENT_TYPE, data)
    made = [Signature(key(name).public_key.key_id, key(name).sign(message)) for name in signers]
    return Envelope(data, STATEMENT_TYPE, tuple(sorted(made, key=lambda signature: signature.key_id)))


def a_pattern(log: ForumLog) -> Document:
    return log.next("pattern", PATTERN, AURORA, pattern_body())


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[ForumLog], bytes]:
    """A pattern whose signed payload is not quite JSON."""

    def make(log: ForumLog) -> bytes:
        genuine = payload(a_pattern(log))
        changed = change(genuine)
        assert changed != genuine
        return signed_bytes(changed, "Aurora analyst").encode()

    return make


def with_confidence(number: bytes) -> Callable[[ForumLog], bytes]:
    given = b'"confidence":%d' % pattern_body()["confidence"]
    return rewritten(lambda data: data.replace(given, b'"confidence":' + number))


def one_admin_twice(log: ForumLog) -> bytes:
    made = signed(log.next("membership.suspend", BOREAL, FORUM, reason()), "Ada")
    [once] = made.signatures
    line = json.dumps({"keyid": once.key_id, "sig": encode_base64(once.value)}, separators=(",", ":")).encode()
    return made.encode().replace(line, line + b"," + line)


def one_key_under_two_ids(log: ForumLog) -> bytes:
    made = signed(log.next("membership.suspend", BOREAL, FORUM, reason()), "Ada")
    [once] = made.signatures
    other = Signature(hashlib.sha256(b"another name for it").hexdigest(), once.value)
    both = tuple(sorted((once, other), key=lambda signature: signature.key_id))
    return Envelope(made.payload, STATEMENT_TYPE, both).encode()


def a_statement_of_another_forum(log: ForumLog) -> bytes:
    elsewhere = "f" * 64
    return signed({**a_pattern(log), "forum": elsewhere}, "Aurora analyst").encode()


def a_key_of_low_order(log: ForumLog) -> bytes:
    """The neutral element "signs" anything: R = the neutral element, S = 0."""
    member = identifier("member", 0xE)
    neutral = encode_base64(b"\x01" + bytes(31))
    body = admit_body(member, "Evil", lab_keys("Evil"))
    body["keys"][0] |= {"key": neutral, "proof": encode_base64(b"\x01" + bytes(63))}
    return signed(log.next("membership.admit", member, FORUM, body), "Ada", "Ben").encode()


def a_title_that_moves_the_cursor(log: ForumLog) -> bytes:
    return signed(
        log.next("pattern", PATTERN, AURORA, pattern_body(title="\x1b[2J\x1b[HTrust")), "Aurora analyst"
    ).encode()


HOSTILE: dict[str, tuple[Callable[[ForumLog], bytes], str]] = {
    "a member twice in an object": (rewritten(lambda data: data[:-1] + b',"version":2}'), "malformed_json"),
    "nesting beyond measure": (rewritten(lambda data: b"[" * 9_000 + b"]" * 9_000), "malformed_json"),
    "nesting by one too deep": (rewritten(lambda data: b"[" * 33 + b"]" * 33), "malformed_json"),
    "an integer beyond 2^53": (with_confidence(b"9007199254740993"), "malformed_json"),
    "an integer of 20,000 digits": (with_confidence(b"9" * 20_000), "malformed_json"),
    "a number that overflows": (with_confidence(b"1e999"), "malformed_json"),
    "not a number": (with_confidence(b"NaN"), "malformed_json"),
    "infinity": (with_confidence(b"-Infinity"), "malformed_json"),
    "bytes that are not UTF-8": (
        rewritten(lambda data: data.replace(b'"title":"', b'"title":"\xff')),
        "malformed_json",
    ),
    "half a surrogate": (rewritten(lambda data: data.replace(b'"title":"', b'"title":"\\ud800')), "malformed_json"),
    "a created date that no calendar has": (
        rewritten(lambda data: data.replace(b"2026-03-01T", b"2026-02-30T", 1)),
        "invalid_statement",
    ),
    "the year 9999": (rewritten(lambda data: data.replace(b"2026-03-01T", b"9999-03-01T", 1)), "invalid_statement"),
    "one admin signing twice": (one_admin_twice, "duplicate_signature"),
    "one key under two ids": (one_key_under_two_ids, "unknown_key"),
    "a statement of another forum": (a_statement_of_another_forum, "wrong_forum"),
    "a key of low order": (a_key_of_low_order, "invalid_key"),
    "terminal escapes in a title": (a_title_that_moves_the_cursor, "invalid_statement"),
}


@pytest.mark.parametrize(("make", "code"), HOSTILE.values(), ids=HOSTILE)
def test_it_has_no_effect_is_proven_and_never_wedges(
    lab: Lab, hub: LyingHub, log: ForumLog, make: Callable[[ForumLog], bytes], code: str
) -> None:
    entry = make(log)
    hub.entries.append(entry)
    report = lab.sync()
    [refused] = report.rejected
    assert (refused.index, refused.code) == (log.size, code)
    assert report.cursor == log.size + 1
    assert lab.store.membership() == log.membership
    assert lab.store.entry(log.size) == entry, "what the hub let in is kept"
    [evidence] = report.evidence
    assert json.loads(evidence.read_text())["code"] == code


def test_the_same_payload_in_a_second_envelope_is_no_second_version(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    made = signed(log.next("membership.suspend", BOREAL, FORUM, reason()), "Ada", "Ben")
    log.append(made)
    again = signed_bytes(made.payload, "Ada", "Cleo")
    assert again.encode() != made.encode()
    hub.entries = [*entries_of(log), again.encode()]
    [refused] = lab.sync().rejected
    assert (refused.index, refused.code) == (log.size, "version_conflict")


# -- checkpoints by others, and places that are none -----------------------------------------------------------


def by_another_key(hub: LyingHub) -> bytes:
    """The log's name, its key id, and somebody else's key: what a hub without the log's key can do."""
    root = root_from_leaves(leaf_hash(entry) for entry in hub.entries)
    note = checkpoints.sign(Checkpoint(ORIGIN, len(hub.entries), root), key("Mallory"))
    return str(checkpoints.cosign(note, ORIGIN, TIMESTAMP_KEY, int(hub.clock()))).encode()


def with_a_forged_time(hub: LyingHub) -> bytes:
    """A genuine cosignature whose time was put forward."""
    note = notes.parse(hub.checkpoint())
    vouched = note.signatures[1]
    later = (int.from_bytes(vouched.value[:8], "big") + 60).to_bytes(8, "big")
    return str(notes.Note(note.text, (note.signatures[0], notes.NoteSignature(
        vouched.name, vouched.key_id, later + vouched.value[8:]
    )))).encode()  # fmt: skip


def without_a_time(hub: LyingHub) -> bytes:
    note = notes.parse(hub.checkpoint())
    return str(notes.Note(note.text, note.signatures[:1])).encode()


CHECKPOINTS: dict[str, tuple[Callable[[LyingHub], bytes], str]] = {
    "signed by another key": (by_another_key, "unsigned_checkpoint"),
    "with its time put forward": (with_a_forged_time, "bad_note_signature"),
    "without a time": (without_a_time, "untimed_checkpoint"),
    "not UTF-8": (lambda hub: b"\xff" + hub.checkpoint(), "malformed_note"),
    "with a size of twenty digits": (
        lambda hub: hub.checkpoint().replace(b"\n%d\n" % len(hub.entries), b"\n" + b"9" * 20 + b"\n", 1),
        "malformed_checkpoint",
    ),
}


@pytest.mark.parametrize(("make", "code"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_forged_checkpoint_is_named_so(lab: Lab, hub: LyingHub, make: Callable[[LyingHub], bytes], code: str) -> None:
    forged = make(hub)
    hub.lie = lambda path, answer: Answer(200, forged) if path == "/checkpoint" else answer
    lab.refused_with(Fault.FORGE, code)


def test_a_line_by_a_key_that_nobody_knows_changes_nothing(lab: Lab, hub: LyingHub) -> None:
    note = notes.parse(hub.checkpoint())
    more = checkpoints.cosign(note, "somebody.example", key("Mallory"), int(hub.clock()))
    hub.lie = lambda path, answer: Answer(200, str(more).encode()) if path == "/checkpoint" else answer
    assert lab.sync().cursor == len(hub.entries)


def test_a_replayed_checkpoint_is_a_roll_back(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    old = hub.checkpoint()
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    hub.entries = entries_of(log)
    lab.sync()
    hub.lie = lambda path, answer: Answer(200, old) if path == "/checkpoint" else answer
    lab.refused_with(Fault.ROLL_BACK, "rolled_back")


def test_a_tree_larger_than_what_there_is_withholds(lab: Lab, hub: LyingHub) -> None:
    """A signed size that the hub cannot fill: it has no tile for it, or it has one of another tree."""
    padded = [*hub.entries, *[b"there is no such entry"] * 300]
    note = hub.checkpoint(padded)
    hub.lie = lambda path, answer: Answer(200, note) if path == "/checkpoint" else answer
    lab.refused_with(Fault.WITHHOLD, "withheld")


def test_a_log_forked_for_two_labs_leaves_each_with_proof(tmp_path: Path, hub: LyingHub, log: ForumLog) -> None:
    """Alone neither lab can know. The moment either is shown the other's log, both signed heads are evidence."""
    twin = log.copy()
    log.say("pattern", PATTERN, AURORA, pattern_body(title="For one"), ["Aurora analyst"])
    twin.say("pattern", PATTERN, AURORA, pattern_body(title="For the other"), ["Aurora analyst"])
    labs = []
    for name, shown in (("one", log), ("other", twin)):
        hub.entries = entries_of(shown)
        lab = Lab(tmp_path / name, hub, log.fingerprint)
        lab.sync()
        labs.append(lab)
    hub.entries = entries_of(log)
    assert labs[0].sync().cursor == log.size
    failure = labs[1].refused_with(Fault.FORK, "forked")
    documents = json.loads(failure.evidence.read_text())["documents"]
    roots = {notes.parse(documents[name].encode()).text for name in ("old_checkpoint", "new_checkpoint")}
    assert len(roots) == 2
    for lab in labs:
        lab.store.close()

"""Whose forum it is: the pinned fingerprint decides, whatever the hub has signed and wherever it shows what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from member_client.errors import HubUnreachable, InvalidInput
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature
from sharing_protocol.errors import Fault
from sharing_protocol.keys import decode_base64
from sharing_protocol.tiles import encode_bundle
from tests.member_client.follower import Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, Lie, LyingHub
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    PATTERN,
    ForumLog,
    admit_body,
    forum_of_two_labs,
    found_body,
    identifier,
    lab_keys,
    pattern_body,
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


def another_forum() -> list[bytes]:
    """A whole history by other admins, in a log of the same keys: what a hub's operator can always write."""
    usurped = ForumLog()
    forum = identifier("forum", 0xE)
    usurped.say("membership.found", forum, forum, found_body(admins=["Mallory"], threshold=1), ["Mallory"])
    usurped.say("membership.admit", AURORA, forum, admit_body(AURORA, "Aurora", lab_keys("Evil")), ["Mallory"])
    usurped.say("pattern", PATTERN, AURORA, pattern_body(title="Evil"), ["Evil analyst"])
    return entries_of(usurped)


def at_first_contact(entry: bytes) -> Lie:
    """Show this entry to whoever asks for entry 0 alone, as a client does that knows nothing yet."""
    content = encode_bundle([entry])
    return lambda path, answer: Answer(200, content) if path == "/tile/entries/000.p/1" else answer


def test_a_log_of_another_forum_behind_the_genuine_founding_statement_is_forged(
    lab: Lab, hub: LyingHub, log: ForumLog
) -> None:
    hub.entries = another_forum()
    hub.lie = at_first_contact(entries_of(log)[0])
    failure = lab.refused_with(Fault.FORGE, "wrong_forum")
    assert lab.store.membership().forum is None
    kept = json.loads(failure.evidence.read_text())["documents"]
    assert kept["entry"] == hub.entries[0].decode()
    assert kept["checkpoint"].startswith("forum.example/log\n3\n")


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_hub_that_withholds_the_proof_of_it_is_refused_all_the_same(
    lab: Lab, hub: LyingHub, log: ForumLog, status: int
) -> None:
    hub.entries = [*another_forum(), *(b"entry %d" % number for number in range(300))]
    behind_the_genuine = at_first_contact(entries_of(log)[0])
    hub.lie = lambda path, answer: (
        Answer(status) if status != 200 and path == "/tile/0/000" else behind_the_genuine(path, answer)
    )
    failure = lab.refused_with(Fault.FORGE, "wrong_forum")
    kept = json.loads(failure.evidence.read_text())["documents"]
    assert kept["entry"] == hub.entries[0].decode()
    assert ("inclusion_proof" in kept, "index" in kept) == (status == 200, status == 200)


def test_a_log_that_does_not_begin_with_a_founding_statement_is_forged(lab: Lab, hub: LyingHub, log: ForumLog) -> None:
    for first in (b"{}", b"", entries_of(log)[1]):
        hub.entries = [first, *entries_of(log)[1:]]
        hub.lie = at_first_contact(entries_of(log)[0])
        lab.refused_with(Fault.FORGE, "wrong_forum")


def test_what_has_the_pinned_hash_and_founds_nothing_is_forged(tmp_path: Path, hub: LyingHub, log: ForumLog) -> None:
    later = signed({**json.loads(log.entries[0].payload), "schema": 2}, "Ada", "Ben")
    hub.entries[0] = later.encode()
    lab = Lab(tmp_path / "lab", hub, later.payload_sha256)
    caught = lab.refused_with(Fault.FORGE, "not_founded")
    kept = json.loads(caught.evidence.read_text())["documents"]
    assert decode_base64(kept["bundle"], "the bundle") == encode_bundle(hub.entries[:1])
    lab.store.close()


def test_the_genuine_founding_statement_without_its_signatures_is_forged(
    lab: Lab, hub: LyingHub, log: ForumLog
) -> None:
    genuine = log.entries[0]
    unsigned = Envelope(
        genuine.payload,
        STATEMENT_TYPE,
        tuple(Signature(signature.key_id, bytes(64)) for signature in genuine.signatures),
    )
    hub.entries[0] = unsigned.encode()
    lab.refused_with(Fault.FORGE, "bad_signature")
    hub.lie = at_first_contact(genuine.encode())
    lab.refused_with(Fault.FORGE, "wrong_forum")


def test_the_genuine_founding_statement_signed_by_other_admins_is_the_same_forum(
    lab: Lab, hub: LyingHub, log: ForumLog
) -> None:
    # The fingerprint is of the payload: which of the admins signed, and in which envelope, does not change it.
    document = json.loads(log.entries[0].payload)
    hub.entries[0] = signed(document, "Ben", "Cleo").encode()
    hub.lie = at_first_contact(log.entries[0].encode())
    assert lab.sync().rejected == []
    assert lab.store.membership() == log.membership


def test_a_store_of_another_forum_is_not_followed_further(tmp_path: Path, hub: LyingHub, log: ForumLog) -> None:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    lab.sync()
    moved = Lab(tmp_path / "lab", hub, "0" * 64)
    before = lab.contents()
    hub.requests.clear()
    with pytest.raises(InvalidInput, match="is of forum") as caught:
        moved.sync()
    assert "another --home" in caught.value.hint
    assert lab.contents() == before
    assert hub.requests == []
    lab.store.close()
    moved.store.close()


def test_a_store_whose_founding_entry_was_exchanged_is_not_followed_further(
    tmp_path: Path, hub: LyingHub, log: ForumLog
) -> None:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    lab.sync()
    with lab.store.transaction():
        lab.store._database.execute("UPDATE entries SET envelope = ? WHERE idx = 0", (another_forum()[0],))
    lab.store.close()
    reopened = Lab(tmp_path / "lab", hub, log.fingerprint)
    with pytest.raises(InvalidInput, match="is of forum"):
        reopened.sync()
    reopened.store.close()


def test_an_empty_log_is_no_lie_yet(lab: Lab, hub: LyingHub) -> None:
    hub.entries = []
    with pytest.raises(HubUnreachable, match="founding statement"):
        lab.sync()
    assert FORUM not in str(lab.contents())

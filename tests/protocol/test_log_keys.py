"""The log's keys are exchanged: who may say so, which keys sign which tree, and what the old ones are good for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sharing_protocol import checkpoints, merkle, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.keys import PrivateKey, encode_base64
from sharing_protocol.log_keys import LogCard, LogHistory, log_card, mark_of
from sharing_protocol.notes import NoteSignature, SignatureType, VerifierKey
from sharing_protocol.statements.membership import LogIdentity
from sharing_protocol.trust import check_keys, check_receipt, open_checkpoint
from sharing_protocol.wire import Receipt
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    LOG,
    LOG_KEY,
    ORIGIN,
    TIMESTAMP_KEY,
    Document,
    ForumLog,
    change_log_body,
    forum_of_two_labs,
    identifier,
    key,
    log_of,
    pattern_body,
    reason,
    signed,
)
from tests.protocol.refusals import code_of, refuses

TWO = ["Ada", "Ben"]
NOON = 1_772_366_400


def changing(log: ForumLog, body: Document, *signers: str, **changes: Any) -> Envelope:
    return signed(log.next("membership.change_log", FORUM, FORUM, body) | changes, *signers)


def history_of(log: ForumLog) -> LogHistory:
    assert log.membership.forum is not None
    return log.membership.forum.logs


def note_of(log: ForumLog, size: int, log_key: PrivateKey, timestamp_key: PrivateKey) -> bytes:
    root = merkle.root_from_leaves(merkle.leaf_hash(made.encode()) for made in log.entries[:size])
    signed_head = checkpoints.sign(Checkpoint(ORIGIN, size, root), log_key)
    return str(checkpoints.cosign(signed_head, ORIGIN, timestamp_key, NOON)).encode()


@pytest.fixture
def log() -> ForumLog:
    """Five entries; entry 3 names the keys `log 2` and `timestamp 2`."""
    log = forum_of_two_labs()
    log.say("membership.change_log", FORUM, FORUM, change_log_body("2"), TWO)
    log.say("pattern", identifier("pattern", 1), AURORA, pattern_body(), ["Aurora analyst"])
    return log


# -- who may say so ----------------------------------------------------------------------------------------------


def test_a_quorum_of_the_admins_exchanges_the_logs_keys() -> None:
    log = forum_of_two_labs()
    refuses(log, changing(log, change_log_body("2"), "Ada"), "insufficient_signatures")
    assert history_of(log) == LogHistory.of(LOG)
    log.append(changing(log, change_log_body("2"), *TWO))
    assert [(term.since, term.log) for term in history_of(log).terms] == [(0, LOG), (3, log_of("2"))]
    assert log.membership.forum is not None
    assert log.membership.forum.log == log_of("2")


@pytest.mark.parametrize(
    ("signers", "author", "code"),
    [
        (["Aurora owner"], AURORA, "not_the_author"),
        (["Aurora owner", "Ada"], FORUM, "unexpected_signature"),
        (["log"], FORUM, "unknown_key"),  # neither the old log key nor the new one has a say
        (["Ada", "Ben", "log 2"], FORUM, "unknown_key"),
    ],
)
def test_nobody_else_exchanges_them(signers: list[str], author: str, code: str) -> None:
    log = forum_of_two_labs()
    refuses(log, changing(log, change_log_body("2"), *signers, author=author), code)


def test_a_change_is_for_one_state_of_the_forum() -> None:
    log = forum_of_two_labs()
    early = changing(log, change_log_body("2"), *TWO)
    log.say("membership.change_log", FORUM, FORUM, change_log_body("3"), TWO)
    refuses(log, early, "version_conflict", "version")
    log = forum_of_two_labs()
    refuses(log, changing(log, change_log_body("2"), *TWO, version=3), "version_gap", "version")
    refuses(log, changing(log, change_log_body("2"), *TWO, forum="00" * 32), "wrong_forum", "forum")


def of_kind(kind: SignatureType, name: str, origin: str = ORIGIN) -> str:
    return str(VerifierKey(origin, kind, key(name).public_key))


BAD_BODIES = {
    "another origin": ({"log_key": of_kind(SignatureType.ED25519, "log 2", "other/log")}, "invalid_key"),
    "a timestamp key as log key": ({"log_key": log_of("2").timestamp_key}, "invalid_key"),
    "a log key as timestamp key": ({"timestamp_key": log_of("2").log_key}, "invalid_key"),
    "one key for both": ({"timestamp_key": of_kind(SignatureType.COSIGNATURE_V1, "log 2")}, "invalid_key"),
    "no verifier key": ({"log_key": "nonsense"}, "invalid_key"),
    "a key of low order": (
        {"log_key": f"{ORIGIN}+00000000+{encode_base64(bytes([1, 1]) + bytes(31))}"}, "invalid_key",
    ),
    "an unproven log key": ({"log_key_proof": change_log_body("3")["log_key_proof"]}, "bad_possession_proof"),
    "a timestamp key proven by the other": (
        {"timestamp_key_proof": change_log_body("2")["log_key_proof"]}, "bad_possession_proof",
    ),
    "a proof that is no base64": ({"log_key_proof": "AB=="}, "bad_possession_proof"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_the_new_keys_are_fit_and_proven(kind: str) -> None:
    changes, code = BAD_BODIES[kind]
    log = forum_of_two_labs()
    refuses(log, changing(log, change_log_body("2") | changes, *TWO), code)


def test_a_key_that_was_in_use_does_not_become_the_logs(log: ForumLog) -> None:
    first = {
        "log_key": LOG.log_key,
        "log_key_proof": change_log_body("", names=("log", "timestamp 3"))["log_key_proof"],
    }
    refuses(log, changing(log, change_log_body("3") | first, *TWO), "key_reused", "body")
    refuses(log, changing(log, change_log_body("2"), *TWO), "key_reused", "body")
    for names in (("Ada", "timestamp 3"), ("log 3", "Aurora analyst"), ("timestamp", "log")):
        refuses(log, changing(log, change_log_body("", names=names), *TWO), "key_reused", "body")


# -- which keys sign which tree ----------------------------------------------------------------------------------


def test_each_size_has_one_pair_of_keys(log: ForumLog) -> None:
    history = history_of(log)
    assert [history.at(size) == LOG for size in range(7)] == [True, True, True, True, False, False, False]
    log.say("membership.change_log", FORUM, FORUM, change_log_body("3"), TWO)
    history = history_of(log)
    assert [history.at(size) for size in (3, 4, 5, 6)] == [LOG, log_of("2"), log_of("2"), log_of("3")]


def test_a_tree_that_contains_the_change_is_signed_by_the_new_keys(log: ForumLog) -> None:
    new = key("log 2"), key("timestamp 2")
    for size in (4, 5):
        assert open_checkpoint(note_of(log, size, *new), history_of(log)).timestamp == NOON
    for size in (1, 2, 3):
        assert open_checkpoint(note_of(log, size, LOG_KEY, TIMESTAMP_KEY), history_of(log)).checkpoint.size == size


def refused(data: bytes, history: LogHistory) -> str:
    with pytest.raises(Misbehaviour) as caught:
        open_checkpoint(data, history)
    assert caught.value.fault is Fault.FORGE
    assert caught.value.evidence == {"checkpoint": data.decode()}
    return code_of(caught.value)


def test_whoever_stole_the_old_keys_signs_nothing_more(log: ForumLog) -> None:
    history = history_of(log)
    for size in (4, 5):
        assert refused(note_of(log, size, LOG_KEY, TIMESTAMP_KEY), history) == "retired_key"
    assert refused(note_of(log, 5, LOG_KEY, key("timestamp 2")), history) == "retired_key"
    assert refused(note_of(log, 5, key("log 2"), TIMESTAMP_KEY), history) == "untimed_checkpoint"
    assert refused(note_of(log, 5, key("log 3"), key("timestamp 3")), history) == "unsigned_checkpoint"


def test_the_new_keys_do_not_sign_the_past(log: ForumLog) -> None:
    assert refused(note_of(log, 3, key("log 2"), key("timestamp 2")), history_of(log)) == "unsigned_checkpoint"


def test_lines_by_the_old_keys_beside_the_new_are_not_looked_at(log: ForumLog) -> None:
    by_new = notes.parse(note_of(log, 5, key("log 2"), key("timestamp 2")))
    by_old = notes.parse(note_of(log, 5, LOG_KEY, TIMESTAMP_KEY))
    assert open_checkpoint(str(by_new.signed_by(by_old.signatures)).encode(), history_of(log)).timestamp == NOON
    broken = [NoteSignature(line.name, line.key_id, bytes(len(line.value))) for line in by_old.signatures]
    assert open_checkpoint(str(by_new.signed_by(broken)).encode(), history_of(log)).timestamp == NOON
    spoilt = [NoteSignature(line.name, line.key_id, bytes(len(line.value))) for line in by_new.signatures]
    assert refused(str(by_old.signed_by(spoilt)).encode(), history_of(log)) == "bad_note_signature"


def test_a_client_that_knows_no_exchange_of_keys_stops_there(log: ForumLog) -> None:
    """What an older version sees: the keys of the founding statement did not sign."""
    assert refused(note_of(log, 5, key("log 2"), key("timestamp 2")), LogHistory.of(LOG)) == "unsigned_checkpoint"


def test_a_checkpoint_is_refused_once_its_entries_name_other_keys(log: ForumLog) -> None:
    """The thief shows the genuine entries, with the change among them, under the old key."""
    before = LogHistory.of(LOG)
    trusted = open_checkpoint(note_of(log, 5, LOG_KEY, TIMESTAMP_KEY), before)
    check_keys(trusted, before, before)
    with pytest.raises(Misbehaviour) as caught:
        check_keys(trusted, before, history_of(log))
    assert (caught.value.fault, code_of(caught.value)) == (Fault.FORGE, "retired_key")
    check_keys(trusted, history_of(log), before)


def test_receipts_are_checked_by_the_keys_of_their_time(log: ForumLog) -> None:
    def receipt(size: int, *by: PrivateKey) -> tuple[Receipt, bytes]:
        leaves = [merkle.leaf_hash(made.encode()) for made in log.entries[:size]]

        def node(height: int, index: int) -> bytes:
            return merkle.subtree_root(leaves[index << height : (index + 1) << height])

        proof = [encode_base64(step) for step in merkle.inclusion_proof(2, size, node)]
        note = note_of(log, size, *by).decode()
        made = Receipt(index=2, entry=leaves[2].hex(), inclusion_proof=proof, checkpoint=note, already_logged=False)
        return made, log.entries[2].encode()

    for size, by in ((3, (LOG_KEY, TIMESTAMP_KEY)), (5, (key("log 2"), key("timestamp 2")))):
        assert check_receipt(*receipt(size, *by), history_of(log)).checkpoint.size == size
    with pytest.raises(Misbehaviour, match="gave up at entry 3"):
        check_receipt(*receipt(5, LOG_KEY, TIMESTAMP_KEY), history_of(log))


def test_a_history_begins_with_its_past(log: ForumLog) -> None:
    now, before = history_of(log), LogHistory.of(LOG)
    other = before.continued(3, LogIdentity.model_validate(log_of("3")))
    assert now.begins_with(now)
    assert now.begins_with(before)
    assert not before.begins_with(now)
    assert not now.begins_with(other)


def test_the_keys_that_a_log_gave_up_before_a_size(log: ForumLog) -> None:
    log.say("membership.change_log", FORUM, FORUM, change_log_body("3"), TWO)
    first, second, third = history_of(log).terms
    given_up = {0: [], 3: [], 4: [first], 5: [first], 6: [second, first], 9: [second, first]}
    assert {size: history_of(log).retired_before(size) for size in given_up} == given_up
    assert third.log == history_of(log).current
    keys = [key(name).public_key for name in ("log", "timestamp", "log 2", "timestamp 2", "log 3", "timestamp 3")]
    assert list(history_of(log).public_keys()) == keys


# -- what an operator hands over ---------------------------------------------------------------------------------


def test_the_card_of_new_keys_is_what_the_admins_need() -> None:
    card = log_card(log_of("2"), key("log 2"), key("timestamp 2"))
    body = {name: getattr(card, name) for name in ("log_key", "log_key_proof", "timestamp_key", "timestamp_key_proof")}
    assert card.origin == ORIGIN
    log = forum_of_two_labs()
    log.append(changing(log, change_log_body("3") | body, *TWO))
    assert history_of(log).current == log_of("2")


def test_a_cards_mark_tells_of_any_change_in_it() -> None:
    card = log_card(log_of("2"), key("log 2"), key("timestamp 2"))
    mark = mark_of(card)
    assert re.fullmatch("[0-9a-f]{16}", mark)
    assert mark_of(LogCard.model_validate_json(card.model_dump_json())) == mark
    for name in ("origin", "log_key", "log_key_proof", "timestamp_key", "timestamp_key_proof"):
        assert mark_of(card.model_copy(update={name: "other"})) != mark


def test_the_log_goes_on_as_before(log: ForumLog) -> None:
    log.say("membership.suspend", AURORA, FORUM, reason(), TWO)
    again = ForumLog()
    for made in log.entries:
        again.append(made)
    assert again.membership == log.membership

"""The chain of admin sets: TUF's cases of root rotation as tables, and what must not count towards a threshold.

Our statements have versions and no expiry, so where TUF's cases speak of an expired step, ours is a step whose admins
have all left since: a link of the chain needs nobody who is still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from sharing_protocol import envelope
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Malformed, ProtocolError
from sharing_protocol.keys import encode_base64
from sharing_protocol.statements import prove_possession
from sharing_protocol.statements.header import MAX_VERSION
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    ForumLog,
    admin,
    admins_body,
    admit_body,
    entry_hash,
    found_body,
    founded,
    key,
    lab_keys,
    reason,
    registration,
    signed,
)
from tests.protocol.refusals import code_of, refuses

FIVE = "Ada Ben Cleo Dora Emil"
TWO = ["Ada", "Ben"]


@dataclass(frozen=True)
class Step:
    """A change of admins: to whom, how many of them, signed by whom, and why it is refused, "" if it is not."""

    admins: str
    threshold: int
    signers: str
    code: str = ""


CHAINS: dict[str, tuple[Step, list[Step]]] = {
    "threshold raised": (
        Step("Ada Ben Cleo", 2, "Ada Ben"),
        [
            Step("Ada Ben Cleo", 3, "Ada Ben", "insufficient_signatures"),  # enough of the old, too few of the new
            Step("Ada Ben Cleo", 3, "Ada Ben Cleo"),
            Step("Ada Ben Cleo", 2, "Ada Ben", "insufficient_signatures"),
        ],
    ),
    "threshold lowered": (
        Step("Ada Ben Cleo", 3, "Ada Ben Cleo"),
        [
            Step("Ada Ben Cleo", 1, "Ada", "insufficient_signatures"),
            Step("Ada Ben Cleo", 1, "Ada Ben", "insufficient_signatures"),
            Step("Ada Ben Cleo", 1, "Ada Ben Cleo"),
            Step("Ada", 1, "Ada"),
        ],
    ),
    "threshold raised beyond the admins": (
        Step("Ada Ben Cleo", 2, "Ada Ben"),
        [Step("Ada Ben", 3, "Ada Ben", "insufficient_signatures"), Step("Ada Ben", 2, "Ada Ben")],
    ),
    "all admins rotated": (
        Step("Ada Ben Cleo", 2, "Ada Ben"),
        [
            Step("Dora Emil", 2, "Dora Emil", "insufficient_signatures"),
            Step("Dora Emil", 2, "Ada Ben Cleo", "insufficient_signatures"),
            Step("Dora Emil", 2, "Ada Ben Dora", "insufficient_signatures"),
            Step("Dora Emil", 2, "Ada Dora Emil", "insufficient_signatures"),
            Step("Dora Emil", 2, "Ada Cleo Dora Emil"),
            Step("Ada Ben", 1, "Ada Ben", "insufficient_signatures"),  # who left has no say, and is not taken back
            Step("Ada Dora", 1, "Dora Emil", "key_reused"),
            Step("Fay", 1, "Dora Emil Fay"),
        ],
    ),
    "one admin of both sets counts in both": (
        Step("Ada Ben Cleo", 2, "Ada Ben"),
        [Step("Ada Dora", 2, "Ada Dora", "insufficient_signatures"), Step("Ada Dora", 2, "Ada Ben Dora")],
    ),
    "3 of 5": (
        Step(FIVE, 3, "Ada Ben Emil"),
        [
            Step(FIVE, 4, "Ada Ben Cleo", "insufficient_signatures"),
            Step("Ada Ben Cleo Dora Fay", 3, "Ada Emil Fay", "insufficient_signatures"),
            Step("Ada Ben Cleo Dora Fay", 3, "Dora Emil Fay", "insufficient_signatures"),
            Step("Ada Ben Cleo Dora Fay", 3, "Cleo Dora Emil", "insufficient_signatures"),
            Step("Ada Ben Cleo Dora Fay", 3, "Cleo Dora Emil Fay"),
            Step("Ada Ben Cleo Dora Fay", 3, "Cleo Dora Emil", "revoked_key"),
        ],
    ),
    "a step in the middle whose admins have all left": (
        Step("Ada Ben", 2, "Ada Ben"),
        [
            Step("Cleo Dora", 2, "Ada Ben Cleo Dora"),
            Step("Emil Fay", 2, "Cleo Dora Emil Fay"),
            Step("Gus", 1, "Emil Fay Gus"),
            Step("Hal", 1, "Cleo Dora Hal", "revoked_key"),
            Step("Hal", 1, "Gus Hal"),
        ],
    ),
    "strangers add nothing": (
        Step("Ada Ben Cleo", 2, "Ada Ben"),
        [
            Step("Ada Ben", 1, "Ada Mallory", "unknown_key"),
            Step("Ada Ben", 1, "Ada Ben Mallory", "unknown_key"),
            Step("Mallory", 1, "Mallory", "insufficient_signatures"),
            Step("Mallory", 1, "Ada Mallory", "insufficient_signatures"),
        ],
    ),
}


def start(first: Step) -> ForumLog:
    log = ForumLog()
    body = found_body(first.admins.split(), first.threshold)
    log.say("membership.found", FORUM, FORUM, body, first.signers.split())
    return log


def change(log: ForumLog, step: Step, **changes: object) -> Envelope:
    body = admins_body(step.admins.split(), step.threshold)
    return signed(log.next("membership.change_admins", FORUM, FORUM, body) | changes, *step.signers.split())


def admins_of(log: ForumLog) -> tuple[set[str], int]:
    forum = log.membership.forum
    assert forum is not None
    return {log.membership.keys[key_id].name for key_id in forum.admins}, forum.threshold


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_admin_sets(name: str) -> None:
    first, steps = CHAINS[name]
    log = start(first)
    in_force = first
    for step in steps:
        if step.code:
            refuses(log, change(log, step), step.code)
        else:
            log.append(change(log, step))
            in_force = step
        assert admins_of(log) == (set(in_force.admins.split()), in_force.threshold)
    # Who comes late and reads the chain from the pinned founding on ends with the same admins.
    late = ForumLog()
    for made in log.entries:
        late.append(made)
    assert late.membership == log.membership


# -- steps out of their order --------------------------------------------------------------------------------------

THREE_STEPS = [
    Step("Ada Cleo", 2, "Ada Ben Cleo"),
    Step("Cleo Dora", 2, "Ada Cleo Dora"),
    Step("Dora Emil", 2, "Cleo Dora Emil"),
]


def chain(steps: Sequence[Step]) -> list[Envelope]:
    log = start(Step("Ada Ben", 2, "Ada Ben"))
    for step in steps:
        log.append(change(log, step))
    return log.entries


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ([0, 2], "insufficient_signatures"),  # a step skipped: the old admins did not sign the one after
        ([0, 3], "unknown_key"),  # its signers were never heard of
        ([0, 1, 3], "insufficient_signatures"),
        ([0, 1, 1], "revoked_key"),  # the same step again: one of its signers has left
        ([0, 1, 2, 1], "revoked_key"),  # back to where we were
        ([1], "not_founded"),
    ],
)
def test_a_chain_with_a_step_left_out_or_out_of_order(shown: list[int], code: str) -> None:
    entries = chain(THREE_STEPS)
    log = ForumLog()
    for number in shown[:-1]:
        log.append(entries[number])
    refuses(log, entries[shown[-1]], code)


def test_a_skipped_step_is_a_gap_even_if_everybody_signs() -> None:
    everyone = ["Ada", "Ben", "Cleo", "Dora", "Emil"]
    first = start(Step("Ada Ben", 2, "Ada Ben"))
    second = first.copy()
    second.append(change(second, Step("Ada Ben", 1, "Ada Ben")))
    third = signed(second.next("membership.change_admins", FORUM, FORUM, admins_body(["Ada"], 1)), *everyone[:2])
    refuses(first, third, "version_gap", "version")


@pytest.mark.parametrize("version", [3, 1000, MAX_VERSION])
def test_no_fast_forward(version: int) -> None:
    """Whoever once held enough keys cannot use up the versions, so that the rightful admins have none left."""
    log = start(Step("Ada Ben", 2, "Ada Ben"))
    refuses(log, change(log, Step("Ada Ben", 1, "Ada Ben"), version=version), "version_gap", "version")
    log.append(change(log, Step("Cleo Dora", 2, "Ada Ben Cleo Dora")))
    assert log.heads[FORUM].version == 2


def test_no_rewind() -> None:
    log = start(Step("Ada Ben Cleo", 2, "Ada Ben"))
    early = change(log, Step("Ada Ben Dora", 2, "Ada Ben"))
    log.append(change(log, Step("Ada Ben Cleo", 3, "Ada Ben Cleo")))
    refuses(log, early, "insufficient_signatures")
    log.append(change(log, Step("Ada Ben Cleo", 2, "Ada Ben Cleo")))
    refuses(log, early, "version_conflict", "version")
    refuses(log, change(log, Step("Ada Ben Dora", 2, "Ada Ben"), previous="00" * 32), "previous_mismatch", "previous")


def test_two_ways_on_from_one_state_are_not_both_taken() -> None:
    log = start(Step("Ada Ben Cleo", 2, "Ada Ben"))
    one, other = change(log, Step("Ada Dora", 1, "Ada Ben")), change(log, Step("Cleo Emil", 1, "Ada Ben Cleo"))
    log.append(one)
    refuses(log, other, "revoked_key")


# -- what a threshold does not count -------------------------------------------------------------------------------


def test_one_public_key_under_two_names_is_not_two_admins() -> None:
    twice = found_body(["Ada", "Ben"], 2)
    proof = {**admin("Ada"), "name": "Ada too", "proof": prove_possession("admin", "Ada too", key("Ada"))}
    twice["admins"][1] = proof
    log = ForumLog()
    refuses(log, signed(log.next("membership.found", FORUM, FORUM, twice), "Ada"), "insufficient_signatures")
    log = founded()
    body = admins_body(["Ada", "Ben"], 2)
    body["admins"][1] = proof
    refuses(log, signed(log.next("membership.change_admins", FORUM, FORUM, body), *TWO), "insufficient_signatures")
    body["threshold"] = 1
    refuses(log, signed(log.next("membership.change_admins", FORUM, FORUM, body), *TWO), "key_reused", "body.admins")


def test_one_public_key_under_two_ids_is_one_key() -> None:
    """An id is a hash that everybody computes: another id for the same key is the id of nothing."""
    log = founded()
    log.say("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora", lab_keys("Aurora")), TWO)
    made = signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada")
    ada = made.signatures[0]
    for other, code in (("ff" * 32, "unknown_key"), (key("Ben").public_key.key_id, "bad_signature")):
        lines = sorted((ada, Signature(other, ada.value)), key=lambda line: line.key_id)
        refuses(log, replace(made, signatures=tuple(lines)), code)
    upper = made.encode().replace(ada.key_id.encode(), ada.key_id.upper().encode())
    with pytest.raises(Malformed):
        envelope.parse(upper)


def test_one_public_key_registered_twice_keeps_one_role() -> None:
    log = founded()
    keys = [("Aurora owner", "owner"), ("Aurora owner", "analyst")]
    made = signed(log.next("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora", keys)), *TWO)
    refuses(log, made, "key_reused")


def test_two_envelopes_of_one_payload_are_one_statement() -> None:
    """Other signatures make other bytes, and another leaf; the statement and its place in the chain are the same."""
    log = start(Step("Ada Ben Cleo", 2, "Ada Ben"))
    document = log.next("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora", lab_keys("Aurora")))
    one, other = signed(document, "Ada", "Ben"), signed(document, "Ben", "Cleo")
    assert one.payload_sha256 == other.payload_sha256
    assert entry_hash(one) != entry_hash(other)
    log.append(one)
    refuses(log, other, "version_conflict", "version")
    founding = ForumLog().next("membership.found", FORUM, FORUM, found_body(["Ada", "Ben"], 1))
    fingerprints = set()
    for signers in (["Ada"], ["Ben"], ["Ada", "Ben"]):
        forum = ForumLog()
        forum.append(signed(founding, *signers))
        fingerprints.add(forum.fingerprint)
    assert len(fingerprints) == 1


# Points of small order, and one that is not canonical (RFC 8032; "Taming the many EdDSAs", table 1).
LOW_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("raw", LOW_ORDER)
def test_a_key_of_low_order_is_registered_by_nobody(raw: str) -> None:
    """With such a key one signature holds for many messages: it could be everybody's."""
    text = encode_base64(bytes.fromhex(raw))
    log = founded()
    admit = admit_body(AURORA, "Aurora", [("Aurora owner", "owner")])
    admit["keys"][0]["key"] = text
    refuses(log, signed(log.next("membership.admit", AURORA, FORUM, admit), *TWO), "invalid_key")
    change_admins = admins_body(["Ada", "Ben"], 2)
    change_admins["admins"][1]["key"] = text
    refuses(log, signed(log.next("membership.change_admins", FORUM, FORUM, change_admins), *TWO), "invalid_key")
    found = found_body(["Ada", "Ben"], 2)
    found["admins"][1]["key"] = text
    refuses(ForumLog(), signed(ForumLog().next("membership.found", FORUM, FORUM, found), *TWO), "invalid_key")
    log.say("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora", lab_keys("Aurora")), TWO)
    add = {"key": {**registration("Next", "analyst", AURORA), "key": text}, "reason": "A new machine"}
    refuses(log, signed(log.next("membership.add_key", AURORA, AURORA, add), "Aurora owner"), "invalid_key")


@pytest.mark.parametrize("raw", LOW_ORDER)
def test_a_key_of_low_order_signs_nothing(raw: str) -> None:
    log = founded()
    made = signed(log.next("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora", lab_keys("Aurora"))), "Ada")
    forged = Signature("00" * 32, bytes.fromhex(raw) + bytes(32))
    with pytest.raises(ProtocolError) as refused:
        log.append(replace(made, signatures=(forged, *made.signatures)))
    assert code_of(refused.value) == "unknown_key"

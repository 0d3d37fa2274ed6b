"""Witness policies: tlog-policy text as the specification has it, the rules about members, and who is a witness."""

from __future__ import annotations

import contextlib
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol import witness_policy
from sharing_protocol.errors import Malformed
from sharing_protocol.notes import SignatureType, VerifierKey
from sharing_protocol.witness_policy import Group, MembersRule, Policy, Shortfall, for_members
from sharing_protocol.witnesses import all_witnesses, known_witnesses, witness_key
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    CIRRUS,
    FORUM,
    LOG_KEY,
    ORIGIN,
    ForumLog,
    admit_body,
    forum_of_two_labs,
    key,
    lab_keys,
    reason,
    registration,
    revoke_body,
)
from tests.protocol.outside_vectors import json_vectors
from tests.protocol.refusals import code_of

ADMINS = ["Ada", "Ben"]


def witness(name: str) -> VerifierKey:
    """A witness that is no lab of ours."""
    return VerifierKey(f"witness.example/{name}", SignatureType.COSIGNATURE_V1, key(name).public_key)


def log_key(name: str = ORIGIN) -> VerifierKey:
    return VerifierKey(name, SignatureType.ED25519, LOG_KEY.public_key)


X, Y, Z = (witness(name) for name in "XYZ")
DEFINED = f"witness X {X}\nwitness Y {Y}\nwitness Z {Z}\n"


def read(text: str) -> Policy:
    return witness_policy.parse_text(text.encode("utf-8", "surrogateescape"))


# -- the format ----------------------------------------------------------------------------------------------------


def test_the_example_of_the_c2sp_specification() -> None:
    example = next(text for text in json_vectors("c2sp-examples", "examples.json")["tlog-policy"] if "X-and-Y" in text)
    names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    for name in names:  # the specification leaves the keys out
        example = example.replace(f"witness {name} <vkey>", f"witness {name} {witness(name)}")
    policy = read(example.replace("<vkey>", str(log_key())).rstrip("\n") + "\n")
    assert policy.logs == (log_key(),)
    for chosen in range(2 ** len(names)):
        cosigned = {name for bit, name in enumerate(names) if chosen >> bit & 1}
        met = sum(name[0] == "X" for name in cosigned) >= 2 and any(name[0] == "Y" for name in cosigned)
        assert policy.is_met({witness(name) for name in cosigned}) == met


def test_blanks_comments_and_urls_change_nothing() -> None:
    spaced = (
        f"# ours\n\n \t \n\t  log {log_key()}  https://hub.example/\n"
        f"witness\tX\t{X} https://x.example/submit\t\n  # Kelvin: \u212a\nwitness \u212a {Y}\n"
        "group g any X \u212a\nquorum g"
    )
    policy = read(spaced + "\n")
    assert policy == Policy("g", {"X": X, "\u212a": Y}, {"g": Group(1, ("X", "\u212a"))}, (log_key(),))
    assert read(str(policy)) == policy


def test_a_name_is_octets_and_need_not_be_text() -> None:
    data = b"witness \xff\xfe " + str(X).encode() + b"\nquorum \xff\xfe\n"
    assert witness_policy.parse_text(data).is_met({X})
    with pytest.raises(Malformed, match="no witness or group"):
        witness_policy.parse_text(data.replace(b"quorum \xff\xfe", b"quorum \xff"))


def test_a_quorum_of_nobody_is_met_by_nobody() -> None:
    policy = read("quorum none\n")
    assert policy.is_met(())
    assert policy.met_at({}) == math.inf
    assert policy.shortfall(()) == Shortfall(0, 0, ())


REFUSED = {
    "nothing": ("", "no quorum line"),
    "no quorum": (DEFINED, "no quorum line"),
    "two quorums": ("quorum none\nquorum none\n", "line 2: there is a quorum line already"),
    "a quorum of later lines": (f"quorum X\n{DEFINED}", "line 1: 'X' is no witness or group"),
    "a group of later lines": (f"group g any X\n{DEFINED}quorum g\n", "line 1: 'X' is no witness or group"),
    "a group of itself": (f"{DEFINED}group g any g\nquorum g\n", "line 4: 'g' is no witness or group"),
    "none in a group": (f"{DEFINED}group g any none\nquorum g\n", "line 4: 'none' is no witness or group"),
    "a witness named none": (f"witness none {X}\nquorum none\n", "line 1: the name 'none' is taken"),
    "a group named as a witness": (f"{DEFINED}group X any Y\nquorum X\n", "line 4: the name 'X' is taken"),
    "a witness twice": (f"{DEFINED}witness W {X}\nquorum X\n", "line 4: this witness's key was there before"),
    "a key twice under another name": (
        f"{DEFINED}witness W {VerifierKey('other', SignatureType.COSIGNATURE_V1, X.key)}\nquorum X\n",
        "line 4: this witness's key was there before",
    ),
    "a log twice": (f"log {log_key()}\nlog {log_key('other')}\nquorum none\n", "line 2: this log's key was there"),
    "a witness in two groups": (
        f"{DEFINED}group g any X Y\ngroup h any X Z\nquorum g\n",
        "line 5: 'X' is a member of a group already",
    ),
    "a witness twice in a group": (f"{DEFINED}group g 2 X X\nquorum g\n", "line 4: 'X' is a member of a group already"),
    "an empty group": (f"{DEFINED}group g all\nquorum g\n", "line 4: 0 of 0 members is no group"),
    "none of a group": (f"{DEFINED}group g 0 X\nquorum g\n", "line 4: a group's threshold is all, any or a number"),
    "too many of a group": (f"{DEFINED}group g 3 X Y\nquorum g\n", "line 4: 3 of 2 members is no group"),
    "a leading zero": (f"{DEFINED}group g 01 X\nquorum g\n", "line 4: a group's threshold"),
    "another script's digit": (f"{DEFINED}group g \u0661 X\nquorum g\n", "line 4: a group's threshold"),
    "an unknown word": (f"{DEFINED}threshold 2\n", "line 4: a line reads"),
    "an upper-case word": ("Quorum none\n", "line 1: a line reads"),
    "a quorum of two": (f"{DEFINED}quorum X Y\n", "line 4: a line reads"),
    "two URLs": (f"witness X {X} https://a https://b\nquorum X\n", "line 1: a line reads"),
    "another blank": (f"{DEFINED}quorum\u00a0X\n", "line 4: a line reads"),
    "another blank at the end": (f"{DEFINED}quorum X\u2003\n", "line 4: "),
    "a carriage return": ("quorum none\r\n", "line 1: it has control characters"),
    "a delete": ("quorum none\x7f\n", "line 1: it has control characters"),
    "no newline at the end": ("quorum none", "does not end in a newline"),
    "a log's key as a witness": (f"witness X {log_key()}\nquorum X\n", "line 1: a witness has a key of type 0x04"),
    "a witness's key as a log": (f"log {X}\nquorum none\n", "line 1: a log has a key of type 0x01"),
    "a damaged key": (f"witness X {str(X)[:-5]}\nquorum X\n", "line 1: "),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_the_specification_does_not_allow_is_refused(text: str, why: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(text)
    assert code_of(refused.value) == "bad_policy"
    assert why in refused.value.detail


def test_a_policy_is_bounded() -> None:
    end = b"\nquorum none\n"
    assert read("#" * (witness_policy.MAX_POLICY_BYTES - len(end)) + end.decode()).quorum == "none"
    with pytest.raises(Malformed, match="at most") as refused:
        read("#" * (witness_policy.MAX_POLICY_BYTES - len(end) + 1) + end.decode())
    assert code_of(refused.value) == "bad_policy"


def test_a_policy_has_at_most_1024_groups() -> None:
    def chain(count: int) -> str:
        names = ["X", *(f"g{number}" for number in range(count))]
        lines = [f"group {name} any {before}\n" for before, name in itertools.pairwise(names)]
        return f"witness X {X}\n{''.join(lines)}quorum {names[-1]}\n"

    assert read(chain(1024)).is_met({X})
    with pytest.raises(Malformed, match="line 1026: more than 1024"):
        read(chain(1025))


# -- every policy and every set of cosigners -----------------------------------------------------------------------

NAMES = st.from_regex(r"[!-~\u00a1-\u00ac\u212a]{1,6}", fullmatch=True).filter(lambda name: name not in ("none", "#"))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(NAMES.filter(lambda name: not name.startswith("#")), min_size=1, max_size=9, unique=True))
    count = draw(st.integers(1, len(names)))
    witnesses = {name: witness(str(number)) for number, name in enumerate(names[:count])}
    free, groups = list(witnesses), {}
    for name in names[count:]:
        if not free:
            break
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True))
        groups[name] = Group(draw(st.integers(1, len(members))), tuple(members))
        free = [other for other in free if other not in members] + [name]
    quorum = draw(st.sampled_from([*witnesses, *groups, "none"]))
    return Policy(quorum, witnesses, groups, (log_key(),) if draw(st.booleans()) else ())


def witnessed(policy: Policy, name: str, cosigners: set[VerifierKey]) -> bool:
    """The specification's sentence, read as a recursion."""
    if name in policy.witnesses:
        return policy.witnesses[name] in cosigners
    group = policy.groups[name]
    return len([member for member in group.members if witnessed(policy, member, cosigners)]) >= group.threshold


@given(policies(), st.data())
def test_a_policy_is_met_as_the_specification_says(policy: Policy, data: st.DataObject) -> None:
    everybody = list(policy.witnesses.values())
    cosigners = set(data.draw(st.lists(st.sampled_from(everybody))))
    assert policy.is_met(cosigners) == (policy.quorum == "none" or witnessed(policy, policy.quorum, cosigners))
    # A cosignature more never makes it worse, and whose nobody asks for changes nothing.
    if policy.is_met(cosigners):
        assert policy.is_met({*cosigners, data.draw(st.sampled_from(everybody))})
    assert policy.is_met({*cosigners, witness("stranger")}) == policy.is_met(cosigners)
    short = policy.shortfall(cosigners)
    assert (short.count >= short.needed) == policy.is_met(cosigners)


@given(policies())
def test_what_is_written_is_read_again(policy: Policy) -> None:
    assert read(str(policy)) == policy


@given(policies(), st.data())
def test_the_time_of_a_quorum_is_the_latest_that_has_one(policy: Policy, data: st.DataObject) -> None:
    times = data.draw(st.dictionaries(st.sampled_from(list(policy.witnesses.values())), st.integers(1, 5)))
    since = [time for time in range(7) if policy.is_met({key for key, then in times.items() if then >= time})]
    expected = math.inf if policy.is_met(()) else max(since, default=None)
    assert policy.met_at(times) == expected


@given(st.binary(max_size=60) | st.text("logwitnesgrupqm any1 \t\n#", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Malformed):  # and nothing else
        witness_policy.parse(data)


# -- rules about members -------------------------------------------------------------------------------------------


def forum_of_witnesses() -> ForumLog:
    """Aurora with two witness keys, Boreal with one, Cirrus with none."""
    log = forum_of_two_labs()
    log.say("membership.admit", CIRRUS, FORUM, admit_body(CIRRUS, "Cirrus", lab_keys("Cirrus")), ADMINS)
    for lab, member, name in (("Aurora", AURORA, "first"), ("Aurora", AURORA, "second"), ("Boreal", BOREAL, "first")):
        added = {"key": registration(f"{lab} {name} witness", "witness", member), "reason": "It witnesses"}
        log.say("membership.add_key", member, member, added, [f"{lab} owner"])
    return log


A1, A2 = (witness_key(AURORA, key(f"Aurora {name} witness").public_key) for name in ("first", "second"))
B1 = witness_key(BOREAL, key("Boreal first witness").public_key)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("majority", MembersRule(None)),
        ("majority\n", MembersRule(None)),
        ("2 of members\n", MembersRule(2)),
        ("  10 of members", MembersRule(10)),
    ],
)
def test_rules_about_members_are_words(text: str, rule: MembersRule) -> None:
    read_rule = witness_policy.parse(text.encode())
    assert read_rule == rule
    assert witness_policy.parse(str(rule).encode()) == rule


@pytest.mark.parametrize(
    "text",
    [
        "0 of members\n", "02 of members\n", "Majority\n", "majority of members\n", "-1 of members\n",
        "Xmajority\n", "majority\u2003\n", "\u00a02 of members\n",
    ],
)  # fmt: skip
def test_other_words_are_no_rule(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        witness_policy.parse(text.encode())
    assert code_of(refused.value) == "bad_policy"


def test_a_majority_is_of_all_active_labs_with_a_witness_key_or_without() -> None:
    log = forum_of_witnesses()
    policy = for_members(MembersRule(None), log.membership)
    assert policy.is_met({A1, B1})
    assert not policy.is_met({B1})
    assert policy.shortfall({B1}) == Shortfall(1, 2, (AURORA,))
    log.say("membership.suspend", CIRRUS, FORUM, reason(), ADMINS)
    assert not for_members(MembersRule(None), log.membership).is_met({B1})  # 2 labs: still more than half
    log.say("membership.suspend", AURORA, FORUM, reason(), ADMINS)
    assert for_members(MembersRule(None), log.membership).is_met({B1})


def test_a_lab_with_two_witness_keys_counts_once() -> None:
    membership = forum_of_witnesses().membership
    assert not for_members(MembersRule(2), membership).is_met({A1, A2})
    assert for_members(MembersRule(2), membership).is_met({A2, B1})
    assert read(str(for_members(MembersRule(2), membership))) == for_members(MembersRule(2), membership)


def test_more_labs_than_can_witness_are_never_met() -> None:
    policy = for_members(MembersRule(3), forum_of_witnesses().membership)
    assert not policy.is_met({A1, A2, B1})
    assert policy.shortfall({A1, B1}) == Shortfall(2, 3, ())


def test_who_is_a_witness_goes_by_the_membership() -> None:
    log = forum_of_witnesses()
    assert all_witnesses(log.membership) == [A1, A2, B1]
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora first witness"), ["Aurora owner"])
    log.say("membership.suspend", BOREAL, FORUM, reason(), ADMINS)
    assert all_witnesses(log.membership) == [A2]
    assert known_witnesses(log.membership) == [A1, A2, B1]
    assert not for_members(MembersRule(1), log.membership).is_met({A1, B1})

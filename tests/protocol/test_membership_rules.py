"""Who may say what: every refusal of `membership`, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sharing_protocol import envelope
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.keys import PublicKey
from sharing_protocol.membership import Member, Membership, RegisteredKey, Status, after, authorize, check_signature
from sharing_protocol.notes import SignatureType, VerifierKey
from sharing_protocol.statements import Found, MembershipStatement, parse
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    CIRRUS,
    FORUM,
    LOG_KEY,
    ORIGIN,
    PATTERN,
    Document,
    ForumLog,
    add_key_body,
    admin,
    admins_body,
    admit_body,
    forum_of_two_labs,
    found_body,
    founded,
    identifier,
    key,
    lab_keys,
    pattern_body,
    payload,
    reason,
    registration,
    revoke_body,
    signed,
)
from tests.protocol.refusals import code_of, refuses

TWO = ["Ada", "Ben"]


def founding(log: ForumLog, body: Document, *signers: str, **changes: Any) -> Envelope:
    return signed(log.next("membership.found", FORUM, FORUM, body) | changes, *signers)


def membership_statement(document: Document) -> MembershipStatement:
    statement = parse(payload(document))
    assert isinstance(statement, MembershipStatement)
    return statement


# -- founding ----------------------------------------------------------------------------------------------------


def test_a_forum_is_founded_by_its_threshold_of_admins() -> None:
    log = ForumLog()
    made = founding(log, found_body(), "Ada", "Ben")
    log.append(made)
    forum = log.membership.forum
    assert forum is not None
    assert forum.fingerprint == made.payload_sha256
    assert (forum.name, forum.threshold, len(forum.admins)) == ("Test forum", 2, 3)
    assert [known.name for known in log.membership.keys_of(FORUM)] == ["Ada", "Ben", "Cleo"]


def test_a_forum_is_founded_once() -> None:
    log = founded()
    again = ForumLog().next("membership.found", FORUM, FORUM, found_body())
    refuses(log, signed(again, *TWO), "already_founded")


def test_nothing_comes_before_the_founding() -> None:
    log = ForumLog()
    refuses(log, signed(log.next("membership.admit", AURORA, FORUM, admit_body(AURORA, "Aurora", [])), "Ada"),
            "invalid_statement")  # fmt: skip
    body = admit_body(AURORA, "Aurora", lab_keys("Aurora"))
    refuses(log, signed(log.next("membership.admit", AURORA, FORUM, body), *TWO), "not_founded")
    refuses(log, signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst"), "not_founded")


def test_a_forum_is_founded_at_entry_0_only() -> None:
    statement = membership_statement(ForumLog().next("membership.found", FORUM, FORUM, found_body()))
    with pytest.raises(Refused) as refused:
        after(Membership(), statement, 1, "00" * 32)
    assert code_of(refused.value) == "not_founded"


def test_a_founding_statement_names_no_forum() -> None:
    log = ForumLog()
    refuses(log, founding(log, found_body(), *TWO, forum="ab" * 32), "wrong_forum", "forum")


def test_a_forum_founds_itself() -> None:
    log = ForumLog()
    refuses(log, founding(log, found_body(), *TWO, author=AURORA), "not_the_author", "author")


def test_a_founding_needs_its_threshold() -> None:
    log = ForumLog()
    refuses(log, founding(log, found_body(), "Ada"), "insufficient_signatures")


def test_a_stranger_does_not_help_to_found() -> None:
    log = ForumLog()
    refuses(log, founding(log, found_body(), "Ada", "Ben", "Mallory"), "unexpected_signature")


def test_one_admin_key_named_twice_does_not_make_two() -> None:
    body = found_body(["Ada", "Ben"])
    body["admins"] = [admin("Ada"), {**admin("Ada")}]
    log = ForumLog()
    refuses(log, founding(log, body, "Ada"), "insufficient_signatures")
    refuses(log, founding(log, body | {"threshold": 1}, "Ada"), "key_reused", "body.admins")


def test_two_admins_do_not_share_a_name() -> None:
    body = found_body(["Ada", "ADA", "Ben"])
    log = ForumLog()
    refuses(log, founding(log, body, "Ada", "Ben"), "name_taken", "body.admins")


def test_a_threshold_beyond_the_admins_is_refused() -> None:
    log = ForumLog()
    body = found_body(["Ada", "Ben"], 2)
    refuses(log, founding(log, body | {"threshold": 3}, "Ada", "Ben"), "insufficient_signatures")
    statement = membership_statement(log.next("membership.found", FORUM, FORUM, body | {"threshold": 3}))
    with pytest.raises(Refused) as refused:
        after(Membership(), statement, 0, "00" * 32)
    assert code_of(refused.value) == "bad_threshold"
    assert refused.value.where == "body.threshold"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("log_key", "no verifier key"),
        ("log_key", "other.example/log+00000000+AAAA"),
        ("timestamp_key", found_body()["log"]["log_key"]),
        ("log_key", found_body()["log"]["timestamp_key"]),
    ],
)
def test_the_log_has_two_verifier_keys_of_the_right_kinds(member: str, value: str) -> None:
    log, body = ForumLog(), found_body()
    body["log"][member] = value
    refuses(log, founding(log, body, *TWO), "invalid_key")


def test_the_log_key_is_named_after_the_origin() -> None:
    log, body = ForumLog(), found_body()
    body["log"]["origin"] = "another.example/log"
    refuses(log, founding(log, body, *TWO), "invalid_key", "body.log.log_key")


def test_the_timestamp_key_is_a_key_of_its_own() -> None:
    log, body = ForumLog(), found_body()
    body["log"]["timestamp_key"] = str(VerifierKey(ORIGIN, SignatureType.COSIGNATURE_V1, LOG_KEY.public_key))
    refuses(log, founding(log, body, *TWO), "invalid_key", "body.log.timestamp_key")


@pytest.mark.parametrize("raw", ["A" * 43 + "=", "AQ" + "A" * 41 + "=", "////" * 10 + "//8="])
def test_a_key_of_low_order_or_of_another_form_is_no_admins_key(raw: str) -> None:
    log, body = ForumLog(), found_body()
    body["admins"][0]["key"] = raw
    refuses(log, founding(log, body, *TWO), "invalid_key")


# -- what admins decide ------------------------------------------------------------------------------------------


def test_admins_admit_suspend_reinstate_and_expel() -> None:
    log = forum_of_two_labs()
    for action, status in (("suspend", "suspended"), ("reinstate", "active"), ("suspend", "suspended"),
                           ("expel", "expelled")):  # fmt: skip
        log.say(f"membership.{action}", AURORA, FORUM, reason(), TWO)
        assert log.membership.members[AURORA].status == status
    assert log.membership.members[BOREAL] == Member(BOREAL, "Boreal", Status.ACTIVE, 2)
    assert log.membership.keys_of(BOREAL)[0] == RegisteredKey(
        key("Boreal owner").public_key, BOREAL, "owner", "", since=2
    )
    assert log.membership.as_of == log.size - 1


@pytest.mark.parametrize("kind", ["admit", "suspend", "reinstate", "expel"])
def test_one_admin_alone_decides_nothing(kind: str) -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, "Cirrus", lab_keys("Cirrus")) if kind == "admit" else reason()
    record = CIRRUS if kind == "admit" else AURORA
    said = refuses(log, signed(log.next(f"membership.{kind}", record, FORUM, body), "Ada"), "insufficient_signatures")
    assert "1 of the forum's admins signed, 2 must" in said


def test_one_admin_twice_is_one() -> None:
    log = forum_of_two_labs()
    made = signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada")
    doubled = Envelope(made.payload, made.payload_type, made.signatures * 2)
    with pytest.raises(Malformed) as refused:
        envelope.parse(doubled.encode())
    assert code_of(refused.value) == "duplicate_signature"


def test_only_the_forum_admits() -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, "Cirrus", lab_keys("Cirrus"))
    refuses(log, signed(log.next("membership.admit", CIRRUS, AURORA, body), *TWO), "not_the_author", "author")


def test_an_owner_does_not_sign_for_the_admins() -> None:
    log = forum_of_two_labs()
    made = signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada", "Ben", "Boreal owner")
    refuses(log, made, "unexpected_signature")


def test_a_stranger_does_not_sign_for_the_admins() -> None:
    log = forum_of_two_labs()
    made = signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada", "Ben", "Mallory")
    refuses(log, made, "unknown_key")


def test_a_signature_of_other_bytes_refuses_the_whole() -> None:
    log = forum_of_two_labs()
    made = signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada", "Ben", "Cleo")
    broken = replace(made, signatures=(*made.signatures[:2], Signature(made.signatures[2].key_id, bytes(64))))
    refuses(log, broken, "bad_signature")


def test_a_statement_for_another_forum_is_refused() -> None:
    log = forum_of_two_labs()
    other = log.next("membership.suspend", AURORA, FORUM, reason()) | {"forum": "00" * 32}
    refuses(log, signed(other, *TWO), "wrong_forum", "forum")
    refuses(log, signed(other | {"forum": None}, *TWO), "wrong_forum", "forum")


@pytest.mark.parametrize("name", ["Aurora", "AURORA", "au-ro-ra", "Aurora."])
def test_names_that_could_be_taken_for_anothers_are_refused(name: str) -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, name, lab_keys("Cirrus"))
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "name_taken", "body.name")


LOOK_ALIKES = ["\u0410urora", "\uff21urora", "\u00c0urora", "Aurora  Labs", " Aurora", "Aurora\t", "...", ""]


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_names_in_look_alike_letters_do_not_parse(name: str) -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, name, lab_keys("Cirrus"))
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "invalid_statement",
            "body.name")  # fmt: skip


def test_the_name_of_an_expelled_lab_stays_taken() -> None:
    log = forum_of_two_labs()
    log.say("membership.expel", AURORA, FORUM, reason(), TWO)
    body = admit_body(CIRRUS, "Aurora", lab_keys("Cirrus"))
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "name_taken")


def test_a_lab_needs_an_owner() -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, "Cirrus", [("Cirrus analyst", "analyst")])
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "no_owner_key", "body.keys")


def test_a_new_key_is_its_holders_from_its_entry_on() -> None:
    log = forum_of_two_labs()
    log.say("membership.add_key", AURORA, AURORA, add_key_body("Aurora second", "analyst", AURORA), ["Aurora owner"])
    log.say("membership.change_admins", FORUM, FORUM, admins_body(["Ada", "Dora"], 1), ["Ada", "Ben", "Dora"])
    added = [log.membership.keys[key(name).public_key.key_id] for name in ("Aurora second", "Dora")]
    assert [(registered.holder, registered.since) for registered in added] == [(AURORA, 3), (FORUM, 4)]


def test_a_key_is_registered_once_ever() -> None:
    log = forum_of_two_labs()
    taken = admit_body(CIRRUS, "Cirrus", [("Cirrus owner", "owner"), ("Aurora analyst", "analyst")])
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, taken), *TWO), "key_reused")
    twice = admit_body(CIRRUS, "Cirrus", [("Cirrus owner", "owner"), ("Cirrus owner", "sync")])
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, twice), *TWO), "key_reused")
    admins_own = admit_body(CIRRUS, "Cirrus", [("Ada", "owner")])
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, admins_own), *TWO), "key_reused")
    log.say("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora sync"), TWO)
    again = add_key_body("Aurora sync", "sync", AURORA)
    refuses(log, signed(log.next("membership.add_key", AURORA, FORUM, again), *TWO), "key_reused")


@pytest.mark.parametrize(
    "registered",
    [
        registration("Cirrus owner", "owner", CIRRUS) | {"proof": registration("x", "owner", CIRRUS)["proof"]},
        registration("Cirrus owner", "owner", AURORA),
        registration("Cirrus owner", "analyst", CIRRUS) | {"role": "owner"},
        registration("Cirrus owner", "owner", CIRRUS) | {"proof": "AAAA"},
        registration("Cirrus owner", "owner", CIRRUS) | {"proof": "AAAAA"},
    ],
)
def test_a_key_comes_with_proof_of_holding_it(registered: Document) -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, "Cirrus", []) | {"keys": [registered]}
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "bad_possession_proof")


def test_a_low_order_key_is_not_registered() -> None:
    log = forum_of_two_labs()
    body = admit_body(CIRRUS, "Cirrus", [("Cirrus owner", "owner")])
    body["keys"][0]["key"] = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "invalid_key")
    body["keys"][0]["key"] = "AQ=="
    refuses(log, signed(log.next("membership.admit", CIRRUS, FORUM, body), *TWO), "invalid_key")


@pytest.mark.parametrize(
    ("before", "action"),
    [
        ([], "reinstate"),
        (["suspend"], "suspend"),
        (["expel"], "suspend"),
        (["expel"], "reinstate"),
        (["expel"], "expel"),
        (["suspend", "reinstate"], "reinstate"),
    ],
)
def test_a_membership_moves_only_where_it_can(before: list[str], action: str) -> None:
    log = forum_of_two_labs()
    for step in before:
        log.say(f"membership.{step}", AURORA, FORUM, reason(), TWO)
    refuses(log, signed(log.next(f"membership.{action}", AURORA, FORUM, reason()), *TWO), "bad_transition")


@pytest.mark.parametrize("kind", ["suspend", "reinstate", "expel", "add_key", "revoke_key"])
def test_what_was_never_admitted_cannot_be_changed(kind: str) -> None:
    log = forum_of_two_labs()
    bodies = {"add_key": add_key_body("Cirrus owner", "owner", CIRRUS), "revoke_key": revoke_body("Aurora owner")}
    document = log.next(f"membership.{kind}", CIRRUS, FORUM, bodies.get(kind, reason()))
    refuses(log, signed(document, *TWO), "unknown_member", "id")
    with pytest.raises(Refused) as refused:
        after(log.membership, membership_statement(document), log.size, "00" * 32)
    assert (code_of(refused.value), refused.value.where) == ("unknown_member", "id")


# -- a lab's own keys --------------------------------------------------------------------------------------------


def test_an_owner_manages_its_labs_keys() -> None:
    log = forum_of_two_labs()
    log.say("membership.add_key", AURORA, AURORA, add_key_body("second", "analyst", AURORA), ["Aurora owner"])
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst"), ["Aurora owner"])
    assert [known.role for known in log.membership.keys_of(AURORA)] == ["owner", "sync", "analyst"]
    document = log.next("pattern", PATTERN, AURORA, pattern_body())
    refuses(log, signed(document, "Aurora analyst"), "revoked_key")
    log.append(signed(document, "second"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("membership.add_key", add_key_body("intruder", "owner", BOREAL)),
        ("membership.revoke_key", revoke_body("Boreal analyst")),
    ],
)
def test_an_owner_cannot_change_another_labs_keys(kind: str, body: Document) -> None:
    log = forum_of_two_labs()
    refuses(log, signed(log.next(kind, BOREAL, AURORA, body), "Aurora owner"), "not_the_author", "author")
    refuses(log, signed(log.next(kind, BOREAL, BOREAL, body), "Aurora owner"), "not_the_author", "author")


@pytest.mark.parametrize("signer", ["Aurora analyst", "Aurora sync"])
def test_only_owners_manage_keys(signer: str) -> None:
    log = forum_of_two_labs()
    for kind, body in (("add_key", add_key_body("x", "sync", AURORA)), ("revoke_key", revoke_body("Aurora sync"))):
        refuses(log, signed(log.next(f"membership.{kind}", AURORA, AURORA, body), signer), "wrong_role")


def test_admins_manage_a_labs_keys_too() -> None:
    log = forum_of_two_labs()
    refuses(log, signed(log.next("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora owner")), "Ada"),
            "insufficient_signatures")  # fmt: skip
    log.say("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora owner", suspect_from=1), TWO)
    known = log.membership.keys[key("Aurora owner").public_key.key_id]
    assert (known.revoked_at, known.suspect_from) == (log.size - 1, 1)
    log.say("membership.add_key", AURORA, FORUM, add_key_body("new owner", "owner", AURORA), TWO)


def test_an_owner_keeps_one_owner_key() -> None:
    log = forum_of_two_labs()
    document = log.next("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora owner"))
    refuses(log, signed(document, "Aurora owner"), "no_owner_key")
    log.say("membership.add_key", AURORA, AURORA, add_key_body("spare", "owner", AURORA), ["Aurora owner"])
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora owner"), ["Aurora owner"])
    document = log.next("membership.revoke_key", AURORA, AURORA, revoke_body("spare"))
    refuses(log, signed(document, "Aurora owner"), "revoked_key")


def test_a_key_that_is_not_the_labs_cannot_be_revoked() -> None:
    log = forum_of_two_labs()
    for name in ("Boreal analyst", "Ada", "never registered"):
        document = log.next("membership.revoke_key", AURORA, FORUM, revoke_body(name))
        refuses(log, signed(document, *TWO), "unknown_key", "body.key_id")


def test_a_key_is_revoked_once() -> None:
    log = forum_of_two_labs()
    log.say("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora sync"), TWO)
    document = log.next("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora sync"))
    refuses(log, signed(document, *TWO), "bad_transition", "body.key_id")


def test_suspicion_does_not_reach_into_the_future() -> None:
    log = forum_of_two_labs()
    document = log.next("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora sync", suspect_from=log.size + 1))
    refuses(log, signed(document, *TWO), "suspect_from_in_future", "body.suspect_from")
    log.say("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora sync", suspect_from=log.size), TWO)


def test_a_lab_has_at_most_64_keys() -> None:
    log = founded()
    keys = [("Cirrus owner", "owner"), *((f"sync {number}", "sync") for number in range(63))]
    log.say("membership.admit", CIRRUS, FORUM, admit_body(CIRRUS, "Cirrus", keys), TWO)
    one_more = add_key_body("sync 63", "sync", CIRRUS)
    refuses(log, signed(log.next("membership.add_key", CIRRUS, CIRRUS, one_more), "Cirrus owner"), "too_many_keys")
    log.say("membership.revoke_key", CIRRUS, CIRRUS, revoke_body("sync 0"), ["Cirrus owner"])
    log.say("membership.add_key", CIRRUS, CIRRUS, one_more, ["Cirrus owner"])


def test_an_expelled_lab_gets_no_keys_and_can_still_lose_them() -> None:
    log = forum_of_two_labs()
    log.say("membership.expel", AURORA, FORUM, reason(), TWO)
    body = add_key_body("late", "owner", AURORA)
    refuses(log, signed(log.next("membership.add_key", AURORA, FORUM, body), *TWO), "member_expelled")
    refuses(log, signed(log.next("membership.add_key", AURORA, AURORA, body), "Aurora owner"), "member_expelled")
    log.say("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora analyst", suspect_from=1), TWO)


# -- who may publish ---------------------------------------------------------------------------------------------


def test_an_analyst_publishes_for_its_own_lab() -> None:
    log = forum_of_two_labs()
    log.append(signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst"))


@pytest.mark.parametrize(
    ("signers", "author", "code"),
    [
        (["Aurora owner"], AURORA, "wrong_role"),
        (["Aurora sync"], AURORA, "wrong_role"),
        (["Ada"], FORUM, "wrong_role"),
        (["Boreal analyst"], AURORA, "not_the_author"),
        (["Mallory"], AURORA, "unknown_key"),
        (["Aurora analyst", "Boreal analyst"], AURORA, "not_the_author"),
        (["Aurora analyst", "Aurora owner"], AURORA, "wrong_role"),
        (["Aurora analyst", "Mallory"], AURORA, "unknown_key"),
    ],
)
def test_nobody_else_publishes(signers: list[str], author: str, code: str) -> None:
    log = forum_of_two_labs()
    refuses(log, signed(log.next("pattern", PATTERN, author, pattern_body()), *signers), code)


def test_exactly_one_analyst_signs() -> None:
    log = forum_of_two_labs()
    log.say("membership.add_key", AURORA, AURORA, add_key_body("second", "analyst", AURORA), ["Aurora owner"])
    document = log.next("pattern", PATTERN, AURORA, pattern_body())
    refuses(log, signed(document, "Aurora analyst", "second"), "unexpected_signature")
    nobody = replace(signed(document, "Aurora analyst"), signatures=())
    refuses(log, nobody, "unexpected_signature")


def test_a_bad_signature_is_refused() -> None:
    log = forum_of_two_labs()
    made = signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")
    other = signed(log.next("pattern", PATTERN, AURORA, pattern_body(title="Other")), "Aurora analyst")
    refuses(log, replace(made, signatures=other.signatures), "bad_signature")


@pytest.mark.parametrize(("action", "code"), [("suspend", "member_suspended"), ("expel", "member_expelled")])
def test_a_lab_out_of_favour_publishes_nothing(action: str, code: str) -> None:
    log = forum_of_two_labs()
    log.say(f"membership.{action}", AURORA, FORUM, reason(), TWO)
    refuses(log, signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst"), code)
    owner = add_key_body("x", "sync", AURORA)
    refuses(log, signed(log.next("membership.add_key", AURORA, AURORA, owner), "Aurora owner"), code)


def test_an_admins_key_acts_whatever_becomes_of_labs() -> None:
    log = forum_of_two_labs()
    assert log.membership.current_key(key("Ada").public_key.key_id).role == "admin"
    with pytest.raises(Refused) as refused:
        log.membership.current_key("0" * 64)
    assert code_of(refused.value) == "unknown_key"


def test_revoking_at_an_index_leaves_what_came_before() -> None:
    log = forum_of_two_labs()
    before = log.copy()
    made = signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst")
    log.append(made)
    log.say("membership.revoke_key", AURORA, FORUM, revoke_body("Aurora analyst"), TWO)
    assert before.decide(made).head == log.head(PATTERN)
    refuses(log, signed(log.next("pattern", PATTERN, AURORA, pattern_body()), "Aurora analyst"), "revoked_key")


# -- changing the admins -----------------------------------------------------------------------------------------


def change(log: ForumLog, admins: list[str], threshold: int, *signers: str) -> Envelope:
    return signed(log.next("membership.change_admins", FORUM, FORUM, admins_body(admins, threshold)), *signers)


def test_a_change_of_admins_needs_the_old_and_the_new() -> None:
    log = founded()
    refuses(log, change(log, ["Ada", "Dora", "Emil"], 2, "Ada", "Ben"), "insufficient_signatures")
    refuses(log, change(log, ["Ada", "Dora", "Emil"], 2, "Ada", "Dora"), "insufficient_signatures")
    refuses(log, change(log, ["Ada", "Dora", "Emil"], 2, "Dora", "Emil"), "insufficient_signatures")
    log.append(change(log, ["Ada", "Dora", "Emil"], 2, "Ada", "Ben", "Dora"))
    forum = log.membership.forum
    assert forum is not None
    assert {log.membership.keys[key_id].name for key_id in forum.admins} == {"Ada", "Dora", "Emil"}
    assert log.membership.keys[key("Ada").public_key.key_id].since == 0
    assert log.membership.keys[key("Dora").public_key.key_id].since == 1
    refuses(log, signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada", "Ben"), "revoked_key")


def test_whoever_acts_has_a_name() -> None:
    log = forum_of_two_labs()
    log.append(change(log, ["Ada", "Dora"], 2, "Ada", "Ben", "Dora"))
    name_of = log.membership.name_of
    assert [name_of(one) for one in (FORUM, AURORA, BOREAL)] == ["Test forum", "Aurora", "Boreal"]
    analyst = key("Aurora analyst").public_key.key_id
    assert log.membership.keys[analyst].holder == AURORA
    assert name_of(analyst) == "Aurora"
    assert [name_of(key(admin).public_key.key_id) for admin in ("Ada", "Ben", "Dora")] == ["Ada", "Ben", "Dora"]
    stranger = key("Mallory").public_key.key_id
    assert [name_of(one) for one in (stranger, CIRRUS, "")] == [stranger, CIRRUS, ""]
    assert Membership().name_of(FORUM) == FORUM


def test_only_the_forum_changes_its_admins() -> None:
    log = forum_of_two_labs()
    document = log.next("membership.change_admins", FORUM, AURORA, admins_body(["Ada"], 1))
    refuses(log, signed(document, *TWO), "not_the_author", "author")


def test_strangers_members_and_bad_signatures_do_not_help_a_change() -> None:
    log = forum_of_two_labs()
    refuses(log, change(log, ["Ada", "Ben"], 1, "Ada", "Ben", "Mallory"), "unknown_key")
    refuses(log, change(log, ["Ada", "Ben"], 1, "Ada", "Ben", "Aurora owner"), "unexpected_signature")
    made = change(log, ["Ada", "Ben"], 1, "Ada", "Ben")
    broken = replace(made, signatures=(made.signatures[0], Signature(made.signatures[1].key_id, bytes(64))))
    refuses(log, broken, "bad_signature")


def test_a_labs_key_does_not_become_an_admins() -> None:
    log = forum_of_two_labs()
    document = log.next("membership.change_admins", FORUM, FORUM, admins_body(["Ada", "Aurora owner"], 1))
    refuses(log, signed(document, "Ada", "Ben"), "key_reused", "body.admins")


def test_a_new_threshold_beyond_the_new_admins_is_refused() -> None:
    log = founded()
    document = log.next("membership.change_admins", FORUM, FORUM, admins_body(["Ada"], 2))
    with pytest.raises(Refused) as refused:
        after(log.membership, membership_statement(document), 1, "00" * 32)
    assert code_of(refused.value) == "bad_threshold"
    assert refused.value.where == "body.threshold"
    with pytest.raises(Refused) as refused:
        after(Membership(), membership_statement(document), 1, "00" * 32)
    assert code_of(refused.value) == "not_founded"


def test_the_forums_record_cannot_be_begun_by_a_change() -> None:
    log = founded()
    document = log.next("membership.change_admins", identifier("forum", 2), FORUM, admins_body(["Ada", "Ben"], 2))
    refuses(log, signed(document, *TWO), "unknown_member", "id")


# -- the caller's cache ------------------------------------------------------------------------------------------


def test_a_caller_may_bring_its_own_signature_check() -> None:
    asked: list[str] = []

    def remember(public_key: PublicKey, made: Envelope, signature: Signature) -> bool:
        asked.append(public_key.key_id)
        return check_signature(public_key, made, signature)

    made = signed(ForumLog().next("membership.found", FORUM, FORUM, found_body()), *TWO)
    statement = parse(made.payload)
    assert isinstance(statement, Found)
    authorize(Membership(), statement, made, remember)
    assert sorted(asked) == sorted(key(name).public_key.key_id for name in TWO)

"""Membership statements that a hub refuses: too few or wrong signatures, keys and transitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from hub.identity import HubIdentity
from sharing_protocol import wire
from sharing_protocol.keys import encode_base64
from sharing_protocol.statements import new_id, prove_possession
from tests.forum import (
    Document,
    ForumInABox,
    admin,
    key,
    registration,
    running_hub,
    signed,
)
from tests.hub.refusals import refused, refuses
from tests.hub.troubled_forum import REVOKED_KEY, TroubledForum, make_troubled_forum


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


def test_a_second_founding(forum: TroubledForum) -> None:
    second = ForumInABox(forum.box.hub)
    made = second.founding()
    forum.box.hub.bind(made.payload_sha256)
    refuses(forum.box, made, "Ada", 409, "already_founded", says="its founding statement is entry 0")
    strangers = ForumInABox(forum.box.hub, admins=("Xena", "Yuri"))
    made = strangers.founding()
    forum.box.hub.bind(made.payload_sha256)
    refuses(forum.box, made, "Xena", 401, "unknown_key")


# -- who must sign -----------------------------------------------------------------------------------------------


def suspend(forum: TroubledForum, **changes: object) -> Document:
    body = {"reason": "No reports"}
    return forum.box.statement("membership.suspend", forum.boreal.id, forum.box.id, body) | changes


def test_too_few_admin_signatures(forum: TroubledForum) -> None:
    made = signed(suspend(forum), "Ada")
    refuses(forum.box, made, "Ada", 403, "insufficient_signatures", says="1 of the forum's admins signed, 2 must")


def test_a_labs_key_does_not_stand_in_for_an_admin(forum: TroubledForum) -> None:
    made = signed(suspend(forum), "Ada", forum.aurora.owner)
    refuses(forum.box, made, "Ada", 403, "unexpected_signature", says="is not one of the forum's admins")
    # Not even beside enough of them.
    made = signed(suspend(forum), "Ada", "Ben", forum.aurora.owner)
    refuses(forum.box, made, "Ada", 403, "unexpected_signature", says="is not one of the forum's admins")


def test_strangers_and_outcasts_beside_admins(forum: TroubledForum) -> None:
    for signer, status, code in (
        ("a stranger", 401, "unknown_key"),
        (REVOKED_KEY, 403, "revoked_key"),
        (forum.cirrus.owner, 403, "member_suspended"),
        (forum.drift.owner, 403, "member_expelled"),
    ):
        refuses(forum.box, signed(suspend(forum), "Ada", "Ben", signer), "Ada", status, code)


def test_an_admins_broken_signature(forum: TroubledForum) -> None:
    good, other = signed(suspend(forum), "Ada"), signed(suspend(forum, version=9), "Ben")
    made = good.with_signatures(other.signatures)
    says = f"{key('Ben').public_key.key_id[:16]}… does not hold"
    refuses(forum.box, made, "Ada", 403, "bad_signature", says=says)


def test_a_lab_does_not_speak_for_the_forum(forum: TroubledForum) -> None:
    made = signed(suspend(forum, author=forum.aurora.id), forum.aurora.owner)
    refuses(forum.box, made, forum.aurora.owner, 403, "not_the_author", "author", "only the forum")
    made = signed(suspend(forum), forum.aurora.owner)
    refuses(forum.box, made, forum.aurora.owner, 403, "unexpected_signature")


def change_admins(forum: TroubledForum, names: list[str], threshold: int) -> Document:
    body = {"admins": [admin(name) for name in names], "threshold": threshold, "reason": "Rotation"}
    return forum.box.statement("membership.change_admins", forum.box.id, forum.box.id, body)


@pytest.mark.parametrize(
    ("names", "threshold", "signers", "says"),
    [
        (["Ada", "Ben", "Cleo"], 1, ["Ada"], "1 of the present admins signed, 2 must"),
        (["Dana", "Emil"], 2, ["Ada", "Dana", "Emil"], "1 of the present admins signed, 2 must"),
        (["Dana", "Emil"], 2, ["Ada", "Ben", "Dana"], "1 of the new admins signed, 2 must"),
        (["Dana", "Emil"], 2, ["Ada", "Ben", "Cleo"], "0 of the new admins signed, 2 must"),
        (["Ada", "Ben", "Cleo"], 3, ["Ada", "Ben"], "2 of the new admins signed, 3 must"),
    ],
)
def test_a_change_of_admins_or_threshold_needs_the_old_and_the_new(
    forum: TroubledForum, names: list[str], threshold: int, signers: list[str], says: str
) -> None:
    made = signed(change_admins(forum, names, threshold), *signers)
    refuses(forum.box, made, "Ada", 403, "insufficient_signatures", says=says)


def test_a_change_of_admins_that_others_sign_too(forum: TroubledForum) -> None:
    document = change_admins(forum, ["Ada", "Ben"], 2)
    made = signed(document, "Ada", "Ben", forum.aurora.owner)
    refuses(forum.box, made, "Ada", 403, "unexpected_signature", says="old and new admins")
    refuses(forum.box, signed(document, "Ada", "Ben", "a stranger"), "Ada", 401, "unknown_key")


def test_impossible_admins(forum: TroubledForum) -> None:
    refuses(forum.box, signed(change_admins(forum, ["Ada", "Ben"], 3), "Ada", "Ben", "Cleo"), "Ada",
            403, "insufficient_signatures", says="3 must")  # fmt: skip
    document = change_admins(forum, ["Ada", "Ben"], 2)
    owner = key(forum.aurora.owner)
    document["body"]["admins"][1] = {
        "name": "Ben",
        "key": str(owner.public_key),
        "proof": prove_possession("admin", "Ben", owner),
    }
    made = signed(document, "Ada", "Ben", forum.aurora.owner)
    refuses(forum.box, made, "Ada", 409, "key_reused", "body.admins", "make a new one")


# -- keys and transitions ----------------------------------------------------------------------------------------


def add_key(forum: TroubledForum, author: str, new: Document) -> Document:
    body = {"key": new, "reason": "Another key"}
    return forum.box.statement("membership.add_key", forum.aurora.id, author, body)


def test_a_lab_manages_no_other_labs_keys(forum: TroubledForum) -> None:
    new = registration("Aurora new", "owner", forum.aurora.id)
    made = signed(add_key(forum, forum.boreal.id, new), forum.boreal.owner)
    refuses(forum.box, made, forum.boreal.owner, 403, "not_the_author", "author", "only the lab itself")
    made = signed(add_key(forum, forum.aurora.id, new), forum.boreal.owner)
    refuses(forum.box, made, forum.boreal.owner, 403, "not_the_author", "author", "another author")


@pytest.mark.parametrize("role", ["analyst", "sync"])
def test_only_an_owner_manages_keys(forum: TroubledForum, role: str) -> None:
    new = registration("Aurora new", "owner", forum.aurora.id)
    sender = f"Aurora {role}"
    made = signed(add_key(forum, forum.aurora.id, new), sender)
    refuses(forum.box, made, sender, 403, "wrong_role", says="this takes an owner key")


@pytest.mark.parametrize(
    ("new", "status", "code"),
    [
        (lambda lab: registration("Boreal analyst", "analyst", lab), 409, "key_reused"),
        (lambda lab: registration(REVOKED_KEY, "analyst", lab), 409, "key_reused"),
        (lambda lab: registration("Ada", "analyst", lab), 409, "key_reused"),
        (lambda lab: registration("Aurora new", "analyst", lab) | {"role": "owner"}, 422, "bad_possession_proof"),
        (lambda _: registration("Aurora new", "owner", new_id("member", uuid4())), 422, "bad_possession_proof"),
        (lambda lab: registration("Aurora new", "owner", lab) | {"key": encode_base64(bytes(32))}, 422, "invalid_key"),
    ],
)
def test_keys_that_nobody_may_register(
    forum: TroubledForum, new: Callable[[str], Document], status: int, code: str
) -> None:
    made = signed(add_key(forum, forum.aurora.id, new(forum.aurora.id)), forum.aurora.owner)
    refuses(forum.box, made, forum.aurora.owner, status, code)


def test_the_last_owner_key_stays(forum: TroubledForum) -> None:
    body = {"key_id": key(forum.aurora.owner).public_key.key_id, "reason": "Gone", "suspect_from": None}
    document = forum.box.statement("membership.revoke_key", forum.aurora.id, forum.aurora.id, body)
    refuses(forum.box, signed(document, forum.aurora.owner), forum.aurora.owner, 422, "no_owner_key")


def test_a_lab_of_a_name_that_was_taken(forum: TroubledForum) -> None:
    lab = new_id("member", uuid4())
    body = {"name": "BO-REAL", "keys": [registration("Bo owner", "owner", lab)], "reason": "New"}
    made = signed(forum.box.statement("membership.admit", lab, forum.box.id, body), "Ada", "Ben")
    refuses(forum.box, made, "Ada", 409, "name_taken", "body.name", "a name like 'BO-REAL'")


@pytest.mark.parametrize(
    ("kind", "lab", "says"),
    [
        ("suspend", "cirrus", "Cirrus is suspended and cannot become suspended"),
        ("reinstate", "boreal", "Boreal is active and cannot become active"),
        ("reinstate", "drift", "Drift is expelled and cannot become active"),
        ("expel", "drift", "Drift is expelled and cannot become expelled"),
    ],
)
def test_transitions_that_are_none(forum: TroubledForum, kind: str, lab: str, says: str) -> None:
    document = forum.box.statement(f"membership.{kind}", getattr(forum, lab).id, forum.box.id, {"reason": "No"})
    refuses(forum.box, signed(document, "Ada", "Ben"), "Ada", 409, "bad_transition", says=says)


def test_a_decision_counts_once(forum: TroubledForum) -> None:
    """A statement that was signed for an earlier state of a lab is worth nothing in a later one."""
    document = forum.box.statement("membership.reinstate", forum.cirrus.id, forum.box.id, {"reason": "No"})
    document |= {"version": 2, "previous": forum.box.heads[forum.cirrus.id][1]}
    refuses(forum.box, signed(document, "Ada", "Ben"), "Ada", 409, "version_conflict", "version")


def test_a_lab_that_was_never_admitted(forum: TroubledForum) -> None:
    document = suspend(forum) | {"id": new_id("member", uuid4()), "version": 1, "previous": None}
    refuses(forum.box, signed(document, "Ada", "Ben"), "Ada", 422, "unknown_member", "id", "does not exist")


def test_a_decision_on_the_way_through_proposals_is_judged_the_same(forum: TroubledForum) -> None:
    made = signed(suspend(forum), "Ada", forum.aurora.owner)
    refused(forum.box, lambda: forum.box.post(wire.PROPOSALS, made.encode(), "Ada"), 403, "unexpected_signature")

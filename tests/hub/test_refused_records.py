"""Records that a hub refuses: by whom they are, where they stand, and what they refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from hub.identity import HubIdentity
from sharing_protocol.statements import new_id
from tests.forum import (
    key,
    pattern_body,
    reference,
    running_hub,
    signed,
    withdrawal_body,
)
from tests.hub.forgeries import altered, forged
from tests.hub.refusals import refuses
from tests.hub.troubled_forum import REVOKED_KEY, TroubledForum, make_troubled_forum


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


# -- who ---------------------------------------------------------------------------------------------------------


def test_wrong_key(forum: TroubledForum) -> None:
    made = forged(forum.pattern(), forum.aurora.analyst, "a stranger")
    key_id = key(forum.aurora.analyst).public_key.key_id
    refuses(forum.box, made, forum.aurora.analyst, 403, "bad_signature", says=f"{key_id[:16]}… does not hold")


def test_a_payload_that_was_changed_after_signing(forum: TroubledForum) -> None:
    made = altered(signed(forum.pattern(), forum.aurora.analyst), '"confidence":70', '"confidence":99')
    refuses(forum.box, made, forum.aurora.analyst, 403, "bad_signature", says="does not hold")


def test_unknown_key(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), "a stranger")
    refuses(forum.box, made, "a stranger", 401, "unknown_key", says="is registered in this forum")
    # A stranger's signature beside a good one is not overlooked either.
    made = signed(forum.pattern(), forum.aurora.analyst, "a stranger")
    refuses(forum.box, made, forum.aurora.analyst, 401, "unknown_key", says="is registered in this forum")


def test_revoked_key(forum: TroubledForum) -> None:
    refuses(
        forum.box, signed(forum.pattern(), REVOKED_KEY), REVOKED_KEY, 403, "revoked_key", says="revoked at entry 10"
    )
    made = signed(forum.pattern(), forum.aurora.analyst, REVOKED_KEY)
    refuses(forum.box, made, forum.aurora.analyst, 403, "revoked_key", says="revoked at entry 10")


@pytest.mark.parametrize(
    ("lab", "code", "says"),
    [
        ("cirrus", "member_suspended", "Cirrus is suspended; an admin can reinstate it"),
        ("drift", "member_expelled", "Drift was expelled"),
    ],
)
def test_suspended_and_expelled_members(forum: TroubledForum, lab: str, code: str, says: str) -> None:
    member = getattr(forum, lab)
    made = forum.box.record(member, pattern_body())
    refuses(forum.box, made, member.analyst, 403, code, says=says)


@pytest.mark.parametrize("role", ["owner", "sync"])
def test_a_key_of_another_role_publishes_nothing(forum: TroubledForum, role: str) -> None:
    signer = f"Aurora {role}"
    article = "an owner" if role == "owner" else "a sync"
    refuses(forum.box, signed(forum.pattern(), signer), signer, 403, "wrong_role", says=f"is {article} key")


def test_an_admin_publishes_nothing(forum: TroubledForum) -> None:
    made = signed(forum.pattern(author=forum.box.id), "Ada")
    refuses(forum.box, made, "Ada", 403, "wrong_role", says="takes an analyst key")
    refuses(forum.box, signed(forum.pattern(), "Ada"), "Ada", 403, "not_the_author", "author")
    # Nor do all of them together.
    made = signed(forum.pattern(author=forum.box.id), "Ada", "Ben", "Cleo")
    refuses(forum.box, made, "Ada", 403, "wrong_role", says="takes an analyst key")


def test_two_analysts_do_not_sign_one_record(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), forum.aurora.analyst, forum.boreal.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 403, "not_the_author", "author")


def test_other_labs_record(forum: TroubledForum) -> None:
    boreal = forum.boreal
    says = "only the lab that wrote a record can change it"
    made = signed(forum.revision(author=boreal.id), boreal.analyst)
    refuses(forum.box, made, boreal.analyst, 403, "not_the_author", "author", says)
    # Naming the true author does not help whoever is not that lab.
    made = signed(forum.revision(), boreal.analyst)
    refuses(forum.box, made, boreal.analyst, 403, "not_the_author", "author", "another author than the key's holder")
    made = forum.box.record(boreal, withdrawal_body(forum.box.reference(forum.revised)))
    says = "only the lab that wrote a record can withdraw it"
    refuses(forum.box, made, boreal.analyst, 403, "not_the_author", "body.record", says)


@pytest.mark.parametrize("fingerprint", ["0" * 64, None])
def test_a_record_for_another_forum(forum: TroubledForum, fingerprint: str | None) -> None:
    made = signed(forum.pattern(forum=fingerprint), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "wrong_forum", "forum", "for another forum")


# -- where it stands ---------------------------------------------------------------------------------------------


def test_version_gap(forum: TroubledForum) -> None:
    made = signed(forum.revision(version=4), forum.aurora.analyst)
    says = f"the next version of {forum.revised} is 3, not 4"
    refuses(forum.box, made, forum.aurora.analyst, 409, "version_gap", "version", says)
    made = signed(forum.pattern(version=2, previous="0" * 64), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 409, "version_gap", "version", "is 1, not 2")


@pytest.mark.parametrize("version", [1, 2])
def test_same_id_and_version_with_other_bytes(forum: TroubledForum, version: int) -> None:
    made = signed(forum.revision(version=version), forum.aurora.analyst)
    says = f"version {version} of {forum.revised} is in the log with other bytes; the newest is 2"
    refuses(forum.box, made, forum.aurora.analyst, 409, "version_conflict", "version", says)


@pytest.mark.parametrize("previous", [None, "0" * 64])
def test_a_revision_of_something_else(forum: TroubledForum, previous: str | None) -> None:
    made = signed(forum.revision(previous=previous), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 409, "previous_mismatch", "previous", "leaf hash")


def test_a_first_version_has_no_previous(forum: TroubledForum) -> None:
    made = signed(forum.pattern(previous="0" * 64), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 409, "previous_mismatch", "previous", "leaf hash")


def test_an_id_of_another_kind(forum: TroubledForum) -> None:
    made = signed(forum.pattern(id=new_id("sighting", uuid4())), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_statement", "id", "starts with pattern--")


def test_a_withdrawn_record_is_not_revised(forum: TroubledForum) -> None:
    document = forum.box.statement("pattern", forum.withdrawn, forum.aurora.id, pattern_body("Back again"))
    made = signed(document, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 409, "withdrawn", "id", "submit a new one under a new id")


def test_a_withdrawal_has_one_version(forum: TroubledForum) -> None:
    first = next(record_id for record_id in forum.box.heads if record_id.startswith("withdrawal--"))
    document = forum.withdrawal(forum.box.reference(forum.revised))
    document |= {"id": first, "version": 2, "previous": forum.box.heads[first][1]}
    made = signed(document, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 409, "version_conflict", "version", "only ever version 1")


# -- what it refers to -------------------------------------------------------------------------------------------


def test_withdrawing_twice(forum: TroubledForum) -> None:
    made = signed(forum.withdrawal(forum.box.reference(forum.withdrawn)), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 409, "withdrawn", "body.record", "withdrawn before")


def test_withdrawing_what_is_no_record(forum: TroubledForum) -> None:
    of_withdrawal = next(record_id for record_id in forum.box.heads if record_id.startswith("withdrawal--"))
    for record_id in (of_withdrawal, forum.aurora.id, forum.box.id):
        made = signed(forum.withdrawal(forum.box.reference(record_id)), forum.aurora.analyst)
        refuses(forum.box, made, forum.aurora.analyst, 422, "unknown_record", "body.record", record_id)


def test_withdrawing_an_older_version(forum: TroubledForum) -> None:
    version, entry = forum.box.heads[forum.revised]
    for other in (reference(forum.revised, version - 1, entry), reference(forum.revised, version, "0" * 64)):
        made = signed(forum.withdrawal(other), forum.aurora.analyst)
        refuses(forum.box, made, forum.aurora.analyst, 409, "previous_mismatch", "body.record", "newest version is 2")


def test_a_sighting_of_what_the_log_does_not_have(forum: TroubledForum) -> None:
    version, entry = forum.box.heads[forum.revised]
    for record in (
        reference(new_id("pattern", uuid4()), 1, entry),
        reference(forum.revised, version + 1, entry),
        reference(forum.revised, version, "0" * 64),
        forum.box.reference(forum.aurora.id),
    ):
        made = signed(forum.sighting(record), forum.aurora.analyst)
        refuses(forum.box, made, forum.aurora.analyst, 422, "unknown_record", "body.pattern", record["id"])


def test_a_red_record_is_not_shared_openly(forum: TroubledForum) -> None:
    made = signed(forum.pattern(pattern_body(marking="red")), forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "red_needs_sealing", "body.marking", "amber+strict")


def test_after_all_these_refusals_the_log_takes_what_is_right(forum: TroubledForum) -> None:
    before = forum.box.size()
    receipt = forum.box.log(signed(forum.revision(), forum.aurora.analyst), forum.aurora.analyst)
    assert (receipt.index, receipt.already_logged) == (before, False)

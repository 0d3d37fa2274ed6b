"""Sending something again adds nothing and harms nobody: what counts as the same is the payload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hub.identity import HubIdentity
from sharing_protocol import wire
from sharing_protocol.envelope import Envelope
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.trust import check_receipt
from tests.forum import admin, key, pattern_body, running_hub, signed
from tests.hub.forgeries import forged, signed_again, signed_bytes
from tests.hub.refusals import contents, refuses
from tests.hub.troubled_forum import TroubledForum, make_troubled_forum


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


def repeats(forum: TroubledForum, made: Envelope, sender: str, first: wire.Receipt, reader: str = "Ada") -> None:
    """Send what is in the log already: the same place is told, with a proof of what is there, and nothing changes."""
    before = contents(forum.box, reader)
    response = forum.box.submit(made, sender)
    assert response.status_code == 200, response.text
    again = wire.Receipt.model_validate_json(response.content)
    assert (again.index, again.entry, again.already_logged) == (first.index, first.entry, True)
    check_receipt(again, made.encode(), forum.box.hub.identity.public)
    # Only another envelope of the payload has to be shown.
    assert (again.envelope is None) is (leaf_hash(made.encode()).hex() == first.entry)
    assert contents(forum.box, reader) == before


def test_the_same_envelope_again(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), forum.aurora.analyst)
    receipt = forum.box.log(made, forum.aurora.analyst)
    assert receipt.already_logged is False
    repeats(forum, made, forum.aurora.analyst, receipt)
    # Also when the log has grown, and the record is not the newest version any more.
    forum.box.publish(forum.boreal, pattern_body("Meanwhile"))
    document_id = next(name for name, head in forum.box.heads.items() if head == (1, receipt.entry))
    forum.box.publish(forum.aurora, pattern_body("Better"), document_id)
    repeats(forum, made, forum.aurora.analyst, receipt)


def test_another_signature_by_the_same_key(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), forum.aurora.analyst)
    receipt = forum.box.log(made, forum.aurora.analyst)
    other = signed_again(made, forum.aurora.analyst)
    assert other.encode() != made.encode()
    repeats(forum, other, forum.aurora.analyst, receipt)


def test_the_same_decision_with_other_signatures(forum: TroubledForum) -> None:
    lab = forum.box.admit("Glacier")
    document = forum.box.statement("membership.suspend", lab.id, forum.box.id, {"reason": "Under review"})
    receipt = forum.box.log(signed(document, "Ada", "Ben"), "Ada")
    for signers in (("Ada", "Ben"), ("Ben", "Cleo"), ("Ada", "Ben", "Cleo"), ("Cleo",)):
        repeats(forum, signed(document, *signers), signers[-1], receipt)


def test_a_broken_signature_does_not_repeat_anything(forum: TroubledForum) -> None:
    document = forum.pattern()
    forum.box.log(signed(document, forum.aurora.analyst), forum.aurora.analyst)
    made = forged(document, forum.aurora.analyst, "a stranger")
    refuses(forum.box, made, forum.aurora.analyst, 403, "bad_signature")


def test_the_same_payload_spelt_otherwise_is_another_one(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), forum.aurora.analyst)
    forum.box.log(made, forum.aurora.analyst)
    spaced = signed_bytes(made.payload + b" ", forum.aurora.analyst)
    refuses(forum.box, spaced, forum.aurora.analyst, 409, "version_conflict", "version", "with other bytes")


def test_a_logged_payload_gives_nobody_a_say(forum: TroubledForum) -> None:
    """Whoever signs a rival's logged payload learns its place, which every member knows, and changes nothing."""
    document = forum.pattern()
    receipt = forum.box.log(signed(document, forum.aurora.analyst), forum.aurora.analyst)
    repeats(forum, signed(document, forum.boreal.analyst), forum.boreal.analyst, receipt)
    refuses(forum.box, signed(document, "a stranger"), "a stranger", 401, "unknown_key")


def test_the_founding_statement_again(forum: TroubledForum) -> None:
    entry = forum.box.get("/tile/entries/000.p/1").content[2:]
    response = forum.box.post(wire.ENTRIES, entry, "Ada")
    assert (response.status_code, response.json()["index"]) == (200, 0)


def test_many_copies_at_once_are_one_entry(forum: TroubledForum) -> None:
    before = contents(forum.box)
    made = signed(forum.pattern(), forum.aurora.analyst)
    copies = [made, *(signed_again(made, forum.aurora.analyst) for _ in range(11))]

    def send(copy: Envelope) -> httpx.Response:
        return forum.box.submit(copy, forum.aurora.analyst)

    with ThreadPoolExecutor(12) as threads:
        responses = list(threads.map(send, copies))
    assert sorted(response.status_code for response in responses) == [200] * 11 + [201]
    assert {response.json()["index"] for response in responses} == {before.entries}
    assert len({response.json()["entry"] for response in responses}) == 1
    for copy, response in zip(copies, responses, strict=True):
        receipt = wire.Receipt.model_validate_json(response.content)
        check_receipt(receipt, copy.encode(), forum.box.hub.identity.public)
    assert contents(forum.box).entries == before.entries + 1


def test_a_key_that_was_revoked_since_may_not_even_repeat(forum: TroubledForum) -> None:
    """The key cannot send anything any more; a decision that it shared with others, they can repeat."""
    lab = forum.box.admit("Harbour")
    made = signed(forum.box.statement("pattern", _new_pattern(forum), lab.id, pattern_body()), lab.analyst)
    forum.box.log(made, lab.analyst)
    revoked = {"key_id": key(lab.analyst).public_key.key_id, "reason": "Lost", "suspect_from": None}
    forum.box.decree("membership.revoke_key", lab.id, revoked)
    refuses(forum.box, made, lab.analyst, 403, "revoked_key")


def _new_pattern(forum: TroubledForum) -> str:
    record_id = forum.pattern()["id"]
    assert isinstance(record_id, str)
    return record_id


def test_a_decision_whose_admin_has_left_is_repeated_by_those_who_stay(forum: TroubledForum) -> None:
    """The last test of this module: it changes the admins."""
    box = forum.box
    lab = box.admit("Inlet")
    document = box.statement("membership.expel", lab.id, box.id, {"reason": "Broke the rules"})
    made = signed(document, "Ada", "Cleo")
    receipt = box.log(made, "Ada")
    body = {"admins": [admin("Ada"), admin("Ben")], "threshold": 2, "reason": "Cleo leaves"}
    change = signed(box.statement("membership.change_admins", box.id, box.id, body), "Ada", "Ben")
    changed = box.log(change, "Ada")
    refuses(box, made, "Cleo", 403, "revoked_key", says=f"revoked at entry {changed.index}")
    repeats(forum, made, "Ada", receipt)
    repeats(forum, change, "Ben", changed)
    # The same payload signed by Cleo and Ada is still no new decision, whatever the forum looks like by now.
    repeats(forum, signed(document, "Ada"), "Ada", receipt)

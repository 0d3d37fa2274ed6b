"""A lab's keys are lost, stolen, or turn out to have been stolen: what can be said of them, and by whom."""

from __future__ import annotations

import pytest

from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    add_key_body,
    forum_of_two_labs,
    key,
    reason,
    revoke_body,
    signed,
)
from tests.protocol.refusals import refuses

TWO = ["Ada", "Ben"]


def test_a_revoked_key_can_be_reported_compromised_from_ever_earlier_on() -> None:
    log = forum_of_two_labs()
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst"), ["Aurora owner"])
    revoked_at = log.size - 1
    for suspect_from, admissible in (
        (3, True),
        (3, False),
        (4, False),
        (None, False),
        (2, True),
        (0, True),
        (0, False),
    ):
        document = log.next("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst", suspect_from))
        made = signed(document, "Aurora owner")
        if not admissible:
            refuses(log, made, "bad_transition", "body.key_id")
            continue
        log.append(made)
        known = log.membership.keys[key("Aurora analyst").public_key.key_id]
        assert (known.revoked_at, known.suspect_from) == (revoked_at, suspect_from)
    boreal = log.next("membership.revoke_key", AURORA, BOREAL, revoke_body("Aurora owner", 0))
    refuses(log, signed(boreal, "Boreal owner"), "not_the_author", "author")


# -- a lab whose owner key is lost, or stolen ----------------------------------------------------------------------

REKEYING: dict[str, list[tuple[str, str, list[str], str]]] = {
    # what is done to the lab, with which key, by whom, and why it is refused, "" if it is not
    "lost": [
        ("add_key", "Aurora owner 2", TWO, ""),
        ("revoke_key", "Aurora owner", TWO, ""),
        ("add_key", "Aurora analyst 2", ["Aurora owner 2"], ""),
        ("add_key", "Aurora analyst 3", ["Aurora owner"], "revoked_key"),
    ],
    "lost, the old key revoked first": [
        ("revoke_key", "Aurora owner", TWO, ""),  # the admins may leave a lab without an owner; its owner may not
        ("add_key", "Aurora analyst 2", ["Aurora analyst"], "wrong_role"),
        ("add_key", "Aurora owner 2", TWO, ""),
        ("revoke_key", "Aurora owner 2", ["Aurora owner 2"], "no_owner_key"),
    ],
    "stolen": [
        ("add_key", "Thief owner", ["Aurora owner"], ""),  # the thief is faster
        ("revoke_key", "Aurora owner", ["Thief owner"], ""),
        ("suspend", "", TWO, ""),
        ("add_key", "Thief analyst", ["Thief owner"], "member_suspended"),
        ("revoke_key", "Thief owner", TWO, ""),
        ("add_key", "Aurora owner 2", TWO, ""),
        ("add_key", "Aurora analyst 2", ["Aurora owner 2"], "member_suspended"),
        ("reinstate", "", TWO, ""),
        ("add_key", "Aurora analyst 2", ["Aurora owner 2"], ""),
    ],
    "too few admins": [
        ("add_key", "Aurora owner 2", ["Ada"], "insufficient_signatures"),
        ("add_key", "Aurora owner 2", ["Ada", "Boreal owner"], "unexpected_signature"),
        ("revoke_key", "Aurora owner", ["Ben"], "insufficient_signatures"),
    ],
    "expelled": [
        ("expel", "", TWO, ""),
        ("add_key", "Aurora owner 2", TWO, "member_expelled"),
        ("revoke_key", "Aurora owner", TWO, ""),
    ],
    "a key that was Aurora's, or another's": [
        ("revoke_key", "Aurora owner", TWO, ""),
        ("add_key", "Aurora owner", TWO, "key_reused"),
        ("add_key", "Boreal owner", TWO, "key_reused"),
        ("add_key", "Ada", TWO, "key_reused"),
    ],
}


@pytest.mark.parametrize("story", REKEYING)
def test_admins_give_a_lab_other_keys(story: str) -> None:
    log = forum_of_two_labs()
    for action, name, by, code in REKEYING[story]:
        body = {"add_key": add_key_body(name, "owner" if "owner" in name else "analyst", AURORA),
                "revoke_key": revoke_body(name)}.get(action, reason())  # fmt: skip
        author = FORUM if set(by) & {"Ada", "Ben"} else AURORA
        made = signed(log.next(f"membership.{action}", AURORA, author, body), *by)
        if code:
            refuses(log, made, code)
        else:
            log.append(made)

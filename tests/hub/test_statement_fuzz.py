"""Sound statements with anything at all in one of their places: taken or refused with a reason, never a failure.

Like `test_openapi_fuzz`, a short run here and a long one by `make fuzz`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from hub.identity import HubIdentity
from sharing_protocol import envelope, wire
from sharing_protocol.statements import new_id
from tests.forum import (
    Document,
    ForumInABox,
    Lab,
    admin,
    key,
    pattern_body,
    registration,
    running_hub,
    sighting_body,
    withdrawal_body,
)
from tests.hub.documented_forum import DOCUMENT, Contract
from tests.hub.openapi_fuzzing import WITHOUT_LIMITS, how_much
from tests.hub.stored_log import differences

EXAMPLES, SEED = how_much(few=60)
KINDS = ("pattern", "sighting", "withdrawal", "suspend", "add_key", "revoke_key", "admit", "change_admins")
TELLING = ("", "1-9", "AML.T0024", "0" * 64, "2026-02-30T00:00:00Z", "member--x", "(?i)(a+)+$", "\u202e", "192.168.0.1")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TELLING)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
Place = tuple[str | int, ...]


class Author:
    """Writes statements for a forum with one lab and one pattern."""

    def __init__(self, box: ForumInABox) -> None:
        self.box = box
        self.lab: Lab = box.admit("Aurora")
        self.pattern, _ = box.publish(self.lab, pattern_body())
        self.contract = Contract(box.get(DOCUMENT).json())

    def write(self, kind: str) -> tuple[Document, str]:
        """A sound statement, and who signs it."""
        box, lab, reason = self.box, self.lab, {"reason": "Asked for it"}
        pattern, member = box.reference(self.pattern), new_id("member", uuid4())
        bodies = {
            "pattern": pattern_body("Another"),
            "sighting": sighting_body(pattern),
            "withdrawal": withdrawal_body(pattern),
            "add_key": {"key": registration("another", "sync", lab.id), **reason},
            "revoke_key": {"key_id": key(lab.sync).public_key.key_id, "suspect_from": 1, **reason},
            "admit": {"name": "Boreal", "keys": [registration("boreal", "owner", member)], **reason},
            "change_admins": {"admins": [admin("Ada"), admin("Dora")], "threshold": 2, **reason},
        }
        body = bodies.get(kind, reason)
        if kind in ("pattern", "sighting", "withdrawal"):
            return box.statement(kind, new_id(kind, uuid4()), lab.id, body), lab.analyst
        subject = {"admit": member, "change_admins": box.id}.get(kind, lab.id)
        return box.statement(f"membership.{kind}", subject, box.id, body), "Ada"

    def send(self, document: Document, signer: str) -> None:
        """Send it as an entry and as a proposal; both answers must be documented, and none be a failure."""
        made = envelope.sign(json.dumps(document).encode(), [key(signer)])
        for path in (wire.ENTRIES, wire.PROPOSALS):
            response = self.box.post(path, made.encode(), signer)
            assert response.status_code < 500, response.text
            self.contract.check(response)


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    """Every place in a document, the whole included."""
    yield above
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in inside:
        yield from places(inner, (*above, step))


def replaced(document: Document, place: Place, value: Any) -> Any:
    """The document with another value in one place."""
    if not place:
        return value
    changed: Any = copy.deepcopy(document)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return changed


@pytest.fixture(scope="module")
def author(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[Author]:
    database_url = new_database()
    with running_hub(database_url, hub_identity, settings=WITHOUT_LIMITS) as hub:
        box = ForumInABox(hub)
        box.found()
        yield Author(box)
    assert differences(database_url, content=True) == []


def test_no_statement_makes_the_hub_fail(author: Author) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @hypothesis.given(st.sampled_from(KINDS), st.data())
    def send(kind: str, data: st.DataObject) -> None:
        document, signer = author.write(kind)
        place = data.draw(st.sampled_from(list(places(document))))
        author.send(replaced(document, place, data.draw(ANYTHING)), signer)

    if SEED is not None:
        print(f"\n{EXAMPLES} statements: SEED={SEED}")
        hypothesis.seed(SEED)(send)()
    else:
        send()

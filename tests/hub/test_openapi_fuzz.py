"""The hub against requests that were made up: nobody gets anything without a right to it, and nothing makes it fail.

A short run is part of the tests, the same each time. `make fuzz` makes a long one, with a seed that it prints:
`make fuzz EXAMPLES=2000 SEED=1` repeats one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from hub.identity import HubIdentity
from sharing_protocol import wire
from tests.forum import Document, ForumInABox, Lab, key, pattern_body, running_hub, signed, withdrawal_body
from tests.hub.openapi_fuzzing import WITHOUT_LIMITS, Fuzzing, how_much
from tests.hub.refusals import contents
from tests.hub.stored_log import differences

EXAMPLES, SEED = how_much(few=5)


@dataclass(frozen=True)
class Target:
    """A forum with something of everything, and its hub's OpenAPI document."""

    box: ForumInABox
    lab: Lab
    document: Document


@pytest.fixture(scope="module")
def target(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[Target]:
    database_url = new_database()
    with running_hub(database_url, hub_identity, settings=WITHOUT_LIMITS) as hub:
        box = ForumInABox(hub)
        box.found()
        lab, gone = box.admit("Aurora"), box.admit("Boreal")
        pattern, _ = box.publish(lab, pattern_body())
        box.publish(lab, pattern_body("Again"), pattern)
        box.publish(lab, withdrawal_body(box.reference(pattern)))
        waits = signed(box.statement("membership.suspend", lab.id, box.id, {"reason": "Asked for it"}), "Ada")
        assert box.post(wire.PROPOSALS, waits.encode(), "Ada").status_code == 202
        box.decree("membership.expel", gone.id, {"reason": "Sold our patterns"})
        yield Target(box, lab, box.get("/openapi.json").json())
    assert differences(database_url) == []


def fuzz(target: Target, signer: str | None, refused: int | None) -> set[int]:
    """Try every operation, which may not change the log; the statuses that were seen."""
    if SEED is not None:
        print(f"\n{EXAMPLES} examples of each operation, signed by {signer or 'nobody'}: SEED={SEED}")
    before = contents(target.box)
    url = target.box.hub.url
    run = Fuzzing(target.document, url, key(signer) if signer else None, refused, EXAMPLES, SEED)
    for operation in run.operations():
        run.run(operation)
        if SEED is not None:
            tried = {status: n for (label, status), n in sorted(run.answers.items()) if label == operation.label}
            print(f"  {operation.label}: {sum(tried.values())} requests, {tried}", flush=True)
    assert contents(target.box) == before
    return {status for _, status in run.answers}


def test_nothing_a_member_sends_is_answered_otherwise_than_documented(target: Target) -> None:
    seen = fuzz(target, target.lab.sync, None)
    assert {200, 400, 404, 405, 422} <= seen
    assert not {401, 403, 429} & seen


# Those whose signature holds and is worth nothing have tests of their own for every route.
UNWELCOME = [(None, 401)] if SEED is None else [(None, 401), ("a stranger", 401), ("Boreal sync", 403)]


@pytest.mark.parametrize(("signer", "status"), UNWELCOME)
def test_nobody_else_is_told_anything(target: Target, signer: str | None, status: int) -> None:
    fuzz(target, signer, status)

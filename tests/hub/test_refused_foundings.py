"""What a hub without a forum refuses: foundings it is not bound to, flawed ones, and everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hub.identity import HubIdentity
from sharing_protocol import wire
from sharing_protocol.statements import prove_possession
from tests.forum import Document, ForumInABox, RunningHub, admin, key, make_identity, running_hub, signed
from tests.hub.forgeries import signed_bytes
from tests.hub.refusals import problem_of, refuses


@pytest.fixture(scope="module")
def unfounded(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[RunningHub]:
    with running_hub(new_database(), hub_identity) as hub:
        yield hub


def test_a_hub_that_is_bound_to_nothing_or_to_another_forum(unfounded: RunningHub) -> None:
    box, other = ForumInABox(unfounded), ForumInABox(unfounded)
    made = box.founding()
    problem = refuses(box, made, "Ada", 409, "not_bound", says="not bound to any forum yet")
    assert f"stillwatch-hub bind {made.payload_sha256}" in problem.detail
    unfounded.bind(other.founding().payload_sha256)
    refuses(box, made, "Ada", 409, "not_bound", says="bound to another forum")


def test_a_bound_hub_takes_no_flawed_founding(unfounded: RunningHub) -> None:
    box = ForumInABox(unfounded)
    made = box.founding("Ada")
    unfounded.bind(made.payload_sha256)
    refuses(box, made, "Ada", 403, "insufficient_signatures", says="1 of the named admins signed, 2 must")
    joined = signed_bytes(made.payload, "Ada", "Ada's cat")
    refuses(box, joined, "Ada", 403, "unexpected_signature", says="is not one of the named admins")
    refuses(box, joined, "Ada's cat", 401, "unknown_key")
    broken = made.with_signatures(box.founding("Ben", name="Another forum").signatures)
    refuses(box, broken, "Ada", 403, "bad_signature", says=key("Ben").public_key.key_id[:16])


@pytest.mark.parametrize(
    ("changes", "signers", "status", "code", "where"),
    [
        ({"admins": [admin("Ada"), admin("Ben") | {"proof": admin("Ada")["proof"]}]}, ["Ada", "Ben"],
         422, "bad_possession_proof", ""),
        ({"admins": [admin("Ada"), admin("Ben") | {"key": "AAAA"}]}, ["Ada"], 422, "invalid_key", "body.admins"),
        ({"admins": [admin("Ada"), admin("Ben"), admin("B-e-n")]}, ["Ada", "Ben"], 409, "name_taken", "body.admins"),
        ({"admins": [admin("Ada"), admin("Ben")], "threshold": 3}, ["Ada", "Ben"], 403, "insufficient_signatures", ""),
        ({"threshold": 0}, ["Ada", "Ben"], 422, "invalid_statement", "body.threshold"),
    ],
)  # fmt: skip
def test_a_bound_hub_takes_no_impossible_constitution(
    unfounded: RunningHub, changes: Document, signers: list[str], status: int, code: str, where: str
) -> None:
    box = ForumInABox(unfounded)
    made = box.founding(*signers, **changes)
    unfounded.bind(made.payload_sha256)
    refuses(box, made, "Ada", status, code, where)


def test_one_admin_under_two_names_is_one_admin(unfounded: RunningHub) -> None:
    box = ForumInABox(unfounded)
    twin = {"name": "Eve", "key": admin("Ada")["key"], "proof": prove_possession("admin", "Eve", key("Ada"))}
    for threshold, status, code, where in (
        (1, 409, "key_reused", "body.admins"),
        (2, 403, "insufficient_signatures", ""),
    ):
        made = box.founding("Ada", admins=[admin("Ada"), twin], threshold=threshold)
        unfounded.bind(made.payload_sha256)
        refuses(box, made, "Ada", status, code, where)


def test_a_founding_that_names_another_log(unfounded: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> None:
    box = ForumInABox(unfounded)
    other = make_identity(tmp_path_factory.mktemp("other"))
    made = box.founding(log=other.public.model_dump())
    unfounded.bind(made.payload_sha256)
    refuses(box, made, "Ada", 422, "wrong_log", "body.log", "names another log than this hub's")


def test_nobody_else_speaks_to_a_hub_without_a_forum(unfounded: RunningHub) -> None:
    box = ForumInABox(unfounded)
    document = box.statement("membership.expel", box.id, box.id, {"reason": "No"})
    refuses(box, signed(document, "Ada"), "Ada", 401, "unknown_key")
    refuses(box, b"{", "Ada", 400, "malformed_json")
    for path in (wire.CHECKPOINT, wire.MEMBERS, wire.PROPOSALS):
        problem_of(box.get(path), 401, "unknown_key")

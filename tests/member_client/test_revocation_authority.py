"""Whose access a decision may end: only what blocks, was approved by people, and is held back by nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from member_client.decisions.allow_list import Allowed, AllowKind, AllowList
from member_client.decisions.in_effect import what_and_why
from member_client.decisions.lab_policy import LabPolicy
from member_client.decisions.model import Action, Decision, State, Subject, SubjectKind
from member_client.decisions.rules import Rules
from member_client.lifecycle import Stage
from member_client.revocation.authority import Judged, Target, why_decision_does_not
from sharing_protocol.statements.handling import Severity
from tests.member_client.decision_worlds import START, lab, seen, standing

BLOCKING = Rules({Severity.HIGH: Action.BLOCK})
PATTERN = seen()
CLUSTER = Decision(
    id="decision--00000000-0000-4000-8000-000000000001",
    subject=Subject(SubjectKind.CLUSTER, "payment.fingerprint:x"),
    accounts=("a", "b", "c"),
    action=Action.BLOCK,
    models=(),
    created=START,
    expires=START + timedelta(days=14),
    pattern_id=PATTERN.id,
    pattern_version=1,
    pattern_entry=PATTERN.entry,
    pattern_title="A pattern",
    severity="high",
    detections=(),
    matches=3,
    first=None,
    last=None,
    numbers={},
    policy_reasons=(),
    needs_approvals=2,
    approved_by=("Ada", "Ben"),
    state=State.IN_FORCE,
)
IN_FORCE = lab(standing(PATTERN), rules=BLOCKING)


def judged(
    decision: Decision = CLUSTER,
    policy: LabPolicy = IN_FORCE,
    allowed: AllowList | None = None,
    spared: str = "",
    unapproved: str = "",
) -> Judged:
    allowed = allowed or AllowList()
    held_by = why_decision_does_not(decision, *what_and_why(decision, policy, allowed, START))
    return Judged(decision, held_by, frozenset(spared), frozenset(unapproved), allowed, START)


def may(one: Judged) -> dict[str, str]:
    return {target.id: one.why_not(target) for target in one.targets()}


def test_every_account_of_an_approved_cluster() -> None:
    assert may(judged()) == {"a": "", "b": "", "c": ""}
    stranger = Target(CLUSTER.id, "account", "z")
    assert "not about it" in judged().why_not(stranger)
    assert "not about it" in judged().why_not(Target("decision--other", "account", "a"))
    assert "not about it" in judged().why_not(Target(CLUSTER.id, "organisation", "a"))


def test_the_allow_list_and_an_appeal_spare_single_accounts() -> None:
    entry = Allowed(1, AllowKind.ACCOUNT, "b", "Sales", "A batch customer", START, START + timedelta(days=1))
    found = may(judged(allowed=AllowList([entry]), spared="c"))
    assert found["a"] == ""
    assert "on the allow-list: allow-list entry 1" in found["b"]
    assert "appeal" in found["c"]
    over = replace(entry, expires=START)
    assert may(judged(allowed=AllowList([over])))["b"] == ""


def test_who_joined_after_the_approval_keeps_access() -> None:
    found = may(judged(unapproved="c"))
    assert (found["a"], found["b"]) == ("", "")
    assert "joined the cluster after" in found["c"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": State.LIFTED}, "is lifted"),
        ({"state": State.EXPIRED}, "is expired"),
        ({"state": State.SUPERSEDED}, "is superseded"),
        ({"action": Action.THROTTLE}, "not to block"),
        ({"approved_by": ("Ada",), "state": State.PROPOSED}, "only 1 of 2"),
        ({"approved_by": (), "needs_approvals": 0}, "nobody has approved"),
        ({"models": ("big",)}, "big only"),
        ({"pattern_entry": "0" * 64}, "not the newest"),
    ],
)
def test_what_does_not_block_or_was_not_approved_ends_nobodys_access(changes: dict[str, object], why: str) -> None:
    found = may(judged(replace(CLUSTER, **changes)))  # type: ignore[arg-type] # of the right types, one by one
    assert all(why in one for one in found.values()), found


def test_a_pattern_that_does_not_enforce_here_now_ends_nobodys_access() -> None:
    for policy, why in (
        (lab(standing(PATTERN, Stage.FLAG), rules=BLOCKING), "stage flag"),
        (lab(standing(PATTERN, Stage.RETIRED), rules=BLOCKING), "stage retired"),
        (lab(standing(PATTERN, share=0), rules=BLOCKING), "roll-out"),
        (lab(standing(PATTERN), rules=replace(BLOCKING, stopped=True)), "stop switch"),
        (lab(standing(PATTERN), rules=Rules({Severity.HIGH: Action.FLAG})), "no more than flag"),
    ):
        assert all(why in one for one in may(judged(policy=policy)).values())

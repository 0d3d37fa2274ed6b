"""Holding an incident against criteria: what counts, and that it counts at the lowest."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharing_protocol.errors import Unproven
from sharing_protocol.log_excerpt import Excerpt
from sharing_protocol.referral import Case, case_of, count, evidence_in, judge, unmet
from sharing_protocol.statements import RecordReference, ReferralCriteriaBody, bucket_of, voice_id
from sharing_protocol.statements.playbooks import Measure, RequiredEvidence
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    FORUM,
    ForumLog,
    add_key_body,
    forum_of_two_labs,
    handling,
    identifier,
    pattern_body,
    reason,
    record_reference,
    revoke_body,
    sighting_body,
    withdrawal_body,
)
from tests.protocol.response_bodies import action_body, criteria_body, endorsement_body, incident_body

PATTERN = identifier("pattern", 0x100)
CRITERIA = identifier("referral-criteria", 0x500)
INCIDENT = identifier("incident", 0x600)
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
LABS = {AURORA: "Aurora", BOREAL: "Boreal"}

Seen = tuple[str, int, int, int, int]
"""A lab, the first day and how many, exact matches and accounts."""


def told(seen: list[Seen]) -> ForumLog:
    """An incident that names these sightings of one pattern of Aurora's; Boreal has joined it."""
    log = forum_of_two_labs()
    log.say("pattern", PATTERN, AURORA, pattern_body(), ["Aurora analyst"])
    lasting = criteria_body(handling(valid_until="2029-01-01T00:00:00Z"))
    log.say("referral_criteria", CRITERIA, BOREAL, lasting, ["Boreal analyst"])
    pattern = record_reference(log.head(PATTERN))
    sightings = []
    for number, (lab, day, days, matches, accounts) in enumerate(seen):
        start = START + timedelta(days=day)
        body = sighting_body(
            pattern,
            period_start=start.isoformat()[:19] + "Z",
            period_end=(start + timedelta(days=days)).isoformat()[:19] + "Z",
            matches=bucket_of(matches).value,
            accounts=bucket_of(accounts).value,
        )
        record = identifier("sighting", 0x200 + number)
        log.say("sighting", record, lab, body, [f"{LABS[lab]} analyst"])
        sightings.append(record_reference(log.head(record)))
    log.say("incident", INCIDENT, AURORA, incident_body(handling(), patterns=[pattern]), ["Aurora analyst"])
    first = record_reference(log.head(INCIDENT))
    join = action_body(handling(), first, patterns=[pattern], sightings=sightings)
    log.say("incident_action", identifier("incident-action", 0x700), BOREAL, join, ["Boreal analyst"])
    return log


def case(log: ForumLog, **changes: Any) -> Case:
    """The case that the whole log tells."""
    excerpt = Excerpt()
    for index, made in enumerate(log.entries):
        excerpt.admit(index, made.encode())
    head = log.head(CRITERIA)
    assert head is not None
    criteria = RecordReference(id=CRITERIA, version=1, entry=head.entry)
    arguments = {"incident": INCIDENT, "criteria": criteria, "now": NOW, **changes}
    return case_of(excerpt.admitted, excerpt.membership, **arguments)


sightings = st.lists(
    st.tuples(
        st.sampled_from([AURORA, BOREAL]),
        st.integers(0, 20),
        st.integers(1, 10),
        st.integers(1, 2_000_000),
        st.integers(1, 200_000),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25)
@given(sightings)
def test_no_count_is_above_what_one_lab_or_all_of_them_saw(seen: list[Seen]) -> None:
    counts = count(case(told(seen)))
    assert counts[Measure.LABS] == 2
    assert counts[Measure.SIGHTINGS] == len(seen)
    assert 1 <= counts[Measure.MATCHES] <= sum(one[3] for one in seen)
    most = {lab: max((one[4] for one in seen if one[0] == lab), default=0) for lab in LABS}
    assert 1 <= counts[Measure.ACCOUNTS] <= sum(most.values())
    periods = [set(range(start, start + length)) for _, start, length, _, _ in seen]
    days = sorted(set[int]().union(*periods))
    fewest = next(
        size
        for size in range(1, 5)
        if any(all(set(some) & one for one in periods) for some in combinations(days, size))
    )
    assert counts[Measure.DAYS] == fewest


def test_of_one_labs_days_that_overlap_only_the_largest_counts() -> None:
    seen = [(AURORA, 0, 5, 150, 20), (AURORA, 3, 5, 900, 30), (AURORA, 10, 1, 15, 11), (BOREAL, 0, 5, 1500, 120)]
    counts = count(case(told(seen)))
    assert counts[Measure.MATCHES] == 100 + 10 + 1000
    assert counts[Measure.ACCOUNTS] == 10 + 100
    assert counts[Measure.DAYS] == 2


def test_what_was_withdrawn_superseded_suspect_or_expired_does_not_count() -> None:
    log = told([(AURORA, 0, 2, 50, 5), (BOREAL, 4, 2, 50, 5), (BOREAL, 8, 2, 50, 5)])
    second = identifier("sighting", 0x201)
    withdrawn = withdrawal_body(record_reference(log.head(second)))
    log.say("withdrawal", identifier("withdrawal", 0x300), BOREAL, withdrawn, ["Boreal analyst"])
    counts = count(case(log))
    assert (counts[Measure.SIGHTINGS], counts[Measure.DAYS]) == (2, 2)
    assert [one.why_not for one in case(log).sightings] == ["", "withdrawn", ""]
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst", 0), ["Aurora owner"])
    suspect = case(log)
    assert [one.why_not for one in suspect.sightings] == ["suspect", "withdrawn", ""]
    assert [one.why_not for one in suspect.patterns] == ["suspect"]
    assert count(suspect)[Measure.PATTERNS] == 0
    # Its own lab brings the very version back, which is nobody's endorsement.
    log.say("membership.add_key", AURORA, AURORA, add_key_body("Aurora second", "analyst", AURORA), ["Aurora owner"])
    pattern = record_reference(log.head(PATTERN))
    voice = voice_id("endorsement", AURORA, str(pattern["entry"]))
    log.say("endorsement", voice, AURORA, endorsement_body(handling(), pattern), ["Aurora second"])
    counts = count(case(log))
    assert (counts[Measure.PATTERNS], counts[Measure.ENDORSEMENTS]) == (1, 0)
    late = case(log, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert count(late)[Measure.SIGHTINGS] == 0


def test_a_withdrawn_pattern_does_not_count() -> None:
    log = told([])
    assert count(case(log))[Measure.PATTERNS] == 1
    withdrawn = withdrawal_body(record_reference(log.head(PATTERN)))
    log.say("withdrawal", identifier("withdrawal", 0x300), AURORA, withdrawn, ["Aurora analyst"])
    assert count(case(log))[Measure.PATTERNS] == 0
    assert [one.why_not for one in case(log).patterns] == ["withdrawn"]


def test_a_case_without_its_incident_or_criteria_is_none() -> None:
    log = told([])
    with pytest.raises(Unproven, match="is not there"):
        case(log, incident=identifier("incident", 0x999))
    with pytest.raises(Unproven, match="is not there"):
        case(log, criteria=RecordReference(id=CRITERIA, version=2, entry="0" * 64))
    assert evidence_in(case(log), cosigners=0, local_files=0) == {
        RequiredEvidence.PATTERN_VERSIONS,
        RequiredEvidence.TIMELINE,
        RequiredEvidence.INCLUSION_PROOFS,
        RequiredEvidence.CUSTODY,
    }


def test_criteria_that_are_not_in_force_decide_nothing() -> None:
    def refused(log: ForumLog, **changes: Any) -> str:
        with pytest.raises(Unproven) as caught:
            case(log, **changes)
        assert caught.value.code == "criteria_not_in_force"
        return caught.value.detail.rpartition(" ")[2]

    log = told([])
    withdrawn = withdrawal_body(record_reference(log.head(CRITERIA)))
    log.say("withdrawal", identifier("withdrawal", 0x300), BOREAL, withdrawn, ["Boreal analyst"])
    assert refused(log) == "withdrawn"
    log = told([])
    assert refused(log, now=datetime(2030, 1, 1, tzinfo=UTC)) == "expired"
    first = record_reference(log.head(CRITERIA))
    log.say("referral_criteria", CRITERIA, BOREAL, criteria_body(handling()), ["Boreal analyst"])
    assert refused(log, criteria=RecordReference.model_validate(first)) == "superseded"
    log = told([])
    log.say("membership.revoke_key", BOREAL, BOREAL, revoke_body("Boreal analyst", 0), ["Boreal owner"])
    assert refused(log) == "suspect"


def test_a_revision_without_effect_does_not_tell_the_incident() -> None:
    log = told([])
    first = record_reference(log.head(INCIDENT))
    close = action_body(handling(), first, "close")
    log.say("incident_action", identifier("incident-action", 0x701), AURORA, close, ["Aurora analyst"])
    after = incident_body(handling(), title="Something else", description="Blame Boreal.")
    log.say("incident", INCIDENT, AURORA, after, ["Aurora analyst"])
    found = case(log)
    assert found.timeline.steps[-1].without_effect
    assert (found.incident.statement.version, found.incident.statement.body.title) == (1, found.timeline.title)


def test_what_does_not_count_is_no_evidence_and_a_lab_that_was_suspended_no_lab() -> None:
    log = told([(BOREAL, 0, 2, 50, 5)])
    assert count(case(log))[Measure.LABS] == 2
    record = identifier("sighting", 0x200)
    withdrawn = withdrawal_body(record_reference(log.head(record)))
    log.say("withdrawal", identifier("withdrawal", 0x300), BOREAL, withdrawn, ["Boreal analyst"])
    assert RequiredEvidence.SIGHTINGS not in evidence_in(case(log), cosigners=0, local_files=0)
    log.say("membership.suspend", BOREAL, FORUM, reason(), ["Ada", "Ben"])
    assert count(case(log))[Measure.LABS] == 1


def body_of(chosen: list[tuple[Measure, int, bool]]) -> ReferralCriteriaBody:
    asked = [
        {"name": f"number {place}", "measure": measure.value, "at_least": least, "required": required}
        for place, (measure, least, required) in enumerate(chosen)
    ]
    return ReferralCriteriaBody.model_validate_json(json.dumps(criteria_body(handling(), criteria=asked)))


criteria = st.lists(
    st.tuples(st.sampled_from(Measure), st.integers(1, 1000), st.booleans()), min_size=1, max_size=8
).map(body_of)
counts_ = st.dictionaries(st.sampled_from(Measure), st.integers(0, 2000))
evidence_ = st.sets(st.sampled_from(RequiredEvidence))


@given(criteria, counts_, evidence_, st.sampled_from(Measure), st.sampled_from(RequiredEvidence))
def test_more_of_anything_never_makes_a_criterion_unmet(
    body: ReferralCriteriaBody,
    counts: dict[Measure, int],
    there: set[RequiredEvidence],
    measure: Measure,
    kind: RequiredEvidence,
) -> None:
    before = judge(body, counts, {}, there)
    more = counts | {measure: counts.get(measure, 0) + 1}
    after = judge(body, more, {"number 0": "me"}, there | {kind})
    assert [one.name for one in before] == [one.name for one in after]
    assert all(later.met or not earlier.met for earlier, later in zip(before, after, strict=True))
    assert {one.name for one in unmet(after)} <= {one.name for one in unmet(before)}


@given(criteria, counts_, evidence_)
def test_a_criterion_is_met_by_its_own_measure_and_by_a_person_only_where_one_is_asked(
    body: ReferralCriteriaBody, counts: dict[Measure, int], there: set[RequiredEvidence]
) -> None:
    attested = {one.name: "me" for one in body.criteria}
    found = judge(body, counts, attested, there)
    for asked, one in zip(body.criteria, found, strict=False):
        by_person = asked.measure is Measure.ATTESTED
        assert one.found == (1 if by_person else counts.get(asked.measure, 0))
        assert one.met == (one.found >= asked.at_least)
        assert bool(one.said) == by_person
    missing = {kind.value for kind in body.evidence if kind not in there}
    assert {one.name for one in unmet(found) if one.measure == "evidence"} == missing

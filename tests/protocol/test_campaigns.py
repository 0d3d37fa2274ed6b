"""Campaigns: which sightings belong together, and that no one lab's word joins or swells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from sharing_protocol.campaigns import LONGEST_ALONE, LONGEST_DAYS, Campaign, Trend, campaigns
from sharing_protocol.feedback import Said
from sharing_protocol.statements import Sighting
from sharing_protocol.statements.handling import Bucket, lowest_of
from tests.protocol.said import FIRST_DAY, NOW, lab, opinion, pattern, sighting, sightings

FALLEN: list[Callable[[Said], Said]] = [
    lambda said: replace(said, newest=False),
    lambda said: replace(said, withdrawn=True),
    lambda said: replace(said, suspect=True),
    lambda said: replace(said, lab_active=False),
]
ONE, OTHER = pattern(1)["id"], pattern(2)["id"]
TOGETHER = [frozenset({ONE, OTHER})]


def members_of(campaign: Campaign) -> set[str]:
    """Ids of its sightings."""
    return {span.sighting for share in campaign.shares for span in share.spans}


def groups(found: Sequence[Campaign]) -> set[frozenset[str]]:
    return {frozenset(members_of(one)) for one in found}


def test_two_labs_that_see_a_pattern_on_the_same_days_see_a_campaign() -> None:
    said = [
        sighting(1, lab(2), 5, 4, Bucket.UNDER_1_000, accounts=Bucket.UNDER_100),
        sighting(2, lab(1), 3, 3, Bucket.UNDER_100),
        sighting(3, lab(3), 20, 3),
    ]
    (found,) = campaigns(said, NOW)
    assert [share.lab for share in found.shares] == [lab(1), lab(2)]
    assert (found.start, found.end) == (FIRST_DAY + timedelta(days=2), FIRST_DAY + timedelta(days=8))
    assert (found.patterns, found.matches, found.accounts) == ((ONE,), Bucket.UNDER_1_000, Bucket.UNDER_100)
    assert len(campaigns(said, NOW, least_labs=1)) == 2


def test_periods_that_touch_join_and_a_day_between_parts_them() -> None:
    assert len(campaigns([sighting(1, lab(1), 1, 2), sighting(2, lab(2), 3, 2)], NOW)) == 1
    assert campaigns([sighting(1, lab(1), 1, 2), sighting(2, lab(2), 4, 2)], NOW) == []


def test_versions_of_a_pattern_are_one_pattern() -> None:
    (found,) = campaigns([sighting(1, lab(1), 1), sighting(2, lab(2), 1, of=pattern(1, 7))], NOW)
    assert found.patterns == (ONE,)


def seen_at(*labs: int) -> list[Said]:
    """Two patterns, seen on the same days by these labs; and each of them by another lab."""
    both = [sighting(10 * n + m, lab(n), 5, 3, of=pattern(m)) for n in labs for m in (1, 2)]
    return [*both, sighting(1, lab(7), 5, of=pattern(1)), sighting(2, lab(8), 5, of=pattern(2))]


def test_two_patterns_join_only_if_an_incident_says_so_and_two_labs_saw_both() -> None:
    assert len(campaigns(seen_at(1, 2), NOW)) == 2
    assert len(campaigns(seen_at(1), NOW, TOGETHER)) == 2
    (found,) = campaigns(seen_at(1, 2), NOW, TOGETHER)
    assert found.patterns == (ONE, OTHER)
    assert len(found.shares) == 4


def test_an_incident_does_not_join_what_was_seen_at_other_times() -> None:
    apart = [sighting(10 * n + m, lab(n), 1 + 10 * m, 2, of=pattern(m)) for n in (1, 2) for m in (1, 2)]
    assert len(campaigns(apart, NOW, TOGETHER)) == 2


def test_a_sighting_of_half_a_year_joins_nothing() -> None:
    """Otherwise one lab could make all that was ever seen of a pattern one campaign."""
    said = [sighting(1, lab(1), 1), sighting(2, lab(2), 20)]
    for days, expected in ((LONGEST_DAYS, 1), (LONGEST_DAYS + 1, 0)):
        assert len(campaigns([*said, sighting(9, lab(9), 1, days)], NOW)) == expected


def test_one_lab_joins_what_others_saw_a_month_apart_and_no_more() -> None:
    early, length = [sighting(n, lab(n), 1) for n in (1, 2)], LONGEST_ALONE
    for first, expected in ((2 + length, 1), (3 + length, 2)):
        late = [sighting(n, lab(n), first) for n in (3, 4)]
        assert len(campaigns([*early, *late, sighting(9, lab(9), 1, LONGEST_DAYS)], NOW)) == expected
        by_days = [sighting(100 + day, lab(9), day) for day in range(1, 60)]
        assert len(campaigns([*early, *late, *by_days], NOW)) == expected


def test_sightings_laid_end_to_end_by_one_lab_bridge_nothing() -> None:
    early, late = ([sighting(n, lab(n), first) for n in (n, n + 1)] for n, first in ((1, 5), (3, 280)))
    glue = [sighting(10 + n, lab(9), 1 + n * LONGEST_DAYS, LONGEST_DAYS) for n in range(4)]
    one, other = campaigns([*early, *late, *glue], NOW)
    assert {share.lab for share in one.shares} == {lab(1), lab(2), lab(9)}
    assert {share.lab for share in other.shares} >= {lab(3), lab(4)}
    # What goes on at two labs, of whom each reports when it likes, is one.
    also = [sighting(20 + n, lab(8), 3 + n * 30, 2) for n in range(10)]
    assert len(campaigns([*early, *late, *glue, *also], NOW)) == 1


def test_what_one_lab_alone_saw_all_the_time_is_one() -> None:
    said = [sighting(n, lab(1), 1 + n * 30, 30) for n in range(12)]
    assert len(campaigns(said, NOW, least_labs=1)) == 1
    (found,) = campaigns([*said, sighting(20, lab(2), 350)], NOW)
    assert len(found.shares) == 2


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-100, 200), st.integers(1, LONGEST_DAYS)), max_size=12))
def test_no_lab_joins_alone_what_others_saw_far_apart(glue: list[tuple[int, int]]) -> None:
    early = [sighting(n, lab(n), n, 3) for n in (1, 2)]
    late = [sighting(n, lab(n), 6 + LONGEST_ALONE + n) for n in (3, 4)]
    between = [sighting(10 + n, lab(9), first, days) for n, (first, days) in enumerate(glue)]
    for found in groups(campaigns([*early, *late, *between], NOW, TOGETHER, 1)):
        sides = [{one.statement.id for one in side} & found for side in (early, late)]
        assert not all(sides)


def test_what_one_lab_says_again_and_again_makes_nothing_bigger() -> None:
    once = [sighting(1, lab(1), 1, 5), sighting(2, lab(2), 1, 5)]
    (before,) = campaigns(once, NOW)
    (after,) = campaigns([*once, *(sighting(n, lab(1), 1 + n % 4) for n in range(3, 60))], NOW)
    assert (after.matches, len(after.shares), after.id) == (before.matches, 2, before.id)


def test_the_trend_is_of_what_was_seen_a_day() -> None:
    def trend(*amounts: Bucket) -> Trend:
        said = [sighting(n, lab(1 + n % 2), 1 + 2 * n, 2, amount) for n, amount in enumerate(amounts)]
        (found,) = campaigns(said, NOW)
        return found.trend

    few, many = Bucket.UNDER_10, Bucket.UNDER_1_000
    assert trend(few, many) is Trend.GROWING
    assert trend(many, few) is Trend.FALLING
    assert trend(many, few, many) is Trend.STEADY
    one_day = campaigns([sighting(1, lab(1), 1, 1, few), sighting(2, lab(2), 1, 1, many)], NOW)
    assert one_day[0].trend is Trend.STEADY


def test_other_statements_are_passed_over() -> None:
    assert campaigns([opinion(1, lab(1)), opinion(2, lab(2))], NOW) == []


# -- properties ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(sightings(), st.booleans(), st.randoms(use_true_random=False))
def test_order_does_not_matter(said: list[Said], linked: bool, random: object) -> None:
    shuffled = list(said)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    together = TOGETHER if linked else []
    assert campaigns(shuffled, NOW, together, 1) == campaigns(said, NOW, together, 1)


@settings(max_examples=40)
@given(sightings(), st.booleans())
def test_every_sighting_is_in_one_campaign(said: list[Said], linked: bool) -> None:
    found = campaigns(said, NOW, TOGETHER if linked else [], 1)
    assert sum(len(members_of(one)) for one in found) == len(said)
    assert set().union(*groups(found)) == {one.statement.id for one in said}
    assert len({one.id for one in found}) == len(found)


@settings(max_examples=40)
@given(sightings())
def test_sightings_of_a_pattern_without_a_day_between_are_together(said: list[Said]) -> None:
    """Against the definition: the components of the graph, found by joining until nothing changes."""
    seen = [one.statement for one in said if isinstance(one.statement, Sighting)]
    parts = [{one.id} for one in seen]
    for one, other in combinations(seen, 2):
        touch = one.body.period_start <= other.body.period_end and other.body.period_start <= one.body.period_end
        if touch and one.body.pattern.id == other.body.pattern.id:
            joined = [part for part in parts if part & {one.id, other.id}]
            parts = [part for part in parts if part not in joined] + [set().union(*joined)]
    assert groups(campaigns(said, NOW, least_labs=1)) == {frozenset(part) for part in parts}


@settings(max_examples=100)
@given(sightings())
def test_patterns_named_together_join_where_two_labs_saw_both_on_the_same_days(said: list[Said]) -> None:
    """Against the definition: every two campaigns of one pattern each, every two sightings in them."""
    seen = {one.statement.id: one.statement for one in said if isinstance(one.statement, Sighting)}
    parts = [set(part) for part in groups(campaigns(said, NOW, least_labs=1))]
    for first, second in combinations([frozenset(part) for part in parts], 2):
        pairs = [(seen[one], seen[other]) for one in first for other in second]
        labs = {
            one.author
            for one, other in pairs
            if one.author == other.author
            and {one.body.pattern.id, other.body.pattern.id} == {ONE, OTHER}
            and one.body.period_start < other.body.period_end
            and other.body.period_start < one.body.period_end
        }
        if len(labs) >= 2:
            joined = [part for part in parts if part & (first | second)]
            parts = [part for part in parts if part not in joined] + [set().union(*joined)]
    assert groups(campaigns(said, NOW, TOGETHER, 1)) == {frozenset(part) for part in parts}


@settings(max_examples=40)
@given(sightings(), st.data())
def test_one_sighting_more_parts_nothing(said: list[Said], data: st.DataObject) -> None:
    if not said:
        return
    without = list(said)
    without.pop(data.draw(st.integers(0, len(said) - 1)))
    for together in ([], TOGETHER):
        after = groups(campaigns(said, NOW, together, 1))
        assert all(any(part <= whole for whole in after) for part in groups(campaigns(without, NOW, together, 1)))


@settings(max_examples=40)
@given(sightings(), st.sampled_from(FALLEN))
def test_what_does_not_count_is_in_no_campaign(said: list[Said], fall: Callable[[Said], Said]) -> None:
    half = len(said) // 2
    fallen = [fall(one) for one in said[half:]]
    assert campaigns([*said[:half], *fallen], NOW, TOGETHER, 1) == campaigns(said[:half], NOW, TOGETHER, 1)


@settings(max_examples=40)
@given(sightings())
def test_a_campaign_is_not_told_bigger_than_the_sum_of_its_sightings(said: list[Said]) -> None:
    size = {
        one.statement.id: lowest_of(one.statement.body.matches) for one in said if isinstance(one.statement, Sighting)
    }
    for found in campaigns(said, NOW, least_labs=1):
        members = members_of(found)
        assert lowest_of(found.matches) <= sum(size[one] for one in members)
        assert lowest_of(found.matches) >= lowest_of(max(found.shares, key=lambda one: lowest_of(one.matches)).matches)

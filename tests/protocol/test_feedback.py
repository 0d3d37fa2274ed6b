"""The feedback on a pattern version: what counts, how much, and that nobody can make it say more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharing_protocol.feedback import SAFE_WEIGHT, Feedback, Said, as_wire, feedback, why_not_counted
from sharing_protocol.intervals import wilson
from sharing_protocol.statements.handling import Bucket
from tests.protocol.said import NOW, endorsement, everything, lab, opinion, pattern, sighting

ENTRY = pattern()["entry"]


def of(*said: Said) -> Feedback:
    """The feedback on the first version."""
    return feedback(said, NOW).get(ENTRY, Feedback(ENTRY))


def test_everything_that_counts_is_there() -> None:
    found = of(
        opinion(1, lab(1), "confirm", (19, 20)),
        opinion(2, lab(2), "false_positive", (5, 20)),
        opinion(3, lab(3), "needs_work"),
        endorsement(4, lab(1)),
        sighting(5, lab(4), 3, 2, Bucket.UNDER_1_000),
        sighting(6, lab(1), 7, 1, Bucket.UNDER_100),
    )
    assert [*found.confirmed_by, *found.disputed_by, *found.needs_work_by] == [lab(1), lab(2), lab(3)]
    assert found.endorsed_by == {lab(1)}
    assert found.seen_by == {lab(1), lab(4)}
    assert (found.true_positives, found.reviewed, found.precision) == (24, 40, 0.6)
    assert found.precision_interval == wilson(24, 40)
    assert found.matches is Bucket.UNDER_1_000
    (dispute,) = found.disputes
    assert (dispute.lab, dispute.measured.reviewed, dispute.measured.true_positives) == (lab(2), 20, 5)
    written = as_wire(1, found)
    assert (written.first_seen, written.last_seen) == ("2026-03-03T00:00:00Z", "2026-03-08T00:00:00Z")


def test_nothing_said_is_nothing_known() -> None:
    found = of()
    assert (found.precision, found.precision_interval, found.matches) == (None, None, None)
    assert feedback([], NOW) == {}


WHY: list[tuple[Callable[[Said], Said], str]] = [
    (lambda said: replace(said, newest=False), "superseded"),
    (lambda said: replace(said, withdrawn=True), "withdrawn"),
    (lambda said: replace(said, suspect=True), "suspect"),
    (lambda said: replace(said, lab_active=False), "not a member"),
]


@pytest.mark.parametrize(("change", "why"), WHY, ids=[why for _, why in WHY])
def test_what_does_not_count_says_why_and_is_nowhere(change: Callable[[Said], Said], why: str) -> None:
    for said in (
        opinion(1, lab(1), "false_positive", (1, 9)),
        endorsement(1, lab(1)),
        sighting(1, lab(1), 1),
    ):
        assert why_not_counted(said, NOW) == ""
        assert feedback([said], NOW) != {}
        assert why_not_counted(change(said), NOW) == why
        assert feedback([change(said)], NOW) == {}


def test_an_opinion_counts_up_to_the_second_of_its_expiry() -> None:
    said = opinion(1, lab(1), until=NOW)
    assert feedback([said], NOW - timedelta(seconds=1)) != {}
    assert (feedback([said], NOW), why_not_counted(said, NOW)) == ({}, "expired")


def test_a_voice_counts_for_the_very_version_that_it_names() -> None:
    """A lab that speaks of many versions has one voice on each."""
    versions = [pattern(version=version) for version in range(1, 30)]
    found = feedback([opinion(n, lab(1), "confirm", (1, 1), one) for n, one in enumerate(versions)], NOW)
    assert found.keys() == {one["entry"] for one in versions}
    assert {(one.confirmed_by, one.reviewed) for one in found.values()} == {(frozenset({lab(1)}), 1)}


def test_a_second_voice_of_a_lab_would_replace_the_first() -> None:
    """Admission refuses it (`second_voice`); if it were there, it would not be counted twice."""
    first, second = opinion(1, lab(1), "confirm", (9, 9)), opinion(2, lab(1), "false_positive", (1, 9))
    for order in ([first, second], [second, first]):
        found = of(*order)
        assert [list(found.confirmed_by), list(found.disputed_by)] == [[], [lab(1)]]
        assert (found.reviewed, found.true_positives) == (9, 1)
    assert of(endorsement(1, lab(1)), endorsement(2, lab(1))).endorsed_by == {lab(1)}


def test_a_lab_does_not_endorse_its_own_pattern_into_force() -> None:
    """It may log that it stands by it, after its key was stolen; that is no other lab's word."""
    assert feedback([endorsement(1, lab(1), of_own=True)], NOW) == {}
    assert why_not_counted(endorsement(1, lab(1), of_own=True), NOW) == "own pattern"
    assert of(sighting(1, lab(1), 1, of_own=True)).seen_by == {lab(1)}


# -- the ballot ----------------------------------------------------------------------------------------------------


def test_a_lab_that_reviews_ten_thousand_does_not_outvote_those_that_reviewed_a_hundred() -> None:
    honest = [opinion(n, lab(n), "false_positive", (10, 100)) for n in (1, 2, 3)]
    found = of(*honest, opinion(4, lab(4), "confirm", (10_000, 10_000)))
    assert (found.true_positives, found.reviewed) == (130, 400)


def test_a_lab_that_reviews_one_does_not_make_the_others_worthless() -> None:
    found = of(opinion(1, lab(1), "confirm", (450, 500)), opinion(2, lab(2), "false_positive", (0, 1)))
    assert (found.true_positives, found.reviewed) == (27, SAFE_WEIGHT + 1)


def test_a_lab_alone_counts_with_all_it_reviewed() -> None:
    found = of(opinion(1, lab(1), "confirm", (450, 500)))
    assert (found.true_positives, found.reviewed) == (450, 500)


@settings(max_examples=40)
@given(st.lists(st.integers(2, 10_000), min_size=1, max_size=7), st.data())
def test_no_lab_can_move_the_precision_further_than_its_weight(sizes: list[int], data: st.DataObject) -> None:
    others = [opinion(n, lab(n), "confirm", (data.draw(st.integers(0, size)), size)) for n, size in enumerate(sizes, 1)]
    reviewed = data.draw(st.integers(2, 10_000))
    for right in (0, reviewed):
        found = of(*others, opinion(99, lab(99), "confirm", (right, reviewed)))
        most = max(SAFE_WEIGHT, sorted([*sizes, reviewed])[len(sizes) // 2])
        assert found.reviewed == sum(min(size, most) for size in [*sizes, reviewed])
        assert 0 <= found.true_positives <= found.reviewed
        # Without this lab's weight, the rest is what it would be for the same cap.
        own = min(reviewed, most)
        assert found.true_positives - (own if right else 0) <= found.reviewed - own
    # Whoever reviews the most weighs no more than another lab does, or the safe weight.
    assert own <= max(SAFE_WEIGHT, *sizes)


def test_whom_a_reader_leaves_out_weighs_on_nobody() -> None:
    said = [opinion(1, lab(1), "confirm", (9, 10)), opinion(2, lab(2), "confirm", (400, 500))]
    liars = [opinion(n, lab(n), "confirm", (10_000, 10_000)) for n in (3, 4, 5)]
    found = of(*said, *liars)
    assert found.measured_by_others({lab(3), lab(4), lab(5), lab(6)}) == of(*said).measured_by_others() == (40, 33)
    assert found.measured_by_others() == (found.reviewed, found.true_positives)
    assert found.measured_by_others(found.measured) == (0, 0)


def test_a_dispute_that_was_taken_back_or_revised_no_longer_counts_in_the_precision() -> None:
    good, dispute = opinion(1, lab(1), "confirm", (20, 20)), opinion(2, lab(2), "false_positive", (0, 20))
    assert of(good, dispute).precision == 0.5
    assert of(good, replace(dispute, withdrawn=True)).precision == 1
    revised = opinion(3, lab(2), "confirm")
    for said in ([good, replace(dispute, newest=False), revised], [good, dispute, revised]):
        assert (of(*said).precision, of(*said).disputes) == (1, ())


# -- sightings -----------------------------------------------------------------------------------------------------


def test_days_that_a_lab_reports_twice_count_once() -> None:
    again = [sighting(n, lab(1), 1 + n % 3, 5, Bucket.UNDER_1_000) for n in range(50)]
    assert of(*again).matches is Bucket.UNDER_1_000
    apart = [sighting(n, lab(1), 1 + 2 * n, 2, Bucket.UNDER_1_000) for n in range(12)]
    assert of(*apart).matches is Bucket.UNDER_10_000
    by_all = [sighting(n, lab(n), 1, 5, Bucket.UNDER_1_000) for n in range(12)]
    assert of(*by_all).matches is Bucket.UNDER_10_000


# -- properties ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(everything(), st.randoms(use_true_random=False))
def test_order_does_not_matter(said: list[Said], random: object) -> None:
    shuffled = list(said)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert feedback(shuffled, NOW) == feedback(said, NOW)


@settings(max_examples=40)
@given(everything())
def test_one_voice_a_lab_and_only_of_what_counts(said: list[Said]) -> None:
    for entry, found in feedback(said, NOW).items():
        counted = [
            one.statement
            for one in said
            if one.statement.body.pattern.entry == entry
            and one.newest
            and not one.withdrawn
            and not one.suspect
            and one.lab_active
            and not one.of_own
        ]
        verdicts = [*found.confirmed_by, *found.disputed_by, *found.needs_work_by]
        assert sorted(verdicts) == sorted(one.author for one in counted if one.type == "opinion")
        assert len(set(verdicts)) == len(verdicts)
        assert found.endorsed_by == {one.author for one in counted if one.type == "endorsement"}
        assert found.seen_by == {one.author for one in counted if one.type == "sighting"}
        assert {dispute.lab for dispute in found.disputes} == found.disputed_by


@settings(max_examples=40)
@given(everything(), st.sampled_from([change for change, _ in WHY]))
def test_what_never_counted_changes_nothing_when_it_goes(said: list[Said], change: Callable[[Said], Said]) -> None:
    half = said[: len(said) // 2]
    gone = [change(one) for one in said[len(said) // 2 :]]
    assert feedback([*half, *gone], NOW) == feedback(half, NOW)


@pytest.mark.parametrize(
    ("found", "of", "low", "high"),
    [
        (0, 0, 0, 1), (0, 1, 0, 0.7935), (1, 1, 0.2065, 1), (0, 10, 0, 0.2775), (1, 10, 0.0179, 0.4042),
        (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1),
    ],
)  # fmt: skip
def test_the_interval_of_a_share_is_wilsons(found: int, of: int, low: float, high: float) -> None:
    assert wilson(found, of) == pytest.approx((low, high), abs=5e-5)
    assert (wilson(found, of)[0] == 0, wilson(found, of)[1] == 1) == (low == 0, high == 1)

"""The simulation in small: a bad pattern blocks nobody and is retired, a good one enforces (`make simulation`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hub.identity import HubIdentity
from tests.simulation.story import claims, story_on
from tests.simulation.traffic import Sizes, labs_traffic, made_up_corpus

DAYS = 13


def test_a_bad_pattern_blocks_nobody_and_a_good_one_enforces(
    tmp_path: Path, new_database: Callable[[], str], hub_identity: HubIdentity
) -> None:
    sizes = Sizes(accounts=1_200, campaign=25, days=DAYS)
    traffics = labs_traffic(made_up_corpus(), 4, sizes, 1, tmp_path / "traffic")
    with story_on(new_database(), hub_identity, traffics, tmp_path) as story:
        report = story.run(DAYS)
    assert {claim for claim, holds in claims(report).items() if not holds} == set()

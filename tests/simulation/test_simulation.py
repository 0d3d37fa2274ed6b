"""The simulation in small: a bad pattern blocks nobody and is retired, a good one enforces (`make simulation`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.story import claims, story_on
from tests.simulation.traffic import Sizes, labs_traffic, made_up_corpus

DAYS = 10
IDLE = frozenset([0, 1, 2, 4, 5, 7, 8])
"""On which nothing would change a pattern's stage."""


@pytest.mark.timeout(900)
def test_a_bad_pattern_blocks_nobody_and_a_good_one_enforces(tmp_path: Path, new_database: Callable[[], str]) -> None:
    sizes = Sizes(accounts=1_000, campaign=25, days=DAYS)
    traffics = labs_traffic(made_up_corpus(), 4, sizes, 1, tmp_path / "traffic")
    with story_on(new_database(), traffics, tmp_path) as story:
        report = story.run(DAYS, IDLE)
    assert {claim for claim, holds in claims(report).items() if not holds} == set()

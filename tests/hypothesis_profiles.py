"""Hypothesis profiles: the same examples on every run unless somebody asks for a search."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings


def load() -> None:
    """Use the profile that HYPOTHESIS_PROFILE names."""
    settings.register_profile(
        "ci",
        max_examples=150,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    ci = settings.get_profile("ci")
    settings.register_profile("search", parent=ci, max_examples=2000, derandomize=False)
    # For `make mutation`, which wants to know that a test fails and not the smallest example of it.
    settings.register_profile("mutation", parent=ci, phases=(Phase.explicit, Phase.generate))
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

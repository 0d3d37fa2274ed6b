"""The same examples on every run."""

from __future__ import annotations

from tests import hypothesis_profiles

hypothesis_profiles.load()

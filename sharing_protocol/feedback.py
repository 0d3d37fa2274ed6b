"""What other labs say of a pattern version, one voice a lab."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Feedback:
    """What is known of one pattern version from the labs' opinions, endorsements and sightings.

    Attributes:
        entry: hex entry hash of the version; what was said of another version is not in here.
        confirmed_by, disputed_by, needs_work_by, endorsed_by, seen_by: ids of labs.
        reviewed, true_positives: matches that labs reviewed, and of these the true ones, summed over labs.
    """

    entry: str
    confirmed_by: frozenset[str]
    disputed_by: frozenset[str]
    needs_work_by: frozenset[str]
    endorsed_by: frozenset[str]
    seen_by: frozenset[str]
    reviewed: int
    true_positives: int

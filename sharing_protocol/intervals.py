"""How sure a share is that was counted in a sample."""

from __future__ import annotations

from math import sqrt

_Z = 1.959963984540054  # 97.5 % of a normal distribution


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share (Wilson 1927); all of 0 to 1 if there is nothing to count."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = found / of, _Z * _Z
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    # at the ends the bound is the share itself, which rounding would miss
    return max(0.0, centre - half) if found else 0.0, min(1.0, centre + half) if found < of else 1.0

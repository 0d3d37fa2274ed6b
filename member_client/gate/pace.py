"""How many requests of a throttled subject pass: evenly spaced ones, with a little credit (the GCRA)."""

from __future__ import annotations

from collections import OrderedDict

BURST = 5
MAX_SUBJECTS = 65_536
"""Beyond so many at a time those who came first are forgotten: they get their credit anew."""


class Pace:
    """Keeps a pace for each of many decisions."""

    def __init__(self, per_minute: int) -> None:
        """Let so many requests a minute pass; 0 for none."""
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._due: OrderedDict[str, float] = OrderedDict()

    def wait(self, decision: str, now: float) -> float:
        """Seconds until the next request may pass, 0 if this one does.

        Args:
            now: seconds of a clock that does not go back.
        """
        if not self._gap:
            return 60.0
        due = max(self._due.pop(decision, now), now)
        early = due - now - (BURST - 1) * self._gap
        if early > 0:
            self._due[decision] = due
            return early
        if len(self._due) >= MAX_SUBJECTS:
            self._due.popitem(last=False)
        self._due[decision] = due + self._gap
        return 0.0

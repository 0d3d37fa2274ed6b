"""What a measurement gives: a figure, mostly as a ratio to something bare that ran beside it on the same machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        samples: repetitions, of which the median counts.
        patterns: in the log that is synced.
        submissions: in each sample, by `clients` at once.
        arrivals: submissions that a follower waits for.
        requests: that detection runs over; of these, `sqlite_requests` in SQLite.
        gated: decisions that the gate has in force; the load lasts about three times `gate_seconds`.
        followers: who wait at the hub while `rate` submissions a second come in, for `seconds`.
    """

    samples: int = 3
    patterns: int = 20_000
    submissions: int = 1_500
    clients: int = 32
    arrivals: int = 100
    followers: int = 500
    rate: int = 50
    seconds: int = 300
    requests: int = 1_000_000
    sqlite_requests: int = 20_000
    gated: int = 1_000_000
    gate_seconds: float = 20.0


QUICK = Sizes(
    samples=1,
    patterns=300,
    submissions=64,
    clients=8,
    arrivals=3,
    followers=20,
    rate=10,
    seconds=3,
    requests=50_000,
    sqlite_requests=2_000,
    gated=20_000,
    gate_seconds=1.0,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A result.

    Attributes:
        value: median of the samples, in `unit`.
        samples: all of them; in `unit`, or of the ratio if there is one.
        ratio: median of value by what it is measured against, each pair taken in one run, or None.
        against: what that is, with its own median.
        target: what the project promises, "" if nothing.
        met: whether it is kept, None without a target.
    """

    name: str
    value: float
    unit: str
    samples: Sequence[float]
    ratio: float | None = None
    against: str = ""
    target: str = ""
    met: bool | None = None


class BenchFailed(Exception):
    """What was measured did not work."""


def compared(name: str, unit: str, pairs: Sequence[tuple[float, float]], against: str, least: float) -> Figure:
    """A rate beside a bare rate: `pairs` of both, each pair taken one right after the other."""
    ratios = [ours / bare for ours, bare in pairs]
    bare = median(bare for _, bare in pairs)
    return Figure(
        name,
        median(ours for ours, _ in pairs),
        unit,
        ratios,
        median(ratios),
        f"{against}: {bare:,.0f} {unit}",
        f"ratio >= {least}",
        median(ratios) >= least,
    )


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value under which so many percent of the samples lie."""
    return quantiles(samples, n=100, method="inclusive")[percent - 1] if len(samples) > 1 else samples[0]


def table(figures: Iterable[Figure]) -> str:
    """For people."""
    lines = [f"{'figure':<24}{'median':>12} {'unit':<12}{'ratio':>7}  {'target':<16}{'met':<5}against"]
    for one in figures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        met = "" if one.met is None else "yes" if one.met else "NO"
        lines.append(
            f"{one.name:<24}{one.value:>12,.1f} {one.unit:<12}{ratio:>7}  {one.target:<16}{met:<5}{one.against}"
        )
    return "\n".join(lines)


def write(figures: Iterable[Figure], path: Path) -> None:
    """For programs: a JSON object, a member each figure."""
    document = {
        one.name: {
            "value": round(one.value, 3),
            "unit": one.unit,
            "ratio": None if one.ratio is None else round(one.ratio, 4),
            "against": one.against,
            "target": one.target,
            "met": one.met,
            "samples": [round(sample, 4) for sample in one.samples],
        }
        for one in figures
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


_begun = time.monotonic()


def progress(what: str) -> None:
    """Say what is going on."""
    print(f"[{time.monotonic() - _begun:6.1f} s] {what}", file=sys.stderr, flush=True)

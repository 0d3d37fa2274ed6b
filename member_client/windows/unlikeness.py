"""How unlike ordinary traffic a group's prompts are: `window.mmd_z`, a permutation test of kernel mean embeddings.

After Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), with two changes. The unbiased estimate is taken over
*different units* only, since one party's prompts resemble each other anyway; and the null hypothesis draws other
units of the same window, not other prompts. Everything is drawn by hashes, so that the same requests give the same
number. docs/log-sources.md has the method in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 1024
EXCERPT_BYTES = 400
GRAMS = (3, 5)  # lengths, in bytes
DRAWS = 200
CLUSTER_UNITS = 64
MIN_UNITS = 8
UNIT_PROMPTS = 8
MIN_COMPARED = 20
SHARED_NULL = 0.95
_STRATA = np.array([0, 0, 1, 2, 2, 3, 3, 3, 3])  # by the number of a unit's prompts: the rounded-up log2

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
Vectors = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Counts = NDArray[np.int64]


def embed(texts: Sequence[str]) -> Vectors:
    """One vector of unit length a text: its hashed byte n-grams, each counted as the root of its number.

    A text is lower-cased and cut to 400 bytes of UTF-8. The n bytes b1 … bn of a gram make the number
    Σ b_i 256^(n-i), and with it (number + n 2^56) 0x9E3779B97F4A7C15 mod 2^64, whose ten highest bits are the place.

    Returns:
        shape (texts, 1024); a text of fewer than three bytes is the null vector.
    """
    raw = [text.lower().encode()[:EXCERPT_BYTES] for text in texts]
    lengths = np.array([len(one) for one in raw], dtype=np.int64)
    stream = np.frombuffer(b"".join(raw), dtype=np.uint8).astype(np.uint64)
    owner = np.repeat(np.arange(len(raw)), lengths)
    counts = np.zeros(len(raw) * DIMENSIONS)
    for size in GRAMS:
        if len(stream) < size:
            continue
        last = len(stream) - size + 1
        number = np.full(last, np.uint64(size) << np.uint64(56))
        for place in range(size):
            number += stream[place : place + last] << np.uint64(8 * (size - 1 - place))
        whole = owner[:last] == owner[size - 1 :]
        bucket = ((number * _GOLDEN) >> np.uint64(54)).astype(np.int64)
        counts += np.bincount((owner[:last] * DIMENSIONS + bucket)[whole], minlength=len(counts))
    vectors = np.sqrt(counts.reshape(len(raw), DIMENSIONS))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1)
    return vectors


def mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class Ordinary:
    """A sample of a window's units.

    Attributes:
        units: shape (units,), their hashes.
        means: shape (units, dimensions), the mean vector of each one's prompts.
        prompts: shape (units,), the number of prompts in each mean, at most UNIT_PROMPTS.
        products: shape (units, units), inner products of the means.
        nulls: what was drawn from the whole sample, by how many units of each stratum.
    """

    units: Hashes
    means: Vectors
    prompts: Counts
    products: Vectors
    nulls: dict[tuple[int, ...], Vectors]

    @classmethod
    def of(cls, units: Hashes, means: Vectors, prompts: Counts) -> Ordinary:
        return cls(units, means, prompts, means @ means.T, {})


def unlikeness(units: Hashes, means: Vectors, prompts: Counts, ordinary: Ordinary) -> float | None:
    """How many standard deviations a group of units stands out among the others of its window.

    Args:
        units: hashes; of more than CLUSTER_UNITS, those with the lowest are looked at.
        means: shape (units, dimensions).
        prompts: at most UNIT_PROMPTS each.
        ordinary: units of the same window.

    Returns:
        None where fewer than two ordinary units remain for each one of the group, or fewer than MIN_UNITS in it.
    """
    outside = ~np.isin(ordinary.units, units)
    rest = int(outside.sum())
    size = min(len(units), CLUSTER_UNITS, rest // 2)
    if size < MIN_UNITS:
        return None
    kept = np.argsort(units, kind="stable")[:size]
    group, others = means[kept], ordinary.means[outside]
    observed = (
        _among(_square_of_sum(group), float((group**2).sum()), size)
        - 2 * float(group.sum(axis=0) @ others.sum(axis=0)) / (size * rest)
        + _among(_square_of_sum(others), float((others**2).sum()), rest)
    )
    return standardised(observed, _null_for(_STRATA[prompts[kept]], outside, ordinary))


def _null_for(strata: Counts, outside: NDArray[np.bool_], ordinary: Ordinary) -> Vectors:
    """The statistic of random groups of ordinary units, with as many of each stratum.

    The group's own units are left out of it where they are more than a twentieth of the sample; a smaller group is
    drawn too seldom to show, and groups of one make share their draws.
    """
    if outside.mean() < SHARED_NULL:
        return _null(strata, np.flatnonzero(outside), ordinary)
    make = tuple(np.bincount(strata, minlength=int(_STRATA.max()) + 1).tolist())
    if make not in ordinary.nulls:
        ordinary.nulls[make] = _null(strata, np.arange(len(outside)), ordinary)
    return ordinary.nulls[make]


def _null(strata: Counts, eligible: Counts, ordinary: Ordinary) -> Vectors:
    """The unbiased squared MMD between each of DRAWS groups and the eligible units left over by it."""
    size, rest = len(strata), len(eligible) - len(strata)
    drawn = eligible[_draw(ordinary.units[eligible], _STRATA[ordinary.prompts[eligible]], strata)]
    by_unit = ordinary.products[:, eligible].sum(axis=1)
    norms = np.diagonal(ordinary.products)
    inside = ordinary.products[drawn[:, :, None], drawn[:, None, :]].sum(axis=(1, 2))
    across = by_unit[drawn].sum(axis=1) - inside
    squares = norms[drawn].sum(axis=1)
    left = by_unit[eligible].sum() - inside - 2 * across
    left_squares = norms[eligible].sum() - squares
    return np.asarray(
        (inside - squares) / (size * (size - 1))
        - 2 * across / (size * rest)
        + (left - left_squares) / (rest * (rest - 1))
    )


def _draw(units: Hashes, strata: Counts, wanted: Counts) -> Counts:
    """The places of each draw's units, without replacement: those of the nearest stratum first, then by hash."""
    seeds = (np.arange(1, DRAWS + 1, dtype=np.uint64) * _GOLDEN)[:, None]
    chance = (mix(units[None, :] ^ seeds) >> np.uint64(11)).astype(np.float64) / 2.0**53
    places = []
    for stratum in np.unique(wanted):
        number = int((wanted == stratum).sum())
        order = np.abs(strata - stratum)[None, :] + chance
        chosen = np.argpartition(order, number - 1, axis=1)[:, :number]
        np.put_along_axis(chance, chosen, np.inf, axis=1)
        places.append(chosen)
    return np.sort(np.concatenate(places, axis=1), axis=1)


def _square_of_sum(vectors: Vectors) -> float:
    total = vectors.sum(axis=0)
    return float(total @ total)


def _among(square_of_sum: float, squares: float, size: int) -> float:
    """Mean inner product of two different ones of `size` vectors."""
    return (square_of_sum - squares) / (size * (size - 1))


def self_likeness(vectors: Vectors, centre: Vectors) -> float:
    """The squared MMD between one account's prompts and `centre`, but for a constant of the window."""
    among = _among(_square_of_sum(vectors), float((vectors**2).sum()), len(vectors))
    return among - 2 * float(vectors.mean(axis=0) @ centre)


def standardised(observed: float, null: Vectors) -> float | None:
    """Standard deviations above the mean of `null`; None if that has under 20 values, or only one."""
    deviation = null.std() if len(null) >= MIN_COMPARED else 0
    return float((observed - null.mean()) / deviation) if deviation > 0 else None

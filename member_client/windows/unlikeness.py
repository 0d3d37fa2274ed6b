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
CLUSTER_UNITS = 100
MIN_UNITS = 8
UNIT_PROMPTS = 8
_STRATA = np.array([0, 1, 2, 3, 3, 4, 4, 4, 4])  # of units by the number of their prompts

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
Vectors = NDArray[np.float64]
Hashes = NDArray[np.uint64]


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
    return np.divide(vectors, norms, out=vectors, where=norms > 0)


@dataclass(frozen=True, slots=True)
class Ordinary:
    """A sample of a window's units: their hashes, mean vectors, and how many prompts are in each mean."""

    units: Hashes
    means: Vectors
    prompts: NDArray[np.int64]
    products: Vectors

    @classmethod
    def of(cls, units: Hashes, means: Vectors, prompts: NDArray[np.int64]) -> Ordinary:
        return cls(units, means, prompts, means @ means.T)


def mix(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def unlikeness(units: Hashes, means: Vectors, prompts: NDArray[np.int64], ordinary: Ordinary) -> float | None:
    """z of a group of units (of more than 100, those with the lowest hashes) against the others of its window.

    Args:
        units: shape (units,), their hashes.
        means: shape (units, dimensions), the mean vector of each one's prompts.
        prompts: shape (units,), the number of prompts in each mean, at most UNIT_PROMPTS.
        ordinary: units of the same window; those of the group among them are left out.

    Returns:
        None where fewer than two ordinary units remain for each one of the group, or fewer than MIN_UNITS in it.
    """
    outside = ~np.isin(ordinary.units, units)
    size = min(len(units), CLUSTER_UNITS, int(outside.sum()) // 2)
    if size < MIN_UNITS:
        return None
    kept = np.argsort(units, kind="stable")[:size]
    products = ordinary.products[np.ix_(outside, outside)]
    others = ordinary.means[outside]
    group = means[kept]
    observed = (
        _among(_square_of_sum(group), (group**2).sum(), size)
        - 2 * (group.sum(axis=0) @ others.sum(axis=0)) / (size * len(others))
        + _among(products.sum(), products.trace(), len(others))
    )
    drawn = _draw(ordinary.units[outside], _STRATA[ordinary.prompts[outside]], _STRATA[prompts[kept]])
    null = _null(products, drawn, size)
    deviation = null.std()
    return float((observed - null.mean()) / deviation) if deviation > 0 else None


def _square_of_sum(vectors: Vectors) -> float:
    total = vectors.sum(axis=0)
    return float(total @ total)


def _among(square_of_sum: Vectors | float, squares: Vectors | float, size: int) -> Vectors | float:
    """Mean inner product of two different ones of `size` vectors."""
    return (square_of_sum - squares) / (size * (size - 1))


def _null(products: Vectors, drawn: Vectors, size: int) -> Vectors:
    """The unbiased squared MMD between each draw and the units left over by it."""
    rest = len(products) - size
    with_all = drawn @ products
    inside = (with_all * drawn).sum(axis=1)
    across = with_all.sum(axis=1) - inside
    outside = products.sum() - inside - 2 * across
    squares = drawn @ np.diagonal(products)
    return np.asarray(
        _among(inside, squares, size)
        - 2 * across / (size * rest)
        + _among(outside, products.trace() - squares, rest)
    )


def _draw(units: Hashes, strata: NDArray[np.int64], wanted: NDArray[np.int64]) -> Vectors:
    """Membership of each unit in each draw (0 or 1), without replacement: nearest stratum first, then by hash."""
    seeds = (np.arange(1, DRAWS + 1, dtype=np.uint64) * _GOLDEN)[:, None]
    chance = (mix(units[None, :] ^ seeds) >> np.uint64(11)).astype(np.float64) / 2.0**53
    drawn = np.zeros(chance.shape)
    for stratum in np.unique(wanted):
        number = int((wanted == stratum).sum())
        order = np.abs(strata - stratum)[None, :] + chance + drawn * 100
        chosen = np.argpartition(order, number - 1, axis=1)[:, :number]
        np.put_along_axis(drawn, chosen, 1.0, axis=1)
    return drawn

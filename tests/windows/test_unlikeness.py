"""`window.mmd_z` is about standard where nothing is amiss, and large where a group writes like nobody else."""

from __future__ import annotations

import random

import numpy as np
import pytest

from member_client.windows.unlikeness import DIMENSIONS, Hashes, Ordinary, Vectors, embed, unlikeness
from tests.windows.traffic import DAY, MONDAY, WORDS, Request, rows, sentence, windows_of

OTHER_WORDS = [
    "quantum",
    "tensor",
    "lemma",
    "integral",
    "vector",
    "eigenvalue",
    "gradient",
    "topology",
    "manifold",
    "kernel",
    "entropy",
    "bayesian",
    "polynomial",
    "theorem",
    "corollary",
    "matrix",
    "scalar",
    "operator",
    "spectrum",
    "convexity",
]
PROMPTS = 8


def hashes(rng: random.Random, units: int) -> Hashes:
    return np.array([rng.getrandbits(64) for _ in range(units)], dtype=np.uint64)


def person(rng: random.Random, foreign: float = 0) -> list[str]:
    """Eight prompts of somebody with interests of their own, some of them in another register."""
    interests = rng.sample(WORDS, 8)
    return [
        sentence(rng, OTHER_WORDS if rng.random() < foreign else interests, rng.randrange(5, 20))
        for _ in range(PROMPTS)
    ]


def means(people: list[list[str]]) -> Vectors:
    vectors = embed([prompt for prompts in people for prompt in prompts])
    return np.asarray(vectors.reshape(len(people), PROMPTS, DIMENSIONS).mean(axis=1))


def z(rng: random.Random, ordinary: Ordinary, people: list[list[str]]) -> float:
    found = unlikeness(hashes(rng, len(people)), means(people), np.full(len(people), PROMPTS), ordinary)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def ordinary() -> Ordinary:
    rng = random.Random(11)
    people = [person(rng) for _ in range(300)]
    return Ordinary.of(hashes(rng, 300), means(people), np.full(300, PROMPTS))


@pytest.mark.parametrize("size", [8, 30, 100])
def test_random_groups_are_about_standard(ordinary: Ordinary, size: int) -> None:
    rng = random.Random(size)
    scores = [z(rng, ordinary, [person(rng) for _ in range(size)]) for _ in range(40)]
    assert abs(np.mean(scores)) < 0.6
    assert 0.5 < np.std(scores) < 1.7


def test_a_third_of_another_register_stands_out(ordinary: Ordinary) -> None:
    rng = random.Random(2)
    assert z(rng, ordinary, [person(rng, foreign=0.3) for _ in range(30)]) > 10


def test_groups_of_the_sample_itself_are_standard_too(ordinary: Ordinary) -> None:
    rng = random.Random(3)
    scores = []
    for _ in range(30):
        at = np.array(rng.sample(range(300), 60))
        scores.append(unlikeness(ordinary.units[at], ordinary.means[at], ordinary.prompts[at], ordinary))
    assert abs(np.mean(np.array(scores, dtype=float))) < 0.6


def test_too_few_units_or_too_few_others_say_nothing(ordinary: Ordinary) -> None:
    rng = random.Random(4)
    seven = means([person(rng) for _ in range(7)])
    assert unlikeness(hashes(rng, 7), seven, np.full(7, PROMPTS), ordinary) is None
    whole = unlikeness(ordinary.units[:290], ordinary.means[:290], ordinary.prompts[:290], ordinary)
    assert whole is None


def test_an_embedding_is_as_written_down() -> None:
    multiplier = 0x9E3779B97F4A7C15

    def place(gram: bytes) -> int:
        number = int.from_bytes(gram, "big") + (len(gram) << 56)
        return number * multiplier % 2**64 >> 54

    text = "Ärger, Ärger"
    raw = text.lower().encode()
    wanted = np.zeros(DIMENSIONS)
    for size in (3, 5):
        for start in range(len(raw) - size + 1):
            wanted[place(raw[start : start + size])] += 1
    wanted = np.sqrt(wanted)
    found = embed(["x", text, "", "unrelated"])
    assert np.allclose(found[1], wanted / np.linalg.norm(wanted))
    assert not found[0].any()
    assert not found[2].any()


def test_only_the_beginning_of_a_text_counts() -> None:
    assert np.array_equal(embed(["a b c" * 100 + "tail"]), embed(["a b c" * 100 + "another"]))


def heavy(account: str, rng: random.Random, words: list[str]) -> list[Request]:
    return [
        {"timestamp": MONDAY + rng.randrange(DAY), "account.id": account, "prompt.text": sentence(rng, words, 8)}
        for _ in range(210)
    ]


def test_a_heavy_account_of_another_register_stands_out_among_heavy_accounts() -> None:
    rng = random.Random(6)
    log = [one for number in range(25) for one in heavy(f"batch-{number}", rng, rng.sample(WORDS, 12))]
    log += heavy("harvester", rng, OTHER_WORDS)
    log += [dict(one) | {"account.id": "light"} for one in heavy("light", rng, WORDS)[:150]]
    found = {row["account.id"]: row["window.mmd_z"] for row in rows(windows_of(log, hours=(24,)), "account_window")}
    assert found["light"] is None
    harvester = found.pop("harvester")
    assert harvester > 3
    assert harvester > 2 * max(score for score in found.values() if score is not None)


def test_accounts_without_prompts_are_no_part_of_the_comparison() -> None:
    rng = random.Random(7)
    log: list[Request] = []
    for number in range(90):
        account = {"account.id": f"a{number}", "client.fingerprint": "shared" if number < 20 else f"own-{number}"}
        for _ in range(10):
            prompt = None if number % 4 == 0 else sentence(rng, OTHER_WORDS if number < 20 else WORDS)
            log.append(account | {"timestamp": MONDAY + rng.randrange(DAY), "prompt.text": prompt})
    (cluster,) = (row for row in rows(windows_of(log, hours=(24,)), "cluster_window") if row["cluster.key"] == "shared")
    assert cluster["cluster.units"] == 20
    assert cluster["window.mmd_z"] > 10

"""Starter patterns over real prompts: those of distillation pipelines, and those of ordinary and heavy users."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from sharing_protocol.pattern_logic import Event, compile_logic
from tests.pattern_logic.test_starters import STARTERS

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "train"
SAMPLE = 800  # rows a file, evenly spaced; the whole takes some seconds more
BENIGN_CEILING = 0.0005  # share of benign rows that may match anything
META_PROMPTS = {  # files whose prompts are the machinery of a public method, and the pattern made for it
    "alpaca_bootstrap_meta": "self-instruct-bootstrapping",
    "self_instruct_bootstrap_meta": "self-instruct-bootstrapping",
    "evol_code_meta": "evol-instruct-rewriting",
    "baize_selfchat_meta": "self-chat-scripts",
    "metamath_rephrase_meta": "math-question-augmentation",
    "alpaca_wrapped": "alpaca-wrapped-instructions",
}


def sample(path: Path) -> list[Event]:
    """Rows of a file as requests, evenly spaced."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = list(lines)
    step = max(1, len(rows) // SAMPLE)
    return [Event({"prompt.text": json.loads(row)["prompt"]}) for row in islice(rows, 0, None, step)]


def matches_by_pattern(events: list[Event]) -> tuple[Counter[str], int]:
    """How many events each single-request pattern matches, and how many match any."""
    single = {slug: pattern for slug, pattern in STARTERS.items() if pattern["kind"] == "query_pattern"}
    asked = {slug: compile_logic(pattern["logic"]) for slug, pattern in single.items()}
    matched: Counter[str] = Counter()
    any_match = 0
    for event in events:
        names = [slug for slug, logic in asked.items() if logic.match_event(event)]
        matched.update(names)
        any_match += bool(names)
    return matched, any_match


@pytest.fixture(scope="module")
def corpora() -> Path:
    if not CORPORA.is_dir():
        pytest.skip("the corpora are not on this machine (looked for ../shared/corpora/train)")
    return CORPORA


@pytest.mark.parametrize(("source", "slug"), META_PROMPTS.items())
def test_the_machinery_of_public_methods_is_recognised(corpora: Path, source: str, slug: str) -> None:
    events = sample(corpora / "attack" / f"{source}.jsonl.gz")
    matched, _ = matches_by_pattern(events)
    assert matched[slug] >= 0.95 * len(events)


def test_ordinary_and_heavy_users_are_left_alone(corpora: Path) -> None:
    seen = flagged = 0
    for path in sorted((corpora / "benign").glob("*.jsonl.gz")):
        events = sample(path)
        _, any_match = matches_by_pattern(events)
        seen += len(events)
        flagged += any_match
    assert seen > 10_000
    assert flagged <= BENIGN_CEILING * seen

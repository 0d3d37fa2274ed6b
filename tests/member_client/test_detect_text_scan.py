"""The pass for all literals at once: what it gives, and prompts and rules made to make it give too much."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from member_client.detection import hits
from member_client.detection.detecting import Options
from member_client.detection.literals import all_required, required
from member_client.detection.text_scan import TextScan, rarest
from sharing_protocol.pattern_logic import compile_logic
from tests.member_client.detection_runs import pattern, run, write_json_lines
from tests.pattern_logic.documents import rule


def scan_for(*tests: Any) -> TextScan:
    """A scan for rules that are numbered from 0."""
    needed = {}
    for number, test in enumerate(tests):
        needed[number] = required(compile_logic([rule(s={"prompt.text|contains": test})]).rules[0].condition)
    return TextScan({number: need for number, need in needed.items() if need is not None})


def candidates(scan: TextScan, *texts: str | None) -> set[tuple[int, int]]:
    """Rows and rules; none may be told twice."""
    rows, rules = scan.scan(pa.RecordBatch.from_pydict({"prompt.text": pa.array(texts, pa.string())}))
    pairs = list(zip(rows.tolist(), rules.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    return set(pairs)


def peak() -> int:
    """MiB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


def test_a_text_with_a_letter_that_folds_into_ascii_is_searched_as_it_folds() -> None:
    scan = scan_for("your work", "step by step", "other")
    texts = ["other", "YOUR WOR\u212a", None, "\u017ftep by \u017fTEP", "\u212a\u017f", "step by step"]
    assert candidates(scan, *texts) == {(0, 2), (1, 0), (3, 1), (5, 1)}


@pytest.mark.parametrize("letter", ["a", "\u212a"])
def test_a_text_of_millions_of_literals_takes_no_memory_of_its_own(letter: str) -> None:
    ascii_letter = letter.casefold()
    scan = scan_for(*(ascii_letter * length for length in range(3, 43)), "neighbour")
    before = peak()
    found = candidates(scan, "neighbour", letter * 1_000_000, None, ascii_letter * 4, "")
    assert peak() - before < 400
    assert found == {(0, 40), (3, 0), (3, 1)} | {(1, number) for number in range(40)}


def test_a_text_of_very_many_different_literals_is_a_candidate_of_every_rule() -> None:
    words = [f"w{number}w" for number in range(10_000, 11_001)]
    found = candidates(scan_for(*words, "absent"), "absent", " ".join(words * 1_000), words[0])
    assert found == {(0, len(words)), (2, 0)} | {(1, number) for number in range(len(words) + 1)}


def test_literals_of_a_rule_that_have_another_in_them_are_not_looked_for() -> None:
    assert candidates(scan_for(["aaa", "baaac"], "baaac"), "baaac", "aaa", "baac") == {(0, 0), (0, 1), (1, 0)}


def test_of_all_that_a_rule_needs_the_rarest_is_looked_for() -> None:
    documents = [
        rule(s={"prompt.text|contains|all": ["frequent", "rare", "some"]}),
        rule(s={"prompt.text|contains|all": ["frequent", "unseen"], "account.id|contains": "nobody's"}),
        rule(s={"prompt.text|contains": ["frequent", "rare"]}, t={"prompt.text|re": "so(me|on)"}, condition="s and t"),
    ]
    choices = {n: all_required(compile_logic([one]).rules[0].condition) for n, one in enumerate(documents)}
    texts = ["frequent some", "some frequent", "Frequent", "rare soon", "frequent some rare", None]
    batch = pa.RecordBatch.from_pydict({"prompt.text": pa.array(texts), "account.id": pa.array(["abc"] * 6)})
    chosen = {number: (one.field, set(one.literals)) for number, one in rarest(choices, batch).items()}
    assert chosen == {
        0: ("prompt.text", {b"rare"}),
        1: ("account.id", {b"nobody's"}),  # nobody has that or "unseen": the longer one
        2: ("prompt.text", {b"some", b"soon"}),
    }


def test_what_is_looked_for_makes_no_difference_to_what_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first rows mislead: only the others have "often", all of them."""
    monkeypatch.setattr(hits, "_FEWEST_TO_CHOOSE_BY", 4)
    monkeypatch.setattr(hits, "_MOST_TO_CHOOSE_BY", 4)
    monkeypatch.setattr(hits, "_WAITING_BYTES", 1_000)
    texts = ["common thing"] * 4 + [f"often {'thing' if n % 3 else ''} {'common' if n % 2 else ''}" for n in range(60)]
    rows = [{"prompt.text": text, "prompt.turns": n % 5} for n, text in enumerate(texts)]
    logs = [write_json_lines(tmp_path / f"{name}.jsonl", rows) for name in ("one", "same beginning")]
    wanted = [
        pattern("1", rule(s={"prompt.text|contains|all": ["common", "often", "thing"]})),
        pattern("2", rule(s={"prompt.text|contains|all": ["common", "often"], "prompt.turns|gte": 3})),
        pattern("3", rule(s={"prompt.turns": 4})),
    ]
    found = matches_by_file(run(tmp_path / "runs", wanted, *logs).found)
    options = Options(reference=True)
    assert found == matches_by_file(run(tmp_path / "reference", wanted, *logs, options=options).found)
    assert len(found) == 2 * (20 + 12 + 12)


def matches_by_file(found: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """File, line and pattern of each."""
    return sorted((Path(one["file"]).name, one["line"], one["entry"]) for one in found)


def test_a_long_prompt_with_a_letter_that_folds_into_ascii_is_not_copied_for_every_rule(tmp_path: Path) -> None:
    log = write_json_lines(tmp_path / "log.jsonl", [{"prompt.text": "x" * (15 * 2**20) + "zebra7\u212a"}])
    wanted = [pattern(f"{n}", rule(s={"prompt.text|contains": f"zebra{n}k"})) for n in range(144)]
    assert [one["entry"] for one in run(tmp_path / "runs", wanted, log).found] == ["7"]


def test_rows_that_are_candidates_of_many_rules_are_asked_about_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "_COPIED_BYTES", 200_000)
    monkeypatch.setattr(hits, "_CANDIDATE_BYTES", 500_000)
    texts = ["Abc" + "x" * 60_000, "abc", "Abcx" * 70_000, "bcx" * 10]
    log = write_json_lines(tmp_path / "log.jsonl", [{"prompt.text": text} for text in texts])
    starts = ["Abc", "abc", "Abcx", "bcx"] * 9
    wanted = [pattern(f"{n}", rule(s={"prompt.text|startswith|cased": start})) for n, start in enumerate(starts)]
    found = [(one["line"], int(one["entry"])) for one in run(tmp_path / "runs", wanted, log).found]
    assert sorted(found) == [
        (line, n) for line, text in enumerate(texts, 1) for n, start in enumerate(starts) if text.startswith(start)
    ]

"""Figures of an evaluation: counted right, and the same each time."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from member_client.cli.evaluate import spread
from member_client.cli.main import run
from member_client.evaluation.candidates import FITTED, WRITTEN_FROM, Candidate, from_file, starters
from member_client.evaluation.chart import curves_drawn
from member_client.evaluation.evaluating import Evaluation
from member_client.evaluation.metrics import NEVER, Outcome, together
from member_client.evaluation.population import Kind
from member_client.evaluation.prompts import PromptFile
from member_client.evaluation.world import Settings, Truth, build, gather, is_batch
from member_client.patterns.library import starter_names
from member_client.pictures import write_chart
from tests.member_client.worlds import attack_file, ordinary_files, write

HOUR = 3_600_000_000
PATTERN = """\
kind: {kind}
title: A pattern of this test
description: It exists to be evaluated.
techniques: [AML.T0024.002]
marking: clear
severity: medium
confidence: 50
valid_for_days: 30
purpose: Test
legal_basis: None needed
logic:
  - title: The rule
    name: the_rule
    logsource: {{product: llm_api, category: {category}}}
    detection: {{seen: {{{seen}}}, condition: seen}}
tests:
  - {{name: it, expect: match, events: [{{{event}}}]}}
  - {{name: nothing, expect: no_match, events: [{{timestamp: 5}}]}}
"""


def candidate(folder: Path, name: str, category: str, seen: str, kind: str = "behavioral_signature") -> Candidate:
    path = folder / f"{name}.yaml"
    event = seen.replace("|gte", "").replace("|startswith", "")
    path.write_text(PATTERN.format(kind=kind, category=category, seen=seen, event=event))
    return from_file(path)


def hand_made(since: dict[int, int]) -> Outcome:
    """Two campaigns of two accounts, two ordinary accounts, a listed batch customer of two and a new one."""
    kinds = [Kind.CAMPAIGN] * 4 + [Kind.SEAT, Kind.INDIVIDUAL, Kind.BATCH_LISTED, Kind.BATCH_LISTED, Kind.BATCH_NEW]
    truth = Truth(
        names=np.array([f"a{number}" for number in range(9)], dtype=object),
        kind=np.array([int(kind) for kind in kinds]),
        campaign=np.array([0, 0, 1, 1, -1, -1, -1, -1, -1]),
        cell=np.array([0, 1, 0, 0, -1, -1, -1, -1, -1]),
        org=np.array([-1, -1, -1, -1, 1, -1, 2, 2, 3]),
        allowed=np.array([kind is Kind.BATCH_LISTED for kind in kinds]),
        event_account=np.array([0, 0, 1, 2, 3, 4, 6, 0]),
        event_time=np.array([1, 5, 2, 3, 4, 5, 6, 7]) * HOUR,
        event_campaign=np.array([0, 0, 0, 1, 1, -1, -1, -1]),
    )
    flags = np.full(9, NEVER)
    for account, time in since.items():
        flags[account] = time * HOUR
    return Outcome(truth, ("first", "second"), flags)


def test_recall_counts_attack_requests_of_flagged_accounts() -> None:
    outcome = hand_made({0: 4, 4: 1, 6: 2, 8: 2})
    total, first, second = outcome.document(), *outcome.by_corpus().values()
    assert total["recall_volume"] == 2 / 5
    assert total["recall_volume_from_detection_on"] == 1 / 5  # the request at 1 h came before the flag at 4 h
    assert total["recall_accounts"] == 1 / 4
    assert total["recall_clusters"] == 1 / 3
    assert first["recall_volume"] == 2 / 3
    assert first["hours_to_detection"] == total["hours_to_detection"] == 3
    assert (second["recall_volume"], second["hours_to_detection"]) == (0, None)
    assert total["campaigns_detected"] == 1
    assert total["ordinary_accounts_flagged_share"] == 1 / 2
    assert outcome.by_kind()["seat"]["accounts_flagged"] == 1


def test_an_allow_list_is_heeded_and_what_it_hid_is_told() -> None:
    total = hand_made({6: 1, 8: 1}).document()
    assert total["batch_customers"] == 2
    assert total["batch_customers_flagged"] == 0
    assert total["batch_customers_flagged_without_list"] == 1
    assert total["new_batch_customers_flagged"] == 1
    assert total["ordinary_accounts_flagged_share"] == 0


def test_an_allow_list_of_files_holds_their_customers_and_changes_no_traffic() -> None:
    files = [*ordinary_files(60), PromptFile("eval_more", tuple(f"more of this {n}" for n in range(60)))]
    settings = Settings(accounts=5, ordinary=200, days=2)
    worlds = {
        names: build(gather([attack_file(10)], files, (), names), settings)
        for names in (None, frozenset(), frozenset({"eval_more"}), frozenset({"eval_more", "batch_labels"}))
    }
    truth = {names: world.truth for names, world in worlds.items()}
    assert len({world.requests.column("prompt.text").to_pylist().__str__() for world in worlds.values()}) == 1
    assert (truth[None].allowed == (truth[None].kind == Kind.BATCH_LISTED)).all()
    assert not truth[frozenset()].allowed.any()
    some, both = truth[frozenset({"eval_more"})], truth[frozenset({"eval_more", "batch_labels"})]
    assert (both.allowed == is_batch(both.kind)).all()
    assert 0 < some.allowed.sum() < both.allowed.sum()
    sent = worlds[frozenset({"eval_more"})].requests.column("prompt.text").to_pylist()
    of = dict(zip(some.event_account.tolist(), sent, strict=True))
    assert all(of[number].startswith("more of this") for number in np.flatnonzero(some.allowed).tolist())
    everybody = Outcome(some, ("harvest",), np.zeros(len(some.names), dtype=np.int64)).document()
    assert everybody["batch_customers_flagged"] == 0
    assert (
        everybody["batch_customers_flagged_without_list"] + everybody["new_batch_customers_flagged"]
        == everybody["batch_customers"]
    )


def test_patterns_together_flag_at_the_earliest() -> None:
    both = together([hand_made({0: 4}), hand_made({0: 2, 1: 9})])
    assert both.since[:2].tolist() == [2 * HOUR, 9 * HOUR]


def test_the_tables_of_patterns_name_starters_and_thresholds_that_exist() -> None:
    assert set(WRITTEN_FROM) | set(FITTED) <= set(starter_names())
    for one in starters(list(FITTED)):
        values = {value: variant.logic for value, variant in one.variants()}
        assert one.threshold is not None
        shipped = [
            document["detection"][one.threshold.selection][one.threshold.item]
            for document in one.documents
            if document.get("name") == one.threshold.rule
        ]
        assert shipped[0] in values


def test_each_way_of_flagging_finds_its_accounts(tmp_path: Path) -> None:
    by_request = candidate(tmp_path, "by_request", "request", 'prompt.text|startswith: "Solve the"', "query_pattern")
    by_account = candidate(
        tmp_path, "by_account", "account_window", "window.hours: 168, window.query_pattern_share|gte: 0.9"
    )
    by_cluster = candidate(
        tmp_path,
        "by_cluster",
        "cluster_window",
        "window.hours: 168, cluster.key_kind: component, window.query_pattern_share|gte: 0.9",
    )
    evaluation = Evaluation(
        gather([attack_file(40)], ordinary_files(60)), [by_request, by_account, by_cluster], lambda _: None
    )
    settings = Settings(accounts=20, mix=(1, 0), ordinary=100, days=2)
    report = evaluation.run(settings)
    for name in ("by_request", "by_account", "by_cluster"):
        assert report["by_pattern"][name]["recall_volume"] > (0.5 if name == "by_cluster" else 0.99), name
        assert report["by_pattern"][name]["ordinary_accounts_flagged_share"] == 0, name
    assert report["total"]["hours_to_detection"] == 0
    assert report["by_pattern"]["by_account"]["hours_to_detection"] > 0  # not before the window's end
    assert report == evaluation.run(settings)


def test_windows_of_every_day_find_earlier_than_the_last_ones(tmp_path: Path) -> None:
    pattern = candidate(
        tmp_path, "by_account", "account_window", "window.hours: 24, window.query_pattern_share|gte: 0.9"
    )
    asked = candidate(tmp_path, "by_request", "request", 'prompt.text|startswith: "Solve the"', "query_pattern")
    prompts = gather([attack_file(40)], ordinary_files(60))
    settings = Settings(accounts=5, mix=(1, 0), ordinary=100, days=4)
    hours = {}
    for last in (True, False):
        report = Evaluation(prompts, [pattern, asked], lambda _: None, last_windows=last).run(settings)
        assert report["settings"]["windows"] == ("last" if last else "all")
        hours[last] = report["by_pattern"]["by_account"]["hours_to_detection"]
    assert hours[False] <= 24
    assert hours[True] >= 48


def test_leaving_out_the_corpus_that_a_pattern_was_written_from(tmp_path: Path) -> None:
    seen = 'prompt.text|startswith: "Solve the"'
    pattern = candidate(tmp_path, "by_request", "request", seen, "query_pattern")
    told = replace(pattern, written_from=frozenset({"harvest"}))
    prompts = gather([attack_file(20), attack_file(20, "other")], ordinary_files(60))
    report = Evaluation(prompts, [told], lambda _: None).leave_one_out(Settings(accounts=5, ordinary=100, days=2))
    assert report["by_corpus"]["harvest"]["recall_volume"] == 0
    assert report["by_corpus"]["other"]["recall_volume"] == 1
    assert report["total"]["recall_volume"] == 0.5


def test_options_take_what_a_shell_makes_of_a_star() -> None:
    assert spread(["--attack", "a", "b", "--json", "--benign", "c", "d", "--seed", "3"]) == [
        *("--attack", "a", "--attack", "b", "--json", "--benign", "c", "--benign", "d", "--seed", "3")
    ]


def test_the_command_gives_the_same_json_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack = write(tmp_path, attack_file(30))
    benign = [str(write(tmp_path, file)) for file in ordinary_files(50)]
    arguments = ["evaluate", "--attack", str(attack), "--benign", *benign, "--accounts", "10", "--days", "2"]
    arguments += ["--ordinary-accounts", "100", "--pattern", "self-chat-scripts", "alpaca-wrapped-instructions"]
    texts = []
    for _ in range(2):
        assert run([*arguments, "--json"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    report: dict[str, Any] = json.loads(texts[0])
    wanted = {"recall_volume", "recall_accounts", "ordinary_accounts_flagged_share", "batch_customers_flagged"}
    for part in (report["total"], report["by_corpus"]["harvest"]):
        assert wanted | {"hours_to_detection"} <= set(part)
    assert set(report["by_pattern"]) == {"self-chat-scripts", "alpaca-wrapped-instructions"}
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "not found" in said
    # also the patterns that found nothing
    assert {"self-chat-scripts", "alpaca-wrapped-instructions"} <= {
        line.split()[0] for line in said.splitlines() if line
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--mix", "0:1"], "no ratio"),
        (["--chart", "x.gif"], "no picture that can be drawn"),
        (["--chart", "/nowhere/x.png"], "--chart"),
        (["--pattern", "nonesuch"], "no starter pattern"),
        (["--attack", "/nowhere.jsonl"], "cannot read"),
        (["--allow-list", "/nowhere.txt"], "cannot read"),
        (["--allow-list", __file__], "there are no batch customers of"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], says: str) -> None:
    path = str(write(tmp_path, attack_file(30)))
    assert run(["evaluate", "--attack", path, "--benign", path, *change]) == 2
    assert says in capsys.readouterr().err


def test_curves_are_drawn(tmp_path: Path) -> None:
    points = [
        {
            "accounts": accounts,
            "mix": "1:1",
            "total": {
                "recall_volume": 0.5,
                "recall_accounts": 0.25,
                "ordinary_accounts_flagged_share": 0.001,
            },
        }
        for accounts in (1, 100)
    ]
    for ending in (".svg", ".html", ".png"):
        write_chart(tmp_path / f"curves{ending}", curves_drawn(points))
    picture = (tmp_path / "curves.svg").read_text()
    assert picture.startswith("<svg")
    assert picture.count("<circle") == 2
    assert "<td>50.0%</td>" in (tmp_path / "curves.html").read_text()
    drawn = Image.open(io.BytesIO((tmp_path / "curves.png").read_bytes()))
    assert (0x1B, 0x6C, 0xA8) in {colour for _, colour in drawn.getcolors(1 << 20) or []}


def test_curves_go_over_accounts_and_mixes() -> None:
    evaluation = Evaluation(
        gather([attack_file(20)], ordinary_files(60)), starters(["self-chat-scripts"]), lambda _: None
    )
    points = evaluation.curves(Settings(ordinary=100, days=2), accounts=(1, 50), mixes=((1, 0), (1, 1)))
    assert [(point["accounts"], point["mix"]) for point in points] == [
        *((1, "1:0"), (50, "1:0"), (1, "1:1"), (50, "1:1"))
    ]
    assert [point["total"]["attack_accounts"] for point in points] == [1, 20, 1, 20]


def test_many_campaigns_get_worlds_of_their_own_and_are_counted_together(tmp_path: Path) -> None:
    pattern = candidate(tmp_path, "by_request", "request", 'prompt.text|startswith: "Solve the"', "query_pattern")
    prompts = gather([attack_file(20), attack_file(30, "other")], ordinary_files(60))
    report = Evaluation(prompts, [pattern], lambda _: None).run(Settings(accounts=8, ordinary=100, days=2))
    assert report["settings"]["worlds"] == 2
    assert (report["total"]["attack_requests"], report["total"]["attack_accounts"]) == (50, 16)
    assert report["by_corpus"]["other"]["attack_requests"] == 30
    assert report["total"]["recall_volume"] == report["total"]["recall_clusters"] == 1
    assert report["total"]["batch_customers"] == 3
    assert report["by_kind"]["seat"]["accounts_flagged_count"] == 0

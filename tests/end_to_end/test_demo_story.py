"""The demo, told on a stage of its own: three admins and three labs as separate processes, real HTTP, real Postgres.

The processes of the commands of `stillwatch`, some fifty, share one import; `make demo` starts the script each time.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from typing_extensions import override

from docs import demo
from docs.demo_stage import ENVIRONMENT, Stage
from docs.demo_traffic import POOL_ACCOUNTS, POOL_REQUESTS, write_legitimate, write_traffic
from hub.database.embedded import destroy
from member_client.cli.main import run
from tests.forked_commands import ForkedCommands, forked_commands

pytestmark = pytest.mark.timeout(900)  # whichever test comes first waits for the whole story


@dataclass
class QuickStage(Stage):
    """Runs `stillwatch` as processes that are forked."""

    forked: ForkedCommands | None = None

    @override
    def execute(self, command: list[str], errors: bool) -> tuple[int, str]:
        script, *arguments = command
        if self.forked is None or Path(script).name != "stillwatch":
            return super().execute(command, errors)
        ended = self.forked.run(*arguments, settings=ENVIRONMENT)
        return ended.code, ended.stdout + (ended.stderr if errors else "")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stage after the whole story, which stops at the first step that does not end as told."""
    folder = tmp_path_factory.mktemp("demo")
    with (folder / "transcript.txt").open("w") as transcript, forked_commands("stillwatch") as forked:
        console = Console(file=transcript, width=120, highlight=False, markup=False)
        stage = QuickStage(folder / "stage", console, forked=forked)
        stage.clear()
        try:
            demo.tell(stage)
            yield stage
        finally:
            stage.stop_hub()
            destroy(stage.hub_home)


def test_what_is_left_running_can_be_tried_on_a_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_traffic(tmp_path / demo.SAMPLE)
    write_legitimate(tmp_path / demo.LEGITIMATE)
    file = tmp_path / "pattern.yaml"
    assert run(["pattern", "new", "--from", "self-instruct-bootstrapping", "-o", str(file)]) == 0
    lines = demo.to_try(tmp_path, str(file))
    assert f"stillwatch detect {tmp_path}/requests.jsonl --home {tmp_path}/cirrus" in lines
    assert f"stillwatch policy init --home {tmp_path}/cirrus" in lines
    (backtest,) = [line for line in lines if "backtest" in line]
    arguments = backtest.split()[1:-2]  # a file's needs no home
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accounts_flagged"] == 36
    assert (found["false_positives"]["seen"], found["false_positives"]["flagged"]) == (120, 0)


def entries(stage: Stage, home: str) -> list[tuple[int, bytes, bytes, str]]:
    with closing(sqlite3.connect(stage.root / home / "store.sqlite")) as database:
        return list(database.execute("SELECT idx, leaf, envelope, verdict FROM entries ORDER BY idx"))


def test_every_lab_holds_the_same_verified_log(stage: Stage) -> None:
    aurora, boreal, cirrus = (entries(stage, home) for home in demo.LABS)
    assert aurora == boreal == cirrus
    assert [row[0] for row in aurora] == list(range(len(aurora)))
    assert {row[3] for row in aurora} == {"admitted"}
    assert set(stage.facts["entries verified at each lab"].values()) == {len(aurora)}


def test_the_campaign_was_found_and_nobody_else(stage: Stage) -> None:
    assert stage.facts["accounts caught"] == 36
    assert stage.facts["innocent accounts flagged"] == 0


def test_a_lab_blocks_by_its_own_decision_and_an_appeal_ends_that_at_the_other_lab_too(stage: Stage) -> None:
    assert stage.facts["the gate's answers before and after approval"] == (200, 403)
    assert stage.facts["the gate's answer after the appeal"] == 200
    assert stage.facts["the pattern fell at Cirrus"]
    with closing(sqlite3.connect(stage.root / "aurora" / "store.sqlite")) as database:
        (envelope,) = database.execute("SELECT envelope FROM entries WHERE type = 'opinion'").fetchone()
    opinion = base64.b64decode(json.loads(envelope)["payload"]).decode()
    assert json.loads(opinion)["body"]["measured"]["reviewed"] == 1
    assert not any(told in opinion for told in ("acct-", "4711", "contract"))


def test_a_pool_was_found_by_the_pattern_of_another_lab_and_by_nothing_else(stage: Stage) -> None:
    assert stage.facts["pools found"] == 1
    assert stage.facts["pool accounts found"] == POOL_ACCOUNTS
    assert stage.facts["pool accounts that other patterns found"] == 0
    detections = (stage.root / "boreal-later-detections.jsonl").read_text().splitlines()
    named = {name for line in detections for name in json.loads(line)["cluster"]["accounts"]}
    assert all(name.startswith("boreal-customer-") for name in named)
    requests = (stage.root / "boreal-later.jsonl").read_text().splitlines()
    most = Counter(json.loads(line)["account.id"] for line in requests)
    assert max(most.values()) == POOL_REQUESTS  # none of them stood out


def test_the_sighting_tells_buckets_and_nothing_of_the_customers(stage: Stage) -> None:
    with closing(sqlite3.connect(stage.root / "aurora" / "store.sqlite")) as database:
        rows = database.execute("SELECT envelope FROM entries WHERE type = 'sighting'").fetchall()
    assert rows
    for (envelope,) in rows:
        statement = base64.b64decode(json.loads(envelope)["payload"]).decode()
        body = json.loads(statement)["body"]
        assert (body["matches"], body["accounts"]) == ("100-999", "10-99")
        assert "acct-" not in statement


def test_a_withdrawn_pattern_is_in_force_nowhere(stage: Stage) -> None:
    assert stage.facts["state of the withdrawn pattern"] == "withdrawn"


def test_both_lies_of_the_hub_left_evidence(stage: Stage) -> None:
    second_machine = [json.loads(path.read_text()) for path in (stage.root / "cirrus-2" / "evidence").glob("*.json")]
    assert [case["fault"] for case in second_machine] == ["alter"]
    boreal = [json.loads(path.read_text()) for path in (stage.root / "boreal" / "evidence").glob("*.json")]
    assert [case["fault"] for case in boreal] == [stage.facts["how the second lie was caught"]]


def test_nothing_is_left_running(stage: Stage) -> None:
    stage.stop_hub()
    mine = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if str(stage.root) in " ".join(process.info["cmdline"] or [])
    ]
    assert mine == []

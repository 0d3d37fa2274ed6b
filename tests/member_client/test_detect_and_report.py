"""From another lab's pattern to a published sighting, by the commands that people run."""

from __future__ import annotations

import gzip
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from hub.identity import HubIdentity
from member_client.patterns import library
from tests.forum import ForumInABox, Lab, pattern_body, running_hub
from tests.member_client.lab_homes import Client, make_home

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "train"
SAMPLE = 150
"""Rows a file: enough for every file's own kind to show, few enough for seconds."""

YESTERDAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
BOOTSTRAP = "Please come up with 20 diverse tasks."


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab, Lab, str]]:
    """A forum in which Aurora has published one pattern; Boreal has logs."""
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        record_id, _ = box.publish(aurora, pattern_body())
        yield box, aurora, boreal, record_id


@pytest.fixture
def boreal(forum: tuple[ForumInABox, Lab, Lab, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    box, _, lab, _ = forum
    client = Client(make_home(tmp_path / "boreal", box, lab), capsys)
    client.run("sync")
    return client


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Thirty requests of two accounts, every third a bootstrapping one; and one broken row."""
    path = tmp_path / "requests.jsonl.gz"
    rows = [
        json.dumps(
            {
                "timestamp": (YESTERDAY + timedelta(minutes=n)).isoformat(),
                "account": {"id": f"customer-{n % 2}"},
                "prompt": {"text": BOOTSTRAP if n % 3 == 0 else f"What is {n}?"},
            }
        )
        for n in range(30)
    ]
    rows.insert(10, "{broken")
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    return path


def detections(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_matches_are_written_for_their_owner_alone(
    forum: tuple[ForumInABox, Lab, Lab, str], boreal: Client, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found.jsonl"
    out.write_text("from before")
    summary = boreal.json("detect", str(log), "-o", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".found")] == []
    found = detections(out)
    assert len(found) == 10
    # the broken row is line 11 of the file, so rows after it stand a line further down
    assert [match["line"] for match in found] == [n + 1 + (n >= 10) for n in range(0, 30, 3)]
    assert {match["file"] for match in found} == {str(log)}
    assert len({match["id"] for match in found}) == 10
    assert found[0] == {
        "id": found[0]["id"],
        "pattern": forum[3],
        "version": 1,
        "entry": forum[0].reference(forum[3])["entry"],
        "title": "Bootstrapped instructions",
        "severity": "high",
        "rule": "Bootstrapped instructions",
        "timestamp": YESTERDAY.isoformat(),
        "account.id": "customer-0",
        "file": str(log),
        "line": 1,
    }
    (tally,) = summary["patterns"]
    assert (tally["matches"], tally["accounts"], tally["undated"]) == (10, 2, 0)
    assert (tally["first"], tally["first_time"]) == (int(YESTERDAY.timestamp()) * 1_000_000, YESTERDAY.isoformat())
    assert tally["last_time"] == (YESTERDAY + timedelta(minutes=27)).isoformat()
    assert (summary["rows"], summary["broken_rows"]) == (30, 1)
    kept = boreal.home / "detections" / f"{summary['run']}.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_bytes())["patterns"] == summary["patterns"]


def test_what_cannot_be_read_is_said_in_the_report_the_document_and_the_summary(boreal: Client, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"timestamp": 1_772_452_800_123, "account.id": "a", "prompt.text": BOOTSTRAP}))
    said = boreal.run("detect", str(log), "--map", "org.id=customer")
    assert "timestamp could not be read in 1 row, where it counts as absent; the first has a whole number" in said
    assert 'hint: write timestamp = { column = "timestamp", unit = "ms" } in logs.toml' in said
    assert "no row has the column 'customer', which org.id is mapped to" in said
    assert "1772452800123" not in said
    document = boreal.json("detect", str(log), "--map", "org.id=customer")
    assert [(one["field"], one["rows"]) for one in document["unreadable"]] == [("timestamp", 1)]
    assert document["columns_never_met"] == [{"field": "org.id", "column": "customer"}]
    kept = json.loads((boreal.home / "detections" / f"{document['run']}.json").read_bytes())
    assert kept["unreadable"] == document["unreadable"]
    assert kept["columns_never_met"] == document["columns_never_met"]


def test_a_wrong_unit_is_warned_of_by_detect_and_backtest_and_in_the_summary(
    forum: tuple[ForumInABox, Lab, Lab, str], boreal: Client, tmp_path: Path
) -> None:
    log, settings = tmp_path / "log.jsonl", tmp_path / "logs.toml"
    log.write_text(json.dumps({"sent": 1_772_452_800, "account.id": "a", "prompt.text": BOOTSTRAP}))
    settings.write_text("[[source]]\nfiles = ['log.jsonl']\nfields.timestamp = { column = 'sent', unit = 'ms' }\n")
    for command in (["detect"], ["pattern", "backtest", forum[3]]):
        said = boreal.run(*command, str(log), "--logs", str(settings))
        assert "timestamp is before 2015 or in the future in 1 row, the first of these in the year 1970" in said
        assert 'hint: write timestamp = { column = "sent", unit = "s" } in logs.toml' in said
    document = boreal.json("detect", str(log), "--logs", str(settings))
    assert [(one["field"], one["rows"], one["year"]) for one in document["implausible_times"]] == [
        ("timestamp", 1, 1970)
    ]
    kept = json.loads((boreal.home / "detections" / f"{document['run']}.json").read_bytes())
    assert kept["implausible_times"] == document["implausible_times"]


def test_broken_rows_are_named_and_fail_the_run_only_if_asked(boreal: Client, log: Path) -> None:
    printed = boreal.run("detect", str(log))
    assert f"{log}:11: left out: not JSON" in printed
    assert "1 broken row left out; all others were used" in printed
    summary = boreal.json("detect", str(log), "--strict", code=2)
    assert summary["first_broken_rows"][0]["line"] == 11
    assert summary["patterns"][0]["matches"] == 10


def test_a_log_that_calls_the_prompt_otherwise_is_told_how_to_map_it(boreal: Client, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"prompt": BOOTSTRAP}) + "\n")
    printed = boreal.run("detect", str(log))
    assert "no row has any of prompt.text" in printed
    assert "--map prompt.text=COLUMN" in printed
    assert boreal.json("detect", str(log), "--map", "prompt.text=prompt")["patterns"][0]["matches"] == 1


def test_patterns_about_windows_run_and_say_which_fields_they_miss(
    forum: tuple[ForumInABox, Lab, Lab, str], boreal: Client, log: Path, tmp_path: Path
) -> None:
    file = tmp_path / "windows.yaml"
    file.write_text(library.starter("evenly-spread-account-pool").text)
    (published,) = boreal.json("pattern", "submit", str(file))
    boreal.run("sync")
    summary = boreal.json("detect", str(log))
    assert [tally["matches"] for tally in summary["patterns"] if tally["id"] == published["id"]] == [0]
    assert summary["missing_fields"]
    assert "these may match less than they could" in boreal.run("detect", str(log))
    assert "follows no logs" in boreal.run("detect", str(log), "--engine", "reference", "--new", code=2)
    only = boreal.json("detect", str(log), "--pattern", forum[3])
    assert [tally["id"] for tally in only["patterns"]] == [forum[3]]
    boreal.json("pattern", "withdraw", published["id"], "--reason", "Made for a test")


def test_the_logs_of_the_home_are_followed(boreal: Client, log: Path, tmp_path: Path) -> None:
    assert "logs.toml" in boreal.run("detect", code=2)
    (boreal.home / "logs.toml").write_text(f'[[source]]\nfiles = ["{log.parent}/*.jsonl.gz"]\n')
    first = boreal.json("detect", "-o", str(tmp_path / "found.parquet"))
    assert (first["rows"], first["patterns"][0]["matches"]) == (30, 10)
    assert (tmp_path / "found.parquet").read_bytes()[:4] == b"PAR1"
    second = boreal.json("detect")
    assert (second["rows"], second["patterns"][0]["matches"], second["files_unchanged"]) == (0, 0, 1)
    assert "nothing new in 1 of 1 files" in boreal.run("detect")
    again = boreal.json("detect", "--whole", "--since", YESTERDAY.strftime("%Y-%m-%d"))
    assert again["patterns"][0]["matches"] == 10
    assert "neither a day nor a time" in boreal.run("detect", str(log), "--since", "yesterday", code=2)
    assert "not an amount of memory" in boreal.run("detect", str(log), "--memory", "much", code=2)


def test_both_engines_find_the_same_by_the_command(boreal: Client, log: Path) -> None:
    reference = boreal.json("detect", str(log), "--engine", "reference")
    engine = boreal.json("detect", str(log))
    assert engine["patterns"] == reference["patterns"]


def test_spark_is_asked_for_as_it_can_be_had(
    boreal: Client, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    out = tmp_path / "found.jsonl"
    printed = boreal.run("detect", str(log), "--engine", "spark", "-o", str(out), code=2)
    assert "needs PySpark" in printed
    assert "pip install 'stillwatch[spark]'" in printed
    assert "follows no logs" in boreal.run("detect", str(log), "--engine", "spark", "--new", code=2)
    assert "standard input" in boreal.run("detect", "-", "--engine", "spark", code=2)
    assert "--engine spark" in boreal.run("detect", str(log), "--spark-master", "local[1]", code=2)
    assert not out.exists()


def test_nothing_is_written_when_there_is_nothing_to_read(boreal: Client, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    boreal.run("detect", str(tmp_path / "none.jsonl"), "-o", str(out), code=2)
    assert not out.exists()
    boreal.run("detect", __file__, "-o", str(tmp_path), code=2)
    assert not (boreal.home / "detections").exists()


# -- sightings -----------------------------------------------------------------------------------------------------


def test_a_sighting_tells_others_days_and_buckets_and_nothing_else(
    forum: tuple[ForumInABox, Lab, Lab, str],
    boreal: Client,
    log: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box, lab, _, record_id = forum
    boreal.run("detect", str(log))
    (shown,) = boreal.json("sighting", "report", "--dry-run")
    size = box.size()
    assert "pass --yes" in boreal.run("sighting", "report", code=2)
    assert box.size() == size
    (published,) = boreal.json("sighting", "report", "--yes")
    assert (published["pattern"], published["index"]) == (record_id, size)

    aurora = Client(make_home(tmp_path / "aurora", box, lab), capsys)
    aurora.run("sync")
    day = YESTERDAY.date()
    (seen,) = aurora.json("pattern", "show", record_id)["sightings"]
    assert seen == {
        "id": published["id"],
        "lab": "Boreal",
        "pattern_version": 1,
        "period_start": str(day),
        "period_end": str(day + timedelta(days=1)),
        "matches": "10-99",
        "accounts": "1-9",
        "state": "active",
    }
    (listed,) = aurora.json("sighting", "list", "--pattern", record_id)
    assert listed["pattern"] == record_id
    assert "Boreal" in aurora.run("sighting", "list")
    assert set(shown) == {
        *("marking", "purpose", "legal_basis", "valid_until"),
        *("pattern", "period_start", "period_end", "matches", "accounts"),
    }
    assert shown["marking"] == "amber"
    for private in ("customer-", "requests.jsonl", "diverse tasks", YESTERDAY.isoformat()):
        assert private not in json.dumps(shown)


def test_a_run_is_reported_once(boreal: Client, log: Path) -> None:
    first = boreal.json("detect", str(log))
    boreal.json("sighting", "report", "--yes", "--marking", "green")
    assert "all was reported before" in boreal.run("sighting", "report", "--yes", code=2)
    boreal.run("detect", str(log))
    assert "all was reported before" in boreal.run("sighting", "report", first["run"], "--yes", code=2)
    assert len(boreal.json("sighting", "report", "--dry-run")) == 1


def test_a_detections_file_counts_as_its_run_did(boreal: Client, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    boreal.run("detect", str(log), "-o", str(out))
    from_run = boreal.json("sighting", "report", "--dry-run", "--valid-until", "2027-01-01")
    assert boreal.json("sighting", "report", str(out), "--dry-run", "--valid-until", "2027-01-01") == from_run
    out.write_text(out.read_text() + "{}\n")
    assert f"{out}:11 is not a match" in boreal.run("sighting", "report", str(out), "--dry-run", code=2)


def test_matches_without_times_need_a_period(boreal: Client, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"prompt.text": BOOTSTRAP}) + "\n")
    boreal.run("detect", str(log))
    assert "--period START END" in boreal.run("sighting", "report", "--dry-run", code=2)
    day = str(YESTERDAY.date())
    (shown,) = boreal.json(
        "sighting", "report", "--dry-run", "--period", day, str(YESTERDAY.date() + timedelta(days=1))
    )
    assert shown["period_start"] == f"{day}T00:00:00Z"
    assert shown["accounts"] is None
    assert "ends after it starts" in boreal.run("sighting", "report", "--yes", "--period", day, day, code=2)


def test_on_a_terminal_the_analyst_is_asked(boreal: Client, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boreal.run("detect", str(log))
    asked: list[str] = []
    answers = iter([False, True])

    def confirm(question: str) -> bool:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    printed = boreal.run("sighting", "report", code=2)
    assert printed.index("would be published") < printed.index("nothing was published")
    assert "logged at index" in boreal.run("sighting", "report")
    assert asked == ["Publish this?", "Publish this?"]


def test_a_run_that_is_not_there_or_damaged_is_named(boreal: Client, log: Path) -> None:
    assert "no run is remembered" in boreal.run("sighting", "report", code=2)
    run = boreal.json("detect", str(log))["run"]
    assert run in boreal.run("sighting", "report", "20200101T000000-000000", code=2)
    (boreal.home / "detections" / f"{run}.json").write_text("{}")
    assert "is damaged" in boreal.run("sighting", "report", run, code=2)


# -- real prompts --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the training corpora are not beside this repository")
def test_starters_shared_by_one_lab_run_at_another_over_real_prompts(
    new_database: Callable[[], str], hub_identity: HubIdentity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = []
    for path in sorted(CORPORA.glob("*/*.jsonl.gz")):
        samples.append(tmp_path / f"{path.parent.name}-{path.name.removesuffix('.gz')}")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            samples[-1].write_text("".join(islice(file, SAMPLE)))
    starters = tmp_path / "starters"
    starters.mkdir()
    for name in library.starter_names():
        (starters / f"{name}.yaml").write_text(library.starter(name).text)
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora = Client(make_home(tmp_path / "aurora", box, box.admit("Aurora")), capsys)
        boreal = Client(make_home(tmp_path / "boreal", box, box.admit("Boreal")), capsys)
        published = aurora.json("pattern", "submit", *map(str, sorted(starters.iterdir())))
        boreal.run("sync")
    assert len(published) >= 12
    # from here on the hub is gone: detection needs nothing but the home
    summary = boreal.json("detect", *map(str, samples), "--map", "prompt.text=prompt")
    assert summary["rows"] == sum(len(path.read_bytes().splitlines()) for path in samples)
    assert summary["broken_rows"] == 0
    assert {tally["id"] for tally in summary["patterns"]} <= {item["id"] for item in published}
    files = [os.path.basename(match["file"]) for match in detections(Path(summary["detections"]))]  # noqa: PTH119 - a name
    attacks = {name for name in files if name.startswith("attack-")}
    benign = [name for name in files if name.startswith("benign-")]
    assert len(attacks) >= 5
    assert len(benign) <= len(samples) * SAMPLE * 0.001

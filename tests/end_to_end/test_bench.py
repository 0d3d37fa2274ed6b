"""`make bench` at tiny sizes: every measurement works and says what it measured, whatever the speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = {"value", "unit", "ratio", "against", "target", "met", "samples"}


@pytest.mark.skipif("STILLWATCH_TEST_BENCH" not in os.environ, reason="takes a minute: set STILLWATCH_TEST_BENCH=1")
@pytest.mark.timeout(300)
def test_every_measurement_gives_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    measured = ("submit_to_follower", "durable_submissions", "cold_sync", "detect_many", "gate", "idle_followers")
    only = [word for name in measured for word in ("--only", name)]
    command = [sys.executable, "tests/bench/run.py", "--quick", *only, "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert all(set(figure) == MEMBERS for figure in figures.values())
    assert all(
        figure["value"] > 0 and figure["samples"]
        for name, figure in figures.items()
        if name not in ("crowd_errors", "gate_failed")
    )
    for name in ("cold_sync", "durable_submissions"):
        figure = figures[name]
        assert figure["samples"] == [figure["ratio"]]
        assert figure["met"] is (figure["ratio"] >= float(figure["target"].removeprefix("ratio >= ")))
    for name in ("detect_100", "detect_1000"):
        figure = figures[name]
        assert figure["met"] is (figure["ratio"] <= float(figure["target"].removeprefix("ratio <= ")))
        assert figures[f"{name}_memory"]["met"] is True
    assert "detect_100_sqlite" in figures
    assert len(figures["submit_to_follower"]["samples"]) == 3
    assert figures["crowd_errors"]["value"] == figures["gate_failed"]["value"] == 0, done.stderr
    assert set(figures) >= {"gate_p50", "gate_p99", "gate_reload_p99", "gate_cpu", "gate_most", "gate_memory"}
    assert set(figures) >= {"submit_to_follower_p95", "crowd_submit_p50", "crowd_submit_p99", "crowd_hub_memory"}
    assert all(name in done.stdout for name in figures)

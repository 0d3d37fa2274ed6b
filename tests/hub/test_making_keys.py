"""`stillwatch-hub init`: the log's keys, made where there is no database."""

from __future__ import annotations

import json
from pathlib import Path

from hub.identity import HubIdentity
from tests.hub.hub_process import run_command

ORIGIN = "hub.example/log"


def test_the_keys_are_made_once_for_the_operator_alone(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    made = run_command("init", "--home", str(home), "--origin", ORIGIN, "--json")
    assert (made.returncode, made.stderr) == (0, "")
    public = json.loads(made.stdout)
    assert public["origin"] == ORIGIN
    files = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}
    assert files == {"origin": 0o600, "log-key.pem": 0o600, "timestamp-key.pem": 0o600}
    assert home.stat().st_mode & 0o777 == 0o700
    assert HubIdentity.load(home).public.log_key == public["log_key"]
    again = run_command("init", "--home", str(home), "--json")
    assert json.loads(again.stdout) == public


def test_another_name_does_not_replace_them(tmp_path: Path) -> None:
    HubIdentity.load_or_make(tmp_path, ORIGIN)
    refused = run_command("init", "--home", str(tmp_path), "--origin", "hub.example/other")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert ORIGIN in refused.stderr

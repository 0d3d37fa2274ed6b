"""What the `stillwatch` process exits with, as documented: a scheduler acts on nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from member_client.cli.main import EXIT_CODES
from member_client.home import Home
from tests.forked_commands import forked_commands
from tests.forum import ForumInABox, Lab, key, signed, sql
from tests.member_client.lab_homes import make_home

Failing = Callable[..., dict[str, Any]]
STILLWATCH = str(Path(sys.executable).parent / "stillwatch")


@pytest.fixture
def lab(box: ForumInABox) -> Lab:
    return box.admit("Aurora")


@pytest.fixture
def home(box: ForumInABox, lab: Lab, tmp_path: Path) -> Path:
    return make_home(tmp_path / "aurora", box, lab)


def stillwatch(home: Path, *arguments: str) -> tuple[int, str, str]:
    command = [STILLWATCH, *arguments, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def failing() -> Iterator[Failing]:
    """Runs a command that must exit with `code`, for people and for scripts; gives what it tells a script."""
    with forked_commands("stillwatch") as forked:

        def fail(code: int, home: Path, *arguments: str) -> dict[str, Any]:
            told = stillwatch(home, *arguments)
            assert told[0] == code, told
            assert told[2].startswith("error: "), "people read it on standard error"
            again = forked.run(*arguments, "--json", "--home", str(home))
            assert (again.code, again.stderr) == (code, "")
            found: dict[str, Any] = json.loads(again.stdout)
            assert found["message"] in told[2].replace("\n", " ")
            return found

        yield fail


def test_0_done(home: Path, box: ForumInABox) -> None:
    code, printed, errors = stillwatch(home, "sync", "--json")
    assert (code, errors) == (0, "")
    assert json.loads(printed)["entries"] == box.size()
    assert stillwatch(home, "sync", "--quiet") == (0, "", "")


def test_2_wrong_usage_and_a_home_that_is_none(home: Path, tmp_path: Path, failing: Failing) -> None:
    code, printed, errors = stillwatch(home, "sync", "--no-such-option")
    assert (code, printed) == (2, "")
    assert "--no-such-option" in errors
    assert failing(2, tmp_path / "nothing", "sync")["error"] == "invalid_input"
    (home / "config.toml").write_text("hub = 3")
    assert "config.toml" in failing(2, home, "sync")["message"]


def test_2_a_damaged_store(home: Path, failing: Failing) -> None:
    Home(home).store.write_bytes(b"no store" * 1000)
    assert "store.sqlite" in failing(2, home, "sync")["message"]


def test_3_a_revoked_key(home: Path, box: ForumInABox, lab: Lab, failing: Failing) -> None:
    for role in ("analyst", "owner"):
        for file in Home(home).keys.glob(f"{role}-*"):
            file.unlink()
    assert stillwatch(home, "sync")[0] == 0
    revoked = {"key_id": key(lab.sync).public_key.key_id, "reason": "A test", "suspect_from": None}
    box.log(signed(box.statement("membership.revoke_key", lab.id, lab.id, revoked), lab.owner), lab.owner)
    found = failing(3, home, "sync")
    assert found["error"] == found["problem"]["code"] == "revoked_key"


def test_4_nobody_answers(home: Path, failing: Failing) -> None:
    config = home / "config.toml"
    config.write_text(re.sub(r"127\.0\.0\.1:[0-9]+", "127.0.0.1:1", config.read_text()))
    assert failing(4, home, "sync")["error"] == "hub_unreachable"


def test_5_a_tampered_log(home: Path, box: ForumInABox, failing: Failing) -> None:
    with sql(box.hub.database_url) as connection:
        connection.execute("UPDATE log_entries SET envelope = envelope || ' '::bytea WHERE index = 1")
    found = failing(5, home, "sync")
    assert found["fault"] == "alter"
    assert json.loads(Path(found["evidence"]).read_text())["fault"] == "alter"


def test_every_code_is_documented_where_people_look() -> None:
    documented = Path("docs/quick-start-sync.md").read_text()
    help_text = subprocess.run([STILLWATCH, "--help"], capture_output=True, text=True, timeout=60).stdout
    for code in (0, 2, 3, 4, 5):
        assert f"| {code} |" in documented
        assert f"{code} " in EXIT_CODES
    assert "5 verification failed" in " ".join(help_text.split())

"""An admin signs nothing that they have not seen and agreed to."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from member_client.cli.main import run
from tests.forum import ForumInABox, key
from tests.member_client.lab_homes import Client, make_admin_home
from tests.member_client.terminal import type_in
from tests.protocol.forum_log import log_identity


@pytest.fixture
def ada(box: ForumInABox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    box.admit("Aurora")
    return Client(make_admin_home(tmp_path / "ada", box, "Ada"), capsys)


@pytest.fixture
def request_file(box: ForumInABox, tmp_path: Path) -> Path:
    """A lab's request to be admitted."""
    file = tmp_path / "request.json"
    assert run(["init", "--hub", box.hub.url, "--name", "Boreal", "--home", str(tmp_path / "b"), "-o", str(file)]) == 0
    return file


def test_a_proposal_is_shown_and_signed_only_if_the_admin_agrees(
    ada: Client, request_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = ("forum", "admit", str(request_file))
    for answer in (("n",), ()):
        type_in(monkeypatch, *answer)
        said = ada.run(*admit, code=2)
        assert said.index("ADMIT the lab 'Boreal'") < said.index("Sign this?") < said.index("nothing was signed")
    assert ada.json("forum", "pending") == []
    type_in(monkeypatch, "y")
    assert "Proposed as " in ada.run(*admit)
    assert [one["signed_by"] for one in ada.json("forum", "pending")] == [["Ada"]]


def test_no_admins_command_signs_when_nobody_can_be_asked(
    ada: Client, request_file: Path, box: ForumInABox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    because = ("--reason", "a test")
    card = tmp_path / "card.json"
    assert run(["init", "--admin", "--hub", box.hub.url, "--name", "Dora", "--home", str(tmp_path / "d"),
                "-o", str(card)]) == 0  # fmt: skip
    commands = [
        ("admit", str(request_file)),
        *((what, "Aurora", *because) for what in ("suspend", "expel")),
        ("revoke-key", "Aurora", key("Aurora sync").public_key.key_id, *because),
        ("change-admins", "--admin", str(card), "--threshold", "1", *because),
    ]
    for command in commands:
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
        refused = ada.run("forum", *command, code=2)
        assert "nothing was signed: nobody confirmed it" in refused
        assert "--yes" in refused
        type_in(monkeypatch, "y")
        assert "--yes" in ada.json("forum", *command, code=2)["hint"], "a script has seen nothing"
    assert ada.json("forum", "pending") == []
    for command in commands:
        assert ada.json("forum", *command, "--yes")["missing"]


def test_what_cannot_be_logged_is_not_asked_about(ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, "y")
    said = ada.run("forum", "reinstate", "Aurora", "--reason", "a test", code=2)
    assert "Aurora is active and cannot become active" in said
    assert "Sign this?" not in said


def test_a_founding_file_is_written_and_signed_only_if_the_founder_agrees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, card, founding = tmp_path / "ada", tmp_path / "ada.json", tmp_path / "founding.json"
    assert run(["init", "--admin", "--hub", "http://127.0.0.1:1", "--name", "Ada", "--home", str(home),
                "-o", str(card)]) == 0  # fmt: skip
    log, ada = log_identity(), Client(home, capsys)
    found = (
        "forum", "found", "--name", "Test", "--threshold", "1", "--admin", str(card),
        "--log-key", log["log_key"], "--timestamp-key", log["timestamp_key"], "-o", str(founding),
    )  # fmt: skip
    type_in(monkeypatch, "n")
    said = ada.run(*found, code=2)
    assert said.index("FOUND the forum 'Test'") < said.index("nothing was signed")
    assert not founding.exists()
    type_in(monkeypatch, "y")
    assert "The other admins sign it" in ada.run(*found)
    before = founding.read_bytes()
    type_in(monkeypatch, "n")
    assert "nothing was signed" in ada.run("forum", "sign", str(founding), code=2)
    assert founding.read_bytes() == before

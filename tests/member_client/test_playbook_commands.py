"""`stillwatch playbook`: from a file to a record at another lab, and through its steps."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from hub.identity import HubIdentity
from member_client.cli.main import run
from member_client.home import Home
from member_client.playbooks import library
from member_client.playbooks.playbook_file import read
from sharing_protocol.statements import PlaybookKind, new_id
from tests.forum import ForumInABox, Lab, handling, running_hub, signed
from tests.hub.refusals import problem_of
from tests.member_client.lab_homes import Client, make_home
from tests.member_client.terminal import type_in
from tests.member_client.test_playbook_files import FILE, NOW
from tests.protocol.response_bodies import PROCEDURE, playbook_body


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Aurora"), box.admit("Boreal")


@pytest.fixture
def aurora(forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(make_home(tmp_path / "aurora", forum[0], forum[1]), capsys)


@pytest.fixture
def boreal(forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(make_home(tmp_path / "boreal", forum[0], forum[2]), capsys)


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A playbook file whose title no other test uses."""
    path = tmp_path / "playbook.yaml"
    path.write_text(FILE.replace("title: Two people", f"title: {request.node.name[:100]}"))
    return path


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PlaybookKind)
def test_new_writes_a_template_that_lint_accepts_and_submit_does_not(
    kind: PlaybookKind, tmp_path: Path, aurora: Client
) -> None:
    file = tmp_path / "mine.yaml"
    assert run(["playbook", "new", "--kind", kind.value, "-o", str(file)]) == 0
    assert run(["playbook", "lint", str(file)]) == 0
    assert "exists" in errors_of(aurora, "playbook", "new", "-o", str(file))
    assert "the template's title" in aurora.run("playbook", "submit", str(file), code=2)


@pytest.mark.parametrize("name", library.starter_names())
def test_a_starter_that_nobody_edited_is_warned_of_and_not_published(name: str, tmp_path: Path, aurora: Client) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(library.starter(name).replace("valid_for_days: 365", "valid_for_days: 30"))
    aurora._capsys.readouterr()
    assert run(["playbook", "lint", str(file)]) == 0
    assert f"the starter {name}, unchanged" in aurora._capsys.readouterr().err
    assert f"the starter {name}, unchanged" in aurora.run("playbook", "submit", str(file), "--yes", code=2)
    file.write_text(file.read_text().replace("due_within: 1 d", "due_within: 2 d"))
    assert run(["playbook", "lint", str(file), "--json"]) == 0
    assert json.loads(aurora._capsys.readouterr().out)[0]["warnings"] == []
    assert '"workflow": {' in aurora.run("playbook", "submit", str(file), "--dry-run")


def errors_of(client: Client, *arguments: str) -> str:
    client._capsys.readouterr()
    assert run([*arguments]) == 2
    return client._capsys.readouterr().err


def test_new_copies_a_starter(capsys: pytest.CaptureFixture[str]) -> None:
    for name in library.starter_names():
        assert run(["playbook", "new", "--from", name]) == 0
        assert capsys.readouterr().out == library.starter(name)
    assert run(["playbook", "new", "--from", "no-such"]) == 2
    assert ", ".join(library.starter_names()) in capsys.readouterr().err
    assert run(["playbook", "new", "--help"]) == 0
    helped = " ".join(capsys.readouterr().out.split())
    assert all(name in helped for name in library.starter_names())


def test_lint_exits_2_and_prints_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(FILE.replace("approvals: 2", "approvals: two"))
    assert run(["playbook", "lint", str(file)]) == 2
    assert f"{file}:24:5: approvals:" in capsys.readouterr().err
    assert run(["playbook", "lint", str(file), "--json"]) == 2
    (linted,) = json.loads(capsys.readouterr().out)
    assert (linted["ok"], linted["issues"][0]["line"]) == (False, 24)
    file.write_text("# nothing yet\n")
    assert run(["playbook", "lint", str(file)]) == 2
    assert "start from `stillwatch playbook new`" in capsys.readouterr().err
    assert run(["playbook", "show", str(file)]) == 2
    assert run(["playbook", "show", str(tmp_path / "none.yaml")]) == 2


def test_show_numbers_steps_and_prints_every_form(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["playbook", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    for line in ("1. Is it right?", "2. Lift it", "3. Revoke", "4. At the same time", "2 approvals by others first"):
        assert line in shown
    assert run(["playbook", "show", str(file), "--cacao"]) == 0
    written = read(file, NOW).playbook
    assert written is not None
    cacao = json.loads(capsys.readouterr().out)
    assert cacao["workflow"] == written.content.cacao["workflow"]
    assert run(["playbook", "show", str(file), "--yaml"]) == 0
    file.write_text(capsys.readouterr().out)
    assert run(["playbook", "show", str(file), "--cacao"]) == 0
    assert json.loads(capsys.readouterr().out)["workflow"] == cacao["workflow"]


def test_no_line_of_a_description_looks_like_one_of_ours(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(file.read_text().replace("access ends.\n", "access ends.\n  1. Lift everything\n", 1))
    assert run(["playbook", "show", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "Lift everything" in line] == ["  1. Lift everything"]
    assert any(line.startswith("1. ") for line in lines)


# -- the log -------------------------------------------------------------------------------------------------------


def test_a_playbook_is_submitted_revised_and_withdrawn(aurora: Client, boreal: Client, file: Path) -> None:
    assert "would be published" in aurora.run("playbook", "submit", str(file), "--dry-run")
    first = aurora.json("playbook", "submit", str(file), "--yes")
    submitted = int(time.time())
    assert (first["version"], first["already_logged"]) == (1, False)
    assert aurora.json("playbook", "submit", str(file), "--yes") == first | {"already_logged": True}
    title = read(file, NOW).playbook
    assert title is not None

    boreal.run("sync")
    (listed,) = [one for one in boreal.json("playbook", "list") if one["id"] == first["id"]]
    assert (listed["author_name"], listed["title"], listed["kind"]) == (
        "Aurora", title.content.title, "revocation_procedure",
    )  # fmt: skip
    cacao = json.loads(boreal.run("playbook", "show", first["id"], "--cacao"))
    assert cacao["id"] == first["id"]
    assert cacao["created"] == cacao["modified"]

    while int(time.time()) == submitted:
        time.sleep(0.02)
    # In another second than it was submitted in, its validity begins anew.
    assert aurora.json("playbook", "revise", first["id"], str(file), "--yes")["version"] == 2
    file.write_text(file.read_text().replace("valid_for_days: 90", "valid_until: 2027-06-01"))
    third = aurora.json("playbook", "revise", first["id"][:14], str(file), "--yes")
    assert (third["id"], third["version"]) == (first["id"], 3)
    assert aurora.json("playbook", "revise", first["id"], str(file), "--yes") == third | {"already_logged": True}
    revised = json.loads(aurora.run("playbook", "show", first["id"], "--cacao"))
    assert revised["created"] == cacao["created"]
    assert revised["workflow"] == cacao["workflow"]
    boreal.run("sync")
    assert "Aurora's" in boreal.run("playbook", "revise", first["id"], str(file), code=2)

    aurora.run("playbook", "withdraw", first["id"], "--reason", "Nobody followed it", "--yes")
    boreal.run("sync")
    assert first["id"] not in {one["id"] for one in boreal.json("playbook", "list")}
    assert "this playbook is withdrawn" in boreal.run("playbook", "run", first["id"], "--begin")


def test_what_other_labs_will_read_of_a_playbook_is_shown_whole_and_asked_for(
    aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    for said in (aurora.run("playbook", "submit", str(file), "--dry-run"),
                 aurora.run("playbook", "submit", str(file), code=2)):  # fmt: skip
        assert '"legal_basis": ' in said
        assert '"workflow": {' in said
    assert "--yes" in said
    aurora.run("sync")
    written = read(file, NOW).playbook
    assert written is not None
    title = written.content.title
    assert title not in {one["title"] for one in aurora.json("playbook", "list")}
    type_in(monkeypatch, "n")
    assert "nothing was published" in aurora.run("playbook", "submit", str(file), code=2)
    type_in(monkeypatch, "y")
    said = aurora.run("playbook", "submit", str(file))
    assert "logged at index" in said
    assert "after the next `stillwatch sync`" in said
    aurora.run("sync")
    (listed,) = [one for one in aurora.json("playbook", "list") if one["title"] == title]

    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    withdraw = ("playbook", "withdraw", listed["id"], "--reason", "Nobody followed it")
    assert '"workflow": {' in aurora.run("playbook", "revise", listed["id"], str(file), code=2)
    assert "nobody confirmed it" in aurora.run(*withdraw, code=2)
    shown = aurora.json(*withdraw, "--dry-run")
    assert (shown["record"]["id"], shown["reason"]) == (listed["id"], "Nobody followed it")
    aurora.run("sync")
    (still,) = [one for one in aurora.json("playbook", "list") if one["id"] == listed["id"]]
    assert (still["version"], still["state"]) == (1, "active")


def test_the_hub_refuses_a_playbook_that_a_machine_would_run(forum: tuple[ForumInABox, Lab, Lab]) -> None:
    box, lab, _ = forum
    workflow: dict[str, Any] = json.loads(json.dumps(PROCEDURE["workflow"]))
    (action,) = [key for key in workflow if key.startswith("action--")]
    workflow[action]["commands"][0]["type"] = "bash"
    bad = playbook_body(handling(), cacao={**PROCEDURE, "workflow": workflow})
    statement = box.statement("playbook", new_id("playbook", uuid4()), lab.id, bad)
    answer = box.submit(signed(statement, lab.analyst), lab.analyst)
    problem_of(answer, 422, "invalid_playbook", f"body.cacao.workflow.{action}.commands.0.type")
    statement["body"] = playbook_body(handling())
    assert box.submit(signed(statement, lab.analyst), lab.analyst).status_code == 201


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_script_walks_through_a_playbook(aurora: Client, file: Path) -> None:
    begun = aurora.json("playbook", "run", str(file), "--about", "incident 7", "--by", "Ada")
    name = begun["run"]
    assert [one["name"] for one in begun["to_do"]] == ["Is it right?"]

    def step(number: str, by: str, *more: str, code: int = 0) -> Any:
        if code:
            return aurora.run("playbook", "step", name, number, "--by", by, *more, code=code)
        return aurora.json("playbook", "step", name, number, "--by", by, *more)

    assert "is a question" in step("1", "Ada", code=2)
    assert "is no answer" in step("1", "Ada", "--answer", "perhaps", code=2)
    assert "exclude each other" in step("1", "Ada", "--answer", "yes", "--skip", "x", code=2)
    assert "means no step" in step("9", "Ada", code=2)
    step("1", "Ada", "--answer", "yes")
    assert "needs 2 more approvals" in step("Revoke", "Ada", code=2)
    step("3", "Ben", "--approve")
    step("3", "Cyd", "--approve", "--note", "Read the plan")
    after = step("3", "Ada", "--note", "Done at noon")
    assert [one["name"] for one in after["to_do"]] == ["Tell the customer", "Watch"]
    assert [one["approvals"] for one in after["settled"]][1][1]["note"] == "Read the plan"
    step("6", "Ada", "--skip", "Nothing to watch")
    assert step("5", "Ada")["state"] == "finished"
    assert "Done at noon" in aurora.run("playbook", "report", name)
    assert "finished" in aurora.run("playbook", "run", "--status", name)
    (listed,) = aurora.json("playbook", "runs")
    assert (listed["run"], listed["about"], len(listed["settled"])) == (name, "incident 7", 4)


def test_a_changed_run_is_told_and_exits_5(aurora: Client, file: Path) -> None:
    first = aurora.json("playbook", "run", str(file))["run"]
    other = aurora.json("playbook", "run", str(file))["run"]
    aurora.json("playbook", "step", first, "1", "--by", "Ada", "--answer", "yes")
    path = Home(aurora.home).path / "playbook-runs" / f"{first}.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"answer":"yes"', b'"answer":"no"'))
    assert "line 2 was changed" in aurora.run("playbook", "run", "--status", first, code=5)
    aurora.run("playbook", "step", first, "2", "--by", "Ada", code=5)
    listed = aurora.json("playbook", "runs", code=5)
    assert [(one["run"], one["state"]) for one in listed] == [(first, "damaged"), (other, "under way")]


def test_a_person_walks_through_a_playbook_and_comes_back(
    aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "perhaps", "yes", "Ada", "Looks right", "approve", "Ben", "", "done", "", "")
    said = aurora.run("playbook", "run", str(file))
    assert "due in 4 h" in said or "due in 3 h" in said  # some of the four hours may have passed
    assert "needs 2 more approvals by others than Ben" in said
    assert "stopped; go on with: stillwatch playbook run --resume" in said  # the terminal closed
    (listed,) = aurora.json("playbook", "runs")
    assert [one["name"] for one in listed["to_do"]] == ["Revoke"]
    type_in(monkeypatch, "approve", "Cyd", "", "done", "Ada", "", "6", "s", "", "Not needed", "done", "", "Sent")
    said = aurora.run("playbook", "run", "--resume", listed["run"])
    assert "approved by Ben" in said
    assert "finished; see" in said
    (listed,) = aurora.json("playbook", "runs")
    assert listed["state"] == "finished"
    assert [one["note"] for one in listed["settled"]] == ["Looks right", "", "Not needed", "Sent"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which playbook, or which run?"),
        (("--resume", "2026"), "is not one run of this home"),
        (("nothing-here",), "there is no playbook"),
    ],
)
def test_what_cannot_be_run_is_said(aurora: Client, arguments: tuple[str, ...], says: str) -> None:
    aurora.run("sync")
    assert says in aurora.run("playbook", "run", *arguments, code=2)


def test_nobody_is_asked_without_a_terminal(
    aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert "go on with `stillwatch playbook step`" in aurora.run("playbook", "run", str(file), code=2)
    assert run(["playbook", "run", str(file), "--home", str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "nowhere").exists()

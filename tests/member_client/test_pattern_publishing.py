"""Publishing patterns to a real hub: what is logged, what is refused before it is sent, and what a lost answer does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.identity import HubIdentity
from member_client import publishing
from member_client.errors import HubUnreachable
from member_client.home import Home
from member_client.hub_connection import HubConnection
from member_client.patterns import library, outbox
from member_client.patterns.presenting import difference
from member_client.patterns.trials import try_new
from member_client.session import Session
from sharing_protocol import wire
from sharing_protocol.statements import Pattern, PatternKind, parse
from tests.forum import ForumInABox, Lab, key, pattern_body, running_hub
from tests.hub.forgeries import signed_again
from tests.member_client.lab_homes import Client, make_home
from tests.member_client.test_pattern_lint import FILE


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    """A forum with two labs, for all tests here: each publishes records of its own."""
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Aurora"), box.admit("Boreal")


@pytest.fixture
def aurora(forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    box, lab, _ = forum
    return Client(make_home(tmp_path / "aurora", box, lab), capsys)


@pytest.fixture
def boreal(forum: tuple[ForumInABox, Lab, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    box, _, lab = forum
    return Client(make_home(tmp_path / "boreal", box, lab), capsys)


@pytest.fixture
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A pattern file whose title no other test uses."""
    path = tmp_path / "pattern.yaml"
    path.write_text(FILE.replace("title: Bootstrapped instructions", f"title: {request.node.name[:150]}"))
    return path


def test_what_was_logged_with_other_signatures_is_proven_as_it_was_logged(
    forum: tuple[ForumInABox, Lab, Lab], aurora: Client
) -> None:
    box, lab, _ = forum
    made = box.record(lab, pattern_body("Logged with another signature"))
    logged = box.log(signed_again(made, lab.analyst), lab.analyst)
    aurora.json("sync")
    session = Session(Home(aurora.home))
    statement = parse(made.payload)
    assert isinstance(statement, Pattern)
    published = publishing.submit(session, key(lab.analyst), made, statement)
    assert (published.index, published.entry, published.already_logged) == (logged.index, logged.entry, True)
    # It is a promise like any other, and kept.
    assert [(entry, index) for entry, index, _ in session.store.unsettled_receipts()] == [(logged.entry, logged.index)]
    session.store.close()
    aurora.json("sync")
    assert not Session(Home(aurora.home)).store.unsettled_receipts()


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def submit(client: Client, file: Path) -> dict[str, Any]:
    (published,) = client.json("pattern", "submit", str(file))
    assert isinstance(published, dict)
    return published


def test_a_pattern_goes_from_one_lab_to_another(aurora: Client, boreal: Client, file: Path) -> None:
    published = submit(aurora, file)
    assert (published["version"], published["already_logged"]) == (1, False)
    boreal.run("sync")
    shown = boreal.json("pattern", "show", published["id"].partition("--")[2][:8])
    assert (shown["id"], shown["state"], shown["author_name"]) == (published["id"], "active", "Aurora")
    assert shown["trial"] == "passed"
    proof = shown["provenance"]
    assert (proof["index"], proof["entry"], proof["intact"]) == (published["index"], published["entry"], True)
    assert proof["tree_size"] > published["index"]
    assert not proof["receipt"]
    aurora.run("sync")
    assert aurora.json("pattern", "show", published["id"])["provenance"]["receipt"]


def test_the_same_file_again_is_the_same_record(aurora: Client, file: Path) -> None:
    first = submit(aurora, file)
    again = submit(aurora, file)
    assert again == first | {"already_logged": True}
    listed = aurora.json("pattern", "list", "--state", "all", "--mine")
    assert [item["id"] for item in listed if item["id"] == first["id"]] == [first["id"]]
    assert [item["id"] for item in listed if item["title"] == first["title"]] == [first["id"]]


def test_an_answer_lost_after_logging_makes_no_second_record(
    aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HubConnection.send

    def lose_the_answer(self: HubConnection, path: str, content: bytes, model: type[Any]) -> Any:
        real(self, path, content, model)
        raise HubUnreachable("the connection broke")

    monkeypatch.setattr(HubConnection, "send", lose_the_answer)
    aurora.run("pattern", "submit", str(file), code=4)
    session = Session(Home(aurora.home))
    (draft,) = outbox.pending(session)
    assert draft.stat().st_mode & 0o777 == 0o600
    monkeypatch.undo()
    (published,) = aurora.json("pattern", "submit", str(file), "--no-sync")
    assert published["already_logged"]
    assert outbox.pending(session) == []
    assert submit(aurora, file)["id"] == published["id"]


def test_an_answer_lost_before_logging_is_made_good_by_the_next_try(
    aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_arrive(self: HubConnection, path: str, content: bytes, model: type[Any]) -> Any:
        raise HubUnreachable("the network is down")

    monkeypatch.setattr(HubConnection, "send", never_arrive)
    aurora.run("pattern", "submit", str(file), code=4)
    (draft,) = outbox.pending(Session(Home(aurora.home)))
    kept = draft.read_bytes()
    monkeypatch.undo()
    published = submit(aurora, file)
    assert not published["already_logged"]
    aurora.run("sync")
    assert Session(Home(aurora.home)).store.entry(published["index"]) == kept


def test_a_refused_draft_is_dropped(aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ENTRIES", "/no-such-place")
    aurora.run("pattern", "submit", str(file), code=3)
    assert outbox.pending(Session(Home(aurora.home))) == []


def test_a_damaged_draft_is_named_and_not_sent(aurora: Client, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_arrive(self: HubConnection, path: str, content: bytes, model: type[Any]) -> Any:
        raise HubUnreachable("the network is down")

    monkeypatch.setattr(HubConnection, "send", never_arrive)
    aurora.run("pattern", "submit", str(file), code=4)
    monkeypatch.undo()
    (draft,) = outbox.pending(Session(Home(aurora.home)))
    draft.write_bytes(draft.read_bytes()[:-10])
    assert "is damaged" in aurora.run("pattern", "submit", str(file), code=2)


def test_what_does_not_lint_or_fails_its_tests_is_not_submitted(
    forum: tuple[ForumInABox, Lab, Lab], aurora: Client, file: Path
) -> None:
    size = forum[0].size()
    sound = file.with_name("sound.yaml")
    sound.write_text(file.read_text())
    change(file, "prompt.text: Hello", "prompt.text: Continue the list")
    assert "fails its own tests" in aurora.run("pattern", "submit", str(sound), str(file), code=2)
    change(file, "severity: high", "severity: huge")
    assert "'huge' is not a severity" in aurora.run("pattern", "submit", str(sound), str(file), code=2)
    file.write_text(library.template(PatternKind.QUERY_PATTERN))
    assert "title is still the template's" in aurora.run("pattern", "submit", str(sound), str(file), code=2)
    text = file.read_text().replace("Example: a request for a numbered list of unrelated training tasks", "Mine")
    file.write_text(text)
    said = aurora.run("pattern", "submit", "--dry-run", str(sound), str(file), code=2)
    line = text.splitlines().index("description: |") + 1
    assert (
        f"nothing was submitted; the first: {file}:{line}:1: description is still the template's; say what it" in said
    )
    assert "this reference is still the template's; name a public source, or write references: []" in said
    assert forum[0].size() == size


def test_a_dry_run_publishes_nothing_and_needs_no_hub(aurora: Client, file: Path) -> None:
    (document,) = aurora.json("pattern", "submit", "--dry-run", str(file))
    assert document["body"]["tests"][0]["synthetic"] is True
    assert not (aurora.home / "outbox").exists()


def test_revising_makes_the_next_version_and_shows_what_changed(aurora: Client, boreal: Client, file: Path) -> None:
    published = submit(aurora, file)
    change(file, "confidence: 70", "confidence: 80")
    revised = aurora.json("pattern", "revise", published["id"], str(file))
    assert (revised["id"], revised["version"]) == (published["id"], 2)
    assert aurora.json("pattern", "revise", published["id"], str(file))["already_logged"]
    boreal.run("sync")
    shown = boreal.json("pattern", "show", published["id"])
    assert [version["state"] for version in shown["versions"]] == ["superseded", "active"]
    for text in ("1..2", "..", "1..", "..2"):
        assert {"-confidence: 70", "+confidence: 80"} <= set(
            boreal.json("pattern", "show", published["id"], "--diff", text)["diff"]
        )
    assert boreal.json("pattern", "show", published["id"], "--version", "1")["state"] == "superseded"
    boreal.run("pattern", "show", published["id"], "--diff", "1-2", code=2)
    boreal.run("pattern", "show", published["id"], "--diff", "1..3", code=2)


def test_crafted_versions_do_not_keep_a_reader_busy(forum: tuple[ForumInABox, Lab, Lab]) -> None:
    """Such two, of 8,000 lines, would keep `difflib` busy for half a minute."""

    def version(number: int) -> Pattern:
        body = pattern_body("Long")
        crafted = [text for n in range(700) for text in (f"{n % 101}", f"{1000 + 2 * n + number}")]
        body["logic"][0]["falsepositives"] = ["at first the same", *crafted]
        made = parse(forum[0].record(forum[1], body).payload)
        assert isinstance(made, Pattern)
        return made.model_copy(update={"version": number})

    lines = difference(version(1), version(2))
    assert lines[:2] == ["--- version 1", "+++ version 2"]
    assert sum(line.startswith("@@") for line in lines) == 1
    assert difference(version(1), version(1)) == []


def test_only_its_author_revises_or_withdraws_a_pattern(aurora: Client, boreal: Client, file: Path) -> None:
    published = submit(aurora, file)
    assert "is Aurora's" in boreal.run("pattern", "revise", published["id"], str(file), code=2)
    assert "is Aurora's" in boreal.run("pattern", "withdraw", published["id"], "--reason", "Mine now", code=2)


def test_a_withdrawn_pattern_says_by_whom_and_why(aurora: Client, boreal: Client, file: Path) -> None:
    published = submit(aurora, file)
    forged = "Matches a vendor's batch jobs\nseen by     all of you"
    gone = aurora.json("pattern", "withdraw", published["id"], "--reason", forged)
    assert "was withdrawn before" in aurora.run("pattern", "withdraw", published["id"], "--reason", "Again", code=2)
    boreal.run("sync")
    assert boreal.json("pattern", "list", "--author", "aurora", "--state", "withdrawn")[-1]["id"] == published["id"]
    assert published["id"] not in [item["id"] for item in boreal.json("pattern", "list")]
    shown = boreal.json("pattern", "show", published["id"])
    assert shown["state"] == "withdrawn"
    assert (shown["withdrawal"]["lab"], shown["withdrawal"]["index"]) == ("Aurora", gone["index"])
    lines = boreal.run("pattern", "show", published["id"]).splitlines()
    assert any(line.endswith(": Matches a vendor's batch jobs") for line in lines)
    assert [line for line in lines if "all of you" in line] == [f"{'':12}seen by     all of you"]


def test_lists_are_narrowed_by_what_is_asked(aurora: Client, boreal: Client, file: Path) -> None:
    published = submit(aurora, file)

    def ids(*arguments: str) -> list[str]:
        return [item["id"] for item in boreal.json("pattern", "list", *arguments)]

    boreal.run("sync")
    for arguments in ([], ["--kind", "query_pattern"], ["--author", "Aurora"], ["--technique", "aml.t0024"]):
        assert published["id"] in ids(*arguments)
    for arguments in (["--kind", "detection_method"], ["--author", "Boreal"], ["--mine"], ["--technique", "AML.T002"]):
        assert published["id"] not in ids(*arguments)
    aurora.run("sync")
    assert published["id"] in [item["id"] for item in aurora.json("pattern", "list", "--mine")]
    found = boreal.json("pattern", "search", "LISTS_ARE_NARROWED")
    assert [item["id"] for item in found] == [published["id"]]
    assert "is not a state" in boreal.run("pattern", "list", "--state", "gone", code=2)
    assert published["id"].partition("--")[2][:8] in boreal.run("pattern", "list")


def test_an_id_that_is_short_wrong_or_ambiguous_is_refused(aurora: Client, file: Path) -> None:
    published = submit(aurora, file)
    aurora.run("sync")
    assert "too short" in aurora.run("pattern", "show", published["id"][:11], code=2)
    assert "there is no pattern" in aurora.run("pattern", "show", "pattern--00000000", code=2)


def test_an_exported_pattern_file_is_the_same_pattern(aurora: Client, file: Path, tmp_path: Path) -> None:
    published = submit(aurora, file)
    aurora.run("sync")
    exported = tmp_path / "exported.yaml"
    exported.write_text(aurora.run("pattern", "export", published["id"], "--format", "pattern"))
    assert aurora.json("pattern", "revise", published["id"], str(exported))["already_logged"]


def test_exported_sigma_is_read_by_pysigma(aurora: Client, tmp_path: Path) -> None:
    from sigma.collection import SigmaCollection

    file = tmp_path / "p.yaml"
    text = library.starter("templated-topic-sweep").text
    file.write_text(text)
    published = submit(aurora, file)
    aurora.run("sync")
    exported = aurora.run("pattern", "export", published["id"])
    assert exported.startswith(f"# {published['id']} version 1, entry {published['entry']}, TLP:")
    collection = SigmaCollection.from_yaml(exported)
    assert not collection.errors
    assert len(collection.rules) == exported.count("\n---\n")


def test_a_pattern_that_would_not_pass_here_never_comes_into_force(
    forum: tuple[ForumInABox, Lab, Lab], boreal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest hub refuses such patterns too, so the verdict is forced here."""
    box, lab, _ = forum
    record_id, _ = box.publish(lab, pattern_body("Not for us"))
    session = Session(Home(boreal.home))
    with session.connect() as hub:
        session.sync(hub)

    def broken(_body: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("sharing_protocol.content.check_pattern", broken)
        counts = try_new(session.store)
    assert (counts.passed, counts.failed > 0) == (0, True)
    assert try_new(session.store).failed == 0
    (listed,) = boreal.json("pattern", "search", "Not for us", "--state", "unsound")
    assert listed["id"] == record_id
    assert "ZeroDivisionError" in listed["trial"]
    assert "is not in force" in boreal.run("detect", __file__, "--pattern", record_id, code=2)

"""Runs of playbooks: what may be recorded when, that nothing recorded is lost, and that a changed line is found."""

from __future__ import annotations

import hashlib
import json
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.errors import InvalidInput, NotProven
from member_client.home import Home
from member_client.playbooks import run_file
from member_client.playbooks.report import markdown, run_document
from member_client.playbooks.run_file import Source, StoredRun
from member_client.playbooks.running import Event, Kind, NotAllowed, Run, steps_of
from sharing_protocol.content import check_playbook
from sharing_protocol.playbooks import Action, Question, read_workflow
from sharing_protocol.statements import PlaybookBody
from tests.member_client.test_playbook_files import FILE, written
from tests.protocol.response_bodies import playbook_body
from tests.protocol.workflows import Document, documents

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HANDLING = {"marking": "amber", "purpose": "p", "legal_basis": "l", "valid_until": "2026-09-01T00:00:00Z"}
PEOPLE = ("Ada", "Ben", "Cyd", " aDA")


def run_of(text: str = FILE) -> Run:
    return Run(check_playbook(written(text).content), NOW)


def says(run: Run, name: str, kind: Kind = Kind.DONE, by: str = "Ada", minutes: int = 0, **more: Any) -> Event:
    """What somebody says of the step of this name."""
    (step,) = (one.id for one in steps_of(run.workflow.steps) if one.name == name)
    return Event(kind, step, by, NOW + timedelta(minutes=minutes), **more)


def reached(run: Run) -> list[str]:
    return [one.step.name for one in run.state.reached]


def test_a_run_goes_through_the_playbook_in_its_order() -> None:
    run = run_of()
    assert reached(run) == ["Is it right?"]
    run.record(says(run, "Is it right?", Kind.ANSWERED, answer="yes", minutes=300))
    assert reached(run) == ["Revoke"]
    for name in ("Ben", "Cyd"):
        run.record(says(run, "Revoke", Kind.APPROVED, name, 310))
    run.record(says(run, "Revoke", minutes=320))
    assert reached(run) == ["Tell the customer", "Watch"]
    assert [one.due for one in run.state.reached] == [None, NOW + timedelta(days=2, minutes=320)]
    run.record(says(run, "Watch", Kind.SKIPPED, note="Nothing to watch", minutes=330))
    assert reached(run) == ["Tell the customer"]
    run.record(says(run, "Tell the customer", minutes=340))
    assert not reached(run)
    assert run.state.finished == NOW + timedelta(minutes=340)
    assert [one.late for one in run.state.settled.values()] == [True, False, False, False]


def test_a_run_that_is_full_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    stored = run_file.begin(home, Source(written(FILE).content, "a file"), NOW.timestamp(), NOW)
    answer = says(stored.run, "Is it right?", Kind.ANSWERED, answer="yes")
    monkeypatch.setattr(run_file, "MAX_BYTES", stored.size + 100)
    with pytest.raises(InvalidInput, match="would have more than"):
        run_file.append(home, stored.name, answer)
    assert run_file.load(home, stored.name).head == stored.head


def test_the_other_answer_leads_elsewhere() -> None:
    run = run_of()
    run.record(says(run, "Is it right?", Kind.ANSWERED, answer="no"))
    assert reached(run) == ["Lift it"]
    run.record(says(run, "Lift it"))
    assert run.state.finished == NOW


@pytest.mark.parametrize(
    ("before", "name", "kind", "more", "why"),
    [
        ("", "Revoke", Kind.DONE, {}, "has not been reached"),
        ("", "Lift it", Kind.APPROVED, {}, "has not been reached"),
        ("", "Is it right?", Kind.DONE, {}, "is a question"),
        ("", "Is it right?", Kind.SKIPPED, {"note": "no time"}, "is a question"),
        ("", "Is it right?", Kind.ANSWERED, {}, "is a question"),
        ("", "Is it right?", Kind.APPROVED, {}, "needs no approval"),
        ("", "Is it right?", Kind.ANSWERED, {"answer": "yes", "by": " "}, "nobody is named"),
        ("a", "Is it right?", Kind.ANSWERED, {"answer": "no"}, "answered already"),
        ("a", "At the same time", Kind.DONE, {}, "has not been reached"),
        ("a", "Revoke", Kind.ANSWERED, {"answer": "yes"}, "is no question"),
        ("a", "Revoke", Kind.DONE, {"answer": "yes"}, "is no question"),
        ("a", "Revoke", Kind.DONE, {}, "needs 2 more approvals by others than Ada"),
        ("ab", "Revoke", Kind.DONE, {}, "needs 1 more approval by others"),
        ("ab", "Revoke", Kind.APPROVED, {"by": "bEN "}, "has approved 'Revoke' before"),
        ("abc", "Revoke", Kind.DONE, {"by": "\uff22en"}, "needs 1 more approval by others"),
        ("abc", "Revoke", Kind.SKIPPED, {}, "without a reason"),
        ("ab", "Revoke", Kind.SKIPPED, {"note": "in a hurry"}, "needs 1 more approval by others"),
    ],
)
def test_nothing_else_is_recorded(before: str, name: str, kind: Kind, more: dict[str, Any], why: str) -> None:
    run = run_of()
    earlier = {
        "a": says(run, "Is it right?", Kind.ANSWERED, answer="yes"),
        "b": says(run, "Revoke", Kind.APPROVED, "Ben"),
        "c": says(run, "Revoke", Kind.APPROVED, "Cyd"),
    }
    for letter in before:
        run.record(earlier[letter])
    state = run.state
    with pytest.raises(NotAllowed, match=why) as refused:
        run.record(says(run, name, kind, **more))
    assert refused.value.mend
    assert run.state == state


# -- in a file -----------------------------------------------------------------------------------------------------


def began(home: Home, body: PlaybookBody | None = None) -> StoredRun:
    source = Source(body or written().content, "file p.yaml", "incident 7", "Ada")
    return run_file.begin(home, source, NOW.timestamp(), NOW)


def finished(home: Home) -> StoredRun:
    """A run with six lines after its first."""
    stored = began(home)
    for event in (
        says(stored.run, "Is it right?", Kind.ANSWERED, answer="yes", minutes=1),
        says(stored.run, "Revoke", Kind.APPROVED, "Ben", 2, note="Read it"),
        says(stored.run, "Revoke", Kind.APPROVED, "Cyd", 3),
        says(stored.run, "Revoke", minutes=4),
        says(stored.run, "Watch", Kind.SKIPPED, note="Nothing to watch", minutes=5),
        says(stored.run, "Tell the customer", by="Ben", minutes=6, note="By post"),
    ):
        stored = run_file.append(home, stored.name, event)
    return stored


def test_a_run_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    stored = finished(Home(tmp_path))
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(stored.path.parent.stat().st_mode) == 0o700
    assert stored.run.state.finished == NOW + timedelta(minutes=6)
    again = run_file.load(Home(tmp_path), stored.name[:8])
    assert (again.run.events, again.head, again.source) == (stored.run.events, stored.head, stored.source)


@settings(max_examples=12, deadline=None)
@given(document=documents(), data=st.data())
def test_a_run_that_is_broken_off_anywhere_goes_on_where_it_was(document: Document, data: st.DataObject) -> None:
    body = PlaybookBody.model_validate_json(json.dumps(playbook_body(HANDLING, cacao=document)))
    memory = Run(read_workflow(document), NOW)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        stored = began(home, body)
        for number in range(8):
            event = some_event(memory, data, number)
            if event is None:
                break
            before = stored.path.read_bytes()
            try:
                memory.check(event)
            except NotAllowed:
                with pytest.raises(InvalidInput):
                    run_file.append(home, stored.name, event)
                assert stored.path.read_bytes() == before
                continue
            # Killed in the middle of the line, or after any of its bytes but the last: nothing was recorded.
            after = run_file.append(home, stored.name, event).path.read_bytes()
            kept = data.draw(st.integers(len(before), len(after) - 1))
            stored.path.write_bytes(after[:kept])
            assert run_file.load(home, stored.name).run.state == memory.state
            stored = run_file.append(home, stored.name, event)
            memory.record(event)
            assert stored.path.read_bytes() == after
            assert stored.run.state == memory.state == run_file.load(home, stored.name).run.state


def some_event(run: Run, data: st.DataObject, number: int) -> Event | None:
    """Something that somebody might say of a step, often what is allowed."""
    steps = [one.step for one in run.state.reached] or [
        one for one in steps_of(run.workflow.steps) if isinstance(one, Action | Question)
    ]
    step = data.draw(st.sampled_from(steps))
    fitting = Kind.ANSWERED if isinstance(step, Question) else Kind.DONE
    kind = data.draw(st.sampled_from([fitting, fitting, Kind.APPROVED, Kind.SKIPPED]))
    answers: st.SearchStrategy[Literal["", "yes", "no"]] = st.sampled_from(["yes", "no"])
    answer = data.draw(answers) if kind is Kind.ANSWERED else ""
    note = data.draw(st.sampled_from(["", "because"]))
    by = data.draw(st.sampled_from(PEOPLE))
    return Event(kind, step.id, by.strip(), NOW + timedelta(minutes=number), note, answer)


def tamperings(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    for at, line in enumerate(lines):
        for old, new in ((b'"by":"Ada"', b'"by":"Eve"'), (b"2026-03-01T12:0", b"2026-03-01T11:0"), (b'"', b"'")):
            if old in line:
                yield f"{old!r} in {at}", [*lines[:at], line.replace(old, new, 1), *lines[at + 1 :]]
        yield f"{at} twice", [*lines[: at + 1], *lines[at:]]
        yield f"{at} with a space", [*lines[:at], line.replace(b":", b": ", 1), *lines[at + 1 :]]
        if at + 1 < len(lines):
            yield f"without {at}", [*lines[:at], *lines[at + 1 :]]
            yield f"{at} moved", [*lines[:at], lines[at + 1], line, *lines[at + 2 :]]


def test_a_changed_line_is_found(tmp_path: Path) -> None:
    stored = finished(Home(tmp_path))
    lines = stored.path.read_bytes().splitlines(keepends=True)
    tried = 0
    for what, changed in tamperings(lines):
        stored.path.write_bytes(b"".join(changed))
        with pytest.raises(NotProven, match="was changed") as found:
            run_file.load(Home(tmp_path), stored.name)
        assert found.value.exit_code == 5, what
        tried += 1
    assert tried > 30
    stored.path.write_bytes(b"")
    with pytest.raises(NotProven, match="no whole line"):
        run_file.load(Home(tmp_path), stored.name)


def test_a_line_that_the_playbook_does_not_allow_is_found_whatever_its_hash(tmp_path: Path) -> None:
    stored = began(Home(tmp_path))
    step = says(stored.run, "Revoke").step
    record = {"kind": "done", "step": step, "by": "Eve", "at": "2026-03-01T12:00:00Z", "note": "", "answer": ""}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"{stored.head}\n{text}".encode()).hexdigest()
    with stored.path.open("ab") as file:
        file.write(f'{{"hash":"{digest}","record":{text}}}\n'.encode())
    with pytest.raises(NotProven, match=r"line 2 was changed.*has not been reached"):
        run_file.load(Home(tmp_path), stored.name)


def test_a_file_of_another_run_is_found(tmp_path: Path) -> None:
    stored = began(Home(tmp_path))
    stored.path.rename(stored.path.with_stem("20260301T130000-000000"))
    with pytest.raises(NotProven, match="it is of run"):
        run_file.load(Home(tmp_path), "20260301T13")


@pytest.mark.parametrize(
    ("by", "note", "says_"), [("", "", "nobody is named"), ("A\nB", "", "--by"), ("Ada", "x\u202e", "--note")]
)
def test_names_and_notes_are_visible_text(tmp_path: Path, by: str, note: str, says_: str) -> None:
    stored = began(Home(tmp_path))
    event = says(stored.run, "Is it right?", Kind.ANSWERED, by, answer="yes", note=note)
    with pytest.raises(InvalidInput, match=says_):
        run_file.append(Home(tmp_path), stored.name, event)


def test_a_report_says_who_did_what_and_what_was_late(tmp_path: Path) -> None:
    stored = finished(Home(tmp_path))
    text = markdown(stored, NOW)
    assert "1. **Is it right?**: answered yes by Ada on 2026-03-01T12:01:00Z" in text
    assert "    - approved by Ben on 2026-03-01T12:02:00Z: Read it" in text
    assert "skipped by Ada on 2026-03-01T12:05:00Z: Nothing to watch" in text
    assert stored.head in text
    assert "to be done" not in text
    other = run_file.begin(Home(tmp_path), Source(written().content, "*file*", "a [link](x)"), 0.0, NOW)
    late = NOW + timedelta(hours=5)
    assert "OVERDUE since 2026-03-01T16:00:00Z" in markdown(other, late)
    assert "- About: a \\[link\\](x)\n" in markdown(other, late)
    assert run_document(other, late)["overdue"] == 1
    assert run_document(other, NOW + timedelta(hours=4))["overdue"] == 0

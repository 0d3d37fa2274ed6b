"""`/records`: found by every filter, in pages that stay put while the log grows, with a record's whole history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from hub.identity import HubIdentity
from hub.routes import feedback as feedback_route
from hub.routes import records as records_route
from hub.routes import shared
from sharing_protocol import wire
from sharing_protocol.statements.header import format_timestamp
from tests.forum import Lab, pattern_body, sighting_body, withdrawal_body
from tests.hub.documented_forum import DocumentedForum, documented_forum
from tests.hub.exact_requests import Clock
from tests.hub.refusals import problem_of

METHOD = {"name": "Perplexity gap", "features": ["mean log-probability"], "parameters": {"threshold": 0.5}}


@dataclass(frozen=True)
class Library:
    """A forum with seven record versions, by name where they are in the log."""

    box: DocumentedForum
    aurora: Lab
    boreal: Lab
    ids: dict[str, str]
    index: dict[str, int]

    def find(self, **parameters: Any) -> wire.RecordPage:
        """One page."""
        response = self.box.get(wire.RECORDS, self.boreal.sync, **parameters)
        assert response.status_code == 200, response.text
        return wire.RecordPage.model_validate_json(response.content)

    def names(self, **parameters: Any) -> list[str]:
        """The names of what is found, in the order in which it is found."""
        by_index = {index: name for name, index in self.index.items()}
        return [by_index[record.index] for record in self.find(**parameters).records]


@pytest.fixture(scope="module")
def library(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[Library]:
    clock = Clock()
    with documented_forum(new_database(), hub_identity, clock) as box:
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal Labs")
        ids: dict[str, str] = {}
        index: dict[str, int] = {}

        def publish(name: str, lab: Lab, body: dict[str, Any], record: str | None = None) -> None:
            ids[name], receipt = box.publish(lab, body, record)
            index[name] = receipt.index

        publish("tasks 1", aurora, pattern_body("Bootstrapped tasks", techniques=["AML.T0024.002"]))
        publish("tasks 2", aurora, pattern_body("Bootstrapped tasks, refined", severity="low"), ids["tasks 1"])
        clusters = pattern_body(
            "Clustered accounts", kind="behavioral_signature", techniques=["AML.T0024", "AML.T0002"]
        )
        publish("clusters", aurora, {**clusters, "description": "Proxies rotate while payments stay the same."})
        method = pattern_body("Perplexity gap", kind="detection_method", method=METHOD, techniques=["AML.T0051.001"])
        publish("gap", boreal, method)
        publish("withdrawal", boreal, {**withdrawal_body(box.reference(ids["gap"])), "reason": "Mistook translators."})
        publish("sighting", boreal, sighting_body(box.reference(ids["tasks 1"])))
        soon = format_timestamp(clock.now + timedelta(seconds=30))
        publish("short", boreal, pattern_body("Short-lived", valid_until=soon, techniques=["AML.T0024.000"]))
        clock.now += timedelta(seconds=60)
        yield Library(box, aurora, boreal, ids, index)


FOUND: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["tasks 1", "tasks 2", "clusters", "gap", "withdrawal", "sighting", "short"]),
    ({"type": "pattern"}, ["tasks 1", "tasks 2", "clusters", "gap", "short"]),
    ({"type": "sighting"}, ["sighting"]),
    ({"type": "withdrawal"}, ["withdrawal"]),
    ({"kind": "query_pattern"}, ["tasks 1", "tasks 2", "short"]),
    ({"kind": "behavioral_signature"}, ["clusters"]),
    ({"kind": "detection_method"}, ["gap"]),
    ({"author": "<boreal>"}, ["gap", "withdrawal", "sighting", "short"]),
    ({"author": "boreal LABS"}, ["gap", "withdrawal", "sighting", "short"]),
    ({"author": "Boreal"}, []),
    ({"author": "%"}, []),
    ({"state": "active"}, ["tasks 2", "clusters", "withdrawal", "sighting"]),
    ({"state": "superseded"}, ["tasks 1"]),
    ({"state": "withdrawn"}, ["gap"]),
    ({"state": "expired"}, ["short"]),
    ({"technique": "AML.T0024"}, ["tasks 1", "tasks 2", "clusters", "short"]),
    ({"technique": "AML.T0024.002"}, ["tasks 1", "tasks 2"]),
    ({"technique": "AML.T0002"}, ["clusters"]),
    ({"technique": "AML.T0051"}, ["gap"]),
    ({"technique": "AML.T0050"}, []),
    ({"q": "bootstrap"}, ["tasks 1", "tasks 2"]),
    ({"q": '"tasks refined"'}, ["tasks 2"]),
    ({"q": "bootstrapped -refined"}, ["tasks 1"]),
    ({"q": "clustered or perplexity"}, ["clusters", "gap"]),
    ({"q": "rotating payment"}, ["clusters"]),
    ({"q": "translator"}, ["withdrawal"]),
    ({"q": "rotating perplexity"}, []),
    ({"q": "the"}, []),
    ({"q": "' OR 1=1 --"}, []),
    ({"q": "\U0001f600 \\ & | ! ( ) <-> :*"}, []),
    ({"type": "pattern", "author": "aurora", "state": "active", "technique": "AML.T0024", "q": "tasks"}, ["tasks 2"]),
    ({"type": "sighting", "kind": "query_pattern"}, []),
]


@pytest.mark.parametrize(("parameters", "expected"), FOUND, ids=[str(parameters) for parameters, _ in FOUND])
def test_records_are_found_by_every_filter_in_log_order(
    library: Library, parameters: dict[str, Any], expected: list[str]
) -> None:
    spelled = {name: library.boreal.id if value == "<boreal>" else value for name, value in parameters.items()}
    assert library.names(**spelled) == expected


def test_a_summary_says_what_the_record_says(library: Library) -> None:
    (found,) = library.find(q="clustered").records
    version, entry = library.box.heads[library.ids["clusters"]]
    assert found.model_dump(exclude={"created", "valid_until"}) == {
        "index": library.index["clusters"],
        "entry": entry,
        "id": library.ids["clusters"],
        "type": "pattern",
        "version": version,
        "author": library.aurora.id,
        "author_name": "Aurora",
        "state": "active",
        "title": "Clustered accounts",
        "kind": "behavioral_signature",
        "techniques": ["AML.T0024", "AML.T0002"],
        "severity": "high",
        "marking": "amber",
    }
    (sighting,) = library.find(type="sighting").records
    assert (sighting.title, sighting.kind, sighting.techniques, sighting.severity) == (None, None, [], None)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 200])
def test_pages_join_into_the_whole(library: Library, limit: int) -> None:
    found: list[int] = []
    after: int | None = -1
    while after is not None:
        page = library.find(limit=limit, after=after)
        assert len(page.records) <= limit
        assert page.next is None or (page.next == page.records[-1].index and len(page.records) == limit)
        found += [record.index for record in page.records]
        after = page.next
    assert found == sorted(library.index.values())


def test_pages_of_a_filter_skip_what_does_not_fit(library: Library) -> None:
    first = library.find(author=library.boreal.id, type="pattern", limit=1)
    assert [record.title for record in first.records] == ["Perplexity gap"]
    assert first.next == library.index["gap"]
    second = library.find(author=library.boreal.id, type="pattern", limit=1, after=first.next)
    assert [record.title for record in second.records] == ["Short-lived"]
    assert second.next is None


def test_there_is_nothing_after_the_end(library: Library) -> None:
    for after in (max(library.index.values()), 2**48):
        page = library.find(after=after)
        assert (page.records, page.next) == ([], None)
        assert page.tree_size == library.box.size()


def test_history_has_every_version_and_the_withdrawal(library: Library) -> None:
    def history(name: str) -> wire.RecordHistory:
        response = library.box.get(f"{wire.RECORDS}/{library.ids[name]}", library.aurora.sync)
        assert response.status_code == 200, response.text
        return wire.RecordHistory.model_validate_json(response.content)

    tasks = history("tasks 1")
    assert [(one.summary.version, one.summary.index, one.summary.state) for one in tasks.versions] == [
        (1, library.index["tasks 1"], "superseded"),
        (2, library.index["tasks 2"], "active"),
    ]
    assert [one.statement["body"]["title"] for one in tasks.versions] == [
        "Bootstrapped tasks",
        "Bootstrapped tasks, refined",
    ]
    assert tasks.versions[1].statement["previous"] == tasks.versions[0].summary.entry
    assert tasks.withdrawal is None

    gap = history("gap")
    assert [one.summary.state for one in gap.versions] == ["withdrawn"]
    assert gap.withdrawal is not None
    assert gap.withdrawal.summary.index == library.index["withdrawal"]
    assert gap.withdrawal.statement["body"]["record"]["id"] == library.ids["gap"]
    assert [one.summary.state for one in history("short").versions] == ["expired"]


def test_difference_of_two_versions_names_what_changed(library: Library) -> None:
    path = f"{wire.RECORDS}/{library.ids['tasks 1']}/diff"

    def changes(old: int, new: int) -> list[str]:
        response = library.box.get(f"{path}?from={old}&to={new}")
        difference = wire.RecordDifference.model_validate_json(response.content)
        assert (difference.from_version, difference.to_version) == (old, new)
        changed = [line for line in difference.diff if line[0] in "+-" and line[:3] not in ("+++", "---")]
        return [line for line in changed if "created" not in line and "valid_" not in line]

    entry = library.find(q="bootstrapped -refined").records[0].entry
    forward = changes(1, 2)
    assert '-    "severity": "high",' in forward
    assert '+    "severity": "low",' in forward
    assert f'+  "previous": "{entry}",' in forward
    assert '+  "version": 2' in forward
    assert '-    "title": "Bootstrapped tasks",' in forward
    assert '+    "title": "Bootstrapped tasks, refined",' in forward
    turned = {"+": "-", "-": "+"}
    assert sorted(turned[line[0]] + line[1:] for line in changes(2, 1)) == sorted(forward)
    assert changes(2, 2) == []


def test_difference_of_long_versions_is_told_as_a_whole(database: str, hub_identity: HubIdentity) -> None:
    """Such two, of 8,000 lines, would keep `difflib` busy for half a minute, and the hub with it."""
    with documented_forum(database, hub_identity) as box:
        lab = box.admit("Aurora")

        def body(version: int) -> dict[str, Any]:
            made = pattern_body("Long")
            crafted = [text for n in range(700) for text in (f"{n % 101}", f"{1000 + 2 * n + version}")]
            made["logic"][0]["falsepositives"] = ["at first the same", *crafted]
            return made | {"valid_from": "2026-01-01T00:00:00Z", "valid_until": "2027-06-01T00:00:00Z"}

        pattern, _ = box.publish(lab, body(0))
        box.publish(lab, body(1), pattern)
        path = f"{wire.RECORDS}/{pattern}"
        old, new = (
            json.dumps(one["statement"], indent=2, sort_keys=True).split("\n")
            for one in box.get(path).json()["versions"]
        )
        names, hunk, *lines = box.get(f"{path}/diff?from=1&to=2").json()["diff"][1:]
        assert (names, hunk[:3]) == ("+++ version 2", "@@ ")
        assert not any(line.startswith("@@") for line in lines)
        start = int(hunk[4:].partition(",")[0]) - 1
        for sign, text, size in ((" -", old, hunk.split()[1]), (" +", new, hunk.split()[2])):
            told = [line[1:] for line in lines if line[0] in sign]
            assert told == text[start : start + len(told)]
            assert size[1:] == f"{start + 1},{len(told)}"
            assert (text[:start], text[start + len(told) :]) == (old[:start], old[start + len(told) :])
        assert [line[0] for line in (lines[0], lines[-1])] == [" ", " "]
        assert box.get(f"{path}/diff?from=2&to=2").json()["diff"] == []


def test_an_answer_has_no_more_versions_than_a_hub_can_bear(
    database: str, hub_identity: HubIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_route, "MAX_VERSIONS", 2)
    monkeypatch.setattr(feedback_route, "MAX_VERSIONS", 2)
    with documented_forum(database, hub_identity) as box:
        lab = box.admit("Aurora")
        pattern, _ = box.publish(lab, pattern_body())
        box.publish(lab, pattern_body("Revised"), pattern)
        paths = f"{wire.RECORDS}/{pattern}", f"{wire.PATTERNS}/{pattern}/feedback"
        assert [len(box.get(path).json()["versions"]) for path in paths] == [2, 2]
        box.publish(lab, pattern_body("Revised again"), pattern)
        for path in paths:
            problem_of(box.get(path), 422, "too_much_said")
        assert box.get(f"{wire.RECORDS}/{pattern}/diff?from=1&to=3").status_code == 200


def test_a_crowd_that_asks_for_feedback_has_its_voices_read_once(
    database: str, hub_identity: HubIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "KEPT_SECONDS", 600.0)  # however slow this machine is
    clock, read = Clock(), list[str]()

    def note(_connection: object, _cursor: object, query: str, *_: object) -> None:
        if "refers_to =" in query:
            read.append(query)

    with documented_forum(database, hub_identity, clock) as box:
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        pattern, _ = box.publish(aurora, pattern_body())
        soon = format_timestamp(clock.now + timedelta(seconds=30))

        def say(lab: Lab, **changes: Any) -> None:
            box.publish(lab, sighting_body(box.reference(pattern)) | changes)

        def asked(_: object = None) -> list[int]:
            answer = box.get(f"{wire.PATTERNS}/{pattern}/feedback")
            assert answer.status_code == 200, answer.text
            return [len(one.seen_by) for one in wire.PatternFeedback.model_validate_json(answer.content).versions]

        say(aurora, valid_until=soon)
        event.listen(Engine, "before_cursor_execute", note)
        try:
            with ThreadPoolExecutor(4) as crowd:
                assert list(crowd.map(asked, range(12))) == [[1]] * 12
            assert len(read) == 1
            say(boreal)
            assert asked() == [2], "a grown log is read again"
            clock.now += timedelta(seconds=31)
            assert asked() == [1], "what expires meanwhile is left out"
            assert len(read) == 3
        finally:
            event.remove(Engine, "before_cursor_execute", note)


def test_what_is_not_there_is_not_found(library: Library) -> None:
    nobody = "pattern--00000000-0000-0000-0000-000000000000"
    for path in (
        f"{wire.RECORDS}/{nobody}",
        f"{wire.RECORDS}/{nobody}/diff?from=1&to=1",
        f"{wire.RECORDS}/{library.ids['tasks 1']}/diff?from=1&to=3",
        f"{wire.RECORDS}/{library.ids['tasks 1']}/diff?from=1000000&to=1",
        f"{wire.RECORDS}/{library.aurora.id}",
    ):
        problem_of(library.box.get(path), 404, "not_found")


BAD = [
    ("?type=confession", "query.type"),
    ("?type=", "query.type"),
    ("?kind=pattern", "query.kind"),
    ("?state=Active", "query.state"),
    ("?technique=T0024", "query.technique"),
    ("?technique=AML.T0024.", "query.technique"),
    ("?technique=AML.T0024%0A", "query.technique"),
    ("?author=", "query.author"),
    (f"?author={'a' * 201}", "query.author"),
    ("?author=a%00", "query.author"),
    ("?q=", "query.q"),
    (f"?q={'a' * 201}", "query.q"),
    ("?q=a%00b", "query.q"),
    ("?q=a%0Ab", "query.q"),
    ("?after=-2", "query.after"),
    ("?after=281474976710657", "query.after"),
    ("?after=99999999999999999999999999", "query.after"),
    ("?after=one", "query.after"),
    ("?after=", "query.after"),
    ("?after=1.0", "query.after"),
    ("?after=1e1", "query.after"),
    ("?after=1_0", "query.after"),
    ("?after=%2B1", "query.after"),
    ("?after=%201", "query.after"),
    ("?after=01", "query.after"),
    ("?after=%D9%A1", "query.after"),
    ("?limit=0", "query.limit"),
    ("?limit=201", "query.limit"),
    ("?limit=2&limit=3", "query.limit"),
    ("?state=active&state=expired", "query.state"),
    ("?stat=active", "query.stat"),
    ("/pattern", "path.record_id"),
    ("/pattern--1", "path.record_id"),
    (f"/pattern--{'0' * 35}A", "path.record_id"),
    (f"/pattern--{'0' * 36}%0A", "path.record_id"),
    (f"/pattern--{'0' * 36}/diff", "query.from"),
    (f"/pattern--{'0' * 36}/diff?from=1", "query.to"),
    (f"/pattern--{'0' * 36}/diff?from=0&to=1", "query.from"),
    (f"/pattern--{'0' * 36}/diff?from=1&to=1000001", "query.to"),
    (f"/pattern--{'0' * 36}/diff?from=1&to=2&limit=1", "query.limit"),
    (f"/pattern--{'0' * 36}?after=1", "query.after"),
]


@pytest.mark.parametrize(("target", "where"), BAD)
def test_bad_parameters_are_refused_with_their_names(library: Library, target: str, where: str) -> None:
    problem_of(library.box.get(wire.RECORDS + target), 422, "invalid_parameter", where, where.split(".")[1])


def test_pages_stay_put_while_the_log_grows(database: str, hub_identity: HubIdentity) -> None:
    """A reader pages on while two labs write: nothing comes twice, nothing is missed, nothing moves."""
    with documented_forum(database, hub_identity) as box:
        labs = [box.admit("Aurora"), box.admit("Boreal")]
        pattern, first = box.publish(labs[0], pattern_body())
        made = [(lab, box.record(lab, sighting_body(box.reference(pattern)))) for lab in labs for _ in range(12)]
        with ThreadPoolExecutor(2) as writers, box.client(labs[0].sync) as client:

            def page(after: int) -> wire.RecordPage:
                answer = client.get(wire.RECORDS, params={"after": after, "limit": 3})
                return wire.RecordPage.model_validate_json(answer.content)

            writing = [writers.submit(box.log, one, lab.analyst) for lab, one in made]
            pages: list[tuple[int, list[int]]] = []
            after, finished = -1, False
            while not finished:
                # What is not there once all were written, is not coming any more.
                finished = all(one.done() for one in writing)
                found = page(after)
                indexes = [record.index for record in found.records]
                assert all(index < found.tree_size for index in indexes)
                if indexes:
                    pages.append((after, indexes))
                    after, finished = indexes[-1], False
            written = [first.index, *(one.result().index for one in writing)]
            assert [index for _, indexes in pages for index in indexes] == sorted(written)
            for after, indexes in pages:
                assert [record.index for record in page(after).records][: len(indexes)] == indexes

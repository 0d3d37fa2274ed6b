"""Many envelopes by one request come to what they come to one by one, and are no way around any limit."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hub import intake
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from sharing_protocol.envelope import Envelope, parse
from sharing_protocol.statements import new_id
from sharing_protocol.trust import check_receipt
from tests.forum import (
    Document,
    ForumInABox,
    Lab,
    code_of,
    key,
    pattern_body,
    registration,
    running_hub,
    sighting_body,
    signed,
    withdrawal_body,
)
from tests.hub.forgeries import forged
from tests.hub.hub_process import hub_processes
from tests.hub.raw_requests import answer, connected, head, send_raw, signing
from tests.hub.refusals import contents, problem_of
from tests.hub.scrape import read
from tests.hub.stored_log import differences, held, rows, wait_until, waiting_for_log
from tests.hub.troubled_forum import REVOKED_KEY, TroubledForum, make_troubled_forum

Told = wire.Receipt | wire.Problem
_ANSWER = TypeAdapter(list[wire.Receipt | wire.Problem])


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    database = new_database()
    unlimited = HubSettings(submissions_per_minute=100_000, requests_per_minute=100_000)
    with running_hub(database, hub_identity, settings=unlimited) as hub:
        yield make_troubled_forum(hub)
    assert differences(database) == []


def send(box: ForumInABox, lines: Sequence[bytes], sender: str) -> httpx.Response:
    return box.post(wire.BULK_ENTRIES, b"\n".join(lines), sender)


def told(box: ForumInABox, made: Sequence[Envelope | bytes], sender: str) -> list[Told]:
    """What the hub says of each; every receipt is checked."""
    lines = [one.encode() if isinstance(one, Envelope) else one for one in made]
    response = send(box, lines, sender)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store"), response.text
    answers = _ANSWER.validate_json(response.content)
    assert len(answers) == len(lines)
    for line, one in zip(lines, answers, strict=True):
        if isinstance(one, wire.Receipt):
            check_receipt(one, line, box.hub.identity.public)
        else:
            assert one.request_id == response.headers["x-request-id"]
    return answers


def summary(answers: Sequence[Told]) -> list[int | str]:
    """Of each, its index or its code."""
    return [one.index if isinstance(one, wire.Receipt) else one.code for one in answers]


def patterns(box: ForumInABox, lab: Lab, count: int, title: str = "Pattern") -> list[Envelope]:
    return [box.record(lab, pattern_body(f"{title} {number}")) for number in range(count)]


# -- each is decided on its own, in order --------------------------------------------------------------------------


def test_a_full_load_is_logged_in_its_order(forum: TroubledForum) -> None:
    size = forum.box.size()
    made = patterns(forum.box, forum.aurora, wire.MAX_BULK_ENVELOPES)
    answers = told(forum.box, made, forum.aurora.analyst)
    assert summary(answers) == list(range(size, size + len(made)))
    assert not any(one.already_logged for one in answers if isinstance(one, wire.Receipt))


def test_what_is_refused_harms_no_other(forum: TroubledForum) -> None:
    size = forum.box.size()
    good = patterns(forum.box, forum.aurora, 3)
    foreign = forum.box.record(forum.boreal, pattern_body("Another lab's"))
    in_its_name = signed(forum.pattern(author=forum.boreal.id), forum.aurora.analyst)
    broken = forged(forum.pattern(), forum.aurora.analyst, "a stranger")
    revoked = signed(forum.pattern(), forum.aurora.analyst, REVOKED_KEY)
    failing = signed(forum.pattern(pattern_body(tests=[])), forum.aurora.analyst)
    lines: list[Envelope | bytes] = [
        good[0], foreign, b"no envelope", in_its_name, broken, b"", good[1], revoked, failing,
        b"A" * 70_000, good[2].encode() + b"\r", good[2],
    ]  # fmt: skip
    answers = told(forum.box, lines, forum.aurora.analyst)
    assert summary(answers) == [
        size, "not_the_signer", "malformed_json", "not_the_author", "bad_signature", "malformed_json", size + 1,
        "revoked_key", "invalid_statement", "envelope_too_large", "malformed_envelope", size + 2,
    ]  # fmt: skip
    statuses = [one.status for one in answers if isinstance(one, wire.Problem)]
    assert statuses == [403, 400, 403, 403, 400, 403, 422, 413, 400]
    # And each is told in the words that it would be told alone, if the gate lets it in.
    for line, one in zip(lines, answers, strict=True):
        if isinstance(one, wire.Problem) and line and one.code != "envelope_too_large":
            body = line.encode() if isinstance(line, Envelope) else line
            alone = wire.Problem.model_validate_json(forum.box.post(wire.ENTRIES, body, forum.aurora.analyst).content)
            assert alone.model_dump() | {"request_id": one.request_id} == one.model_dump()


def test_a_record_its_revision_and_what_refers_to_it(forum: TroubledForum) -> None:
    box, lab = forum.box, forum.aurora
    first = forum.pattern()
    made = [signed(first, lab.analyst)]
    box.remember(made[0])  # as if it were logged, so that the next is made to follow it
    for title in ("Second", "Third"):
        made.append(box.record(lab, pattern_body(title), str(first["id"])))
        box.remember(made[-1])
    made.append(box.record(lab, sighting_body(box.reference(str(first["id"])))))
    size = box.size()
    assert summary(told(box, made, lab.analyst)) == [size, size + 1, size + 2, size + 3]
    # In another order they are what they would be one by one.
    other = forum.pattern()
    one = signed(other, lab.analyst)
    box.remember(one)
    two = box.record(lab, pattern_body("Too soon"), str(other["id"]))
    assert summary(told(box, [two, one], lab.analyst)) == ["version_gap", size + 4]
    assert summary(told(box, [two], lab.analyst)) == [size + 5]


def test_two_that_conflict_and_one_that_is_there_twice(forum: TroubledForum) -> None:
    size = forum.box.size()
    document = forum.pattern()
    one = signed(document, forum.aurora.analyst)
    other = signed(document | {"body": pattern_body("Otherwise")}, forum.aurora.analyst)
    answers = told(forum.box, [one, other, one], forum.aurora.analyst)
    assert summary(answers) == [size, "version_conflict", size]
    assert [one.already_logged for one in answers if isinstance(one, wire.Receipt)] == [False, True]


def test_what_a_line_decides_of_membership_holds_for_the_next(forum: TroubledForum) -> None:
    """As it would one by one: a key is revoked by the line after the one that adds it, and not before."""
    box, lab = forum.box, forum.boreal
    added = {"key": registration("Boreal new analyst", "analyst", lab.id), "reason": "New here"}
    adds = signed(box.statement("membership.add_key", lab.id, lab.id, added), lab.owner)
    removed = {"key_id": key("Boreal new analyst").public_key.key_id, "reason": "Left", "suspect_from": None}
    early = signed(box.statement("membership.revoke_key", lab.id, lab.id, removed), lab.owner)
    box.remember(adds)
    ends = signed(box.statement("membership.revoke_key", lab.id, lab.id, removed), lab.owner)
    size = box.size()
    assert summary(told(box, [early, adds, ends], lab.owner)) == ["unknown_key", size, size + 1]


def test_sent_again_it_adds_nothing(forum: TroubledForum) -> None:
    made = patterns(forum.box, forum.aurora, 5)
    first = told(forum.box, made, forum.aurora.analyst)
    before = contents(forum.box)
    again = told(forum.box, made, forum.aurora.analyst)
    assert summary(again) == summary(first)
    assert all(one.already_logged for one in again if isinstance(one, wire.Receipt))
    assert contents(forum.box) == before


def test_a_captured_request_is_worth_nothing(forum: TroubledForum) -> None:
    hub, analyst = forum.box.hub, forum.aurora.analyst
    body = b"\n".join(one.encode() for one in patterns(forum.box, forum.aurora, 2))
    headers = {**signing(hub, analyst, "POST", wire.BULK_ENTRIES, body), "Content-Length": str(len(body))}
    sent = head(hub, headers, "POST", wire.BULK_ENTRIES) + body
    assert send_raw(hub, sent).status_code == 200
    problem_of(send_raw(hub, sent), 401, "replayed_request")
    # Nor is its signature for the one route one for the other, nor for other lines.
    headers = {**signing(hub, analyst, "POST", wire.ENTRIES, body), "Content-Length": str(len(body))}
    problem_of(send_raw(hub, head(hub, headers, "POST", wire.BULK_ENTRIES) + body), 401, "bad_request_signature")
    headers = {**signing(hub, analyst, "POST", wire.BULK_ENTRIES, body + b"\n"), "Content-Length": str(len(body))}
    problem_of(send_raw(hub, head(hub, headers, "POST", wire.BULK_ENTRIES) + body), 401, "wrong_digest")


# -- what is refused whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"\n"])
def test_an_empty_load_is_refused(forum: TroubledForum, body: bytes) -> None:
    response = forum.box.post(wire.BULK_ENTRIES, body, forum.aurora.analyst)
    problem_of(response, 400, "empty_bulk", says="at least one envelope")


def test_too_many_envelopes_are_refused_whole(forum: TroubledForum) -> None:
    before = contents(forum.box)
    lines = [one.encode() for one in patterns(forum.box, forum.aurora, 1)] * (wire.MAX_BULK_ENVELOPES + 1)
    response = send(forum.box, lines, forum.aurora.analyst)
    problem_of(response, 413, "bulk_too_large", says="at most 128 envelopes")
    assert contents(forum.box) == before


def test_too_many_bytes_are_refused_announced_or_not_and_on_this_path_alone(forum: TroubledForum) -> None:
    hub = forum.box.hub
    much = str(wire.MAX_BULK_BYTES + 1)
    response = send_raw(hub, head(hub, {"Content-Length": much}, "POST", wire.BULK_ENTRIES))
    problem_of(response, 413, "bulk_too_large", says="at most 1,048,576 bytes")
    for method, path in (("POST", wire.ENTRIES), ("GET", wire.BULK_ENTRIES), ("POST", wire.BULK_ENTRIES + "/")):
        response = send_raw(hub, head(hub, {"Content-Length": "65536"}, method, path))
        problem_of(response, 413, "envelope_too_large")
    with connected(hub) as connection:
        connection.sendall(head(hub, {"Transfer-Encoding": "chunked"}, "POST", wire.BULK_ENTRIES))
        part = b"10000\r\n" + b"A" * 65_536 + b"\r\n"
        connection.sendall(part * 16 + b"1\r\nA\r\n")
        problem_of(answer(connection), 413, "bulk_too_large")


def test_strangers_and_the_expelled_are_told_nothing(forum: TroubledForum) -> None:
    made = [one.encode() for one in patterns(forum.box, forum.aurora, 1)]
    problem_of(send(forum.box, made, "a stranger"), 401, "unknown_key")
    problem_of(send(forum.box, made, forum.drift.analyst), 403, "member_expelled")


# -- no way around a limit -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def limited(database: str, identity: HubIdentity, **given: int) -> Iterator[tuple[ForumInABox, Lab, Lab]]:
    chosen = HubSettings.model_validate({"metrics_port": 0, **given})
    with running_hub(database, identity, settings=chosen) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Aurora"), box.admit("Boreal")


@pytest.mark.parametrize("limit", ["submissions_per_minute", "requests_per_minute"])
def test_each_envelope_counts_as_one_by_itself(database: str, hub_identity: HubIdentity, limit: str) -> None:
    with limited(database, hub_identity, **{limit: 6}) as (box, aurora, boreal):
        size = box.size()
        made = patterns(box, aurora, 9)
        answers = told(box, made, aurora.analyst)
        assert summary(answers) == [*range(size, size + 6), *["too_many_requests"] * 3]
        for one in answers[6:]:
            assert isinstance(one, wire.Problem)
            assert (one.status, 1 <= (one.retry_after or 0) <= 60) == (429, True)
            assert f"6 {limit.removesuffix('_per_minute')} a minute" in one.detail
        for refused in (box.submit(made[8], aurora.analyst), send(box, [made[8].encode()], aurora.analyst)):
            assert (refused.status_code, code_of(refused)) == (429, "too_many_requests")
        told(box, patterns(box, boreal, 2), boreal.analyst)
        assert read(box.hub, "refusals_total", code="too_many_requests") == 5


def test_a_quota_that_is_met_in_the_middle(database: str, hub_identity: HubIdentity) -> None:
    with limited(database, hub_identity, entry_bytes_per_day=9_000) as (box, aurora, _):
        size = box.size()
        made = patterns(box, aurora, 8)
        fit = 9_000 // len(made[0].encode())
        small = box.record(aurora, {**pattern_body("s"), "description": "s", "references": []})
        assert 1 < fit < 8
        answers = told(box, [*made, small], aurora.analyst)
        assert summary(answers)[:8] == [*range(size, size + fit), *["quota_exceeded"] * (8 - fit)]
        stored = rows(database, "SELECT coalesce(sum(length(envelope)), 0) FROM log_entries WHERE type = 'pattern'")
        assert stored[0][0] <= 9_000


def test_places_by_the_bytes_that_may_come(database: str, hub_identity: HubIdentity) -> None:
    """The hub holds no more of bodies than of single envelopes: who announces much takes the places of many."""
    with limited(database, hub_identity, max_at_once=16, max_at_once_per_member=4) as (box, aurora, boreal):
        hub = box.hub
        body = b"\n".join([b"A" * 60_000] * 3)
        headers = {**signing(hub, aurora.analyst, "POST", wire.BULK_ENTRIES, body), "Content-Length": str(len(body))}
        with connected(hub) as slow:
            slow.sendall(head(hub, headers, "POST", wire.BULK_ENTRIES))
            wait_until(lambda: read(hub, "requests_in_work") == 3, "it does not take its places")
            assert code_of(send(box, [b"A" * 60_000] * 2, aurora.analyst)) == "too_many_requests"
            assert box.get(wire.MEMBERS, aurora.sync).status_code == 200
            box.publish(boreal, pattern_body())
            slow.sendall(body)
            assert answer(slow).status_code == 200
        # More than all its places is all of them, and not a request that can never be.
        assert send(box, [b"A" * 60_000] * 16, aurora.analyst).status_code == 200
        wait_until(lambda: read(hub, "requests_in_work") == 0, "places are lost")


def test_many_loads_of_one_member_leave_room_for_all_others(database: str, hub_identity: HubIdentity) -> None:
    """Far more envelopes than the queue has places for wait for their turn; a single one of another's does not."""
    many = {"submissions_per_minute": 100_000, "requests_per_minute": 100_000}
    with limited(database, hub_identity, **many) as (box, aurora, boreal), ThreadPoolExecutor(10) as threads:
        size = box.size()
        loads = [[box.record(aurora, _small(f"{load} {number}")) for number in range(40)] for load in range(8)]
        with held(database):
            loading = [threads.submit(told, box, load, aurora.analyst) for load in loads]
            wait_until(lambda: waiting_for_log(database) > 0, "they do not wait")
            single = threads.submit(box.submit, box.record(boreal, _small("Another's")), boreal.analyst)
            own = threads.submit(box.submit, box.record(aurora, _small("Own")), aurora.analyst)
            wait_until(lambda: (read(box.hub, "queue_length") or 0) >= 2, "the others do not wait")
            assert not single.done()
            assert not own.done()
            assert (read(box.hub, "queue_length") or 0) <= intake.PARTS_EACH * 40 + 2
        assert (single.result(30).status_code, own.result(30).status_code) == (201, 201)
        # In time: the turns of the loads were not all over.
        assert single.result().json()["index"] < size + 8 * 40
        indices = [index for one in loading for index in summary(one.result(60))]
        assert len({*indices}) == 320
        assert all(isinstance(index, int) for index in indices)


def _small(title: str) -> Document:
    return {**pattern_body(title), "description": "Small", "references": []}


def test_who_runs_out_of_time_is_told_what_is_logged_and_sends_the_rest_again(
    database: str, hub_identity: HubIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_PART", 2)
    with limited(database, hub_identity, request_timeout=2) as (box, aurora, _), ThreadPoolExecutor(1) as threads:
        made = patterns(box, aurora, 5)
        with held(database):
            loading = threads.submit(told, box, made, aurora.analyst)
            time.sleep(1.1)  # the first part waits for the log until there is no time for the next
        first = loading.result(30)
        assert [isinstance(one, wire.Receipt) for one in first] == [True, True, False, False, False]
        assert {one.status for one in first if isinstance(one, wire.Problem)} == {503}
        again = told(box, made, aurora.analyst)
        assert all(isinstance(one, wire.Receipt) for one in again)
        assert summary(again)[:2] == summary(first)[:2]


# -- the same log as one by one ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, ForumInABox, Lab]]:
    """Two hubs that keep the same log, each in a database of its own; and a lab."""
    unlimited = HubSettings(submissions_per_minute=1_000_000, requests_per_minute=1_000_000)
    databases = new_database(), new_database()
    with (
        running_hub(databases[0], hub_identity, settings=unlimited) as one,
        running_hub(databases[1], hub_identity, settings=unlimited) as other,
    ):
        box = ForumInABox(one)
        box.found()
        lab = box.admit("Aurora")
        twin = dataclasses.replace(box, hub=other)
        assert box.fingerprint is not None
        other.bind(box.fingerprint)
        for (entry,) in rows(databases[0], 'SELECT envelope FROM log_entries ORDER BY "index"'):
            assert twin.post(wire.ENTRIES, entry, "Ada").status_code == 201
        yield box, twin, lab
    for database in databases:
        assert differences(database) == []


DEEDS = ["new", "revise", "revise", "otherwise", "withdraw", "repeat", "forge", "spoil", "garbage", "add", "end"]
STEPS = st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 2), st.booleans()), min_size=1, max_size=14)


def envelopes_of(box: ForumInABox, lab: Lab, steps: Sequence[tuple[str, int, bool]]) -> list[bytes]:
    """Envelopes that go about three records and a key of a lab, many of them in vain; all sent by its owner's key.

    Each step is what is done, to which record, and whether what follows builds on it.
    """
    ids = [new_id("pattern", box.new_uuid()) for _ in range(3)]
    made: list[bytes] = []
    key_name = f"{lab.name} key of {ids[0]}"
    for number, (what, which, builds) in enumerate(steps):
        body = pattern_body(f"Step {number}")
        signers: tuple[str, ...] = (lab.owner, lab.analyst)
        if what == "spoil":
            body["tests"][0]["expect"] = "no_match"
        document = box.statement("pattern", ids[which], lab.id, body)
        if what == "otherwise":
            document["previous"] = "0" * 64 if document["previous"] else None
        if what == "withdraw":
            withdrawn = {"id": ids[which], "version": document["version"], "entry": document["previous"] or "0" * 64}
            document = box.statement(
                "withdrawal", new_id("withdrawal", box.new_uuid()), lab.id, withdrawal_body(withdrawn)
            )
        if what in ("add", "end"):
            signers = (lab.owner,)
            about: Document
            kind, about = "membership.add_key", {"key": registration(key_name, "analyst", lab.id), "reason": "New"}
            if what == "end":
                removed = key(key_name).public_key.key_id
                kind, about = "membership.revoke_key", {"key_id": removed, "reason": "Gone", "suspect_from": None}
            document = box.statement(kind, lab.id, lab.id, about)
        envelope = signed(document, *signers)
        if what == "forge":
            envelope = forged(document, lab.owner, "a stranger")
        if what == "repeat" and made:
            made.append(made[which % len(made)])
            continue
        made.append(b"{}" if what == "garbage" else envelope.encode())
        if builds:
            box.remember(envelope)
    return made


@settings(max_examples=6, deadline=None)
@given(steps=STEPS)
def test_the_log_is_the_same_as_one_by_one(twins: tuple[ForumInABox, ForumInABox, Lab], steps: Any) -> None:
    box, twin, lab = twins
    heads = dict(box.heads)
    made = envelopes_of(box, lab, steps)
    answers = summary(told(twin, made, lab.owner))
    alone: list[int | str] = []
    for one in made:
        response = box.post(wire.ENTRIES, one, lab.owner)
        problem = None if response.status_code in (200, 201) else code_of(response)
        alone.append(problem or response.json()["index"])
    assert answers == alone
    assert twin.checkpoint() == box.checkpoint()
    # What of it was logged is known; what was only made is not.
    box.heads.clear()
    box.heads.update(heads)
    for one, outcome in zip(made, alone, strict=True):
        if isinstance(outcome, int):
            box.remember(parse(one))


# -- nothing is lost -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_a_hub_killed_in_the_middle_has_logged_each_once_when_all_is_sent_again(database: str, tmp_path: Path) -> None:
    """Between the first commit and the answer: parts are in the log, and nobody was told."""
    with hub_processes(tmp_path / "home", database) as (hub,), ThreadPoolExecutor(1) as threads:
        box = hub.found()
        lab = box.admit("Aurora")
        made = patterns(box, lab, wire.MAX_BULK_ENVELOPES)
        size = box.size()
        loading = threads.submit(send, box, [one.encode() for one in made], lab.analyst)
        wait_until(lambda: rows(database, "SELECT tree_size FROM log_head")[0][0] > size, "nothing is logged")
        hub.kill()
        with contextlib.suppress(httpx.TransportError):
            assert loading.result(30).status_code == 200
        hub.start()
        hub.wait_until_ready()
        answers = told(dataclasses.replace(box, hub=dataclasses.replace(box.hub, url=hub.url)), made, lab.analyst)
        assert summary(answers) == list(range(size, size + len(made)))
        assert {True} <= {one.already_logged for one in answers if isinstance(one, wire.Receipt)}
        logged = rows(database, "SELECT count(*), count(DISTINCT payload_sha256) FROM log_entries")
        assert logged == [(size + len(made), size + len(made))]
    assert differences(database) == []

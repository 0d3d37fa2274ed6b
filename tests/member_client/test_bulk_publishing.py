"""Publishing several statements at once: each is told of by itself; a hub that takes none together gets them singly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.identity import HubIdentity
from member_client.errors import HubUnreachable, RefusedByHub
from member_client.home import Home
from member_client.hub_connection import HubConnection
from member_client.patterns import outbox
from member_client.session import Session
from sharing_protocol import wire
from sharing_protocol.trust import check_receipt
from tests.forum import ForumInABox, Lab, key, pattern_body, running_hub
from tests.hub.forgeries import forged
from tests.hub.stored_log import number
from tests.member_client.lab_homes import Client, make_home
from tests.member_client.test_pattern_lint import FILE

LOGGED = "SELECT count(*) FROM log_entries"


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[tuple[ForumInABox, Lab]]:
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        yield box, box.admit("Aurora")


@pytest.fixture
def aurora(forum: tuple[ForumInABox, Lab], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Client:
    return Client(make_home(tmp_path / "aurora", *forum), capsys)


@pytest.fixture
def files(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """Three pattern files whose titles no other test uses."""
    made = []
    for name in ("a", "b", "c"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(FILE.replace("title: Bootstrapped instructions", f"title: {request.node.name[:100]} {name}"))
        made.append(str(path))
    return made


class Wire(httpx.BaseTransport):
    """The way to the hub, which counts requests by path and may answer some itself, or lose answers."""

    def __init__(self, answers: dict[str, int] | None = None, lost: Sequence[str] = ()) -> None:
        self.paths: list[str] = []
        self._answers = answers or {}
        self._lost = [*lost]
        self._way = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.paths.append(path)
        if path in self._answers:
            return httpx.Response(self._answers[path], stream=httpx.ByteStream(b"<html>no such thing</html>"))
        response = self._way.handle_request(request)
        if path in self._lost:
            response.close()
            self._lost.remove(path)
            raise httpx.ReadError("the connection broke")
        return response

    def close(self) -> None:
        self._way.close()


def connection(box: ForumInABox, lab: Lab, way: Wire, attempts: int = 2) -> HubConnection:
    return HubConnection(box.hub.url, key(lab.analyst), transport=way, attempts=attempts)


def test_several_are_sent_by_one_request_and_each_is_proven(forum: tuple[ForumInABox, Lab]) -> None:
    box, lab = forum
    way = Wire()
    made = [box.record(lab, pattern_body(f"Number {number}")).encode() for number in range(3)]
    with connection(box, lab, way) as hub:
        told = [*hub.send_entries(made)]
    assert way.paths == [wire.BULK_ENTRIES]
    for one, entry in zip(told, made, strict=True):
        assert isinstance(one, wire.Receipt)
        check_receipt(one, entry, box.hub.identity.public)


def test_more_than_a_load_are_several(forum: tuple[ForumInABox, Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    box, lab = forum
    monkeypatch.setattr(wire, "MAX_BULK_ENVELOPES", 2)
    way = Wire()
    with connection(box, lab, way) as hub:
        told = [*hub.send_entries([box.record(lab, pattern_body(f"Load {n}")).encode() for n in range(5)])]
    assert way.paths == [wire.BULK_ENTRIES] * 3
    assert [type(one) for one in told] == [wire.Receipt] * 5


@pytest.mark.parametrize("status", [404, 405, 413])
def test_a_hub_or_proxy_that_takes_none_together_gets_them_one_by_one(
    forum: tuple[ForumInABox, Lab], status: int
) -> None:
    box, lab = forum
    way = Wire({wire.BULK_ENTRIES: status})
    made = [box.record(lab, pattern_body("First")), forged({"no": "statement"}, lab.analyst, lab.analyst)]
    entries = [*(one.encode() for one in made), box.record(lab, pattern_body("Last")).encode()]
    with connection(box, lab, way) as hub:
        told = [*hub.send_entries(entries)]
    assert way.paths == [wire.BULK_ENTRIES, *[wire.ENTRIES] * 3]
    assert [type(one) for one in told] == [wire.Receipt, RefusedByHub, wire.Receipt]


def test_a_lost_answer_is_asked_for_again(forum: tuple[ForumInABox, Lab]) -> None:
    box, lab = forum
    way = Wire(lost=[wire.BULK_ENTRIES])
    before = number(box.hub.database_url, LOGGED)
    with connection(box, lab, way) as hub:
        told = [*hub.send_entries([box.record(lab, pattern_body(f"Lost {n}")).encode() for n in range(2)])]
    assert [one.already_logged for one in told if isinstance(one, wire.Receipt)] == [True, True]
    assert number(box.hub.database_url, LOGGED) == before + 2


@pytest.mark.parametrize("answer", [b"[]", b"[{}]", b"nothing", b'[{"index": 0}, {"index": 1}]'])
def test_an_answer_that_is_none_is_no_success(forum: tuple[ForumInABox, Lab], answer: bytes) -> None:
    box, lab = forum
    way = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(answer)))
    with HubConnection(box.hub.url, key(lab.analyst), transport=way, attempts=1) as hub:
        told = [*hub.send_entries([b"one", b"two"])]
    assert [type(one) for one in told] == [HubUnreachable] * 2


def test_what_there_was_no_room_for_is_sent_again_and_nothing_else() -> None:
    """The hub says when: the part that it has told of is not sent again."""
    told_first = b'[{"index": 7, "entry": "", "inclusion_proof": [], "checkpoint": "", "already_logged": false},'
    no_room = b'{"type": "", "title": "", "status": 503, "detail": "full", "code": "overloaded", "retry_after": 0}]'
    sent: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        body = told_first + no_room if len(sent) == 1 else told_first[:-1] + b"]"
        return httpx.Response(200, stream=httpx.ByteStream(body))

    way = httpx.MockTransport(answer)
    with HubConnection("http://hub.example", key("Ada"), transport=way, attempts=2) as hub:
        told = [*hub.send_entries([b"one", b"two"])]
    assert sent == [b"one\ntwo", b"two"]
    assert [type(one) for one in told] == [wire.Receipt] * 2


def test_several_files_become_as_many_records(aurora: Client, files: list[str]) -> None:
    published = aurora.json("pattern", "submit", *files)
    assert [one["file"] for one in published] == files
    assert len({one["index"] for one in published}) == 3
    again = aurora.json("pattern", "submit", *files)
    assert again == [one | {"already_logged": True} for one in published]


def test_the_same_file_twice_is_no_second_record(
    aurora: Client, files: list[str], forum: tuple[ForumInABox, Lab]
) -> None:
    copy = Path(files[0]).with_name("copy.yaml")
    copy.write_bytes(Path(files[0]).read_bytes())
    before = number(forum[0].hub.database_url, LOGGED)
    for again in (files[0], str(copy)):
        told = aurora.json("pattern", "submit", *files, again, code=2)
        assert told["message"] == f"{files[0]} and {again} are the same file"
    assert number(forum[0].hub.database_url, LOGGED) == before
    assert outbox.pending(Session(Home(aurora.home))) == []


def test_one_that_the_hub_refuses_is_named_and_keeps_back_no_other(
    aurora: Client, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HubConnection.send_entries

    def spoil_the_second(self: HubConnection, entries: Sequence[bytes]) -> Any:
        # As if its signature had been damaged on the way.
        end = entries[1].rindex(b'"sig":"') + 7
        damaged = entries[1][:end] + (b"B" if entries[1][end : end + 1] == b"A" else b"A") + entries[1][end + 1 :]
        return real(self, [entries[0], damaged, entries[2]])

    monkeypatch.setattr(HubConnection, "send_entries", spoil_the_second)
    told = aurora.json("pattern", "submit", *files, code=3)
    assert [one["file"] for one in told] == files
    assert ["index" in one for one in told] == [True, False, True]
    assert told[1]["error"] == told[1]["problem"]["code"] == "bad_signature"
    assert outbox.pending(Session(Home(aurora.home))) == []
    monkeypatch.undo()
    assert aurora.json("pattern", "submit", *files)[1]["already_logged"] is False


def test_after_no_answer_all_drafts_are_kept_and_sent_again(
    aurora: Client, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = HubConnection.send_entries

    def lose_the_answer(self: HubConnection, entries: Sequence[bytes]) -> Any:
        for _ in real(self, entries):
            yield HubUnreachable("the connection broke")

    monkeypatch.setattr(HubConnection, "send_entries", lose_the_answer)
    aurora.run("pattern", "submit", *files, code=4)
    assert len(outbox.pending(Session(Home(aurora.home)))) == 3
    monkeypatch.undo()
    published = aurora.json("pattern", "submit", "--no-sync", *files)
    assert all(one["already_logged"] for one in published)
    assert outbox.pending(Session(Home(aurora.home))) == []

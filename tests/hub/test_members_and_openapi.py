"""`/members` says what the log says of labs and keys; `/openapi.json` says everything that a hub does, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from starlette.routing import Route

from hub import problems
from hub.app import create_app
from hub.identity import HubIdentity
from hub.routes.direct import Direct
from sharing_protocol import wire
from tests.forum import Document, Lab, admin, key, pattern_body, registration, signed
from tests.hub.documented_forum import DOCUMENT, DocumentedForum, documented_forum
from tests.hub.exact_requests import ask
from tests.hub.refusals import problem_of

SIGNED = {"400", "401", "403", "408", "413", "429", "431", "500", "503"}
UNSIGNED = {"408", "413", "431", "500"}


@dataclass(frozen=True)
class Board:
    """A forum in which something has happened to every lab."""

    box: DocumentedForum
    aurora: Lab
    boreal: Lab
    cirrus: Lab
    document: Document


@pytest.fixture(scope="module")
def board(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[Board]:
    with documented_forum(new_database(), hub_identity) as box:
        aurora, boreal, cirrus = (box.admit(name) for name in ("Aurora", "Boreal", "Cirrus"))  # entries 1 to 3
        added = {"key": registration("second sync", "sync", aurora.id), "reason": "A second machine"}
        box.log(signed(box.statement("membership.add_key", aurora.id, aurora.id, added), aurora.owner), aurora.owner)
        lost = {"key_id": key(aurora.sync).public_key.key_id, "reason": "Lost", "suspect_from": 2}
        box.decree("membership.revoke_key", aurora.id, lost)
        box.decree("membership.suspend", boreal.id, {"reason": "Under review"})
        box.decree("membership.expel", cirrus.id, {"reason": "Sold our patterns"})
        admins = {"admins": [admin("Ada"), admin("Ben")], "threshold": 1, "reason": "Cleo left"}
        box.log(signed(box.statement("membership.change_admins", box.id, box.id, admins), "Ada", "Ben"), "Ada")
        box.publish(aurora, pattern_body())
        yield Board(box, aurora, boreal, cirrus, box.get(DOCUMENT).json())


# -- members -------------------------------------------------------------------------------------------------------


def key_of(name: str, role: str, since: int, revoked_at: int | None = None, shown: str = "") -> Document:
    """How a key is described."""
    key_id = key(name).public_key.key_id
    return {"key_id": key_id, "role": role, "name": shown, "since": since, "revoked_at": revoked_at}


def test_members_are_as_the_log_says(board: Board) -> None:
    box, aurora, boreal, cirrus = board.box, board.aurora, board.boreal, board.cirrus
    expected = {
        "forum": "Test forum",
        "fingerprint": box.fingerprint,
        "threshold": 1,
        "tree_size": 10,
        "admins": [
            key_of("Ada", "admin", 0, shown="Ada"),
            key_of("Ben", "admin", 0, shown="Ben"),
            key_of("Cleo", "admin", 0, 8, shown="Cleo"),
        ],
        "members": [
            {
                "id": aurora.id,
                "name": "Aurora",
                "status": "active",
                "since": 1,
                "keys": [
                    key_of(aurora.owner, "owner", 1),
                    key_of(aurora.analyst, "analyst", 1),
                    key_of(aurora.sync, "sync", 1, 5),
                    key_of("second sync", "sync", 4),
                ],
            },
            *(
                {
                    "id": lab.id,
                    "name": lab.name,
                    "status": status,
                    "since": since,
                    "keys": [key_of(getattr(lab, role), role, since) for role in ("owner", "analyst", "sync")],
                }
                for lab, status, since in ((boreal, "suspended", 2), (cirrus, "expelled", 3))
            ),
        ],
    }
    for reader in ("Ada", aurora.owner, aurora.analyst, "second sync"):
        response = box.get(wire.MEMBERS, reader)
        assert response.headers["cache-control"] == "no-store"
        assert response.json() == expected


def test_only_members_read_who_the_members_are(board: Board) -> None:
    for reader, status, code in (
        ("a stranger", 401, "unknown_key"),
        ("Cleo", 403, "revoked_key"),
        (board.aurora.sync, 403, "revoked_key"),
        (board.boreal.owner, 403, "member_suspended"),
        (board.cirrus.owner, 403, "member_expelled"),
    ):
        problem_of(board.box.get(wire.MEMBERS, reader), status, code)
    problem_of(board.box.get(f"{wire.MEMBERS}?status=active"), 422, "invalid_parameter", "query.status", "status")


# -- the document --------------------------------------------------------------------------------------------------


def operations(document: Document) -> list[tuple[str, str, Document]]:
    """Method, path and description of each operation."""
    return [(method, path, one) for path, found in document["paths"].items() for method, one in found.items()]


def test_every_operation_is_described(board: Board) -> None:
    assert len(operations(board.document)) == 20
    for method, path, operation in operations(board.document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["tags"], where
        assert [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "path"] == (
            re.findall(r"\{(\w+)\}", path)
        ), where
        responses = operation["responses"]
        good = [status for status in responses if status < "300"]
        assert good, where
        assert all(responses[status]["content"] for status in good), where
        refusals = {status: responses[status] for status in responses if status >= "300"}
        for status, response in refusals.items():
            assert response["description"], f"{where} {status}"
            assert list(response["content"]) == [wire.PROBLEM_MEDIA_TYPE], f"{where} {status}"
        if operation.get("security") == []:
            assert path in (wire.HEALTH, wire.READY)
            assert set(refusals) == UNSIGNED | ({"503"} if path == wire.READY else set()), where
        else:
            assert set(refusals) >= SIGNED, where
        if method == "post":
            assert operation["requestBody"]["content"], where
            assert "422" in refusals, where
        if operation.get("parameters"):
            assert {"404", "422"} & set(refusals), where


def test_bounds_of_parameters_are_documented(board: Board) -> None:
    bounds = {
        (path, parameter["name"]): (parameter["schema"].get("minimum"), parameter["schema"].get("maximum"))
        for _, path, operation in operations(board.document)
        for parameter in operation.get("parameters", [])
        if parameter["schema"].get("type") == "integer"
    }
    tile, entries = "/tile/{level}/{index}", "/tile/entries/{index}"
    assert bounds == {
        (wire.CHECKPOINT, "after"): (0, 2**48),
        (wire.CHECKPOINT, "wait"): (0, 55),
        (wire.RECORDS, "after"): (-1, 2**48),
        (wire.RECORDS, "limit"): (1, 200),
        ("/records/{record_id}/diff", "from"): (1, 1_000_000),
        ("/records/{record_id}/diff", "to"): (1, 1_000_000),
        (tile, "level"): (0, 63),
        (f"{tile}.p/{{width}}", "level"): (0, 63),
        (f"{tile}.p/{{width}}", "width"): (1, 255),
        (f"{entries}.p/{{width}}", "width"): (1, 255),
    }


def test_every_reference_leads_somewhere(board: Board) -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(board.document)))
    assert names == set(board.document["components"]["schemas"])


def test_every_status_that_a_code_has_is_documented_somewhere(board: Board) -> None:
    documented = {status for _, _, operation in operations(board.document) for status in operation["responses"]}
    given = {str(int(status)) for status in problems._CODES_BY_STATUS}
    # No operation is one that "cannot be done here".
    assert given - documented == {"405"}


def test_every_documented_operation_can_be_reached(board: Board) -> None:
    """With something that is there; every answer is checked against the document on its way."""
    box, lab = board.box, board.aurora
    record = next(record_id for record_id in box.heads if record_id.startswith("pattern--"))
    waits = signed(box.statement("membership.reinstate", board.boreal.id, box.id, {"reason": "All is well"}), "Ada")
    made = box.record(lab, pattern_body("Another"))
    box.add_key(lab, "witness")
    with box.client(lab.analyst) as client, box.client("Ada") as ada:
        answers = [
            client.get(wire.HEALTH),
            client.get(wire.READY),
            client.post(wire.ENTRIES, content=made.encode()),
            client.post(wire.ENTRIES, content=made.encode()),
            client.post(wire.BULK_ENTRIES, content=made.encode()),
            client.get(wire.CHECKPOINT),
            client.post(wire.CHECKPOINT, content=client.get(wire.CHECKPOINT).content),
            client.post(wire.COSIGNATURES, content=box.cosign(lab)),
            client.get(wire.COSIGNATURES),
            ada.post(wire.PROPOSALS, content=waits.encode()),
            client.get(wire.PROPOSALS),
            client.get(f"{wire.PROPOSALS}/{waits.payload_sha256}"),
            client.get(wire.RECORDS),
            client.get(f"{wire.RECORDS}/{record}"),
            client.get(f"{wire.RECORDS}/{record}/diff?from=1&to=1"),
            client.get(f"{wire.PATTERNS}/{record}/feedback"),
            client.get(wire.MEMBERS),
            client.get("/tile/0/000.p/11"),
            client.get("/tile/entries/000.p/11"),
        ]
        assert [answer.status_code for answer in answers if answer.status_code not in (200, 201)] == []
        for full in ("/tile/0/000", "/tile/entries/000"):
            problem_of(client.get(full), 404, "unknown_tile")
    assert box.contract is not None
    reached = {(method, path) for method, path, _ in box.contract.answered}
    assert reached == {(method.upper(), path) for method, path, _ in operations(board.document)}


def test_no_route_is_undocumented(board: Board, hub_identity: HubIdentity) -> None:
    """FastAPI documents its own routes; the plain ones have to be written down, one template for each form of tile."""
    direct = create_app(board.box.hub.database_url, hub_identity).gate._application
    assert isinstance(direct, Direct)
    routes = getattr(direct._application, "routes", [])
    plain = {route.path for route in routes if type(route) is Route}
    assert plain == {DOCUMENT, wire.CHECKPOINT, "/tile/{path:path}"}
    described = {(method.upper(), path) for method, path, _ in operations(board.document)}
    assert direct._endpoints.keys() <= {*described, ("GET", "/tile/")}


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        (wire.ENTRIES, "POST"),
        (wire.CHECKPOINT, "GET, HEAD, POST"),
        (wire.PROPOSALS, "GET, POST"),
        (f"{wire.PROPOSALS}/{'0' * 64}", "GET"),
        (wire.RECORDS, "GET"),
        (wire.MEMBERS, "GET"),
        ("/tile/0/000", "GET, HEAD"),
    ],
)
def test_what_cannot_be_done_says_what_can(board: Board, target: str, allowed: str) -> None:
    """RFC 9110, section 15.5.6: all that the path takes, not only what one of its routes does."""
    for method in ("DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW"):
        answer = ask(board.box, target, method)
        problem_of(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


def test_the_document_is_for_members(board: Board) -> None:
    problem_of(board.box.get(DOCUMENT, "a stranger"), 401, "unknown_key")
    problem_of(httpx.get(board.box.hub.url + DOCUMENT), 401, "unsigned_request")


def test_an_undocumented_answer_is_noticed(board: Board) -> None:
    """The checks of this file, and of its neighbours, can fail."""
    assert board.box.contract is not None
    good = board.box.get(wire.MEMBERS)
    json_type = {"content-type": "application/json"}
    for status, headers, content in (
        (418, json_type, good.content),
        (200, {"content-type": "text/html"}, good.content),
        (200, json_type, good.content.replace(b'"threshold":1', b'"threshold":"one"')),
        (200, json_type, b"{}"),
    ):
        answer = httpx.Response(status, headers=headers, content=content, request=good.request)
        answer.elapsed = good.elapsed
        with pytest.raises((AssertionError, BaseExceptionGroup)):
            board.box.contract.check(answer)

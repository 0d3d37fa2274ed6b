"""Who is answered at all: every request but the probes is signed, now, by a key that may act now."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub.app import utc_now
from hub.identity import HubIdentity
from sharing_protocol import wire
from tests.forum import RunningHub, key, running_hub, signed
from tests.hub.raw_requests import head, send_raw, signing
from tests.hub.refusals import problem_of, refused
from tests.hub.troubled_forum import REVOKED_KEY, TroubledForum, make_troubled_forum

ROUTES = {
    "/entries": "/entries",
    "/entries/bulk": "/entries/bulk",
    "/proposals": "/proposals",
    "/proposals/{proposal_id}": f"/proposals/{'0' * 64}",
    "/records": "/records",
    "/records/{record_id}": "/records/pattern--00000000-0000-4000-8000-000000000000",
    "/records/{record_id}/diff": "/records/pattern--00000000-0000-4000-8000-000000000000/diff?from=1&to=2",
    "/patterns/{pattern_id}/feedback": "/patterns/pattern--00000000-0000-4000-8000-000000000000/feedback",
    "/members": "/members",
    "/checkpoint": "/checkpoint",
    "/cosignatures": "/cosignatures",
    "/tile/{level}/{index}": "/tile/0/000",
    "/tile/{level}/{index}.p/{width}": "/tile/0/000.p/1",
    "/tile/entries/{index}": "/tile/entries/000",
    "/tile/entries/{index}.p/{width}": "/tile/entries/000.p/1",
}
"""Every documented path that needs a signature, and one that is of that form."""


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


# -- every route -------------------------------------------------------------------------------------------------


def test_the_routes_that_are_tried_here_are_all_there_are(forum: TroubledForum) -> None:
    document = forum.box.get("/openapi.json", forum.aurora.sync).json()
    assert set(document["paths"]) == {*ROUTES, wire.HEALTH, wire.READY}


@pytest.mark.parametrize("target", [*ROUTES.values(), "/openapi.json", "/", "/nothing", "/healthz/", "/healthz/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_nothing_is_answered_to_a_stranger(forum: TroubledForum, method: str, target: str) -> None:
    hub = forum.box.hub
    problem_of(send_raw(hub, head(hub, {}, method, target)), 401, "unsigned_request", says="RFC 9421")


def test_health_is_for_everybody(forum: TroubledForum) -> None:
    hub = forum.box.hub
    response = send_raw(hub, head(hub, {}, target=wire.HEALTH))
    assert (response.status_code, wire.Health.model_validate_json(response.content).status) == (200, "ok")
    problem_of(send_raw(hub, head(hub, {}, "DELETE", wire.HEALTH)), 405, "method_not_allowed")


@pytest.mark.parametrize("target", ROUTES.values())
@pytest.mark.parametrize(
    ("signer", "status", "code"),
    [
        ("a stranger", 401, "unknown_key"),
        (REVOKED_KEY, 403, "revoked_key"),
        ("Cirrus sync", 403, "member_suspended"),
        ("Drift sync", 403, "member_expelled"),
    ],
)
def test_who_does_not_belong_reads_nothing(
    forum: TroubledForum, target: str, signer: str, status: int, code: str
) -> None:
    hub = forum.box.hub
    method = "POST" if target in (wire.ENTRIES, wire.BULK_ENTRIES) else "GET"
    problem_of(send_raw(hub, head(hub, signing(hub, signer, method, target), method, target)), status, code)


@pytest.mark.parametrize("target", [target for target in ROUTES.values() if not target.startswith(wire.ENTRIES)])
def test_every_key_of_a_member_reads_everything(forum: TroubledForum, target: str) -> None:
    hub = forum.box.hub
    for signer in (forum.aurora.sync, forum.aurora.analyst, forum.aurora.owner, "Ada"):
        response = send_raw(hub, head(hub, signing(hub, signer, target=target), target=target))
        missing = "00000000" in target or target.endswith("/000")
        assert response.status_code == (404 if missing else 200), response.text


def test_a_member_reads_until_it_is_suspended_and_again_when_it_is_reinstated(forum: TroubledForum) -> None:
    box = forum.box
    lab = box.admit("Ember")
    with box.client(lab.sync) as client:  # one connection, kept alive throughout
        assert client.get(wire.CHECKPOINT).status_code == 200
        box.decree("membership.suspend", lab.id, {"reason": "Under review"})
        problem_of(client.get(wire.CHECKPOINT), 403, "member_suspended", says="Ember is suspended")
        box.decree("membership.reinstate", lab.id, {"reason": "All is well"})
        assert client.get(wire.CHECKPOINT).status_code == 200
        box.decree("membership.expel", lab.id, {"reason": "Not at all"})
        problem_of(client.get(wire.CHECKPOINT), 403, "member_expelled", says="Ember was expelled")


# -- the signature -----------------------------------------------------------------------------------------------


def test_a_wrong_key(forum: TroubledForum) -> None:
    hub = forum.box.hub
    headers = signing(hub, "a stranger")
    mine, claimed = (key(name).public_key.key_id for name in ("a stranger", forum.aurora.sync))
    headers["Signature-Input"] = headers["Signature-Input"].replace(mine, claimed)
    problem_of(send_raw(hub, head(hub, headers)), 401, "bad_request_signature", says="does not hold")


def test_a_request_with_half_a_signature(forum: TroubledForum) -> None:
    hub = forum.box.hub
    for name in ("Signature", "Signature-Input"):
        headers = signing(hub, forum.aurora.sync)
        del headers[name]
        problem_of(send_raw(hub, head(hub, headers)), 401, "unsigned_request")


TARGET = '"@method" "@authority" "@path" "@query"'


def handmade(hub: RunningHub, covered: str = TARGET, **changes: object) -> bytes:
    """A GET of the checkpoint whose signature covers these components and has these parameters, None for without."""
    values = {
        "@method": "GET",
        "@authority": urlsplit(hub.url).netloc,
        "@path": wire.CHECKPOINT,
        "@query": "?",
    }
    signer = key("Aurora sync")
    given = {
        "created": int(utc_now().timestamp()),
        "keyid": f'"{signer.public_key.key_id}"',
        "nonce": f'"{secrets.token_urlsafe(18)}"',
        "tag": '"stillwatch"',
    } | changes
    shown = f"({covered})" + "".join(f";{name}={value}" for name, value in given.items() if value is not None)
    lines = [f"{name}: {values[name.strip(chr(34))]}" for name in covered.split()]
    base_of_signature = "\n".join([*lines, f'"@signature-params": {shown}'])
    signature = base64.b64encode(signer.sign(base_of_signature.encode())).decode()
    return head(hub, {"Signature-Input": f"mine={shown}", "Signature": f"mine=:{signature}:"})


def test_the_profile_can_be_written_by_hand(forum: TroubledForum) -> None:
    hub = forum.box.hub
    for request in (
        handmade(hub),
        handmade(hub, '"@query" "@path" "@method" "@authority"'),
        handmade(hub, alg='"ed25519"'),
    ):
        assert send_raw(hub, request).status_code == 200


@pytest.mark.parametrize("component", TARGET.split())
def test_every_part_of_the_target_is_covered(forum: TroubledForum, component: str) -> None:
    hub = forum.box.hub
    covered = " ".join(part for part in TARGET.split() if part != component)
    problem_of(send_raw(hub, handmade(hub, covered)), 401, "bad_request_signature", says=component)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"expires": 4_000_000_000}, "`expires`, which this profile does not use"),
        ({"expires": 1}, "`expires`, which this profile does not use"),
        ({"created": None}, "needs `created`"),
        ({"created": '"now"'}, "created"),
        ({"nonce": None}, "needs `created` and a `nonce`"),
        ({"nonce": '"fifteen-letters"'}, "`nonce` of 16 to 64 characters"),
        ({"nonce": f'"{"n" * 65}"'}, "`nonce` of 16 to 64 characters"),
        ({"tag": '"other"'}, ""),
        ({"tag": None}, ""),
        ({"keyid": None}, ""),
        ({"alg": '"hmac-sha256"'}, ""),
    ],
)
def test_parameters_that_the_profile_does_not_have(forum: TroubledForum, changes: dict[str, Any], says: str) -> None:
    hub = forum.box.hub
    problem_of(send_raw(hub, handmade(hub, **changes)), 401, "bad_request_signature", says=says)


@pytest.mark.parametrize("created", [10**15 - 1, -(10**15) + 1, 0])
def test_a_time_that_no_calendar_has(forum: TroubledForum, created: int) -> None:
    hub = forum.box.hub
    says = "check this machine's clock"
    problem_of(send_raw(hub, handmade(hub, created=created)), 401, "stale_request", says=says)


def test_two_signatures_with_the_tag(forum: TroubledForum) -> None:
    hub = forum.box.hub
    first, second = (signing(hub, name) for name in (forum.aurora.sync, forum.boreal.sync))
    both = {name: f"{first[name]}, {second[name].replace('stillwatch=', 'other=', 1)}" for name in first}
    problem_of(send_raw(hub, head(hub, both)), 401, "bad_request_signature")


@pytest.mark.parametrize(
    ("signature_input", "signature"),
    [
        ("", ""),
        ("mine", "mine"),
        ("mine=1", "mine=2"),
        ("mine=()", "mine=:YQ==:"),
        ("mine=(1 2 3)", "mine=?1"),
        ('mine=("@nothing")', "mine=:!:"),
        ('mine=("@method";req);created=-1', "mine=()"),
        ("=" * 5000, "(" * 5000),
        ('mine=("\x80\xff")', "\x80=:YQ==:"),
    ],
)
def test_headers_that_nobody_could_read(forum: TroubledForum, signature_input: str, signature: str) -> None:
    hub = forum.box.hub
    headers = {"Signature-Input": signature_input, "Signature": signature}
    problem_of(send_raw(hub, head(hub, headers)), 401, "bad_request_signature")


# -- the content -------------------------------------------------------------------------------------------------


def sent(forum: TroubledForum, change: Callable[[dict[str, str], bytes], dict[str, str]]) -> bytes:
    """A good submission whose signing headers were changed."""
    hub, analyst = forum.box.hub, forum.aurora.analyst
    body = signed(forum.pattern(), analyst).encode()
    headers = change(signing(hub, analyst, "POST", wire.ENTRIES, body), body)
    return head(hub, {**headers, "Content-Length": str(len(body))}, "POST", wire.ENTRIES) + body


def _digest(body: bytes, algorithm: str = "sha-256") -> str:
    value = base64.b64encode(hashlib.new(algorithm.replace("-", ""), body).digest()).decode()
    return f"{algorithm}=:{value}:"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda headers, _: headers | {"Content-Digest": _digest(b"other")}, "bad_request_signature"),
        (lambda headers, body: headers | {"Content-Digest": _digest(body, "sha-512")}, "bad_request_signature"),
        (lambda headers, _: headers | {"Content-Digest": "sha-256=:AAAA:"}, "bad_request_signature"),
        (lambda headers, _: headers | {"Content-Digest": ""}, "bad_request_signature"),
        (lambda headers, _: {name: headers[name] for name in headers if "Digest" not in name}, "bad_request_signature"),
    ],
)
def test_an_altered_digest(
    forum: TroubledForum, change: Callable[[dict[str, str], bytes], dict[str, str]], code: str
) -> None:
    request = sent(forum, change)
    refused(forum.box, lambda: send_raw(forum.box.hub, request), 401, code)


def test_a_wrong_digest_that_is_signed(forum: TroubledForum) -> None:
    hub = forum.box.hub
    request = sent(forum, lambda _, body: signing(hub, forum.aurora.analyst, "POST", wire.ENTRIES, body + b" "))
    refused(forum.box, lambda: send_raw(hub, request), 401, "wrong_digest", says="not what Content-Digest says")


def test_a_body_whose_digest_nobody_signed(forum: TroubledForum) -> None:
    hub = forum.box.hub

    def change(_: dict[str, str], body: bytes) -> dict[str, str]:
        return signing(hub, forum.aurora.analyst, "POST", wire.ENTRIES) | {"Content-Digest": _digest(body)}

    request = sent(forum, change)
    refused(forum.box, lambda: send_raw(hub, request), 401, "bad_request_signature", says="content-digest")

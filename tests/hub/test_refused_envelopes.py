"""Submissions that are not what the log takes: not the strict form, not a statement, too large."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from hub.identity import HubIdentity
from sharing_protocol import wire
from sharing_protocol.envelope import MAX_ENVELOPE_BYTES, Envelope
from tests.forum import Document, key, pattern_body, running_hub, signed
from tests.hub.forgeries import payload_of, signed_again, signed_bytes
from tests.hub.refusals import problem_of, refused, refuses
from tests.hub.troubled_forum import TroubledForum, make_troubled_forum


@pytest.fixture(scope="module")
def forum(new_database: Callable[[], str], hub_identity: HubIdentity) -> Iterator[TroubledForum]:
    with running_hub(new_database(), hub_identity) as hub:
        yield make_troubled_forum(hub)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Expecting value (line 1, column 1)"),
        (b"{", "line 1, column 2"),
        (b'{"payload":"e30=",}', "line 1, column 19"),
        (b'{"payload":NaN}', "NaN is not a JSON number"),
        (b'{"payload":1e999}', "too large"),
        (b'{"payload":1,"payload":2}', "'payload' appears twice"),
        (b"[" * 33 + b"]" * 33, "more than 32 levels"),
        (b"[" * 30_000, "more than 32 levels"),
        (b'{"payload":"\xff"}', "not UTF-8 (byte 12)"),
        (b'\xef\xbb\xbf{"payload":""}', "byte order mark"),
        (b'{"payload":"\\ud800"}', "half a surrogate pair"),
        (b'{"payload":"\\u0000"}', "U+0000"),
    ],
)
def test_malformed_json_is_refused(forum: TroubledForum, body: bytes, says: str) -> None:
    refuses(forum.box, body, forum.aurora.analyst, 400, "malformed_json", says=says)


@pytest.mark.parametrize(
    "document",
    [
        [],
        "envelope",
        {},
        {"payload": "e30=", "payloadType": "application/vnd.stillwatch.statement+json"},
        {"payload": {}, "payloadType": "application/vnd.stillwatch.statement+json", "signatures": []},
        {"payload": "e30=", "payloadType": "application/vnd.stillwatch.statement+json", "signatures": {}},
        {"payload": "e30=", "payloadType": "application/vnd.stillwatch.statement+json", "signatures": []},
        {"payload": "e30=", "payloadType": "application/vnd.stillwatch.statement+json", "signatures": ["x"]},
    ],
)
def test_other_json_is_no_envelope(forum: TroubledForum, document: object) -> None:
    body = json.dumps(document, separators=(",", ":")).encode()
    refuses(forum.box, body, forum.aurora.analyst, 400, "malformed_envelope")


def _without_padding(text: str) -> str:
    assert '=="}]}' in text
    return text.replace('=="}]}', '"}]}')


def _in_the_other_alphabet(text: str) -> str:
    other = text.replace("+", "-").replace("/", "_").replace("application_vnd", "application/vnd")
    return other.replace("statement-json", "statement+json")


def _stray_bits(text: str) -> str:
    # 64 bytes leave four unused bits in the last character: another one decodes to the same bytes.
    at = text.index('=="}]}') - 1
    return text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_without_padding, "bad_base64"),
        (_in_the_other_alphabet, "bad_base64"),
        (_stray_bits, "bad_base64"),
        (lambda text: text.replace('"payload":"', '"payload":"\\n', 1), "bad_base64"),
        (lambda text: text.replace('":"', '": "', 1), "malformed_envelope"),
        (lambda text: text + "\n", "malformed_envelope"),
        (lambda text: " " + text, "malformed_envelope"),
        (lambda text: text.replace('"payload"', '"\\u0070ayload"', 1), "malformed_envelope"),
        (lambda text: text.replace("application/vnd", "application\\/vnd", 1), "malformed_envelope"),
        (lambda text: "{" + text.split(",", 1)[1][:-1] + "," + text[1:].split(",", 1)[0] + "}", "malformed_envelope"),
        (lambda text: text.replace('"keyid":"', '"keyid":"A', 1), "malformed_envelope"),
        (lambda text: text[:-1] + ',"comment":"mine"}', "malformed_envelope"),
        (lambda text: text[:-3] + ',"cert":""}]}', "malformed_envelope"),
        (lambda text: text.replace("stillwatch.statement", "in-toto", 1), "unsupported_payload_type"),
        (lambda text: text + text, "malformed_json"),
    ],
)
def test_an_envelope_in_any_other_form_is_refused(
    forum: TroubledForum, change: Callable[[str], str], code: str
) -> None:
    made = signed(forum.pattern(pattern_body("What????? ~~~~~")), forum.aurora.analyst)
    text = made.encode().decode()
    assert "/" in text.split('"')[3]  # so that the alphabets differ
    other = change(text)
    assert other != text
    refuses(forum.box, other.encode(), forum.aurora.analyst, 400, code)


def test_signatures_in_another_order_are_refused(forum: TroubledForum) -> None:
    document = forum.box.statement("membership.expel", forum.boreal.id, forum.box.id, {"reason": "No"})
    made = signed(document, "Ada", "Ben")
    swapped = Envelope(made.payload, made.payload_type, made.signatures[::-1])
    refuses(forum.box, swapped.encode(), "Ada", 400, "malformed_envelope", says="sorted by keyid")


def test_one_admin_twice_is_refused(forum: TroubledForum) -> None:
    document = forum.box.statement("membership.expel", forum.boreal.id, forum.box.id, {"reason": "No"})
    made = signed(document, "Ada")
    doubled = Envelope(made.payload, made.payload_type, made.signatures * 2)
    refuses(forum.box, doubled, "Ada", 400, "duplicate_signature", says="two signatures of one key")
    # Another signature by the same key is still the same admin, however valid it is.
    other = signed_again(made, "Ada")
    both = Envelope(made.payload, made.payload_type, made.signatures + other.signatures)
    refuses(forum.box, both, "Ada", 400, "duplicate_signature", says="two signatures of one key")
    refuses(forum.box, other, "Ada", 403, "insufficient_signatures", says="1 of the forum's admins signed, 2 must")


def test_too_many_signatures_are_refused(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), *(f"stranger {number}" for number in range(65)))
    refuses(forum.box, made, forum.aurora.analyst, 400, "malformed_envelope", says="1 to 64 signatures")


def _as_large_as(forum: TroubledForum, size: int) -> bytes:
    """A signed pattern whose envelope has as many bytes as fit into `size`; a payload's spacing is free."""
    payload = payload_of(forum.pattern())
    room = size - len(signed_bytes(b"", forum.aurora.analyst).encode())
    return signed_bytes(payload.ljust(room // 4 * 3), forum.aurora.analyst).encode()


def test_an_envelope_of_the_greatest_size_is_taken(forum: TroubledForum) -> None:
    body = _as_large_as(forum, MAX_ENVELOPE_BYTES)
    assert MAX_ENVELOPE_BYTES - 3 <= len(body) <= MAX_ENVELOPE_BYTES
    response = forum.box.post(wire.ENTRIES, body, forum.aurora.analyst)
    assert response.status_code == 201, response.text


def test_an_oversize_envelope_is_refused(forum: TroubledForum) -> None:
    body = (b'{"payload":"' + b"A" * MAX_ENVELOPE_BYTES)[: MAX_ENVELOPE_BYTES + 1]
    refuses(forum.box, body, forum.aurora.analyst, 413, "envelope_too_large", says="at most 65,535 bytes")


@pytest.mark.parametrize(
    ("payload", "code", "says"),
    [
        (b"{", "malformed_json", "the statement is not JSON"),
        (b'{"schema":1,"type":"pattern","type":"sighting"}', "malformed_json", "'type' appears twice"),
        (b'{"schema":1,"type":"pattern","body":{"confidence":9007199254740993}}', "malformed_json", "2^53-1"),
        (b"[]", "malformed_statement", "`schema` and a string `type`"),
        (b'{"type":"pattern"}', "malformed_statement", "`schema` and a string `type`"),
        (b'{"schema":true,"type":"pattern"}', "malformed_statement", "`schema` and a string `type`"),
        (b'{"schema":1,"type":7}', "malformed_statement", "`schema` and a string `type`"),
    ],
)
def test_a_signed_payload_that_is_no_statement_is_refused(
    forum: TroubledForum, payload: bytes, code: str, says: str
) -> None:
    made = signed_bytes(payload, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 400, code, says=says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "price_list"}, "'price_list' in schema 1"),
        ({"type": "membership.dissolve"}, "'membership.dissolve' in schema 1"),
        ({"schema": 2}, "'pattern' in schema 2"),
    ],
)
def test_a_statement_that_the_hub_does_not_know_is_refused(forum: TroubledForum, changes: Document, says: str) -> None:
    made = signed(forum.pattern() | changes, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "unknown_statement_type", "type", says)


@pytest.mark.parametrize(
    ("path", "value", "where", "says"),
    [
        ((), ("urgent", True), "urgent", "Extra inputs are not permitted"),
        (("body",), ("price", 7), "body.price", "Extra inputs are not permitted"),
        (("body", "tests", 0), ("customer", "Acme"), "body.tests.0.customer", "Extra inputs are not permitted"),
        (("body", "references", 0), ("note", ""), "body.references.0.note", "Extra inputs are not permitted"),
        (("body",), ("measured", {"volume": 1}), "body.measured.events", "Field required"),
        (("body",), ("b\u0430d\u202e", 1), "body.'b\\u0430d\\u202e'", "Extra inputs are not permitted"),
        (("body",), ("title", "Two\nlines"), "body.title", "U+000A is a control"),
        (("body",), ("title", "\u202eevil"), "body.title", "U+202E is a control"),
        (("body",), ("confidence", "70"), "body.confidence", "valid integer"),
        (("body",), ("confidence", 101), "body.confidence", "less than or equal to 100"),
        (("body",), ("marking", "secret"), "body.marking", "'amber+strict'"),
        (("body",), ("techniques", ["T1566"]), "body.techniques.0", "pattern"),
        (("body", "tests", 0), ("synthetic", False), "body.tests.0.synthetic", "True"),
        (("body", "references", 0), ("url", "javascript:alert(1)"), "body.references.0.url", "pattern"),
        ((), ("id", "pattern--7"), "id", "<type>--<uuid>"),
        ((), ("version", 0), "version", "greater than or equal to 1"),
        ((), ("version", 1.0), "version", "valid integer"),
        ((), ("schema", 0), "schema", "greater than or equal to 1"),
    ],
)
def test_an_unknown_or_impossible_field_is_refused_with_its_path(
    forum: TroubledForum, path: tuple[str | int, ...], value: tuple[str, object], where: str, says: str
) -> None:
    document = json.loads(payload_of(forum.pattern()))
    place = document
    for step in path:
        place = place[step]
    place[value[0]] = value[1]
    made = signed(document, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_statement", where, says)


def test_a_missing_field_is_refused_with_its_path(forum: TroubledForum) -> None:
    document = json.loads(payload_of(forum.pattern()))
    del document["body"]["legal_basis"]
    made = signed(document, forum.aurora.analyst)
    refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_statement", "body.legal_basis", "Field required")


def test_a_refusal_names_five_problems_and_counts_the_rest(forum: TroubledForum) -> None:
    document = json.loads(payload_of(forum.pattern()))
    document["body"] = {}
    made = signed(document, forum.aurora.analyst)
    problem = refuses(forum.box, made, forum.aurora.analyst, 422, "invalid_statement", "body.marking")
    assert problem.detail.count("Field required") == 5
    assert problem.detail.endswith("; and 12 more")


def test_whoever_sends_an_envelope_has_signed_it(forum: TroubledForum) -> None:
    made = signed(forum.pattern(), forum.aurora.analyst)
    for sender in (forum.boreal.analyst, forum.aurora.sync, forum.aurora.owner, "Ada"):
        refuses(forum.box, made, sender, 403, "not_the_signer", says="must be one of those who signed it")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/entries/", 404, "not_found"),
        ("/checkpoint", 400, "malformed_note"),
        ("/members", 405, "method_not_allowed"),
        ("/", 404, "not_found"),
    ],
)
def test_an_entry_is_sent_to_the_log_and_nowhere_else(forum: TroubledForum, path: str, status: int, code: str) -> None:
    body = signed(forum.pattern(), forum.aurora.analyst).encode()
    refused(forum.box, lambda: forum.box.post(path, body, forum.aurora.analyst), status, code)


def test_a_refusal_never_says_what_is_in_the_payload(forum: TroubledForum) -> None:
    secret = "the-customer-is-called-Acme"
    document = forum.pattern() | {"version": secret}
    response = forum.box.submit(signed(document, forum.aurora.analyst), forum.aurora.analyst)
    problem_of(response, 422, "invalid_statement", "version")
    assert secret not in response.text
    assert key(forum.aurora.analyst).public_key.key_id not in response.text

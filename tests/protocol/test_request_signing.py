"""Signed HTTP requests: what is covered, and what is refused."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NoReturn, TypeVar

import hypothesis.strategies as st
import pytest
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
)
from hypothesis import given

from sharing_protocol import request_signing
from sharing_protocol.errors import Malformed, ProtocolError, Refused
from sharing_protocol.keys import PublicKey
from sharing_protocol.request_signing import WINDOW_SECONDS, SignedRequest, sign_request, verify_request
from tests.protocol.forum_log import key
from tests.protocol.refusals import code_of

NOW = 1_772_366_400
LAST_SECOND = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
NONCE = "0123456789abcdef"
URL = "https://hub.example:8443/records?kind=pattern&after=7"
BODY = b'{"payload":"e30="}'
SIGNER = key("Aurora sync")

Headers = list[tuple[str, str]]
T = TypeVar("T")


def find(key_id: str) -> PublicKey:
    if key_id != SIGNER.public_key.key_id:
        raise Refused("unknown_key", "no such key")
    return SIGNER.public_key


def headers(
    method: str = "POST", url: str = URL, body: bytes = BODY, created: int = NOW, nonce: str = NONCE
) -> Headers:
    return list(sign_request(method, url, body, SIGNER, created, nonce).items())


def verify(lines: Headers, method: str = "POST", url: str = URL, body: bytes = BODY, now: float = NOW) -> SignedRequest:
    return verify_request(method, url, lines, body, find, now)


def refused(code: str, lines: Headers, method: str = "POST", url: str = URL, body: bytes = BODY) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        verify(lines, method, url, body)
    assert code_of(caught.value) == code
    return caught.value


def changed(lines: Headers, name: str, old: str, new: str) -> Headers:
    assert any(known == name and old in value for known, value in lines)
    return [(known, value.replace(old, new) if known == name else value) for known, value in lines]


def handmade(
    covered: str, parameters: str, values: Mapping[str, str], label: str = "stillwatch", extra: Headers | None = None
) -> Headers:
    """A signature over exactly these components and parameters, made without the library."""
    target = {"@method": "POST", "@authority": "hub.example:8443", "@path": "/records"}
    known = {**target, "@query": "?kind=pattern&after=7", **values}
    names = [name.strip('"') for name in covered.split()]
    signed = [f'"{name}": {known[name]}' for name in names]
    base = "\n".join([*signed, f'"@signature-params": ({covered}){parameters}'])
    signature = base64.b64encode(SIGNER.sign(base.encode())).decode()
    return [
        ("Signature-Input", f"{label}=({covered}){parameters}"),
        ("Signature", f"{label}=:{signature}:"),
        *(extra or []),
    ]


TARGET = '"@method" "@authority" "@path" "@query"'
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(BODY).digest()).decode()}:"
PARAMETERS = f';created={NOW};keyid="{SIGNER.public_key.key_id}";nonce="{NONCE}";tag="stillwatch"'


def test_the_profile_can_be_written_without_the_library() -> None:
    lines = handmade(f'{TARGET} "content-digest"', PARAMETERS, {"content-digest": DIGEST},
                     extra=[("Content-Digest", DIGEST)])  # fmt: skip
    assert verify(lines) == SignedRequest(SIGNER.public_key.key_id, NONCE, NOW)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.lists(st.text("abc0123-_.~", min_size=1, max_size=5), max_size=4).map(lambda parts: "/" + "/".join(parts)),
    query=st.none() | st.text("abc=&+0", max_size=12),
    body=st.binary(max_size=40),
    nonce=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=16, max_size=64),
)
def test_what_was_signed_verifies(method: str, path: str, query: str | None, body: bytes, nonce: str) -> None:
    url = f"https://hub.example{path}" + ("" if query is None else f"?{query}")
    lines = headers(method, url, body, NOW, nonce)
    assert verify(lines, method, url, body) == SignedRequest(SIGNER.public_key.key_id, nonce, NOW)
    assert ("content-digest" in {name.lower() for name, _ in lines}) is bool(body)


@given(data=st.data())
def test_any_change_of_a_header_is_refused(data: st.DataObject) -> None:
    lines = headers()
    line = data.draw(st.integers(0, len(lines) - 1))
    name, value = lines[line]
    at = data.draw(st.integers(0, len(value) - 1))
    character = data.draw(st.sampled_from('abcXYZ019:;="?/ +()'))
    altered = value[:at] + character + value[at + 1 :]
    if altered != value:
        lines[line] = (name, altered)
        with pytest.raises((Malformed, Refused)):
            verify(lines)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_missing_header_is_refused(position: int) -> None:
    lines = headers()
    name = lines.pop(position)[0].lower()
    refused("bad_request_signature" if name == "content-digest" else "unsigned_request", lines)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", URL),
        ("POST", URL.replace("hub.example", "evil.example")),
        ("POST", URL.replace(":8443", "")),
        ("POST", URL.replace("/records", "/entries")),
        ("POST", URL.replace("/records", "/records/")),
        ("POST", URL.replace("/records", "/%72ecords")),
        ("POST", URL.replace("after=7", "after=8")),
        ("POST", URL.replace("kind=pattern&after=7", "after=7&kind=pattern")),
        ("POST", URL.split("?")[0]),
        ("post", URL),
        ("POST", "no url"),
        ("POST", URL + "\n"),
    ],
)
def test_a_request_to_another_target_is_refused(method: str, url: str) -> None:
    refused("bad_request_signature", headers(), method, url)


def test_an_empty_query_is_no_query() -> None:
    # RFC 9421, section 2.2.7: both have the value "?". They ask for the same resource, so nothing hangs on it.
    bare = URL.split("?")[0]
    verify(headers(url=bare), url=bare + "?")


def test_host_names_ignore_case_and_the_default_port() -> None:
    plain = "https://hub.example/records"
    verify(headers(url=plain), url="https://HUB.example:443/records")


@pytest.mark.parametrize("body", [b"", BODY + b" ", b"other"])
def test_other_content_is_refused(body: bytes) -> None:
    refused("wrong_digest", headers(), body=body)


def test_content_needs_a_covered_digest() -> None:
    refused("bad_request_signature", headers(body=b""))
    refused("bad_request_signature", [*headers(body=b""), ("Content-Digest", DIGEST)])
    refused("wrong_digest", [*headers(body=b""), ("Content-Digest", DIGEST)], body=b"")


def test_a_digest_by_an_unknown_algorithm_is_refused() -> None:
    digest = "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"
    lines = handmade(f'{TARGET} "content-digest"', PARAMETERS, {"content-digest": digest},
                     extra=[("Content-Digest", digest)])  # fmt: skip
    refused("wrong_digest", lines)


@pytest.mark.parametrize("missing", ['"@method" ', '"@authority" ', '"@path" ', '"@query" ', ' "content-digest"'])
def test_every_component_must_be_covered(missing: str) -> None:
    covered = f'{TARGET} "content-digest"'.replace(missing, "")
    lines = handmade(covered, PARAMETERS, {"content-digest": DIGEST}, extra=[("Content-Digest", DIGEST)])
    refused("bad_request_signature", lines)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f";created={NOW}", ""),
        (f";created={NOW}", f";created={NOW}.5"),
        (f";created={NOW}", ";created=?1"),
        (f";created={NOW}", f';created="{NOW}"'),
        (f';nonce="{NONCE}"', ""),
        (NONCE, NONCE[1:]),
        (NONCE, "0" * 65),
        (f'nonce="{NONCE}"', "nonce=1234567890123456"[:20]),
        (';tag="stillwatch"', ""),
        (';tag="stillwatch"', ';tag="another"'),
        (f';keyid="{SIGNER.public_key.key_id}"', ""),
        (f'keyid="{SIGNER.public_key.key_id}"', "keyid=7"),
        (';tag="stillwatch"', ';tag="stillwatch";alg="hmac-sha256"'),
        (';tag="stillwatch"', ';tag="stillwatch";alg="rsa-v1_5-sha256"'),
        (';tag="stillwatch"', f';tag="stillwatch";expires={NOW + 9}'),
        (';tag="stillwatch"', f';tag="stillwatch";expires={NOW - 9}'),
        (';tag="stillwatch"', ';tag="stillwatch";else=1'),
    ],
)
def test_parameters_that_the_profile_does_not_have(old: str, new: str) -> None:
    assert old in PARAMETERS
    lines = handmade(TARGET, PARAMETERS.replace(old, new), {})
    refused("bad_request_signature", lines, body=b"")


def test_two_signatures_with_our_tag_are_refused() -> None:
    first, second = handmade(TARGET, PARAMETERS, {}), handmade(TARGET, PARAMETERS, {}, label="second")
    both = [(name, f"{value}, {second[line][1]}") for line, (name, value) in enumerate(first)]
    refused("bad_request_signature", both, body=b"")
    refused("bad_request_signature", [*first, *second], body=b"")


def test_one_label_twice_is_refused() -> None:
    first, second = handmade(TARGET, PARAMETERS, {}), handmade(TARGET, PARAMETERS.replace("0123", "3210"), {})
    refused("bad_request_signature", [*first, *second], body=b"")
    refused("bad_request_signature", [*first, *first], body=b"")


def test_a_proxys_own_signature_beside_ours_is_ignored() -> None:
    first = handmade(TARGET, PARAMETERS, {})
    proxy = handmade(TARGET, PARAMETERS.replace('tag="stillwatch"', 'tag="proxy"'), {}, label="proxy")
    assert verify([*first, *proxy], body=b"").nonce == NONCE


def test_repeated_header_lines_of_a_covered_field_are_seen() -> None:
    refused("wrong_digest", [*headers(body=b""), ("Content-Digest", DIGEST), ("content-digest", DIGEST)], body=b"")
    refused("bad_request_signature", [*headers(), ("content-digest", DIGEST)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Signature-Input", ""),
        ("Signature-Input", "stillwatch"),
        ("Signature-Input", "stillwatch=1"),
        ("Signature-Input", "((((("),
        ("Signature-Input", 'stillwatch=("@method";req);tag="stillwatch"'),
        ("Signature-Input", f'stillwatch=("nonsense"){PARAMETERS}'),
        ("Signature-Input", "stillwatch=(1 2);tag=\"stillwatch\""),
        ("Signature-Input", "\u00e9"),
        ("Signature", ""),
        ("Signature", "stillwatch=:AAAA:"),
        ("Signature", 'stillwatch="text"'),
        ("Signature", "other=:AAAA:"),
    ],
)  # fmt: skip
def test_headers_that_are_no_signature(name: str, value: str) -> None:
    refused("bad_request_signature", [(known, value if known == name else old) for known, old in headers()])


@given(st.text(st.characters(max_codepoint=0x17F), max_size=60), st.sampled_from(["Signature-Input", "Signature"]))
def test_no_header_ends_in_another_error(value: str, name: str) -> None:
    lines = [(known, value if known == name else old) for known, old in headers()]
    with pytest.raises((Malformed, Refused)):
        verify(lines)


@pytest.mark.parametrize("offset", [-WINDOW_SECONDS, 0, WINDOW_SECONDS])
def test_the_window_has_both_edges(offset: int) -> None:
    assert verify(headers(), now=NOW + offset).created == NOW


@pytest.mark.parametrize("offset", [-WINDOW_SECONDS - 0.01, WINDOW_SECONDS + 0.01, 86_400])
def test_outside_the_window_a_request_is_stale(offset: float) -> None:
    with pytest.raises(Refused) as caught:
        verify(headers(), now=NOW + offset)
    assert code_of(caught.value) == "stale_request"


@pytest.mark.parametrize("lines", [headers(body=b""), handmade(TARGET, PARAMETERS, {})], ids=["usual", "another form"])
def test_the_reason_for_refusing_a_key_passes_through(lines: Headers) -> None:
    def suspended(_: str) -> PublicKey:
        raise Refused("member_suspended", "Aurora is suspended")

    with pytest.raises(Refused) as caught:
        verify_request("POST", URL, lines, b"", suspended, NOW)
    assert code_of(caught.value) == "member_suspended"


def test_another_registered_key_does_not_verify() -> None:
    with pytest.raises(Malformed) as caught:
        verify_request("POST", URL, headers(), BODY, lambda _: key("Boreal sync").public_key, NOW)
    assert code_of(caught.value) == "bad_request_signature"


def test_the_query_is_signed_as_it_is_sent() -> None:
    url = "https://hub.example/search?q=%E2%82%AC+and%20more"
    verify(headers(url=url), url=url)
    refused("bad_request_signature", headers(url=url), url=url.replace("+", "%20"))


def test_headers_behave_as_the_library_expects() -> None:
    lines = request_signing._Headers([("Accept", "a"), ("accept", "b"), ("Host", "c")])
    assert list(lines) == ["Accept", "accept", "Host"]
    assert "ACCEPT" in lines
    del lines["ACCEPT"]
    assert lines.items() == [("Host", "c")]


def test_the_algorithm_does_nothing_without_a_key() -> None:
    bare = request_signing._StrictEd25519()
    with pytest.raises(ValueError, match="signer"):
        bare.sign(b"message")
    with pytest.raises(InvalidSignature):
        bare.verify(bytes(64), b"message")


# -- the usual form ----------------------------------------------------------------------------------------------
#
# Requests of one form are read and written without the library: it must not be seen from outside.

HOSTS = ["hub.example", "HUB.example", "hub.example:8443", "hub.example:443", "hub.example:0443", "[::1]:8470",
         "ada@hub.example", "hub%2eexample", "hub.example:", "hüb.example"]  # fmt: skip
TARGETS = ["/checkpoint", "", "/", "/a//b/../c", "/records?", "/records?a=1&b=?/", "/records?a=%20", "/%63", "/a b",
           "/checkpoint#x", "?a=1", "/é", "/a;b=c:@!$'()*+,"]  # fmt: skip

Outcome = SignedRequest | tuple[type[Exception], str, str]


def outcome(method: str, url: str, lines: Headers, body: bytes, now: float = NOW) -> Outcome:
    try:
        return verify_request(method, url, lines, body, find, now)
    except ProtocolError as error:
        return type(error), code_of(error), error.detail


def by_the_library(ask: Callable[[], T]) -> T:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_signing, "_verify_usual", lambda *_: None)
        patch.setattr(request_signing, "_sign_usual", lambda *_: None)
        return ask()


def signing(method: str, url: str, body: bytes, created: int, nonce: str = NONCE) -> dict[str, str] | str:
    try:
        return dict(sign_request(method, url, body, SIGNER, created, nonce))
    except (HTTPMessageSignaturesException, ValueError, OverflowError) as error:
        return type(error).__name__


requests = st.tuples(
    st.sampled_from(["GET", "POST", "get", "M-SEARCH", "POST\n"]),
    st.builds("{}://{}{}".format, st.sampled_from(["http", "https"]), st.sampled_from(HOSTS), st.sampled_from(TARGETS)),
    st.sampled_from([b"", BODY]),
)


@given(
    asked=requests,
    created=st.integers(-1, 2 * NOW),
    nonce=st.sampled_from([NONCE, "a b" * 6, 'q"\\' * 8, "é" * 20]),
)
def test_what_is_signed_without_the_library_is_what_it_signs(
    asked: tuple[str, str, bytes], created: int, nonce: str
) -> None:
    method, url, body = asked

    def sign() -> dict[str, str] | str:
        return signing(method, url, body, created, nonce)

    assert sign() == by_the_library(sign)


@pytest.mark.parametrize("created", [-1, 0, LAST_SECOND, LAST_SECOND + 1, 10**15, 10**30])
def test_the_first_and_the_last_time_are_the_librarys(created: int) -> None:
    assert signing("POST", URL, BODY, created) == by_the_library(lambda: signing("POST", URL, BODY, created))


@given(data=st.data())
def test_what_is_verified_without_the_library_is_what_it_verifies(data: st.DataObject) -> None:
    method, url, body = data.draw(st.just(("POST", URL, BODY)) | requests)
    lines = headers(body=data.draw(st.sampled_from([b"", BODY])))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        name, value = lines[at]
        begins = data.draw(st.integers(0, len(value)))
        ends = data.draw(st.integers(begins, min(len(value), begins + 2)))
        put = data.draw(st.text('aA019:;="?/ +(),\\\n\té', max_size=2))
        lines[at] = (
            data.draw(st.sampled_from([name, name.lower(), name.upper()])),
            value[:begins] + put + value[ends:],
        )
        if data.draw(st.booleans()):
            lines.append(data.draw(st.sampled_from([*lines, ("X-Other", "a"), ("Signature", "other=:AA==:")])))
    now = NOW + data.draw(st.sampled_from([0, WINDOW_SECONDS, WINDOW_SECONDS + 1, -WINDOW_SECONDS - 1]))
    told = outcome(method, url, lines, body, now)
    assert told == by_the_library(lambda: outcome(method, url, lines, body, now))


@pytest.mark.parametrize("body", [b"", BODY])
def test_the_usual_form_takes_no_library(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    def asked(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the library was asked")

    monkeypatch.setattr(HTTPMessageSigner, "sign", asked)
    monkeypatch.setattr(HTTPMessageVerifier, "verify", asked)
    lines = headers(body=body)
    assert verify(lines, body=body) == SignedRequest(SIGNER.public_key.key_id, NONCE, NOW)
    refused("wrong_digest" if body else "bad_request_signature", lines, body=b"other")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("body", [b"", BODY])
def test_a_usual_signature_holds_wherever_the_librarys_does(host: str, target: str, body: bytes) -> None:
    url = f"https://{host}{target}"
    try:
        lines = list(by_the_library(lambda: sign_request("POST", url, body, SIGNER, NOW, NONCE)).items())
    except HTTPMessageSignaturesException:
        return  # no such URL can be signed
    expected = by_the_library(lambda: outcome("POST", url, lines, body))
    assert outcome("POST", url, lines, body) == expected
    for other in (BODY + b" ", b""):
        assert outcome("POST", url, lines, other) == by_the_library(lambda: outcome("POST", url, lines, other))  # noqa: B023 - called at once

"""Signed HTTP requests: RFC 9421 message signatures with Ed25519, and RFC 9530 content digests.

A request is signed over its method, authority, path and query, and the digest of its content if it has any,
with `created`, a random `nonce`, the key's id, and a tag. The hub refuses one that is older or newer than a small
window, and one whose nonce it has seen from that key; so a captured request is worth nothing.

`http-message-signatures` builds and parses; the signature itself is checked by `keys`, and times by the caller's clock.
Nearly every request is of one form, the one that `sign_request` writes. For that form alone the signature base is put
together here, at a quarter of the cost: a request of that form whose signature holds is accepted, and every other, with
whatever is wrong with it, goes to the library, which decides.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureAlgorithm,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from typing_extensions import override

from sharing_protocol.errors import Malformed, ProtocolError, Refused
from sharing_protocol.keys import PublicKey, Signer

TAG = "stillwatch"
WINDOW_SECONDS = 60
"""How far `created` may be from the hub's clock, either way."""
MIN_NONCE, MAX_NONCE = 16, 64
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, after which the library has no times."""

_TARGET = ("@method", "@authority", "@path", "@query")

# The usual form. Each pattern takes only what is written in the one canonical way, so that nothing has to be rewritten
# for the signature base; percent-encoding, IPv6 and user information are left to the library.
_USUAL_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._\-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@/\-]*)(?:\?(?P<query>[A-Za-z0-9._~!$&'()*+,;=:@/?\-]*))?"
)
_USUAL_METHOD = re.compile("[A-Z]{1,10}")
_USUAL_NONCE = re.compile(rf"[A-Za-z0-9_-]{{{MIN_NONCE},{MAX_NONCE}}}")
_USUAL_INPUT = re.compile(
    r'stillwatch=(?P<parameters>\("@method" "@authority" "@path" "@query"(?P<digest> "content-digest")?\)'
    r';created=(?P<created>0|[1-9][0-9]{0,14});keyid="(?P<key_id>[0-9a-f]{64})";alg="ed25519"'
    rf';nonce="(?P<nonce>{_USUAL_NONCE.pattern})";tag="{TAG}")'
)
_USUAL_SIGNATURE = re.compile("stillwatch=:([A-Za-z0-9+/]{85}[AQgw]==):")
_USUAL_DIGEST = re.compile("sha-256=:([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=):")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class _StrictEd25519(HTTPSignatureAlgorithm):
    """Ed25519 by `keys`' rules; the base class only asks for these two methods."""

    algorithm_id = "ed25519"

    def __init__(self, public_key: PublicKey | None = None, private_key: Signer | None = None) -> None:
        self._public_key = public_key
        self._signer = private_key

    def sign(self, message: bytes) -> bytes:
        if self._signer is None:
            raise ValueError("a signer is needed to sign")
        return self._signer.sign(message)

    def verify(self, signature: bytes, message: bytes) -> None:
        if self._public_key is None or not self._public_key.verifies(message, signature):
            raise InvalidSignature("the signature does not hold")


class _OneSigner(HTTPSignatureKeyResolver):
    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @override
    def resolve_private_key(self, key_id: str) -> Signer:
        return self._signer


class _Directory(HTTPSignatureKeyResolver):
    def __init__(self, find: Callable[[str], PublicKey]) -> None:
        self._find = find
        self.refusal: ProtocolError | None = None

    def resolve_public_key(self, key_id: str) -> PublicKey | None:
        try:
            return self._find(key_id)
        except ProtocolError as error:
            # The library would wrap it; the caller wants the reason itself.
            self.refusal = error
            return None


class _Headers:
    """Header lines as the library reads and writes them, repeated names kept."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self.lines = list(lines)

    def items(self) -> list[tuple[str, str]]:
        return self.lines

    def __iter__(self) -> Any:
        return iter(dict.fromkeys(name for name, _ in self.lines))

    def __contains__(self, name: str) -> bool:
        return any(known.lower() == name.lower() for known, _ in self.lines)

    def __setitem__(self, name: str, value: str) -> None:
        self.lines.append((name, value))

    def __delitem__(self, name: str) -> None:
        self.lines = [line for line in self.lines if line[0].lower() != name.lower()]


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: _Headers


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose signature holds.

    Attributes:
        key_id: of the key that signed it.
        nonce: to be remembered until `created` has left the window.
        created: POSIX seconds.
    """

    key_id: str
    nonce: str
    created: int


def sign_request(method: str, url: str, content: bytes, signer: Signer, created: int, nonce: str) -> Mapping[str, str]:
    """Make the headers that sign a request.

    Args:
        url: absolute, exactly as it will be sent.
        content: the body, b"" for none.
        created: POSIX seconds now.
        nonce: 16 to 64 random printable characters, never used before.
    """
    usual = _sign_usual(method, url, content, signer, created, nonce)
    if usual is not None:
        return usual
    request = _Request(method, url, _Headers([]))
    HTTPMessageSigner(signature_algorithm=_StrictEd25519, key_resolver=_OneSigner(signer)).sign(
        request,
        key_id=signer.public_key.key_id,
        created=datetime.fromtimestamp(created, UTC),
        nonce=nonce,
        label=TAG,
        tag=TAG,
        covered_component_ids=_TARGET,
        body=content or None,
    )
    return dict(request.headers.lines)


class _Verifier(HTTPMessageVerifier):
    def validate_created_and_expires(self, sig_input: Any, max_age: Any = None) -> None:
        """Leave times to `verify_request`, whose clock is an argument."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The head of a request whose signature holds. Of its content only the digest may be known so far.

    Attributes:
        signed: who signed it, and when.
    """

    signed: SignedRequest
    _covers_content: bool
    _has_digest: Callable[[bytes], bool]

    def check_content(self, content: bytes) -> None:
        """See that this is the content that was signed.

        Raises:
            Malformed: `bad_request_signature`, `wrong_digest`.
        """
        if content and not self._covers_content:
            raise Malformed("bad_request_signature", "the signature of a request with content covers content-digest")
        if not self._has_digest(content):
            raise Malformed("wrong_digest", "the content is not what Content-Digest says")


def verify_request(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    content: bytes,
    find_key: Callable[[str], PublicKey],
    now: float,
) -> SignedRequest:
    """Check a request's signature, digest and age.

    Args:
        find_key: key id to public key; raises `Refused` for a key that may not act.
        now: POSIX seconds.

    Raises:
        Malformed: `unsigned_request`, `bad_request_signature`, `wrong_digest`.
        Refused: `stale_request`, and what `find_key` raises.
    """
    head = verify_head(method, url, headers, find_key, now)
    head.check_content(content)
    return head.signed


def verify_head(
    method: str, url: str, headers: Iterable[tuple[str, str]], find_key: Callable[[str], PublicKey], now: float
) -> SignedHead:
    """Check a request's signature and age before its content is here; then `SignedHead.check_content`.

    Arguments and errors are those of `verify_request`.
    """
    lines = _Headers(headers)
    usual = _verify_usual(method, url, lines, find_key, now)
    return usual if usual is not None else _verify_any(method, url, lines, find_key, now)


def _verify_any(method: str, url: str, lines: _Headers, find_key: Callable[[str], PublicKey], now: float) -> SignedHead:
    """By the library: whatever RFC 9421 allows and this profile does not forbid."""
    if "signature-input" not in lines or "signature" not in lines:
        raise Malformed("unsigned_request", "the request is not signed (RFC 9421); see the protocol specification")
    request = _Request(method, url, lines)
    directory = _Directory(find_key)
    verifier = _Verifier(signature_algorithm=_StrictEd25519, key_resolver=directory)
    try:
        results = verifier.verify(request, max_age=None, expect_tag=TAG, require_components=_TARGET)
    except HTTPMessageSignaturesException as error:
        if directory.refusal is not None:
            raise directory.refusal from None
        raise Malformed("bad_request_signature", f"the request's signature is not acceptable: {error}") from error
    if len(results) != 1:
        raise Malformed("bad_request_signature", f"a request carries exactly one signature with the tag {TAG}")
    result = results[0]

    def has_digest(content: bytes) -> bool:
        try:
            verifier.verify_body(request, [result], content)
        except HTTPMessageSignaturesException:
            return False
        return True

    signed = _check_parameters(result.parameters, now)
    return SignedHead(signed, '"content-digest"' in result.covered_components, has_digest)


def _verify_usual(
    method: str, url: str, lines: _Headers, find_key: Callable[[str], PublicKey], now: float
) -> SignedHead | None:
    """Accept a request of the usual form whose signature holds; None for every other, which may still be acceptable.

    Raises:
        Refused: as `verify_head`.
    """
    found: dict[str, str] = {}
    for name, value in lines.lines:
        name = name.lower()
        if name in ("signature-input", "signature", "content-digest"):
            if name in found:
                return None
            found[name] = value
    input_ = _USUAL_INPUT.fullmatch(found.get("signature-input", ""))
    signature = _USUAL_SIGNATURE.fullmatch(found.get("signature", ""))
    if input_ is None or signature is None or (input_["digest"] is None) != ("content-digest" not in found):
        return None
    digest = _USUAL_DIGEST.fullmatch(found["content-digest"]) if input_["digest"] else None
    if input_["digest"] and digest is None:
        return None
    base = _usual_base(method, url, found.get("content-digest"), input_["parameters"])
    if base is None or not find_key(input_["key_id"]).verifies(base, b64decode(signature[1])):
        return None
    expected = b64decode(digest[1]) if digest is not None else None

    def has_digest(content: bytes) -> bool:
        return expected is None or hmac.compare_digest(expected, hashlib.sha256(content).digest())

    given = {"created": int(input_["created"]), "nonce": input_["nonce"], "keyid": input_["key_id"]}
    return SignedHead(_check_parameters(given, now), expected is not None, has_digest)


def _sign_usual(
    method: str, url: str, content: bytes, signer: Signer, created: int, nonce: str
) -> Mapping[str, str] | None:
    """The headers of `sign_request`, None if this is not of the usual form."""
    if not _USUAL_NONCE.fullmatch(nonce) or not 0 <= created <= _LAST_SECOND:
        return None
    digest = f"sha-256=:{b64encode(hashlib.sha256(content).digest()).decode()}:" if content else None
    covered = " ".join(f'"{name}"' for name in (*_TARGET, *(["content-digest"] if digest else [])))
    key_id = signer.public_key.key_id
    parameters = f'({covered});created={created};keyid="{key_id}";alg="ed25519";nonce="{nonce}";tag="{TAG}"'
    base = _usual_base(method, url, digest, parameters)
    if base is None:
        return None
    signed = {
        "Signature-Input": f"{TAG}={parameters}",
        "Signature": f"{TAG}=:{b64encode(signer.sign(base)).decode()}:",
    }
    return {"Content-Digest": digest, **signed} if digest else signed


def _usual_base(method: str, url: str, digest: str | None, parameters: str) -> bytes | None:
    """The signature base (RFC 9421, section 2.5) of a request of the usual form, None if it is not."""
    target = _USUAL_URL.fullmatch(url)
    if target is None or not _USUAL_METHOD.fullmatch(method):
        return None
    port = target["port"]
    authority = target["host"].lower()
    if port is not None and port != _DEFAULT_PORTS[target["scheme"]]:
        authority += f":{port}"
    lines = [
        f'"@method": {method}',
        f'"@authority": {authority}',
        f'"@path": {target["path"]}',
        f'"@query": ?{target["query"] or ""}',
        *([f'"content-digest": {digest}'] if digest is not None else []),
        f'"@signature-params": {parameters}',
    ]
    return "\n".join(lines).encode()


def _check_parameters(parameters: Mapping[str, int | str], now: float) -> SignedRequest:
    if "expires" in parameters:
        # The window below is the only age there is; a second one would be read differently somewhere.
        raise Malformed("bad_request_signature", "the signature has `expires`, which this profile does not use")
    created, nonce = parameters.get("created"), parameters.get("nonce")
    if not isinstance(created, int) or not isinstance(nonce, str) or not MIN_NONCE <= len(nonce) <= MAX_NONCE:
        raise Malformed(
            "bad_request_signature",
            f"the signature needs `created` and a `nonce` of {MIN_NONCE} to {MAX_NONCE} characters",
        )
    if abs(now - created) > WINDOW_SECONDS:
        raise Refused(
            "stale_request",
            f"the request was signed {now - created:+.0f} s from the hub's clock; {WINDOW_SECONDS} s are allowed: "
            "check this machine's clock",
        )
    return SignedRequest(str(parameters["keyid"]), nonce, created)

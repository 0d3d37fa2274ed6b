"""Signed HTTP requests: RFC 9421 message signatures with Ed25519, and RFC 9530 content digests.

A request is signed over its method, authority, path and query, and the digest of its content if it has any,
with `created`, a random `nonce`, the key's id, and a tag. The hub refuses one that is older or newer than a small
window, and one whose nonce it has seen from that key; so a captured request is worth nothing.

`http-message-signatures` builds and parses; the signature itself is checked by `keys`, and times by the caller's clock.
"""

from __future__ import annotations

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
    VerifyResult,
)
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from typing_extensions import override

from sharing_protocol.errors import Malformed, ProtocolError, Refused
from sharing_protocol.keys import PublicKey, Signer

TAG = "stillwatch"
WINDOW_SECONDS = 60
"""How far `created` may be from the hub's clock, either way."""
MIN_NONCE, MAX_NONCE = 16, 64

_TARGET = ("@method", "@authority", "@path", "@query")


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


class SignedHead:
    """The head of a request whose signature holds. Of its content only the digest may be known so far.

    Attributes:
        signed: who signed it, and when.
    """

    def __init__(self, signed: SignedRequest, verifier: _Verifier, request: _Request, result: VerifyResult) -> None:
        self.signed = signed
        self._verifier = verifier
        self._request = request
        self._result = result

    def check_content(self, content: bytes) -> None:
        """See that this is the content that was signed.

        Raises:
            Malformed: `bad_request_signature`, `wrong_digest`.
        """
        if content and '"content-digest"' not in self._result.covered_components:
            raise Malformed("bad_request_signature", "the signature of a request with content covers content-digest")
        try:
            self._verifier.verify_body(self._request, [self._result], content)
        except HTTPMessageSignaturesException as error:
            raise Malformed("wrong_digest", "the content is not what Content-Digest says") from error


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
    return SignedHead(_check_parameters(results[0].parameters, now), verifier, request, results[0])


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

"""DSSE v1 envelopes in the one strict form that the log holds.

DSSE leaves room (two base64 alphabets, unknown fields, any JSON spacing), and one key can make many valid
signatures of one message. The log allows one form only: members in the order `payload`, `payloadType`,
`signatures`; no white space; standard padded base64; signatures sorted by key id, one per key. Whoever
reads re-formats and compares, so nothing else gets through.

The signature covers DSSE's pre-authentication encoding of the exact payload bytes; nothing is ever
re-canonicalised. Source: secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from sharing_protocol import strict_json
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import SIGNATURE_BYTES, Signer, decode_base64, encode_base64

STATEMENT_TYPE = "application/vnd.stillwatch.statement+json"
MAX_ENVELOPE_BYTES = 65_535
"""A bundle frames an entry with a 16-bit length (C2SP tlog-tiles)."""
MAX_SIGNATURES = 64

_KEY_ID = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(rb'{"keyid":"([0-9a-f]{64})","sig":"([A-Za-z0-9+/]{86}==)"}')
_PAYLOAD = b'{"payload":"'
_AFTER_PAYLOAD = re.compile(
    rb'","payloadType":"([ !#-[\]-~]*)","signatures":\[(%b(?:,%b){0,%d})\]}'
    % (_SIGNATURE.pattern.replace(b"(", b"(?:"), _SIGNATURE.pattern.replace(b"(", b"(?:"), MAX_SIGNATURES - 1)
)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope: the key's id (hex SHA-256 of the public key) and 64 bytes."""

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A signed payload. `payload` is exact bytes; `signatures` are sorted by key id, no key twice."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @cached_property
    def signed_message(self) -> bytes:
        """The bytes that every signature covers."""
        return pre_authentication_encoding(self.payload_type, self.payload)

    @cached_property
    def payload_sha256(self) -> str:
        """Lower-case hex SHA-256 of the payload: what idempotence goes by."""
        return hashlib.sha256(self.payload).hexdigest()

    def encode(self) -> bytes:
        """Write the one strict form.

        Raises:
            Malformed: `envelope_too_large` beyond 65,535 bytes.
        """
        data = strict_json.dumps(
            {
                "payload": encode_base64(self.payload),
                "payloadType": self.payload_type,
                "signatures": [{"keyid": s.key_id, "sig": encode_base64(s.value)} for s in self.signatures],
            }
        )
        if len(data) > MAX_ENVELOPE_BYTES:
            raise _too_large(len(data))
        return data

    def with_signatures(self, more: Iterable[Signature]) -> Envelope:
        """The same payload with these signatures added; a key that signed already keeps its first."""
        by_key = {signature.key_id: signature for signature in more}
        by_key.update((signature.key_id, signature) for signature in self.signatures)
        return Envelope(self.payload, self.payload_type, tuple(by_key[key] for key in sorted(by_key)))


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: `DSSEv1 SP len(type) SP type SP len(body) SP body`, lengths in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, signers: Iterable[Signer], payload_type: str = STATEMENT_TYPE) -> Envelope:
    """Sign `payload` with every signer."""
    message = pre_authentication_encoding(payload_type, payload)
    made = (Signature(signer.public_key.key_id, signer.sign(message)) for signer in signers)
    return Envelope(payload, payload_type, ()).with_signatures(made)


def parse(data: bytes, payload_type: str = STATEMENT_TYPE) -> Envelope:
    """Read an envelope in the strict form, refusing every other.

    Raises:
        Malformed: `envelope_too_large`, `malformed_json`, `malformed_envelope`, `duplicate_signature`,
            `unsupported_payload_type`, `bad_base64`.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise _too_large(len(data))
    return _parse_strict_form(data, payload_type) or _parse_any_form(data, payload_type)


def _parse_strict_form(data: bytes, payload_type: str) -> Envelope | None:
    """Read an envelope whose every byte the strict form accounts for; None when it takes a closer look to say why not.

    Most of a sync's envelopes pass here, without a JSON parser in between.
    """
    end = data.find(b'"', len(_PAYLOAD))
    rest = _AFTER_PAYLOAD.fullmatch(data, end) if data.startswith(_PAYLOAD) and end > 0 else None
    if rest is None or rest[1] != payload_type.encode():
        return None
    try:
        payload = decode_base64(data[len(_PAYLOAD) : end].decode("ascii"), "payload")
        signatures = tuple(
            Signature(key_id.decode(), decode_base64(value.decode(), "sig"))
            for key_id, value in _SIGNATURE.findall(rest[2])
        )
    except (Malformed, UnicodeDecodeError):
        return None
    if len(signatures) > 1 and any(one.key_id >= following.key_id for one, following in pairwise(signatures)):
        return None
    return Envelope(payload, payload_type, signatures)


def _parse_any_form(data: bytes, payload_type: str) -> Envelope:
    """Read an envelope by way of JSON: slower, and able to say what is wrong with it."""
    document = strict_json.loads(data, "the envelope")
    if not isinstance(document, dict) or set(document) != {"payload", "payloadType", "signatures"}:
        raise Malformed(
            "malformed_envelope",
            "an envelope is a JSON object with exactly the members payload, payloadType and signatures",
        )
    payload, kind, signatures = document["payload"], document["payloadType"], document["signatures"]
    if not isinstance(payload, str) or not isinstance(signatures, list):
        raise Malformed("malformed_envelope", "payload must be a string and signatures an array")
    if kind != payload_type:
        raise Malformed("unsupported_payload_type", f"payloadType must be {payload_type!r}")
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise Malformed("malformed_envelope", f"an envelope carries 1 to {MAX_SIGNATURES} signatures")
    parsed = [_parse_signature(signature) for signature in signatures]
    key_ids = [signature.key_id for signature in parsed]
    if len(set(key_ids)) != len(key_ids):
        raise Malformed("duplicate_signature", "the envelope carries two signatures of one key; keep one of each")
    envelope = Envelope(decode_base64(payload, "payload"), payload_type, tuple(parsed))
    if key_ids != sorted(key_ids) or envelope.encode() != data:
        raise Malformed(
            "malformed_envelope",
            "the envelope is not in the strict form: member order, no white space, signatures sorted by keyid",
        )
    return envelope


def _parse_signature(value: strict_json.Json) -> Signature:
    if not isinstance(value, dict) or set(value) != {"keyid", "sig"}:
        raise Malformed("malformed_envelope", "a signature is an object with exactly keyid and sig")
    key_id, signature = value["keyid"], value["sig"]
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise Malformed("malformed_envelope", "keyid is the lower-case hex SHA-256 of the public key")
    raw = decode_base64(signature, "sig") if isinstance(signature, str) else b""
    if len(raw) != SIGNATURE_BYTES:
        raise Malformed("malformed_envelope", "sig is an Ed25519 signature: 64 bytes in base64")
    return Signature(key_id, raw)


def _too_large(size: int) -> Malformed:
    return Malformed(
        "envelope_too_large", f"the envelope has {size:,} bytes; the log takes at most {MAX_ENVELOPE_BYTES:,}"
    )

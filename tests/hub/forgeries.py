"""Envelopes that an adversary makes."""

from __future__ import annotations

import hashlib
import json
import secrets

from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from sharing_protocol import envelope
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature, pre_authentication_encoding
from tests.forum import Document, key

_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def payload_of(document: Document) -> bytes:
    """The document as compact JSON."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def signed_bytes(payload: bytes, *signers: str) -> Envelope:
    """Any bytes in an envelope, signed by the keys of these names."""
    return envelope.sign(payload, [key(name) for name in signers])


def forged(document: Document, claimed: str, actual: str) -> Envelope:
    """An envelope that names one key and is signed by another."""
    payload = payload_of(document)
    value = key(actual).sign(pre_authentication_encoding(STATEMENT_TYPE, payload))
    return Envelope(payload, STATEMENT_TYPE, (Signature(key(claimed).public_key.key_id, value),))


def altered(made: Envelope, old: str, new: str) -> Envelope:
    """The same signatures over a payload in which something was replaced."""
    assert old.encode() in made.payload
    return Envelope(made.payload.replace(old.encode(), new.encode()), made.payload_type, made.signatures)


def signed_again(made: Envelope, signer: str) -> Envelope:
    """The same payload with a second valid signature by the same key: RFC 8032 with a random r."""
    private = hashlib.sha512(key(signer).private_key.private_bytes_raw()).digest()
    scalar = int.from_bytes(private[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    r = secrets.randbelow(_GROUP_ORDER - 1) + 1
    point = crypto_scalarmult_ed25519_base_noclamp(r.to_bytes(32, "little"))
    public_key = key(signer).public_key
    k = int.from_bytes(hashlib.sha512(point + public_key.raw + made.signed_message).digest(), "little")
    value = point + ((r + k * scalar) % _GROUP_ORDER).to_bytes(32, "little")
    assert public_key.verifies(made.signed_message, value)
    return Envelope(made.payload, made.payload_type, (Signature(public_key.key_id, value),))

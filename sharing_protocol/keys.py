"""Ed25519 keys: one verifier for hub and members, the strict one.

Libraries disagree on Ed25519's edge cases, and where two parties disagree on one signature an attacker
can show each of them a different history. So every check in this project goes through libsodium
(PyNaCl), which refuses non-canonical S, non-canonical or low-order A, and low-order R; and a key is
checked once more, for membership of the prime-order group, when it is registered.

Sources: RFC 8032; "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020); C2SP CCTV vectors.
"""

from __future__ import annotations

import binascii
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from sharing_protocol.errors import InvalidKey, Malformed

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


def decode_base64(text: str, what: str) -> bytes:
    """Decode standard, padded base64, accepting only what an encoder would write.

    Raises:
        Malformed: other alphabets, missing padding, stray bits or characters.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("bad_base64", f"{what} is not standard base64 with padding") from error
    # What is left open then is how much follows, and the bits of the last character that stand for nothing.
    last = len(data) % 3
    if len(text) != (len(data) + 2) // 3 * 4 or (last and encode_base64(data[-last:]) != text[-4:]):
        raise Malformed("bad_base64", f"{what} is base64, but not in its one canonical form")
    return data


def encode_base64(data: bytes) -> str:
    """Encode as standard, padded base64 (RFC 4648, section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key that is fit to be registered.

    Attributes:
        raw: the 32 bytes of RFC 8032, section 5.1.5.
        key_id: lower-case hex SHA-256 of `raw`; always derived, so one key can never have two ids.
    """

    raw: bytes
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise InvalidKey("invalid_key", f"an Ed25519 public key has 32 bytes, this one {len(self.raw)}")
        if not crypto_core_ed25519_is_valid_point(self.raw):
            raise InvalidKey(
                "invalid_key",
                "this Ed25519 public key is not a canonical point of the prime-order group; make a new key",
            )
        object.__setattr__(self, "key_id", hashlib.sha256(self.raw).hexdigest())

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the 44-character base64 form.

        Raises:
            Malformed: not canonical base64.
            InvalidKey: not a usable key.
        """
        return _parse_public_key(text)

    def __str__(self) -> str:
        return encode_base64(self.raw)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Say whether `signature` (64 bytes) is this key's signature of `message`."""
        return verify_strictly(self.raw, message, signature)


@lru_cache(maxsize=4096)
def _parse_public_key(text: str) -> PublicKey:
    return PublicKey(decode_base64(text, "the public key"))


def verify_strictly(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Verify one Ed25519 signature by libsodium's rules; never raises for bad input."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


class Signer(Protocol):
    """Whatever can sign: a key in memory, in a file, or behind a device."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message`."""
        ...


class PrivateKey:
    """An Ed25519 private key held in memory."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public_key = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> PrivateKey:
        """Make the key of a 32-byte seed (RFC 8032, section 5.1.5)."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._public_key

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The private half, for whoever writes it to a key file."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message`."""
        return self._key.sign(message)

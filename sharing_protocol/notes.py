"""C2SP signed notes: text that any number of keys signed.

A note is text, an empty line, and signature lines `— <name> base64(key id || signature)`. The parser splits
at the last empty line and accepts only what the formatter writes. Signature lines by unknown keys are ignored; a
known key with a bad signature refuses the whole note. Sources: C2SP signed-note, tlog-cosignature.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from sharing_protocol.errors import InvalidKey, Malformed
from sharing_protocol.keys import SIGNATURE_BYTES, PublicKey, Signer, decode_base64, encode_base64

MAX_NOTE_BYTES = 64 * 1024
MAX_NOTE_SIGNATURES = 100
_TIMESTAMP_BYTES = 8
_MAX_TIMESTAMP = 2**63 - 1
_DASH = "\u2014 "


class SignatureType(IntEnum):
    """Signature types of C2SP signed-note that we know."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A note verifier: a name, a signature type and an Ed25519 key (C2SP signed-note's vkey)."""

    name: str
    kind: SignatureType
    key: PublicKey

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise Malformed("bad_vkey", "a key name is not empty and has neither spaces nor '+'")

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read `<name>+<hex key id>+<base64(type || key)>`.

        Raises:
            Malformed: `bad_vkey`.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise Malformed("bad_vkey", "a verifier key reads <name>+<key id>+<base64 of type and key>")
        try:
            raw = decode_base64(parts[2], "its last part")
            key = cls(parts[0], SignatureType(raw[0] if raw else 0), PublicKey(raw[1:]))
            written = str(key)
        except (ValueError, Malformed, InvalidKey) as error:
            raise Malformed("bad_vkey", f"the verifier key is unusable: {error}") from error
        if written != text:
            raise Malformed("bad_vkey", "the verifier key's id does not match its name and key")
        return key

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256(name || 0x0A || type || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.raw).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.kind]) + self.key.raw)}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the signer's name, 4 bytes of key id, and what follows them."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.value)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note: its text, which ends in a newline, and its signature lines in order."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(signature.line for signature in self.signatures)

    def signed_by(self, more: Iterable[NoteSignature]) -> Note:
        """The same note with these lines added, each once."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that holds. `timestamp` is POSIX seconds for a cosignature, None otherwise."""

    key: VerifierKey
    timestamp: int | None


def parse(data: bytes) -> Note:
    """Read a note.

    Raises:
        Malformed: `malformed_note`.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise _malformed(f"a note has at most {MAX_NOTE_BYTES} bytes")
    try:
        full = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("not UTF-8") from error
    if any(ord(character) < 0x20 and character != "\n" for character in full):
        raise _malformed("it has control characters")
    head, separator, tail = full.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise _malformed("it needs text, an empty line, and signature lines that end in a newline")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_NOTE_SIGNATURES:
        raise _malformed(f"more than {MAX_NOTE_SIGNATURES} signatures")
    note = Note(head + "\n", tuple(_parse_signature(line) for line in lines))
    if str(note) != full:
        raise _malformed("it is not in the form that a formatter writes")
    return note


def verify(note: Note, known: Sequence[VerifierKey]) -> list[VerifiedSignature]:
    """Check every signature line by a known key; ignore the others.

    Key ids are short: who may register keys can make two with one id. A line holds if it does for one of them.

    Returns:
        What holds, one for each key, the newest if a key cosigned more than once. It may be empty: the caller
        decides whom it needs.

    Raises:
        Malformed: `bad_note_signature`: a known key's line that does not hold.
    """
    by_id: dict[tuple[str, bytes], list[VerifierKey]] = {}
    for key in known:
        by_id.setdefault((key.name, key.key_id), []).append(key)
    verified: dict[VerifierKey, VerifiedSignature] = {}
    for line in note.signatures:
        named = by_id.get((line.name, line.key_id))
        if named is None:
            continue
        held = next((found for key in named if (found := _verified(key, note.text, line)) is not None), None)
        if held is None:
            raise Malformed("bad_note_signature", f"the signature line of {line.name} does not hold")
        known_before = verified.get(held.key)
        if known_before is None or (held.timestamp or 0) > (known_before.timestamp or 0):
            verified[held.key] = held
    return list(verified.values())


def sign(text: str, name: str, signer: Signer) -> NoteSignature:
    """Sign note text as `name` with plain Ed25519 (type 0x01)."""
    key = VerifierKey(name, SignatureType.ED25519, signer.public_key)
    return NoteSignature(name, key.key_id, signer.sign(text.encode()))


def cosign(text: str, name: str, signer: Signer, timestamp: int) -> NoteSignature:
    """Cosign checkpoint text as `name` at `timestamp` (POSIX seconds), type 0x04."""
    key = VerifierKey(name, SignatureType.COSIGNATURE_V1, signer.public_key)
    signature = signer.sign(_cosigned_message(text, timestamp))
    return NoteSignature(name, key.key_id, timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + signature)


def _verified(key: VerifierKey, text: str, line: NoteSignature) -> VerifiedSignature | None:
    timestamp, message, signature = _signed_message(key.kind, text, line.value)
    return VerifiedSignature(key, timestamp) if key.key.verifies(message, signature) else None


def _cosigned_message(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _signed_message(kind: SignatureType, text: str, value: bytes) -> tuple[int | None, bytes, bytes]:
    if kind is SignatureType.ED25519:
        return None, text.encode(), value
    if len(value) != _TIMESTAMP_BYTES + SIGNATURE_BYTES:
        return None, b"", b""
    timestamp = int.from_bytes(value[:_TIMESTAMP_BYTES], "big")
    if timestamp > _MAX_TIMESTAMP:
        return None, b"", b""
    return timestamp, _cosigned_message(text, timestamp), value[_TIMESTAMP_BYTES:]


def _parse_signature(line: str) -> NoteSignature:
    # A line without the dash is found when the note is written again and compared.
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not space or not _is_key_name(name):
        raise _malformed("a line after the last empty line is not a signature line")
    try:
        raw = decode_base64(encoded, "a signature line")
    except Malformed as error:
        raise _malformed(error.detail) from error
    if len(raw) < 5:
        raise _malformed("a signature line is too short for a key id and a signature")
    return NoteSignature(name, raw[:4], raw[4:])


def _is_key_name(name: str) -> bool:
    return bool(name) and not any(
        character == "+" or character.isspace() or unicodedata.category(character) == "Cc" for character in name
    )


def _malformed(reason: str) -> Malformed:
    return Malformed("malformed_note", f"not a signed note: {reason}")

"""Which log this hub keeps: its origin and its two keys, in files of the home.

The log key signs checkpoints and nothing else. The timestamp key says when a checkpoint was the newest; it is
another key, since a cosignature does not name its maker (C2SP tlog-cosignature). Whoever holds both can fork the
log, so they are 0600 in a 0700 folder, and are kept once more offline: no backup of the database holds them.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from hub.errors import HubError
from hub.private_files import write_privately
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.keys import PrivateKey
from sharing_protocol.statements.membership import LogIdentity

_ORIGIN_FILE, _LOG_KEY_FILE, _TIMESTAMP_KEY_FILE = "origin", "log-key.pem", "timestamp-key.pem"


class IdentityError(HubError):
    """The home's identity files are missing, unreadable, or of another log."""

    def __init__(self, detail: str) -> None:
        super().__init__("identity", detail)


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """The log's origin and keys."""

    origin: str
    log_key: PrivateKey
    timestamp_key: PrivateKey

    @property
    def public(self) -> LogIdentity:
        """What the founding statement says of this log."""
        return LogIdentity(
            origin=self.origin, log_key=str(self.log_verifier), timestamp_key=str(self.timestamp_verifier)
        )

    @property
    def log_verifier(self) -> notes.VerifierKey:
        """The log key's vkey, named after the origin."""
        return notes.VerifierKey(self.origin, notes.SignatureType.ED25519, self.log_key.public_key)

    @property
    def timestamp_verifier(self) -> notes.VerifierKey:
        """The timestamp key's vkey."""
        return notes.VerifierKey(self.origin, notes.SignatureType.COSIGNATURE_V1, self.timestamp_key.public_key)

    def sign(self, checkpoint: Checkpoint) -> notes.Note:
        """Sign a checkpoint as the log."""
        return checkpoints.sign(checkpoint, self.log_key)

    def vouch(self, note: notes.Note, timestamp: int) -> notes.Note:
        """Add that the checkpoint was the newest at `timestamp` (POSIX seconds)."""
        return checkpoints.cosign(note, self.origin, self.timestamp_key, timestamp)

    @classmethod
    def load(cls, home: Path) -> Self:
        """Read the identity of a hub that was started before.

        Raises:
            IdentityError: there is none, or its files are damaged.
        """
        try:
            origin = (home / _ORIGIN_FILE).read_text(encoding="utf-8").rstrip("\n")
            identity = cls(origin, _read_key(home / _LOG_KEY_FILE), _read_key(home / _TIMESTAMP_KEY_FILE))
        except FileNotFoundError as error:
            raise IdentityError(f"{error.filename} is missing: start the hub once, or restore the backup") from error
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(f"the hub's identity in {home} cannot be read: {error}") from error
        if identity.log_key.public_key == identity.timestamp_key.public_key:
            raise IdentityError(f"the log key and the timestamp key in {home} are the same; they must differ")
        return identity

    @classmethod
    def load_or_make(cls, home: Path, origin: str | None = None) -> Self:
        """Read the identity, or make it at the first start.

        Args:
            origin: the log's name, for ever; by default one is derived from the log key.

        Raises:
            IdentityError: another origin than before, an impossible one, or what `load` raises.
        """
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not (home / _ORIGIN_FILE).exists():
                with _locked(home):  # processes that start together make one identity
                    if not (home / _ORIGIN_FILE).exists():
                        _make(home, origin)
        except OSError as error:
            raise IdentityError(f"cannot make the hub's home: {error}") from error
        identity = cls.load(home)
        if origin is not None and origin != identity.origin:
            raise IdentityError(
                f"this hub's log is {identity.origin!r} for ever; for one named {origin!r} choose another home"
            )
        return identity


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make(home: Path, origin: str | None) -> None:
    """Write keys and, last, the origin: if we stop in between, the next start makes new keys that nobody has seen."""
    if (home / _LOG_KEY_FILE).exists() and (home / "postgres").exists():
        raise IdentityError(f"{home / _ORIGIN_FILE} is missing although this hub has data: restore it from the backup")
    log_key, timestamp_key = PrivateKey(Ed25519PrivateKey.generate()), PrivateKey(Ed25519PrivateKey.generate())
    origin = origin or f"stillwatch/{log_key.public_key.key_id[:12]}"
    try:
        HubIdentity(origin, log_key, timestamp_key).public  # noqa: B018 - validates the origin
    except ValidationError as error:
        raise IdentityError(
            f"{origin!r} cannot be an origin: lower-case letters, digits and ./:_- only, at most 200"
        ) from error
    try:
        write_privately(home / _LOG_KEY_FILE, _pem(log_key))
        write_privately(home / _TIMESTAMP_KEY_FILE, _pem(timestamp_key))
        write_privately(home / _ORIGIN_FILE, f"{origin}\n".encode())
    except OSError as error:
        raise IdentityError(f"cannot write the hub's keys: {error}") from error


def _pem(key: PrivateKey) -> bytes:
    return key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_key(path: Path) -> PrivateKey:
    if path.stat().st_mode & 0o077:
        raise IdentityError(f"{path} is open to other users: chmod 600 it, and think about who may have read it")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path} is not a PKCS#8 PEM key without passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path} is not an Ed25519 key")
    return PrivateKey(key)

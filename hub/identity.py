"""Which log this hub keeps: its origin and its pairs of keys, in files of the home.

The log key signs checkpoints and nothing else. The timestamp key says when a checkpoint was the newest; it is
another key, since a cosignature does not name its maker (C2SP tlog-cosignature). Whoever holds both can fork the
log, so they are 0600 in a 0700 folder, and are kept once more offline: no backup of the database holds them.

The first pair lies in the home itself. Pairs for later (`log_keys`) lie in folders of `keys`, named after their log
key.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

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
from hub.private_files import flush_folder, write_privately
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.keys import PrivateKey
from sharing_protocol.log_keys import LogCard, log_card
from sharing_protocol.statements.membership import LogIdentity

_ORIGIN_FILE, _LOG_KEY_FILE, _TIMESTAMP_KEY_FILE = "origin", "log-key.pem", "timestamp-key.pem"
_FURTHER, _NAME_DIGITS = "keys", 16


class IdentityError(HubError):
    """The home's identity files are missing, unreadable, or of another log."""

    def __init__(self, detail: str) -> None:
        super().__init__("identity", detail)


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """The log's origin and one pair of its keys.

    Attributes:
        is_further: whether the pair was made to follow another.
    """

    origin: str
    log_key: PrivateKey
    timestamp_key: PrivateKey
    is_further: bool = False

    @property
    def public(self) -> LogIdentity:
        """What the founding statement, or the one that exchanges the keys, says of this log."""
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

    @property
    def card(self) -> LogCard:
        """What the admins need in order to make this pair the log's."""
        return log_card(self.public, self.log_key, self.timestamp_key)

    def sign(self, checkpoint: Checkpoint) -> notes.Note:
        """Sign a checkpoint as the log."""
        return checkpoints.sign(checkpoint, self.log_key)

    def vouch(self, note: notes.Note, timestamp: int) -> notes.Note:
        """Add that the checkpoint was the newest at `timestamp` (POSIX seconds)."""
        return checkpoints.cosign(note, self.origin, self.timestamp_key, timestamp)

    @classmethod
    def load(cls, home: Path) -> Self:
        """Read the identity of a hub that was started before; if its first pair is gone, with the newest further one.

        Raises:
            IdentityError: there is none, or its files are damaged.
        """
        try:
            origin = (home / _ORIGIN_FILE).read_text(encoding="utf-8").rstrip("\n")
            if not (home / _LOG_KEY_FILE).exists() and (further := further_pairs(home, origin)):
                return cls(origin, further[-1].log_key, further[-1].timestamp_key, is_further=True)
            return _read_pair(cls, home, origin)
        except FileNotFoundError as error:
            raise IdentityError(f"{error.filename} is missing: start the hub once, or restore the backup") from error
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(f"the hub's identity in {home} cannot be read: {error}") from error

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


Pair = TypeVar("Pair", bound=HubIdentity)


def further_pairs(home: Path, origin: str, known: Collection[str] = ()) -> list[HubIdentity]:
    """The pairs that were made to follow the first one, the newest last.

    Args:
        known: ids of log keys whose pairs need not be read.

    Raises:
        IdentityError: one is damaged.
    """
    passed_over = {key_id[:_NAME_DIGITS] for key_id in known}
    folders = [path for path in (home / _FURTHER).glob("[0-9a-f]*") if path.is_dir() and path.name not in passed_over]
    folders.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    try:
        return [_read_pair(HubIdentity, folder, origin, is_further=True) for folder in folders]
    except OSError as error:
        raise IdentityError(f"the keys in {home / _FURTHER} cannot be read: {error}") from error


def folder_of(pair: HubIdentity) -> str:
    """Where a pair lies in a home, as a relative path: the first pair in the home itself."""
    return f"{_FURTHER}/{_name_of(pair)}" if pair.is_further else "."


def _name_of(pair: HubIdentity) -> str:
    return pair.log_key.public_key.key_id[:_NAME_DIGITS]


def make_further(home: Path, origin: str | None = None) -> HubIdentity:
    """Make a pair to follow the log's present one. If the present one is lost, in a new home with the log's origin.

    Raises:
        IdentityError: another origin than the home has, or none; or it cannot be written.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(home):
            known = home / _ORIGIN_FILE
            if not known.exists() and origin is None:
                raise IdentityError(f"{home} is no hub's home; for a log whose keys are lost, say its --origin")
            named = known.read_text(encoding="utf-8").rstrip("\n") if known.exists() else origin
            if named is None or origin not in (None, named):
                raise IdentityError(
                    f"this hub's log is {named!r} for ever; for one named {origin!r} choose another home"
                )
            pair = _new_pair(named, is_further=True)
            _write_pair(home / _FURTHER, pair)
            if not known.exists():
                write_privately(known, f"{named}\n".encode())
            return pair
    except OSError as error:
        raise IdentityError(f"cannot write the hub's keys: {error}") from error


def _write_pair(folder: Path, pair: HubIdentity) -> None:
    """Write a pair into a folder of its own, which has its name only once it is whole."""
    folder.mkdir(mode=0o700, exist_ok=True)
    draft = folder / f".{secrets.token_hex(8)}"
    draft.mkdir(mode=0o700)
    try:
        write_privately(draft / _LOG_KEY_FILE, _pem(pair.log_key))
        write_privately(draft / _TIMESTAMP_KEY_FILE, _pem(pair.timestamp_key))
        draft.rename(folder / _name_of(pair))
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    flush_folder(folder)


def _read_pair(kind: type[Pair], folder: Path, origin: str, *, is_further: bool = False) -> Pair:
    pair = kind(origin, _read_key(folder / _LOG_KEY_FILE), _read_key(folder / _TIMESTAMP_KEY_FILE), is_further)
    if pair.log_key.public_key == pair.timestamp_key.public_key:
        raise IdentityError(f"the log key and the timestamp key in {folder} are the same; they must differ")
    return pair


def _new_pair(origin: str | None, *, is_further: bool = False) -> HubIdentity:
    log_key, timestamp_key = PrivateKey(Ed25519PrivateKey.generate()), PrivateKey(Ed25519PrivateKey.generate())
    pair = HubIdentity(origin or f"stillwatch/{log_key.public_key.key_id[:12]}", log_key, timestamp_key, is_further)
    try:
        pair.public  # noqa: B018 - validates the origin
    except ValidationError as error:
        raise IdentityError(
            f"{origin!r} cannot be an origin: lower-case letters, digits and ./:_- only, at most 200"
        ) from error
    return pair


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
    pair = _new_pair(origin)
    try:
        write_privately(home / _LOG_KEY_FILE, _pem(pair.log_key))
        write_privately(home / _TIMESTAMP_KEY_FILE, _pem(pair.timestamp_key))
        write_privately(home / _ORIGIN_FILE, f"{pair.origin}\n".encode())
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

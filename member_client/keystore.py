"""Private keys: in PKCS#8 PEM files, 0600, encrypted if the user wants a passphrase; or in the system's keyring.

Beside each `<role>-<first 8 of key id>.pem` lies a `.pub` with the base64 public key, so that listing keys needs no
passphrase. Of a key in the keyring there is the `.pub`, and a `.keyring` that says so; the PEM is the password of user
`<key id>` at the service `stillwatch`. A passphrase comes from `STILLWATCH_PASSPHRASE_FILE`, from
`STILLWATCH_PASSPHRASE`, or from the terminal; never from an argument.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from member_client.errors import InvalidInput
from member_client.home import write_privately
from member_client.system_keyring import check_keyring, keep_in_keyring, read_from_keyring
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import PrivateKey, PublicKey

AskPassphrase = Callable[[str], str]
_IN_KEYRING = ".keyring"


class Keeper(StrEnum):
    """Where private keys are kept."""

    FILE = "file"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of this home.

    Attributes:
        role: `owner`, `analyst`, `sync`, `witness` or `admin`.
        path: the PEM file, or where it would be if the key were not in the keyring.
    """

    role: str
    public_key: PublicKey
    path: Path


class KeyStore:
    """The keys of one home."""

    def __init__(self, folder: Path, ask: AskPassphrase | None = None) -> None:
        self._folder = folder
        self._ask = ask or ask_passphrase
        self._opened: dict[Path, PrivateKey] = {}

    def create(self, role: str, passphrase: str | None, keep: Keeper = Keeper.FILE) -> PrivateKey:
        """Make a new key for `role` and keep it; an empty or missing passphrase leaves it unencrypted.

        Raises:
            InvalidInput: there is no keyring, or it is locked.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True, parents=True)
        key = PrivateKey(Ed25519PrivateKey.generate())
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase:
            encryption = BestAvailableEncryption(passphrase.encode())
        pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        path = self._folder / f"{role}-{key.public_key.key_id[:8]}.pem"
        if keep is Keeper.KEYRING:
            keep_in_keyring(key.public_key.key_id, pem.decode("ascii"))
            write_privately(path.with_suffix(_IN_KEYRING), b"the private key is in the system's keyring\n")
        else:
            write_privately(path, pem)
        write_privately(path.with_suffix(".pub"), f"{key.public_key}\n".encode())
        return key

    def stored(self, role: str | None = None) -> list[StoredKey]:
        """The keys of this home, oldest first.

        Raises:
            InvalidInput: a `.pub` file is damaged.
        """
        found = []
        for path in sorted(self._folder.glob("*.pub"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            file_role = path.name.rpartition("-")[0]
            try:
                public_key = PublicKey.parse(path.read_text("ascii").strip())
            except (ProtocolError, UnicodeDecodeError) as error:
                raise InvalidInput(f"{path} is damaged: {error}", "restore it from a backup") from error
            if role in (None, file_role):
                found.append(StoredKey(file_role, public_key, path.with_suffix(".pem")))
        return found

    def open(self, stored: StoredKey) -> PrivateKey:
        """Read a private key, asking for its passphrase if it has one.

        Raises:
            InvalidInput: missing, readable by others, damaged, or a wrong passphrase.
        """
        known = self._opened.get(stored.path)
        if known is None:
            known = self._read(stored)
            self._opened[stored.path] = known
        return known

    def _read(self, stored: StoredKey) -> PrivateKey:
        path = stored.path
        if path.with_suffix(_IN_KEYRING).exists():
            return _private_key(read_from_keyring(stored.public_key.key_id).encode(), None, stored, "the keyring's key")
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise InvalidInput(f"{path} can be read by other users", f"run: chmod 600 {path}")
            pem = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"cannot read the key {path}: {error.strerror}", "restore it from a backup") from error
        passphrase = self._ask(f"Passphrase for {path.name}: ").encode() if b"ENCRYPTED" in pem else None
        return _private_key(pem, passphrase, stored, str(path))


def check_keeper(keep: Keeper, *, encrypted: bool) -> None:
    """See that keys can be kept there, before any is made.

    Raises:
        InvalidInput: they cannot.
    """
    if keep is Keeper.KEYRING:
        if encrypted:
            raise InvalidInput("--passphrase goes without --keys keyring", "the keyring has a lock of its own")
        check_keyring()


def _private_key(pem: bytes, passphrase: bytes | None, stored: StoredKey, what: str) -> PrivateKey:
    try:
        loaded = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{what} does not open", "a wrong passphrase, or damage") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise InvalidInput(f"{what} is not an Ed25519 key", "restore it from a backup")
    key = PrivateKey(loaded)
    if key.public_key != stored.public_key:
        raise InvalidInput(f"{what} and its .pub file do not belong together", "restore both from a backup")
    return key


def ask_passphrase(prompt: str) -> str:
    """Get a passphrase from the environment's file or value, or from the terminal.

    Raises:
        InvalidInput: none of them has one.
    """
    if file := os.environ.get("STILLWATCH_PASSPHRASE_FILE"):
        try:
            return Path(file).read_text("utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"cannot read STILLWATCH_PASSPHRASE_FILE: {error}") from error
    if (value := os.environ.get("STILLWATCH_PASSPHRASE")) is not None:
        return value
    if not sys.stdin.isatty():
        raise InvalidInput("a passphrase is needed", "set STILLWATCH_PASSPHRASE_FILE, or run this in a terminal")
    return getpass.getpass(prompt)

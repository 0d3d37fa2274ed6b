"""Private keys on disk: PKCS#8 PEM files, 0600, encrypted if the user wants a passphrase.

Beside each `<role>-<first 8 of key id>.pem` lies a `.pub` with the base64 public key, so that listing keys needs no
passphrase. A passphrase comes from `STILLWATCH_PASSPHRASE_FILE`, from `STILLWATCH_PASSPHRASE`, or from the terminal;
never from an argument.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import PrivateKey, PublicKey

AskPassphrase = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key file.

    Attributes:
        role: `owner`, `analyst`, `sync`, `witness` or `admin`.
        path: the PEM file.
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

    def create(self, role: str, passphrase: str | None) -> PrivateKey:
        """Make a new key for `role` and write it; an empty or missing passphrase leaves it unencrypted."""
        self._folder.mkdir(mode=0o700, exist_ok=True, parents=True)
        key = PrivateKey(Ed25519PrivateKey.generate())
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase:
            encryption = BestAvailableEncryption(passphrase.encode())
        pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        path = self._folder / f"{role}-{key.public_key.key_id[:8]}.pem"
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
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise InvalidInput(f"{path} can be read by other users", f"run: chmod 600 {path}")
            pem = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"cannot read the key {path}: {error.strerror}", "restore it from a backup") from error
        passphrase = self._ask(f"Passphrase for {path.name}: ").encode() if b"ENCRYPTED" in pem else None
        try:
            loaded = load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"{path} does not open", "a wrong passphrase, or a damaged file") from error
        if not isinstance(loaded, Ed25519PrivateKey):
            raise InvalidInput(f"{path} is not an Ed25519 key", "restore it from a backup")
        key = PrivateKey(loaded)
        if key.public_key != stored.public_key:
            raise InvalidInput(f"{path} and its .pub file do not belong together", "restore both from a backup")
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

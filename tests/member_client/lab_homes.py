"""Homes of labs of a forum in a box: the same keys, in files as `stillwatch init` would have left them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from member_client.cli.main import run
from member_client.home import Home, Settings, write_privately
from tests.forum import ForumInABox, Lab, key


def make_home(folder: Path, box: ForumInABox, lab: Lab, roles: Sequence[str] = ("owner", "analyst", "sync")) -> Path:
    """A lab's home, pinned to the forum, with its keys of these roles; nothing synced yet."""
    home = Home(folder)
    home.create()
    home.keys.mkdir(mode=0o700)
    assert box.fingerprint is not None
    home.save(Settings(hub=box.hub.url, forum=box.fingerprint, name=lab.name, member=lab.id))
    for role in roles:
        keep_key(folder, role, getattr(lab, role))
    return folder


def make_admin_home(folder: Path, box: ForumInABox, name: str) -> Path:
    """An admin's home, pinned to the forum; nothing synced yet."""
    home = Home(folder)
    home.create()
    home.keys.mkdir(mode=0o700)
    assert box.fingerprint is not None
    home.save(Settings(hub=box.hub.url, forum=box.fingerprint, name=name, member=""))
    keep_key(folder, "admin", name)
    return folder


def keep_key(folder: Path, role: str, name: str) -> None:
    """Put the key of this name into a home."""
    private = key(name)
    path = Home(folder).keys / f"{role}-{private.public_key.key_id[:8]}.pem"
    pem = private.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_privately(path, pem)
    write_privately(path.with_suffix(".pub"), f"{private.public_key}\n".encode())


class Client:
    """The `stillwatch` command with one home."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command that must exit with `code`; gives all that it printed."""
        self._capsys.readouterr()
        got = run([*arguments, "--home", str(self.home)])
        printed = self._capsys.readouterr()
        assert got == code, printed.out + printed.err
        return printed.out + printed.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with --json; gives the one document that it printed on standard output."""
        self._capsys.readouterr()
        got = run([*arguments, "--json", "--home", str(self.home)])
        printed = self._capsys.readouterr()
        assert got == code, printed.out + printed.err
        return json.loads(printed.out)

"""Private keys in the system's keyring: a real backend that keeps a file, and ones that fail in every way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.errors
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from keyrings.alt.file import PlaintextKeyring  # type: ignore[import-untyped]

from member_client.cli.main import run
from member_client.home import Home
from member_client.session import Session
from tests.forum import ForumInABox, key, pattern_body
from tests.member_client.lab_homes import Client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The file of a keyring of our own."""
    before, backend = keyring.get_keyring(), PlaintextKeyring()
    backend.file_path = str(tmp_path / "keyring" / "passwords")
    keyring.set_keyring(backend)
    yield Path(backend.file_path)
    keyring.set_keyring(before)


def use(backend: keyring.backend.KeyringBackend) -> None:
    keyring.set_keyring(backend)


class Locked(PlaintextKeyring):  # type: ignore[misc] # it has no types
    """A keyring whose user is not there to unlock it."""

    priority = 1.0

    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.KeyringLocked("the collection is locked")

    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.KeyringLocked("the collection is locked")


class Forgetful(PlaintextKeyring):  # type: ignore[misc] # it has no types
    """A keyring that takes everything and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


def make(home: Path, *options: str) -> int:
    return run(["init", "--hub", "http://127.0.0.1:1", "--name", "Aurora", "--home", str(home), *options])


def test_keys_lie_in_the_keyring_and_nowhere_else(store: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "home", "--keys", "keyring") == 0
    names = sorted(path.suffix for path in (tmp_path / "home" / "keys").iterdir())
    assert names == [".keyring"] * 4 + [".pub"] * 4
    everything = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"PRIVATE" not in everything
    session = Session(Home(tmp_path / "home"))
    for stored in session.keys.stored():
        assert session.keys.open(stored).public_key == stored.public_key
        assert stored.public_key.key_id in store.read_text()


def test_a_lab_works_with_keys_in_the_keyring(
    box: ForumInABox, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, request = tmp_path / "home", tmp_path / "request.json"
    made = run(["init", "--hub", box.hub.url, "--name", "Aurora", "--forum", box.fingerprint or "", "--keys", "keyring",
                "--home", str(home), "-o", str(request)])  # fmt: skip
    assert made == 0
    card = json.loads(request.read_text())
    box.decree("membership.admit", card["member"], {"name": "Aurora", "keys": card["keys"], "reason": "It asked"})
    lab = Client(home, capsys)
    lab.run("sync")
    another = tmp_path / "another.json"
    lab.run("key", "new", "sync", "--keys", "keyring", "-o", str(another))
    lab.run("key", "add", str(another))
    assert [one["state"] for one in lab.json("key", "list")] == ["in force"] * 5
    assert lab.json("doctor")
    boreal = box.admit("Boreal")
    box.publish(boreal, pattern_body())
    lab.run("sync")
    assert key(boreal.analyst).public_key.key_id not in store.read_text()


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        (keyring.backends.fail.Keyring(), "there is no keyring"),  # type: ignore[no-untyped-call]
        (Locked(), "the collection is locked"),
        (Forgetful(), "does not give back"),
    ],
)
def test_a_keyring_that_cannot_be_used_is_named(
    backend: keyring.backend.KeyringBackend,
    says: str,
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(backend)
    assert make(tmp_path / "home", "--keys", "keyring") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "home" / "config.toml").exists()


def test_keys_that_are_gone_from_the_keyring_or_are_others(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = "member--00000000-0000-0000-0000-00000000000a"
    options = ("--role", "sync", "--member", member, "--forum", "ab" * 32)
    assert make(tmp_path / "home", "--keys", "keyring", *options) == 0
    (stored,) = Session(Home(tmp_path / "home")).keys.stored()
    key_id = stored.public_key.key_id
    pem = keyring.get_password("stillwatch", key_id)
    assert pem is not None
    client = Client(tmp_path / "home", capsys)
    private = key("another").private_key
    other = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for damaged, says in (
        ("nonsense", "does not open"),
        (pem[:60], "does not open"),
        (other, "do not belong together"),
    ):
        keyring.set_password("stillwatch", key_id, damaged)
        assert says in client.run("doctor", code=2)
    keyring.delete_password("stillwatch", key_id)
    assert "the keyring has no key" in client.run("doctor", code=2)


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert make(tmp_path / "home", "--keys", "keyring") == 2
    assert "stillwatch[keyring]" in capsys.readouterr().err
    assert make(tmp_path / "files") == 0


def test_a_passphrase_goes_with_files(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "home", "--keys", "keyring", "--passphrase") == 2
    assert "a lock of its own" in capsys.readouterr().err

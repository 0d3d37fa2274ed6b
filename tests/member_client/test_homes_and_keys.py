"""Making a home, its keys and its settings; what is refused, and what is kept private."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
from pathlib import Path

import pytest

from member_client.cli.main import run
from member_client.errors import InvalidInput
from member_client.forum import cards
from member_client.home import Home, Settings, check_hub_url
from member_client.keystore import KeyStore
from member_client.sync.store import Store
from sharing_protocol.keys import PublicKey
from sharing_protocol.statements import possession_message

HUB = "http://127.0.0.1:9"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def init(home: Path, *arguments: str) -> int:
    return run(["init", "--hub", HUB, "--home", str(home), *arguments])


def test_init_makes_four_keys_that_only_the_user_can_read(tmp_path: Path) -> None:
    home, request = tmp_path / "home", tmp_path / "request.json"
    assert init(home, "--name", "Aurora", "-o", str(request)) == 0
    assert mode(home) == mode(home / "keys") == 0o700
    roles = {path.name.partition("-")[0] for path in (home / "keys").glob("*.pem")}
    assert roles == {"owner", "analyst", "sync", "witness"}
    assert {mode(path) for path in (home / "keys").iterdir()} == {0o600}
    assert mode(home / "config.toml") == 0o600
    card = cards.read(request, cards.JoinRequest)
    for registration in card.keys:
        key = PublicKey.parse(registration.key)
        message = possession_message(registration.role, card.member, key)
        assert key.verifies(message, base64.b64decode(registration.proof))


def test_init_does_not_overwrite_a_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "home", "--name", "Aurora") == 0
    before = sorted(path.read_bytes() for path in (tmp_path / "home" / "keys").iterdir())
    assert init(tmp_path / "home", "--name", "Boreal") == 2
    assert "set up already" in capsys.readouterr().err
    assert sorted(path.read_bytes() for path in (tmp_path / "home" / "keys").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--name", "A", "--forum", "abc"), "fingerprint"),
        (("--name", " "), "cannot be a name"),
        (("--name", "A\x1b[31m"), "cannot be a name"),
        (("--name", "A", "--admin", "--role", "sync"), "--admin"),
        (("--name", "A", "--member", "member--00000000-0000-0000-0000-000000000001"), "--role"),
    ],
)
def test_init_refuses_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert init(tmp_path / "home", *arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("url", ["hub.example", "ftp://hub.example", "http://", "http://a?b=c", "http://user@hub"])
def test_a_hub_url_is_absolute_http(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_hub_url(url)


def test_another_machine_of_a_lab_gets_one_key_and_a_key_request(tmp_path: Path) -> None:
    member = "member--00000000-0000-0000-0000-000000000001"
    request = tmp_path / "request.json"
    assert init(tmp_path / "home", "--name", "A", "--member", member, "--role", "sync", "-o", str(request)) == 0
    card = cards.read(request, cards.KeyRequest)
    assert (card.member, card.key.role.value) == (member, "sync")
    assert [key.role for key in KeyStore(tmp_path / "home" / "keys").stored()] == ["sync"]


def test_a_passphrase_encrypts_the_keys_and_opens_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    monkeypatch.setenv("STILLWATCH_PASSPHRASE_FILE", str(secret))
    assert init(tmp_path / "home", "--name", "Aurora", "--passphrase") == 0
    store = KeyStore(tmp_path / "home" / "keys")
    [stored] = store.stored("owner")
    assert b"ENCRYPTED" in stored.path.read_bytes()
    assert store.open(stored).public_key == stored.public_key
    secret.write_text("wrong\n")
    with pytest.raises(InvalidInput, match="does not open"):
        KeyStore(tmp_path / "home" / "keys").open(stored)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.create("sync", None)
    [stored] = store.stored("sync")
    stored.path.chmod(0o640)
    with pytest.raises(InvalidInput, match="other users"):
        KeyStore(tmp_path).open(stored)


def test_a_key_file_swapped_for_another_is_noticed(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.create("sync", None)
    store.create("owner", None)
    [sync], [owner] = store.stored("sync"), store.stored("owner")
    sync.path.write_bytes(owner.path.read_bytes())
    with pytest.raises(InvalidInput, match="belong together"):
        KeyStore(tmp_path).open(sync)


def test_a_forum_is_pinned_once_and_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "home", "--name", "Aurora") == 0
    assert run(["pin", "a" * 64, "--home", str(tmp_path / "home")]) == 0
    assert run(["pin", "a" * 64, "--home", str(tmp_path / "home")]) == 0
    assert run(["pin", "b" * 64, "--home", str(tmp_path / "home")]) == 2
    assert Home(tmp_path / "home").settings().forum == "a" * 64
    assert "pinned to forum" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["hub = ", "hub = 1\nforum=''\nname=''\nmember=''", "hub = 'x'", "extra = 1", "\xff"],
)
def test_a_damaged_config_is_named_and_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    assert run(["status", "--home", str(tmp_path)]) == 2
    assert "config.toml" in capsys.readouterr().err


def test_a_name_with_quotes_survives_the_config_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    settings = Settings(HUB, "", 'Läb "A" \\ Co', "")
    home.save(settings)
    assert home.settings() == settings


def test_a_folder_that_is_no_home_gets_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--home", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "invalid_input"
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_hub_is_exit_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "home", "--name", "Aurora", "--forum", "a" * 64) == 0
    capsys.readouterr()
    assert run(["sync", "--home", str(tmp_path / "home"), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"] == "hub_unreachable"


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path / "store.sqlite").close()
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(InvalidInput, match="later Stillwatch"):
        Store(tmp_path / "store.sqlite")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "stillwatch-join-request/1"}', "\x00", '{"a":1,"a":2}'])
def test_a_card_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InvalidInput):
        cards.read(tmp_path / "card.json", cards.JoinRequest)


@pytest.mark.parametrize("command", [[], ["nonsense"], ["sync", "--nonsense"], ["key"], ["init"]])
def test_wrong_usage_is_exit_2(command: list[str]) -> None:
    assert run(command) == 2


def test_a_store_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    Store(tmp_path / "store.sqlite").close()
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        database.execute("CREATE INDEX entries_by_leaf ON entries (leaf)")
        database.execute("PRAGMA user_version = 2")
    database.close()
    Store(tmp_path / "store.sqlite").close()
    with sqlite3.connect(tmp_path / "store.sqlite") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (4,)
        assert database.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries_by_leaf'").fetchone() is None
    database.close()

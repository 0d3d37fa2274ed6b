"""What `stillwatch-hub` prints, and how it ends: what it cannot do it says in one line, with no traceback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from hub.identity import HubIdentity
from sharing_protocol.statements.membership import LogIdentity
from tests.forked_commands import Ended, ForkedCommands, forked_commands
from tests.forum import ForumInABox, make_identity, pattern_body, running_hub, sql
from tests.hub.hub_process import run_command
from tests.hub.stored_log import connect, copied

# Postgres and the hub itself may be run by root in a container; what others may not read is tried as somebody else.
SOMEBODY = 65534 if os.geteuid() == 0 else None
UNREACHABLE = "postgresql://hub:secret@127.0.0.1:1/hub"


@pytest.fixture(scope="module")
def commands() -> Iterator[ForkedCommands]:
    with forked_commands() as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the hub that keeps the log in `logged`."""
    home = tmp_path_factory.mktemp("home")
    make_identity(home)
    return home


@pytest.fixture(scope="module")
def logged(new_database: Callable[[], str], home: Path) -> str:
    """The database of a log of three entries."""
    database_url = new_database()
    with running_hub(database_url, HubIdentity.load(home)) as hub:
        box = ForumInABox(hub)
        box.found()
        box.publish(box.admit("Aurora"), pattern_body())
    return database_url


@pytest.fixture
def open_home(home: Path) -> Iterator[Path]:
    """A copy of the home in a folder that every account may enter, unlike those of pytest's own."""
    with tempfile.TemporaryDirectory(prefix="stillwatch-test-") as name:
        Path(name).chmod(0o755)
        copy = Path(name) / "home"
        shutil.copytree(home, copy)
        copy.chmod(0o755)
        yield copy
        copy.chmod(0o700)


def damaged(database_url: str) -> str:
    """A copy of a log, one bit of whose newest tile is another."""
    copy = copied(database_url)
    with sql(copy) as connection:
        connection.execute("UPDATE tiles SET hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1)")
    return copy


def refused(ended: Ended, code: int) -> str:
    """What a command that did nothing says in its one line; before it may warn of our Postgres without fsync."""
    *before, last = ended.stderr.splitlines()
    assert all("fsync is off" in line for line in before), ended.stderr
    assert last.startswith("stillwatch-hub: "), ended.stderr
    assert (ended.code, ended.stdout) == (code, "")
    return last.removeprefix("stillwatch-hub: ")


# -- a hub that cannot start ---------------------------------------------------------------------------------------


def serving(commands: ForkedCommands, home: Path, database_url: str, *options: str, user: int | None = None) -> Ended:
    where = ["--home", str(home), "--database-url", database_url, "--port", "0"]
    return commands.run("serve", *where, *options, user=user)


def test_a_damaged_log_is_not_taken_up(logged: str, home: Path) -> None:
    """By the installed console script itself; the other tests share one import of it."""
    where = ["--home", str(home), "--database-url", damaged(logged), "--port", "0"]
    done = run_command("serve", *where)
    assert refused(Ended(done.returncode, done.stdout, done.stderr), 3) == (
        "the newest checkpoint does not sign the stored tree, or not by this hub's key; run `stillwatch-hub check`"
    )


def test_a_log_of_another_identity_is_not_taken_up(commands: ForkedCommands, logged: str, tmp_path: Path) -> None:
    make_identity(tmp_path / "stranger")
    line = refused(serving(commands, tmp_path / "stranger", logged), 3)
    assert line.startswith("the log in this database is kept with other keys, as 'forum.example/log'")


def test_a_database_that_is_not_there_may_be_tried_again(commands: ForkedCommands, home: Path) -> None:
    line = refused(serving(commands, home, UNREACHABLE), 4)
    assert line.startswith("the database does not answer: connection failed")
    assert "Connection refused" in line
    assert "secret" not in line


def test_a_wrong_password_is_said(commands: ForkedCommands, home: Path, logged: str) -> None:
    url = make_url(logged).set(password="wrong").render_as_string(hide_password=False)
    line = refused(serving(commands, home, url), 4)
    assert "password authentication failed" in line
    assert "wrong" not in line


def test_a_database_with_tables_of_others_is_left_alone(commands: ForkedCommands, home: Path, database: str) -> None:
    with connect(database) as connection:
        connection.execute("DROP TABLE alembic_version")
    line = refused(serving(commands, home, database), 3)
    assert line == 'the database refuses the hub\'s tables: relation "log_entries" already exists'


def test_a_database_of_a_later_version_is_left_alone(commands: ForkedCommands, home: Path, database: str) -> None:
    with connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    line = "this database has schema 9999, which a later version of Stillwatch made; run that version"
    assert refused(serving(commands, home, database), 3) == line


def test_a_url_of_another_database_is_refused(commands: ForkedCommands, home: Path) -> None:
    line = refused(serving(commands, home, "mysql://hub:secret@localhost/hub"), 3)
    assert line.startswith("the database URL is not a Postgres URL")
    assert "secret" not in line


def test_a_port_in_use_is_said(commands: ForkedCommands, home: Path, logged: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(serving(commands, home, logged, "--port", str(port)), 3)
    assert line == f"cannot listen on 127.0.0.1 port {port}: Address already in use"


def test_a_port_file_that_cannot_be_written_is_said(commands: ForkedCommands, home: Path, logged: str) -> None:
    ended = serving(commands, home, logged, "--port-file", str(home / "nowhere" / "port"))
    assert ended.code == 3
    assert ended.stderr.splitlines()[-1].startswith("stillwatch-hub: cannot write the port's file: ")
    assert "Traceback" not in ended.stderr


def test_a_missing_certificate_is_said(commands: ForkedCommands, home: Path, logged: str) -> None:
    files = {f"STILLWATCH_HUB_TLS_{name}": str(home / name) for name in ("CERTIFICATE", "KEY")}
    where = ["--home", str(home), "--database-url", logged, "--port", "0"]
    line = refused(commands.run("serve", *where, settings=files), 3)
    assert line.startswith("the TLS certificate or its key cannot be used: ")


# -- a home that is not ours, or not whole -------------------------------------------------------------------------


def test_a_key_that_cannot_be_read_is_said(commands: ForkedCommands, open_home: Path) -> None:
    (open_home / "origin").chmod(0o644)
    (open_home / "log-key.pem").chmod(0)
    line = refused(serving(commands, open_home, UNREACHABLE, user=SOMEBODY), 3)
    assert "Permission denied" in line
    assert str(open_home / "log-key.pem") in line


def test_a_closed_home_of_another_user_is_said(commands: ForkedCommands, open_home: Path) -> None:
    open_home.chmod(0)
    line = refused(serving(commands, open_home, UNREACHABLE, user=SOMEBODY), 2)
    assert line.startswith("the settings cannot be read: ")
    assert "Permission denied" in line
    line = refused(commands.run("identity", "--home", str(open_home), user=SOMEBODY), 3)
    assert line.startswith(f"the hub's identity in {open_home} cannot be read: ")


def test_a_new_home_in_a_folder_of_another_user_is_said(commands: ForkedCommands, open_home: Path) -> None:
    open_home.parent.chmod(0o555)
    line = refused(serving(commands, open_home.parent / "new", UNREACHABLE, user=SOMEBODY), 3)
    open_home.parent.chmod(0o755)
    assert line.startswith("cannot make the hub's home: ")


def test_a_key_that_others_may_read_is_refused(commands: ForkedCommands, open_home: Path) -> None:
    (open_home / "log-key.pem").chmod(0o644)
    line = refused(serving(commands, open_home, UNREACHABLE), 3)
    assert "is open to other users: chmod 600 it" in line


@pytest.mark.parametrize("name", ["log-key.pem", "timestamp-key.pem"])
def test_a_damaged_key_is_refused(commands: ForkedCommands, open_home: Path, name: str) -> None:
    (open_home / name).write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    line = refused(serving(commands, open_home, UNREACHABLE), 3)
    assert line == f"{open_home / name} is not a PKCS#8 PEM key without passphrase"


def test_another_origin_than_before_is_refused(commands: ForkedCommands, home: Path) -> None:
    line = refused(serving(commands, home, UNREACHABLE, "--origin", "other.example/log"), 3)
    assert line.startswith("this hub's log is 'forum.example/log' for ever")


def test_a_home_that_is_a_file_is_refused(commands: ForkedCommands, home: Path) -> None:
    line = refused(commands.run("serve", "--home", str(home / "origin")), 3)
    assert line.startswith("cannot make the hub's home: ")


def test_hubs_that_start_at_once_in_a_new_home_make_one_identity(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def make(home: Path) -> LogIdentity:
        together.wait(30)
        return HubIdentity.load_or_make(home).public

    with ThreadPoolExecutor(4) as threads:
        for number in range(10):
            home = tmp_path / str(number)
            assert set(threads.map(make, [home] * 4)) == {HubIdentity.load(home).public}


# -- the other commands --------------------------------------------------------------------------------------------


def test_help_says_what_the_exit_codes_mean(commands: ForkedCommands) -> None:
    ended = commands.run("--help")
    assert ended.code == 0
    assert "Exit codes: 0 done; 1 `check` found a difference; 2 usage or settings; 3 " in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [("serve",), ("serve", "--home", "x", "--port", "70000"), ("bind",), ("bind", "12"), ("check",), ("unknown",)],
    ids=" ".join,
)
def test_wrong_usage_is_2(commands: ForkedCommands, arguments: tuple[str, ...]) -> None:
    ended = commands.run(*arguments)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: stillwatch-hub")


def test_a_misspelt_setting_is_2(commands: ForkedCommands, home: Path) -> None:
    line = refused(commands.run("serve", "--home", str(home), settings={"STILLWATCH_HUB_PROT": "1"}), 2)
    assert line == "STILLWATCH_HUB_PROT is set in the environment, and there is no such setting"


def test_identity_prints_what_the_admins_need(commands: ForkedCommands, home: Path, tmp_path: Path) -> None:
    public = HubIdentity.load(home).public
    shown = commands.run("identity", "--home", str(home))
    assert shown.code == 0
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == [
        public.origin,
        public.log_key,
        public.timestamp_key,
    ]
    as_json = json.loads(commands.run("identity", "--home", str(home), "--json").stdout)
    assert {**as_json, "version": ""} == {**public.model_dump(), "version": ""}
    line = refused(commands.run("identity", "--home", str(tmp_path)), 3)
    assert line == f"{tmp_path / 'origin'} is missing: start the hub once, or restore the backup"


def test_identity_prints_the_url_that_members_type_and_refuses_settings_that_serve_would(
    commands: ForkedCommands, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home, tmp_path / "hub")
    where, settings = ("--home", str(tmp_path / "hub")), tmp_path / "hub" / "hub.toml"
    settings.write_text('public_url = "https://hub.example"\n')
    assert commands.run("identity", *where).stdout.splitlines()[-1] == "public URL     https://hub.example"
    assert json.loads(commands.run("identity", *where, "--json").stdout)["public_url"] == "https://hub.example"
    elsewhere = tmp_path / "other.toml"
    elsewhere.write_text('public_url = "https://other.example"\n')
    named = commands.run("identity", *where, settings={"STILLWATCH_HUB_CONFIG": str(elsewhere)})
    assert "https://other.example" in named.stdout
    assert commands.run("identity", *where, "--config", str(elsewhere)).stdout == named.stdout
    settings.write_text('public_ulr = "https://hub.example"\n')
    assert refused(commands.run("identity", *where), 2).startswith("public_ulr is set in ")


def test_config_prints_the_settings_in_force_without_secrets(commands: ForkedCommands, tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(f'port = 8443\ndatabase_url = "{UNREACHABLE}"\n')
    shown = commands.run("config", "--home", str(tmp_path), settings={"STILLWATCH_HUB_HOST": "0.0.0.0"})  # noqa: S104 - only shown
    assert shown.code == 0
    assert "secret" not in shown.stdout
    in_force = tomllib.loads(shown.stdout)
    assert (in_force["port"], in_force["host"]) == (8443, "0.0.0.0")  # noqa: S104 - only shown
    as_json = json.loads(commands.run("config", "--home", str(tmp_path), "--json").stdout)
    assert as_json["port"] == 8443
    (tmp_path / "hub.toml").write_text("prot = 8443\n")
    assert refused(commands.run("config", "--home", str(tmp_path)), 2).startswith("prot is set in ")


def test_bind_takes_a_fingerprint_as_it_was_read_aloud_until_a_forum_is_founded(
    commands: ForkedCommands, home: Path, database: str
) -> None:
    with running_hub(database, HubIdentity.load(home)) as hub:
        box = ForumInABox(hub)
        made = box.founding()
        fingerprint = made.payload_sha256
        where = ["--database-url", database]
        assert commands.run("bind", "ab" * 32, *where).stdout == f"bound to the forum {'ab' * 32}\n"
        aloud = ":".join(fingerprint[start : start + 4].upper() for start in range(0, 64, 4))
        assert commands.run("bind", aloud, *where).stdout == f"bound to the forum {fingerprint}\n"
        box.log(made, box.admins[0])
        assert commands.run("bind", fingerprint, *where).stdout == "that forum is founded here already\n"
        line = refused(commands.run("bind", "ab" * 32, *where), 3)
        assert line == f"this hub's log belongs to the forum {fingerprint} for ever"


def test_check_tells_a_whole_log_from_a_damaged_one(commands: ForkedCommands, logged: str) -> None:
    whole = commands.run("check", "--database-url", logged)
    assert whole.stdout == "3 entries, 1 tiles, 3 checkpoints and 1 records checked: no differences\n"
    assert (whole.code, whole.stderr) == (0, "")
    where = ["--database-url", damaged(logged)]
    found = commands.run("check", *where)
    assert (found.code, found.stderr) == (1, "")
    assert found.stdout.splitlines()[0] == "tiles 0/0: hash 1 is not that of the entries"
    as_json = commands.run("check", *where, "--json")
    assert as_json.code == 1
    assert json.loads(as_json.stdout)["differences"] == [
        {"table": "tiles", "row": "0/0", "what": "hash 1 is not that of the entries"}
    ]


def test_check_of_what_it_cannot_read_is_not_taken_for_a_difference(
    commands: ForkedCommands, database: str, logged: str
) -> None:
    assert refused(commands.run("check", "--database-url", UNREACHABLE), 4).startswith("the database does not answer")
    with connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    line = refused(commands.run("check", "--database-url", database), 3)
    assert line.startswith("this database has schema 0001, not ")


# -- what a command says of itself -----------------------------------------------------------------------------------


def test_it_says_its_version_and_takes_the_short_help_option(commands: ForkedCommands) -> None:
    assert commands.run("--version") == Ended(0, f"stillwatch-hub {version('stillwatch')}\n", "")
    assert "Exit codes" in commands.run("-h").stdout

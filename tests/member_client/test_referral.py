"""A referral package: built by a lab, checked by somebody who has the file and the forum's fingerprint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.referral.criteria import find
from member_client.referral.selecting import cosigned_notes, select
from member_client.referral.verifying import verify
from member_client.session import Session
from sharing_protocol.errors import Unproven
from sharing_protocol.statements import voice_id
from tests.member_client.command import Command
from tests.member_client.follower import entries_of
from tests.member_client.lying_hub import LyingHub
from tests.member_client.referral_case import (
    CRITERIA,
    FAR,
    INCIDENT,
    PATTERN,
    built,
    contents,
    eventful_case,
    read_home,
)
from tests.protocol.forum_log import AURORA, BOREAL, handling, identifier, pattern_body, record_reference, revoke_body
from tests.protocol.response_bodies import opinion_body

LOG = eventful_case()
ATTEST = ("--attest", "counsel agreed=General counsel, by memo of 1 March")
BUILD = ("referral", "build", INCIDENT, "--criteria", CRITERIA)
OFFLINE = """
import socket, sys
def refuse(*arguments, **named):
    raise AssertionError("it goes to the network")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
from member_client.cli.main import run
code = run(sys.argv[1:])
assert "reportlab" not in sys.modules and "httpx" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with LyingHub(entries_of(LOG)) as hub:
        return read_home(tmp_path_factory.mktemp("referral") / "lab", hub, LOG)


@pytest.fixture
def home(synced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synced, tmp_path / "lab"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_an_officer_checks_it_offline_with_nothing_but_the_fingerprint(
    home: Path, command: Command, tmp_path: Path
) -> None:
    evidence, file = tmp_path / "gateway log.jsonl", tmp_path / "case.zip"
    evidence.write_bytes(b"")
    build = (*BUILD, "--no-sync", *ATTEST, "--local-evidence", evidence, "-o", file, "--home", home)
    assert f"{evidence} is empty" in command(*build, code=2)
    assert not file.exists()
    evidence.write_bytes(b"{}\n")
    told = command(*build)
    assert "nobody yet: let other labs sync first, and build again; with --no-sync" in told
    assert "Nothing was sent" in told
    assert LOG.fingerprint in told
    assert file.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(home)
    empty = tmp_path / "empty"
    empty.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE, "referral", "verify", file, "--forum", LOG.fingerprint, "--json"],
        capture_output=True,
        cwd=empty,
        env={"HOME": str(empty), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    shown = json.loads(run.stdout)
    assert (shown["holds"], shown["incident"], shown["lab_name"]) == (True, INCIDENT, "Aurora")
    assert [one["name"] for one in shown["local_evidence"]] == ["gateway log.jsonl"]
    assert list(empty.iterdir()) == []
    words = command("referral", "verify", file, "--forum", LOG.fingerprint)
    assert "The package holds." in words
    assert "disputed by Cirrus" in words
    assert "What it does not show:" in words


def test_it_holds_what_belongs_to_the_incident_and_nothing_else(home: Path) -> None:
    files = contents(built(home))
    told = files["summary.md"].decode()
    for expected in ("Organised theft of a model", "Bootstrapped instructions", "endorsed by Boreal", "TLP:AMBER"):
        assert expected in told
    assert "&lt;b>at several labs&lt;/b> \\| 多个实验室" in told
    assert "Something else" not in b"".join(files.values()).decode("utf-8", "replace")
    assert [name for name in files if name.startswith("statements/")] == [
        f"statements/{index:06d}.json" for index in range(LOG.size - 2)
    ]
    steps = files["timeline.md"].decode()
    assert "WITHOUT EFFECT: only labs that joined" in steps
    assert "\n\\# Not a heading" in steps
    assert files["summary.pdf"].startswith(b"%PDF-")


def test_the_same_case_is_the_same_bytes(home: Path) -> None:
    assert built(home) == built(home)


def test_what_is_required_and_not_met_is_refused_unless_somebody_says_why(tmp_path: Path, command: Command) -> None:
    asks = [
        {"name": "many labs", "measure": "labs", "at_least": 3, "required": True},
        {"name": "counsel agreed", "measure": "attested", "at_least": 1, "required": True},
    ]
    log = eventful_case(criteria=asks)
    with LyingHub(entries_of(log)) as hub:
        home = read_home(tmp_path / "lab", hub, log)
    file = tmp_path / "case.zip"
    arguments = (*BUILD, "--no-sync", "-o", file, "--home", home)
    told = command(*arguments, code=2)
    assert "NOT MET  many labs" in told
    assert "'many labs', 'counsel agreed'" in told
    assert "do not ask anybody to attest 'x'" in command(*arguments, "--attest", "x=y", code=2)
    assert "who answers for it" in command(*arguments, "--attest", "counsel agreed", code=2)
    assert "Nothing was built" in command(*arguments, "--dry-run", code=2)
    assert "Nothing was built" in command(*arguments, "--dry-run", "--despite", "Urgent")
    assert not file.exists()
    command(*arguments, "--despite", "The two labs hold two thirds of the market", *ATTEST)
    shown = command.json("referral", "verify", file, "--forum", log.fingerprint)
    assert shown["despite"] == "The two labs hold two thirds of the market"
    assert [one["met"] for one in shown["findings"] if one["name"] in ("many labs", "counsel agreed")] == [False, True]
    assert "two thirds" in contents(file.read_bytes())["summary.md"].decode()
    assert "exists" in command(*arguments, "--despite", "Again", code=2)


def test_cosignatures_of_members_are_in_it(tmp_path: Path, command: Command) -> None:
    log = eventful_case(evidence=["cosignatures"])
    with LyingHub(entries_of(log)) as hub:
        home = read_home(tmp_path / "lab", hub, log)
        arguments = (*BUILD, "-o", tmp_path / "case.zip", "--home", home)
        assert "required and not met: 'cosignatures'" in command(*arguments, "--no-sync", code=2)
        assert "cosigned by 1 other lab: Boreal" in command(*arguments, "--dry-run")
        shown = command.json(*arguments)
        assert (shown["built"], shown["sent"], shown["cosigned_by"]) == (True, False, [BOREAL])
    shown = command.json("referral", "verify", tmp_path / "case.zip", "--forum", log.fingerprint)
    assert len(shown["cosigned"]) == 1
    assert "cosigned by Boreal" in contents((tmp_path / "case.zip").read_bytes())["summary.md"].decode()


def test_a_checkpoint_that_members_cosigned_is_taken_if_it_covers_all_of_the_case(tmp_path: Path) -> None:
    log = eventful_case(evidence=["cosignatures"])
    with LyingHub(entries_of(log)) as hub:
        home, size = read_home(tmp_path / "lab", hub, log), log.size
        hub.cosigned = [hub.checkpoint().decode()]  # with the log's own time, as a hub shows them
        log.say("pattern", identifier("pattern", 0xA00), BOREAL, pattern_body(title="Later"), ["Boreal analyst"])
        hub.entries = entries_of(log)
        session = Session(Home(home))
        session.catch_up()
        selection = select(session, INCIDENT, find(session, CRITERIA), cosigned_notes(session))
        assert selection.note.split("\n")[1] == str(size)
        # Something that the case needs, later than what was cosigned: the package is not built without it.
        voice = opinion_body(handling(valid_until=FAR), record_reference(log.head(PATTERN)))
        log.say("opinion", voice_id("opinion", BOREAL, voice["pattern"]["entry"]), BOREAL, voice, ["Boreal analyst"])
        hub.entries = entries_of(log)
        session.catch_up()
        selection = select(session, INCIDENT, find(session, CRITERIA), cosigned_notes(session))
        assert selection.note.split("\n")[1] == str(size + 2)
        session.store.close()


def test_handing_it_over_adds_to_its_custody_and_changes_nothing_else(
    home: Path, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "case.zip"
    file.write_bytes(built(home))
    first = command.json("referral", "custody", "add", file, "--from", "Ana Lyst", "--to", "Officer One")
    second = command.json(
        "referral",
        "custody",
        "add",
        first["file"],
        "--from",
        "Officer One",
        "--to",
        "Officer Two",
        "--note",
        "On a stick",
    )
    before, after = contents(file.read_bytes()), contents(Path(second["file"]).read_bytes())
    assert {name for name in before if before[name] != after[name]} == {"custody.jsonl"}
    forum = ("--forum", LOG.fingerprint)
    shown = command.json("referral", "verify", second["file"], *forum, "--custody", second["custody"])
    assert [one["receiver"] for one in shown["custody"]][1:] == ["Officer One", "Officer Two"]
    # Who has the file can write other hand-overs; what both sides have on paper tells.
    command("referral", "verify", first["file"], *forum)
    assert "has the digest" in command(
        "referral", "verify", first["file"], *forum, "--custody", second["custody"], code=5
    )
    assert "receiver" in command("referral", "custody", "add", file, "--from", "A", "--to", "", code=2)


def test_a_package_that_was_handed_over_is_not_handed_over_again_unless_somebody_insists(
    home: Path, command: Command, tmp_path: Path
) -> None:
    file, other = tmp_path / "case.zip", tmp_path / "another.zip"
    file.write_bytes(built(home))
    other.write_bytes(built(home, built_by="Ben"))
    (tmp_path / "broken.zip").write_bytes(file.read_bytes()[:500])
    add, people = ("referral", "custody", "add"), ("--from", "Ana Lyst", "--to", "Officer One")
    first = command.json(*add, file, *people)["file"]
    told = command(*add, file, *people, code=2)
    assert f"{first} goes on from it" in told
    assert not (tmp_path / "case.3.zip").exists()
    later = command.json(*add, first, *people)["file"]
    assert later in command(*add, first, *people, code=2)
    command(*add, other, *people)
    command(*add, file, *people, "-o", tmp_path / "fork.zip")


def test_sharing_is_written_down_here_and_nowhere_else(home: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "case.zip"
    file.write_bytes(built(home))
    arguments = ("referral", "record-sharing", file, "--with", "National cyber-crime unit", "--home", home)
    assert "nothing was sent" in command(*arguments, "--by", "Ana Lyst", "--note", "By courier")
    command(*arguments)
    register = home / "referrals.jsonl"
    first, second = map(json.loads, register.read_text().splitlines())
    assert (first["with"], first["by"], second["number"]) == ("National cyber-crime unit", "Ana Lyst", 1)
    assert register.stat().st_mode & 0o777 == 0o600
    register.write_text(register.read_text().replace("Ana Lyst", "Somebody"))
    assert "does not follow" in command(*arguments, code=2)
    file.write_bytes(file.read_bytes() + b"x")
    assert "does not hold" in command(*arguments, code=5)


def test_arguments_that_are_no_text_are_a_users_mistake(home: Path, command: Command, tmp_path: Path) -> None:
    odd = "\udcff"  # as Python gives the byte 0xFF of an argument
    file = tmp_path / f"case{odd}.zip"
    file.write_bytes(built(home))
    sharing = ("referral", "record-sharing", file, "--with", "Police", "--note", odd, "--home", home)
    assert command.json(*sharing)["file"] == "case\\udcff.zip"
    assert json.loads((home / "referrals.jsonl").read_text())["note"] == "\\udcff"
    update = ("incident", "update", INCIDENT, "--note", odd, "--dry-run", "--home", home)
    assert "not UTF-8" in command(*update, code=2)


def test_another_forum_and_no_package(home: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "case.zip"
    file.write_bytes(built(home))
    assert command.json("referral", "verify", file, "--forum", "0" * 64, code=5)["error"] == "wrong_forum"
    file.write_bytes(b"not a zip")
    assert "not a referral package" in command("referral", "verify", file, "--forum", LOG.fingerprint, code=2)
    assert "cannot read" in command("referral", "verify", tmp_path / "no", "--forum", LOG.fingerprint, code=2)
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(200 * 1024 * 1024)
    assert "at most" in command("referral", "verify", tmp_path / "huge", "--forum", LOG.fingerprint, code=2)


def test_incidents_and_criteria_that_are_not_there_or_not_in_force(
    home: Path, command: Command, tmp_path: Path
) -> None:
    rest = ("--no-sync", "--home", home)
    assert "no incident" in command("referral", "build", "ffffffff", "--criteria", CRITERIA, *rest, code=2)
    assert "no referral_criteria" in command("referral", "build", INCIDENT, "--criteria", "ffffffff", *rest, code=2)
    log = eventful_case(valid_until="2026-09-01T00:00:00Z")
    with LyingHub(entries_of(log)) as hub:
        old = read_home(tmp_path / "old", hub, log)
    assert "is expired" in command(*BUILD, "--no-sync", "--home", old, code=2)


def test_a_key_that_was_revoked_signs_no_package(tmp_path: Path) -> None:
    log = eventful_case()
    log.say("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora analyst"), ["Aurora owner"])
    with LyingHub(entries_of(log)) as hub:
        home = read_home(tmp_path / "lab", hub, log)
    with pytest.raises(InvalidInput, match="no analyst key in force"):
        built(home)


def test_the_package_is_checked_as_its_reader_will(home: Path) -> None:
    verified = verify(built(home), LOG.fingerprint)
    assert verified.telling.manifest.built_by == "Ana Lyst"
    with pytest.raises(Unproven, match="has the digest"):
        verify(built(home), LOG.fingerprint, "0" * 64)

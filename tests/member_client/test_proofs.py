"""`prove` at a member, `verify-proof` at somebody who has nothing but the file and the forum's fingerprint."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from member_client.errors import HubUnreachable
from member_client.sync.judged import Judged
from member_client.sync.store import Store
from member_client.sync.stored_tree import StoredTree
from sharing_protocol import merkle, record_proof
from tests.member_client.command import Command, settle
from tests.member_client.follower import Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, LyingHub
from tests.protocol.excerpts import OTHER_PATTERN, eventful_log
from tests.protocol.forum_log import AURORA, BOREAL, FORUM, PATTERN, SIGHTING, WITHDRAWAL, forum_of_two_labs

LOG = eventful_log()


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with LyingHub(entries_of(LOG)) as hub:
        lab = Lab(tmp_path_factory.mktemp("synced") / "lab", hub, LOG.fingerprint)
        lab.sync()
        lab.store.close()
        return settle(lab)


@pytest.fixture
def home(synced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synced, tmp_path / "lab"))


def test_an_outsider_learns_who_said_what(home: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "first.json"
    told = command("prove", PATTERN, "--version", "1", "-o", file, "--home", home)
    assert "TLP:AMBER" in told
    assert LOG.fingerprint in told
    assert file.stat().st_mode & 0o777 == 0o600
    words = command("verify-proof", file, "--forum", LOG.fingerprint)
    for expected in (
        "The proof holds.",
        "Aurora",
        "Bootstrapped instructions",
        "as entry 3 of forum.example/log",
        "the analyst key",
        "registered at entry 1",
        "SUSPECT",
        "was revoked later, at entry 8",
        "No change of the keys and standing of Aurora was left out before entry 3",
        "What it does not show:",
        "newest version",
        "shows everybody this log",
    ):
        assert expected in words


def test_scripts_get_the_statement_and_the_limits(home: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    made = command.json("prove", OTHER_PATTERN, "-o", file, "--home", home)
    assert made["bytes"] == file.stat().st_size
    found = command.json("verify-proof", file, "--forum", LOG.fingerprint)
    assert found["holds"] is True
    assert found["statement"] == json.loads(LOG.entries[13].payload)
    assert (found["index"], found["author"], found["author_name"]) == (13, BOREAL, "Boreal")
    assert [step["index"] for step in found["path"]] == [0, 2, 11, 12, 15]
    assert found["warnings"] == ["Boreal is expelled by now; what it said before stays"]
    assert [key["since"] for key in found["signed_by"]] == [12]
    assert len(found["does_not_show"]) >= 5


@pytest.mark.parametrize("record", [PATTERN, SIGHTING, WITHDRAWAL, AURORA, BOREAL, FORUM])
def test_any_kind_of_record_is_proven(home: Path, command: Command, tmp_path: Path, record: str) -> None:
    file = tmp_path / "proof.json"
    command("prove", record, "-o", file, "--home", home)
    assert command.json("verify-proof", file, "--forum", LOG.fingerprint)["id"] == record
    assert "The proof holds." in command("verify-proof", file, "--forum", LOG.fingerprint)


@pytest.mark.parametrize("version", [1, 2])
def test_any_version_of_a_lab_is_proven(home: Path, command: Command, tmp_path: Path, version: int) -> None:
    file = tmp_path / "proof.json"
    command("prove", AURORA, "--version", str(version), "-o", file, "--home", home)
    found = command.json("verify-proof", file, "--forum", LOG.fingerprint)
    assert (found["id"], found["version"]) == (AURORA, version)


def test_a_proof_on_standard_output_is_the_file(home: Path, command: Command, tmp_path: Path) -> None:
    command("prove", SIGHTING, "-o", tmp_path / "proof.json", "--home", home)
    assert command("prove", SIGHTING, "--home", home).encode() == (tmp_path / "proof.json").read_bytes()


def test_it_takes_no_home_no_account_and_no_network(home: Path, command: Command, tmp_path: Path) -> None:
    command("prove", PATTERN, "-o", tmp_path / "proof.json", "--home", home)
    empty = tmp_path / "empty"
    empty.mkdir()
    # Any attempt to open a socket, or to write anything, would fail here.
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit(99)\n"
        "socket.socket.connect = refuse\n"
        "from member_client.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    empty.chmod(0o500)
    arguments = ["verify-proof", str(tmp_path / "proof.json"), "--forum", LOG.fingerprint]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=empty,
        env={"PATH": os.environ["PATH"], "HOME": str(empty), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(empty.iterdir()) == []


def test_what_does_not_hold_exits_5_and_what_is_no_proof_2(home: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    command("prove", PATTERN, "-o", file, "--home", home)
    assert command.json("verify-proof", file, "--forum", "0" * 64, code=5)["error"] == "wrong_forum"
    moved = tmp_path / "moved.json"
    moved.write_bytes(file.read_bytes().replace(b"index 9", b"index 10"))
    assert "proves nothing" in command("verify-proof", moved, "--forum", LOG.fingerprint, code=5)
    moved.write_bytes(file.read_bytes() + b" ")
    assert "not a proof of a record" in command("verify-proof", moved, "--forum", LOG.fingerprint, code=2)
    assert "cannot read" in command("verify-proof", tmp_path / "nothing", "--forum", LOG.fingerprint, code=2)
    assert "not a forum's fingerprint" in command("verify-proof", file, "--forum", "abc", code=2)
    with (tmp_path / "huge.json").open("wb") as huge:
        huge.truncate(record_proof.MAX_PROOF_BYTES * 4)
    assert "at most" in command("verify-proof", tmp_path / "huge.json", "--forum", LOG.fingerprint, code=2)


def test_records_that_are_not_there(home: Path, command: Command) -> None:
    assert "no pattern" in command("prove", "ffffffff", "--home", home, code=2)
    assert "version" in command("prove", PATTERN, "--version", "9", "--home", home, code=2)
    assert "versions 1 to" in command("prove", AURORA, "--version", "99", "--home", home, code=2)
    assert "whole id" in command("prove", AURORA[:20], "--home", home, code=2)


def test_a_home_that_has_not_read_all_of_the_log_proves_nothing(tmp_path: Path, command: Command) -> None:
    log = many_patterns(forum_of_two_labs(), 300)
    with LyingHub(entries_of(log)) as hub:
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        home = settle(lab)
        assert "run `stillwatch sync`" in command("prove", PATTERN, "--home", home, code=2)
        hub.lie = lambda path, answer: Answer(500) if path.startswith("/tile/entries/001") else answer
        with pytest.raises(HubUnreachable):
            lab.sync(bundles_per_batch=1)
        assert "interrupted" in command("prove", "0000", "--home", home, code=2)
        lab.store.close()


def test_a_damaged_store_makes_no_proof(home: Path, command: Command) -> None:
    with sqlite3.connect(home / "store.sqlite") as database:
        database.execute("UPDATE entries SET leaf = ? WHERE idx = 1", (bytes(32),))
    database.close()
    assert "does not lead to the signed root" in command("prove", PATTERN, "--home", home, code=2)


def test_the_stored_tree_is_the_tree(tmp_path: Path) -> None:
    entries = [b"entry %d" % number for number in range(9000)]
    leaves, size = [merkle.leaf_hash(entry) for entry in entries], len(entries)
    store = Store(tmp_path / "store.sqlite")
    judged = Judged(store)
    for index, (leaf, entry) in enumerate(zip(leaves, entries, strict=True)):
        judged.put_entry(index, leaf, entry, "", "rejected", "", "")
    with store.transaction():
        store.put(judged)
    tree, root = StoredTree(store), merkle.root_from_leaves(leaves)
    assert tree.root(size) == root
    for index in (0, 1, 4095, 4096, 8191, 8192, size - 1):
        assert merkle.verify_inclusion(leaves[index], index, size, tree.inclusion_proof(index, size), root)
    for old in (1, 4096, 5000, 8192, size - 1):
        beginning = merkle.root_from_leaves(leaves[:old])
        assert merkle.prefix_root(old, size, root, tree.prefix_proof(old, size)) == beginning
    store.close()

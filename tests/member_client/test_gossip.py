"""Labs that compare checkpoints catch a hub that shows each of them its own log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from member_client.errors import HubUnreachable
from member_client.gossip import MAX_EVIDENCE, MAX_FILES
from sharing_protocol import checkpoints
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import Fault
from sharing_protocol.notes import MAX_NOTE_BYTES
from tests.member_client.command import Command, settle
from tests.member_client.follower import Lab, entries_of, many_patterns
from tests.member_client.lying_hub import Answer, LyingHub
from tests.member_client.test_evidence_files import proven
from tests.protocol.forum_log import ORIGIN, TIMESTAMP_KEY, ForumLog, forum_of_two_labs, key

SIZE = 10


@pytest.fixture(scope="module")
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), SIZE - 3)


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, log: ForumLog) -> Path:
    with LyingHub(entries_of(log)) as hub:
        hub.shown = 8
        lab = Lab(tmp_path_factory.mktemp("synced") / "lab", hub, log.fingerprint)
        lab.sync()
        lab.store.close()
        return settle(lab)


@pytest.fixture
def home(synced: Path, tmp_path: Path) -> Path:
    """A home that has read the log's first eight entries."""
    return Path(shutil.copytree(synced, tmp_path / "lab"))


class Notes:
    """Files with what other labs were shown."""

    def __init__(self, folder: Path, hub: LyingHub) -> None:
        self._folder, self._hub = folder, hub

    def true(self, size: int) -> Path:
        """Of the genuine log."""
        return self.write(f"true-{size}", self._hub.checkpoint(self._hub.entries[:size]))

    def false(self, size: int, changed: int = 1) -> Path:
        """Of a log with another entry `changed`."""
        entries = [*self._hub.entries]
        entries[changed] = b"another"
        return self.write(f"false-{size}-{changed}", self._hub.checkpoint(entries[:size]))

    def write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path


@pytest.fixture
def notes(tmp_path: Path, hub: LyingHub) -> Notes:
    return Notes(tmp_path, hub)


def standings(command: Command, home: Path, *files: Path, code: int = 0) -> tuple[list[str], list[Path]]:
    told = command.json("gossip", "compare", *files, "--home", home, code=code)
    assert [found["file"] for found in told["files"]] == [str(file) for file in files]
    return [found["standing"] for found in told["files"]], [Path(file) for file in told["evidence"]]


def test_what_one_lab_exports_the_other_compares(home: Path, command: Command, tmp_path: Path, hub: LyingHub) -> None:
    note = command("gossip", "export", "--home", home)
    assert note.startswith(f"{ORIGIN}\n8\n")
    command("gossip", "export", tmp_path / "note", "--home", home)
    assert (tmp_path / "note").read_text() == note
    assert standings(command, home, tmp_path / "note") == (["agrees"], [])
    assert "8 entries are those that are stored here" in command("gossip", "compare", tmp_path / "note", "--home", home)


def test_every_size_that_this_home_has_read_is_decided(home: Path, command: Command, notes: Notes) -> None:
    files = [notes.true(size) for size in range(SIZE + 1)]
    assert standings(command, home, *files) == (["agrees"] * 9 + ["undecided"] * 2, [])
    assert "sync, and compare again" in command("gossip", "compare", files[-1], "--home", home)


@pytest.mark.parametrize("size", range(2, 9))
def test_another_history_of_any_size_is_a_proven_split_view(
    home: Path, command: Command, notes: Notes, log: ForumLog, size: int
) -> None:
    found, files = standings(command, home, notes.true(3), notes.false(size), code=5)
    assert found[1] == "contradicts"
    for file in files:
        proven(command, file, log, Fault.FORK)
        assert (home / "evidence") == file.parent
    again = command("gossip", "compare", notes.false(size), "--home", home, code=5)
    assert "signed two histories" in again


def test_before_they_part_two_histories_are_one(home: Path, command: Command, notes: Notes) -> None:
    assert standings(command, home, notes.false(5, changed=6)) == (["agrees"], [])


def test_who_was_shown_only_what_the_two_have_in_common_is_not_drawn_in(
    home: Path, command: Command, notes: Notes
) -> None:
    found, _ = standings(command, home, notes.true(3), notes.false(8, changed=6), notes.true(6), code=5)
    assert found == ["agrees", "contradicts", "agrees"]


def test_two_other_labs_notes_are_compared_even_beyond_what_is_stored_here(
    home: Path, command: Command, notes: Notes, log: ForumLog
) -> None:
    found, [file] = standings(command, home, notes.true(SIZE), notes.false(SIZE), code=5)
    assert found == ["contradicts", "contradicts"]
    proven(command, file, log, Fault.FORK)


def test_a_home_that_has_not_read_all_of_its_own_checkpoint_accuses_nobody_yet(
    tmp_path: Path, command: Command
) -> None:
    log = many_patterns(forum_of_two_labs(), 300)
    with LyingHub(entries_of(log)) as hub:
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        hub.lie = lambda path, answer: Answer(500) if path.startswith("/tile/entries/001") else answer
        with pytest.raises(HubUnreachable):
            lab.sync(bundles_per_batch=1)
        home, notes = settle(lab), Notes(tmp_path, hub)
        files = notes.true(200), notes.false(200)
        assert standings(command, home, *files, code=5)[0] == ["contradicts"] * 2
        assert standings(command, home, files[0]) == (["agrees"], [])
        assert standings(command, home, files[1]) == (["undecided"], [])
        assert "not stored whole" in command("gossip", "compare", files[1], "--home", home)
        hub.lie = lambda path, answer: answer
        lab.sync()
        lab.store.close()
        found, [file] = standings(command, home, files[1], code=5)
        assert found == ["contradicts"]
        proven(command, file, log, Fault.FORK)


def test_what_cannot_be_decided_is_said_and_accuses_nobody(home: Path, command: Command, notes: Notes) -> None:
    assert standings(command, home, notes.false(SIZE), notes.true(9)) == (["undecided", "undecided"], [])


def test_an_old_state_vouched_for_as_the_newest_is_proven(
    home: Path, command: Command, notes: Notes, log: ForumLog, hub: LyingHub
) -> None:
    """A hub that keeps a lab at an old state, with fresh timestamps, so that the lab takes it for the newest."""
    hub.clock = lambda: time.time() + 250
    assert standings(command, home, notes.true(4)) == (["agrees"], [])
    hub.clock = lambda: time.time() + 400
    found, [file] = standings(command, home, notes.true(5), code=5)
    assert found == ["contradicts"]
    proven(command, file, log, Fault.ROLL_BACK)


def test_files_that_are_no_checkpoint_of_this_log_are_named_and_stop_nothing(
    home: Path, command: Command, notes: Notes, tmp_path: Path
) -> None:
    genuine = notes.true(5)
    head = Checkpoint(ORIGIN, 5, bytes(32))
    by_another = checkpoints.cosign(checkpoints.sign(head, key("Mallory")), ORIGIN, TIMESTAMP_KEY, 1)
    files = [
        notes.write("forged", genuine.read_bytes().replace(b"\n5\n", b"\n6\n")),
        notes.write("unsigned", str(by_another).encode()),
        notes.write("empty", b""),
        notes.write("huge", b"x" * (MAX_NOTE_BYTES * 3)),
        notes.write("binary", bytes(range(256))),
        tmp_path / "missing",
        tmp_path,
        genuine,
    ]
    assert standings(command, home, *files, code=2) == (["unusable"] * 7 + ["agrees"], [])
    assert "missing: unusable: it cannot be read" in command("gossip", "compare", files[5], "--home", home, code=2)
    hint = "if the admins exchanged its keys since your last sync"
    for file, is_hinted in ((files[0], False), (files[1], True), (files[5], False)):
        assert (hint in command("gossip", "compare", file, "--home", home, code=2)) is is_hinted
    # A proven lie weighs more than a file that cannot be used.
    assert standings(command, home, files[0], notes.false(5), code=5)[0] == ["unusable", "contradicts"]


def test_the_same_note_twice_is_one_case(home: Path, command: Command, notes: Notes) -> None:
    copy = notes.write("copy", notes.false(5).read_bytes())
    found, evidence = standings(command, home, notes.false(5), copy, code=5)
    assert (found, len(evidence)) == (["contradicts", "contradicts"], 1)


def test_files_and_evidence_are_bounded(home: Path, command: Command, notes: Notes, tmp_path: Path) -> None:
    files = [notes.false(8, changed) for changed in range(1, 8)]
    assert len(standings(command, home, *files, code=5)[1]) == MAX_EVIDENCE
    many = [tmp_path / f"{number}" for number in range(MAX_FILES + 1)]
    assert standings(command, home, *many[1:], code=2)[0] == ["unusable"] * MAX_FILES
    assert f"at most {MAX_FILES}" in command("gossip", "compare", *many, "--home", home, code=2)


def test_a_home_that_knows_nothing_cannot_compare(
    tmp_path: Path, command: Command, hub: LyingHub, log: ForumLog, notes: Notes
) -> None:
    lab = Lab(tmp_path / "fresh", hub, log.fingerprint)
    lab.store.close()
    home = settle(lab)
    assert "run `stillwatch sync` first" in command("gossip", "compare", notes.true(5), "--home", home, code=2)
    assert "run `stillwatch sync` first" in command("gossip", "export", "--home", home, code=2)

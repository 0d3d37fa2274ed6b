"""The hub's part in exchanging the log's keys: nothing is ever signed by the wrong pair, whatever process signs."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from hub.cli import commands
from hub.errors import HubError, LogDamaged, LogKeysMissing
from hub.identity import HubIdentity, IdentityError, make_further
from hub.newest_checkpoint import FILE
from sharing_protocol import notes, wire
from sharing_protocol.checkpoints import Checkpoint, parse_text
from sharing_protocol.errors import Misbehaviour
from sharing_protocol.log_export import ExportHeader, encode_entry
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.trust import check_receipt, open_checkpoint
from tests.forum import ForumInABox, Lab, RunningHub, code_of, make_identity, pattern_body, running_hub, signed
from tests.hub.lone_sequencer import sequence_at_once
from tests.hub.postgres_proxy import Fault, PostgresProxy
from tests.hub.stored_log import connect, copied, differences, number, rows, wait_until

CHANGE = 3


@dataclass
class Exchanged:
    """A log whose keys were exchanged by its entry 3 of 5, while its hub was running.

    Attributes:
        home: with both pairs.
        early: the database before the exchange.
        old_receipt: and the entry that it proves, by the first pair.
    """

    home: Path
    database: str
    early: str
    box: ForumInABox
    lab: Lab
    first: HubIdentity
    second: HubIdentity
    old_receipt: tuple[wire.Receipt, bytes]

    @property
    def logs(self) -> LogHistory:
        assert self.box.logs is not None
        return self.box.logs


@pytest.fixture(scope="module")
def before(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Exchanged:
    home, database = tmp_path_factory.mktemp("exchanged") / "hub", new_database()
    first = make_identity(home)
    with running_hub(database, first, home=home) as hub:
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        made = box.record(lab, pattern_body("By the first keys"))
        old = box.log(made, lab.analyst)
    early = copied(database)
    with running_hub(database, first, home=home) as hub:
        box.hub = hub
        second = make_further(home)  # the hub that runs finds it
        assert box.exchange_keys(second).index == CHANGE
        box.publish(lab, pattern_body("By the second keys"))
    return Exchanged(home, database, early, box, lab, first, second, (old, made.encode()))


@pytest.fixture
def exchanged(before: Exchanged, tmp_path: Path) -> Exchanged:
    """A copy of it all, for one test."""
    home = tmp_path / "hub"
    shutil.copytree(before.home, home)
    return replace(before, home=home, database=copied(before.database), early=copied(before.early))


def at(before: Exchanged, hub: RunningHub) -> ForumInABox:
    box = before.box
    return ForumInABox(hub, box.admins, box.threshold, box.id, box.fingerprint, dict(box.heads), box.logs)


@contextlib.contextmanager
def served(exchanged: Exchanged, home: Path | None = None, database: str | None = None) -> Iterator[ForumInABox]:
    """A hub that starts with whatever lies in the home, as `serve` does."""
    home = home or exchanged.home
    with running_hub(database or exchanged.database, HubIdentity.load(home), home=home) as hub:
        yield at(exchanged, hub)


def served_checkpoint(box: ForumInABox) -> Checkpoint:
    response = box.get(wire.CHECKPOINT)
    assert response.status_code == 200, response.text
    assert box.logs is not None
    return open_checkpoint(response.content, box.logs).checkpoint


def without_first_pair(home: Path) -> None:
    for name in ("log-key.pem", "timestamp-key.pem"):
        (home / name).unlink()


def operate(command: str, *arguments: object) -> None:
    commands([command, *map(str, arguments)], standalone_mode=False)


# -- the exchange --------------------------------------------------------------------------------------------------


def test_every_checkpoint_is_signed_by_the_keys_of_its_size(exchanged: Exchanged) -> None:
    stored = rows(exchanged.database, "SELECT tree_size, note FROM checkpoints ORDER BY tree_size")
    assert [size for size, _ in stored] == [1, 2, 3, 4, 5]
    for size, text in stored:
        note = notes.parse(text.encode())
        pair = exchanged.first if size <= CHANGE else exchanged.second
        assert [signature.key for signature in notes.verify(note, [pair.log_verifier])] == [pair.log_verifier]
        assert len(note.signatures) == 1
    assert differences(exchanged.database) == []
    assert rows(exchanged.database, "SELECT log_key FROM forum") == [(exchanged.second.public.log_key,)]


def test_old_receipts_hold_and_new_ones_are_by_the_new_keys(exchanged: Exchanged) -> None:
    receipt, entry = exchanged.old_receipt
    assert check_receipt(receipt, entry, exchanged.logs).checkpoint.size == CHANGE
    with served(exchanged) as box:
        again = wire.Receipt.model_validate_json(box.post(wire.ENTRIES, entry, exchanged.lab.analyst).content)
        assert again.already_logged
        assert check_receipt(again, entry, exchanged.logs).checkpoint.size == 5
        with pytest.raises(Misbehaviour, match="did not sign"):
            check_receipt(again, entry, exchanged.first.public)


def test_a_batch_that_exchanges_the_keys_is_signed_by_the_new_ones_as_a_whole(exchanged: Exchanged) -> None:
    box, lab, database = exchanged.box, exchanged.lab, exchanged.early
    second = make_further(exchanged.home)
    twin = replace(box, heads={key: head for key, head in box.heads.items() if key != box.id})
    twin.heads[box.id] = (1, rows(database, "SELECT encode(leaf_hash, 'hex') FROM log_entries WHERE index = 0")[0][0])
    made = [
        box.record(lab, pattern_body("Just before")),
        twin.change_log(second),
        box.record(lab, pattern_body("After")),
    ]
    answers = sequence_at_once(database, exchanged.first, made, exchanged.home)
    logs = LogHistory.of(exchanged.first.public).continued(CHANGE + 1, second.public)
    for answer, envelope in zip(answers, made, strict=True):
        assert isinstance(answer, wire.Receipt), answer
        assert check_receipt(answer, envelope.encode(), logs).checkpoint.size == CHANGE + 3
    assert rows(database, "SELECT tree_size FROM checkpoints WHERE tree_size > 3") == [(CHANGE + 3,)]
    assert differences(database) == []


def test_keys_that_the_hub_does_not_hold_are_refused(exchanged: Exchanged, tmp_path: Path) -> None:
    """A slip of the admins must not leave the log without anybody who can sign it."""
    elsewhere = make_further(tmp_path / "another", exchanged.first.origin)
    with served(exchanged) as box:
        whole = box.submit(box.change_log(elsewhere), "Ada")
        assert (whole.status_code, code_of(whole)) == (422, "wrong_log")
        begun = box.post(wire.PROPOSALS, box.change_log(elsewhere, "Ada").encode(), "Ada")
        assert (begun.status_code, code_of(begun)) == (422, "wrong_log")
        shutil.copytree(tmp_path / "another" / "keys", exchanged.home / "keys", dirs_exist_ok=True)
        assert box.post(wire.PROPOSALS, box.change_log(elsewhere, "Ada").encode(), "Ada").status_code == 202
        box.exchange_keys(elsewhere)
        assert served_checkpoint(box).size == 6
    assert differences(exchanged.database) == []


def test_a_quorum_gathered_as_a_proposal_exchanges_them(exchanged: Exchanged) -> None:
    third = make_further(exchanged.home)
    with served(exchanged) as box:
        document = json.loads(box.change_log(third).payload)
        first = box.post(wire.PROPOSALS, signed(document, "Ada").encode(), "Ada")
        assert first.status_code == 202
        last = box.post(wire.PROPOSALS, signed(document, "Cleo").encode(), "Cleo")
        assert last.status_code == 201
        proposal = wire.Proposal.model_validate_json(last.content)
        assert proposal.receipt is not None
        box.logs = exchanged.logs.continued(5, third.public)
        check_receipt(proposal.receipt, proposal.envelope.encode(), box.logs)
        assert served_checkpoint(box).size == 6


# -- processes and restarts ----------------------------------------------------------------------------------------


def test_processes_on_one_home_change_over_together(exchanged: Exchanged) -> None:
    with served(exchanged) as box, served(exchanged) as other:
        assert served_checkpoint(other).size == 5
        third = make_further(exchanged.home)
        box.exchange_keys(third)
        other.logs, other.heads = box.logs, box.heads
        assert served_checkpoint(other).size == 6, "it reads of the change from the log"
        other.publish(exchanged.lab, pattern_body("Through the other"))
        box.publish(exchanged.lab, pattern_body("Through the first"))
        assert served_checkpoint(box).size == served_checkpoint(other).size == 8
    assert differences(exchanged.database) == []


def test_a_process_without_the_new_keys_signs_nothing_until_it_has_them(exchanged: Exchanged, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    shutil.copytree(exchanged.home, apart)
    with served(exchanged) as box, served(exchanged, home=apart) as other:
        third = make_further(exchanged.home)
        box.exchange_keys(third)
        other.logs, other.heads = box.logs, box.heads
        late = other.record(exchanged.lab, pattern_body("Too early"))
        for response in (other.get(wire.CHECKPOINT), other.submit(late, exchanged.lab.analyst)):
            assert (response.status_code, code_of(response)) == (503, "log_keys_missing")
        assert number(exchanged.database, "SELECT tree_size FROM log_head") == 6
        shutil.copytree(exchanged.home / "keys", apart / "keys", dirs_exist_ok=True)
        assert served_checkpoint(other).size == 6
        other.log(late, exchanged.lab.analyst)
    assert differences(exchanged.database) == []


def test_the_first_pair_is_not_needed_any_more(exchanged: Exchanged) -> None:
    without_first_pair(exchanged.home)
    with served(exchanged) as box:
        assert served_checkpoint(box).size == 5
        box.publish(exchanged.lab, pattern_body("Without the first"))
        assert box.get("/readyz").status_code == 200
    assert differences(exchanged.database) == []
    # And what a home remembers from the time of the first pair is believed by what the log says of it.
    (exchanged.home / FILE).write_text(
        rows(exchanged.database, "SELECT note FROM checkpoints WHERE tree_size = 3")[0][0]
    )
    with served(exchanged) as box:
        assert served_checkpoint(box).size == 6


def test_without_the_present_pair_a_hub_does_not_start(exchanged: Exchanged, tmp_path: Path) -> None:
    shutil.rmtree(exchanged.home / "keys")
    (exchanged.home / FILE).unlink()
    with pytest.raises(LogKeysMissing, match="entry 3 exchanged the log's keys"):
        sequence_at_once(exchanged.database, exchanged.first, [], exchanged.home)


def test_lost_keys_are_replaced_by_the_admins(exchanged: Exchanged, tmp_path: Path) -> None:
    """The database is there, and not one copy of the keys: in the meantime the hub signs nothing."""
    new = tmp_path / "new"
    third = make_further(new, exchanged.first.origin)
    with served(exchanged, home=new) as box:
        assert (box.get(wire.CHECKPOINT).status_code, box.get("/readyz").status_code) == (503, 503)
        lost = box.submit(box.record(exchanged.lab, pattern_body("In vain")), exchanged.lab.analyst)
        assert (lost.status_code, code_of(lost)) == (503, "log_keys_missing")
        box.exchange_keys(third)
        assert served_checkpoint(box).size == 6
        box.publish(exchanged.lab, pattern_body("By the third"))
    assert differences(exchanged.database) == []
    assert [row[0] for row in rows(exchanged.database, "SELECT tree_size FROM checkpoints")] == [1, 2, 3, 4, 5, 6, 7]


def test_lost_keys_of_another_log_are_not_replaced(exchanged: Exchanged, tmp_path: Path) -> None:
    new = tmp_path / "new"
    third = make_further(new, "another.example/log")
    with pytest.raises(LogDamaged, match="kept with other keys"):
        sequence_at_once(exchanged.database, third, [], new)


@pytest.mark.parametrize("faults", [(Fault.ANSWER_LOST,), (Fault.NOT_SENT, Fault.LATE)], ids=len)
def test_a_doubtful_commit_of_the_exchange_is_found_out(exchanged: Exchanged, faults: tuple[Fault, ...]) -> None:
    third = make_further(exchanged.home)
    with (
        PostgresProxy(exchanged.database) as proxy,
        running_hub(proxy.url, exchanged.first, home=exchanged.home) as hub,
    ):
        box = at(exchanged, hub)
        proxy.faults.extend(faults)
        assert box.exchange_keys(third).index == 5
        assert tuple(proxy.happened) == faults
        box.publish(exchanged.lab, pattern_body("Afterwards"))
        assert served_checkpoint(box).size == 7
    assert differences(exchanged.database) == []


def test_an_exchange_under_load_of_two_processes(exchanged: Exchanged) -> None:
    """Labs publish through both while the admins exchange the keys through one: every receipt is by the right pair."""
    lab, count = exchanged.lab, 24
    with served(exchanged) as box, served(exchanged) as other:
        third = make_further(exchanged.home)
        made = [box.record(lab, pattern_body(f"Under load {number}")) for number in range(count)]
        with ThreadPoolExecutor(8) as threads:
            answers = [
                threads.submit((box, other)[number % 2].submit, one, lab.analyst) for number, one in enumerate(made)
            ]
            change = box.exchange_keys(third).index
            got = [wire.Receipt.model_validate_json(answer.result().content) for answer in answers]
        assert box.logs is not None
        for receipt, one in zip(got, made, strict=True):
            size = check_receipt(receipt, one.encode(), box.logs).checkpoint.size
            pair = third if size > change else exchanged.second
            assert notes.verify(notes.parse(receipt.checkpoint.encode()), [pair.log_verifier])
        assert served_checkpoint(box).size == 5 + 1 + count
    assert differences(exchanged.database) == []


# -- roll backs, and who has the old keys --------------------------------------------------------------------------


def halted(database: str) -> list[tuple[object, ...]]:
    return rows(database, "SELECT kind FROM log_halt")


def test_a_log_put_back_to_before_the_exchange_is_noticed(exchanged: Exchanged, tmp_path: Path) -> None:
    with served(exchanged, database=exchanged.early) as box:
        response = box.get(wire.CHECKPOINT)
        assert (response.status_code, code_of(response)) == (503, "log_rolled_back")
    assert halted(exchanged.early) == [("rolled back",)]
    # Without a memory of its own, the hub hears of it from a member; for it still holds the keys.
    forgetful, early = tmp_path / "forgetful", copied(exchanged.early)
    shutil.copytree(exchanged.home, forgetful)
    (forgetful / FILE).unlink()
    with connect(early) as connection:
        connection.execute("DELETE FROM log_halt")
    with served(exchanged, home=forgetful, database=early) as box:
        assert notes.verify(notes.parse(box.get(wire.CHECKPOINT).content), [exchanged.first.log_verifier])
        newest = rows(exchanged.database, "SELECT note FROM checkpoints WHERE tree_size = 5")[0][0]
        shown = box.post(wire.CHECKPOINT, newest.encode(), exchanged.lab.sync)
        assert shown.json() == {"tree_size": 3, "extends": False}
        assert code_of(box.get(wire.CHECKPOINT)) == "log_rolled_back"
    assert halted(early) == [("rolled back",)]


def test_whoever_has_the_old_keys_cannot_halt_the_log(exchanged: Exchanged) -> None:
    def forged(size: int, by: HubIdentity) -> bytes:
        return str(by.sign(Checkpoint(by.origin, size, bytes(32)))).encode()

    with served(exchanged) as box:

        def show(body: bytes) -> tuple[int, object]:
            response = box.post(wire.CHECKPOINT, body, exchanged.lab.sync)
            return response.status_code, response.json().get("extends", response.json().get("code"))

        assert show(forged(99, exchanged.first)) == (422, "foreign_checkpoint")
        assert show(forged(CHANGE + 1, exchanged.first)) == (422, "foreign_checkpoint")
        assert show(forged(CHANGE, exchanged.second)) == (422, "foreign_checkpoint")
        assert show(forged(CHANGE, exchanged.first)) == (200, False)
        honest = exchanged.old_receipt[0].checkpoint
        assert parse_text(notes.parse(honest.encode()).text).size == CHANGE
        assert show(honest.encode()) == (200, True)
        assert halted(exchanged.database) == []
        assert rows(exchanged.database, "SELECT * FROM checkpoint_reports") == []
        assert show(forged(99, exchanged.second)) == (200, False)
        assert halted(exchanged.database) == [("rolled back",)]


# -- backups -------------------------------------------------------------------------------------------------------


def test_backup_restore_recover_and_resume_across_the_exchange(
    exchanged: Exchanged, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """A backup from before the exchange; the rest comes from a member's export, signed by the new keys."""
    backup, export, restored = tmp_path / "backup", tmp_path / "export", new_database()
    with connect(exchanged.early) as connection:
        connection.execute("DELETE FROM log_halt")
    operate("backup", backup, "--database-url", exchanged.early)
    entries = [row[0] for row in rows(exchanged.database, "SELECT envelope FROM log_entries ORDER BY index")]
    newest = rows(exchanged.database, "SELECT note FROM checkpoints WHERE tree_size = 5")[0][0]
    export.write_bytes(ExportHeader(0, newest).encode() + b"".join(map(encode_entry, entries)))
    where = ("--home", exchanged.home, "--database-url", restored)
    operate("restore", backup, *where)
    operate("recover", export, *where)
    operate("resume", "--confirm", *where)
    assert differences(restored) == []
    with served(exchanged, database=restored) as box:
        assert served_checkpoint(box).size == 5
        box.publish(exchanged.lab, pattern_body("After the loss"))


def test_a_home_without_the_newer_keys_does_not_go_on_unknowing(
    exchanged: Exchanged, new_database: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Backup and home are of before the exchange: what members show is by keys that nobody here has heard of."""
    backup, old_home, restored = tmp_path / "backup", tmp_path / "old", new_database()
    operate("backup", backup, "--database-url", exchanged.early)
    shutil.copytree(exchanged.home, old_home, ignore=shutil.ignore_patterns("keys", FILE))
    where = ("--home", old_home, "--database-url", restored)
    operate("restore", backup, *where)
    newest = rows(exchanged.database, "SELECT note FROM checkpoints WHERE tree_size = 5")[0][0]
    stranger = make_identity(tmp_path / "stranger", "other.example/log")
    foreign = str(stranger.sign(Checkpoint(stranger.origin, 99, bytes(32))))
    with served(exchanged, home=old_home, database=restored) as box:

        def show(note: str) -> object:
            return box.post(wire.CHECKPOINT, note.encode(), exchanged.lab.sync).json().get("code")

        assert show(foreign) == "foreign_checkpoint"
        assert number(restored, "SELECT count(*) FROM unproven_checkpoints") == 0
        assert show(newest) == "foreign_checkpoint"
        assert show(rows(exchanged.database, "SELECT note FROM checkpoints WHERE tree_size = 4")[0][0])
    assert rows(restored, "SELECT tree_size FROM unproven_checkpoints") == [(5,)]
    signer = f"{exchanged.second.origin}+{exchanged.second.log_verifier.key_id.hex()}"

    def resumed(*options: str) -> str:
        capsys.readouterr()
        operate("resume", *options, *where)
        return capsys.readouterr().out

    assert f"5  UNKNOWN Aurora: signed by {signer}, a key that is not here" in resumed()
    claims = json.loads(resumed("--json"))["known"]
    assert claims[-1] == {"who": "Aurora", "size": 5, "holds": False, "unknown_key": signer}
    with pytest.raises(HubError, match=r"Aurora shows a checkpoint of 5 entries by .* copy keys/") as refused:
        operate("resume", "--confirm", *where)
    assert refused.value.code == "unknown_log_key"
    assert halted(restored) == [("restored",)]
    assert differences(restored) == []
    # With the keys it is known for what it is.
    shutil.copytree(exchanged.home / "keys", old_home / "keys")
    assert "5  AHEAD   Aurora" in resumed()
    with pytest.raises(HubError, match="does not extend the 5") as behind:
        operate("resume", "--confirm", "--despite-unknown-keys", *where)
    assert behind.value.code == "log_behind"
    # Without, the operator may take the admins' word that there was no exchange.
    shutil.rmtree(old_home / "keys")
    operate("resume", "--confirm", "--despite-unknown-keys", *where)
    assert halted(restored) == []
    assert number(restored, "SELECT count(*) FROM unproven_checkpoints") == 0
    with served(exchanged, home=old_home, database=restored) as box:
        shown = box.post(wire.CHECKPOINT, newest.encode(), exchanged.lab.sync)
        assert code_of(shown) == "foreign_checkpoint"
    assert number(restored, "SELECT count(*) FROM unproven_checkpoints") == 0


def restored_without_keys(exchanged: Exchanged, backup: Path, new: Path, restored: str) -> HubIdentity:
    """Restore into a new home, with all of the log's keys lost; gives the pair made there, new to the log."""
    operate("backup", backup, "--database-url", exchanged.database)
    third = make_further(new, exchanged.first.origin)
    operate("restore", backup, "--home", new, "--database-url", restored)
    operate("resume", "--confirm", "--home", new, "--database-url", restored)
    return third


def test_a_backup_comes_back_although_the_keys_are_lost(
    exchanged: Exchanged, new_database: Callable[[], str], tmp_path: Path
) -> None:
    new, restored = tmp_path / "new", new_database()
    third = restored_without_keys(exchanged, tmp_path / "backup", new, restored)
    with served(exchanged, home=new, database=restored) as box:
        box.exchange_keys(third)
        assert served_checkpoint(box).size == 6
    assert differences(restored) == []


def test_a_process_that_is_only_probed_hears_of_the_exchange(
    exchanged: Exchanged, new_database: Callable[[], str], tmp_path: Path
) -> None:
    """A load balancer sends nothing but probes to a process that is not ready."""
    new, restored = tmp_path / "new", new_database()
    third = restored_without_keys(exchanged, tmp_path / "backup", new, restored)
    with (
        served(exchanged, home=new, database=restored) as box,
        served(exchanged, home=new, database=restored) as probed,
    ):

        def is_ready() -> bool:
            return httpx.get(probed.hub.url + wire.READY, timeout=30).status_code == 200

        assert not is_ready()
        box.exchange_keys(third)
        wait_until(is_ready, "it does not become ready")


# -- the operator's command ----------------------------------------------------------------------------------------


def test_where_the_card_cannot_be_written_no_keys_are_made(tmp_path: Path) -> None:
    home = tmp_path / "hub"
    make_identity(home)
    with pytest.raises(HubError, match="no keys were made"):
        operate("next-keys", "--home", home, "-o", tmp_path / "nowhere" / "card.json")
    assert not (home / "keys").exists()
    with pytest.raises(IdentityError):
        operate("next-keys", "--home", tmp_path / "another", "-o", tmp_path / "card.json")
    assert not (tmp_path / "card.json").exists()


def test_next_keys_are_private_and_come_with_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, card = tmp_path / "hub", tmp_path / "card.json"
    first = make_identity(home)
    operate("next-keys", "--home", home, "-o", card, "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["card"] == json.loads(card.read_text())
    assert printed["card"]["origin"] == first.origin
    (folder,) = (home / "keys").iterdir()
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "log-key.pem": 0o600,
        "timestamp-key.pem": 0o600,
    }
    assert (folder.stat().st_mode | folder.parent.stat().st_mode) & 0o777 == 0o700
    assert "PRIVATE" not in card.read_text()
    operate("identity", "--home", home, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["log_key"] == first.public.log_key
    assert [pair["log_key"] for pair in shown["further"]] == [printed["card"]["log_key"]]
    assert (home / shown["further"][0]["folder"] / "log-key.pem").exists()


def test_next_keys_of_another_name_are_not_made(tmp_path: Path) -> None:
    make_identity(tmp_path / "hub")
    for home, origin in ((tmp_path / "hub", "another.example/log"), (tmp_path / "none", None)):
        with pytest.raises(IdentityError):
            make_further(home, origin)
        assert not (home / "keys").exists()

"""Processes beside may save time; what is believed, and what is refused and why, is the same without it."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest

from member_client.sync import examiner
from member_client.sync.batches import Stretch
from member_client.sync.examiner import Examiner, PlainRecord
from member_client.sync.examining import Examination, Examined, Keys, Opened, opened
from member_client.sync.judged import listing_of
from sharing_protocol import envelope, statements
from sharing_protocol.admission import claim_of
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Fault, ProtocolError
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import Pattern
from sharing_protocol.tiles import encode_bundle
from tests.member_client.follower import Lab, entries_of, many_patterns
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import (
    AURORA,
    CIRRUS,
    FORUM,
    ForumLog,
    admit_body,
    forum_of_two_labs,
    identifier,
    key,
    lab_keys,
    pattern_body,
    record_reference,
    sighting_body,
    signed,
)


@pytest.fixture
def log() -> ForumLog:
    return many_patterns(forum_of_two_labs(), 40)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sync has processes of its own, started anew, and waits for them, however short it is."""
    is_ready = Examiner.is_ready

    def is_ready_at_last(self: Examiner) -> bool:
        _wait_until(lambda: is_ready(self))
        return True

    monkeypatch.setattr(Examiner, "is_ready", is_ready_at_last)
    monkeypatch.setattr(examiner, "MIN_ENTRIES", 0)
    monkeypatch.setattr(examiner, "_may_fork", lambda: False)  # a runner of tests has threads or not
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def own_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if examiner.__name__ in child.cmdline()]


def doubtful_entries(log: ForumLog) -> list[bytes]:
    """What no honest hub lets in, each for another reason."""
    good = log.entries[-1]
    forged = Envelope(good.payload, good.payload_type, (Signature(good.signatures[0].key_id, bytes(64)),))
    document = log.next("pattern", identifier("pattern", 0x9000), AURORA, pattern_body())
    half_pair = json.dumps(document).replace('"title": "', '"title": "\\ud83d', 1).encode()
    twice = json.dumps(document)[:-1].encode() + b',"schema":1}'
    too_deep = json.dumps({**document, "body": json.loads("[" * 40 + "]" * 40)}).encode()
    later = json.dumps({**document, "schema": 2}).encode()
    return [
        b"{}",
        b"\xff\xfe",
        good.encode() + b"\n",
        forged.encode(),
        signed(document, "Aurora analyst", "Boreal analyst").encode(),
        signed(document, "Nobody").encode(),
        signed({**document, "confidence": 1.5}, "Aurora analyst").encode(),
        *(envelope.sign(text, [key("Aurora analyst")]).encode() for text in (half_pair, twice, too_deep, later, b"1")),
    ]


def outcome(examined: Examined, keys: Keys) -> list[object]:
    """Everything that a judge can learn from it, as if no record had been found plain elsewhere."""
    return [
        learnt(opened(entry) if isinstance(found, PlainRecord) else found, keys)
        for entry, found in zip(examined.stretch.entries, examined.findings, strict=True)
    ]


def learnt(found: Opened, keys: Keys) -> object:
    one = found.signed
    if not isinstance(one, Envelope):
        return one.code, one.detail
    public = [keys[signature.key_id].public_key for signature in one.signatures if signature.key_id in keys]
    holds = [found.check(known, one, signature) for known in public for signature in one.signatures]
    try:
        return holds, found.read(one)
    except ProtocolError as error:
        return holds, error.code, error.detail


def stretches(entries: list[bytes]) -> Iterator[Stretch]:
    for start in range(0, len(entries), 10):
        some = entries[start : start + 10]
        yield Stretch(start, some, [leaf_hash(entry) for entry in some])


def examined_by_threads(entries: list[bytes], keys: Keys) -> list[list[object]]:
    with ThreadPoolExecutor() as threads:
        return [outcome(one, keys) for one in Examination(threads, None).examine_all(stretches(entries), lambda: keys)]


@pytest.mark.usefixtures("always")
def test_the_processes_find_what_threads_find(log: ForumLog) -> None:
    entries, keys = entries_of(log) + doubtful_entries(log), log.membership.keys
    no_threads = ThreadPoolExecutor()
    no_threads.shutdown()
    with closing(Examiner()) as process:
        found = [*Examination(no_threads, process).examine_all(stretches(entries), lambda: keys)]
    assert [outcome(one, keys) for one in found] == examined_by_threads(entries, keys)
    assert [one.stretch for one in found] == [*stretches(entries)]


@pytest.mark.usefixtures("always")
def test_what_is_plain_for_the_process_is_so_for_whoever_judges(log: ForumLog) -> None:
    """Patterns that stand alone are; what is doubtful, or rests on more than its author's key, is opened here."""
    head = log.head(identifier("pattern", 0x1000))
    log.say("sighting", identifier("sighting", 1), AURORA, sighting_body(record_reference(head)), ["Aurora analyst"])
    log.say("pattern", identifier("pattern", 0x1000), AURORA, pattern_body(title="Newer"), ["Aurora analyst"])
    genuine = entries_of(log)
    entries, keys = genuine + doubtful_entries(log), log.membership.keys
    with closing(Examiner()) as process:
        assert process.is_ready()
        process.ask(entries, [known.public_key.raw for known in keys.values()])
        found = process.answer(entries)
    plain = {entry: one for entry, one in zip(entries, found, strict=True) if isinstance(one, PlainRecord)}
    assert set(plain) <= set(genuine)
    assert len(plain) == 41
    for entry, one in plain.items():
        signed = envelope.parse(entry)
        statement, signer = statements.parse(signed.payload), signed.signatures[0].key_id
        assert isinstance(statement, Pattern)
        assert keys[signer].public_key.verifies(signed.signed_message, signed.signatures[0].value)
        assert (one.claim, one.listing) == (claim_of(statement, signer), listing_of(statement, signer))


@pytest.mark.parametrize("parent", [True, False])
@pytest.mark.usefixtures("always")
def test_a_process_that_dies_is_done_without(log: ForumLog, parent: bool) -> None:
    entries, keys = entries_of(log), log.membership.keys

    def keys_until_it_dies() -> Keys:
        keys_wanted.append(keys)
        if len(keys_wanted) == 3:
            [first] = own_processes()
            (first if parent else first.children()[0]).kill()
        return keys

    keys_wanted: list[Keys] = []
    with ThreadPoolExecutor() as threads, closing(Examiner()) as process:
        found = [*Examination(threads, process).examine_all(stretches(entries), keys_until_it_dies)]
    assert [outcome(one, keys) for one in found] == examined_by_threads(entries, keys)
    assert len(found) > 3


@pytest.mark.usefixtures("always")
def test_a_store_is_the_same_with_and_without(tmp_path: Path, log: ForumLog, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = entries_of(log) + doubtful_entries(log) * 30
    with LyingHub(entries) as hub:
        helped = Lab(tmp_path / "helped", hub, log.fingerprint)
        report = helped.sync(bundles_per_batch=1)
        assert own_processes() == []
        monkeypatch.setattr(examiner, "MIN_ENTRIES", 10**9)
        alone = Lab(tmp_path / "alone", hub, log.fingerprint)
        assert alone.sync(bundles_per_batch=1).counts == report.counts
    assert report.counts["rejected"] > 100
    assert helped.contents() == alone.contents()


@pytest.mark.usefixtures("always")
def test_at_first_contact_a_key_counts_from_its_registration_on(
    tmp_path: Path, log: ForumLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are looked up ahead, so that a record's signature may be known to hold before its key is anybody's."""
    evil = identifier("member", 0xE)

    def record(number: int, author: str, signer: str) -> bytes:
        return signed(log.next("pattern", identifier("pattern", number), author, pattern_body()), signer).encode()

    def admitted(member: str, name: str, *signers: str) -> bytes:
        body = admit_body(member, name, lab_keys(name))
        return signed(log.next("membership.admit", member, FORUM, body), *signers).encode()

    entries = [
        *entries_of(log),
        record(0x9001, CIRRUS, "Cirrus analyst"),
        admitted(CIRRUS, "Cirrus", "Ada", "Ben"),
        record(0x9002, CIRRUS, "Cirrus analyst"),
        admitted(evil, "Evil", "Evil owner"),
        record(0x9003, evil, "Evil analyst"),
    ]
    with LyingHub(entries) as hub:
        helped = Lab(tmp_path / "helped", hub, log.fingerprint)
        refused = [(entry.index - log.size, entry.code) for entry in helped.sync().refused]
        monkeypatch.setattr(examiner, "MIN_ENTRIES", 10**9)
        alone = Lab(tmp_path / "alone", hub, log.fingerprint)
        alone.sync()
    assert refused == [(0, "unknown_key"), (3, "unknown_key"), (4, "unknown_key")]
    assert helped.contents() == alone.contents()


@pytest.mark.usefixtures("always")
def test_where_no_process_can_start_none_is_needed(
    tmp_path: Path, log: ForumLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with LyingHub(entries_of(log)) as hub:
        assert Lab(tmp_path / "lab", hub, log.fingerprint).sync().cursor == log.size


NONSENSE = {
    "ends": ("ready", "pass"),
    "another greeting": ("steady", "pass"),
    "nothing": ("ready", "there.send_bytes(b'')"),
    "no JSON": ("ready", "there.send_bytes(b'\\xff' * count)"),
    "something else": ("ready", "there.send_bytes(b'true')"),
    "an entry less": ("ready", "there.send_bytes(json.dumps(['11'] * (count - 1)).encode())"),
    "an entry more": ("ready", "there.send_bytes(json.dumps(['11'] * (count + 1)).encode())"),
    "a signature more": ("ready", "there.send_bytes(json.dumps(['111'] * count).encode())"),
    "other items": ("ready", "there.send_bytes(json.dumps([['pattern']] * count).encode())"),
    "numbers": ("ready", "there.send_bytes(json.dumps([11] * count).encode())"),
    "far too much": ("ready", "there.send_bytes(json.dumps(['11' * 10**5] * count).encode())"),
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("greeting", "answer"), NONSENSE.values(), ids=NONSENSE)
def test_a_process_that_answers_nonsense_is_done_without(
    tmp_path: Path, log: ForumLog, monkeypatch: pytest.MonkeyPatch, greeting: str, answer: str
) -> None:
    """It would say of every signature that it holds."""
    entries = [*entries_of(log), *doubtful_entries(log)]
    nonsense = tmp_path / "nonsense"
    nonsense.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "from multiprocessing.connection import Connection, wait\n"
        "sockets = [Connection(int(number)) for number in sys.argv[4:]]\n"
        "for there in sockets:\n"
        f"    there.send_bytes(b'{greeting}')\n"
        "[there] = wait(sockets)\n"
        "there.recv_bytes()\n"
        "count = int.from_bytes(there.recv_bytes()[:2], 'big')\n"
        f"{answer}\n"
    )
    nonsense.chmod(0o700)
    with LyingHub(entries) as hub:
        alone = Lab(tmp_path / "alone", hub, log.fingerprint)
        with monkeypatch.context() as nobody:
            nobody.setattr(examiner, "MIN_ENTRIES", 10**9)
            alone.sync()
        hub.entries = entries_of(log)[:4]
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        lab.sync()  # so that keys are known, and the process is asked from the first bundle on
        hub.entries = entries
        monkeypatch.setattr(sys, "executable", str(nonsense))
        lab.sync()
        assert lab.contents() == alone.contents()


@pytest.mark.usefixtures("always")
def test_a_lie_ends_the_process_too(tmp_path: Path, log: ForumLog) -> None:
    """And leaves this one as it was."""
    before = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()
    with LyingHub(entries_of(log)) as hub:
        lab = Lab(tmp_path / "lab", hub, log.fingerprint)
        lab.sync()
        hub.entries += [b"{}"]
        hub.lie = lambda path, answer: type(answer)(404) if path.startswith("/tile/entries") else answer
        lab.refused_with(Fault.WITHHOLD, "withheld")
    assert own_processes() == []
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()) == before


ASKING = """
import os, signal, sys, threading, time
import psutil
from member_client.sync.examiner import Examiner
from sharing_protocol.tiles import decode_bundle

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
secret = open(sys.executable, "rb")
if sys.argv[1] == "threads":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
asked, keys = bytes.fromhex(sys.stdin.readline()), [bytes.fromhex(key) for key in sys.argv[3:]]
entries = decode_bundle(asked, int(sys.argv[2]))
process = Examiner()
for _ in iter(process.is_ready, True):
    time.sleep(0.01)
for _ in range(2):
    process.ask(entries, keys)
print([process.answer(entries) for _ in range(2)])
beside = psutil.Process().children(recursive=True)
print(*(one.pid for one in beside))
print(*(one.cmdline() == psutil.Process().cmdline() for one in beside))
print(*(len(one.net_connections("unix")) == 1 and len(one.open_files()) <= 3 for one in beside), flush=True)
sys.stdin.read()
process.close()
"""


@contextmanager
def asking(threads: str, entries: Sequence[bytes] = (b"{}",), keys: Sequence[bytes] = ()) -> Iterator[Popen[str]]:
    """A program that has these entries looked at and says what was found, and by whom; then it waits to be ended."""
    command = [sys.executable, "-c", ASKING, threads, str(len(entries)), *(one.hex() for one in keys)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdin is not None
        program.stdin.write(f"{encode_bundle(entries).hex()}\n")
        program.stdin.flush()
        yield program


def test_a_fork_finds_what_a_process_started_anew_finds(log: ForumLog) -> None:
    """Nothing of the process that it was forked from is open in it, and none is left behind."""
    entries = entries_of(log) + doubtful_entries(log)
    keys = [known.public_key.raw for known in log.membership.keys.values()]
    found = []
    for threads in ("no threads", "threads"):
        with asking(threads, entries, keys) as program:
            assert program.stdout is not None
            answer, ids, forked, closed = (program.stdout.readline().strip() for _ in range(4))
            beside = [psutil.Process(int(number)) for number in ids.split()]
            program.communicate(timeout=60)
        assert forked == " ".join([str(threads == "no threads" and sys.platform == "linux")] * examiner.PROCESSES)
        assert "True" not in forked or closed == "True True"
        _wait_until_ended(beside)
        found.append(answer)
    assert found[0] == found[1]
    assert found[0].count("PlainRecord") == 2 * 40


INTERRUPTED = """
import multiprocessing, os, signal
from member_client.sync.examiner import Examiner

signal.signal(signal.SIGINT, signal.default_int_handler)
told = []

def at_fork():
    signal.raise_signal(signal.SIGINT)
    told.append("through")

os.register_at_fork(before=at_fork)
try:
    Examiner()
except KeyboardInterrupt:
    print(*told, "interrupted", *multiprocessing.active_children())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks")
def test_an_interruption_waits_until_all_that_is_done_at_a_fork_is_done() -> None:
    """Libraries take locks then, for good if they are broken off."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.split(), done.stderr) == ([*["through"] * examiner.PROCESSES, "interrupted"], "")


@pytest.mark.parametrize("threads", ["no threads", "threads"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_with_whoever_asks_them(threads: str, ending: signal.Signals) -> None:
    with asking(threads) as program:
        assert program.stdout is not None
        program.stdout.readline()
        started = [psutil.Process(int(number)) for number in program.stdout.readline().split()]
        assert len(started) == examiner.PROCESSES
        program.send_signal(ending)
        program.wait(30)
    _wait_until_ended(started)


def _wait_until_ended(processes: Sequence[psutil.Process]) -> None:
    _wait_until(lambda: all(map(_has_ended, processes)))


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)

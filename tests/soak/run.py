"""A day of a forum in miniature: eight labs at two hubs on one database, and faults at random (`make soak`).

    python tests/soak/run.py --operations 200000 --seed 1

The labs publish, revise, withdraw, report, repeat themselves, try what is refused, read and sync, all at once.
Meanwhile one hub is killed again and again, the other is frozen for a moment or loses its database connections, and
answers get lost on their way. In the end: every acknowledged record is where its receipt says; `check` finds nothing;
the stores of all labs are equal; and the hub that was never killed has not grown. It prints what it saw, and exits
with 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

from hub.database.embedded import EmbeddedPostgres, destroy
from member_client.errors import HubUnreachable, RefusedByHub
from member_client.hub_connection import HubConnection
from member_client.sync import evidence
from member_client.sync.following import follow
from member_client.sync.store import Store
from sharing_protocol import wire
from sharing_protocol.envelope import Envelope
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.statements import new_id
from sharing_protocol.trust import check_receipt
from tests.forum import (
    Document,
    ForumInABox,
    Lab,
    key,
    pattern_body,
    sighting_body,
    signed,
    withdrawal_body,
)
from tests.hub.hub_process import HubProcess, check_command, hub_processes
from tests.hub.persistent_writers import Acknowledged, assert_all_kept
from tests.hub.stored_log import connect
from tests.member_client.follower import dump

LABS = ("Aurora", "Boreal", "Cirrus", "Delta", "Ember", "Fjord", "Glacier", "Halo")
PATIENCE_SECONDS = 120.0
GROWTH = 1.15
"""How much larger the hub may be in the last quarter than in the second: caches fill, leaks go on."""


class SoakFailed(Exception):
    """Something did not hold."""


@dataclass
class Tally:
    """What all workers did."""

    wanted: int
    done: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        return self.done.total()

    def count(self, operation: str) -> None:
        with self.lock:
            self.done[operation] += 1

    def trouble(self, what: str) -> None:
        with self.lock:
            self.troubles[what] += 1


class Worker:
    """One lab: an analyst who writes and a scheduler who syncs."""

    def __init__(
        self, lab: Lab, box: ForumInABox, hubs: Sequence[HubProcess], folder: Path, tally: Tally, seed: int
    ) -> None:
        self.lab, self._box, self._hubs, self._tally = lab, box, hubs, tally
        self._chance = random.Random(f"{seed} {lab.name}")
        self._folder = folder / lab.name
        self._folder.mkdir()
        self.store_path = self._folder / "store.sqlite"
        self._client: httpx.Client | None = None
        self._heads: dict[str, tuple[int, str]] = {}
        self._patterns: list[str] = []
        self._sent: list[Envelope] = []

    def run(self) -> None:
        """Work until all that is wanted is done."""
        operations: dict[Callable[[], None], int] = {
            self._publish: 10,
            self._report: 15,
            self._revise: 10,
            self._withdraw: 2,
            self._repeat: 5,
            self._overreach: 5,
            self._read: 43,
            self.sync: 10,
        }
        with self._box.client(self.lab.analyst) as self._client:
            self._publish()
            while self._tally.total < self._tally.wanted:
                [operation] = self._chance.choices([*operations], [*operations.values()])
                operation()

    # -- what an analyst does -------------------------------------------------------------------------------------

    def _publish(self) -> None:
        record = new_id("pattern", uuid4())
        self._say("pattern", record, pattern_body(f"{self.lab.name} {len(self._patterns)}"))
        self._patterns.append(record)

    def _report(self) -> None:
        self._say("sighting", new_id("sighting", uuid4()), sighting_body(self._reference(self._any())))

    def _revise(self) -> None:
        record = self._any()
        self._say("pattern", record, pattern_body(f"{self.lab.name}, revised", confidence=self._chance.randrange(101)))

    def _withdraw(self) -> None:
        if len(self._patterns) > 1:
            record = self._patterns.pop(self._chance.randrange(len(self._patterns)))
            self._say("withdrawal", new_id("withdrawal", uuid4()), withdrawal_body(self._reference(record)))

    def _repeat(self) -> None:
        made = self._chance.choice(self._sent[-50:])
        receipt = self._bring_home(made).receipt
        if not receipt.already_logged:
            raise SoakFailed("an entry that was acknowledged is logged a second time")
        self._tally.count("repeated")

    def _overreach(self) -> None:
        """A version that is not its turn: refused, every time."""
        record = self._any()
        version, entry = self._heads[record]
        made = self._made("pattern", record, pattern_body("Too early"), version=version + 2, previous=entry)
        response = self._send("POST", wire.ENTRIES, made.encode())
        if response.status_code != 409:
            raise SoakFailed(f"a version gap was answered {response.status_code}: {response.text}")
        self._tally.count("refused")

    def _read(self) -> None:
        target = self._chance.choice(
            ("/records?limit=20", f"/records?author={self.lab.id}&limit=5", f"/records/{self._any()}", "/members")
        )
        response = self._send("GET", target)
        if response.status_code != 200:
            raise SoakFailed(f"{target} was answered {response.status_code}: {response.text}")
        self._tally.count("read")

    # -- what a scheduler does ------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Once, against whichever hub answers."""
        assert self._box.fingerprint is not None
        store = Store(self.store_path)
        try:
            self._sync(store, self._box.fingerprint)
        finally:
            store.close()

    def _sync(self, store: Store, fingerprint: str) -> None:
        for hub in self._taking_turns():
            try:
                with HubConnection(hub.url, key(self.lab.sync), attempts=1) as connection:
                    report = follow(
                        store,
                        connection,
                        fingerprint,
                        max_age=900,
                        clock=time.time,
                        keep_evidence=lambda misbehaviour, record: evidence.keep(
                            self._folder / "evidence", misbehaviour, fingerprint, record, "", time.time()
                        ),
                    )
            except (HubUnreachable, RefusedByHub) as error:
                if isinstance(error, RefusedByHub) and error.problem.status < 500:
                    raise SoakFailed(f"a sync was refused: {error}") from error
                self._tally.trouble("a sync met a hub that was away")
                continue
            if report.refused:
                raise SoakFailed(f"{self.lab.name} rejects {report.refused}")
            self._tally.count("synced")
            return

    # -- sending --------------------------------------------------------------------------------------------------

    def _any(self) -> str:
        return self._chance.choice(self._patterns)

    def _reference(self, record: str) -> Document:
        version, entry = self._heads[record]
        return {"id": record, "version": version, "entry": entry}

    def _made(self, kind: str, record: str, body: Document, **changes: object) -> Envelope:
        version, entry = self._heads.get(record, (0, None))
        turn = {"version": version + 1, "previous": entry, **changes}
        return signed(self._box.statement(kind, record, self.lab.id, body, **turn), self.lab.analyst)

    def _say(self, kind: str, record: str, body: Document) -> None:
        made = self._made(kind, record, body)
        acknowledged = self._bring_home(made)
        self._heads[record] = (self._heads.get(record, (0, None))[0] + 1, leaf_hash(made.encode()).hex())
        self._sent.append(made)
        with self._tally.lock:
            self._tally.acknowledged.append(acknowledged)
        self._tally.count(kind)

    def _bring_home(self, made: Envelope) -> Acknowledged:
        begun = time.monotonic()
        response = self._send("POST", wire.ENTRIES, made.encode())
        if response.status_code not in (200, 201):
            raise SoakFailed(f"a submission was answered {response.status_code}: {response.text}")
        receipt = wire.Receipt.model_validate_json(response.content)
        check_receipt(receipt, made.encode(), self._box.hub.identity.public)
        now = time.monotonic()
        return Acknowledged(made, receipt, now - begun, now, 0)

    def _send(self, method: str, target: str, content: bytes = b"") -> httpx.Response:
        """Send until somebody answers; sometimes nobody listens for the answer."""
        assert self._client is not None
        headers = {"content-type": wire.ENVELOPE_MEDIA_TYPE} if content else {}
        for hub in self._taking_turns():
            timeout = 0.005 if self._chance.random() < 0.005 else 30.0
            try:
                response = self._client.request(
                    method, hub.url + target, content=content or None, headers=headers, timeout=timeout
                )
            except httpx.TransportError:
                self._tally.trouble("an answer was lost")
                continue
            if response.status_code in (408, 429, 503):
                self._tally.trouble(f"answered {response.status_code}")
                continue
            return response
        raise AssertionError("unreachable")

    def _taking_turns(self) -> Iterator[HubProcess]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        for number in itertools.count(self._chance.randrange(len(self._hubs))):
            if time.monotonic() > deadline:
                raise SoakFailed(f"{self.lab.name} got no answer for {PATIENCE_SECONDS:.0f} s")
            yield self._hubs[number % len(self._hubs)]
            time.sleep(0.05)


def make_trouble(hubs: Sequence[HubProcess], database_url: str, tally: Tally, stop: threading.Event, seed: int) -> None:
    """Kill the second hub, freeze the first, cut connections to the database, one at a time, until told to stop."""
    chance = random.Random(seed)
    while not stop.wait(chance.uniform(5, 20)):
        try:
            tally.trouble(_make_one(chance, hubs, database_url, stop))
        except BaseException:
            tally.wanted = 0  # without troubles the rest would show nothing
            raise


def _make_one(chance: random.Random, hubs: Sequence[HubProcess], database_url: str, stop: threading.Event) -> str:
    trouble = chance.choice(("killed a hub", "froze a hub", "cut the database connections"))
    if trouble == "killed a hub":
        hubs[1].kill()
        hubs[1].start()
        hubs[1].wait_until_ready()
    elif trouble == "froze a hub":
        hubs[0].freeze()
        stop.wait(chance.uniform(0.1, 2))
        hubs[0].thaw()
    else:
        with connect(database_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user"
            )
    return trouble


def watch(process: psutil.Process, tally: Tally, megabytes: list[tuple[int, float]], stop: threading.Event) -> None:
    """Note the memory of the first hub, and tell how far it is."""
    told = time.monotonic()
    while not stop.wait(0.5):
        with suppress(psutil.NoSuchProcess):
            megabytes.append((tally.total, process.memory_info().rss / 2**20))
        if time.monotonic() > told + 30:
            told = time.monotonic()
            print(
                f"  {tally.total:,} of {tally.wanted:,}; the first hub has {megabytes[-1][1]:.0f} MB", file=sys.stderr
            )


def soak(folder: Path, operations: int, seed: int) -> None:
    """Run it.

    Raises:
        SoakFailed, AssertionError: what did not hold.
    """
    tally, megabytes, stop = Tally(operations), list[tuple[int, float]](), threading.Event()
    with EmbeddedPostgres.start(folder / "postgres") as postgres:
        with hub_processes(folder / "home", postgres.url, count=2) as hubs:
            box = hubs[0].found()
            labs = [box.admit(name) for name in LABS]
            workers = [Worker(lab, box, hubs, folder, tally, seed) for lab in labs]
            begun = time.monotonic()
            with ThreadPoolExecutor(len(workers) + 2) as threads:
                others = [
                    threads.submit(make_trouble, hubs, postgres.url, tally, stop, seed),
                    threads.submit(watch, _process_of(hubs[0]), tally, megabytes, stop),
                ]
                working = [threads.submit(worker.run) for worker in workers]
                try:
                    for one in working:
                        one.result()
                finally:
                    tally.wanted = 0
                    stop.set()
                for one in others:
                    one.result()
                took = time.monotonic() - begun
                for worker in workers:
                    worker.sync()
            _report(tally, took)
            _check_stores(workers)
            if "no difference" not in check_command(hubs[0]):
                raise SoakFailed("`stillwatch-hub check` finds differences")
        assert_all_kept(postgres.url, box.hub.identity, tally.acknowledged)
        _check_memory(megabytes, operations)
    print("every acknowledged record is kept, `check` finds no difference, all stores are equal")


def _process_of(hub: HubProcess) -> psutil.Process:
    assert hub.process_id is not None
    return psutil.Process(hub.process_id)


def _report(tally: Tally, took: float) -> None:
    print(f"{tally.total:,} operations by {len(LABS)} labs in {took:.0f} s ({tally.total / took:.0f}/s)")
    for name, counts in (("done", tally.done), ("trouble", tally.troubles)):
        print(f"  {name}: " + ", ".join(f"{what} {count:,}" for what, count in counts.most_common()))


def _check_stores(workers: Sequence[Worker]) -> None:
    first, *others = (_without_receipts(worker.store_path) for worker in workers)
    if not first["entries"] or any(other != first for other in others):
        raise SoakFailed("the labs' stores are not equal")
    print(f"  each store: {len(first['entries']):,} entries")


def _without_receipts(path: Path) -> dict[str, list[tuple[object, ...]]]:
    found = dump(path)
    found.pop("receipts", None)
    return found


def _check_memory(megabytes: Sequence[tuple[int, float]], operations: int) -> None:
    second = [size for done, size in megabytes if operations / 4 <= done < operations / 2]
    last = [size for done, size in megabytes if done >= operations * 3 / 4]
    if not second or not last:
        raise SoakFailed("too short to say anything of memory")
    before, after = statistics.median(second), statistics.median(last)
    print(f"  memory of the hub that was never killed: {before:.0f} MB in the second quarter, {after:.0f} in the last")
    if after > before * GROWTH:
        raise SoakFailed("the hub grows")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--operations", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="stillwatch-soak-") as name:
        folder = Path(name)
        try:
            soak(folder, options.operations, options.seed)
        except (SoakFailed, AssertionError) as failure:
            print(f"FAILED: {failure}", file=sys.stderr)
            sys.exit(1)
        finally:
            destroy(folder / "postgres")


if __name__ == "__main__":
    main()

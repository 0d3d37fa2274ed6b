"""Writers that do not give up: each sends a record until somebody acknowledges it, to whichever hub answers."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from hub.identity import HubIdentity
from sharing_protocol import notes, wire
from sharing_protocol.checkpoints import parse_text
from sharing_protocol.envelope import Envelope
from sharing_protocol.merkle import CompactRange, leaf_hash
from sharing_protocol.trust import check_receipt
from tests.forum import ForumInABox, Lab, pattern_body, sighting_body
from tests.hub.hub_process import HubProcess
from tests.hub.stored_log import rows

PATIENCE_SECONDS = 120.0
ANSWER_SECONDS = 15.0
CONTENT_TYPE = {"content-type": wire.ENVELOPE_MEDIA_TYPE}


@dataclass(frozen=True)
class Acknowledged:
    """A record with the receipt that its writer got, and verified.

    Attributes:
        seconds: from the first time it was sent to the receipt.
        at: when the receipt was there, on the monotonic clock.
        broken: how often the connection broke, or was refused, before.
    """

    envelope: Envelope
    receipt: wire.Receipt
    seconds: float
    at: float
    broken: int


class PersistentWriters:
    """Threads that publish and revise sightings of one lab's pattern, one after another, until they are stopped."""

    def __init__(self, box: ForumInABox, lab: Lab, hubs: Sequence[HubProcess], count: int = 32) -> None:
        self._box = box
        self._lab = lab
        self._hubs = hubs
        self._pattern = box.reference(box.publish(lab, pattern_body())[0])
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"writer {number}") for number in range(count)
        ]
        self.acknowledged: list[Acknowledged] = []

    def __enter__(self) -> PersistentWriters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let each bring its record home; fail if one could not."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)
        if self._failures:
            raise self._failures[0]

    def wait_for(self, more: int) -> None:
        """Return at the moment when so many more records are acknowledged."""
        with self._news:
            wanted = len(self.acknowledged) + more
            got_on = self._news.wait_for(lambda: self._failures or len(self.acknowledged) >= wanted, PATIENCE_SECONDS)
        if self._failures:
            raise self._failures[0]
        assert got_on, "the writers do not get on"

    @property
    def longest_pause(self) -> float:
        """Seconds in which nobody got a receipt."""
        times = sorted(one.at for one in self.acknowledged)
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def _run(self, number: int) -> None:
        try:
            with self._box.client(self._lab.analyst) as client:
                while not self._stopping.is_set():
                    first = self._box.record(self._lab, sighting_body(self._pattern))
                    self._bring_home(client, first, number)
                    record = json.loads(first.payload)["id"]
                    entry = leaf_hash(first.encode()).hex()
                    revised = self._box.record(
                        self._lab, sighting_body(self._pattern), record, version=2, previous=entry
                    )
                    self._bring_home(client, revised, number + 1)
        except BaseException as failure:  # noqa: BLE001 - told to whoever waits
            with self._news:
                self._failures.append(failure)
                self._news.notify_all()

    def _bring_home(self, client: httpx.Client, made: Envelope, hub: int) -> None:
        begun, broken = time.monotonic(), 0
        while time.monotonic() < begun + PATIENCE_SECONDS:
            try:
                url = self._hubs[hub % len(self._hubs)].url
                response = client.post(
                    url + wire.ENTRIES, content=made.encode(), headers=CONTENT_TYPE, timeout=ANSWER_SECONDS
                )
            except httpx.TransportError:
                broken += 1
                hub += 1
                time.sleep(0.02 if broken < len(self._hubs) else 0.3)  # threads that spin would slow the hub's start
                continue
            if response.status_code == 503:
                hub += 1
                time.sleep(0.1)
                continue
            assert response.status_code in (200, 201), response.text
            receipt = wire.Receipt.model_validate_json(response.content)
            check_receipt(receipt, made.encode(), self._box.hub.identity.public)
            now = time.monotonic()
            with self._news:
                self.acknowledged.append(Acknowledged(made, receipt, now - begun, now, broken))
                self._news.notify_all()
            return
        raise AssertionError(f"no hub took the record within {PATIENCE_SECONDS} s")


def assert_all_kept(database_url: str, identity: HubIdentity, acknowledged: Sequence[Acknowledged]) -> None:
    """Every record is where its receipt says, in the tree whose root its receipt proves; no gap, nothing twice."""
    entries = rows(database_url, "SELECT index, envelope, payload_sha256 FROM log_entries ORDER BY index")
    assert [index for index, _, _ in entries] == list(range(len(entries)))
    assert rows(database_url, "SELECT tree_size FROM log_head") == [(len(entries),)]
    assert len({payload for _, _, payload in entries}) == len(entries)
    tree, roots = CompactRange(), {}
    for index, envelope, _ in entries:
        tree.append(leaf_hash(envelope))
        roots[index + 1] = tree.root()
    assert len({one.receipt.index for one in acknowledged}) == len(acknowledged)
    for one in acknowledged:
        assert one.receipt.index < len(entries), "an acknowledged record is lost"
        assert entries[one.receipt.index][1] == one.envelope.encode()
        note = notes.parse(one.receipt.checkpoint.encode())
        assert notes.verify(note, [identity.log_verifier])
        signed = parse_text(note.text)
        assert roots[signed.size] == signed.root


def assert_same_index_again(box: ForumInABox, lab: Lab, hub: HubProcess, acknowledged: Sequence[Acknowledged]) -> None:
    """Who sends the same bytes once more is told the same index."""
    with box.client(lab.analyst) as client:
        for one in acknowledged:
            response = client.post(hub.url + wire.ENTRIES, content=one.envelope.encode(), headers=CONTENT_TYPE)
            assert response.status_code == 200, response.text
            again = wire.Receipt.model_validate_json(response.content)
            assert (again.index, again.already_logged) == (one.receipt.index, True)

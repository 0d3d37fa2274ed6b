"""Many submitters at once, at one hub and at several on one database: one log, one order, no gap, no doubled entry."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from hub import sequencer
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import notes, wire
from sharing_protocol.checkpoints import parse_text
from sharing_protocol.envelope import Envelope
from sharing_protocol.trust import check_receipt
from tests.forum import (
    ForumInABox,
    Lab,
    RunningHub,
    code_of,
    key,
    pattern_body,
    running_hub,
    sighting_body,
    sql,
    withdrawal_body,
)
from tests.hub.lone_sequencer import candidate, sequencing
from tests.hub.scrape import read
from tests.hub.stored_log import differences, held, number, rows, wait_until, waiting_for_log

NONCES = "SELECT count(*) FROM request_nonces"
CHECKPOINTS = "SELECT count(*) FROM checkpoints"


@pytest.fixture
def lab(box: ForumInABox) -> Lab:
    return box.admit("Aurora")


@pytest.fixture
def second_hub(hub: RunningHub) -> Iterator[RunningHub]:
    """Another hub process's worth of hub on the same database."""
    with running_hub(hub.database_url, hub.identity) as running:
        yield running


def at(box: ForumInABox, hub: RunningHub) -> ForumInABox:
    """The same forum, reached through another hub."""
    return ForumInABox(hub, box.admins, box.threshold, box.id, box.fingerprint, box.heads)


def send_at_once(sending: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Do all of this in as many threads, at the same moment."""
    together = threading.Barrier(len(sending))

    def send(one: Callable[[], httpx.Response]) -> httpx.Response:
        together.wait(30)
        return one()

    with ThreadPoolExecutor(len(sending)) as threads:
        return list(threads.map(send, sending))


def submit_while_held(box: ForumInABox, lab: Lab, made: Sequence[Envelope]) -> list[httpx.Response]:
    """Send envelopes while another process holds the log, so that they wait together."""
    database_url = box.hub.database_url
    before = number(database_url, NONCES)
    with ThreadPoolExecutor(len(made)) as threads:
        with held(database_url):
            answers = [threads.submit(box.submit, one, lab.analyst) for one in made]
            wait_until(lambda: number(database_url, NONCES) == before + len(made), "all requests are being served")
        return [answer.result() for answer in answers]


def receipts(box: ForumInABox, made: Sequence[Envelope], responses: Sequence[httpx.Response]) -> list[wire.Receipt]:
    """The receipts, each of which proves its entry against the checkpoint that came with it."""
    found = []
    for envelope, response in zip(made, responses, strict=True):
        assert response.status_code in (200, 201), response.text
        receipt = wire.Receipt.model_validate_json(response.content)
        assert receipt.already_logged == (response.status_code == 200)
        check_receipt(receipt, envelope.encode(), box.hub.identity.public)
        found.append(receipt)
    return found


def is_listening(hub: RunningHub) -> bool:
    try:
        httpx.get(hub.url + wire.HEALTH)
    except httpx.ConnectError:
        return False
    return True


def size_signed_for(receipt: wire.Receipt) -> int:
    return parse_text(notes.parse(receipt.checkpoint.encode()).text).size


# -- one hub ---------------------------------------------------------------------------------------------------


def test_submissions_that_wait_together_share_transactions_and_checkpoints(box: ForumInABox, lab: Lab) -> None:
    made = [box.record(lab, pattern_body(f"Pattern {number}")) for number in range(48)]
    size, checkpoints = box.size(), number(box.hub.database_url, CHECKPOINTS)
    got = receipts(box, made, submit_while_held(box, lab, made))
    assert sorted(receipt.index for receipt in got) == list(range(size, size + len(made)))
    assert not any(receipt.already_logged for receipt in got)
    assert number(box.hub.database_url, CHECKPOINTS) - checkpoints < len(made)
    shared = {size_signed_for(receipt) for receipt in got}
    assert len(shared) < len(made)
    assert max(shared) == size + len(made) == box.size()
    stored = dict(rows(box.hub.database_url, "SELECT index, envelope FROM log_entries"))
    assert {receipt.index: envelope.encode() for receipt, envelope in zip(got, made, strict=True)} == {
        index: entry for index, entry in stored.items() if index >= size
    }
    assert differences(box.hub.database_url) == []


def test_an_entry_sent_by_sixteen_at_once_is_logged_once(box: ForumInABox, lab: Lab) -> None:
    made = box.record(lab, pattern_body())
    size = box.size()
    responses = send_at_once([partial(box.submit, made, lab.analyst)] * 16)
    assert {receipt.index for receipt in receipts(box, [made] * 16, responses)} == {size}
    assert sorted(response.status_code for response in responses) == [200] * 15 + [201]
    assert box.size() == size + 1


def test_of_two_second_versions_at_once_one_is_refused(box: ForumInABox, lab: Lab) -> None:
    for round_number in range(4):
        record, _ = box.publish(lab, pattern_body(f"Pattern {round_number}"))
        rivals = [box.record(lab, pattern_body(f"Rival {name} {round_number}"), record) for name in "ab"]
        size = box.size()
        responses = submit_while_held(box, lab, rivals)
        assert sorted(response.status_code for response in responses) == [201, 409]
        (refused,) = (response for response in responses if response.status_code == 409)
        assert code_of(refused) == "version_conflict"
        assert box.size() == size + 1
        stored = rows(box.hub.database_url, f"SELECT count(*) FROM records WHERE id = '{record}' AND version = 2")
        assert stored == [(1,)]
    assert differences(box.hub.database_url) == []


def test_a_refused_candidate_harms_no_other_in_its_batch(box: ForumInABox, lab: Lab) -> None:
    record, _ = box.publish(lab, pattern_body())
    unknown = {"id": record, "version": 7, "entry": "00" * 32}
    bad = [
        box.record(lab, pattern_body("A gap"), record, version=9),
        box.record(lab, sighting_body(unknown)),
        box.record(lab, withdrawal_body(unknown)),
    ]
    good = [box.record(lab, pattern_body(f"Pattern {number}")) for number in range(13)]
    mixed = [*good[:4], bad[0], *good[4:8], bad[1], bad[2], *good[8:]]
    size = box.size()
    responses = dict(zip(map(id, mixed), submit_while_held(box, lab, mixed), strict=True))
    got = receipts(box, good, [responses[id(one)] for one in good])
    assert sorted(receipt.index for receipt in got) == list(range(size, size + len(good)))
    assert len({size_signed_for(receipt) for receipt in got}) < len(good), "some shared a batch"
    assert [code_of(responses[id(one)]) for one in bad] == ["version_gap", "unknown_record", "previous_mismatch"]
    assert differences(box.hub.database_url) == []


def test_an_entry_that_the_database_refuses_harms_no_other_in_its_batch(box: ForumInABox, lab: Lab) -> None:
    made = [box.record(lab, pattern_body(f"Pattern {number}")) for number in range(12)]
    size, hated = box.size(), made[5].payload_sha256
    with sql(box.hub.database_url) as connection:
        constraint = f"CHECK (payload_sha256 <> '\\x{hated}')"
        connection.execute(f"ALTER TABLE log_entries ADD CONSTRAINT hated {constraint}".encode())
    responses = submit_while_held(box, lab, made)
    refused = responses.pop(5)
    assert refused.status_code == 500, refused.text
    got = receipts(box, made[:5] + made[6:], responses)
    assert sorted(receipt.index for receipt in got) == list(range(size, size + 11))
    assert differences(box.hub.database_url) == []


def test_a_submitter_who_goes_away_is_logged_all_the_same(box: ForumInABox, lab: Lab) -> None:
    made = box.record(lab, pattern_body())
    size = box.size()
    with held(box.hub.database_url), box.client(lab.analyst) as client, pytest.raises(httpx.ReadTimeout):
        client.post(
            wire.ENTRIES, content=made.encode(), headers={"content-type": wire.ENVELOPE_MEDIA_TYPE}, timeout=0.5
        )
    wait_until(lambda: box.size() == size + 1, "the entry is in the log")
    (receipt,) = receipts(box, [made], [box.submit(made, lab.analyst)])
    assert (receipt.index, receipt.already_logged) == (size, True)


def test_a_hub_that_is_stopped_answers_those_who_wait(database: str, hub_identity: HubIdentity) -> None:
    with ThreadPoolExecutor(13) as threads, contextlib.ExitStack() as running:
        hub = running.enter_context(running_hub(database, hub_identity, settings=HubSettings(metrics_port=0)))
        box = ForumInABox(hub)
        box.found()
        lab = box.admit("Aurora")
        first, *others = made = [box.record(lab, pattern_body(f"Pattern {number}")) for number in range(12)]
        with held(database):
            answers = [threads.submit(box.submit, first, lab.analyst)]
            wait_until(lambda: waiting_for_log(database) == 1, "a batch of one waits")
            answers += [threads.submit(box.submit, one, lab.analyst) for one in others]
            wait_until(lambda: read(hub, "queue_length") == len(others), "the others wait for the next batch")
            stopped = threads.submit(running.close)
            wait_until(lambda: not is_listening(hub), "the hub takes no more requests")
        receipts(box, made, [answer.result() for answer in answers])
        stopped.result()
    assert differences(database) == []


# -- two hubs on one database ----------------------------------------------------------------------------------


def test_two_hubs_extend_one_log(box: ForumInABox, lab: Lab, second_hub: RunningHub) -> None:
    hubs = [box, at(box, second_hub)]
    size = box.size()
    writers = 16
    made = [[box.record(lab, pattern_body(f"Pattern {w} {n}")) for n in range(4)] for w in range(writers)]
    contested = box.record(lab, pattern_body("Sent to both hubs"))
    together = threading.Barrier(writers)

    def write(writer: int) -> list[httpx.Response]:
        together.wait(30)
        return [hubs[(writer + n) % 2].submit(one, lab.analyst) for n, one in enumerate([*made[writer], contested])]

    with ThreadPoolExecutor(writers) as threads:
        responses = list(threads.map(write, range(writers)))
    got = [receipts(box, [*made[writer], contested], responses[writer]) for writer in range(writers)]
    own = [receipt.index for answers in got for receipt in answers[:-1]]
    everywhere = {answers[-1].index for answers in got}
    assert len(everywhere) == 1
    assert sorted([*own, *everywhere]) == list(range(size, size + writers * 4 + 1))
    assert sum(not answers[-1].already_logged for answers in got) == 1
    assert [one.size() for one in hubs] == [size + writers * 4 + 1] * 2
    assert differences(box.hub.database_url) == []


def test_a_hub_that_starts_while_another_extends_the_log_finds_it_whole(box: ForumInABox, lab: Lab) -> None:
    record, _ = box.publish(lab, pattern_body())
    writing = threading.Event()
    writing.set()

    def write(_: int) -> None:
        while writing.is_set():
            box.log(box.record(lab, sighting_body(box.reference(record))), lab.analyst)

    async def start() -> None:
        async with sequencing(box.hub.database_url, box.hub.identity):
            pass

    before = box.size()
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(write, number) for number in range(4)]
        try:
            for _ in range(12):
                asyncio.run(start())
        finally:
            writing.clear()
    for writer in done:
        writer.result()
    assert box.size() > before + 4


def test_a_conflict_between_two_hubs_is_decided_once(box: ForumInABox, lab: Lab, second_hub: RunningHub) -> None:
    hubs = [box, at(box, second_hub)]
    for round_number in range(4):
        record, _ = box.publish(lab, pattern_body(f"Pattern {round_number}"))
        rivals = [box.record(lab, pattern_body(f"Rival {name} {round_number}"), record) for name in "ab"]
        responses = send_at_once([partial(to.submit, one, lab.analyst) for to, one in zip(hubs, rivals, strict=True)])
        assert sorted(response.status_code for response in responses) == [201, 409]
    assert differences(box.hub.database_url) == []


def test_a_key_revoked_at_one_hub_is_refused_at_the_other_at_once(
    box: ForumInABox, lab: Lab, second_hub: RunningHub
) -> None:
    other = at(box, second_hub)
    other.publish(lab, pattern_body("While the key is good"))
    assert other.get(wire.CHECKPOINT, lab.sync).status_code == 200
    body = {"key_id": key(lab.analyst).public_key.key_id, "reason": "Lost", "suspect_from": None}
    box.decree("membership.revoke_key", lab.id, body)
    refused = other.submit(box.record(lab, pattern_body("Too late")), lab.analyst)
    assert (refused.status_code, code_of(refused)) == (403, "revoked_key")
    assert other.get(wire.CHECKPOINT, lab.sync).status_code == 200, "the lab's other keys are as good as before"
    box.decree("membership.suspend", lab.id, {"reason": "Until it is known what happened"})
    refused = other.get(wire.CHECKPOINT, lab.sync)
    assert (refused.status_code, code_of(refused)) == (403, "member_suspended")


def test_a_submission_that_comes_after_a_revocation_in_the_queue_is_refused(
    box: ForumInABox, lab: Lab, second_hub: RunningHub
) -> None:
    """Both hubs find the key good when they take the two in; what counts is when they come into the log."""
    other = at(box, second_hub)
    other.publish(lab, pattern_body("While the key is good"))
    late = box.record(lab, pattern_body("Signed by a key that is revoked meanwhile"))
    body = {"key_id": key(lab.analyst).public_key.key_id, "reason": "Lost", "suspect_from": None}
    database_url = box.hub.database_url
    with ThreadPoolExecutor(2) as threads:
        with held(database_url):
            # Postgres hands the lock on in the order in which it was asked for.
            revoked = threads.submit(box.decree, "membership.revoke_key", lab.id, body)
            wait_until(lambda: waiting_for_log(database_url) == 1, "the first hub's sequencer waits")
            answer = threads.submit(other.submit, late, lab.analyst)
            wait_until(lambda: waiting_for_log(database_url) == 2, "the second hub's sequencer waits")
        revoked.result()
        assert (answer.result().status_code, code_of(answer.result())) == (403, "revoked_key")
    assert differences(database_url) == []


# -- what is being checked while a batch could begin ---------------------------------------------------------------


def sequenced(box: ForumInABox, made: Sequence[Envelope], *, in_time: bool) -> list[int]:
    """The sizes in the receipts of two submissions, of which the second is being checked when the first has been."""

    async def sequence() -> list[object]:
        async with sequencing(box.hub.database_url, box.hub.identity) as (lone, directory):
            with lone.expecting():
                first = asyncio.create_task(lone.submit(candidate(made[0], directory)))
                if in_time:
                    await asyncio.sleep(0.05)
                    assert not first.done()
                else:
                    await first
            return list(await asyncio.gather(first, lone.submit(candidate(made[1], directory))))

    receipts = asyncio.run(sequence())
    assert all(isinstance(one, wire.Receipt) for one in receipts)
    return [
        parse_text(notes.parse(one.checkpoint.encode()).text).size for one in receipts if isinstance(one, wire.Receipt)
    ]


def test_a_batch_waits_a_little_for_what_is_being_checked(
    box: ForumInABox, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer, "GATHER_SECONDS", 30.0)
    size = box.size()
    made = [box.record(lab, pattern_body(f"Gathered {number}")) for number in range(2)]
    assert sequenced(box, made, in_time=True) == [size + 2] * 2


def test_a_check_without_end_holds_nobody_up(box: ForumInABox, lab: Lab) -> None:
    size = box.size()
    made = [box.record(lab, pattern_body(f"Not gathered {number}")) for number in range(2)]
    assert sequenced(box, made, in_time=False) == [size + 1, size + 2]

"""The connection to Postgres breaks while the log is being committed: persisted, not persisted, or late.

The hub cannot tell which it was. Whatever it was, every submitter gets an answer that is final and right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hub.batch import AlreadyLogged
from hub.errors import Unavailable
from hub.identity import HubIdentity
from hub.settings import HubSettings
from sharing_protocol import wire
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Refused
from sharing_protocol.trust import check_receipt
from tests.forum import ForumInABox, Lab, RunningHub, code_of, key, pattern_body, running_hub
from tests.hub.lone_sequencer import candidate, sequence_at_once, sequencing
from tests.hub.postgres_proxy import Fault, PostgresProxy
from tests.hub.scrape import read
from tests.hub.stored_log import WHO_WAIT_FOR_LOG, differences, held, number, rows, wait_until, waiting_for_log

SIZE = "SELECT tree_size FROM log_head"

FAULTS = [
    (Fault.NOT_SENT,),
    (Fault.ANSWER_LOST,),
    (Fault.LATE,),
    (Fault.NOT_SENT, Fault.NOT_SENT, Fault.ANSWER_LOST),
    (Fault.NOT_SENT, Fault.LATE),
]


def called(faults: Sequence[Fault]) -> str:
    return "-".join(fault.name.lower() for fault in faults)


@pytest.fixture
def proxy(database: str) -> Iterator[PostgresProxy]:
    with PostgresProxy(database) as running:
        yield running


@pytest.fixture
def hub(proxy: PostgresProxy, database: str, hub_identity: HubIdentity) -> Iterator[RunningHub]:
    """A hub that reaches its database through the proxy only."""
    with running_hub(proxy.url, hub_identity, settings=HubSettings(metrics_port=0)) as running:
        yield RunningHub(running.url, database, running.identity, metrics_url=running.metrics_url)


@pytest.fixture
def lab(box: ForumInABox) -> Lab:
    return box.admit("Aurora")


def receipt_of(box: ForumInABox, made: Envelope, response: httpx.Response) -> wire.Receipt:
    assert response.status_code in (200, 201), response.text
    receipt = wire.Receipt.model_validate_json(response.content)
    check_receipt(receipt, made.encode(), box.hub.identity.public)
    return receipt


@pytest.mark.parametrize(
    "faults", [*FAULTS, (Fault.ANSWER_LOST, Fault.NOT_SENT, Fault.LATE, Fault.ANSWER_LOST)], ids=called
)
def test_every_submitter_learns_where_the_entry_is(
    box: ForumInABox, lab: Lab, proxy: PostgresProxy, faults: tuple[Fault, ...]
) -> None:
    first, *others = made = [box.record(lab, pattern_body(f"Pattern {number}")) for number in range(17)]
    database_url, size = box.hub.database_url, box.size()
    with ThreadPoolExecutor(len(made)) as threads:
        with held(database_url):
            answers = [threads.submit(box.submit, first, lab.analyst)]
            wait_until(lambda: waiting_for_log(database_url) == 1, "a batch of one waits for the log")
            answers += [threads.submit(box.submit, one, lab.analyst) for one in others]
            # Whoever came later than this might be told to come again, instead of being part of the next batch.
            wait_until(lambda: read(box.hub, "queue_length") == len(others), "the others wait for the next batch")
            proxy.faults.extend([Fault.NONE, *faults])
        got = [receipt_of(box, one, answer.result()) for one, answer in zip(made, answers, strict=True)]
    while proxy.faults:  # one batch meets as many as it takes until one persists it
        box.publish(lab, pattern_body("Afterwards"))
    assert tuple(proxy.happened) == faults
    assert not any(receipt.already_logged for receipt in got), "each of them put it there"
    assert sorted(receipt.index for receipt in got) == list(range(size, size + len(made)))
    assert differences(database_url) == []
    stored = dict(rows(database_url, "SELECT index, envelope FROM log_entries"))
    assert all(stored[receipt.index] == one.encode() for receipt, one in zip(got, made, strict=True))


@pytest.mark.parametrize("faults", [(Fault.ANSWER_LOST,), (Fault.NOT_SENT, Fault.LATE)], ids=called)
def test_membership_is_in_force_after_a_doubtful_commit(
    box: ForumInABox, proxy: PostgresProxy, faults: tuple[Fault, ...]
) -> None:
    proxy.faults.extend(faults)
    lab = box.admit("Aurora")
    assert tuple(proxy.happened) == faults
    box.publish(lab, pattern_body())
    proxy.faults.extend(faults)
    body = {"key_id": key(lab.analyst).public_key.key_id, "reason": "Lost", "suspect_from": None}
    box.decree("membership.revoke_key", lab.id, body)
    refused = box.submit(box.record(lab, pattern_body("Too late")), lab.analyst)
    assert (refused.status_code, code_of(refused)) == (403, "revoked_key")
    assert differences(box.hub.database_url) == []


def test_nothing_else_is_sequenced_while_a_commit_is_in_doubt(box: ForumInABox, lab: Lab, proxy: PostgresProxy) -> None:
    first, second = (box.record(lab, pattern_body(f"Pattern {number}")) for number in range(2))
    size = box.size()
    with ThreadPoolExecutor(1) as threads:
        proxy.faults.append(Fault.ANSWER_LOST)
        proxy.reachable.clear()
        answer = threads.submit(box.submit, first, lab.analyst)
        wait_until(lambda: proxy.turned_away > 0, "the hub tries to find out how its commit ended")
        refused = box.submit(second, lab.analyst)
        assert (refused.status_code, code_of(refused)) == (503, "log_in_doubt")
        assert int(refused.headers["retry-after"]) > 0
        assert not answer.done()
        proxy.reachable.set()
        receipt = receipt_of(box, first, answer.result())
    assert (receipt.index, receipt.already_logged) == (size, False)
    assert receipt_of(box, second, box.submit(second, lab.analyst)).index == size + 1


def test_a_database_that_stays_away_is_told_and_nothing_is_logged(
    box: ForumInABox, lab: Lab, proxy: PostgresProxy
) -> None:
    made = box.record(lab, pattern_body())
    size = box.size()
    proxy.reachable.clear()
    proxy.cut_sequencer()
    refused = box.submit(made, lab.analyst)
    assert (refused.status_code, code_of(refused)) == (503, "database_unavailable")
    assert number(box.hub.database_url, SIZE) == size
    proxy.reachable.set()
    receipt = receipt_of(box, made, box.submit(made, lab.analyst))
    assert (receipt.index, receipt.already_logged) == (size, False)


def test_a_hub_that_cannot_read_its_log_stays_in_doubt_until_it_can(
    box: ForumInABox, lab: Lab, proxy: PostgresProxy, caplog: pytest.LogCaptureFixture
) -> None:
    made = box.record(lab, pattern_body())
    database_url, size = box.hub.database_url, box.size()
    with ThreadPoolExecutor(1) as threads:
        proxy.faults.append(Fault.ANSWER_LOST)
        proxy.reachable.clear()
        answer = threads.submit(box.submit, made, lab.analyst)
        wait_until(lambda: proxy.turned_away > 0, "the hub tries to find out how its commit ended")
        # No failure of the connection, but one that tells nothing of the commit either.
        rows(database_url, "REVOKE SELECT ON log_head FROM CURRENT_USER")
        proxy.reachable.set()
        wait_until(lambda: "permission denied" in caplog.text, "the hub sees that it may not read")
        assert not answer.done()
        rows(database_url, "GRANT SELECT ON log_head TO CURRENT_USER")
        receipt = receipt_of(box, made, answer.result())
    assert (receipt.index, receipt.already_logged) == (size, False)
    box.publish(lab, pattern_body("Afterwards"))


def test_a_session_that_the_server_ends_inside_a_transaction_is_begun_anew(box: ForumInABox, lab: Lab) -> None:
    made = box.record(lab, pattern_body())
    database_url, size = box.hub.database_url, box.size()
    with ThreadPoolExecutor(1) as threads:
        with held(database_url):
            answer = threads.submit(box.submit, made, lab.analyst)
            wait_until(lambda: waiting_for_log(database_url) == 1, "the sequencer waits")
            assert rows(database_url, f"SELECT pg_terminate_backend(pid) {WHO_WAIT_FOR_LOG}") == [(True,)]
        receipt = receipt_of(box, made, answer.result())
    assert (receipt.index, receipt.already_logged) == (size, False)


# -- one batch, exactly ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [(), *FAULTS], ids=lambda faults: called(faults) or "no fault")
def test_each_of_a_doubtful_batch_is_told_what_it_did_itself(
    box: ForumInABox, lab: Lab, proxy: PostgresProxy, faults: tuple[Fault, ...]
) -> None:
    before = box.record(lab, pattern_body("Logged long before"))
    earlier = box.log(before, lab.analyst).index
    record, _ = box.publish(lab, pattern_body("The first version"))
    rivals = [box.record(lab, pattern_body(f"Rival {name}"), record) for name in "ab"]
    new = box.record(lab, pattern_body("New"))
    size = box.size()
    proxy.faults.extend(faults)
    batch = [before, new, rivals[0], new, rivals[1], before]
    answers = sequence_at_once(proxy.url, box.hub.identity, batch)
    assert tuple(proxy.happened) == faults
    old, mine, won, again, lost, old_again = answers
    assert old == old_again == AlreadyLogged(earlier, before=True)
    assert again == AlreadyLogged(size, before=True), "somebody else of the same batch put it there"
    assert isinstance(lost, Refused)
    assert lost.code == "version_conflict"
    for index, answer in ((size, mine), (size + 1, won)):
        assert isinstance(answer, wire.Receipt) or answer == AlreadyLogged(index, before=False)
        assert answer.index == index
    assert number(box.hub.database_url, SIZE) == size + 2
    assert differences(box.hub.database_url) == []


def test_a_hub_in_doubt_stops_without_its_database(box: ForumInABox, lab: Lab, proxy: PostgresProxy) -> None:
    made = box.record(lab, pattern_body())
    size = box.size()

    async def lose_the_database() -> Unavailable:
        async with sequencing(proxy.url, box.hub.identity) as (sequencer, directory):
            proxy.faults.append(Fault.ANSWER_LOST)
            proxy.reachable.clear()
            answer = asyncio.create_task(sequencer.submit(candidate(made, directory)))
            await asyncio.to_thread(wait_until, lambda: proxy.turned_away > 0, "the sequencer tries to connect again")
        with pytest.raises(Unavailable) as caught:
            await answer
        return caught.value

    assert asyncio.run(lose_the_database()).code == "log_in_doubt"
    proxy.reachable.set()
    again = sequence_at_once(proxy.url, box.hub.identity, [made])
    assert again == [AlreadyLogged(size, before=True)]

"""Runs that end in the middle, for whatever reason: what is kept of them, and what is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from member_client.errors import HubUnreachable, RefusedByHub, VerificationFailed
from member_client.sync import following
from member_client.sync.following import acknowledge
from sharing_protocol import wire
from sharing_protocol.errors import Fault
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lying_hub import Answer, Lie, LyingHub
from tests.protocol.forum_log import ForumLog, forum_of_two_labs

WHOLE = 600


@pytest.fixture
def log() -> ForumLog:
    return forum_of_two_labs()


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    """After the two labs there is nothing but what has no right to be there: three bundles in all."""
    filling = [b"entry %d" % number for number in range(log.size, WHOLE)]
    with LyingHub([*entries_of(log), *filling]) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    yield lab
    lab.store.close()


def instead_of(bundle: str, told: Answer) -> Lie:
    return lambda path, answer: told if path.startswith(f"/tile/entries/{bundle}") else answer


@pytest.mark.parametrize(
    ("bundles", "size", "missing", "stored"),
    [
        (8, 8 * 2**20, "001", 256),  # the first bundle is a batch of its own: it says whose forum it is
        (8, 8 * 2**20, "002", 256),
        (1, 8 * 2**20, "002", 512),
        (8, 1000, "002", 512),  # a batch is bounded in bytes, too
    ],
)
def test_whole_batches_of_what_was_true_are_kept(
    lab: Lab, hub: LyingHub, monkeypatch: pytest.MonkeyPatch, bundles: int, size: int, missing: str, stored: int
) -> None:
    monkeypatch.setattr(following, "BATCH_BYTES", size)
    hub.lie = instead_of(missing, Answer(404))
    with pytest.raises(VerificationFailed) as caught:
        lab.sync(bundles_per_batch=bundles)
    assert caught.value.misbehaviour.fault is Fault.WITHHOLD
    assert lab.store.cursor == stored
    hub.lie = lambda path, answer: answer
    assert lab.sync(bundles_per_batch=bundles).cursor == WHOLE


SUSPENDED = wire.Problem(
    type=wire.PROBLEM_TYPE_PREFIX + "member_suspended", title="", status=403, code="member_suspended", detail=""
)
BREAKS: dict[str, tuple[Answer, type[Exception]]] = {
    "fails": (Answer(500), HubUnreachable),
    "refuses": (
        Answer(403, SUSPENDED.model_dump_json().encode(), {"Content-Type": wire.PROBLEM_MEDIA_TYPE}),
        RefusedByHub,
    ),
}


@pytest.mark.parametrize(("answer", "error"), BREAKS.values(), ids=BREAKS)
def test_what_was_let_in_is_told_although_the_run_breaks_off(
    lab: Lab, hub: LyingHub, log: ForumLog, answer: Answer, error: type[Exception]
) -> None:
    hub.lie = instead_of("001", answer)
    report = lab.sync()
    assert isinstance(report.interruption, error)
    assert (report.cursor, report.counts) == (256, {"rejected": 256 - log.size})
    assert report.rejected[0].index == log.size
    assert report.evidence
    acknowledge(lab.store, report)
    assert lab.sync().counts == report.counts, "told again: the run was not complete"
    hub.lie = lambda path, answer: answer
    report = lab.sync()
    assert (report.interruption, report.counts) == (None, {"rejected": WHOLE - log.size})
    acknowledge(lab.store, report)
    hub.entries.append(b"one more")
    hub.lie = instead_of("002", answer)
    with pytest.raises(error):  # nothing is left to tell
        lab.sync()


def test_what_is_not_stored_whole_proves_no_other_history(lab: Lab, hub: LyingHub) -> None:
    hub.lie = instead_of("001", Answer(500))
    assert lab.sync().cursor == 256
    hub.lie = lambda path, answer: answer
    hub.entries = [*hub.entries[:99], b"another"]
    caught = lab.refused_with(Fault.ROLL_BACK, "rolled_back")
    kept = json.loads(caught.evidence.read_text())["documents"]
    assert kept.keys() == {"old_checkpoint", "new_checkpoint"}


def test_how_far_the_hubs_clock_is_ahead_is_told(lab: Lab, hub: LyingHub) -> None:
    now = time.time()
    hub.clock = lambda: now + 200
    assert abs(lab.sync(clock=lambda: now).skew - 200) < 2
    assert abs(lab.sync(clock=lambda: now + 500).checkpoint_age - 300) < 2

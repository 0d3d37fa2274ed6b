"""A member and the hub that it follows, over the log that the test's own `log` fixture gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.member_client.follower import Lab, entries_of
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import ForumLog


@pytest.fixture
def hub(log: ForumLog) -> Iterator[LyingHub]:
    with LyingHub(entries_of(log)) as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, hub: LyingHub, log: ForumLog) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab", hub, log.fingerprint)
    yield lab
    lab.store.close()

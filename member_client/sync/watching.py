"""Following without end: sync, wait at the hub until the log has grown, sync again.

The hub's answer to the wait is only a bell. What it says is verified by the sync that it starts, like everything else;
a bell that is late or silent costs at most `WAIT_SECONDS`, and one that rings without cause at most a request each
`LEAST_SECONDS`. A hub that does not answer is asked again for ever, ever more slowly.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from member_client.errors import HubUnreachable
from member_client.sync.following import SyncReport
from sharing_protocol.wire import MAX_WAIT_SECONDS

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

WAIT_SECONDS = MAX_WAIT_SECONDS - 5
LEAST_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0

Run = Callable[[bytes | None], SyncReport]
"""One sync, given the checkpoint note that the hub has just answered with, if it has."""
Trouble = Callable[[HubUnreachable, float], None]
"""Told why the hub could not be followed, and for how many seconds it is left in peace."""


def watch(hub: HubConnection, run: Run, trouble: Trouble) -> NoReturn:
    """Sync for ever. It ends by an exception: what `run` raises, or what a signal handler does.

    Args:
        hub: best with one attempt a request; trying again is done here.

    Raises:
        VerificationFailed: the hub lied. Whoever runs this must hear of it.
        RefusedByHub: the hub does not serve this key any more.
        InvalidInput: the local store is damaged.
    """
    failures = 0
    note: bytes | None = None
    while True:
        begun = time.monotonic()
        try:
            report = run(note)
            if report.interruption is not None:
                raise report.interruption
            note = hub.next_checkpoint(report.cursor, WAIT_SECONDS)
            failures = 0
        except HubUnreachable as error:
            note = None
            pause = max(error.retry_after, _back_off(failures))
            failures += 1
            trouble(error, pause)
            time.sleep(pause)
            continue
        if report.cursor == report.previous:
            time.sleep(max(0.0, begun + LEAST_SECONDS - time.monotonic()))


def _back_off(failures: int) -> float:
    """Seconds, at random: a crowd of members does not come back all at once when a hub is up again."""
    longest = min(0.5 * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)
    return random.uniform(0.05, longest)  # noqa: S311 - spreads load, guards nothing

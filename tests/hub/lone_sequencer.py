"""A sequencer without a hub around it: what it is given at once goes into one batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from hub.app import utc_now
from hub.batch import Candidate
from hub.database.connections import make_engine
from hub.directory import Directory
from hub.identity import HubIdentity
from hub.intake import open_envelope
from hub.log_keys import LogKeys
from hub.rollback import RollBackGuard
from hub.sequencer import Sequencer
from sharing_protocol.envelope import Envelope


@contextlib.asynccontextmanager
async def sequencing(
    database_url: str, identity: HubIdentity, home: Path | None = None
) -> AsyncIterator[tuple[Sequencer, Directory]]:
    """A sequencer that has just read where the log ends."""
    engine = make_engine(database_url, size=1)
    directory = Directory(engine)
    keys = LogKeys(identity, home)
    sequencer = Sequencer(engine, keys, directory, RollBackGuard(engine, keys, directory), utc_now)
    try:
        await sequencer.start()
        yield sequencer, directory
        await sequencer.stop()
    finally:
        await engine.dispose()


def candidate(made: Envelope, directory: Directory) -> Candidate:
    """An envelope as intake hands it on, its content unchecked."""
    return open_envelope(made.encode(), made.signatures[0].key_id, directory.membership).candidate


def sequence_at_once(
    database_url: str, identity: HubIdentity, made: Sequence[Envelope], home: Path | None = None
) -> list[object]:
    """What a new sequencer answers, or raises, to each of these in one batch."""

    async def sequence() -> list[object]:
        async with sequencing(database_url, identity, home) as (sequencer, directory):
            # All are in the queue before the sequencer's own task gets to run.
            submitted = [sequencer.submit(candidate(one, directory)) for one in made]
            return list(await asyncio.gather(*submitted, return_exceptions=True))

    return asyncio.run(sequence())

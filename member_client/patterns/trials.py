"""Trying other labs' patterns here, before they may come into force.

Nobody's word is taken for it that a pattern compiles and passes its own tests: every new pattern is compiled and run
here, and the verdict is kept in the store. A pattern's size and the size of its tests are bounded by the statement's
form, and expressions take linear time (RE2), so that no record can hold up a sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from member_client.sync.store import Store, StoredVersion
from sharing_protocol.errors import ProtocolError

BATCH = 64
"""Verdicts a transaction: a run that is killed loses at most so much work."""

Progress = Callable[[int, int], None]
"""Told `(patterns tried, patterns to try)` after every batch."""


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """How many patterns were tried in one run, by verdict."""

    passed: int = 0
    failed: int = 0


def try_new(store: Store, progress: Progress | None = None) -> TrialCounts:
    """Try the newest version of every pattern that has no verdict here yet, and keep the verdicts.

    A pattern that does not compile or fails its own tests gets its verdict like any other; it never stops the rest.
    """
    pending = store.versions(type="pattern", newest_only=True, untried_only=True)
    passed = failed = 0
    for batch in _batches(pending):
        verdicts = [_verdict(store, version) for version in batch]
        with store.transaction():
            store.put_trials(verdicts)
        batch_passed = sum(holds for _, holds, _, _ in verdicts)
        passed += batch_passed
        failed += len(batch) - batch_passed
        if progress is not None:
            progress(passed + failed, len(pending))
    return TrialCounts(passed, failed)


def _batches(versions: Sequence[StoredVersion]) -> Iterator[Sequence[StoredVersion]]:
    for start in range(0, len(versions), BATCH):
        yield versions[start : start + BATCH]


def _verdict(store: Store, version: StoredVersion) -> tuple[str, bool, str, str]:
    """Entry hash, whether it passed, and otherwise the code and the reason."""
    from sharing_protocol.content import check_pattern  # slow to load, and most syncs have nothing to try

    try:
        check_pattern(store.pattern(version).body)
    except ProtocolError as error:
        return version.entry, False, error.code, error.detail
    except Exception as error:  # noqa: BLE001 - another lab's document must never stop this lab's sync
        return version.entry, False, "trial_broke", f"trying it broke the checker: {type(error).__name__}"
    return version.entry, True, "", ""

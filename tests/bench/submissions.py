"""Submitting: how many a second become durable, and how soon one has arrived at another lab."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psycopg

from tests.bench.figures import BenchFailed, Figure, Sizes, compared, percentile, progress
from tests.bench.place import Place
from tests.bench.raw_http import PATIENCE_SECONDS, Connection, Worker, at_once, bulk_submission, submission
from tests.forum import key
from tests.member_client.lab_homes import make_home

STILLWATCH = str(Path(sys.executable).with_name("stillwatch"))
ARRIVES_WITHIN_MS = 100
DURABLE_RATIO = 0.3
TOGETHER = 64
"""Patterns of one bulk submission: two of its places for each of 32 clients are all that a member has."""
LONGER = 4
"""Of bulk submissions there are so many times as many patterns, for it to last long enough."""


def durable_submissions(place: Place, sizes: Sizes) -> list[Figure]:
    """Patterns that many clients submit at once, beside as many clients that commit the same bytes, a row each.

    To one hub process, and to two on the same log, as an operator runs them on two cores; half of the clients each.
    One by one, and many a request: each with its own signature, receipt and durable entry.
    """
    with psycopg.connect(place.postgres) as connection:
        connection.execute("CREATE TABLE bare_rows (id bigint GENERATED ALWAYS AS IDENTITY, entry bytea)")
    with place.another_hub() as second:
        pairs: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        bulk: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for sample in range(sizes.samples):
            for count, urls in ((1, [place.hub.url]), (2, [place.hub.url, second.url])):
                for many, measured in ((False, pairs), (True, bulk)):
                    submit = _submit_bulk_and_commit if many else _submit_and_commit
                    pair = submit(place, urls, sizes, f"Submission {sample} of {count}{' bulk' * many}")
                    measured[count].append(pair)
                    progress(
                        f"  {count} hub, {TOGETHER if many else 1} a request: {pair[0]:,.0f} submissions/s, "
                        f"{pair[1]:,.0f} bare commits/s"
                    )
    against = f"one INSERT and COMMIT a row, {sizes.clients} clients, same Postgres"
    many_a_request = f"up to {TOGETHER} patterns a request"
    return [
        compared("durable_submissions", "records/s", pairs[2], f"two hubs; {against}", DURABLE_RATIO),
        compared("durable_submissions_1", "records/s", pairs[1], f"one hub; {against}", DURABLE_RATIO),
        compared(
            "durable_submissions_bulk", "records/s", bulk[2], f"two hubs, {many_a_request}; {against}", DURABLE_RATIO
        ),
        compared(
            "durable_submissions_bulk_1", "records/s", bulk[1], f"one hub, {many_a_request}; {against}", DURABLE_RATIO
        ),
    ]


def _submit_and_commit(place: Place, urls: Sequence[str], sizes: Sizes, title: str) -> tuple[float, float]:
    """Submissions a second to these hubs, and bare commits a second."""
    signer = key(place.lab.analyst)
    entries = [made.encode() for made in place.patterns(sizes.submissions, title)]
    workers = []
    for number, share in enumerate(_shares(entries, sizes.clients)):
        url = urls[number % len(urls)]
        workers.append(_submit_all(url, [submission(url, entry, signer) for entry in share]))
    return len(entries) / at_once(workers), _bare_commits(place, entries, sizes)


def _submit_bulk_and_commit(place: Place, urls: Sequence[str], sizes: Sizes, title: str) -> tuple[float, float]:
    """Submissions a second that come many a request, and bare commits a second."""
    signer = key(place.lab.analyst)
    entries = [made.encode() for made in place.patterns(LONGER * sizes.submissions, title)]
    workers = []
    for number, share in enumerate(_shares(entries, sizes.clients)):
        url = urls[number % len(urls)]
        loads = [share[start : start + TOGETHER] for start in range(0, len(share), TOGETHER)]
        requests = [bulk_submission(url, load, signer) for load in loads]
        workers.append(_submit_all(url, requests, Connection.submit_all))
    return len(entries) / at_once(workers), _bare_commits(place, entries[: sizes.submissions], sizes)


def _bare_commits(place: Place, entries: Sequence[bytes], sizes: Sizes) -> float:
    """Commits a second of the same bytes, a row each."""
    return len(entries) / at_once([_commit_all(place.postgres, share) for share in _shares(entries, sizes.clients)])


def submit_to_follower(place: Place, sizes: Sizes) -> list[Figure]:
    """From the moment of submitting a pattern until `stillwatch sync --follow` says that it has verified and stored it.

    That is a little after it was stored: the follower has also run the pattern's own tests by then.
    """
    home = make_home(place.folder / "boreal", place.box, place.box.admit("Boreal"))
    command = [STILLWATCH, "sync", "--follow", "--json", "--home", str(home)]
    signer = key(place.lab.analyst)
    milliseconds = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower, Connection(place.hub.url) as client:
        try:
            size = _wait_for(follower, place.box.size())
            for made in place.patterns(sizes.arrivals, "Arrival"):
                time.sleep(random.uniform(0.05, 0.15))  # the follower waits at the hub again
                sent = submission(place.hub.url, made.encode(), signer)
                begun = time.perf_counter()
                client.submit(sent)
                size = _wait_for(follower, size + 1)
                milliseconds.append((time.perf_counter() - begun) * 1000)
        finally:
            follower.terminate()
    middle, slow = median(milliseconds), percentile(milliseconds, 95)
    target = f"<= {ARRIVES_WITHIN_MS} ms"
    return [
        Figure("submit_to_follower", middle, "ms", milliseconds, target=target, met=middle <= ARRIVES_WITHIN_MS),
        Figure("submit_to_follower_p95", slow, "ms", milliseconds),
    ]


def _submit_all(
    url: str, requests: Sequence[bytes], submit: Callable[[Connection, bytes], None] = Connection.submit
) -> Worker:
    def work(barrier: threading.Barrier) -> None:
        with Connection(url) as connection:
            barrier.wait()
            for one in requests:
                submit(connection, one)

    return work


def _commit_all(postgres: str, rows: Sequence[bytes]) -> Worker:
    def work(barrier: threading.Barrier) -> None:
        with psycopg.connect(postgres) as connection:
            barrier.wait()
            for row in rows:
                connection.execute("INSERT INTO bare_rows (entry) VALUES (%s)", (row,))
                connection.commit()

    return work


def _shares(items: Sequence[bytes], count: int) -> list[Sequence[bytes]]:
    return [items[number::count] for number in range(count)]


def _wait_for(follower: subprocess.Popen[str], size: int) -> int:
    """Read what the follower prints until it has so many entries."""
    assert follower.stdout is not None
    too_long = threading.Timer(PATIENCE_SECONDS, follower.kill)
    too_long.start()
    try:
        for line in follower.stdout:
            told = json.loads(line)
            if told["status"] == "ok" and told["entries"] >= size:
                return int(told["entries"])
    finally:
        too_long.cancel()
    raise BenchFailed("the follower ended, or was not told of an entry")

"""A crowd of followers at the hub while submissions keep coming: does it stay quick, and of one size?

Every submission is news for the followers, as it is in life. Each follower asks what `stillwatch sync --follow` asks,
in the same order: it waits for a checkpoint, fetches the tiles and the bundles between what it knows and what it was
told, and waits again. It does not verify and store them, which takes a real one tens of milliseconds between its
requests: these come back sooner.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from statistics import median
from typing import NoReturn
from urllib.parse import urlsplit

from sharing_protocol.tiles import TILE_WIDTH, Bundle, Tile, right_edge
from sharing_protocol.wire import CHECKPOINT
from tests.bench.figures import BenchFailed, Figure, Sizes, percentile, progress
from tests.bench.place import Place
from tests.bench.raw_http import PATIENCE_SECONDS, Connection, Worker, at_once, read_answer, request, submission
from tests.forum import key, pattern_body

SUBMITTERS = 16
COME_BACK_SECONDS = 0.5
"""Within which real followers come back to a hub that is up again (`watching`); so these come in."""
WAIT_SECONDS = 50
_MEGABYTE = 2**20


@dataclass
class _Log:
    """What submitters and the observer note."""

    milliseconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    megabytes: list[float] = field(default_factory=list)


def idle_followers(place: Place, sizes: Sizes) -> list[Figure]:
    """Memory of the hub, errors, and how long a submission takes, from when it was due to its receipt."""
    process = place.hub_process()
    log = _Log()

    def observe(barrier: threading.Barrier) -> None:
        barrier.wait()
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < sizes.seconds:
            log.megabytes.append(process.memory_info().rss / _MEGABYTE)
            if len(log.megabytes) % 30 == 1:
                progress(f"  {passed:.0f} s: {log.megabytes[-1]:.0f} MB, {len(log.milliseconds)} submissions")
            time.sleep(1)

    with _followers(place, sizes.followers) as followers:
        at_once([observe, *_submitters(place, sizes, log)])
        polls, failures = followers()
    log.errors.update(failures)
    progress(f"  {polls:,} answers to followers; errors: {dict(log.errors) or 'none'}")
    times, memory = log.milliseconds, log.megabytes
    if not times:
        raise BenchFailed("no submission was answered")
    start, middle, end = memory[0], memory[len(memory) // 2], memory[-1]
    crowd = f"{sizes.followers} followers, {sizes.rate} submissions/s, {sizes.seconds} s"
    return [
        Figure(
            "crowd_submissions", len(times) / sizes.seconds, "records/s", [len(times) / sizes.seconds], against=crowd
        ),
        Figure("crowd_submit_p50", median(times), "ms", [median(times)], against=crowd),
        Figure("crowd_submit_p99", percentile(times, 99), "ms", [percentile(times, 99)], against=crowd),
        Figure("crowd_hub_memory", end, "MB", [start, middle, end], against="samples: start, middle, end"),
        Figure("crowd_errors", log.errors.total(), "requests", [log.errors.total()], target="none", met=not log.errors),
        Figure("crowd_answers", polls / sizes.seconds, "answers/s", [polls / sizes.seconds], against="to followers"),
    ]


def _submitters(place: Place, sizes: Sizes, log: _Log) -> list[Worker]:
    numbers = itertools.count()
    signer = key(place.lab.analyst)
    begun: list[float] = []

    def work(barrier: threading.Barrier) -> None:
        with Connection(place.hub.url) as connection:
            barrier.wait()
            begun.append(time.perf_counter())  # the first one counts
            ends = begun[0] + sizes.seconds
            while (number := next(numbers)) < sizes.rate * sizes.seconds and time.perf_counter() < ends:
                made = place.box.record(place.lab, pattern_body(f"Crowd {number}"))
                sent = submission(place.hub.url, made.encode(), signer)
                due = begun[0] + number / sizes.rate
                time.sleep(max(0.0, due - time.perf_counter()))
                status, _ = connection.exchange(sent)
                log.milliseconds.append((time.perf_counter() - due) * 1000)
                if status != 201:
                    log.errors[f"submission: {status}"] += 1

    return [work] * SUBMITTERS


@contextmanager
def _followers(place: Place, count: int) -> Iterator[Callable[[], tuple[int, Counter[str]]]]:
    """A process of followers, all of them waiting. Call what it gives to end them and hear how it went."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=follow_as_crowd, args=(theirs, place.hub.url, place.lab.sync, count), daemon=True)
    process.start()

    def end() -> tuple[int, Counter[str]]:
        ours.send("enough")
        polls, failures = _hear(ours)
        process.join(PATIENCE_SECONDS)
        return polls, failures

    try:
        _hear(ours)
        yield end
    finally:
        process.kill()
        process.join()


def _hear(pipe: Pipe) -> tuple[int, Counter[str]]:
    if not pipe.poll(PATIENCE_SECONDS):
        raise BenchFailed("the followers' process does not answer")
    heard: tuple[int, Counter[str]] = pipe.recv()
    return heard


def follow_as_crowd(pipe: Pipe, url: str, key_name: str, count: int) -> None:
    """In a process of its own: let so many follow until told to stop; tells `(answers, failures)`."""
    asyncio.run(_Crowd(url, key_name).run(pipe, count))


class _Crowd:
    def __init__(self, url: str, key_name: str) -> None:
        self._url = url
        self._signer = key(key_name)
        self._answers = 0
        self._failures: Counter[str] = Counter()

    async def run(self, pipe: Pipe, count: int) -> None:
        ready = [asyncio.Event() for _ in range(count)]
        following = [asyncio.create_task(self._follow(one)) for one in ready]
        await asyncio.gather(*(one.wait() for one in ready))
        pipe.send((0, self._failures))
        await asyncio.to_thread(pipe.recv)
        told = (self._answers, self._failures.copy())
        for one in following:
            one.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        pipe.send(told)

    async def _follow(self, ready: asyncio.Event) -> None:
        await asyncio.sleep(random.uniform(0.05, COME_BACK_SECONDS))
        while True:
            try:
                await self._stay_connected(ready)
            except (OSError, asyncio.IncompleteReadError, BenchFailed) as error:
                self._failures[f"follower: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    async def _stay_connected(self, ready: asyncio.Event) -> NoReturn:
        size = 0
        parts = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while True:
                target = f"{CHECKPOINT}?after={size}&wait={WAIT_SECONDS}"
                writer.write(request("GET", self._url, target, self._signer))
                status, body = await read_answer(reader)
                if status != 200:
                    self._failures[f"follower: {status}"] += 1
                    await asyncio.sleep(1)
                    continue
                self._answers += 1
                told = int(body.split(b"\n", 2)[1])
                for path in _needed(size, told):
                    writer.write(request("GET", self._url, f"/{path}", self._signer, accept="zstd, gzip"))
                    status, _ = await read_answer(reader)
                    if status != 200:
                        raise BenchFailed(f"the hub answered {status} to {path}")
                size = told
                ready.set()
        finally:
            writer.close()


def _needed(known: int, told: int) -> list[str]:
    """Paths of what a follower who knows `known` entries fetches to verify and read a log of `told`."""
    if told <= known:
        return []
    bundles = range(known // TILE_WIDTH, (told - 1) // TILE_WIDTH + 1)
    widths = [min(TILE_WIDTH, told - index * TILE_WIDTH) for index in bundles]
    edge = right_edge(told)
    leaves = [Tile(0, index, width) for index, width in zip(bundles, widths, strict=True)]
    tiles = [*edge, *(tile for tile in leaves if tile not in edge)]
    return [*(tile.path for tile in tiles), *(Bundle(tile.index, tile.width).path for tile in leaves)]

"""Many patterns over many requests: the engine beside one bare scan, and beside rows in SQLite.

Requests are generated: prompts of some 200 characters from 20,000 made-up words, word frequencies as in language, one
prompt in a hundred with a phrase of some pattern. Patterns are of five kinds: phrases, an expression with a number, all
of several phrases, an expression, and numbers alone. The engine runs in a process of its own, so that its peak memory
is its own.
"""

from __future__ import annotations

import json
import random
import re
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sigma.backends.sqlite.sqlite import sqliteBackend
from sigma.collection import SigmaCollection

from member_client.detection.detecting import Options, Result, detect
from member_client.detection.detecting import Place as RunPlace
from member_client.detection.in_force import RunnablePattern
from member_client.detection.log_settings import Column, Source
from sharing_protocol.pattern_logic import compile_logic
from tests.bench.figures import BenchFailed, Figure, Sizes, progress
from tests.bench.place import Place

SEED = 20_260_302
WORDS = 20_000
WORDS_A_PROMPT = 30
PLANTED = 0.01
_CHUNK = 250_000
_START = 1_772_452_800_000_000
_SCAN = """
SELECT count(*) FROM read_parquet(?) WHERE regexp_matches("prompt.text", '(?i)chain[- ]of[- ]thought')
  AND epoch_us("timestamp") >= 0 AND "account.id" <> '' AND "gen_ai.usage.output_tokens" >= 0 AND "prompt.turns" >= 0
"""


def detect_many(_: Place, sizes: Sizes) -> list[Figure]:
    """100 and 1,000 patterns, and 100 of them on SQLite."""
    with _requests(sizes.requests) as log:
        figures = []
        for count, target in ((100, 5.0), (1_000, 8.0)):
            figures += _beside_one_scan(log, count, target, sizes)
        figures.append(_on_sqlite(log, sizes))
    return figures


@dataclass(frozen=True, slots=True)
class _Log:
    path: Path
    rows: int

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink()
        self.path.parent.rmdir()


def _requests(rows: int) -> _Log:
    """A Parquet file of so many requests."""
    import tempfile

    progress(f"  writing {rows:,} requests")
    generator = np.random.default_rng(SEED)
    words = np.array(vocabulary(), dtype=object)
    shares = 1 / np.arange(10, WORDS + 10)
    edges = np.cumsum(shares / shares.sum())
    planted = [phrase for document in patterns(1_000) for phrase in phrases_of(document)]
    path = Path(tempfile.mkdtemp(prefix="stillwatch-bench-")) / "requests.parquet"
    schema = pa.schema(
        [
            ("timestamp", pa.timestamp("us", "UTC")),
            ("account.id", pa.string()),
            ("prompt.text", pa.string()),
            ("gen_ai.usage.output_tokens", pa.int64()),
            ("prompt.turns", pa.int64()),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - start)
            chosen = words[np.searchsorted(edges, generator.random(count * WORDS_A_PROMPT)).clip(0, WORDS - 1)]
            texts = [" ".join(chosen[n : n + WORDS_A_PROMPT]) for n in range(0, count * WORDS_A_PROMPT, WORDS_A_PROMPT)]
            for position in np.flatnonzero(generator.random(count) < PLANTED):
                phrase = planted[int(generator.integers(len(planted)))]
                texts[position] = f"{texts[position][:90]} {phrase} {texts[position][90:]}"
            columns = {
                "timestamp": _START + np.arange(start, start + count) * 100_000,
                "account.id": [f"account-{number}" for number in generator.integers(0, 20_000, count)],
                "prompt.text": texts,
                "gen_ai.usage.output_tokens": generator.geometric(1 / 500, count),
                "prompt.turns": generator.geometric(0.5, count),
            }
            writer.write_table(pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema))
    return _Log(path, rows)


def vocabulary() -> list[str]:
    """Made-up words, the frequent ones short."""
    chooser = random.Random(SEED)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "on")]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        length = 1 + min(3, len(words) // 150) if chooser.random() < 0.7 else chooser.randint(1, 4)
        words["".join(chooser.choice(syllables) for _ in range(length))] = None
    return list(words)


def patterns(count: int) -> list[dict[str, Any]]:
    """Sigma rules, the first ones the same whatever their number."""
    chooser = random.Random(SEED + 1)
    words = vocabulary()[300:]
    made = []
    for number in range(count):
        phrases = [" ".join(chooser.sample(words, 3)) for _ in range(3)]
        detection: dict[str, Any]
        if number % 10 == 9:
            detection = {"gen_ai.usage.output_tokens|gte": 4_000 + number, "prompt.turns|gte": 5}
        elif number % 4 == 0:
            detection = {"prompt.text|contains": phrases}
        elif number % 4 == 1:
            expression = phrases[0].replace(" ", "[- ]")
            detection = {"prompt.text|re|i": expression, "gen_ai.usage.output_tokens|gte": 100}
        elif number % 4 == 2:
            detection = {"prompt.text|contains|all": phrases[0].split(" ")}
        else:
            detection = {"prompt.text|re": rf"{phrases[0]}( (and|or) {phrases[1]})?"}
        made.append(
            {
                "title": f"Benchmark rule {number}",
                "name": f"rule_{number}",
                "logsource": {"product": "llm_api", "category": "request"},
                "detection": {"s": detection, "condition": "s"},
            }
        )
    return made


def phrases_of(document: dict[str, Any]) -> list[str]:
    """Texts that a rule matches."""
    for item, value in document["detection"]["s"].items():
        if item == "prompt.text|contains":
            return list(value)
        if item == "prompt.text|contains|all":
            return [" ".join(value)]
        if item.startswith("prompt.text|re"):
            return [re.sub(r"\(.*", "", value.replace("[- ]", "-")).strip()]
    return []


def _beside_one_scan(log: _Log, count: int, target: float, sizes: Sizes) -> list[Figure]:
    ours, ratios, cpu_ratios, peaks = [], [], [], []
    for _ in range(sizes.samples):
        bare, bare_cpu = _timed(lambda: _scan(log.path))
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.detecting", str(log.path), str(count)],
            capture_output=True,
            text=True,
            timeout=3_600,
            check=False,
        )
        if done.returncode:
            raise BenchFailed(f"detection failed: {done.stderr}")
        measured = json.loads(done.stdout)
        if measured["rows"] != log.rows or not measured["matches"]:
            raise BenchFailed(f"{measured['rows']} of {log.rows} rows were read, {measured['matches']} matches")
        again, again_cpu = _timed(lambda: _scan(log.path))
        bare, bare_cpu = (bare + again) / 2, (bare_cpu + again_cpu) / 2
        ours.append(log.rows / measured["seconds"])
        ratios.append(measured["seconds"] / bare)
        cpu_ratios.append(measured["cpu"] / bare_cpu)
        peaks.append(measured["peak"] / 2**20)
        progress(
            f"  {count} patterns: {ours[-1]:,.0f} rows/s, {measured['matches']:,} matches, "
            f"{ratios[-1]:.1f} x one scan ({cpu_ratios[-1]:.1f} x its CPU time), peak {peaks[-1]:,.0f} MiB"
        )
    against = f"one scan with one regex: {median(o * r for o, r in zip(ours, ratios, strict=True)):,.0f} rows/s"
    wanted = f"ratio <= {target:g}"
    return [
        Figure(
            f"detect_{count}", median(ours), "rows/s", ratios, median(ratios), against, wanted, median(ratios) <= target
        ),
        Figure(f"detect_{count}_cpu", median(cpu_ratios), "x one scan", cpu_ratios),
        Figure(f"detect_{count}_memory", max(peaks), "MiB", peaks, None, "", "<= 4096 MiB", max(peaks) <= 4096),
    ]


def _scan(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(_SCAN, [str(path)]).fetchall()


def _timed(what: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def _on_sqlite(log: _Log, sizes: Sizes) -> Figure:
    """Zircolite's way: rows into SQLite, each rule by the SQL of pySigma's SQLite backend."""
    rows = min(log.rows, sizes.sqlite_requests)
    backend: Any = sqliteBackend()  # type: ignore[no-untyped-call]
    queries = backend.convert(SigmaCollection.from_dicts([{"status": "test", **one} for one in patterns(100)]))
    table = duckdb.execute("SELECT * FROM read_parquet(?) LIMIT ?", [str(log.path), rows]).fetchall()
    samples = []
    for _ in range(sizes.samples):
        begun = time.perf_counter()
        with sqlite3.connect(":memory:") as connection:
            connection.create_function("regexp", 2, lambda expression, text: re.search(expression, text) is not None)
            names = '"timestamp", "account.id", "prompt.text", "gen_ai.usage.output_tokens", "prompt.turns"'
            connection.execute(f"CREATE TABLE logs ({names})")
            connection.executemany("INSERT INTO logs VALUES (?, ?, ?, ?, ?)", ((str(r[0]), *r[1:]) for r in table))
            for query in queries:
                connection.execute(query.replace("<TABLE_NAME>", "logs")).fetchall()
        samples.append(rows / (time.perf_counter() - begun))
    progress(f"  100 patterns on SQLite: {samples[-1]:,.0f} rows/s")
    return Figure("detect_100_sqlite", median(samples), "rows/s", samples, against=f"the same 100 rules, {rows:,} rows")


def measure(log: Path, count: int, folder: Path) -> dict[str, Any]:
    """Run the engine once; what it took."""
    made = [
        RunnablePattern(f"pattern--{n}", 1, f"{n:064x}", f"Pattern {n}", "low", compile_logic([one]))
        for n, one in enumerate(patterns(count))
    ]
    source = Source((str(log),), columns={"timestamp": Column("timestamp")})
    place = RunPlace(folder, folder / "found.jsonl", "bench", lambda _: None)
    broken: list[Any] = []
    result: Result
    wall, cpu = time.perf_counter(), time.process_time()
    result = detect([source], made, Options(memory="1500MB"), place, broken.append, lambda _: {})
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "rows": result.rows,
        "matches": sum(tally.matches for tally in result.tallies),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def main(arguments: Sequence[str]) -> None:
    """In the process of its own."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="stillwatch-bench-") as folder:
        print(json.dumps(measure(Path(arguments[0]), int(arguments[1]), Path(folder))))


if __name__ == "__main__":
    main(sys.argv[1:])

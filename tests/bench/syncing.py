"""Cold syncs by the real client, and detection with what was synced."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from member_client.home import Home
from member_client.patterns import library
from member_client.session import Session
from sharing_protocol.envelope import Envelope
from sharing_protocol.keys import verify_strictly
from tests.bench.figures import BenchFailed, Figure, Sizes, compared, progress
from tests.bench.place import Place
from tests.forum import key
from tests.member_client.lab_homes import make_home

STILLWATCH = str(Path(sys.executable).with_name("stillwatch"))
CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "train"


def cold_sync(place: Place, sizes: Sizes) -> list[Figure]:
    """A new home fetches, verifies and stores the whole log, beside a loop that only checks the same signatures."""
    progress(f"  signing and sequencing {sizes.patterns:,} patterns")
    patterns = place.patterns(sizes.patterns, "Pattern")
    place.fill(patterns)
    size = place.box.size()
    pairs = []
    for sample in range(sizes.samples):
        bare = len(patterns) / _seconds_to_verify(patterns, key(place.lab.analyst).public_key.raw)
        session = Session(Home(make_home(place.folder / f"cold-{sample}", place.box, place.lab)))
        with session.connect() as hub:
            begun = time.perf_counter()
            report = session.sync(hub)
            ours = report.cursor / (time.perf_counter() - begun)
        session.store.close()
        if report.cursor != size or report.counts:
            raise BenchFailed(f"{report.cursor} of {size} entries were stored; refused: {report.counts}")
        progress(f"  {ours:,.0f} records/s synced, {bare:,.0f} signatures/s")
        pairs.append((ours, bare))
    return [compared("cold_sync", "records/s", pairs, "Ed25519 alone, one thread, same bytes", 0.5)]


def detection(place: Place, sizes: Sizes) -> list[Figure]:
    """`stillwatch detect` with all starter patterns over the public prompts that lie beside this repository, if any."""
    logs = [str(path) for path in sorted(CORPORA.glob("*/*.jsonl.gz"))]
    if not logs:
        progress("  left out: no corpora beside this repository")
        return []
    home = make_home(place.folder / "aurora", place.box, place.lab)
    files = []
    for name in library.starter_names():
        files.append(home / f"{name}.yaml")
        files[-1].write_text(library.starter(name).text)
    _run(home, "sync")
    _run(home, "pattern", "submit", *map(str, files))
    _run(home, "sync")
    samples = []
    for _ in range(sizes.samples):
        summary = json.loads(_run(home, "detect", *logs, "--map", "prompt.text=prompt", "--json"))
        samples.append(summary["rows"] / summary["seconds"])
        progress(f"  {summary['rows']:,} rows by {len(files)} patterns: {samples[-1]:,.0f} rows/s")
    return [Figure("detection", median(samples), "rows/s", samples, against=f"by {len(files)} patterns at once")]


def _seconds_to_verify(patterns: Sequence[Envelope], public_key: bytes) -> float:
    work = [(made.signed_message, made.signatures[0].value) for made in patterns]
    begun = time.perf_counter()
    if not all(verify_strictly(public_key, message, signature) for message, signature in work):
        raise BenchFailed("a signature does not hold")
    return time.perf_counter() - begun


def _run(home: Path, *arguments: str) -> str:
    command = [STILLWATCH, *arguments, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise BenchFailed(f"stillwatch {arguments[0]}: {done.stderr}")
    return done.stdout

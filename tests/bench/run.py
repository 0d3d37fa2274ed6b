"""`make bench`: measure this checkout on this machine.

    make bench                                      everything but the crowd, in some minutes
    make bench ARGS="--only cold_sync"              one measurement; repeatable
    make bench ARGS="--long --seconds 300"          the crowd of followers too, and detection over 10 million requests

Figures are ratios to something bare that ran in the same minute on the same machine, wherever that makes sense: they
outlast the machine. The table goes to standard output, the same as JSON to build/bench.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hub.database.embedded import EmbeddedPostgres, destroy
from tests.bench.crowd import idle_followers
from tests.bench.detecting import detect_many
from tests.bench.figures import QUICK, BenchFailed, Figure, Sizes, progress, table, write
from tests.bench.gating import gate
from tests.bench.place import Place, place
from tests.bench.submissions import durable_submissions, submit_to_follower
from tests.bench.syncing import cold_sync, detection

Measurement = Callable[[Place, Sizes], list[Figure]]

MEASUREMENTS: dict[str, Measurement] = {
    "submit_to_follower": submit_to_follower,
    "durable_submissions": durable_submissions,
    "cold_sync": cold_sync,
    "detection": detection,
    "detect_many": detect_many,
}
LOCAL: dict[str, Callable[[Path, Sizes], list[Figure]]] = {"gate": gate}
"""What needs no hub."""
LONG: dict[str, Measurement] = {"idle_followers": idle_followers}


def main() -> int:
    """Measure; exit 0 if everything worked, whether or not the targets are met."""
    arguments = _parser().parse_args()
    chosen = arguments.only or [*MEASUREMENTS, *LOCAL, *(LONG if arguments.long else ())]
    sizes = QUICK if arguments.quick else Sizes()
    given = {
        name: value for name in ("seconds", "samples", "requests") if (value := getattr(arguments, name)) is not None
    }
    sizes = dataclasses.replace(sizes, **given)
    if arguments.long and arguments.requests is None and not arguments.quick:
        sizes = dataclasses.replace(sizes, requests=10_000_000)
    figures: list[Figure] = []
    # Postgres may have to be another user's process, which must be able to reach its folder.
    with tempfile.TemporaryDirectory(prefix="stillwatch-bench-") as folder:
        home = Path(folder)
        try:
            figures += _with_hub(home, [name for name in chosen if name not in LOCAL], sizes)
            for name in chosen:
                if name in LOCAL:
                    progress(name)
                    figures += LOCAL[name](home, sizes)
        except BenchFailed as error:
            progress(f"  failed: {error}")
            return 1
    write(figures, arguments.json)
    print(table(figures))
    return 0


def _with_hub(home: Path, chosen: list[str], sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    if not chosen:
        return figures
    try:
        with EmbeddedPostgres.start(home / "postgres", settings={"max_connections": "200"}) as postgres:
            for name in chosen:
                progress(name)
                with place(home, postgres.url, name) as where:
                    figures += {**MEASUREMENTS, **LONG}[name](where, sizes)
    finally:
        destroy(home / "postgres")  # as root it lies outside of the folder
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", choices=[*MEASUREMENTS, *LOCAL, *LONG], help="measure this; repeatable"
    )
    parser.add_argument("--long", action="store_true", help="the crowd of followers too")
    parser.add_argument("--seconds", type=int, help="how long the crowd is watched (300)")
    parser.add_argument("--samples", type=int, help="repetitions (3)")
    parser.add_argument("--requests", type=int, help="that detection runs over (1,000,000; with --long 10,000,000)")
    parser.add_argument("--quick", action="store_true", help="tiny: does it work at all?")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="FILE", help="where to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())

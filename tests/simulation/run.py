"""Whom patterns hit and whom they block, at four labs with the default policy (`make simulation`).

    python -m tests.simulation.run --seed 1 --accounts 2000 --days 27 [--json]

Prints a table day by day and lab by lab, and the numbers in short. Same arguments, same figures. Exits with 1 where
something does not hold that the default policy promises.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hub.database.embedded import EmbeddedPostgres, destroy
from tests.forum import migrate
from tests.simulation.story import LABS, LAST_DAY, Report, Row, claims, story_on, summary
from tests.simulation.traffic import Sizes, labs_traffic, made_up_corpus, real_corpus

LEAST_ACCOUNTS = 1_000
"""With fewer no lab has enough that it vouches for to keep within the default budget."""
_HEAD = ("day", "lab", "stage", "observe", "flag", "thr.", "block", "ordinary hit", "batch hit", "campaign", "held by")
_LINE = "{:>3} {:<7} {:<12} {:>7} {:>5} {:>4} {:>5} {:>12} {:>9} {:>8}  {}"


def simulate(seed: int, sizes: Sizes, *, made_up: bool, found_out: bool = True) -> tuple[Report, str]:
    """Live through it; gives what came of it, and which prompts it was."""
    corpus = None if made_up else real_corpus()
    with tempfile.TemporaryDirectory(prefix="stillwatch-simulation-") as name:
        folder = Path(name)
        traffics = labs_traffic(corpus or made_up_corpus(), len(LABS), sizes, seed, folder / "traffic")
        try:
            with EmbeddedPostgres.start(folder / "postgres", settings={"fsync": "off"}) as postgres:
                migrate(postgres.url)
                with story_on(postgres.url, traffics, folder, found_out=found_out) as story:
                    report = story.run(sizes.days)
        finally:
            destroy(folder / "postgres")
    return report, "real prompts" if corpus else "made-up prompts"


def main(arguments: list[str] | None = None) -> int:
    """Simulate, and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--accounts", type=int, default=2_000, help="ordinary accounts of each lab")
    parser.add_argument("--campaign", type=int, default=100, help="accounts of the campaign at each lab")
    parser.add_argument("--days", type=int, default=LAST_DAY + 1)
    parser.add_argument("--made-up", action="store_true", help="made-up prompts, though there are real ones")
    parser.add_argument(
        "--undetected", action="store_true", help="the forum never learns that Mallory's two friends lied"
    )
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.accounts < LEAST_ACCOUNTS or chosen.days < 1 or chosen.campaign < 1:
        parser.error(f"at least {LEAST_ACCOUNTS:,} accounts, one of the campaign, and one day")
    logging.disable(logging.WARNING)
    began, used = time.monotonic(), time.process_time()
    sizes = Sizes(chosen.accounts, chosen.campaign, chosen.days)
    report, prompts = simulate(chosen.seed, sizes, made_up=chosen.made_up, found_out=not chosen.undetected)
    found = claims(report)
    document = {"seed": chosen.seed, "prompts": prompts, "summary": summary(report), "claims": found}
    if chosen.json:
        print(json.dumps({**document, **report.document()}, indent=1, default=str))
    else:
        _print(report, document)
        print(f"\n{time.monotonic() - began:.0f} s, {time.process_time() - used:.0f} s of CPU, {prompts}")
    return 0 if all(found.values()) else 1


def _print(report: Report, document: dict[str, Any]) -> None:
    for name in dict.fromkeys(one.pattern for one in report.rows):
        print(
            f"\nThe {name} pattern (decisions by effective action; where nothing changed at a lab, its day is left out)"
        )
        print(_LINE.format(*_HEAD))
        before: dict[str, tuple[object, ...]] = {}
        for one in report.of(name):
            cells = _cells(one)
            if before.get(one.lab) != cells:
                print(_LINE.format(one.day, one.lab, *cells))
            before[one.lab] = cells
    print("\nRequests of the campaign: blocked by the gates, of all that were sent")
    print(f"{'day':>3} " + "".join(f"{lab:>16}" for lab in LABS) + "   customers blocked")
    for day in sorted({one.day for one in report.gates}):
        gates = [one for one in report.gates if one.day == day]
        share = "".join(f"{one.attack_blocked:>9,} of {one.attack:>3,}" for one in gates)
        print(f"{day:>3} {share}   {sum(one.ordinary_blocked + one.batch_blocked for one in gates)}")
    print("\nWhat people did")
    for number, event in report.events:
        print(f"{number:>3} {event}")
    for what, code in report.refusals.items():
        print(f"    refused by the hub: {what} ({code})")
    print("\nWhat counts of what was said, as Aurora sees it")
    seen: dict[str, dict[str, Any]] = {}
    for voice in report.voices:
        said = {key: value for key, value in voice.items() if key != "day"}
        if seen.get(voice["pattern"]) != said:
            print(f"{voice['day']:>3} " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in said.items()))
        seen[voice["pattern"]] = said
    print("\n" + json.dumps(document["summary"], indent=1))
    for claim, holds in document["claims"].items():
        print(f"{'holds' if holds else 'DOES NOT HOLD':<14} {claim}")


def _cells(one: Row) -> tuple[object, ...]:
    return (
        f"{one.stage} {one.share} %" if one.share else one.stage,
        one.observed,
        one.flagged,
        one.throttled,
        one.blocked,
        one.ordinary_hit,
        one.batch_hit,
        one.campaign_blocked,
        ", ".join(dict.fromkeys(one.held_by)),
    )


if __name__ == "__main__":
    sys.exit(main())

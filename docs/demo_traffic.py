"""The request logs of the demo's labs: made up, with campaigns in them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

POOL_ACCOUNTS, POOL_REQUESTS = 40, 26


def write_traffic(path: Path) -> set[str]:
    """Write a day of synthetic request logs with one campaign in it.

    Returns:
        The campaign's accounts.
    """
    chance = random.Random(7)  # noqa: S311 - made-up traffic
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    tasks = ("plan a garden", "rank these cities", "explain tides", "draft a memo", "sort a list", "name a boat")
    ordinary = (
        "Translate this sentence into French: the train leaves at noon.",
        "Why does my regular expression match too much?",
        "Write a short birthday poem for a colleague who likes cycling.",
        "Summarise the following meeting notes in three bullet points.",
        "What is the difference between a list and a tuple in Python?",
    )
    rows = []
    guilty = {f"acct-{number:04d}" for number in range(36)}
    for account in sorted(guilty):
        for _ in range(12):
            seeds = chance.sample(tasks, 3)
            listed = "\n".join(f"{place}. {seed}" for place, seed in enumerate(seeds, 1))
            prompt = (
                "You are asked to come up with a set of 20 diverse task instructions. These task instructions will be "
                "given to a GPT model and we will evaluate the GPT model for completing the instructions.\n\n"
                f"List of 20 tasks:\n{listed}\n4."
            )
            rows.append((start + timedelta(seconds=chance.randrange(86_400)), account, prompt))
    for number in range(4_000):
        account = f"user-{number % 400:04d}"
        rows.append((start + timedelta(seconds=chance.randrange(86_400)), account, chance.choice(ordinary)))
    with path.open("w") as file:
        for moment, account, prompt in sorted(rows):
            row = {"timestamp": _written(moment), "account.id": account, "prompt.text": prompt}
            file.write(json.dumps(row) + "\n")
    return guilty


def write_legitimate(path: Path) -> None:
    """Write ids of ordinary customers that a lab knows, one a line: some of those in its request logs."""
    path.write_text("".join(f"user-{number:04d}\n" for number in range(120)))


def write_pool(path: Path, lab: str, seed: int) -> set[str]:
    """Write two days of a lab's synthetic request log with a pool of accounts in it, each of them unremarkable.

    Returns:
        The pool's accounts.
    """
    chance = random.Random(seed)  # noqa: S311 - made-up traffic
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    things = ("tide", "vaccine", "bridge", "novel", "glacier", "enzyme", "market", "violin", "orbit", "treaty")
    asked = ("summarise", "translate", "describe", "compare", "improve")
    rows: list[tuple[datetime, dict[str, Any]]] = []

    def add(day: int, account: dict[str, Any], prompt: str, turns: int) -> None:
        moment = midnight + timedelta(days=day, seconds=chance.randrange(86_400))
        tokens = {
            "gen_ai.usage.input_tokens": len(prompt) // 4,
            "gen_ai.usage.output_tokens": chance.randrange(200, 900),
        }
        rows.append((moment, {**account, "prompt.text": prompt, "prompt.turns": turns, **tokens}))

    pool = {f"{lab}-customer-{number:03d}" for number in range(POOL_ACCOUNTS)}
    for name in sorted(pool):
        opened = midnight - timedelta(hours=20, minutes=chance.randrange(60))
        account = {"account.id": name, "account.created": _written(opened), "payment.fingerprint": f"{lab}-payer"}
        for number in range(POOL_REQUESTS):
            words = " and the ".join(chance.sample(things, 3))
            add(1, account, f"How does the {words} of case {number} in {name[-3:]} work? Go step by step.", 1)
    for number in range(200):
        opened = midnight - timedelta(days=chance.randrange(20, 900))
        account = {
            "account.id": f"user-{number:04d}",
            "account.created": _written(opened),
            "payment.fingerprint": f"{lab}-card-{number // 2}",
        }
        for _ in range(chance.randrange(1, POOL_REQUESTS)):
            words = " and a ".join(chance.sample(things, 2))
            add(chance.randrange(2), account, f"Please {chance.choice(asked)} a {words}.", chance.randrange(1, 9))
    with path.open("w") as file:
        for moment, row in sorted(rows, key=lambda one: one[0]):
            file.write(json.dumps({"timestamp": _written(moment), **row}) + "\n")
    return pool


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"

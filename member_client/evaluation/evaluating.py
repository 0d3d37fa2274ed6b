"""One evaluation: a world, the patterns over it, and the figures; also leaving one corpus out, and curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from member_client.evaluation.candidates import Candidate
from member_client.evaluation.detecting import Lab, PromptMatches
from member_client.evaluation.metrics import NEVER, Outcome, together
from member_client.evaluation.world import Prompts, Settings, World, build

CURVE_ACCOUNTS = (1, 10, 100, 1_000, 10_000)
CURVE_MIXES = ((1, 0), (1, 1), (1, 10))
FALSE_POSITIVE_BOUND = 0.001
"""Share of ordinary accounts that all patterns together may flag."""
FIT_SEED = 1_000_003
"""Thresholds are fitted in another world than the one they are judged in: its seed is that much larger."""

Told = Callable[[str], None]


class Evaluation:
    """Patterns under evaluation, with prompts to evaluate them on."""

    def __init__(self, prompts: Prompts, candidates: Sequence[Candidate], told: Told) -> None:
        """Prepare.

        Args:
            told: hears in a few words what is being done.
        """
        self._prompts = prompts
        self._candidates = list(candidates)
        self._matches = PromptMatches(prompts)
        self._told = told

    def run(self, settings: Settings) -> dict[str, Any]:
        """The figures of one world: in total, by corpus, by pattern and by kind of customer."""
        with self._lab(settings) as (world, lab):
            by_pattern = {one.name: self._outcome(world, lab, one) for one in self._candidates}
        total = together(list(by_pattern.values()))
        return {
            "settings": _settings(settings, world),
            "total": total.document(),
            "by_corpus": total.by_corpus(),
            "by_kind": total.by_kind(),
            "by_pattern": {name: outcome.document() for name, outcome in by_pattern.items()},
        }

    def curves(
        self,
        settings: Settings,
        accounts: Sequence[int] = CURVE_ACCOUNTS,
        mixes: Sequence[tuple[int, int]] = CURVE_MIXES,
    ) -> list[dict[str, Any]]:
        """Total and figures by corpus for every number of accounts and every mix."""
        points = []
        for mix in mixes:
            for count in accounts:
                report = self.run(replace(settings, accounts=count, mix=mix))
                points.append(
                    {
                        "accounts": count,
                        "mix": _mix(mix),
                        "total": report["total"],
                        "by_corpus": report["by_corpus"],
                    }
                )
        return points

    def leave_one_out(self, settings: Settings) -> dict[str, Any]:
        """The figures by corpus where nothing was tuned to that corpus.

        A pattern that names a corpus's own words does not run over its requests. Every fitted threshold is fitted
        again on the other corpora, in another world: of the values whose flags stay within this pattern's part of
        the bound on ordinary accounts, the one that finds most of the other corpora's volume; of equals the most
        careful.
        """
        with self._lab(replace(settings, seed=settings.seed + FIT_SEED), leave_out=True) as (world, lab):
            fitted = self._fit(world, lab)
        attacks = self._prompts.attacks
        with self._lab(settings, leave_out=True) as (world, lab):
            fixed = {one.name: self._outcome(world, lab, one) for one in self._candidates if one.threshold is None}
            varied = {
                one.name: {value: self._outcome(world, lab, variant) for value, variant in one.variants()}
                for one in self._candidates
                if one.threshold is not None
            }
        by_corpus, outcomes, chosen = {}, [], {}
        for number, corpus in enumerate(attacks):
            values = {name: fitted[name][number] for name in varied}
            parts = [*fixed.values(), *(varied[name][value] for name, value in values.items() if value is not None)]
            outcome = together(parts)
            by_corpus[corpus] = {**outcome.by_corpus()[corpus], "thresholds": values}
            outcomes.append(outcome)
            chosen[corpus] = outcome
        return {
            "settings": _settings(settings, world),
            "total": _left_out_total(outcomes),
            "by_corpus": by_corpus,
        }

    def _fit(self, world: World, lab: Lab) -> dict[str, list[float | None]]:
        """For each pattern with a fitted threshold, the value to use where each corpus in turn is left out."""
        patterns = [one for one in self._candidates if one.threshold is not None]
        ordinary = len(world.truth.kind[world.truth.campaign < 0])
        allowed = FALSE_POSITIVE_BOUND * ordinary / max(1, len(patterns))
        fitted: dict[str, list[float | None]] = {}
        for one in patterns:
            tried = [(value, self._outcome(world, lab, variant)) for value, variant in one.variants()]
            within = [(value, outcome) for value, outcome in tried if outcome.ordinary_flagged() <= allowed]
            recalls = np.array(
                [[outcome.recall_volume(c) for c in range(len(self._prompts.attacks))] for _, outcome in within]
            ).reshape(len(within), len(self._prompts.attacks))
            choices: list[float | None] = []
            for left_out in range(len(self._prompts.attacks)):
                others = np.delete(recalls, left_out, axis=1).sum(axis=1)
                choices.append(within[int(np.argmax(others))][0] if len(within) else None)
            fitted[one.name] = choices
        return fitted

    def _outcome(self, world: World, lab: Lab, candidate: Candidate) -> Outcome:
        return Outcome(world.truth, self._prompts.attacks, lab.flags(candidate).since)

    @contextmanager
    def _lab(self, settings: Settings, *, leave_out: bool = False) -> Iterator[tuple[World, Lab]]:
        self._told(f"{settings.accounts:,} accounts a campaign, mixed {_mix(settings.mix)}, seed {settings.seed}")
        world = build(self._prompts, settings)
        lab = Lab(world, self._candidates, self._matches, leave_out=self._prompts.attacks if leave_out else ())
        try:
            yield world, lab
        finally:
            lab.close()


def _left_out_total(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Each campaign's accounts as flagged where its corpus was left out; of innocents, the worst of all."""
    worst = max(outcomes, key=lambda outcome: (outcome.ordinary_flagged(), int((outcome.since < NEVER).sum())))
    since = worst.since.copy()
    for number, outcome in enumerate(outcomes):
        mine = outcome.truth.campaign == number
        since[mine] = outcome.since[mine]
    return Outcome(worst.truth, worst.attacks, since).document()


def _settings(settings: Settings, world: World) -> dict[str, Any]:
    return {
        "accounts": settings.accounts,
        "mix": _mix(settings.mix),
        "seed": settings.seed,
        "ordinary_accounts": settings.ordinary,
        "days": settings.days,
        "requests": world.requests.num_rows,
    }


def _mix(mix: tuple[int, int]) -> str:
    return f"{mix[0]}:{mix[1]}"

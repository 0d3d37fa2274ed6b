"""One evaluation: a world, the patterns over it, and the figures; also leaving one corpus out, and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from member_client.evaluation.candidates import Candidate
from member_client.evaluation.detecting import Lab, PromptMatches
from member_client.evaluation.metrics import NEVER, Outcome, side_by_side, together
from member_client.evaluation.world import Prompts, Settings, build

CURVE_ACCOUNTS = (1, 10, 100, 1_000, 10_000)
CURVE_MIXES = ((1, 0), (1, 1), (1, 10))
FALSE_POSITIVE_BOUND = 0.001
"""Share of ordinary accounts that all patterns together may flag."""
CAMPAIGNS_SHARE = 0.1
"""Accounts of campaigns, as a share of the ordinary ones, that are at most in one world (one campaign may be more)."""
FIT_SEED = 1_000_003
"""Thresholds are fitted in another world than the one they are judged in: its seed is that much larger."""

Told = Callable[[str], None]


class Evaluation:
    """Patterns under evaluation, with prompts to evaluate them on."""

    def __init__(
        self, prompts: Prompts, candidates: Sequence[Candidate], told: Told, *, last_windows: bool = True
    ) -> None:
        """Prepare.

        Args:
            last_windows: of all windows, only those that end with the period.
            told: hears in a few words what is being done.
        """
        self._prompts = prompts
        self._candidates = list(candidates)
        self._matches = PromptMatches(prompts)
        self._told = told
        self._last_windows = last_windows

    def run(self, settings: Settings) -> dict[str, Any]:
        """The figures: in total, by corpus, by pattern and by kind of customer."""
        by_pattern = self._outcomes(settings, self._candidates)
        total = together(list(by_pattern.values()))
        return {
            "settings": self._settings(settings),
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
        variants = {one.name: dict(one.variants()) for one in self._candidates if one.threshold is not None}
        varied = [replace(two, name=_label(name, value)) for name, of in variants.items() for value, two in of.items()]
        fixed = [one for one in self._candidates if one.threshold is None]
        tried = self._outcomes(replace(settings, seed=settings.seed + FIT_SEED), [*fixed, *varied], leave_out=True)
        judged = self._outcomes(settings, [*fixed, *varied], leave_out=True)
        fitted = {name: self._fit(name, list(of), tried, len(variants)) for name, of in variants.items()}
        by_corpus, outcomes = {}, []
        for number, corpus in enumerate(self._prompts.attacks):
            values = {name: choices[number] for name, choices in fitted.items()}
            chosen = [_label(name, value) for name, value in values.items() if value is not None]
            outcome = together([judged[name] for name in [*(one.name for one in fixed), *chosen]])
            by_corpus[corpus] = {**outcome.by_corpus()[corpus], "thresholds": values}
            outcomes.append(outcome)
        return {
            "settings": self._settings(settings),
            "total": _left_out_total(outcomes),
            "by_corpus": by_corpus,
        }

    def _fit(
        self, name: str, values: Sequence[float], tried: Mapping[str, Outcome], patterns: int
    ) -> list[float | None]:
        """The value to use where each corpus in turn is left out; None if every one flags too many."""
        within = [value for value in values if self._bearable(tried[_label(name, value)], patterns)]
        corpora = range(len(self._prompts.attacks))
        recalls = [[tried[_label(name, value)].recall_volume(corpus) for corpus in corpora] for value in within]
        choices: list[float | None] = []
        for left_out in corpora:
            others = [sum(recall for corpus, recall in enumerate(row) if corpus != left_out) for row in recalls]
            choices.append(within[others.index(max(others))] if within else None)
        return choices

    def _bearable(self, outcome: Outcome, patterns: int) -> bool:
        ordinary = int((outcome.truth.campaign < 0).sum())
        return outcome.ordinary_flagged() <= FALSE_POSITIVE_BOUND * ordinary / patterns

    def _outcomes(
        self, settings: Settings, candidates: Sequence[Candidate], *, leave_out: bool = False
    ) -> dict[str, Outcome]:
        """What each candidate flags, by its name."""
        by_world: list[dict[str, Outcome]] = []
        for campaigns in self._groups(settings):
            names = ", ".join(self._prompts.attacks[number] for number in campaigns)
            self._told(f"{settings.accounts:,} accounts, mixed {_mix(settings.mix)}, seed {settings.seed}: {names}")
            world = build(self._prompts, settings, campaigns)
            lab = Lab(
                world,
                candidates,
                self._matches,
                leave_out=self._prompts.attacks if leave_out else (),
                last_windows=self._last_windows,
            )
            try:
                flags = {one.name: lab.flags(one).since for one in candidates}
            finally:
                lab.close()
            by_world.append({name: Outcome(world.truth, self._prompts.attacks, since) for name, since in flags.items()})
        return {one.name: side_by_side([world[one.name] for world in by_world]) for one in candidates}

    def _groups(self, settings: Settings) -> list[list[int]]:
        """Campaigns that share a world: as many as have together a tenth of the ordinary accounts, at least one."""
        groups: list[list[int]] = [[]]
        taken = 0
        for number, source in enumerate(self._prompts.attack):
            accounts = min(settings.accounts, source.size)
            if groups[-1] and taken + accounts > CAMPAIGNS_SHARE * settings.ordinary:
                groups.append([])
                taken = 0
            groups[-1].append(number)
            taken += accounts
        return groups

    def _settings(self, settings: Settings) -> dict[str, Any]:
        return {
            "accounts": settings.accounts,
            "mix": _mix(settings.mix),
            "seed": settings.seed,
            "ordinary_accounts": settings.ordinary,
            "days": settings.days,
            "windows": "last" if self._last_windows else "all",
            "worlds": len(self._groups(settings)),
        }


def _left_out_total(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Each campaign's accounts as flagged where its corpus was left out; of innocents, the worst of all."""
    worst = max(outcomes, key=lambda outcome: (outcome.ordinary_flagged(), int((outcome.since < NEVER).sum())))
    since = worst.since.copy()
    for number, outcome in enumerate(outcomes):
        mine = outcome.truth.campaign == number
        since[mine] = outcome.since[mine]
    return Outcome(worst.truth, worst.attacks, since).document()


def _label(name: str, value: float) -> str:
    return f"{name} at {value:g}"


def _mix(mix: tuple[int, int]) -> str:
    return f"{mix[0]}:{mix[1]}"

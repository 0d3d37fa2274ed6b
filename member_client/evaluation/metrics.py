"""What detection is worth: flags against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from member_client.evaluation.population import Integers, Kind
from member_client.evaluation.world import Truth, is_batch, is_ordinary
from sharing_protocol.intervals import wilson

NEVER = int(np.iinfo(np.int64).max)
_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Flags of one pattern, or of several together, against the truth.

    Attributes:
        truth: of the world.
        attacks: names of the attack files.
        since: of each account, microseconds since 1970 of its first flag, `NEVER` if it was not flagged.
    """

    truth: Truth
    attacks: tuple[str, ...]
    since: Integers

    def document(self) -> dict[str, Any]:
        """In total."""
        return {**self._campaigns(range(len(self.attacks))), **self._innocents()}

    def by_corpus(self) -> dict[str, dict[str, Any]]:
        """By attack file; innocents share one log, so their figures are the same for each."""
        innocents = self._innocents()
        return {name: {**self._campaigns([number]), **innocents} for number, name in enumerate(self.attacks)}

    def by_kind(self) -> dict[str, dict[str, Any]]:
        """Innocent accounts by kind of customer."""
        flagged = self.since < NEVER
        return {
            kind.name.lower(): _share("accounts_flagged", flagged, self.truth.kind == kind)
            for kind in Kind
            if kind is not Kind.CAMPAIGN
        }

    def recall_volume(self, campaign: int) -> float:
        """Share of a campaign's requests that were sent by flagged accounts."""
        events = self.truth.event_campaign == campaign
        flagged = self.since[self.truth.event_account[events]] < NEVER
        return float(flagged.mean()) if len(flagged) else 0.0

    def ordinary_flagged(self) -> int:
        """How many ordinary accounts were flagged."""
        return int((self.since[is_ordinary(self.truth.kind)] < NEVER).sum())

    def _campaigns(self, numbers: Sequence[int] | range) -> dict[str, Any]:
        truth = self.truth
        events = np.isin(truth.event_campaign, list(numbers))
        account, time = truth.event_account[events], truth.event_time[events]
        since = self.since[account]
        mine = np.isin(truth.campaign, list(numbers))
        flagged = self.since < NEVER
        found, total = int((since < NEVER).sum()), len(since)
        accounts = _share("recall_accounts", flagged, mine)
        # Requests of one account are found together, so the account is what counts as one observation.
        volume = found / total if total else 0.0
        hours = {number: self._hours(number) for number in numbers}
        detected = [value for value in hours.values() if value is not None]
        return {
            "attack_requests": total,
            "attack_accounts": int(mine.sum()),
            "recall_volume": volume,
            "recall_volume_interval": wilson(round(volume * int(mine.sum())), int(mine.sum())),
            "recall_volume_from_detection_on": int((time >= since).sum()) / total if total else 0.0,
            "recall_accounts": accounts["recall_accounts"],
            "recall_accounts_interval": accounts["recall_accounts_interval"],
            **self._cells(mine, flagged),
            "campaigns_detected": len(detected),
            "hours_to_detection": float(np.median(detected)) if detected else None,
        }

    def _cells(self, mine: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> dict[str, Any]:
        """A cluster is the accounts of one payment instrument; it is found if at least half of them are flagged."""
        cells = self.truth.campaign[mine] * (int(self.truth.cell.max(initial=0)) + 1) + self.truth.cell[mine]
        _, number = np.unique(cells, return_inverse=True)
        sizes = np.bincount(number)
        hits = np.bincount(number, weights=flagged[mine])
        return _share("recall_clusters", hits >= sizes / 2, np.ones(len(sizes), dtype=np.bool_))

    def _hours(self, campaign: int) -> float | None:
        """Hours from the campaign's first request to the first flag of one of its accounts."""
        first_flag = int(self.since[self.truth.campaign == campaign].min(initial=NEVER))
        if first_flag == NEVER:
            return None
        begin = int(self.truth.event_time[self.truth.event_campaign == campaign].min())
        return max(0.0, (first_flag - begin) / _HOUR)

    def _innocents(self) -> dict[str, Any]:
        truth, flagged = self.truth, self.since < NEVER
        listed = truth.allowed
        heeded = flagged & ~np.isin(truth.org, truth.org[listed])  # an allow-list names organisations, and always wins

        def customers(among: NDArray[np.bool_]) -> int:
            return len(np.unique(truth.org[among]))

        return {
            **_share("ordinary_accounts_flagged", flagged, is_ordinary(truth.kind), suffix="_share"),
            "batch_customers": customers(is_batch(truth.kind)),
            "batch_customers_flagged": customers(heeded & listed),
            "batch_customers_flagged_without_list": customers(flagged & listed),
            "new_batch_customers_flagged": customers(flagged & is_batch(truth.kind) & ~listed),
        }


def side_by_side(worlds: Sequence[Outcome]) -> Outcome:
    """Outcomes in worlds of the same ordinary accounts and different campaigns, as one.

    An innocent account that was flagged in any of them counts as flagged.
    """
    innocent = worlds[0].truth.campaign < 0
    count = int(innocent.sum())
    parts = [(world.truth, world.since, world.truth.campaign >= 0, world.truth.event_campaign >= 0) for world in worlds]
    sizes = [int(mine.sum()) for _, _, mine, _ in parts]
    firsts = count + np.cumsum(sizes) - sizes

    def column(name: str) -> Any:
        values = [getattr(worlds[0].truth, name)[innocent]]
        return np.concatenate([*values, *(getattr(truth, name)[mine] for truth, _, mine, _ in parts)])

    def events(name: str) -> Any:
        return np.concatenate([getattr(truth, name)[sent] for truth, _, _, sent in parts])

    sent_by = [
        truth.event_account[sent] - count + first for (truth, _, _, sent), first in zip(parts, firsts, strict=True)
    ]
    truth = Truth(
        **{name: column(name) for name in ("names", "kind", "campaign", "cell", "org", "allowed")},
        event_account=np.concatenate(sent_by),
        event_time=events("event_time"),
        event_campaign=events("event_campaign"),
    )
    innocents = np.minimum.reduce([world.since[:count] for world in worlds])
    return Outcome(truth, worlds[0].attacks, np.concatenate([innocents, *(since[mine] for _, since, mine, _ in parts)]))


def together(parts: Sequence[Outcome]) -> Outcome:
    """What several patterns flag together: an account is flagged once one of them flags it."""
    return Outcome(parts[0].truth, parts[0].attacks, np.minimum.reduce([part.since for part in parts]))


def _share(name: str, found: NDArray[np.bool_], among: NDArray[np.bool_], *, suffix: str = "") -> dict[str, Any]:
    hits, of = int((found & among).sum()), int(among.sum())
    return {name + suffix: hits / of if of else 0.0, f"{name}_count": hits, f"{name}_interval": wilson(hits, of)}

"""The curves as a picture: recall by volume over the number of accounts, a line a mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from member_client.pictures import GRID, Box, Curve, Picture, Words

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 360, 60, 30, 130, 50
_COLOURS = ("#1b6ca8", "#c8553d", "#3c8d53", "#7a5195", "#555555")


def curves_drawn(points: Sequence[Mapping[str, Any]]) -> Picture:
    """The curves, with a table of their numbers.

    Args:
        points: what `Evaluation.curves` gives.
    """
    rows = [
        (
            f"{point['accounts']:,}",
            point["mix"],
            f"{point['total']['recall_volume']:.1%}",
            f"{point['total']['recall_accounts']:.1%}",
            f"{point['total']['ordinary_accounts_flagged_share']:.3%}",
        )
        for point in points
    ]
    headings = ("accounts", "mix", "volume found", "accounts found", "ordinary accounts flagged")
    return Picture(_WIDTH, _HEIGHT, _shapes(points), "Recall by accounts and mix", headings, rows)


def _shapes(points: Sequence[Mapping[str, Any]]) -> list[Box | Words | Curve]:
    most = max(1.0, *(log10(point["accounts"]) for point in points))

    def place(accounts: int, share: float) -> tuple[float, float]:
        across = _LEFT + log10(accounts) / most * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    shapes: list[Box | Words | Curve] = []
    for tenth in range(0, 11, 2):
        _, down = place(1, tenth / 10)
        shapes.append(Box(_LEFT, down - 0.5, _WIDTH - _LEFT - _RIGHT, 1, GRID))
        shapes.append(Words(_LEFT - 8, down + 4, f"{tenth * 10} %", "end"))
    for accounts in sorted({point["accounts"] for point in points}):
        across, _ = place(accounts, 0)
        shapes.append(Words(across, _HEIGHT - _BOTTOM + 18, f"{accounts:,}", "middle"))
    shapes.append(Words((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "accounts of a campaign", "middle"))
    shapes.append(Words(_LEFT, _TOP - 12, "share of the attack volume found"))
    for number, mix in enumerate(dict.fromkeys(point["mix"] for point in points)):
        colour = _COLOURS[number % len(_COLOURS)]
        those = [one for one in points if one["mix"] == mix]
        shapes.append(Curve(tuple(place(one["accounts"], one["total"]["recall_volume"]) for one in those), colour))
        shapes.append(Words(_WIDTH - _RIGHT + 16, _TOP + 20 * number + 4, f"{mix} mixed", colour=colour))
    return shapes

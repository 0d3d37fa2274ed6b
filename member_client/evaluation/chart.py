"""The curves as a picture: recall by volume over the number of accounts, a line a mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 640, 360, 60, 30, 130, 50
_COLOURS = ("#1b6ca8", "#c8553d", "#3c8d53", "#7a5195", "#555555")


def draw(points: Sequence[Mapping[str, Any]], ending: str) -> str:
    """The curves as SVG, or as an HTML page with a table besides.

    Args:
        points: what `Evaluation.curves` gives.
        ending: `.svg` or `.html`.
    """
    picture = _svg(points)
    if ending == ".svg":
        return picture
    rows = "".join(
        f"<tr><td>{point['accounts']:,}</td><td>{escape(point['mix'])}</td>"
        f"<td>{point['total']['recall_volume']:.1%}</td><td>{point['total']['recall_accounts']:.1%}</td>"
        f"<td>{point['total']['ordinary_accounts_flagged_share']:.3%}</td></tr>"
        for point in points
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title>'
        "<style>body{font-family:sans-serif}td,th{padding:0 1em;text-align:right}</style>"
        f"<h1>Recall by accounts and mix</h1>{picture}<table><tr><th>accounts<th>mix<th>volume found"
        f"<th>accounts found<th>ordinary accounts flagged</tr>{rows}</table></html>\n"
    )


def _svg(points: Sequence[Mapping[str, Any]]) -> str:
    most = max(1.0, *(log10(point["accounts"]) for point in points))

    def place(accounts: int, share: float) -> tuple[float, float]:
        across = _LEFT + log10(accounts) / most * (_WIDTH - _LEFT - _RIGHT)
        return across, _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">']
    for tenth in range(0, 11, 2):
        _, down = place(1, tenth / 10)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{tenth * 10} %</text>'
        )
    for accounts in sorted({point["accounts"] for point in points}):
        across, _ = place(accounts, 0)
        parts.append(f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{accounts:,}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">accounts of a campaign</text>')
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 12}">share of the attack volume found</text>')
    for number, mix in enumerate(dict.fromkeys(point["mix"] for point in points)):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [place(one["accounts"], one["total"]["recall_volume"]) for one in points if one["mix"] == mix]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for across, down in places]
        down = _TOP + 20 * number
        parts.append(f'<text x="{_WIDTH - _RIGHT + 16}" y="{down + 4}" fill="{colour}">{escape(mix)} mixed</text>')
    return "\n".join([*parts, "</svg>\n"])

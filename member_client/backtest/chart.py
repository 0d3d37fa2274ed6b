"""Matches by day as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from member_client.backtest.history import Day
from member_client.pictures import GRID, Box, Picture, Words
from sharing_protocol.statements.header import show_hidden

MAX_DAYS = 400
"""The newest ones are drawn."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 840, 320, 70, 50, 20, 40
_BAR = "#1b6ca8"


def days_drawn(title: str, days: Sequence[Day]) -> Picture:
    """The matches of these days as bars, gaps included."""
    return Picture(
        _WIDTH,
        _HEIGHT,
        list(_shapes(_shortened(show_hidden(title)), days)),
        title,
        ("day", "requests", "matches"),
        [(str(one.day), f"{one.requests:,}", f"{one.matches:,}") for one in days],
    )


def _shapes(title: str, days: Sequence[Day]) -> Iterator[Box | Words]:
    yield Words(_LEFT, 22, title)
    if not days:
        yield Words(_WIDTH / 2, _HEIGHT / 2, "no requests with a time", "middle")
        return
    last = days[-1].day
    first = max(days[0].day, last - timedelta(days=MAX_DAYS - 1))
    matches = {one.day: one.matches for one in days}
    most = max(1, *(count for day, count in matches.items() if day >= first))
    most += most % 2 if most > 1 else 0  # so that half of it is a number too
    bottom, room = _HEIGHT - _BOTTOM, _HEIGHT - _TOP - _BOTTOM
    yield Words(_LEFT, _TOP - 10, "matches by day (UTC)")
    for part in (0, 0.5, 1) if most > 1 else (0, 1):
        down = bottom - part * room
        yield Box(_LEFT, down, _WIDTH - _LEFT - _RIGHT, 1, GRID)
        yield Words(_LEFT - 8, down + 4, f"{most * part:,.10g}", "end")
    drawn = (last - first).days + 1
    step = (_WIDTH - _LEFT - _RIGHT) / drawn
    for number in range(drawn):
        height = matches.get(first + timedelta(days=number), 0) / most * room
        if height:
            yield Box(_LEFT + number * step, bottom - height, max(1.0, step * 0.8), height, _BAR)
    for number in _labelled(drawn):
        yield Words(_LEFT + (number + 0.4) * step, bottom + 18, str(first + timedelta(days=number)), "middle")


def _labelled(drawn: int) -> list[int]:
    """Which days have their date below: at most seven, evenly."""
    apart = -(-drawn // 7)
    return list(range(0, drawn, apart))


def _shortened(title: str) -> str:
    return title if len(title) <= 110 else f"{title[:109]}…"

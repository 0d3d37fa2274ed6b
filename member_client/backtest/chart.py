"""Matches by day as a picture: SVG, an HTML page, or PNG, all of the same shapes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from pathlib import Path

from member_client.backtest.history import Day
from member_client.errors import InvalidInput
from member_client.home import write_privately
from sharing_protocol.statements.header import show_hidden

MAX_DAYS = 400
"""The newest ones are drawn."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 840, 320, 70, 50, 20, 40
_BAR, _GRID, _TEXT = "#1b6ca8", "#dddddd", "#222222"
_SIZE = 12
_SCALE = 2  # a PNG is looked at on fine screens too


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class _Words:
    """Text at a point of its baseline: its beginning, middle or end."""

    across: float
    down: float
    text: str
    anchor: str = "start"


def check_chart(path: Path) -> None:
    """See whether a chart can be of this kind, before hours of work.

    Raises:
        InvalidInput: it cannot.
    """
    if path.suffix.lower() not in _DRAWN:
        raise InvalidInput(f"{path} is no picture that can be drawn", f"call it {', '.join(_DRAWN)}")


def write_chart(path: Path, title: str, days: Sequence[Day]) -> None:
    """Write the picture, for its owner alone.

    Raises:
        InvalidInput: it cannot be written.
    """
    shapes = list(_shapes(_shortened(show_hidden(title)), days))
    try:
        write_privately(path, _DRAWN[path.suffix.lower()](shapes, title, days))
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", "choose another --chart") from error


def _shapes(title: str, days: Sequence[Day]) -> Iterator[_Box | _Words]:
    yield _Words(_LEFT, 22, title)
    if not days:
        yield _Words(_WIDTH / 2, _HEIGHT / 2, "no requests with a time", "middle")
        return
    last = days[-1].day
    first = max(days[0].day, last - timedelta(days=MAX_DAYS - 1))
    matches = {one.day: one.matches for one in days}
    most = max(1, *(count for day, count in matches.items() if day >= first))
    most += most % 2 if most > 1 else 0  # so that half of it is a number too
    bottom, room = _HEIGHT - _BOTTOM, _HEIGHT - _TOP - _BOTTOM
    yield _Words(_LEFT, _TOP - 10, "matches by day (UTC)")
    for part in (0, 0.5, 1) if most > 1 else (0, 1):
        down = bottom - part * room
        yield _Box(_LEFT, down, _WIDTH - _LEFT - _RIGHT, 1, _GRID)
        yield _Words(_LEFT - 8, down + 4, f"{most * part:,.10g}", "end")
    drawn = (last - first).days + 1
    step = (_WIDTH - _LEFT - _RIGHT) / drawn
    for number in range(drawn):
        height = matches.get(first + timedelta(days=number), 0) / most * room
        if height:
            yield _Box(_LEFT + number * step, bottom - height, max(1.0, step * 0.8), height, _BAR)
    for number in _labelled(drawn):
        yield _Words(_LEFT + (number + 0.4) * step, bottom + 18, str(first + timedelta(days=number)), "middle")


def _labelled(drawn: int) -> list[int]:
    """Which days have their date below: at most seven, evenly."""
    apart = -(-drawn // 7)
    return list(range(0, drawn, apart))


def _shortened(title: str) -> str:
    return title if len(title) <= 110 else f"{title[:109]}…"


def _svg(shapes: Sequence[_Box | _Words], title: str, days: Sequence[Day]) -> bytes:
    del title, days
    return _svg_text(shapes).encode()


def _svg_text(shapes: Sequence[_Box | _Words]) -> str:
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="{_SIZE}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for one in shapes:
        if isinstance(one, _Box):
            parts.append(
                f'<rect x="{one.left:.1f}" y="{one.top:.1f}" width="{one.width:.1f}" height="{one.height:.1f}" '
                f'fill="{one.colour}"/>'
            )
        else:
            parts.append(
                f'<text x="{one.across:.1f}" y="{one.down:.1f}" text-anchor="{one.anchor}" fill="{_TEXT}">'
                f"{escape(one.text)}</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _html(shapes: Sequence[_Box | _Words], title: str, days: Sequence[Day]) -> bytes:
    named = escape(show_hidden(title))
    rows = "".join(f"<tr><td>{one.day}</td><td>{one.requests:,}</td><td>{one.matches:,}</td></tr>\n" for one in days)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{named}</title>\n'
        "<style>body{font-family:sans-serif}td,th{padding:0 1em;text-align:right}</style>\n"
        f"<h1>{named}</h1>\n{_svg_text(shapes)}"
        f"<table><tr><th>day<th>requests<th>matches</tr>\n{rows}</table></html>\n"
    ).encode()


def _png(shapes: Sequence[_Box | _Words], title: str, days: Sequence[Day]) -> bytes:
    del title, days
    from PIL import Image, ImageDraw, ImageFont  # slow to load

    image = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_SIZE * _SCALE)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for one in shapes:
        if isinstance(one, _Box):
            right, bottom = one.left + one.width, one.top + one.height
            corners = [value * _SCALE for value in (one.left, one.top, right, bottom)]
            draw.rectangle((corners[0], corners[1], corners[2] - 1, max(corners[1], corners[3] - 1)), fill=one.colour)
        else:
            place = (one.across * _SCALE, one.down * _SCALE)
            draw.text(place, one.text.replace("\n", " "), fill=_TEXT, font=font, anchor=anchors[one.anchor])
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


_DRAWN: Mapping[str, Callable[[Sequence[_Box | _Words], str, Sequence[Day]], bytes]] = {
    ".png": _png,
    ".html": _html,
    ".svg": _svg,
}

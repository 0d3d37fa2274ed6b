"""Charts as SVG, as a page of HTML with the numbers in a table, or as PNG: all of the same few shapes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from member_client.errors import InvalidInput
from member_client.home import write_privately
from sharing_protocol.statements.header import show_hidden

TEXT, GRID = "#222222", "#dddddd"
_SIZE = 12
_DOT = 3
_SCALE = 2  # a PNG is looked at on fine screens too


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    left: float
    top: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True, slots=True)
class Words:
    """Text at a point of its baseline: its start, middle or end."""

    across: float
    down: float
    text: str
    anchor: str = "start"
    colour: str = TEXT


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, each marked with a dot."""

    points: tuple[tuple[float, float], ...]
    colour: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart.

    Attributes:
        width, height: in pixels.
        shapes: later ones lie over earlier ones.
        title, headings, rows: of the page and its table.
    """

    width: int
    height: int
    shapes: Sequence[Box | Words | Curve]
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def check_chart(path: Path) -> None:
    """See whether a chart can be of this kind, before hours of work.

    Raises:
        InvalidInput: it cannot.
    """
    if path.suffix.lower() not in _DRAWN:
        raise InvalidInput(f"{path} is no picture that can be drawn", f"call it {', '.join(_DRAWN)}")


def write_chart(path: Path, picture: Picture) -> None:
    """Draw it in the form that the name ends with, for its owner alone.

    Raises:
        InvalidInput: it cannot be written.
    """
    try:
        write_privately(path, _DRAWN[path.suffix.lower()](picture))
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}", "choose another --chart") from error


def _svg(picture: Picture) -> bytes:
    return _svg_text(picture).encode()


def _svg_text(picture: Picture) -> str:
    box = f'viewBox="0 0 {picture.width} {picture.height}" width="{picture.width}" height="{picture.height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="{_SIZE}">',
        f'<rect width="{picture.width}" height="{picture.height}" fill="white"/>',
    ]
    for one in picture.shapes:
        if isinstance(one, Box):
            parts.append(
                f'<rect x="{one.left:.1f}" y="{one.top:.1f}" width="{one.width:.1f}" height="{one.height:.1f}" '
                f'fill="{one.colour}"/>'
            )
        elif isinstance(one, Words):
            parts.append(
                f'<text x="{one.across:.1f}" y="{one.down:.1f}" text-anchor="{one.anchor}" fill="{one.colour}">'
                f"{escape(one.text)}</text>"
            )
        else:
            line = " ".join(f"{across:.1f},{down:.1f}" for across, down in one.points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{one.colour}" stroke-width="2"/>')
            parts += [
                f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{_DOT}" fill="{one.colour}"/>'
                for across, down in one.points
            ]
    return "\n".join([*parts, "</svg>\n"])


def _html(picture: Picture) -> bytes:
    named = escape(show_hidden(picture.title))
    headings = "".join(f"<th>{escape(heading)}" for heading in picture.headings)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>\n" for row in picture.rows)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{named}</title>\n'
        "<style>body{font-family:sans-serif}td,th{padding:0 1em;text-align:right}</style>\n"
        f"<h1>{named}</h1>\n{_svg_text(picture)}<table><tr>{headings}</tr>\n{rows}</table></html>\n"
    ).encode()


def _png(picture: Picture) -> bytes:
    from PIL import Image, ImageDraw, ImageFont  # slow to load

    image = Image.new("RGB", (picture.width * _SCALE, picture.height * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_SIZE * _SCALE)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for one in picture.shapes:
        if isinstance(one, Box):
            right, bottom = one.left + one.width, one.top + one.height
            corners = [value * _SCALE for value in (one.left, one.top, right, bottom)]
            draw.rectangle((corners[0], corners[1], corners[2] - 1, max(corners[1], corners[3] - 1)), fill=one.colour)
        elif isinstance(one, Words):
            place = (one.across * _SCALE, one.down * _SCALE)
            draw.text(place, one.text.replace("\n", " "), fill=one.colour, font=font, anchor=anchors[one.anchor])
        else:
            points = [(across * _SCALE, down * _SCALE) for across, down in one.points]
            draw.line(points, fill=one.colour, width=2 * _SCALE)
            for point in points:
                draw.circle(point, _DOT * _SCALE, fill=one.colour)
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


_DRAWN: Mapping[str, Callable[[Picture], bytes]] = {".png": _png, ".html": _html, ".svg": _svg}

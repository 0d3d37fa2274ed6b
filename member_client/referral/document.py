"""A short document of headings, paragraphs, lists and tables, written as Markdown here and as PDF in `pdf`.

Most of its text is other people's. In Markdown every character that could be markup is written so that it is not, so
that a note cannot become a heading, a link or a picture in the summary that an officer reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sharing_protocol.statements.header import show_hidden

_MARKUP = re.compile(r"[\\`*_\[\]|#~$]")
_AT_THE_START = re.compile(r"[-+=>]|[0-9]+(?=[.)])")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text; its line breaks are kept."""

    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; every row has as many cells as there are columns, a line of text each."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Paragraph | Items | Table


def to_markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown, in UTF-8's characters; ends in one line break."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text, strong):
            lines = [f"**{_plain(line)}**" if strong and line.strip() else _plain(line) for line in text.split("\n")]
            return "  \n".join(lines)
        case Items(texts):
            return "\n".join("- " + _plain(text.replace("\n", " ")) for text in texts)
        case Table(columns, rows):
            lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            return "\n".join([*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)])


def _cell(text: str) -> str:
    return _plain(text.replace("\n", " "))


def _plain(text: str) -> str:
    shown = show_hidden(text.strip()).replace("\t", " ")
    escaped = _MARKUP.sub(r"\\\g<0>", shown).replace("&", "&amp;").replace("<", "&lt;")
    if start := _AT_THE_START.match(escaped):  # a list, a quotation, an underlined heading
        kept = len(start[0]) if start[0][0].isdigit() else 0
        return f"{escaped[:kept]}\\{escaped[kept:]}"
    return escaped

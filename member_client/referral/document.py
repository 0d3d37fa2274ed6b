"""A short document of headings, paragraphs, lists and tables, written as Markdown here and as PDF in `pdf`.

Most of its text is other people's, and is never markup (`markdown_text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from member_client.markdown_text import plain_line


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
            return f"{'#' * level} {plain_line(text)}"
        case Paragraph(text, strong):
            lines = [
                f"**{plain_line(line)}**" if strong and line.strip() else plain_line(line) for line in text.split("\n")
            ]
            return "  \n".join(lines)
        case Items(texts):
            return "\n".join("- " + plain_line(text) for text in texts)
        case Table(columns, rows):
            lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
            return "\n".join([*lines, *(f"| {' | '.join(plain_line(cell) for cell in row)} |" for row in rows)])

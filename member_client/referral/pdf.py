r"""A document as PDF, the same bytes for the same document: no time, no random id, fonts that come with ReportLab.

The fonts (Bitstream Vera) have Latin letters. Any other character is written as its code, as in \u4e2d, which the page
says; nothing is left out. The Markdown of the same document has the characters themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from member_client.errors import InvalidInput
from member_client.referral.document import Block, Heading, Items, Paragraph, Table
from sharing_protocol.statements.header import show_hidden

_REGULAR, _BOLD = "Vera", "VeraBd"
_NOTE = "Characters that the fonts of this file lack are written as their codes (\\u4e2d); summary.md has them."


def to_pdf(blocks: Sequence[Block], title: str, footer: str) -> bytes:
    """Write the document.

    Args:
        title: of the file, for programs that show one.
        footer: a line at the foot of each page, beside its number.

    Raises:
        InvalidInput: ReportLab is not installed.
    """
    try:
        from reportlab.lib.pagesizes import A4
        from reportlab.platypus import SimpleDocTemplate
    except ImportError as error:
        raise InvalidInput(
            "ReportLab, which writes the PDF, is not installed", "pip install 'stillwatch[referral]'"
        ) from error
    write = Writer()
    story = [flowable for block in blocks for flowable in write.flowables(block)]
    if write.lacked:
        story.append(write.paragraph(_NOTE, write.small))
    foot = write.text(footer)

    def draw_foot(canvas: Any, template: Any) -> None:
        canvas.setFont(_REGULAR, 7)
        canvas.drawString(50, 28, foot)
        canvas.drawRightString(A4[0] - 50, 28, str(template.page))

    made = BytesIO()
    page = SimpleDocTemplate(
        made,
        pagesize=A4,
        leftMargin=50,
        rightMargin=50,
        topMargin=50,
        bottomMargin=50,
        title=write.text(title),
        author="Stillwatch",
        invariant=1,  # no time of making, and an id that follows from the content
    )
    page.build(story, onFirstPage=draw_foot, onLaterPages=draw_foot)
    return made.getvalue()


class Writer:
    """Makes ReportLab's flowables, and knows whether a character was missing."""

    def __init__(self) -> None:
        from reportlab.lib.styles import ParagraphStyle

        self._glyphs = _register_fonts()
        self.lacked = False
        body = ParagraphStyle("body", fontName=_REGULAR, fontSize=9, leading=12.5, spaceAfter=6, splitLongWords=1)
        self._body = body
        self.small = ParagraphStyle("small", parent=body, fontSize=7, leading=9.5, spaceAfter=0)
        self._strong = ParagraphStyle("strong", parent=body, fontName=_BOLD)
        self._column = ParagraphStyle("column", parent=self.small, fontName=_BOLD)
        self._headings = {
            level: ParagraphStyle(
                f"heading{level}", parent=body, fontName=_BOLD, fontSize=size, leading=size + 4, spaceBefore=8
            )
            for level, size in ((1, 16), (2, 12), (3, 10))
        }

    def text(self, text: str) -> str:
        """The text with codes for what the fonts lack."""
        return "".join(self._character(one) for one in show_hidden(text).replace("\t", "    "))

    def paragraph(self, text: str, style: Any) -> Any:
        """Plain text, with its line breaks."""
        from reportlab.platypus import Paragraph as Flowing

        return Flowing("<br/>".join(escape(line) for line in self.text(text).split("\n")), style)

    def flowables(self, block: Block) -> list[Any]:
        """What a block is on the page."""
        from reportlab.lib import colors
        from reportlab.platypus import LongTable, Spacer, TableStyle

        match block:
            case Heading(level, text):
                return [self.paragraph(text, self._headings[level])]
            case Paragraph(text, strong):
                return [self.paragraph(text, self._strong if strong else self._body)]
            case Items(texts):
                return [self.paragraph(f"\u2022 {text}", self._body) for text in texts]
            case Table(columns, rows):
                head = [self.paragraph(column, self._column) for column in columns]
                cells = [[self.paragraph(cell, self.small) for cell in row] for row in rows]
                table = LongTable(
                    [head, *cells], colWidths=_widths(columns, rows), repeatRows=1, splitByRow=1, splitInRow=1
                )
                lines = TableStyle([("GRID", (0, 0), (-1, -1), 0.4, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")])
                table.setStyle(lines)
                return [table, Spacer(1, 8)]

    def _character(self, character: str) -> str:
        if character == "\n" or ord(character) in self._glyphs:
            return character
        self.lacked = True
        number = ord(character)
        return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[float]:
    """Of 495 points, to each column by its longest text, within reason."""
    longest = [
        min(max(len(column), *(len(row[at]) for row in rows), 6), 48) if rows else len(column)
        for at, column in enumerate(columns)
    ]
    return [495 * length / sum(longest) for length in longest]


@cache
def _register_fonts() -> frozenset[int]:
    """Make the fonts known; gives the characters that both have."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    found = []
    for name in (_REGULAR, _BOLD):
        font = TTFont(name, f"{name}.ttf")
        pdfmetrics.registerFont(font)
        found.append(frozenset(font.face.charToGlyph))
    return found[0] & found[1]

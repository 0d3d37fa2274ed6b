"""The summary as Markdown and as PDF: other people's text stays text, and nothing of it is left out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.referral.document import Block, Heading, Items, Paragraph, Table, to_markdown
from member_client.referral.pdf import Writer, to_pdf

texts = st.text(min_size=1, max_size=60)


def test_a_text_stays_in_its_block_whatever_is_in_it() -> None:
    assert to_markdown([Paragraph("# Title\n\n- two", strong=True)]) == "**\\# Title**  \n  \n**\\- two**\n"
    table = to_markdown([Table(("a",), (("x|y\nz",),)), Items(("one\ntwo",)), Heading(2, "*b*\n# c")])
    assert table == "| a |\n|---|\n| x\\|y z |\n\n- one two\n\n## \\*b\\* \\# c\n"


def test_the_pdf_writes_the_code_of_what_its_fonts_lack() -> None:
    write = Writer()
    assert write.text("Grüße, naïve, €") == "Grüße, naïve, €"
    assert not write.lacked
    assert write.text("多 \U0001f600\x1b") == "\\u591a \\U0001f600\\u001b"
    assert write.lacked


@settings(max_examples=15, deadline=None)
@given(texts, st.lists(st.tuples(texts, texts), max_size=3))
def test_any_text_becomes_the_same_pdf_twice(text: str, rows: list[tuple[str, str]]) -> None:
    blocks: list[Block] = [Heading(1, text), Paragraph(text), Items((text,)), Table(("one", "two"), tuple(rows))]
    first = to_pdf(blocks, text, text)
    assert first.startswith(b"%PDF-")
    assert first == to_pdf(blocks, text, text)


def test_long_texts_go_over_pages() -> None:
    rows = tuple(("a" * 64, "word " * 300) for _ in range(20))
    assert to_pdf([Paragraph("x" * 8000), Table(("one", "two"), rows)], "t", "f").count(b"/Type /Page\n") > 2

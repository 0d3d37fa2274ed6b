"""The summary as Markdown and as PDF: other people's text stays text, and nothing of it is left out."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.referral.document import Block, Heading, Items, Paragraph, Table, to_markdown
from member_client.referral.pdf import Writer, to_pdf
from sharing_protocol.statements.header import show_hidden

texts = st.text(min_size=1, max_size=60)


@given(texts)
def test_no_text_becomes_markup_and_none_is_lost(text: str) -> None:
    written = to_markdown([Paragraph(text)])
    for line, meant in zip(written[:-1].split("  \n"), text.split("\n"), strict=True):
        assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|#~$<]", line)
        assert not re.match(r"[-+=>]|[0-9]+[.)]|#| {4}|\t", line)
        plain = re.sub(r"\\(.)", r"\1", line, flags=re.S).replace("&lt;", "<").replace("&amp;", "&")
        assert plain == show_hidden(meant.strip()).replace("\t", " ")


def test_what_would_be_markup_is_not() -> None:
    shown = to_markdown([Paragraph("# Title\n[x](http://evil.example) ![p](q)\n1. one\n- two\n> three\n<script>&amp;")])
    lines = ["\\# Title", "\\[x\\](http://evil.example) !\\[p\\](q)", "1\\. one", "\\- two", "\\> three"]
    assert shown == "  \n".join([*lines, "&lt;script>&amp;amp;"]) + "\n"
    table = to_markdown([Table(("a",), (("x|y\nz",),)), Items(("one\ntwo",)), Heading(2, "*b*")])
    assert table == "| a |\n|---|\n| x\\|y z |\n\n- one two\n\n## \\*b\\*\n"


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

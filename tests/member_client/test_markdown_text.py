"""Other people's text in Markdown documents of ours: it stays text, on the line that it was put on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from member_client.markdown_text import plain_line
from sharing_protocol.statements.header import show_hidden


@given(st.text(max_size=60))
def test_no_text_becomes_markup_and_none_is_lost(text: str) -> None:
    line = plain_line(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|#~$<]", line)
    assert not re.match(r"[-+=>]|[0-9]+[.)]|#| {4}|\t", line)
    plain = re.sub(r"\\(.)", r"\1", line, flags=re.S).replace("&lt;", "<").replace("&amp;", "&")
    assert plain == show_hidden(text.strip()).replace("\n", " ").replace("\t", " ")


@given(st.text(max_size=60))
def test_a_text_is_one_line(text: str) -> None:
    assert len(f"{plain_line(text)}.".splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# Title", "\\# Title"),
        ("[x](http://evil.example) ![p](q)", "\\[x\\](http://evil.example) !\\[p\\](q)"),
        ("1. one", "1\\. one"),
        ("- two", "\\- two"),
        ("> three", "\\> three"),
        ("<script>&amp;", "&lt;script>&amp;amp;"),
        ("a | b", "a \\| b"),
        ("one\n# two\tthree", "one \\# two three"),
        ("**bold** `code` a_b_c", "\\*\\*bold\\*\\* \\`code\\` a\\_b\\_c"),
        ("right\u202eleft\x1b", "right\\\\u202eleft\\\\u001b"),
        (" ", ""),
    ],
)
def test_what_would_be_markup_is_not(text: str, line: str) -> None:
    assert plain_line(text) == line

"""Other people's text in a Markdown document of ours.

Every character that could be markup is written so that it is not: a note cannot become a heading, a link or a picture
in what an officer reads, nor begin a line that we would seem to have written.
"""

from __future__ import annotations

import re

from sharing_protocol.statements.header import show_hidden

_MARKUP = re.compile(r"[\\`*_\[\]|#~$]")
_AT_THE_START = re.compile(r"[-+=>]|[0-9]+(?=[.)])")


def plain_line(text: str) -> str:
    """The text as one line of Markdown that shows it as it is, wherever in a line it stands.

    Line breaks and tabs become spaces; control and invisible characters are written as JSON's escapes.
    """
    shown = show_hidden(text.strip()).replace("\n", " ").replace("\t", " ")
    escaped = _MARKUP.sub(r"\\\g<0>", shown).replace("&", "&amp;").replace("<", "&lt;")
    if start := _AT_THE_START.match(escaped):  # a list, a quotation, an underlined heading
        kept = len(start[0]) if start[0][0].isdigit() else 0
        return f"{escaped[:kept]}\\{escaped[kept:]}"
    return escaped

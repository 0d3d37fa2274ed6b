"""What changed between two texts: all of it, whatever somebody wrote to keep a comparison busy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol import line_diff as comparing
from sharing_protocol.line_diff import line_diff

LINES = st.lists(st.sampled_from("abc"), max_size=12)
NAMES = ("before", "after")


def applied(old: list[str], lines: list[str]) -> tuple[list[str], list[str]]:
    """The old and the new text, as the one hunk of a diff and what surrounds it tell them."""
    if not lines:
        return old, old
    start = int(lines[2][4:].partition(",")[0]) - 1
    told = [[line[1:] for line in lines[3:] if line[0] in signs] for signs in (" -", " +")]
    assert lines[2] == f"@@ -{start + 1},{len(told[0])} +{start + 1},{len(told[1])} @@"
    rest = old[start + len(told[0]) :]
    return old[:start] + told[0] + rest, old[:start] + told[1] + rest


@given(LINES, LINES)
def test_the_difference_of_long_texts_is_told_as_a_whole(old: list[str], new: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparing, "MOST_COMPARED", -1)
        lines = line_diff(old, new, NAMES)
    assert bool(lines) == (old != new)
    assert applied(old, lines) == (old, new)


def test_the_difference_of_short_texts_is_the_shortest() -> None:
    lines = line_diff(["a", "b", "c", "d"], ["b", "c", "x", "d"], NAMES)
    assert lines[:2] == ["--- before", "+++ after"]
    assert lines[3:] == ["-a", " b", " c", "+x", " d"]

"""YAML as pattern files take it: JSON values with their places, and nothing that bites."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.patterns.yaml_document import MAX_BYTES, BadYaml, Position, parse
from member_client.patterns.yaml_writing import dump

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
LIKE_OTHER_TYPES = ["no", "on", "null", "~", "010", "0x1F", "1_000", "12:30:45", "1e5", ".5", "+1", "-0", "2026-01-01"]
LIKE_SYNTAX = ["", "<<", "=", "-", "a: b", "# x", "'", '"', "\\d+", "\n", "\n a", " \n", "x\n\n", "x\n  y\n", "\u2028"]
AWKWARD = st.sampled_from(LIKE_OTHER_TYPES) | st.sampled_from(LIKE_SYNTAX)
TEXT = AWKWARD | st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=30)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=200)
def test_what_is_written_reads_back_the_same_here_and_in_yaml_1_1(value: Any) -> None:
    text = dump(value)
    assert parse(text.encode()).value == value
    assert yaml.safe_load(text) == value


TREES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 9),
    lambda children: (
        st.lists(children, min_size=1, max_size=3) | st.dictionaries(NAMES, children, min_size=1, max_size=3)
    ),
    max_leaves=10,
)


def lay_out(value: Any, path: str, indent: int, lines: list[str], places: dict[str, Position]) -> None:
    """Write block YAML, a key or item a line, between comments, and note where everything was put."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for step, part in items:
        lines.append(f"{' ' * indent}# about the next line")
        here = f"{path}[{step}]" if isinstance(value, list) else f"{path}.{step}".lstrip(".")
        head = " " * indent + ("-" if isinstance(value, list) else f"{step}:")
        if isinstance(part, dict | list):
            lines.append(head)
            # an item that is a collection begins on its own first line, a member at its key
            first = Position(len(lines) + 2, indent + 3)
            places[here] = first if isinstance(value, list) else Position(len(lines), indent + 1)
            lay_out(part, here, indent + 2, lines, places)
        else:
            lines.append(f"{head} {part}")
            column = indent + (3 if isinstance(value, list) else 1)
            places[here] = Position(len(lines), column)


@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4))
def test_every_part_is_located_where_it_was_written(tree: dict[str, Any]) -> None:
    lines: list[str] = []
    places: dict[str, Position] = {}
    lay_out(tree, "", 0, lines, places)
    document = parse("\n".join(lines).encode())
    assert document.value == tree
    for path, position in places.items():
        assert document.locate(path) == position, "\n".join(lines)
        assert document.locate(f"{path}.there.is[3].no_such") == position


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("2026-01-01", "2026-01-01"),
        ("12:30:45", "12:30:45"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        (".5", ".5"),
        (".nan", ".nan"),
        ("'1'", "1"),
        ("1", 1),
        ("-2.5e3", -2500.0),
        ("true", True),
        ("~", None),
        ("", None),
    ],
)
def test_a_plain_value_is_what_json_would_make_of_it(text: str, value: Any) -> None:
    read = parse(f"a: {text}".encode()).value
    assert read == {"a": value}
    assert isinstance(read, dict)
    assert type(read["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "code"),
    [
        (b"", (1, 1), "empty"),
        (b"# nothing\n", (2, 1), "empty"),
        (b"a: 1\nb: 2\na: 3\n", (3, 1), "duplicate_key"),
        (b"a: 1\nb:\n  - &x [1]\n  - *x\n", (3, 5), "alias"),
        (b"a: *x\n", (1, 4), "alias"),
        (b"a:\n  <<: {b: 1}\n", (2, 3), "alias"),
        (b"a: !!python/object:os.system x\n", (1, 4), "tag"),
        (b"a: 1\n---\nb: 2\n", (2, 1), "many_documents"),
        (b"1: 2\n", (1, 1), "bad_key"),
        (b"? [a]\n: 1\n", (1, 3), "bad_key"),
        (b"a: " + b"[" * 40, (1, 35), "too_deep"),
        (b"a: 9007199254740992\n", (1, 4), "bad_number"),
        (b"a: 1e999\n", (1, 4), "bad_number"),
        (b'a:\n  b: "x\\0"\n', (2, 6), "bad_text"),
        (b"a: \xc3\xa9\nb: \xff\n", (2, 4), "bad_text"),
        ("é: 1\nb: x\x07\n".encode(), (2, 5), "bad_text"),
        (b"a: b: c\n", (1, 5), "bad_yaml"),
        (b"a:\n\tb: 1\n", (2, 1), "bad_yaml"),
        (b"a: 'x\nb: 1\n", (3, 1), "bad_yaml"),
        (b"x" * (MAX_BYTES + 1), (1, 1), "too_large"),
    ],
)
def test_what_bites_is_refused_at_its_place(text: bytes, place: tuple[int, int], code: str) -> None:
    with pytest.raises(BadYaml) as refused:
        parse(text)
    assert (refused.value.code, refused.value.position) == (code, Position(*place))
    assert refused.value.mend

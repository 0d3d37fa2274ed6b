"""Text of a template that is still in a pattern file: whoever publishes it says what another pattern finds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from member_client.patterns.library import TEMPLATE_TITLE, template
from member_client.patterns.yaml_document import parse
from sharing_protocol.statements import PatternKind
from sharing_protocol.strict_json import Json

_MEND = {
    "title": "say what your own pattern finds",
    "description": "say what it finds, why that is distillation, and which innocent use looks alike",
    "references": "name a public source, or write references: []",
    "method.name": "say what your method is called",
    "logic.title": "say what this rule finds",
    "tests.name": "say what this test shows",
}


def left_from_template(document: dict[str, Json]) -> list[tuple[str, str]]:
    """Where a pattern file, as parsed, still says what a template says: paths, and what to write instead."""
    known = _template_texts()
    return [
        (path, _MEND[slot])
        for slot, path, text in _texts(document)
        if (slot, text) in known or (slot == "title" and text.startswith(TEMPLATE_TITLE))
    ]


@cache
def _template_texts() -> frozenset[tuple[str, str]]:
    documents = [parse(template(kind).encode()).value for kind in PatternKind]
    found = [(slot, text) for one in documents if isinstance(one, dict) for slot, _, text in _texts(one)]
    # a title is the template's also without the word that warns of it
    return frozenset(found + [(slot, text.removeprefix(TEMPLATE_TITLE)) for slot, text in found if slot == "title"])


def _texts(document: dict[str, Json]) -> Iterator[tuple[str, str, str]]:
    """The texts that are an author's own: what kind of place, where it is, and what stands there."""
    for slot in _MEND:
        outer, _, inner = slot.partition(".")
        value = document.get(outer)
        if isinstance(value, str):
            yield slot, outer, value.strip()
        elif isinstance(value, dict) and isinstance(text := value.get(inner), str):
            yield slot, slot, text.strip()
        for number, one in enumerate(value if isinstance(value, list) else []):
            if isinstance(one, dict) and isinstance(text := one.get(inner or "url"), str):
                yield slot, f"{outer}[{number}]" + (f".{inner}" if inner else ""), text.strip()

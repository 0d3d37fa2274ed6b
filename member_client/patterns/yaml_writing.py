"""Writing records as YAML: a pattern file to go on from, and Sigma for other tools.

What is written here reads back the same, by `yaml_document` and by the YAML 1.1 parsers that Sigma tools use: a
string that either would take for something else is quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from typing_extensions import override

from member_client.patterns.yaml_document import FLOAT
from sharing_protocol.statements import PatternBody
from sharing_protocol.statements.header import show_hidden
from sharing_protocol.strict_json import Json

WIDTH = 110

_ORDER = (
    *("kind", "title", "description", "techniques", "marking", "severity", "confidence", "valid_from", "valid_until"),
    *("references", "purpose", "legal_basis", "method", "logic", "tests", "measured", "playbook"),
)


class _Dumper(yaml.SafeDumper):
    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True  # equal values are written out each time: our own files take no aliases

    @override
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # lists are indented below their key, as people write them


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-0123456789"))


def dump(value: Json) -> str:
    """One YAML document, members in the order given; one that hides characters has all but ASCII written as escapes."""
    written = _dump(value, allow_unicode=True)
    return written if show_hidden(written) == written else _dump(value, allow_unicode=False)


def _dump(value: Json, *, allow_unicode: bool) -> str:
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=allow_unicode, sort_keys=False, width=WIDTH)


def pattern_file(body: PatternBody) -> str:
    """A pattern as the file that its author could have written."""
    document: dict[str, Json] = body.model_dump(mode="json")
    for test in document["tests"] if isinstance(document["tests"], list) else []:
        if isinstance(test, dict):
            test.pop("synthetic", None)
    return dump({key: document[key] for key in _ORDER if document[key] is not None})


def sigma(documents: Sequence[dict[str, Json]], comment: str) -> str:
    """Sigma documents, separated as Sigma collections are, under one line of comment."""
    return f"# {comment}\n" + "".join(f"---\n{dump(document)}" for document in documents)

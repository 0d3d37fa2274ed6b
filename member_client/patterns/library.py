"""The templates and starter patterns that ship with the client, as the YAML text that analysts start from."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from member_client.errors import InvalidInput
from sharing_protocol.statements import PatternKind

TEMPLATE_TITLE = "Example: "
"""What the title of every template starts with, so that none is published by mistake."""


@dataclass(frozen=True, slots=True)
class Starter:
    """A starter pattern.

    Attributes:
        name: the file's name without its ending.
        text: the pattern file.
    """

    name: str
    text: str


def template(kind: PatternKind) -> str:
    """The commented template of a kind; as it is, it passes `lint` and `test`."""
    return (_folder("templates") / f"{kind.value}.yaml").read_text("utf-8")


def starter_names() -> list[str]:
    """The names of all starter patterns, sorted."""
    names = (item.name for item in _folder("starter").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def starter(name: str) -> Starter:
    """A starter pattern by its name.

    Raises:
        InvalidInput: there is none of this name.
    """
    if name not in starter_names():
        raise InvalidInput(f"there is no starter pattern {name!r}", "`stillwatch pattern starters` lists them")
    return Starter(name, (_folder("starter") / f"{name}.yaml").read_text("utf-8"))


def _folder(name: str) -> Traversable:
    return files("member_client.patterns") / name

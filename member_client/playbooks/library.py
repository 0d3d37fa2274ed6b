"""The templates and starter playbooks that ship with the client, as the YAML text that people start from."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

from member_client.errors import InvalidInput
from sharing_protocol.statements import PlaybookKind

TEMPLATE_TITLE = "Example: "
"""What the title of every template starts with, so that none is published by mistake."""


def template(kind: PlaybookKind) -> str:
    """The commented template of a kind; as it is, it passes `lint`."""
    return (_folder("templates") / f"{kind.value}.yaml").read_text("utf-8")


def starter_names() -> list[str]:
    """The names of all starter playbooks, sorted."""
    names = (item.name for item in _folder("starter").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def starter(name: str) -> str:
    """A starter playbook by its name.

    Raises:
        InvalidInput: there is none of this name.
    """
    if name not in starter_names():
        raise InvalidInput(f"there is no starter playbook {name!r}", f"use one of {', '.join(starter_names())}")
    return (_folder("starter") / f"{name}.yaml").read_text("utf-8")


def _folder(name: str) -> Traversable:
    return files("member_client.playbooks") / name

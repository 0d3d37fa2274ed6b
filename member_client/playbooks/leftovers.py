"""What of a template or starter is still in a playbook file: whoever publishes it says nothing of their own."""

from __future__ import annotations

from datetime import datetime

from member_client.playbooks import library
from member_client.playbooks.playbook_file import WrittenPlaybook, read_bytes


def left_as_shipped(playbook: WrittenPlaybook, now: datetime) -> str:
    """Why a playbook cannot be published as it is, "" if it can.

    Args:
        now: in UTC; a starter is read as if it were submitted then.
    """
    if playbook.content.title.startswith(library.TEMPLATE_TITLE):
        return "it still has the template's title: say what your own playbook is for"
    for name in library.starter_names():
        shipped = read_bytes(library.starter(name).encode(), name, now).playbook
        if shipped is not None and _says(shipped) == _says(playbook):
            return f"it is the starter {name}, unchanged: write your own roles, times and steps into it"
    return ""


def _says(playbook: WrittenPlaybook) -> tuple[object, ...]:
    content = playbook.content
    return content.kind, content.title, content.description, content.levels, playbook.workflow

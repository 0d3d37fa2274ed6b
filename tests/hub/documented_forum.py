"""A forum in a box, each of whose answers must be one that the hub's OpenAPI document promises."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import schemathesis

from hub.app import utc_now
from hub.identity import HubIdentity
from tests.forum import Document, ForumInABox, running_hub

DOCUMENT = "/openapi.json"


class Contract:
    """What an OpenAPI document promises.

    Attributes:
        answered: the operations, and the statuses of each, that were seen so far.
    """

    def __init__(self, document: Document) -> None:
        self._schema = schemathesis.openapi.from_dict(document)
        self._paths = document["paths"]
        # A literal path goes before a template that it would fit as well.
        self._templates = sorted(document["paths"], key=lambda template: template.count("{"))
        self.answered: set[tuple[str, str, int]] = set()

    def check(self, response: httpx.Response) -> None:
        """See that an answer is promised: its operation, status, media type and shape."""
        method, path = response.request.method, response.request.url.path
        template = next((one for one in self._templates if _fits(path, one)), None)
        assert template is not None, f"no documented path fits {path}"
        operation = self._paths[template].get(method.lower())
        assert operation is not None, f"{method} {template} is not documented"
        promised = operation["responses"].get(str(response.status_code))
        assert promised is not None, f"{method} {template} answers {response.status_code}: {response.text}"
        media_type = response.headers["content-type"].split(";")[0]
        assert media_type in promised["content"], f"{method} {template} answers with {media_type}"
        self._schema[template][method].validate_response(response)  # its shape, and no more than that
        self.answered.add((method, template, response.status_code))


def _fits(path: str, template: str) -> bool:
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
    return re.fullmatch(pattern, path) is not None


@dataclass
class DocumentedForum(ForumInABox):
    """Checks every answer that its clients get, once it knows the document."""

    contract: Contract | None = None

    def client(self, key_name: str, **signing: Any) -> httpx.Client:
        client = super().client(key_name, **signing)
        client.event_hooks = {"response": [self._check]}
        return client

    def _check(self, response: httpx.Response) -> None:
        if self.contract is not None and response.request.url.path != DOCUMENT:
            response.read()
            self.contract.check(response)


@contextlib.contextmanager
def documented_forum(
    database_url: str, identity: HubIdentity, clock: Callable[[], datetime] = utc_now
) -> Iterator[DocumentedForum]:
    """A founded forum on a hub of its own."""
    with running_hub(database_url, identity, clock) as hub:
        box = DocumentedForum(hub)
        box.found()
        box.contract = Contract(box.get(DOCUMENT).json())
        yield box

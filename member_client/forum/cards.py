"""The small files that people hand each other before the log knows them: join requests, key requests, cards of admins
and of a log.

Each key in them comes with proof that whoever wrote the file holds it, bound to the lab or admin and to the role, so
none can be lifted into another file. Names are not proven: whoever receives a file compares its mark by another
channel.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from member_client.errors import InvalidInput
from member_client.named_files import read_named
from sharing_protocol import strict_json
from sharing_protocol.errors import ProtocolError
from sharing_protocol.keys import Signer
from sharing_protocol.log_keys import LogCard
from sharing_protocol.membership import ADMIN_ROLE
from sharing_protocol.statements import Admin, KeyRegistration, Role, prove_possession
from sharing_protocol.statements.header import Identifier, Line, StrictModel

MAX_CARD_BYTES = 64 * 1024
_NAME: TypeAdapter[str] = TypeAdapter(Line)


class JoinRequest(StrictModel):
    """A lab asks to be admitted with these keys."""

    format: Literal["stillwatch-join-request/1"] = "stillwatch-join-request/1"
    name: Line
    member: Identifier
    keys: Annotated[list[KeyRegistration], Field(min_length=1, max_length=64)]


class KeyRequest(StrictModel):
    """One more key asks to be registered for a lab."""

    format: Literal["stillwatch-key-request/1"] = "stillwatch-key-request/1"
    member: Identifier
    key: KeyRegistration


class AdminCard(StrictModel):
    """A person offers a key to serve as forum admin."""

    format: Literal["stillwatch-admin-card/1"] = "stillwatch-admin-card/1"
    admin: Admin


_Card = TypeVar("_Card", JoinRequest, KeyRequest, AdminCard, LogCard)


def register(role: Role, member: str, signer: Signer) -> KeyRegistration:
    """A key's registration with its proof."""
    return KeyRegistration(key=str(signer.public_key), role=role, proof=prove_possession(role, member, signer))


def check_name(name: str) -> None:
    """Check that a lab or an admin may bear this name.

    Raises:
        InvalidInput: it is empty, too long, or has invisible characters.
    """
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise InvalidInput(f"{name!r} cannot be a name: {error.errors()[0]['msg']}") from error


def admin_card(name: str, signer: Signer) -> AdminCard:
    """An admin's card."""
    proof = prove_possession(ADMIN_ROLE, name, signer)
    return AdminCard(admin=Admin(name=name, key=str(signer.public_key), proof=proof))


def write(card: StrictModel) -> str:
    """The card's file content."""
    return json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def read(path: Path, kind: type[_Card]) -> _Card:
    """Read a card.

    Raises:
        InvalidInput: not such a card.
    """
    data = read_named(path, MAX_CARD_BYTES)
    if len(data) > MAX_CARD_BYTES:
        raise InvalidInput(f"{path} is too large for a {kind.__name__}")
    try:
        strict_json.loads(data, str(path))
        return kind.model_validate_json(data)
    except ProtocolError as error:
        raise InvalidInput(error.detail) from error
    except ValidationError as error:
        issue = error.errors()[0]
        where = ".".join(str(step) for step in issue["loc"])
        raise InvalidInput(f"{path} is not a {kind.__name__}: {where}: {issue['msg']}") from error

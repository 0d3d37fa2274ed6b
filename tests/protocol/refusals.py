"""Asserting a refusal: the code, a sentence for people, and that nothing changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import ProtocolError, Refused
from tests.protocol.forum_log import ForumLog


def code_of(error: ProtocolError) -> str:
    """The code of an error, which must have a sentence for people as well."""
    assert isinstance(error.detail, str)
    assert " " in error.detail
    assert "None" not in error.detail
    assert isinstance(error.code, str)
    return error.code


def is_in(document: Any, where: str) -> bool:
    """Whether a document has such a part, or an object that could have it."""
    *path, last = where.split(".")
    for name in path:
        document = document[int(name) if isinstance(document, list) else name]
    return not where or isinstance(document, list) or last in document


def refuses(log: ForumLog, made: Envelope, code: str, where: str | None = None) -> str:
    """Offer the envelope as the next entry; it must be refused with `code`, and leave the log as it was.

    Returns:
        The sentence for people.
    """
    before = (log.membership, dict(log.membership.keys), dict(log.membership.members), dict(log.heads), log.size)
    with pytest.raises(Refused) as refused:
        log.append(made)
    after = (log.membership, dict(log.membership.keys), dict(log.membership.members), dict(log.heads), log.size)
    assert code_of(refused.value) == code, refused.value.detail
    assert before == after
    assert is_in(json.loads(made.payload), refused.value.where)
    if where is not None:
        assert refused.value.where == where
    return refused.value.detail

"""Sends a hub what its OpenAPI document says, and what it forbids; schemathesis judges every answer.

Each operation is tried with the boundaries of all its parameters, and with as many examples as asked for, of what is
valid and of what is not.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from requests.auth import AuthBase
from schemathesis import APIOperation, Case, CheckFunction, GenerationMode, SerializationContext
from schemathesis.config import GenerationConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from hub.app import utc_now
from hub.settings import HubSettings
from sharing_protocol import wire
from sharing_protocol.keys import PrivateKey
from sharing_protocol.request_signing import sign_request
from tests.forum import Document

Operation = APIOperation[Any, Any, Any, Any]
PROBES = (wire.HEALTH, wire.READY)
WITHOUT_LIMITS = HubSettings(requests_per_minute=1_000_000, submissions_per_minute=1_000_000)


def how_much(few: int) -> tuple[int, int | None]:
    """`(examples, seed)`: what `make fuzz` asks for, else `few` and None, for the same ones in every run."""
    asked = os.environ.get("FUZZ_EXAMPLES")
    if asked is None:
        return few, None
    return int(asked), int(os.environ.get("FUZZ_SEED") or secrets.randbelow(2**32))


class RequestSigner(AuthBase):
    """Signs a request as it is about to be sent."""

    def __init__(self, signer: PrivateKey) -> None:
        self._signer = signer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        content = body if isinstance(body, bytes) else str(body).encode()
        created, nonce = int(utc_now().timestamp()), secrets.token_urlsafe(18)
        signing = sign_request(request.method or "", request.url or "", content, self._signer, created, nonce)
        request.headers.update(signing)
        return request


@schemathesis.serializer(wire.ENVELOPE_LINES_MEDIA_TYPE)
def as_lines(_context: SerializationContext, value: Any) -> bytes:
    """A body of lines is sent as it is."""
    return str(value).encode()


@dataclass
class Fuzzing:
    """Requests of one sender to one hub.

    Attributes:
        signer: None sends requests as they are generated: without a signature, or with any.
        refused: the status that the sender gets for everything, but from the probes; None for a member.
        examples: of each operation, as many valid as invalid.
        seed: None for the same examples in every run.
        answers: how often each operation answered with each status.
    """

    document: Document
    url: str
    signer: PrivateKey | None
    refused: int | None
    examples: int
    seed: int | None = None
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._schema = schemathesis.openapi.from_dict(self.document)
        self._schema.config.update(base_url=self.url)
        self._config = GenerationConfig(with_security_parameters=self.signer is None)
        self._schema.config.generation = self._config
        self._auth = RequestSigner(self.signer) if self.signer else None

    def operations(self) -> Iterator[Operation]:
        """Every documented operation."""
        for found in self._schema.get_all_operations():
            assert isinstance(found, Ok), found
            yield found.ok()

    def run(self, operation: Operation) -> None:
        """Try one operation."""
        modes = list(GenerationMode)
        with requests.Session() as session:
            for case in self._schema.iter_coverage_cases(
                operation, generation_modes=modes, generation_config=self._config
            ):
                self._send(session, case)
            for mode in modes:
                if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation, self.signer is None):
                    continue
                self._try(session, operation, mode)

    def _try(self, session: requests.Session, operation: Operation, mode: GenerationMode) -> None:
        @hypothesis.settings(
            max_examples=self.examples,
            derandomize=self.seed is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink] if self.seed is not None else [Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def try_it(case: Case[Any]) -> None:
            self._send(session, case)

        (try_it if self.seed is None else hypothesis.seed(self.seed)(try_it))()

    def _send(self, session: requests.Session, case: Case[Any]) -> None:
        _do_not_wait(case)
        response = case.call(session=session, auth=self._auth)
        self.answers[f"{case.method} {case.operation.path}", response.status_code] += 1
        excluded: list[CheckFunction] = [positive_data_acceptance] if _only_the_log_knows(case) else []
        if case.operation.path == wire.BULK_ENTRIES:
            excluded.append(negative_data_rejection)  # any bytes are lines; what is wrong with each, the answer says
        if self.refused is not None:
            assert case.operation.path in PROBES or response.status_code == self.refused, response.text
            excluded.append(ignored_auth)  # it sends everything twice more, without the signature
        sending = {"session": session, "auth": self._auth}
        case.validate_response(response, excluded_checks=excluded, transport_kwargs=sending)


def _can_be_wrong(operation: Operation, signature: bool) -> bool:
    """Whether an operation takes anything that could be wrong about it."""
    return bool(operation.body) or any(
        signature or parameter.name != "Signature" for parameter in operation.iter_parameters()
    )


def _do_not_wait(case: Case[Any]) -> None:
    """What waits for the log to grow would wait in vain."""
    if case.operation.path == "/checkpoint" and isinstance(case.query, dict):
        wait = case.query.get("wait")
        if isinstance(wait, int) and not isinstance(wait, bool) and 0 < wait <= 55:
            case.query["wait"] = 0


def _only_the_log_knows(case: Case[Any]) -> bool:
    """Whether a request that fits the document may be refused: no envelope is made up, nor a signed checkpoint."""
    waits_for_nothing = case.operation.path == "/checkpoint" and "after" not in (case.query or {})
    return case.operation.method.upper() == "POST" or waits_for_nothing

"""What a gate answers: from the headers of a request the verdict, and from the verdict an HTTP answer.

What a request claims is believed as the gateway wrote it. One that says two things at once (a header twice), or what no
id can be, is refused: the gateway has let a client's header through.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from member_client.gate.live import Gate
from member_client.gate.metrics import GateCollector
from member_client.gate.pace import Pace
from member_client.gate.table import MAX_ID_BYTES
from member_client.gate.verdict import BLOCK, MALFORMED, STALE, THROTTLE, UNREADABLE, Verdict

MAX_ADDRESS_BYTES = 4096

Headers = list[tuple[bytes, bytes]]

_DETAILS = {
    BLOCK: "Access is suspended.",
    THROTTLE: "Too many requests.",
}


class Answer(NamedTuple):
    """An HTTP answer, without what frames it."""

    status: int
    headers: Headers
    body: bytes = b""


class Answers:
    """Answers for a gate, and counts them."""

    def __init__(self, gate: Gate) -> None:
        settings = gate.settings
        self.gate = gate
        self.given: Counter[tuple[str, str]] = Counter()
        self._settings = settings
        self._names = {
            settings.account_header.encode(): 0,
            settings.organisation_header.encode(): 1,
            settings.model_header.encode(): 2,
        }
        self._address_header = settings.address_header.encode() if settings.trusted_hops else b""
        self._pace = Pace(settings.throttle_per_minute)
        self._registry = CollectorRegistry()
        self._registry.register(GateCollector(gate, self.given))

    def judged(self, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
        """The answer to a gateway's question, by the headers alone; their names are in lower case."""
        verdict = self._judge(headers)
        self.given[verdict.action, verdict.reason] += 1
        told: Headers = [
            (b"x-stillwatch-action", verdict.action.encode()),
            (b"x-stillwatch-reason", verdict.reason.replace(" ", "-").encode()),
        ]
        if verdict.age is not None:
            told.append((b"x-stillwatch-age-seconds", b"%d" % verdict.age))
        if verdict.decision:
            told.append((b"x-stillwatch-decision", verdict.decision.encode()))
        if verdict.reason in (STALE, UNREADABLE):
            told.append((b"x-stillwatch-fail", b"closed" if verdict.action == BLOCK else b"open"))
        status = 200 if verdict.allowed else 403
        if verdict.action == THROTTLE:
            wait = self._pace.wait(verdict.decision, time.monotonic())
            status = self._settings.throttle_status if wait else 200
            if wait:
                told.append((b"retry-after", b"%d" % math.ceil(wait)))
        if status == 200:
            return Answer(status, told)
        told.append((b"content-type", b"application/problem+json"))
        return Answer(status, told, _problem(status, verdict))

    def _judge(self, headers: Iterable[tuple[bytes, bytes]]) -> Verdict:
        """What the headers claim, and the verdict on it."""
        claims: list[bytes | None] = [None, None, None]
        forwarded: list[bytes] = []
        for name, value in headers:
            place = self._names.get(name)
            if place is not None:
                if claims[place] is not None or len(value) > MAX_ID_BYTES:
                    return self._malformed()
                claims[place] = value.strip(b" \t")
            elif name == self._address_header:
                forwarded.append(value)
        try:
            account, organisation, model = ((claim or b"").decode() for claim in claims)
        except UnicodeDecodeError:
            return self._malformed()
        address = client_address(forwarded, self._settings.trusted_hops) if forwarded else ""
        return self.gate.check(account, organisation, address, model)

    def _malformed(self) -> Verdict:
        return Verdict(BLOCK, MALFORMED, age=self.gate.condition().age)

    def status(self, path: str) -> Answer:
        """The answer to who asks after the gate itself."""
        kind = b"text/plain; charset=utf-8"
        if path == "/healthz":
            status, body = 200, b"ok\n"
        elif path == "/readyz":
            status, body = self._readiness()
            kind = b"application/json"
        elif path == "/metrics":
            status, body, kind = 200, generate_latest(self._registry), CONTENT_TYPE_LATEST.encode()
        else:
            status, body = 404, b"there are /healthz, /readyz and /metrics\n"
        return Answer(status, [(b"content-type", kind)], body)

    def _readiness(self) -> tuple[int, bytes]:
        """503 as long as requests are not judged by the decisions; a failed reload alone does not make it so."""
        condition = self.gate.condition()
        facts = condition.facts
        document: dict[str, Any] = {
            "ready": condition.ready,
            "age_seconds": None if condition.age is None else int(condition.age),
            "stale": condition.stale,
            "fail": facts.fail if facts else self.gate.without_data,
            "stale_after_seconds": facts.stale_after if facts else None,
            "rows": facts.rows if facts else None,
            "generation": facts.generation if facts else None,
            "reloads": condition.reloads,
            "failed_reloads": condition.failures,
            "reload_error": condition.error or None,
        }
        return 200 if condition.ready else 503, json.dumps(document).encode() + b"\n"


def client_address(forwarded: Iterable[bytes], trusted_hops: int) -> str:
    """The client's address as the outermost proxy that can be believed wrote it, "" if there is none.

    Args:
        forwarded: the values of the header, in their order. What a client sent stands on the left of what proxies add.
    """
    whole = b",".join(forwarded)
    if not trusted_hops or len(whole) > MAX_ADDRESS_BYTES:
        return ""
    entries = whole.split(b",")
    if len(entries) < trusted_hops:
        return ""
    return entries[-trusted_hops].strip(b" \t").decode("ascii", "replace")


def _problem(status: int, verdict: Verdict) -> bytes:
    """RFC 9457. It names the decision, so that a customer can appeal, and nothing of what led to it."""
    title = "Too Many Requests" if verdict.action == THROTTLE else "Forbidden"
    document = {"type": "about:blank", "title": title, "status": status, "detail": _DETAILS[verdict.action]}
    if verdict.decision:
        document["instance"] = f"urn:stillwatch:{verdict.decision}"
    return json.dumps(document).encode()

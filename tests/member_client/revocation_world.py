"""Plans, hooks and clocks for tests of revocations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from member_client.revocation.authority import Target
from member_client.revocation.hooks import Outcome
from member_client.revocation.planning import Plan
from member_client.revocation.running import Clock

DECISION = "decision--00000000-0000-4000-8000-000000000001"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def plan_of(*accounts: str, number: int = 1, decision: str = DECISION) -> Plan:
    """A plan about these accounts of one decision."""
    return Plan.model_validate(
        {
            "format": "stillwatch-revocation-plan/1",
            "id": f"revocation-plan--00000000-0000-4000-8000-{number:012d}",
            "created": NOON,
            "decisions": [
                {
                    "id": decision,
                    "subject": "cluster payment.fingerprint:x",
                    "pattern": "A pattern",
                    "approved_by": ["Ada"],
                    "expires": NOON + timedelta(days=14),
                }
            ],
            "targets": [{"decision": decision, "kind": "account", "id": account} for account in accounts],
        }
    )


@dataclass
class Says:
    """Who says whether access may be revoked: a reason by account."""

    no: dict[str, str] = field(default_factory=dict)

    def why_not(self, target: Target) -> str:
        return self.no.get(target.id, "")


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Gateway:
    """What a lab's own system would be: it ends and gives back access, and remembers every call and its key.

    Attributes:
        behave: called before each call with its number, from 0; what it returns is the answer, None for doing it.
        crash_after: number of a call after which the process ends.
    """

    behave: Callable[[int], Outcome | None] = lambda number: None
    crash_after: int = -1
    revoked: set[str] = field(default_factory=set)
    calls: list[tuple[str, str, str]] = field(default_factory=list)

    def call(self, body: bytes, key: str) -> Outcome:
        document: dict[str, Any] = json.loads(body)
        assert document["idempotency_key"] == key
        number = len(self.calls)
        account = document["subject"]["id"]
        self.calls.append((document["action"], account, key))
        answer = self.behave(number)
        if answer is None:
            (self.revoked.add if document["action"] == "revoke" else self.revoked.discard)(account)
        if number == self.crash_after:
            raise Crash
        return answer or Outcome(True)


@dataclass
class StoppedClock:
    """A clock that moves only when somebody waits."""

    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: NOON.timestamp() + self.seconds, steady=lambda: self.seconds, wait=self.wait)


def hook_script(path: Path, *lines: str) -> str:
    """A command line of a hook in Python, which has its JSON object as `told` and its number of calls as `calls`."""
    log = path.with_suffix(".jsonl")
    script = [
        "import json, os, signal, sys",
        "told = json.load(sys.stdin)",
        f"calls = len(open({str(log)!r}).readlines()) if os.path.exists({str(log)!r}) else 0",
        f"open({str(log)!r}, 'a').write(json.dumps(told) + '\\n')",
        *lines,
    ]
    path.write_text("\n".join(script) + "\n")
    return f"{sys.executable} -S {path}"


def heard(path: Path) -> list[dict[str, Any]]:
    """What the hook of that script was told."""
    log = path.with_suffix(".jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

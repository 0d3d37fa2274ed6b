"""What can go wrong at a member, and the exit code that tells a scheduler.

ClientError
├── InvalidInput         2   the user's file, argument or set-up
├── RefusedByHub         3   the hub said no, and why
├── HubUnreachable       4   no answer, or one that is no answer; try again later
├── VerificationFailed   5   the hub or an author misbehaved; evidence is on disk
└── NotProven            5   a proof or evidence from somebody does not hold
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sharing_protocol.errors import Misbehaviour

if TYPE_CHECKING:
    from sharing_protocol.wire import Problem


class ClientError(Exception):
    """Base of everything a command reports instead of a traceback.

    Attributes:
        exit_code: what the process exits with.
        hint: what to do about it; may be empty.
    """

    exit_code = 1
    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvalidInput(ClientError):
    """Something the user gave is not usable."""

    exit_code = 2
    code = "invalid_input"


_HINTS = {
    "stale_request": "set this machine's clock (NTP)",
    "unknown_key": "a lab that is not admitted yet sends its request to the forum's admins; `stillwatch status` shows "
    "which keys are registered",
}
"""By the code of the hub's problem: what whoever sits at the client can do about it."""


class RefusedByHub(ClientError):
    """The hub refused a request.

    Attributes:
        problem: its RFC 9457 answer.
    """

    exit_code = 3

    def __init__(self, problem: Problem) -> None:
        where = f" (at {problem.where})" if problem.where else ""
        super().__init__(f"the hub refused: {problem.detail}{where} [{problem.code}]", _HINTS.get(problem.code, ""))
        self.problem = problem
        self.code = problem.code


class HubUnreachable(ClientError):
    """The hub could not be asked, or answered nothing usable.

    Attributes:
        retry_after: seconds after which the hub wants to be asked again; 0 if it did not say.
        reason: the code of the hub's own problem document, "" if it sent none.
    """

    exit_code = 4
    code = "hub_unreachable"

    def __init__(self, message: str, hint: str = "", retry_after: float = 0.0, reason: str = "") -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after
        self.reason = reason


class NotProven(ClientError):
    """What somebody brought does not prove what it is brought for."""

    exit_code = 5

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class VerificationFailed(ClientError):
    """What the hub served does not hold.

    Attributes:
        misbehaviour: which lie, and how it is known.
        evidence: the file that keeps it.
    """

    exit_code = 5

    def __init__(self, misbehaviour: Misbehaviour, evidence: Path) -> None:
        super().__init__(f"verification failed ({misbehaviour.fault}): {misbehaviour.detail}")
        self.hint = f"the last good state stays in force; evidence: {evidence}"
        self.misbehaviour = misbehaviour
        self.evidence = evidence
        self.code = misbehaviour.code

"""The errors that the protocol itself can raise.

    ProtocolError                 something does not hold; `code` is stable, the sentence is for people
    ├── Malformed                 bytes that do not parse as what they claim to be
    ├── InvalidKey                a public key nobody may register
    ├── Refused                   a well-formed entry that the log's rules do not allow
    ├── Unproven                  a proof from somebody that does not show what it claims
    └── Misbehaviour              evidence that the log's operator, or the network, lies

`Malformed` and `Refused` say that one document is bad. `Misbehaviour` says that a party is: a client that
sees it keeps its last good state and the evidence, and stops.
"""

from __future__ import annotations

from enum import StrEnum


class ProtocolError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        code: stable, machine-readable name of what is wrong (snake_case).
        detail: one sentence for people: what, where, how to mend.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Malformed(ProtocolError):
    """Bytes that are not what they claim to be."""


class InvalidKey(ProtocolError):
    """A public key that is not canonical, of low order, or already taken."""


class Refused(ProtocolError):
    """An entry that parses but that the rules do not allow at this place in the log.

    Attributes:
        where: the JSON path of the offending part, "" when it is the whole.
    """

    def __init__(self, code: str, detail: str, where: str = "") -> None:
        super().__init__(code, detail)
        self.where = where


class Unproven(ProtocolError):
    """A proof that parses and does not hold: it accuses nobody but whoever brings it."""


class Fault(StrEnum):
    """What a lying hub did (design: alter, withhold, roll back, fork, freeze, forge)."""

    ALTER = "alter"
    WITHHOLD = "withhold"
    ROLL_BACK = "roll back"
    FORK = "fork"
    FREEZE = "freeze"
    FORGE = "forge"


class Misbehaviour(ProtocolError):
    """What the hub served contradicts what it signed, or what it served before.

    Attributes:
        fault: which kind of lie it is.
        evidence: the documents that show it, by name, as text; whoever catches this stores them.
    """

    def __init__(self, fault: Fault, code: str, detail: str, evidence: dict[str, str] | None = None) -> None:
        super().__init__(code, detail)
        self.fault = fault
        self.evidence = dict(evidence or {})

"""Whose cosignatures a checkpoint needs before it is believed: C2SP tlog-policy, and two rules about members.

    majority                more than half of the active labs
    3 of members            so many of the active labs
    anything else           tlog-policy text: `log`, `witness`, `group` and `quorum` lines

The rules become a policy of the same form by whoever is a member: each lab is a group of its witness keys, any of which
speaks for it, so that a lab with many keys counts once. A lab without one counts among those there are, but never as
one that cosigned. One's own lab counts as well: two quorums of more than half of *all* labs have a lab in common, and
an honest lab cosigns no fork.

Source: C2SP tlog-policy. Octets beyond ASCII mean nothing but themselves; a name that is no UTF-8 is kept as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from sharing_protocol.errors import Malformed
from sharing_protocol.membership import Membership, Status
from sharing_protocol.notes import SignatureType, VerifierKey
from sharing_protocol.witnesses import witnesses_of

MAX_POLICY_BYTES = 256 * 1024
MAX_DEFINITIONS = 1024
"""Of logs, of witnesses and of groups; the specification asks for 32 at least."""
NONE = "none"
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_RULE = re.compile(r"(?P<majority>majority)|(?P<count>[1-9][0-9]{0,5}) of members")
_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups, by their names, of which `threshold` have to have witnessed a checkpoint."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How far a quorum got: `count` of the `needed`, and the names that are missing."""

    count: int
    needed: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A quorum over witnesses.

    Attributes:
        logs: the logs it is about; empty if that is known otherwise.
        witnesses: by the names that the policy gives them.
        groups: by their names, each after the ones that it names.
        quorum: a witness, a group, or `none`.
    """

    quorum: str
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    logs: tuple[VerifierKey, ...] = ()

    def is_met(self, cosigners: Collection[VerifierKey]) -> bool:
        """Whether these witnesses are enough."""
        return self.quorum == NONE or self._witnessed(cosigners)[self.quorum]

    def met_at(self, cosignatures: Mapping[VerifierKey, int]) -> float | None:
        """The latest time (POSIX seconds) so that the cosignatures since then are enough; None if all are not.

        Args:
            cosignatures: when each witness cosigned. It is infinity where none are asked for.
        """
        if self.is_met(()):
            return math.inf
        for time in sorted(set(cosignatures.values()), reverse=True):
            if self.is_met({key for key, then in cosignatures.items() if then >= time}):
                return time
        return None

    def shortfall(self, cosigners: Collection[VerifierKey]) -> Shortfall:
        """What the quorum has, and which of its own members it has not."""
        if self.quorum == NONE:
            return Shortfall(0, 0, ())
        witnessed = self._witnessed(cosigners)
        group = self.groups.get(self.quorum, Group(1, (self.quorum,)))
        missing = tuple(name for name in group.members if not witnessed[name])
        return Shortfall(len(group.members) - len(missing), group.threshold, missing)

    def _witnessed(self, cosigners: Collection[VerifierKey]) -> dict[str, bool]:
        found = {name: key in cosigners for name, key in self.witnesses.items()}
        for name, group in self.groups.items():
            found[name] = sum(found[member] for member in group.members) >= group.threshold
        return found

    def __str__(self) -> str:
        lines = [f"log {key}" for key in self.logs]
        lines += [f"witness {name} {key}" for name, key in self.witnesses.items()]
        lines += [f"group {name} {group.threshold} {' '.join(group.members)}" for name, group in self.groups.items()]
        return "".join(f"{line}\n" for line in [*lines, f"quorum {self.quorum}"])


@dataclass(frozen=True, slots=True)
class MembersRule:
    """So many of the active labs; None for more than half of them."""

    count: int | None

    def __str__(self) -> str:
        return "majority" if self.count is None else f"{self.count} of members"


def parse(data: bytes) -> Policy | MembersRule:
    """Read a rule about members, or tlog-policy text.

    Raises:
        Malformed: `bad_policy`, with the line.
    """
    text = data.decode("utf-8", "surrogateescape")
    rule = _RULE.fullmatch(text.strip(" \t\n"))
    if rule is not None:
        return MembersRule(None if rule["majority"] else int(rule["count"]))
    return parse_text(data)


def parse_text(data: bytes) -> Policy:
    """Read tlog-policy text.

    Raises:
        Malformed: `bad_policy`, with the line.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise Malformed("bad_policy", f"a witness policy has at most {MAX_POLICY_BYTES} bytes")
    if data and not data.endswith(b"\n"):
        raise Malformed("bad_policy", "the witness policy's last line does not end in a newline")
    reader = _Reader()
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), start=1):
        reader.read(number, line)
    return reader.policy()


def for_members(rule: MembersRule, membership: Membership) -> Policy:
    """What a rule comes to, by the membership at one place in the log. It may be one that nobody can meet."""
    active = [member.id for member in membership.members.values() if member.status is Status.ACTIVE]
    count = len(active) // 2 + 1 if rule.count is None else rule.count
    witnesses: dict[str, VerifierKey] = {}
    groups: dict[str, Group] = {}
    for member in active:
        keys = {f"{member}/{key.key.key_id[:16]}": key for key in witnesses_of(membership, member)}
        if keys:
            witnesses.update(keys)
            groups[member] = Group(1, tuple(keys))
    labs = tuple(groups)
    return Policy("members", witnesses, {**groups, "members": Group(count, labs)})


class _Reader:
    def __init__(self) -> None:
        self._number = 0
        self._logs: list[VerifierKey] = []
        self._witnesses: dict[str, VerifierKey] = {}
        self._groups: dict[str, Group] = {}
        self._grouped: set[str] = set()
        self._quorum: str | None = None

    def read(self, number: int, line: str) -> None:
        self._number = number
        if any((ord(character) < 0x20 and character != "\t") or character == "\x7f" for character in line):
            self._refuse("it has control characters")
        items = _BLANKS.split(line.strip(" \t"))
        if items == [""] or items[0].startswith("#"):
            return
        match items:
            case ["log", vkey] | ["log", vkey, _]:
                self._log(vkey)
            case ["witness", name, vkey] | ["witness", name, vkey, _]:
                self._witness(name, vkey)
            case ["group", name, threshold, *members]:
                self._group(name, threshold, members)
            case ["quorum", name]:
                self._set_quorum(name)
            case _:
                self._refuse(
                    "a line reads `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME all|any|K NAME...` or "
                    "`quorum NAME`"
                )

    def policy(self) -> Policy:
        if self._quorum is None:
            raise Malformed("bad_policy", "the witness policy has no quorum line")
        return Policy(self._quorum, self._witnesses, self._groups, tuple(self._logs))

    def _log(self, vkey: str) -> None:
        key = self._key(vkey, SignatureType.ED25519, "a log")
        if any(key.key == known.key for known in self._logs):
            self._refuse("this log's key was there before")
        self._bound(self._logs)
        self._logs.append(key)

    def _witness(self, name: str, vkey: str) -> None:
        key = self._key(vkey, SignatureType.COSIGNATURE_V1, "a witness")
        if any(key.key == known.key for known in self._witnesses.values()):
            self._refuse("this witness's key was there before")
        self._bound(self._witnesses)
        self._define(name)
        self._witnesses[name] = key

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        self._bound(self._groups)
        self._define(name)
        for member in members:
            if member not in self._witnesses and member not in self._groups:
                self._refuse(f"{_shown(member)} is no witness or group of a line before")
            if member in self._grouped:
                self._refuse(f"{_shown(member)} is a member of a group already")
            self._grouped.add(member)
        if threshold in ("any", "all"):
            count = 1 if threshold == "any" else len(members)
        elif _COUNT.fullmatch(threshold):
            count = int(threshold)
        else:
            self._refuse(f"a group's threshold is all, any or a number, not {_shown(threshold)}")
        if not 1 <= count <= len(members):
            self._refuse(f"{count} of {len(members)} members is no group")
        self._groups[name] = Group(count, tuple(members))

    def _set_quorum(self, name: str) -> None:
        if self._quorum is not None:
            self._refuse("there is a quorum line already")
        if name != NONE and name not in self._witnesses and name not in self._groups:
            self._refuse(f"{_shown(name)} is no witness or group of a line before")
        self._quorum = name

    def _key(self, vkey: str, kind: SignatureType, whose: str) -> VerifierKey:
        try:
            key = VerifierKey.parse(vkey)
        except Malformed as error:
            self._refuse(error.detail)
        if key.kind is not kind:
            self._refuse(f"{whose} has a key of type {kind:#04x} here, not {key.kind:#04x}")
        return key

    def _define(self, name: str) -> None:
        if name == NONE or name in self._witnesses or name in self._groups:
            self._refuse(f"the name {_shown(name)} is taken")

    def _bound(self, defined: Collection[object]) -> None:
        if len(defined) >= MAX_DEFINITIONS:
            self._refuse(f"more than {MAX_DEFINITIONS} of these are not read")

    def _refuse(self, why: str) -> NoReturn:
        raise Malformed("bad_policy", f"the witness policy, line {self._number}: {why}")


def _shown(name: str) -> str:
    return ascii(name[:80])

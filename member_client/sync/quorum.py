"""Believing only what others have witnessed: the largest checkpoint whose cosignatures meet this member's policy.

A cosignature counts for its checkpoint and for every smaller one, once it is verified that the one extends the other.
So witnesses that sync at different moments of a busy log still come to a quorum. With a rule about members, who is a
witness goes by the membership at the checkpoint itself: the entries up to it are read ahead, and nothing of them is
kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from member_client.errors import InvalidInput
from member_client.sync.batches import verified_stretches
from member_client.sync.reading_ahead import ReadingAhead
from member_client.sync.store import Store
from sharing_protocol import notes
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership
from sharing_protocol.notes import Note, VerifierKey
from sharing_protocol.tiles import VerifiedTree
from sharing_protocol.trust import MAX_SKEW_SECONDS, TrustedCheckpoint, check_consistency
from sharing_protocol.witness_policy import MembersRule, Policy, for_members
from sharing_protocol.witnesses import CosignedCheckpoint, claims_more, known_witnesses, open_cosigned, speaking_for

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

Rule = Policy | MembersRule
MAX_NOTES = 1024
_LABS_NAMED = 8


@dataclass(frozen=True, slots=True)
class Quorum:
    """How far a policy lets this member go.

    Attributes:
        checkpoint: to believe now; what is believed already if nothing new is witnessed, None if nothing ever was.
        missing: what the newest checkpoint still lacks, in words; "" if nothing.
    """

    checkpoint: TrustedCheckpoint | None
    missing: str


@dataclass(frozen=True, slots=True)
class Witnessing:
    """What a member decides by.

    Attributes:
        rule: its policy.
        now: POSIX seconds.
        max_age: seconds after which cosignatures are stale.
    """

    rule: Rule
    now: float
    max_age: float


def _log_key(logs: LogHistory, checkpoint: TrustedCheckpoint) -> VerifierKey:
    return VerifierKey.parse(logs.at(checkpoint.checkpoint.size).log_key)


def find_quorum(
    store: Store,
    hub: HubConnection,
    newest: TrustedCheckpoint,
    tree: VerifiedTree,
    logs: LogHistory,
    witnessing: Witnessing,
) -> Quorum:
    """The largest checkpoint that is witnessed, and not smaller than what the store believes.

    Args:
        newest: verified, fresh, and consistent with the store.
        tree: over its size and root.

    Raises:
        Misbehaviour: `FORGE`, `FORK`: what the hub shows as cosigned is not of this log. `FREEZE`: nothing is
            witnessed, and what the store believes is older than the policy allows. `ALTER`, `WITHHOLD`.
        HubUnreachable, RefusedByHub: no usable answer.
        InvalidInput: the policy is about other logs.
    """
    rule = witnessing.rule
    if isinstance(rule, Policy) and rule.logs and _log_key(logs, newest) not in rule.logs:
        raise InvalidInput("the witness policy is about other logs than this forum's", "see `stillwatch witness show`")
    believed = store.trusted()
    least = believed.checkpoint.size if believed is not None else 0
    shown = [newest.note.encode(), *hub.cosigned_checkpoints()[:MAX_NOTES]]
    heads = [(data, open_cosigned(data, logs, ())) for data in shown if not claims_more(data, newest.checkpoint.size)]
    heads = [(data, head) for data, head in heads if least <= head.checkpoint.size]
    for _, head in heads:
        check_consistency(TrustedCheckpoint(head.checkpoint, str(head.note), 0), newest, tree)
    states = _states(store, hub, rule, [head for _, head in heads])
    policies = (
        {head.checkpoint.size: rule for _, head in heads}
        if isinstance(rule, Policy)
        else {size: for_members(rule, state) for size, state in states.items()}
    )
    state = states[max(states)] if states else store.membership()
    known = {key for policy in policies.values() for key in policy.witnesses.values()} | set(known_witnesses(state))
    cosigned = [open_cosigned(data, logs, known) for data, _ in heads]
    missing = _missing(rule, state, cosigned, newest, witnessing)
    for size in sorted(policies, reverse=True):
        found = _witnessed(size, policies[size], cosigned, newest, witnessing)
        if found is not None:
            return Quorum(found, "" if size == newest.checkpoint.size else missing)
    if believed is not None and witnessing.now - believed.timestamp > witnessing.max_age:
        raise _frozen(believed, newest, missing, cosigned, witnessing)
    return Quorum(believed, missing)


def _witnessed(
    size: int,
    policy: Policy,
    cosigned: Sequence[CosignedCheckpoint],
    newest: TrustedCheckpoint,
    witnessing: Witnessing,
) -> TrustedCheckpoint | None:
    same = [opened for opened in cosigned if opened.checkpoint.size == size]
    time = policy.met_at(_times(size, cosigned, witnessing.now))
    if time is None or witnessing.now - time > witnessing.max_age:
        return None
    lines = tuple(dict.fromkeys(line for opened in same for line in opened.note.signatures))
    note = Note(same[0].note.text, lines[: notes.MAX_NOTE_SIGNATURES])
    return TrustedCheckpoint(same[0].checkpoint, str(note), int(min(time, newest.timestamp)))


def _times(size: int, cosigned: Sequence[CosignedCheckpoint], now: float) -> dict[VerifierKey, int]:
    return {key: time for key, time in speaking_for(size, cosigned).items() if time <= now + MAX_SKEW_SECONDS}


def _states(store: Store, hub: HubConnection, rule: Rule, heads: Sequence[CosignedCheckpoint]) -> dict[int, Membership]:
    """The membership at each checkpoint that somebody but the log, perhaps a witness, has signed; if it matters."""
    signed = [
        head.checkpoint for head in heads if any(line.name != head.checkpoint.origin for line in head.note.signatures)
    ]
    if isinstance(rule, Policy) or not signed:
        return {}
    largest = max(signed, key=lambda checkpoint: checkpoint.size)
    tree = VerifiedTree(largest.size, largest.root, hub.tile)
    return memberships_at(store, hub, tree, {checkpoint.size for checkpoint in signed})


def memberships_at(
    store: Store, hub: HubConnection, tree: VerifiedTree, sizes: Collection[int]
) -> dict[int, Membership]:
    """The membership that the first entries of a verified tree lead to, for each of these numbers of them.

    Raises:
        Misbehaviour: `ALTER`, `WITHHOLD`.
    """
    reading = ReadingAhead(store)
    found = {size: reading.membership for size in sizes if size <= store.cursor}
    if len(found) < len(sizes):
        for stretch in verified_stretches(store, hub, tree):
            for index, (entry, leaf) in enumerate(zip(stretch.entries, stretch.leaves, strict=True), stretch.start):
                reading.take(index, entry, leaf)
                if index + 1 in sizes:
                    found[index + 1] = reading.membership
    return found


def _missing(
    rule: Rule,
    state: Membership,
    cosigned: Sequence[CosignedCheckpoint],
    newest: TrustedCheckpoint,
    witnessing: Witnessing,
) -> str:
    policy = rule if isinstance(rule, Policy) else for_members(rule, state)
    since = witnessing.now - witnessing.max_age
    times = _times(newest.checkpoint.size, cosigned, witnessing.now)
    short = policy.shortfall({key for key, time in times.items() if time >= since})
    names = [state.members[name].name if name in state.members else name for name in short.missing]
    more = f" and {len(names) - _LABS_NAMED} more" if len(names) > _LABS_NAMED else ""
    shown = ", ".join(names[:_LABS_NAMED]) + more
    return f"{short.count} have cosigned it lately, {short.needed} must; missing: {shown or 'nobody who could'}"


def _frozen(
    believed: TrustedCheckpoint,
    newest: TrustedCheckpoint,
    missing: str,
    cosigned: Sequence[CosignedCheckpoint],
    witnessing: Witnessing,
) -> Misbehaviour:
    age = witnessing.now - believed.timestamp
    return Misbehaviour(
        Fault.FREEZE,
        "unwitnessed_checkpoint",
        f"what is believed here was last witnessed {age:.0f} s ago, {witnessing.max_age:.0f} s are allowed, and the "
        f"newest checkpoint is not: {missing}; the others do not sync, or the hub hides that they do",
        {
            "checkpoint": newest.note,
            "old_checkpoint": believed.note,
            "cosigned": "\n".join(str(opened.note) for opened in cosigned),
            "policy": str(witnessing.rule),
            "local_time": f"{witnessing.now:.0f}",
        },
    )

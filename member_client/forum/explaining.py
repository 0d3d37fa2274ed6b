"""Saying in plain words what a membership statement does: what an admin reads before signing."""

from __future__ import annotations

from collections.abc import Iterable

from member_client.forum.cards import AdminCard
from sharing_protocol.keys import PublicKey
from sharing_protocol.log_keys import mark_of
from sharing_protocol.membership import Membership
from sharing_protocol.statements import (
    AddKey,
    Admin,
    Admit,
    ChangeAdmins,
    ChangeLog,
    Expel,
    Found,
    KeyRegistration,
    MembershipStatement,
    Reinstate,
    RevokeKey,
    Role,
    Suspend,
)

_MAY = {
    Role.OWNER: "may manage the lab's keys",
    Role.ANALYST: "may publish records",
    Role.SYNC: "may read",
    Role.WITNESS: "may cosign the log as a witness",
}


def explain(statement: MembershipStatement, membership: Membership) -> list[str]:
    """What the statement does, line by line, as of `membership`."""
    lines = _effect(statement, membership)
    reason = getattr(statement.body, "reason", None)
    if reason:
        lines.append(f"Reason given: {reason}")
    return lines


def headline(statement: MembershipStatement, membership: Membership) -> str:
    """The same in one line."""
    return _effect(statement, membership)[0]


def _effect(statement: MembershipStatement, membership: Membership) -> list[str]:
    name = membership.name_of(statement.id)
    match statement:
        case Found():
            body = statement.body
            return [
                f"FOUND the forum {body.name!r}: {body.threshold} of {len(body.admins)} admins decide together",
                *_admins(body.admins),
                f"  its log is {body.log.origin}, signed by {body.log.log_key}",
                f"  and timestamped by {body.log.timestamp_key}",
            ]
        case ChangeAdmins():
            return _admin_change(statement, membership)
        case ChangeLog():
            return [
                f"EXCHANGE THE LOG'S KEYS: from this entry on it is signed by {statement.body.log_key}",
                f"  and timestamped by {statement.body.timestamp_key}",
                "  what the keys until now sign of it is refused by every member who has read this",
            ]
        case Admit():
            return [
                f"ADMIT the lab {statement.body.name!r} ({statement.id}) with these keys:",
                *_keys(statement.body.keys),
            ]
        case Suspend():
            return [f"SUSPEND {name}: it can neither read nor publish until it is reinstated"]
        case Reinstate():
            return [f"REINSTATE {name}: it can read and publish again"]
        case Expel():
            return [f"EXPEL {name}: for good; what it published stays in the log"]
        case AddKey():
            return [f"ADD A KEY for {name}:", *_keys([statement.body.key])]
        case RevokeKey():
            return _revocation(statement, membership, name)


def _admin_change(statement: ChangeAdmins, membership: Membership) -> list[str]:
    body, forum = statement.body, membership.forum
    before = {membership.keys[key_id].name for key_id in forum.admins} if forum else set()
    after = {admin.name for admin in body.admins}
    lines = [f"CHANGE THE ADMINS: from now on {body.threshold} of {len(body.admins)} decide together"]
    if forum is not None:
        lines.append(f"  until now: {forum.threshold} of {len(forum.admins)}")
    lines += [f"  leaves: {name}" for name in sorted(before - after)]
    lines += [f"  joins:  {name}" for name in sorted(after - before)]
    return [*lines, *_admins(body.admins)]


def _revocation(statement: RevokeKey, membership: Membership, name: str) -> list[str]:
    body = statement.body
    key = membership.keys.get(body.key_id)
    role = key.role if key is not None else "unknown"
    if key is not None and key.revoked_at is not None:
        lines = [f"REPORT the revoked {role} key {body.key_id[:16]}… of {name} as compromised"]
    else:
        lines = [f"REVOKE the {role} key {body.key_id[:16]}… of {name}: it signs nothing from here on"]
    if body.suspect_from is not None:
        lines.append(
            f"  records that it signed from entry {body.suspect_from} on are suspect and leave force everywhere"
        )
    return lines


def _admins(admins: Iterable[Admin]) -> list[str]:
    return [
        f"  admin {admin.name}: key {PublicKey.parse(admin.key).key_id[:16]}…, "
        f"card's mark {mark_of(AdminCard(admin=admin))}"
        for admin in admins
    ]


def _keys(keys: Iterable[KeyRegistration]) -> list[str]:
    return [f"  {key.role} key {PublicKey.parse(key.key).key_id[:16]}…, which {_MAY[key.role]}" for key in keys]

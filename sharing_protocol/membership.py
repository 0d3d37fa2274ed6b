"""Who belongs to the forum: a pure fold over the log's membership statements.

Authority goes by position (design, rule 1). `Membership` is the state after some number of entries; `authorize`
says whether a statement may be the next one, and `after` is the state it leads to. Nothing here asks a server, a
clock or a directory.

The rules:

1. Entry 0 founds the forum and is signed by at least `threshold` of the admins it names.
2. Admitting, suspending, reinstating and expelling a lab needs `threshold` admins. So does changing its keys, unless
   one of the lab's own owner keys signs for it.
3. Changing the admins needs the old threshold of the old admins and the new threshold of the new (as in TUF's root
   rotation).
4. Exchanging the log's keys needs `threshold` admins; from that entry on the new ones sign the log (`log_keys`).
5. Records are signed by exactly one analyst key of an active lab, their author.
6. A signature by anyone else on the envelope refuses it. A key is registered once, ever, and only with proof that
   whoever registers it holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Malformed, ProtocolError, Refused
from sharing_protocol.keys import PublicKey, decode_base64
from sharing_protocol.log_keys import LOG_ROLE, TIMESTAMP_ROLE, LogHistory, check_log_identity, keys_of
from sharing_protocol.statements.header import comparable_name
from sharing_protocol.statements.membership import (
    MAX_KEYS_PER_MEMBER,
    AddKey,
    Admin,
    Admit,
    ChangeAdmins,
    ChangeLog,
    Expel,
    Found,
    KeyRegistration,
    LogIdentity,
    MembershipStatement,
    Reinstate,
    RevokeKey,
    Role,
    Suspend,
    possession_message,
)
from sharing_protocol.statements.parsing import Statement
from sharing_protocol.statements.records import RecordStatement

ADMIN_ROLE = "admin"


class Status(StrEnum):
    """Where a lab's membership stands."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    EXPELLED = "expelled"


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A key that the log registered.

    Attributes:
        holder: id of the member, or of the forum for an admin's key.
        role: `owner`, `analyst`, `sync`, `witness` or `admin`.
        name: the admin's name; empty for a member's key.
        since: log index of its registration.
        revoked_at: log index from which it signs nothing, or None.
        suspect_from: log index from which what it signed is suspect, or None.
    """

    public_key: PublicKey
    holder: str
    role: str
    name: str
    since: int
    revoked_at: int | None = None
    suspect_from: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A lab."""

    id: str
    name: str
    status: Status
    since: int


@dataclass(frozen=True, slots=True)
class Forum:
    """The forum: its fingerprint, its log's keys, its admins' key ids, and how many of them must sign."""

    id: str
    name: str
    fingerprint: str
    logs: LogHistory
    admins: tuple[str, ...]
    threshold: int

    @property
    def log(self) -> LogIdentity:
        """The log as it is signed now."""
        return self.logs.current


SignatureCheck = Callable[[PublicKey, Envelope, Signature], bool]


def check_signature(key: PublicKey, envelope: Envelope, signature: Signature) -> bool:
    """Verify one signature of an envelope; callers with a cache bring their own."""
    return key.verifies(envelope.signed_message, signature.value)


@dataclass(frozen=True)
class Membership:
    """The state after the log's first entries.

    Attributes:
        forum: None before entry 0.
        members: every lab ever admitted, by id.
        keys: every key ever registered, by key id.
        as_of: index of the newest membership entry, -1 for none.
    """

    forum: Forum | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    keys: Mapping[str, RegisteredKey] = field(default_factory=dict)
    as_of: int = -1

    def keys_of(self, holder: str) -> list[RegisteredKey]:
        """A holder's keys that are not revoked, in the order of registration."""
        return [key for key in self.keys.values() if key.holder == holder and key.revoked_at is None]

    def name_of(self, holder: str) -> str:
        """The name of a lab or of the forum by its id, or of whoever holds a key by the key's; else what was given."""
        key = self.keys.get(holder)
        if key is not None:
            return key.name or self.name_of(key.holder)
        if self.forum is not None and holder == self.forum.id:
            return self.forum.name
        member = self.members.get(holder)
        return member.name if member is not None else holder

    def current_key(self, key_id: str) -> RegisteredKey:
        """The key, if it may act now: not revoked, and its holder the forum or an active lab.

        Raises:
            Refused: `unknown_key`, `revoked_key`, `member_suspended`, `member_expelled`.
        """
        key = self.keys.get(key_id)
        if key is None:
            raise Refused("unknown_key", f"no key with id {key_id[:16]}… is registered in this forum")
        member = self.members.get(key.holder)
        if member is not None and member.status is Status.EXPELLED:
            raise Refused("member_expelled", f"{member.name} was expelled from the forum")
        if key.revoked_at is not None:
            raise Refused("revoked_key", f"the key {key_id[:16]}… was revoked at entry {key.revoked_at}")
        if member is not None and member.status is Status.SUSPENDED:
            raise Refused("member_suspended", f"{member.name} is suspended; an admin can reinstate it")
        return key


def authorize(
    membership: Membership, statement: Statement, envelope: Envelope, check: SignatureCheck = check_signature
) -> None:
    """Say whether `envelope` may put `statement` next into the log.

    Raises:
        Refused: `already_founded`, `not_founded`, `wrong_forum`, `bad_signature`, `unknown_key`, `revoked_key`,
            `member_suspended`, `member_expelled`, `wrong_role`, `not_the_author`, `unexpected_signature`,
            `insufficient_signatures`, and what `after` raises for a membership statement.
    """
    if isinstance(statement, Found):
        if membership.forum is not None:
            raise Refused("already_founded", "the forum is founded; its founding statement is entry 0")
        _check_founding(statement, envelope, check)
        return
    forum = _check_forum(membership, statement.forum)
    if isinstance(statement, RecordStatement):
        _check_member_signature(membership, statement, envelope, Role.ANALYST, check)
    elif isinstance(statement, ChangeAdmins):
        _check_admin_change(membership, forum, statement, envelope, check)
    elif isinstance(statement, AddKey | RevokeKey) and statement.author != forum.id:
        # An owner speaks for its own lab alone: otherwise any lab's owner could register a key for a rival.
        _require_author(statement, statement.id, "the lab itself")
        _check_member_signature(membership, statement, envelope, Role.OWNER, check)
    else:
        _require_author(statement, forum.id, "the forum")
        admins = {key_id: membership.keys[key_id].public_key for key_id in forum.admins}
        _check_known(membership, envelope)
        _check_quorum(envelope, admins, forum.threshold, "the forum's admins", check)


def authorize_record(membership: Membership, forum: str | None, author: str, signer: str) -> None:
    """`authorize` for a record of which it is known that this key alone has signed it, and that the signature holds.

    Args:
        forum, author: as the record has them.
        signer: the key's id.

    Raises:
        Refused: as `authorize` does.
    """
    _check_forum(membership, forum)
    _check_holder(membership.current_key(signer), author, Role.ANALYST)


def after(membership: Membership, statement: MembershipStatement, index: int, payload_sha256: str) -> Membership:
    """The state once `statement` is entry `index`; `authorize` has been asked before.

    Args:
        payload_sha256: of the envelope's payload; the founding statement's is the forum's fingerprint.

    Raises:
        Refused: `not_founded`, `bad_transition`, `unknown_member`, `member_expelled`, `unknown_key`, `name_taken`,
            `key_reused`, `bad_possession_proof`, `invalid_key`, `no_owner_key`, `too_many_keys`, `bad_threshold`,
            `suspect_from_in_future`.
    """
    changed = replace(membership, as_of=index)
    match statement:
        case Found():
            return _found(changed, statement, index, payload_sha256)
        case ChangeAdmins():
            return _change_admins(changed, statement, index)
        case ChangeLog():
            return _change_log(changed, statement, index)
        case Admit():
            return _admit(changed, statement, index)
        case Suspend():
            return _set_status(changed, statement.id, {Status.ACTIVE}, Status.SUSPENDED)
        case Reinstate():
            return _set_status(changed, statement.id, {Status.SUSPENDED}, Status.ACTIVE)
        case Expel():
            return _set_status(changed, statement.id, {Status.ACTIVE, Status.SUSPENDED}, Status.EXPELLED)
        case AddKey():
            member = _current_member(changed, statement.id)
            if len(changed.keys_of(member.id)) >= MAX_KEYS_PER_MEMBER:
                raise Refused("too_many_keys", f"{member.name} has {MAX_KEYS_PER_MEMBER} keys; revoke one first")
            return _register(changed, member.id, [statement.body.key], index)
    return _revoke(changed, statement, index)


# -- who must sign ---------------------------------------------------------------------------------------------


def _check_forum(membership: Membership, named: str | None) -> Forum:
    forum = membership.forum
    if forum is None:
        raise Refused("not_founded", "the log is empty: its first entry must found the forum")
    if named != forum.fingerprint:
        raise Refused("wrong_forum", "the statement is for another forum; sign it anew for this one", "forum")
    return forum


def _check_founding(statement: Found, envelope: Envelope, check: SignatureCheck) -> None:
    if statement.forum is not None:
        raise Refused("wrong_forum", "a founding statement names no forum; its own hash is the fingerprint", "forum")
    _require_author(statement, statement.id, "the forum")
    _check_quorum(envelope, _admin_keys(statement.body.admins), statement.body.threshold, "the named admins", check)


def _check_admin_change(
    membership: Membership, forum: Forum, statement: ChangeAdmins, envelope: Envelope, check: SignatureCheck
) -> None:
    _require_author(statement, forum.id, "the forum")
    old = {key_id: membership.keys[key_id].public_key for key_id in forum.admins}
    new = _admin_keys(statement.body.admins)
    everyone = old | new
    for signature in envelope.signatures:
        if signature.key_id not in everyone:
            membership.current_key(signature.key_id)
    _check_quorum(envelope, everyone, 1, "the old and new admins", check)
    signed = {signature.key_id for signature in envelope.signatures}
    _require_count(len(signed & old.keys()), forum.threshold, "the present admins")
    _require_count(len(signed & new.keys()), statement.body.threshold, "the new admins")


def _check_member_signature(
    membership: Membership, statement: Statement, envelope: Envelope, role: Role, check: SignatureCheck
) -> None:
    for signature in envelope.signatures:
        key = membership.current_key(signature.key_id)
        if not check(key.public_key, envelope, signature):
            raise _bad_signature(signature)
        _check_holder(key, statement.author, role)
    if len(envelope.signatures) != 1:
        raise Refused("unexpected_signature", f"exactly one {role} key signs this")


def _check_holder(key: RegisteredKey, author: str, role: Role) -> None:
    if key.holder != author:
        raise Refused("not_the_author", "the statement names another author than the key's holder", "author")
    if key.role != role:
        raise Refused("wrong_role", f"this takes {_article(role)} key; {key.public_key.key_id[:16]}… is "
                                    f"{_article(key.role)} key")  # fmt: skip


def _check_known(membership: Membership, envelope: Envelope) -> None:
    for signature in envelope.signatures:
        membership.current_key(signature.key_id)


def _check_quorum(
    envelope: Envelope, allowed: Mapping[str, PublicKey], threshold: int, whose: str, check: SignatureCheck
) -> None:
    for signature in envelope.signatures:
        key = allowed.get(signature.key_id)
        if key is None:
            raise Refused("unexpected_signature", f"the key {signature.key_id[:16]}… is not one of {whose}")
        if not check(key, envelope, signature):
            raise _bad_signature(signature)
    _require_count(len(envelope.signatures), threshold, whose)


def _require_count(count: int, threshold: int, whose: str) -> None:
    if count < threshold:
        raise Refused("insufficient_signatures", f"{count} of {whose} signed, {threshold} must")


def _require_author(statement: Statement, author: str, who: str) -> None:
    if statement.author != author:
        raise Refused("not_the_author", f"only {who} ({author}) can say this", "author")


def _bad_signature(signature: Signature) -> Refused:
    return Refused("bad_signature", f"the signature by {signature.key_id[:16]}… does not hold")


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "ao" else f"a {role}"


# -- what it leads to ------------------------------------------------------------------------------------------


def _found(membership: Membership, statement: Found, index: int, fingerprint: str) -> Membership:
    if index != 0:
        raise Refused("not_founded", f"a founding statement is entry 0 or nothing, and this is entry {index}")
    body = statement.body
    check_log_identity(body.log)
    _check_threshold(body.threshold, len(body.admins))
    admins = _register_admins(membership, statement.id, body.admins, index)
    forum = Forum(statement.id, body.name, fingerprint, LogHistory.of(body.log), tuple(admins), body.threshold)
    return replace(membership, forum=forum, keys={**membership.keys, **admins})


def _change_admins(membership: Membership, statement: ChangeAdmins, index: int) -> Membership:
    forum, body = _founded(membership), statement.body
    _check_threshold(body.threshold, len(body.admins))
    admins = _register_admins(membership, forum.id, body.admins, index)
    keys = {**membership.keys, **admins}
    for key_id in forum.admins:
        if key_id not in admins:
            keys[key_id] = replace(keys[key_id], revoked_at=index)
    return replace(membership, forum=replace(forum, admins=tuple(admins), threshold=body.threshold), keys=keys)


def _change_log(membership: Membership, statement: ChangeLog, index: int) -> Membership:
    forum, body = _founded(membership), statement.body
    log = body.named(forum.log.origin)
    check_log_identity(log, "body")
    used = {*forum.logs.public_keys(), *(known.public_key for known in membership.keys.values())}
    proofs = ((LOG_ROLE, body.log_key_proof), (TIMESTAMP_ROLE, body.timestamp_key_proof))
    for key, (role, proof) in zip(keys_of(log), proofs, strict=True):
        if key in used:
            raise Refused("key_reused", f"the new {role} key was in use in this forum before; make a new one", "body")
        _check_possession(key, role, log.origin, proof)
    return replace(membership, forum=replace(forum, logs=forum.logs.continued(index, log)))


def _admit(membership: Membership, statement: Admit, index: int) -> Membership:
    body = statement.body
    taken = {comparable_name(member.name) for member in membership.members.values()}
    if comparable_name(body.name) in taken:
        raise Refused(
            "name_taken",
            f"a lab with a name like {body.name!r} was admitted before; names are not used twice",
            "body.name",
        )
    if not any(key.role is Role.OWNER for key in body.keys):
        raise Refused("no_owner_key", "a lab needs at least one owner key", "body.keys")
    member = Member(statement.id, body.name, Status.ACTIVE, index)
    admitted = replace(membership, members={**membership.members, member.id: member})
    return _register(admitted, member.id, body.keys, index)


def _set_status(membership: Membership, member_id: str, allowed: set[Status], status: Status) -> Membership:
    member = _member(membership, member_id)
    if member.status not in allowed:
        raise Refused("bad_transition", f"{member.name} is {member.status} and cannot become {status}")
    return replace(membership, members={**membership.members, member_id: replace(member, status=status)})


def _revoke(membership: Membership, statement: RevokeKey, index: int) -> Membership:
    member = _member(membership, statement.id)
    body = statement.body
    key = membership.keys.get(body.key_id)
    if key is None or key.holder != member.id:
        raise Refused("unknown_key", f"{member.name} has no key with id {body.key_id[:16]}…", "body.key_id")
    if key.revoked_at is not None and not _reaches_further(key, body.suspect_from):
        raise Refused(
            "bad_transition",
            f"that key was revoked at entry {key.revoked_at}; all that can be added is that it is suspect, from an "
            "earlier entry on",
            "body.key_id",
        )
    if body.suspect_from is not None and body.suspect_from > index:
        raise Refused(
            "suspect_from_in_future",
            f"suspect_from is beyond this entry's index {index}",
            "body.suspect_from",
        )
    owners = [other for other in membership.keys_of(member.id) if other.role == Role.OWNER]
    if owners == [key] and statement.author == member.id:
        raise Refused("no_owner_key", "this is the lab's last owner key; add another first, or ask the admins")
    since = index if key.revoked_at is None else key.revoked_at
    revoked = replace(key, revoked_at=since, suspect_from=body.suspect_from)
    return replace(membership, keys={**membership.keys, body.key_id: revoked})


def _reaches_further(key: RegisteredKey, suspect_from: int | None) -> bool:
    """Whether this says more than is known: a key that went out of use may turn out to have been stolen before."""
    return suspect_from is not None and (key.suspect_from is None or suspect_from < key.suspect_from)


def _register(
    membership: Membership, member_id: str, registrations: Iterable[KeyRegistration], index: int
) -> Membership:
    keys = dict(membership.keys)
    for registration in registrations:
        public_key = _proven_key(registration.key, registration.role, member_id, registration.proof)
        if public_key.key_id in keys:
            raise Refused("key_reused", f"the key {public_key.key_id[:16]}… was registered before; make a new one")
        keys[public_key.key_id] = RegisteredKey(public_key, member_id, registration.role.value, "", index)
    return replace(membership, keys=keys)


def _register_admins(
    membership: Membership, forum_id: str, admins: Iterable[Admin], index: int
) -> dict[str, RegisteredKey]:
    registered: dict[str, RegisteredKey] = {}
    names: set[str] = set()
    for admin in admins:
        public_key = _proven_key(admin.key, ADMIN_ROLE, admin.name, admin.proof)
        known = membership.keys.get(public_key.key_id)
        stays = known is not None and known.role == ADMIN_ROLE and known.revoked_at is None
        if public_key.key_id in registered or (known is not None and not stays):
            raise Refused("key_reused", f"the key of {admin.name} was registered before; make a new one", "body.admins")
        if comparable_name(admin.name) in names:
            raise Refused("name_taken", f"two admins have names like {admin.name!r}", "body.admins")
        names.add(comparable_name(admin.name))
        since = known.since if known is not None else index
        registered[public_key.key_id] = RegisteredKey(public_key, forum_id, ADMIN_ROLE, admin.name, since)
    return registered


def _proven_key(key: str, role: str, subject: str, proof: str) -> PublicKey:
    public_key = _public_key(key)
    _check_possession(public_key, role, subject, proof)
    return public_key


def _check_possession(public_key: PublicKey, role: str, subject: str, proof: str) -> None:
    try:
        proven = public_key.verifies(possession_message(role, subject, public_key), decode_base64(proof, "the proof"))
    except Malformed:
        proven = False
    if not proven:
        raise Refused(
            "bad_possession_proof",
            f"the proof of holding the {role} key {str(public_key)[:12]}… does not hold",
        )


def _public_key(key: str) -> PublicKey:
    try:
        return PublicKey.parse(key)
    except ProtocolError as error:
        raise Refused("invalid_key", error.detail) from error


def _admin_keys(admins: Iterable[Admin]) -> dict[str, PublicKey]:
    keys = [_public_key(admin.key) for admin in admins]
    return {key.key_id: key for key in keys}


def _founded(membership: Membership) -> Forum:
    if membership.forum is None:
        raise Refused("not_founded", "there is no forum yet")
    return membership.forum


def _check_threshold(threshold: int, admins: int) -> None:
    if threshold > admins:
        raise Refused("bad_threshold", f"{threshold} signatures can never come from {admins} admins", "body.threshold")


def _member(membership: Membership, member_id: str) -> Member:
    member = membership.members.get(member_id)
    if member is None:
        raise Refused("unknown_member", f"no lab with id {member_id} was admitted", "id")
    return member


def _current_member(membership: Membership, member_id: str) -> Member:
    member = _member(membership, member_id)
    if member.status is Status.EXPELLED:
        raise Refused("member_expelled", f"{member.name} was expelled from the forum")
    return member

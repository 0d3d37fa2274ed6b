"""A verified proof in plain words: who said what, and what that is worth."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from member_client.forum.explaining import headline
from sharing_protocol.membership import RegisteredKey, Status
from sharing_protocol.record_proof import ProvenStatement
from sharing_protocol.statements import (
    Endorsement,
    IncidentAction,
    MembershipStatement,
    Opinion,
    Pattern,
    RecordReference,
    RecordStatement,
    Sighting,
    Withdrawal,
)
from sharing_protocol.statements.header import format_timestamp

_TRUST = (
    "an honest hub would not have let the statement in after a change that forbids it, and every member that follows "
    "the log would have caught it"
)


def summary(proven: ProvenStatement) -> dict[str, Any]:
    """What was proven, for scripts."""
    statement, forum = proven.statement.statement, proven.after.forum
    checkpoint = proven.checkpoint.checkpoint
    return {
        "forum": forum.fingerprint if forum else None,
        "author": statement.author,
        "author_name": author_of(proven),
        "type": statement.type,
        "id": statement.id,
        "version": statement.version,
        "created": format_timestamp(statement.created),
        "index": proven.index,
        "entry": proven.entry,
        "origin": checkpoint.origin,
        "tree_size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "logged_by": vouched_at(proven),
        "signed_by": [
            {
                "key_id": key.public_key.key_id,
                "role": key.role,
                "name": proven.after.name_of(key.public_key.key_id),
                "since": key.since,
                "revoked_at": proven.after.keys[key.public_key.key_id].revoked_at,
                "suspect_from": proven.after.keys[key.public_key.key_id].suspect_from,
            }
            for key in proven.signers
        ],
        "path": [
            {"index": step.index, "what": headline(step.statement, step.before)}
            for step in proven.path
            if isinstance(step.statement, MembershipStatement)
        ],
        "admins_unbroken": proven.admins_unbroken,
        "author_unbroken": proven.author_unbroken,
        "warnings": warnings(proven),
    }


def statement_of(proven: ProvenStatement) -> Any:
    """The statement itself, as its author wrote it."""
    return json.loads(proven.statement.envelope.payload)


def headlines(proven: ProvenStatement) -> list[str]:
    """Who said what, when it was logged where, under which key."""
    statement, checkpoint = proven.statement.statement, proven.checkpoint.checkpoint
    forum = proven.after.forum
    lines = [
        f"who:        {author_of(proven)} ({statement.author}), of the forum {forum.name if forum else ''!r}",
        f"what:       {_what(proven)}",
        f"            {statement.id} version {statement.version}, entry hash {proven.entry}",
        f"said:       {format_timestamp(statement.created)}, as the author dates it",
        f"logged:     as entry {proven.index} of {checkpoint.origin}, by {vouched_at(proven)} on the hub's clock",
    ]
    return lines + [f"signed by:  {_key(key, proven)}" for key in proven.signers]


def warnings(proven: ProvenStatement) -> list[str]:
    """What became of the author and its keys since, as far as the proof tells."""
    found = []
    for key in proven.signers:
        now = proven.after.keys[key.public_key.key_id]
        short = key.public_key.key_id[:16]
        if now.suspect_from is not None and proven.index >= now.suspect_from:
            found.append(f"SUSPECT: the key {short}… was reported compromised from entry {now.suspect_from} on")
        if now.revoked_at is not None and key.revoked_at is None:
            found.append(f"the key {short}… was revoked later, at entry {now.revoked_at}; what it signed before stays")
    member = proven.after.members.get(proven.statement.statement.author)
    if member is not None and member.status is not Status.ACTIVE:
        found.append(f"{member.name} is {member.status.value} by now; what it said before stays")
    return found


def shows(proven: ProvenStatement) -> list[str]:
    """What the proof shows, sentence by sentence."""
    checkpoint = proven.checkpoint.checkpoint
    lines = [
        f"The log's key, which {_named_by(proven)} names, signed a tree of {checkpoint.size} entries.",
        f"This is its entry {proven.index}: nobody can change a byte of it, or its place, unseen.",
    ]
    if isinstance(proven.statement.statement, RecordStatement):
        lines.append("The author's own key signed it: neither the hub nor another member could have made it up.")
    lines += [
        f"Entry {step.index}: {headline(step.statement, step.before)} (signed by {_names(step.envelope, proven)})"
        for step in proven.path
        if isinstance(step.statement, MembershipStatement) and step.index < proven.index
    ]
    return lines + [
        f"No change {whose} was left out before entry {proven.index}: a later entry continues that history."
        for whose, last in _histories(proven)
        if last is None
    ]


def limits(proven: ProvenStatement) -> list[str]:
    """What the proof does not show, sentence by sentence."""
    open_ends = [f"{whose} after entry {last}" for whose, last in _histories(proven) if last is not None]
    lines = [f"That no change {' or '.join(open_ends)} was left out. But {_TRUST}."] if open_ends else []
    if isinstance(proven.statement.statement, RecordStatement):
        lines.append(
            "That it is the record's newest version and was not withdrawn, or what it refers to. Ask a member."
        )
    return [
        *lines,
        "What happened after the last entry that is in the proof.",
        "That the log still had this key: after an exchange of keys that is not in the proof, it may be a thief's.",
        "When it was said: that time is the author's word, and the time by which it was logged is the hub's.",
        "That the hub shows everybody this log: compare the checkpoint with other labs (stillwatch gossip compare).",
        "That what was said is true.",
    ]


def author_of(proven: ProvenStatement) -> str:
    """The author's name."""
    return proven.after.name_of(proven.statement.statement.author)


def vouched_at(proven: ProvenStatement) -> str:
    """When the log vouched for the tree that the statement is in."""
    return format_timestamp(datetime.fromtimestamp(proven.checkpoint.timestamp, UTC))


def _histories(proven: ProvenStatement) -> list[tuple[str, int | None]]:
    """Whose changes decide, and the last of them before the statement; None where nothing can have been left out."""
    subject, forum = proven.statement.statement, proven.after.forum
    lab = subject.id if isinstance(subject, MembershipStatement) else subject.author
    histories = []
    if forum is not None:
        histories.append((forum.id, "of the forum's admins", proven.admins_unbroken))
    if forum is None or lab != forum.id:
        histories.append((lab, f"of the keys and standing of {proven.after.name_of(lab)}", proven.author_unbroken))
    before = [step for step in proven.path if step.index < proven.index]
    found: list[tuple[str, int | None]] = []
    for record, whose, unbroken in histories:
        last = max((step.index for step in before if step.statement.id == record), default=None)
        # What a statement is a version of, it continues itself.
        found.append((whose, None if unbroken or record == subject.id else last))
    return found


def _named_by(proven: ProvenStatement) -> str:
    forum = proven.after.forum
    since = forum.logs.term_at(proven.checkpoint.checkpoint.size).since if forum is not None else 0
    return f"entry {since}, signed by the forum's admins," if since else "the forum's founding statement"


def _what(proven: ProvenStatement) -> str:
    statement = proven.statement.statement
    if isinstance(statement, MembershipStatement):
        return headline(statement, proven.before)
    marking = f"TLP:{statement.body.marking.upper()}"
    if isinstance(statement, Pattern):
        return f"the {statement.body.kind.value.replace('_', ' ')} {statement.body.title!r}, {marking}"
    if isinstance(statement, Sighting):
        seen = statement.body.pattern
        return f"it saw {seen.id} version {seen.version} ({statement.body.matches.value} matches), {marking}"
    if isinstance(statement, Withdrawal):
        return f"it withdraws {statement.body.record.id} ({_line(statement.body.reason)}), {marking}"
    if isinstance(statement, Opinion):
        return f"its opinion of {_version(statement.body.pattern)}: {statement.body.verdict}, {marking}"
    if isinstance(statement, Endorsement):
        return f"it endorses {_version(statement.body.pattern)}, {marking}"
    if isinstance(statement, IncidentAction):
        told = f" ({_line(statement.body.note)})" if statement.body.note else ""
        return f"its {statement.body.action} on {statement.body.incident.id}{told}, {marking}"
    return f"the {statement.type.replace('_', ' ')} {statement.body.title!r}, {marking}"


def _version(reference: RecordReference) -> str:
    return f"{reference.id} version {reference.version}"


def _line(text: str) -> str:
    return text.split("\n")[0][:200]


def _key(key: RegisteredKey, proven: ProvenStatement) -> str:
    short = f"{key.public_key.key_id[:16]}…"
    holder = proven.after.name_of(key.public_key.key_id)
    return f"the {key.role} key {short} of {holder}, registered at entry {key.since}"


def _names(envelope: Any, proven: ProvenStatement) -> str:
    keys = [proven.after.keys[signature.key_id] for signature in envelope.signatures]
    return ", ".join(key.name or f"{proven.after.name_of(key.holder)}'s {key.role} key" for key in keys)

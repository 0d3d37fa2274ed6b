"""What a lab says about incidents: the record as it would be published, what that would do, and publishing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from member_client.errors import InvalidInput
from member_client.incidents.reading import Story, find_protocol, read_story
from member_client.patterns.finding import resolve
from member_client.patterns.outbox import deliver
from member_client.patterns.submission import YEAR, as_record, author_of, own_newest
from member_client.publishing import Published, check_draft, draft, first_version, next_version
from member_client.session import Session
from member_client.sync.store import StoredVersion, state_of
from sharing_protocol.incidents import NAMES_A_LEVEL, Timeline
from sharing_protocol.statements import (
    Act,
    Incident,
    IncidentAction,
    PlaybookBody,
    PlaybookKind,
    RecordReference,
    RecordStatement,
)
from sharing_protocol.statements.header import format_timestamp

INCIDENT, ACTION = "incident", "incident_action"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A record that is not signed yet.

    Attributes:
        kind: its statement type.
        body: as it would be published.
        consequences: what it would do besides what it says, in words.
        revises: id of the record of which it is the next version, "" for a new record.
    """

    kind: str
    body: Mapping[str, Any]
    consequences: tuple[str, ...] = ()
    revises: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a lab wants to do about an incident.

    Attributes:
        level: of `escalate` and `acknowledge` only.
        patterns, sightings: ids, or beginnings of them.
        handling: marking, purpose, legal_basis, valid_until; what is missing comes from the incident.
    """

    act: Act
    level: str | None = None
    note: str | None = None
    patterns: Sequence[str] = ()
    sightings: Sequence[str] = ()
    handling: Mapping[str, str] = field(default_factory=dict)


def propose_opening(
    session: Session,
    *,
    title: str,
    description: str,
    severity: str,
    patterns: Sequence[str] = (),
    protocol: str = "",
    level: str = "",
    handling: Mapping[str, str] | None = None,
) -> Proposal:
    """An incident to be opened.

    Args:
        patterns: ids of patterns, or beginnings of them; their newest versions are named.
        protocol: id of an escalation protocol, "" for none.
        level: to begin at, "" for the protocol's first.
        handling: marking, purpose, legal_basis, valid_until; what is missing comes from the first pattern, or from the
            protocol, and is a year of validity.

    Raises:
        InvalidInput: something named is not there, is no protocol in force, or could not be published.
    """
    seen = [resolve(session.store, text)[-1] for text in patterns]
    steered = _protocol_in_force(session, protocol) if protocol else None
    consequences = _start(steered[1] if steered else None, level)
    body = {
        **_default_handling(session, seen, steered[1] if steered else None, handling or {}),
        "title": title,
        "description": description,
        "severity": severity,
        "patterns": [_reference(one) for one in seen],
        "protocol": _reference(steered[0]) if steered else None,
        "level": level or None,
    }
    _draft(session, INCIDENT, body)
    return Proposal(INCIDENT, body, consequences)


def propose_revision(session: Session, incident: str, changes: Mapping[str, str], patterns: Sequence[str]) -> Proposal:
    """The next version of an incident of our own: told better, or for longer.

    Its protocol and the level at which it began stay: those of the first version hold, whatever a later one says.

    Args:
        incident: its id, or the beginning of it.
        changes: title, description, severity, marking, purpose, legal_basis, valid_until; what is missing stays.
        patterns: ids of patterns to name besides, or beginnings of them.

    Raises:
        InvalidInput: it is another lab's; nothing would change; or it would have no effect.
    """
    newest = own_newest(session, incident, INCIDENT)
    story = read_story(session, newest.id)
    before = story.in_effect(session.now)
    old = before.statement.body.model_dump(mode="json")
    named = [_reference(resolve(session.store, text)[-1]) for text in patterns]
    body = {**old, **changes, "patterns": [*old["patterns"], *(one for one in named if one not in old["patterns"])]}
    changed = [name for name in body if body[name] != old[name]]
    # A version by a reported key has no effect: what was told before it can be told anew.
    if not changed and before.index == newest.index:
        raise InvalidInput(f"{newest.id} says all that already", "say what is to change: --title, --description, …")
    statement = _draft(session, INCIDENT, body, newest.id)
    if not isinstance(statement, Incident):
        raise InvalidInput(f"{statement.type} is not an incident")
    _foreseen(story, statement, session)
    return Proposal(INCIDENT, body, (f"it changes {', '.join(changed) or 'nothing'}",), newest.id)


def propose_act(session: Session, incident: str, wish: Wish) -> Proposal:
    """An act on an incident, and what comes of it as far as this home has followed the log.

    Args:
        incident: its id, or the beginning of it.

    Raises:
        InvalidInput: there is no such incident, something is wrong with the act, or it would have no effect.
    """
    if wish.level is not None and wish.act not in NAMES_A_LEVEL:
        raise InvalidInput(
            f"a level means nothing to `{wish.act.value}`", "leave it out; `stillwatch incident escalate` asks for one"
        )
    story = read_story(session, resolve(session.store, incident, INCIDENT)[-1].id)
    first = story.versions[0]
    told = story.versions[-1].statement.body
    own = {"marking", "purpose", "legal_basis", "valid_until"}
    body = {
        **told.model_dump(mode="json", include=own),
        **wish.handling,
        "incident": {"id": first.statement.id, "version": 1, "entry": first.entry},
        "action": wish.act.value,
        "level": _level_of(story, wish, session),
        "note": wish.note,
        "patterns": [_reference(resolve(session.store, text)[-1]) for text in wish.patterns],
        "sightings": [_reference(resolve(session.store, text, "sighting")[-1]) for text in wish.sightings],
    }
    statement = _draft(session, ACTION, body)
    if not isinstance(statement, IncidentAction):
        raise InvalidInput(f"{statement.type} is not an act")
    return Proposal(ACTION, body, _foreseen(story, statement, session))


def publish(session: Session, proposal: Proposal) -> Published:
    """Sign and publish a proposal, once: asking for the same again after a lost answer makes no second record.

    Raises:
        ClientError: see `outbox.deliver`.
    """
    kind, body, revises = proposal.kind, dict(proposal.body), proposal.revises
    # How long a new record is valid counts from now, and is no part of the wish; of a revision it may be all of it.
    intent = [f"{name}={value}" for name, value in body.items() if revises or name != "valid_until"]
    if head := session.store.head(revises):
        intent.append(f"after {head.entry}")
    return deliver(session, (kind, *intent), lambda: _draft(session, kind, body, revises))


def _draft(session: Session, kind: str, body: dict[str, Any], revises: str = "") -> RecordStatement:
    author, now = author_of(session), session.now
    if revises:
        header = next_version(session, revises, author, now)
    else:
        header = first_version(session, kind.replace("_", "-"), author, now)
    statement = as_record(draft(header, kind, body))
    check_draft(statement, session.now)
    return statement


def _foreseen(story: Story, statement: Incident | IncidentAction, session: Session) -> tuple[str, ...]:
    after = story.timeline(session.now, statement)
    step = after.steps[-1]
    if step.without_effect:
        raise InvalidInput(f"this would have no effect: {step.without_effect}", _mend(step.without_effect, after))
    if isinstance(statement, Incident):
        return ()
    if step.in_force is not None:
        return (f"level {step.in_force!r} would be in force",)
    for asked in after.asked:
        if statement.body.action is Act.ESCALATE and asked.level == statement.body.level:
            return (f"{len(asked.labs)} of {asked.approvals} labs would have asked for level {asked.level!r}",)
    if statement.body.action is Act.CLOSE:
        return ("nothing said about it later would have any effect",)
    return ()


def _mend(reason: str, timeline: Timeline) -> str:
    if reason.startswith("only labs that joined"):
        return f"`stillwatch incident join {timeline.id}` first"
    return f"see `stillwatch incident show {timeline.id}`"


def _level_of(story: Story, wish: Wish, session: Session) -> str | None:
    if wish.act is Act.ACKNOWLEDGE and wish.level is None:
        return story.timeline(session.now).level
    return wish.level


def _protocol_in_force(session: Session, text: str) -> tuple[StoredVersion, PlaybookBody]:
    newest = resolve(session.store, text, "playbook")[-1]
    body = find_protocol(session.store, RecordReference(id=newest.id, version=newest.version, entry=newest.entry))
    if body is None or body.kind is not PlaybookKind.ESCALATION_PROTOCOL:
        raise InvalidInput(f"{newest.id} is no escalation protocol but a {newest.kind}", "name another playbook")
    state = state_of(newest, session.membership, session.now)
    if state != "active":
        raise InvalidInput(f"{newest.id} is not in force but {state}", "name another playbook")
    return newest, body


def _start(protocol: PlaybookBody | None, level: str) -> tuple[str, ...]:
    """What comes of the wish to begin at a level."""
    if protocol is None:
        return ()
    first = protocol.levels[0]
    wished = next((one for one in protocol.levels if one.name == level), None if level else first)
    if wished is None:
        known = ", ".join(repr(one.name) for one in protocol.levels)
        raise InvalidInput(f"the protocol has no level {level!r}", f"its levels are {known}")
    if wished is not first and wished.approvals > 1:
        return (f"it begins at {first.name!r}, and one of {wished.approvals} labs has asked for {wished.name!r}",)
    return (f"level {wished.name!r} would be in force",)


def _default_handling(
    session: Session, patterns: Sequence[StoredVersion], protocol: PlaybookBody | None, given: Mapping[str, str]
) -> dict[str, str]:
    source = session.store.pattern(patterns[0]).body if patterns else protocol
    found = {"valid_until": format_timestamp(session.now + YEAR)}
    if source is not None:
        found |= {"marking": source.marking.value, "purpose": source.purpose, "legal_basis": source.legal_basis}
    found |= given
    if missing := [name for name in ("marking", "purpose", "legal_basis") if name not in found]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise InvalidInput(f"neither a pattern nor a protocol says {options}", "give these options too")
    return found


def _reference(version: StoredVersion) -> dict[str, Any]:
    return {"id": version.id, "version": version.version, "entry": version.entry}

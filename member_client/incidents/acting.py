"""What a lab says about incidents: the record as it would be published, what that would do, and publishing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from member_client.errors import InvalidInput
from member_client.incidents.reading import Story, find_protocol, read_story
from member_client.patterns.finding import resolve
from member_client.patterns.outbox import deliver
from member_client.patterns.submission import YEAR, as_record, author_of
from member_client.publishing import Published, check_draft, draft, first_version
from member_client.session import Session
from member_client.sync.store import StoredVersion, state_of
from sharing_protocol.incidents import Timeline
from sharing_protocol.statements import (
    Act,
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
    """

    kind: str
    body: Mapping[str, Any]
    consequences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a lab wants to do about an incident.

    Attributes:
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


def propose_act(session: Session, incident: str, wish: Wish) -> Proposal:
    """An act on an incident, and what comes of it as far as this home has followed the log.

    Args:
        incident: its id, or the beginning of it.

    Raises:
        InvalidInput: there is no such incident, something is wrong with the act, or it would have no effect.
    """
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
    said = (f"{name}={value}" for name, value in proposal.body.items() if name != "valid_until")
    return deliver(session, (proposal.kind, *said), lambda: _draft(session, proposal.kind, dict(proposal.body)))


def _draft(session: Session, kind: str, body: dict[str, Any]) -> RecordStatement:
    header = first_version(session, kind.replace("_", "-"), author_of(session), session.now)
    statement = as_record(draft(header, kind, body))
    check_draft(statement, session.now)
    return statement


def _foreseen(story: Story, statement: IncidentAction, session: Session) -> tuple[str, ...]:
    after = story.timeline(session.now, statement)
    step = after.steps[-1]
    if step.without_effect:
        raise InvalidInput(f"this would have no effect: {step.without_effect}", _mend(step.without_effect, after))
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

"""Incidents in the store, and their timelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from member_client.errors import InvalidInput
from member_client.session import Session
from member_client.sync.store import Store, StoredVersion, why_suspect
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.content import MAX_CLOCK_SKEW
from sharing_protocol.incidents import Logged, StatusChange, Timeline, status_changes, timeline
from sharing_protocol.statements import (
    Incident,
    IncidentAction,
    MembershipStatement,
    Playbook,
    PlaybookBody,
    RecordReference,
    RecordStatement,
)
from sharing_protocol.statements.header import parse_timestamp

_Record = TypeVar("_Record", bound=RecordStatement)

NOT_LOGGED = 2**62
"""Index of what is not in the log yet: after everything that is."""
_LOOK_BACK = 256
"""Entries before an incident that are asked for the time that its opening cannot have come before."""


@dataclass(frozen=True, slots=True)
class Story:
    """All that an incident's timeline is folded from."""

    versions: tuple[Logged[Incident], ...]
    acts: tuple[Logged[IncidentAction], ...]
    protocol: PlaybookBody | None
    changes: tuple[StatusChange, ...]
    suspect: frozenset[int]
    reached: Mapping[int, datetime]

    @property
    def first(self) -> Incident:
        """The incident's first version."""
        return self.versions[0].statement

    def in_effect(self, now: datetime) -> Logged[Incident]:
        """The newest version that has effect."""
        taken = {step.index for step in self.timeline(now).steps if not step.without_effect}
        return next(one for one in reversed(self.versions) if one.index in taken)

    def timeline(self, now: datetime, draft: Incident | IncidentAction | None = None) -> Timeline:
        """The timeline, as it is or as it would be if this act or version were the log's next."""
        versions, acts = list(self.versions), list(self.acts)
        if isinstance(draft, Incident):
            versions.append(Logged(NOT_LOGGED, "", draft))
        elif draft is not None:
            acts.append(Logged(NOT_LOGGED, "", draft))
        return timeline(
            versions, acts, self.protocol, now, changes=self.changes, suspect=self.suspect, reached=self.reached
        )


def incident_timeline(session: Session, incident_id: str, now: datetime) -> Timeline:
    """The timeline of an incident, as far as this home has followed the log.

    Raises:
        InvalidInput: there is no such incident here.
    """
    return read_story(session, incident_id).timeline(now)


def incident_timelines(session: Session, now: datetime) -> Iterator[Timeline]:
    """The timelines of all incidents, in the order in which they were opened."""
    changes = _changes(session.store)
    for version in session.store.versions(type="incident"):
        if version.version == 1:
            yield _story(session, version.id, changes).timeline(now)


def read_story(session: Session, incident_id: str) -> Story:
    """Everything that the log has about an incident.

    Raises:
        InvalidInput: there is no such incident here.
    """
    return _story(session, incident_id, _changes(session.store))


def find_protocol(store: Store, reference: RecordReference) -> PlaybookBody | None:
    """The playbook version that an incident names as its protocol; None for one that the store does not have."""
    for version in store.versions(type="playbook", id=reference.id):
        if (version.version, version.entry) == (reference.version, reference.entry):
            return _statement(store, version, Playbook).body
    return None


def _story(session: Session, incident_id: str, changes: tuple[StatusChange, ...]) -> Story:
    store = session.store
    versions = store.versions(type="incident", id=incident_id)
    if not versions:
        raise InvalidInput(f"there is no incident {incident_id!r} here", "run `stillwatch sync`, or check the id")
    acts = store.versions(type="incident_action", refers_to=incident_id)
    membership = session.membership
    told = _logged(store, versions, Incident)
    named = told[0].statement.body.protocol
    return Story(
        versions=told,
        acts=_logged(store, acts, IncidentAction),
        protocol=find_protocol(store, named) if named is not None else None,
        changes=changes,
        suspect=frozenset(one.index for one in (*versions, *acts) if why_suspect(one, membership)),
        reached=_reached(store, sorted(one.index for one in (*versions, *acts))),
    )


def _reached(store: Store, indexes: Sequence[int]) -> dict[int, datetime]:
    """By index, the latest time that a record before it in the log gives itself.

    What is dated after the checkpoint that this home believes was let in by a hub that lies, and moves nothing: it
    would excuse whoever is late for as long as it likes.
    """
    trusted = store.trusted()
    if trusted is None:
        return {}
    until = datetime.fromtimestamp(trusted.timestamp, UTC) + MAX_CLOCK_SKEW
    found, latest, start = {}, "", max(indexes[0] - _LOOK_BACK, 0)
    for index in indexes:
        latest, start = max(latest, store.latest_created(start, index, until)), index
        if latest:
            found[index] = parse_timestamp(latest)
    return found


def _changes(store: Store) -> tuple[StatusChange, ...]:
    log = ((index, statements.parse(envelopes.parse(data).payload)) for index, data in store.membership_log())
    return status_changes((index, one) for index, one in log if isinstance(one, MembershipStatement))


def _logged(store: Store, versions: Sequence[StoredVersion], kind: type[_Record]) -> tuple[Logged[_Record], ...]:
    return tuple(Logged(one.index, one.entry, _statement(store, one, kind)) for one in versions)


def _statement(store: Store, version: StoredVersion, kind: type[_Record]) -> _Record:
    data = store.entry(version.index)
    statement = statements.parse(envelopes.parse(data).payload) if data is not None else None
    if not isinstance(statement, kind):
        raise InvalidInput(f"entry {version.index} of the store is not the {version.type} that it was", "sync anew")
    return statement

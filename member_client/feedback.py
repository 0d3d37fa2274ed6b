"""What other labs found of patterns, computed from this home's own verified log, and what this lab says of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from member_client.errors import InvalidInput
from member_client.incidents.reading import incident_timelines
from member_client.patterns.outbox import deliver
from member_client.patterns.presenting import statement_at
from member_client.patterns.submission import as_record, author_of, handling_of
from member_client.publishing import Published, draft, first_version, next_version
from member_client.session import Session
from member_client.sync.store import StoredVersion, why_suspect
from sharing_protocol.campaigns import LEAST_LABS, Campaign, campaigns
from sharing_protocol.feedback import Feedback, Said, Voice, feedback, why_not_counted
from sharing_protocol.membership import Status
from sharing_protocol.statements import Endorsement, Incident, Opinion, RecordStatement, voice_id
from sharing_protocol.statements.opinions import Verdict

VoiceKind = Literal["opinion", "endorsement"]

_SAYS = ("sighting", "opinion", "endorsement")


@dataclass(frozen=True, slots=True)
class StoredVoice:
    """What a lab says of a pattern version, as stored.

    Attributes:
        state: `active` if it counts, or why it does not.
    """

    version: StoredVersion
    statement: Opinion | Endorsement
    state: str


def feedback_by_entry(session: Session, now: datetime) -> dict[str, Feedback]:
    """The feedback by the entry hash of the pattern version; a version of which nothing counts is not there.

    Without what was seen: of opinions and endorsements a lab has one on a version, of sightings as many as its quota
    takes, and this is asked at every sync and for every table of the gate.
    """
    return feedback(_said(session, kinds=("opinion", "endorsement")), now)


def feedback_of(session: Session, pattern_id: str, now: datetime) -> dict[str, Feedback]:
    """The same of the versions of one pattern, with what was seen."""
    return feedback(_said(session, pattern_id), now)


def campaigns_seen(session: Session, now: datetime, least_labs: int = LEAST_LABS) -> list[Campaign]:
    """The campaigns that labs saw, by their first days."""
    return campaigns(_said(session, kinds=("sighting",)), now, _named_together(session, now), least_labs)


def voices(session: Session, kind: VoiceKind, pattern_id: str | None = None, since: int = 0) -> list[StoredVoice]:
    """The newest version of every opinion or endorsement, of one pattern or of all, in log order.

    Args:
        since: only what stands at this log index or above.
    """
    return [
        StoredVoice(version, said.statement, why_not_counted(said, session.now) or "active")
        for version, said in _said_versions(session, (kind,), pattern_id, since)
        if isinstance(said.statement, Opinion | Endorsement)
    ]


def news_for_author(session: Session, since: int) -> list[StoredVoice]:
    """What counts and was said of this lab's own patterns from log index `since` on, in log order."""
    new = [*voices(session, "opinion", since=since), *voices(session, "endorsement", since=since)]
    patterns = session.store.versions(type="pattern", newest_only=True) if new else []
    own = {one.id for one in patterns if one.author == session.settings.member}
    told = [one for one in new if one.state == "active" and one.version.refers_to in own]
    return sorted(told, key=lambda one: one.version.index)


def voice_body(
    session: Session, pattern: StoredVersion, said: dict[str, Any], handling: dict[str, Any]
) -> dict[str, Any]:
    """The body of an opinion or an endorsement.

    Args:
        said: what is left of the body besides the reference and the handling.
        handling: what of it is not to be as the pattern's.
    """
    reference = {"id": pattern.id, "version": pattern.version, "entry": pattern.entry}
    return {**handling_of(session, pattern), **handling, "pattern": reference, **said}


def publish_opinion(session: Session, pattern: StoredVersion, body: dict[str, Any]) -> Published:
    """Say what this lab finds of another's pattern version; a second time revises the first.

    Raises:
        InvalidInput: the pattern is this lab's own, or it withdrew its opinion of this version.
        ClientError: see `outbox.deliver`.
    """
    return _publish(session, "opinion", pattern, body)


def publish_endorsement(session: Session, pattern: StoredVersion, body: dict[str, Any]) -> Published:
    """Stand for another lab's pattern version that this lab does not dispute; see `publish_opinion`."""
    return _publish(session, "endorsement", pattern, body)


def own_voice(session: Session, kind: VoiceKind, pattern: StoredVersion) -> Opinion | Endorsement | None:
    """What this lab says of a pattern version, if it counts."""
    own = _voice(session, kind, pattern)
    said = (one for one in voices(session, kind, pattern.id) if one.version.id == own and one.state == "active")
    return next((one.statement for one in said), None)


def check_may_speak(session: Session, kind: VoiceKind, pattern: StoredVersion) -> None:
    """See that this lab can still say something of a pattern version, and does not stand for what it disputes.

    Raises:
        InvalidInput: see `publish_opinion`.
    """
    if pattern.author == author_of(session):
        hint = f"an {kind} is of another lab's; `pattern resign` brings back what a compromised key made suspect"
        raise InvalidInput(f"{pattern.id} is your own lab's", hint)
    head = session.store.head(_voice(session, kind, pattern))
    if head is not None and head.withdrawn:
        raise InvalidInput(
            f"your lab withdrew its {kind} of version {pattern.version}, and that is final",
            "speak of a later version; to change your mind, revise instead of withdrawing",
        )
    opinion = own_voice(session, "opinion", pattern) if kind == "endorsement" else None
    if isinstance(opinion, Opinion) and opinion.body.verdict is Verdict.FALSE_POSITIVE:
        raise InvalidInput(
            f"your lab disputes {pattern.id} version {pattern.version}: nobody stands for what it disputes",
            "first revise the opinion (`stillwatch opinion give`), or withdraw it (`stillwatch opinion withdraw`)",
        )


def withdraw_voice(
    session: Session, kind: VoiceKind, pattern: StoredVersion, reason: str, handling: dict[str, Any]
) -> Published:
    """Take back what this lab said of a pattern version: for good, since it has one voice.

    Raises:
        InvalidInput: there is nothing to withdraw.
        ClientError: see `outbox.deliver`.
    """
    body = withdrawal_of_voice(session, kind, pattern, reason, handling)

    def write() -> RecordStatement:
        header = first_version(session, "withdrawal", author_of(session), session.now)
        return as_record(draft(header, "withdrawal", body))

    return deliver(session, ("withdraw", body["record"]["entry"], reason, *sorted(handling.values())), write)


def withdrawal_of_voice(
    session: Session, kind: VoiceKind, pattern: StoredVersion, reason: str, handling: dict[str, Any]
) -> dict[str, Any]:
    """What `withdraw_voice` publishes.

    Raises:
        InvalidInput: there is nothing to withdraw.
    """
    head = session.store.head(_voice(session, kind, pattern))
    if head is None or head.withdrawn:
        raise InvalidInput(f"your lab has no {kind} of {pattern.id} version {pattern.version} to withdraw")
    reference = {"id": head.id, "version": head.version, "entry": head.entry}
    return {**handling_of(session, pattern), **handling, "record": reference, "reason": reason}


def _publish(session: Session, kind: VoiceKind, pattern: StoredVersion, body: dict[str, Any]) -> Published:
    check_may_speak(session, kind, pattern)
    record_id = _voice(session, kind, pattern)
    head = session.store.head(record_id)

    def write() -> RecordStatement | Published:
        author, now = author_of(session), session.now
        if head is None:
            header = first_version(session, kind, author, now, record_id)
        else:
            header = next_version(session, record_id, author, now)
        statement = as_record(draft(header, kind, body))
        return _same_in_log(session, kind, pattern, statement) or statement

    said = [f"{name}: {body[name]}" for name in sorted(body) if name != "valid_until"]
    return deliver(session, (kind, pattern.entry, str(head.version if head else 0), *said), write)


def _same_in_log(
    session: Session, kind: VoiceKind, pattern: StoredVersion, statement: RecordStatement
) -> Published | None:
    """Where the log has this already, valid for as long to a day: longer than that renews it."""
    body = statement.body
    for one in voices(session, kind, pattern.id):
        said = one.statement.body
        same = said.model_copy(update={"valid_until": body.valid_until}) == body
        renews = abs(said.valid_until - body.valid_until) >= timedelta(days=1)
        if one.version.id == statement.id and one.state == "active" and same and not renews:
            version = one.version
            return Published(version.id, version.version, version.index, version.entry, already_logged=True)
    return None


def _voice(session: Session, kind: VoiceKind, pattern: StoredVersion) -> str:
    return voice_id(kind, author_of(session), pattern.entry)


def _said(session: Session, pattern_id: str | None = None, kinds: tuple[str, ...] = _SAYS) -> Iterator[Said]:
    return (said for _, said in _said_versions(session, kinds, pattern_id))


def _said_versions(
    session: Session, kinds: tuple[str, ...], pattern_id: str | None, since: int = 0
) -> Iterator[tuple[StoredVersion, Said]]:
    membership = session.membership
    for kind in kinds:
        for version in session.store.versions(type=kind, refers_to=pattern_id, newest_only=True):
            statement = statement_at(session.store, version.index) if version.index >= since else None
            if isinstance(statement, Voice):
                member = membership.members.get(version.author)
                pattern = session.store.head(version.refers_to)
                yield (
                    version,
                    Said(
                        version.index,
                        statement,
                        newest=version.version == version.newest,
                        withdrawn=version.withdrawn_at is not None,
                        suspect=bool(why_suspect(version, membership)),
                        lab_active=member is not None and member.status is Status.ACTIVE,
                        of_own=pattern is not None and pattern.author == version.author,
                    ),
                )


def _named_together(session: Session, now: datetime) -> Iterator[frozenset[str]]:
    """The patterns that incidents in force name together, of those that another lab than the opener joined."""
    membership = session.membership
    labs = {one.id: one.labs for one in incident_timelines(session, now)}
    for version in session.store.versions(type="incident", newest_only=True):
        member = membership.members.get(version.author)
        trusted = member is not None and member.status is Status.ACTIVE and not why_suspect(version, membership)
        statement = statement_at(session.store, version.index) if trusted else None
        if not isinstance(statement, Incident) or statement.body.valid_until <= now:
            continue
        if sum(membership.members[lab].status is Status.ACTIVE for lab in labs[version.id]) >= LEAST_LABS:
            yield frozenset(reference.id for reference in statement.body.patterns)

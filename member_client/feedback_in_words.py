"""What labs found of patterns, as commands tell it to people and to scripts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from member_client.feedback import StoredVoice
from member_client.patterns.finding import short_id
from member_client.session import Session
from sharing_protocol.feedback import Feedback
from sharing_protocol.membership import Membership
from sharing_protocol.statements.opinions import OpinionBody, Verdict

_VERBS = {Verdict.CONFIRM: "confirms", Verdict.FALSE_POSITIVE: "disputes", Verdict.NEEDS_WORK: "wants work on"}


def names(labs: Iterable[str], membership: Membership) -> str:
    """Labs by name, in the order of their names."""
    return ", ".join(sorted(membership.name_of(lab) for lab in labs))


def precision_in_words(found: Feedback) -> str:
    """The precision with its interval; "" while nobody has measured it."""
    precision, interval = found.precision, found.precision_interval
    if precision is None or interval is None:
        return ""
    return f"{precision:.0%} ({interval[0]:.0%} to {interval[1]:.0%}) of {found.reviewed} reviewed"


def feedback_in_a_line(found: Feedback, membership: Membership) -> str:
    """What there is to say of a version, disputes first."""
    parts = [
        f"{what} {names(labs, membership)}"
        for what, labs in (
            ("disputed by", found.disputed_by),
            ("needs work for", found.needs_work_by),
            ("confirmed by", found.confirmed_by),
            ("endorsed by", found.endorsed_by),
        )
        if labs
    ]
    measured = precision_in_words(found)
    return "; ".join([*parts, *([f"precision {measured}"] if measured else [])]) or "no other lab has said anything"


def voice_document(voice: StoredVoice, membership: Membership) -> dict[str, Any]:
    """An opinion or an endorsement for scripts."""
    version, body = voice.version, voice.statement.body
    return {
        "id": version.id,
        "type": version.type,
        "version": version.version,
        "state": voice.state,
        "lab": membership.name_of(version.author),
        "author": version.author,
        "pattern": body.pattern.id,
        "pattern_version": body.pattern.version,
        "pattern_entry": body.pattern.entry,
        "verdict": body.verdict.value if isinstance(body, OpinionBody) else None,
        "measured": body.measured.model_dump(mode="json") if body.measured else None,
        "comment": body.comment,
        "index": version.index,
        "created": version.created,
    }


def voice_in_words(voice: StoredVoice, session: Session) -> str:
    """An opinion or an endorsement of this lab's pattern, in a line."""
    body = voice.statement.body
    title = session.store.versions(id=body.pattern.id, newest_only=True)[-1].title
    verb, counts = "endorses", ""
    if isinstance(body, OpinionBody):
        verb = _VERBS[body.verdict]
        if body.measured is not None:
            counts = f": {body.measured.true_positives} of {body.measured.reviewed} reviewed matches were right"
    lab = session.membership.name_of(voice.version.author)
    which = f"version {body.pattern.version} of your pattern {short_id(body.pattern.id)} {title!r}"
    return f"{lab} {verb} {which}{counts}"

"""Telling the hooks: look for events, write down what is to be told, tell what is due. At least once, whatever ends us.

hooks.toml          who is told; nothing happens without it
deliveries.sqlite   the outbox
deliveries.lock     held while a run tells
hooks/              the key that signs what webhooks are told
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.incidents.deliveries import IN_DIGEST, Deliveries, Delivery, Looked
from member_client.incidents.events import (
    DIGEST,
    Event,
    EventKind,
    delivery_key,
    digest_document,
    digest_id,
    event_document,
    events_of,
)
from member_client.incidents.hooks import Hooks, Mailbox, Webhook, read_hooks
from member_client.incidents.reading import incident_timelines
from member_client.incidents.sending import (
    DEADLINE_SECONDS,
    MAX_RETRY_AFTER,
    Undelivered,
    send_by_email,
    send_to_webhook,
)
from member_client.keystore import KeyStore
from member_client.session import Session
from sharing_protocol.incidents import Timeline
from sharing_protocol.keys import PrivateKey

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 3600.0
GIVEN_UP_AFTER_SECONDS = 3 * 86400.0
TOLD_SINGLY = 5
"""New events by one lab that a hook is told one by one in a run; of more it gets a digest. So no lab can ring another's
pager a thousand times by what it writes."""
TRIES_A_RUN = 100
"""By one hook; the rest is told by the next run."""
PATIENCE = 2
"""Deadlines of a try for all tries of a hook in one run: a sync waits for the hooks, and they may all be slow."""
LONGEST_LOOK_AWAY_SECONDS = 86400.0
_KEY = "hooks"


@dataclass(slots=True)
class Report:
    """What a run did.

    Attributes:
        found: deliveries that are new.
        failed: hook and why, of each try that failed.
    """

    found: int = 0
    delivered: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    given_up: int = 0
    busy: bool = False


def outbox_file(home: Home) -> Path:
    """Where the deliveries are."""
    return home.path / "deliveries.sqlite"


def signing_key(home: Home) -> PrivateKey:
    """The key that signs what this home's webhooks are told; made when it is first asked for.

    Raises:
        InvalidInput: it cannot be read.
    """
    keys = KeyStore(home.path / "hooks")
    stored = keys.stored(_KEY)
    return keys.open(stored[-1]) if stored else keys.create(_KEY, None)


def notify(session: Session, *, again: bool = False, deadline: float = DEADLINE_SECONDS) -> Report:
    """Tell the hooks what they were not told yet, as far as it is due.

    Args:
        again: also what waits for its next try, and what was given up.
        deadline: seconds for one try.

    Raises:
        InvalidInput: there is no `hooks.toml`, or it is not usable.
    """
    hooks = read_hooks(session.home)
    if hooks is None:
        raise InvalidInput(f"there is no {session.home.hooks}", "see docs/incidents.md")
    report = Report()
    lock = FileLock(session.home.path / "deliveries.lock", timeout=0, mode=0o600)
    try:
        with lock, Deliveries(outbox_file(session.home)) as outbox:
            if again:
                outbox.try_all_again(session.clock())
            report.found = _look(session, hooks, outbox)
            for hook in hooks.hooks:
                _tell(session, hook, outbox, report, deadline)
    except Timeout:
        report.busy = True
    return report


# -- looking ---------------------------------------------------------------------------------------------------------


def _look(session: Session, hooks: Hooks, outbox: Deliveries) -> int:
    """Write down what there is to tell; a run without news does not look at all."""
    cursor, now = session.store.cursor, session.clock()
    if cursor == 0:
        return 0  # where a hook's news begin is only known once something was synced
    before = outbox.looked
    # A moment further away than that was written down by a clock that was set back since.
    if (
        before is not None
        and (before.cursor, before.hooks) == (cursor, hooks.digest)
        and 0 < before.again - now <= LONGEST_LOOK_AWAY_SECONDS
    ):
        return 0
    timelines = list(incident_timelines(session, session.now))
    coming = [due.by.timestamp() + 1 for timeline in timelines for due in timeline.due if not due.overdue]
    looked = Looked(cursor, hooks.digest, min([*coming, now + LONGEST_LOOK_AWAY_SECONDS]))
    return outbox.add(_deliveries(session, hooks, outbox, timelines, now), looked)


def _deliveries(
    session: Session, hooks: Hooks, outbox: Deliveries, timelines: Sequence[Timeline], now: float
) -> Iterator[list[Delivery]]:
    """What is new for each hook: a delivery each, followed by those that are told in it."""
    names = {member.id: member.name for member in session.membership.members.values()}
    happened = [(event, timeline) for timeline in timelines for event in events_of(timeline)]
    happened.sort(key=lambda one: one[0].index)
    for hook in hooks.hooks:
        since = outbox.since(hook.name, session.store.cursor)
        by_lab: dict[str, list[tuple[Event, Timeline]]] = defaultdict(list)
        for event, timeline in happened:
            # What happened before there was the hook is history; what is overdue is so now.
            is_past = event.index < since and event.kind is not EventKind.OVERDUE
            if not is_past and hook.wants(event) and not outbox.knows(event.id, hook.name):
                by_lab[event.lab].append((event, timeline))
        for new in by_lab.values():
            for event, timeline in new[:TOLD_SINGLY]:
                key = delivery_key(event.id, hook.name)
                document = json.dumps(event_document(event, timeline, names, key), ensure_ascii=False)
                yield [replace(_unsent(event, timeline, hook.name, now), document=document)]
            if more := new[TOLD_SINGLY:]:
                yield _digest(more, hook.name, names, now)


def _digest(more: Sequence[tuple[Event, Timeline]], hook: str, names: dict[str, str], now: float) -> list[Delivery]:
    """One delivery for all of these, and these."""
    event, timeline = more[-1]
    told = digest_id([one for one, _ in more])
    key = delivery_key(told, hook)
    document = json.dumps(digest_document(more, names, key), ensure_ascii=False)
    whole = replace(_unsent(event, timeline, hook, now), event=told, key=key, kind=DIGEST, document=document)
    in_it = (_unsent(one, about, hook, now) for one, about in more)
    return [whole, *(replace(one, state=IN_DIGEST, error=f"told in {key}", ended=now) for one in in_it)]


def _unsent(event: Event, timeline: Timeline, hook: str, now: float) -> Delivery:
    key = delivery_key(event.id, hook)
    return Delivery(event.id, hook, key, event.kind.value, timeline.id, event.index, "", now, next_try=now)


# -- telling ---------------------------------------------------------------------------------------------------------


def _tell(session: Session, hook: Webhook | Mailbox, outbox: Deliveries, report: Report, deadline: float) -> None:
    started, now = time.monotonic(), session.clock()
    longest = max(LONGEST_PAUSE_SECONDS, MAX_RETRY_AFTER)
    for one in outbox.waiting(hook.name, now, now + longest, TRIES_A_RUN):
        if time.monotonic() - started > PATIENCE * deadline:
            return
        now = session.clock()
        pause = _pause(one.tries)
        # If we stop after this line, the next try comes after a pause, as after a failure.
        outbox.begin_try(one, now + pause)
        try:
            remark = _send(session, hook, one, now, deadline)
        except Undelivered as error:
            now = session.clock()
            ends = error.for_good or now - one.queued > GIVEN_UP_AFTER_SECONDS
            outbox.fail(one, str(error), None if ends else now + max(pause, error.retry_after), now)
            report.failed.append((hook.name, str(error)))
            report.given_up += ends
            if not error.others_may_pass:
                return
        else:
            # If we stop before this line has taken effect, it is told once more, under the same key.
            outbox.succeed(one, session.clock(), remark)
            report.delivered += 1


def _send(session: Session, hook: Webhook | Mailbox, one: Delivery, now: float, deadline: float) -> str:
    if isinstance(hook, Mailbox):
        return send_by_email(hook, one, now, deadline)
    try:
        signer = signing_key(session.home)
    except InvalidInput as error:
        raise Undelivered(str(error)) from error
    send_to_webhook(hook, one, signer, now, deadline)
    return ""


def _pause(tries: int) -> float:
    """Seconds until the next try, doubling up to an hour, with some jitter."""
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(tries, 20), LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing

"""How many bytes of entries a member may add: the same for all processes of a hub, however many submit at once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

from hub.database import migrating
from hub.database.connections import make_command_engine
from hub.identity import HubIdentity
from hub.settings import HubSettings
from tests.forum import ForumInABox, Lab, code_of, pattern_body, running_hub, sighting_body
from tests.hub.stored_log import differences, number, rows

STORED = """
    SELECT coalesce(sum(length(envelope)), 0) FROM log_entries JOIN records ON entry = log_entries.index
    WHERE author = '{}'
"""
COUNTED = "SELECT coalesce(max(bytes), 0) FROM member_usage WHERE member = '{}'"
USAGE = "SELECT member, hour, bytes FROM member_usage ORDER BY member, hour"


@contextlib.contextmanager
def two_hubs(database: str, identity: HubIdentity, **settings: int) -> Iterator[tuple[ForumInABox, ForumInABox, Lab]]:
    """A forum with one lab, as two processes serve it."""
    given = HubSettings.model_validate(settings)
    with running_hub(database, identity, settings=given) as one, running_hub(database, identity, settings=given) as two:
        box = ForumInABox(one)
        box.found()
        lab = box.admit("Aurora")
        yield box, dataclasses.replace(box, hub=two), lab


def quota_exceeded(response: httpx.Response, seconds: int) -> bool:
    if response.status_code != 429:
        return False
    assert code_of(response) == "quota_exceeded"
    assert int(response.headers["retry-after"]) == seconds
    return True


def fill(boxes: tuple[ForumInABox, ForumInABox], lab: Lab, quota: int, seconds: int) -> None:
    """Submit to both at once until neither takes more; what they took is within the quota, and nearly all of it."""
    made = [boxes[0].record(lab, pattern_body(f"Pattern {index:02}")) for index in range(12)]
    size = len(made[0].encode())
    assert all(len(one.encode()) == size for one in made)
    with ThreadPoolExecutor(len(made)) as threads:
        answers = list(threads.map(lambda at: boxes[at % 2].submit(made[at], lab.analyst), range(len(made))))
    taken = [answer.status_code == 201 for answer in answers]
    assert all(took or quota_exceeded(answer, seconds) for took, answer in zip(taken, answers, strict=True))
    assert sum(taken) == quota // size
    database = boxes[0].hub.database_url
    assert number(database, STORED.format(lab.id)) == number(database, COUNTED.format(lab.id)) == sum(taken) * size
    # What is in the log already adds nothing.
    again = boxes[1].submit(made[taken.index(True)], lab.analyst)
    assert (again.status_code, again.json()["already_logged"]) == (200, True)


def test_bytes_of_a_day(database: str, hub_identity: HubIdentity) -> None:
    quota = 9_000
    with two_hubs(database, hub_identity, entry_bytes_per_day=quota) as (box, other, lab):
        fill((box, other), lab, quota, 3600)
        # The forum goes on, and so do others.
        box.publish(box.admit("Boreal"), pattern_body())
        large = box.record(lab, pattern_body("One more"))
        rows(database, "UPDATE member_usage SET hour = hour - interval '24 hours'")
        assert quota_exceeded(box.submit(large, lab.analyst), 3600), "a day is rounded up"
        rows(database, "UPDATE member_usage SET hour = hour - interval '1 hour'")
        box.log(large, lab.analyst)
        assert number(database, STORED.format(lab.id)) == number(database, COUNTED.format(lab.id))
        assert not differences(database)


def test_bytes_in_all(database: str, hub_identity: HubIdentity) -> None:
    quota = 7_000
    with two_hubs(database, hub_identity, entry_bytes_per_member=quota) as (box, other, lab):
        fill((box, other), lab, quota, 24 * 3600)
        rows(database, "UPDATE member_usage SET hour = hour - interval '90 days'")
        assert quota_exceeded(other.submit(box.record(lab, pattern_body("Later")), lab.analyst), 24 * 3600)


def test_what_is_too_much_costs_the_rest_of_a_batch_nothing(database: str, hub_identity: HubIdentity) -> None:
    with two_hubs(database, hub_identity, entry_bytes_per_day=3_500) as (box, _, lab):
        pattern, _ = box.publish(lab, pattern_body())
        assert quota_exceeded(box.submit(box.record(lab, pattern_body("Too long")), lab.analyst), 3600)
        box.publish(lab, sighting_body(box.reference(pattern)))


def test_the_migration_counts_what_is_there(box: ForumInABox) -> None:
    lab, other = box.admit("Aurora"), box.admit("Boreal")
    pattern, _ = box.publish(lab, pattern_body())
    box.publish(other, sighting_body(box.reference(pattern)))
    box.publish(lab, pattern_body("Revised"), pattern)
    database = box.hub.database_url
    counted = rows(database, USAGE)
    assert len(counted) >= 2
    engine = make_command_engine(database)
    try:
        migrating.downgrade(engine, "0002")
        assert rows(database, "SELECT to_regclass('member_usage')") == [(None,)]
        migrating.upgrade(engine)
    finally:
        engine.dispose()
    assert rows(database, USAGE) == counted
    box.publish(lab, pattern_body("Goes on"))
    for one in (lab, other):
        assert number(database, COUNTED.format(one.id)) == number(database, STORED.format(one.id))

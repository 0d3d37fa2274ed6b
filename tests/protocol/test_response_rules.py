"""Opinions, endorsements, playbooks, referral criteria and incidents: which of them may be the log's next entry."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharing_protocol.errors import Refused
from sharing_protocol.statements import RECORD_TYPES, parse, references_in, voice_id
from sharing_protocol.statements.records import RecordStatement, is_about
from tests.protocol.forum_log import (
    AURORA,
    BOREAL,
    PATTERN,
    SIGHTING,
    Document,
    ForumLog,
    forum_with_records,
    handling,
    identifier,
    pattern_body,
    payload,
    record_reference,
    signed,
    withdrawal_body,
)
from tests.protocol.refusals import code_of, refuses
from tests.protocol.response_bodies import (
    action_body,
    criteria_body,
    endorsement_body,
    incident_body,
    opinion_body,
    playbook_body,
)

INCIDENT = identifier("incident", 0x400)
PLAYBOOK = identifier("playbook", 0x401)
CRITERIA = identifier("referral-criteria", 0x402)
ACTION = identifier("incident-action", 0x403)


def say(log: ForumLog, kind: str, record: str, author: str, body: Document) -> None:
    log.say(kind, record, author, body, ["Aurora analyst" if author == AURORA else "Boreal analyst"])


def voice(log: ForumLog, kind: Any = "opinion", author: str = BOREAL, version: int = 1) -> str:
    entry = log.entry_of(PATTERN, version)
    assert entry is not None
    return voice_id(kind, author, entry)


def answered() -> ForumLog:
    """Aurora's pattern is called wrong and endorsed by Boreal, who opens an incident under Aurora's playbook."""
    log = forum_with_records()
    pattern = record_reference(log.head(PATTERN))
    say(log, "opinion", voice(log), BOREAL, opinion_body(handling(), pattern))
    say(log, "endorsement", voice(log, "endorsement"), BOREAL, endorsement_body(handling(), pattern))
    say(log, "playbook", PLAYBOOK, AURORA, playbook_body(handling()))
    say(log, "referral_criteria", CRITERIA, AURORA, criteria_body(handling()))
    protocol = record_reference(log.head(PLAYBOOK))
    say(log, "incident", INCIDENT, BOREAL, incident_body(handling(), patterns=[pattern], protocol=protocol))
    seen = [record_reference(log.head(SIGHTING))]
    act = action_body(handling(), record_reference(log.head(INCIDENT)), patterns=[pattern], sightings=seen)
    say(log, "incident_action", ACTION, AURORA, act)
    return log


ANSWERED = answered()


def test_each_type_of_record_can_be_logged_and_says_what_it_is_about() -> None:
    logged = [parse(entry.payload) for entry in ANSWERED.entries]
    records = {one.type: one for one in logged if isinstance(one, RecordStatement)}
    assert {*records} | {"withdrawal"} == {*RECORD_TYPES}
    about = {kind: is_about(one) for kind, one in records.items()}
    assert about == {
        "pattern": "",
        "playbook": "",
        "referral_criteria": "",
        "incident": "",
        **dict.fromkeys(("sighting", "opinion", "endorsement"), PATTERN),
        "incident_action": INCIDENT,
    }
    named = [named.where for named in references_in(records["incident_action"])]
    assert named == ["body.incident", "body.patterns.0", "body.sightings.0"]


def test_the_voice_is_what_the_page_says() -> None:
    entry = ANSWERED.entry_of(PATTERN, 1)
    digest = hashlib.sha256(f"opinion\n{BOREAL}\n{entry}\n".encode()).hexdigest()[:32]
    assert voice(ANSWERED).replace("-", "") == f"opinion{digest}"


@pytest.mark.parametrize("kind", ["opinion", "endorsement"])
def test_a_lab_has_one_voice_for_a_pattern_version(kind: Any) -> None:
    log = ANSWERED.copy()
    body = (opinion_body if kind == "opinion" else endorsement_body)(handling(), record_reference(log.head(PATTERN)))
    other = identifier(kind, 0x500)
    refuses(log, signed(log.next(kind, other, BOREAL, body), "Boreal analyst"), "second_voice", "id")
    say(log, kind, voice(log, kind), BOREAL, body)  # revised, that is
    say(log, "pattern", PATTERN, AURORA, pattern_body(title="Revised"))
    newer = body | {"pattern": record_reference(log.head(PATTERN))}
    refuses(log, signed(log.next(kind, voice(log, kind), BOREAL, newer), "Boreal analyst"), "second_voice", "id")
    say(log, kind, voice(log, kind, version=2), BOREAL, newer)


def test_nobody_has_an_opinion_of_a_pattern_of_their_own_but_endorses_it_once_more() -> None:
    log = ANSWERED.copy()
    pattern = record_reference(log.head(PATTERN))
    document = log.next("opinion", voice(log, "opinion", AURORA), AURORA, opinion_body(handling(), pattern))
    refuses(log, signed(document, "Aurora analyst"), "own_record", "body.pattern")
    say(log, "endorsement", voice(log, "endorsement", AURORA), AURORA, endorsement_body(handling(), pattern))


@pytest.mark.parametrize(
    ("kind", "record", "change", "where"),
    [
        ("opinion", "", {"pattern": "sighting"}, "body.pattern"),
        ("endorsement", "", {"pattern": "other hash"}, "body.pattern"),
        ("incident", identifier("incident", 0x600), {"protocol": "pattern"}, "body.protocol"),
        ("incident", identifier("incident", 0x600), {"patterns": ["pattern", "playbook"]}, "body.patterns.1"),
        ("incident_action", identifier("incident-action", 0x600), {"incident": "pattern"}, "body.incident"),
        ("incident_action", identifier("incident-action", 0x600), {"sightings": ["pattern"]}, "body.sightings.0"),
        ("incident_action", identifier("incident-action", 0x600), {"patterns": ["other hash"]}, "body.patterns.0"),
    ],
)
def test_what_is_referred_to_is_there_and_of_the_right_type(
    kind: Any, record: str, change: Document, where: str
) -> None:
    log = ANSWERED
    pattern = record_reference(log.head(PATTERN))
    known = {
        "pattern": pattern,
        "other hash": pattern | {"entry": "00" * 32},
        "sighting": record_reference(log.head(SIGHTING)),
        "playbook": record_reference(log.head(PLAYBOOK)),
    }
    bodies = {
        "opinion": opinion_body(handling(), pattern),
        "endorsement": endorsement_body(handling(), pattern),
        "incident": incident_body(handling()),
        "incident_action": action_body(handling(), record_reference(log.head(INCIDENT))),
    }
    spelled = {
        name: [known[one] for one in value] if isinstance(value, list) else known[value]
        for name, value in change.items()
    }
    document = log.next(kind, record or voice(log, kind), BOREAL, bodies[kind] | spelled)
    refuses(log, signed(document, "Boreal analyst"), "unknown_record", where)


def test_an_incident_is_named_by_its_first_version_and_an_act_is_final() -> None:
    log = ANSWERED.copy()
    say(log, "incident", INCIDENT, BOREAL, incident_body(handling(), title="Told better"))
    act = action_body(handling(), record_reference(log.head(INCIDENT)))
    document = log.next("incident_action", identifier("incident-action", 0x600), AURORA, act)
    refuses(log, signed(document, "Aurora analyst"), "unknown_record", "body.incident")
    again = log.next("incident_action", ACTION, AURORA, ANSWERED_ACT)
    refuses(log, signed(again, "Aurora analyst"), "version_conflict", "version")


ANSWERED_ACT = action_body(handling(), record_reference(ANSWERED.head(INCIDENT)))


@pytest.mark.parametrize(
    ("record", "author", "allowed"),
    [
        (voice(ANSWERED), BOREAL, True),
        (PLAYBOOK, AURORA, True),
        (CRITERIA, AURORA, True),
        (INCIDENT, BOREAL, False),
        (ACTION, AURORA, False),
    ],
)
def test_what_was_done_about_an_incident_is_not_withdrawn(record: str, author: str, allowed: bool) -> None:
    log = ANSWERED.copy()
    body = withdrawal_body(record_reference(log.head(record)))
    document = log.next("withdrawal", identifier("withdrawal", 0x600), author, body)
    signer = "Aurora analyst" if author == AURORA else "Boreal analyst"
    if allowed:
        assert log.append(signed(document, signer)).withdrawn is not None
    else:
        refuses(log, signed(document, signer), "unknown_record", "body.record")


@pytest.mark.parametrize("name", ["referral_criteria", "referralcriteria", "playbook"])
def test_an_id_says_its_type_with_hyphens(name: str) -> None:
    log = forum_with_records()
    record = f"{name}--00000000-0000-4000-8000-000000000001"
    document = log.next("referral_criteria", record, AURORA, criteria_body(handling()))
    refuses(log, signed(document, "Aurora analyst"), "invalid_statement", "id")


INVALID: dict[str, tuple[str, Document, str]] = {
    "wrong without counts": ("opinion", {"measured": None}, "body"),
    "wrong, and all were right": (
        "opinion",
        {"measured": {"reviewed": 4, "true_positives": 4, "method": "All"}},
        "body",
    ),
    "more right than looked at": (
        "opinion",
        {"measured": {"reviewed": 4, "true_positives": 5, "method": "All"}},
        "body.measured",
    ),
    "a sample that tells the traffic": (
        "opinion",
        {"measured": {"reviewed": 10_001, "true_positives": 5, "method": "All"}},
        "body.measured.reviewed",
    ),
    "a protocol without levels": ("playbook", {"levels": []}, "body"),
    "a procedure with levels": ("playbook", {"kind": "revocation_procedure"}, "body"),
    "a level twice": ("playbook", {"levels": [playbook_body({})["levels"][0]] * 2}, "body"),
    "a criterion twice": ("referral_criteria", {"criteria": [criteria_body({})["criteria"][0]] * 2}, "body"),
    "evidence twice": ("referral_criteria", {"evidence": ["custody", "custody"]}, "body"),
    "an unknown measure": (
        "referral_criteria",
        {"criteria": [criteria_body({})["criteria"][0] | {"measure": "revenue"}]},
        "body.criteria.0.measure",
    ),
    "an unknown act": ("incident_action", {"action": "retaliate"}, "body.action"),
    "an order": ("incident_action", {"block": ["acct-1"]}, "body.block"),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_makes_no_sense_is_refused_where_it_stands(case: str) -> None:
    kind, change, where = INVALID[case]
    document = next(document for entry in ANSWERED.entries if (document := json.loads(entry.payload))["type"] == kind)
    document["body"] |= change
    with pytest.raises(Refused) as refused:
        parse(payload(document))
    assert code_of(refused.value) == "invalid_statement"
    assert refused.value.where == where


ENTRIES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(st.sampled_from(["opinion", "endorsement"]), st.sampled_from([AURORA, BOREAL]), ENTRIES, ENTRIES)
def test_voices_differ_by_type_author_and_version(kind: Any, author: str, entry: str, other: str) -> None:
    voices = {voice_id(kind, author, entry), voice_id(kind, author, other)}
    voices |= {voice_id("opinion", lab, one) for lab in (AURORA, BOREAL) for one in (entry, other)}
    distinct = {(kind, author, one) for one in (entry, other)}
    distinct |= {("opinion", lab, one) for lab in (AURORA, BOREAL) for one in (entry, other)}
    assert len(voices) == len(distinct)

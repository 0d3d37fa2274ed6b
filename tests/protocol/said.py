"""What labs say of patterns, made up: statements as the log would have them, and where they stand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from sharing_protocol import statements
from sharing_protocol.feedback import Said, Voice
from sharing_protocol.statements import new_id, voice_id
from sharing_protocol.statements.handling import Bucket
from sharing_protocol.statements.header import format_timestamp
from tests.protocol.response_bodies import endorsement_body, opinion_body

VERDICTS = ("confirm", "false_positive", "needs_work")
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)

Document = dict[str, Any]


def lab(number: int) -> str:
    """A lab's id."""
    return new_id("member", UUID(int=number))


def pattern(number: int = 1, version: int = 1) -> Document:
    """A reference to a pattern's version."""
    return {"id": new_id("pattern", UUID(int=number)), "version": version, "entry": f"{number:032x}{version:032x}"}


def said(index: int, kind: str, author: str, body: Document, record: str, **standing: bool) -> Said:
    """A statement at a log index, in force unless `standing` says otherwise."""
    document = {
        "schema": 1,
        "forum": "0" * 64,
        "type": kind,
        "id": record,
        "version": 1,
        "previous": None,
        "author": author,
        "created": "2026-03-30T12:00:00Z",
        "body": body,
    }
    statement = statements.parse(json.dumps(document).encode())
    assert isinstance(statement, Voice)
    known = {"newest": True, "withdrawn": False, "suspect": False, "lab_active": True, "of_own": False}
    return Said(index, statement, **{**known, **standing})


def handling(until: datetime = NOW + timedelta(days=90)) -> Document:
    """What a record says of its own use."""
    words = {"marking": "amber", "purpose": "Detect distillation", "legal_basis": "No personal data"}
    return {**words, "valid_until": format_timestamp(until)}


def opinion(
    index: int,
    author: str,
    verdict: str = "confirm",
    measured: tuple[int, int] | None = None,
    of: Document | None = None,
    until: datetime = NOW + timedelta(days=90),
    **standing: bool,
) -> Said:
    """An opinion; `measured` are true positives and reviewed."""
    of = of or pattern()
    counts = measured and {"reviewed": measured[1], "true_positives": measured[0], "method": "All of a day"}
    body = opinion_body(handling(until), of, verdict=verdict, measured=counts)
    return said(index, "opinion", author, body, voice_id("opinion", author, of["entry"]), **standing)


def endorsement(index: int, author: str, of: Document | None = None, **standing: bool) -> Said:
    """An endorsement."""
    of = of or pattern()
    record = voice_id("endorsement", author, of["entry"])
    return said(index, "endorsement", author, endorsement_body(handling(), of), record, **standing)


def sighting(
    index: int,
    author: str,
    first: int,
    days: int = 1,
    matches: Bucket = Bucket.UNDER_100,
    of: Document | None = None,
    accounts: Bucket | None = None,
    **standing: bool,
) -> Said:
    """A sighting from day `first` of March on."""
    start = FIRST_DAY + timedelta(days=first - 1)
    body = {
        **handling(),
        "pattern": of or pattern(),
        "period_start": format_timestamp(start),
        "period_end": format_timestamp(start + timedelta(days=days)),
        "matches": matches.value,
        "accounts": accounts.value if accounts else None,
    }
    return said(index, "sighting", author, body, new_id("sighting", UUID(int=index + 1)), **standing)


@st.composite
def sightings(draw: st.DrawFn, labs: int = 3, patterns: int = 2, most: int = 9) -> list[Said]:
    """Sightings of a few patterns by a few labs, all in force."""
    count = draw(st.integers(0, most))
    return [
        sighting(
            index,
            lab(draw(st.integers(1, labs))),
            draw(st.integers(1, 25)),
            draw(st.integers(1, 4)),
            draw(st.sampled_from(list(Bucket))),
            pattern(draw(st.integers(1, patterns)), draw(st.integers(1, 2))),
            draw(st.none() | st.sampled_from(list(Bucket))),
        )
        for index in range(count)
    ]


@st.composite
def everything(draw: st.DrawFn) -> list[Said]:
    """Anything that labs say of two versions of a pattern, also what does not count, at most one voice a lab."""
    found = draw(sightings(patterns=1))
    for author in (lab(1), lab(2), lab(3), lab(4)):
        for version in (1, 2):
            of, index = pattern(1, version), len(found)
            if draw(st.booleans()):
                reviewed = draw(st.integers(2, 10_000))
                measured = (draw(st.integers(0, reviewed - 1)), reviewed)
                found.append(opinion(index, author, draw(st.sampled_from(VERDICTS)), measured, of))
            if draw(st.booleans()):
                found.append(endorsement(len(found), author, of))
    return [
        replace(
            one,
            newest=standing != 1,
            withdrawn=standing == 2,
            suspect=standing == 3,
            lab_active=standing != 4,
            of_own=standing == 5 and one.statement.type != "sighting",
        )
        for one in found
        if (standing := draw(st.integers(1, 8)))
    ]

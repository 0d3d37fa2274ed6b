"""Statements of every type: round trips, and nothing but their own members."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.statements import Bucket, Pattern, Unknown, bucket_of, encode, new_id, parse
from sharing_protocol.statements.handling import lowest_of
from sharing_protocol.statements.header import Identifier, format_timestamp, parse_timestamp
from tests.protocol.forum_log import (
    AURORA,
    CREATED,
    FORUM,
    PATTERN,
    SIGHTING,
    WITHDRAWAL,
    Document,
    add_key_body,
    admins_body,
    admit_body,
    found_body,
    handling,
    identifier,
    lab_keys,
    pattern_body,
    payload,
    reason,
    revoke_body,
    sighting_body,
    withdrawal_body,
)
from tests.protocol.refusals import code_of
from tests.protocol.response_bodies import (
    action_body,
    criteria_body,
    endorsement_body,
    incident_body,
    opinion_body,
    playbook_body,
)

REFERENCE = {"id": PATTERN, "version": 1, "entry": "ab" * 32}
METHOD = {"name": "template share", "features": ["account.requests"], "parameters": {"least": 0.5, "window": 24}}
BODIES: dict[str, tuple[str, Document]] = {
    "membership.found": (FORUM, found_body()),
    "membership.change_admins": (FORUM, admins_body(["Ada", "Ben"], 2)),
    "membership.admit": (AURORA, admit_body(AURORA, "Aurora", lab_keys("Aurora"))),
    "membership.suspend": (AURORA, reason()),
    "membership.reinstate": (AURORA, reason()),
    "membership.expel": (AURORA, reason()),
    "membership.add_key": (AURORA, add_key_body("x", "sync", AURORA)),
    "membership.revoke_key": (AURORA, revoke_body("x", 4)),
    "pattern": (PATTERN, pattern_body(method=METHOD, kind="detection_method", playbook=None)),
    "withdrawal": (WITHDRAWAL, withdrawal_body(REFERENCE)),
    "sighting": (SIGHTING, sighting_body(REFERENCE)),
    "opinion": (identifier("opinion", 1), opinion_body(handling(), REFERENCE)),
    "endorsement": (identifier("endorsement", 1), endorsement_body(handling(), REFERENCE)),
    "playbook": (identifier("playbook", 1), playbook_body(handling())),
    "referral_criteria": (identifier("referral-criteria", 1), criteria_body(handling())),
    "incident": (identifier("incident", 1), incident_body(handling(), patterns=[REFERENCE])),
    "incident_action": (identifier("incident-action", 1), action_body(handling(), REFERENCE, patterns=[{**REFERENCE}])),
}


def statement(kind: str, **changes: Any) -> Document:
    record, body = BODIES[kind]
    return {
        "schema": 1,
        "forum": None if kind == "membership.found" else "cd" * 32,
        "type": kind,
        "id": record,
        "version": 1,
        "previous": None,
        "author": AURORA,
        "created": CREATED,
        "body": deepcopy(body),
        **changes,
    }


kinds = st.sampled_from(sorted(BODIES))
Path = tuple[str | int, ...]


def objects(value: Any, path: Path = ()) -> list[Path]:
    """The paths of every JSON object in a document whose members the protocol fixes."""
    found = [path] if isinstance(value, dict) else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        if name not in ("logic", "events", "parameters", "cacao"):
            found += objects(member, (*path, name))
    return found


def leaves(value: Any, path: Path = ()) -> list[Path]:
    """The paths of every member, at any level."""
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        if name not in ("logic", "events", "parameters", "cacao"):
            found += leaves(member, (*path, name))
    return found


def at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def invalid(document: Document) -> Refused:
    with pytest.raises(Refused) as refused:
        parse(payload(document))
    assert code_of(refused.value) == "invalid_statement"
    return refused.value


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_every_type_gives_back_what_was_written(kind: str) -> None:
    document = statement(kind)
    parsed = parse(payload(document))
    assert not isinstance(parsed, Unknown)
    encoded = encode(parsed)
    assert json.loads(encoded) == document
    assert parse(encoded) == parsed
    assert list(json.loads(encoded))[:3] == ["schema", "forum", "type"]
    assert list(json.loads(encoded))[-1] == "body"


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_an_extra_member_at_any_level_is_refused(kind: str) -> None:
    for path in objects(statement(kind)):
        document = statement(kind)
        at(document, path)["surprise"] = 1
        refusal = invalid(document)
        assert refusal.where.endswith("surprise"), path
        assert "Extra inputs" in refusal.detail


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_every_member_is_needed(kind: str) -> None:
    for path in objects(statement(kind)):
        for name in at(statement(kind), path):
            if (path, name) in (((), "type"), ((), "schema")):
                continue
            document = statement(kind)
            del at(document, path)[name]
            assert invalid(document).where == ".".join(str(step) for step in (*path, name))


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_every_member_has_one_type(kind: str) -> None:
    others: list[Any] = [True, [[]], {"x": {}}, " padded ", ""]
    for path in leaves(statement(kind)):
        if path in (("type",), ("schema",)):
            continue
        # What the log's verifier keys may be is decided when the forum is founded, with a code of its own.
        for wrong in others[:3] if path[-1] in ("log_key", "timestamp_key") else others:
            document = statement(kind)
            *parent, last = path
            if isinstance(wrong, bool) and isinstance(at(document, tuple(parent))[last], bool):
                continue
            at(document, tuple(parent))[last] = wrong
            invalid(document)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("version",), 0),
        (("version",), 1_000_001),
        (("version",), 1.0),
        (("version",), "1"),
        (("forum",), "CD" * 32),
        (("forum",), "cd" * 32 + "\n"),
        (("previous",), "cd" * 31),
        (("id",), "pattern"),
        (("id",), "pattern--" + "0" * 32),
        (("id",), PATTERN.upper()),
        (("id",), "p" * 60 + PATTERN[7:]),
        (("id",), "--" + PATTERN[9:]),
        (("id",), "pattern-" + PATTERN[7:]),
        (("body", "playbook"), "\x1b[2J" + PATTERN[7:]),
        (("body", "playbook"), "play\u202ebook" + PATTERN[7:]),
        (("created",), "2026-03-01T12:00:00+00:00"),
        (("created",), "2026-03-01T12:00:00.0Z"),
        (("created",), "2026-03-01 12:00:00Z"),
        (("created",), "2026-02-30T12:00:00Z"),
        (("created",), "2026-03-01T24:00:00Z"),
        (("created",), "2026-03-01T23:59:60Z"),
        (("created",), "1999-12-31T23:59:59Z"),
        (("created",), "2100-01-01T00:00:00Z"),
        (("created",), 1_772_366_400),
        (("body", "kind"), "signature"),
        (("body", "marking"), "AMBER"),
        (("body", "confidence"), 101),
        (("body", "confidence"), -1),
        (("body", "confidence"), 70.0),
        (("body", "techniques"), []),
        (("body", "techniques"), ["AML.T24"]),
        (("body", "techniques"), ["AML.T0024\n"]),
        (("body", "techniques"), ["AML.T0024"] * 17),
        (("body", "title"), "x" * 201),
        (("body", "title"), "two\nlines"),
        (("body", "description"), "x" * 8001),
        (("body", "description"), "bell\a"),
        (("body", "logic"), []),
        (("body", "logic"), [{}] * 17),
        (("body", "logic"), [[]]),
        (("body", "tests"), pattern_body()["tests"][:1]),
        (("body", "tests"), pattern_body()["tests"] * 17),
        (("body", "tests", 0, "events"), []),
        (("body", "tests", 0, "events"), [{}] * 201),
        (("body", "tests", 0, "expect"), "maybe"),
        (("body", "tests", 0, "synthetic"), False),
        (("body", "references", 0, "url"), "ftp://example.org/"),
        (("body", "references", 0, "url"), "javascript:alert(1)"),
        (("body", "references", 0, "url"), "https://example.org/\u202e"),
        (("body", "references", 0, "url"), "https://example.org/\x1b[2J"),
        (("body", "references", 0, "url"), "https://example.org/<script>"),
        (("body", "references", 0, "url"), 'https://example.org/"'),
        (("body", "references", 0, "url"), "https://"),
        (("body", "measured", "match_rate"), 1.01),
        (("body", "measured", "match_rate"), -0.01),
        (("body", "measured", "events"), "12345"),
        (("body", "measured", "false_positive_interval"), [0.1]),
        (("body", "measured", "false_positive_interval"), [0.1, 0.2, 0.3]),
        (("body", "method", "parameters"), {"least": "0.5"}),
        (("body", "method", "parameters"), {"least": True}),
        (("body", "method", "features"), []),
    ],
)
def test_values_out_of_bounds(path: Path, wrong: object) -> None:
    document = statement("pattern")
    *parent, last = path
    at(document, tuple(parent))[last] = wrong
    assert invalid(document).where.startswith(str(path[0]))


def test_a_threshold_has_bounds() -> None:
    for threshold in (0, 33, -1):
        document = statement("membership.found")
        document["body"]["threshold"] = threshold
        invalid(document)
    document["body"] |= {"threshold": 1, "admins": []}
    invalid(document)


@given(st.characters(categories=["Cc", "Cf", "Co", "Zl", "Zp"], exclude_characters="\0"))
def test_control_and_invisible_characters_are_refused(character: str) -> None:
    document = statement("pattern")
    document["body"]["title"] = f"safe{character}title"
    assert f"U+{ord(character):04X}" in invalid(document).detail
    document = statement("pattern")
    document["body"]["description"] = f"safe{character}text"
    if character in "\n\t":
        parse(payload(document))
    else:
        invalid(document)


@given(st.text(st.characters(categories=["L", "Nd", "P", "S"], max_codepoint=0xABFF), min_size=1, max_size=20))
def test_visible_text_of_any_script_is_a_line(text: str) -> None:
    fillers = "\u115f\u1160\u3164"  # letters by category, blank to the eye
    document = statement("pattern")
    document["body"]["title"] = text
    if any(character in fillers for character in text):
        invalid(document)
    else:
        parsed = parse(payload(document))
        assert isinstance(parsed, Pattern)
        assert parsed.body.title == text


@given(kinds, st.integers(2, 2**40), st.text("abc._", min_size=1, max_size=10))
def test_what_is_of_later_is_kept_and_not_understood(kind: str, schema: int, other: str) -> None:
    later = {**statement(kind), "schema": schema, "extra": [1]}
    assert parse(payload(later)) == Unknown(schema, kind, later)
    foreign = {**statement(kind), "type": f"x.{other}", "extra": [1]}
    assert parse(payload(foreign)) == Unknown(1, f"x.{other}", foreign)


@pytest.mark.parametrize("schema", [0, -1])
def test_an_earlier_schema_never_was(schema: int) -> None:
    assert invalid(statement("pattern", schema=schema)).where == "schema"


@pytest.mark.parametrize(
    "document",
    [
        {}, [], None, "text", 7, {"schema": 1}, {"type": "pattern"}, {"schema": 1.0, "type": "pattern"},
        {"schema": True, "type": "pattern"}, {"schema": "1", "type": "pattern"}, {"schema": 1, "type": None},
        {"schema": 1, "type": ["pattern"]},
    ],
)  # fmt: skip
def test_what_is_no_statement(document: Any) -> None:
    with pytest.raises(Malformed) as refused:
        parse(json.dumps(document).encode())
    assert code_of(refused.value) == "malformed_statement"


def test_a_refusal_is_short_and_safe_to_print() -> None:
    document = statement("pattern")
    document |= {f"\x1b[2J{'x' * 5000}{number}": 1 for number in range(9)}
    refusal = invalid(document)
    assert refusal.detail.isprintable()
    assert refusal.where.isprintable()
    assert len(refusal.where) < 100
    assert len(refusal.detail) < 1000
    assert refusal.detail.endswith("; and 4 more")


# -- times, ids and buckets --------------------------------------------------------------------------------------


@given(st.integers(0, 100 * 365 * 86_400))
def test_a_time_has_one_form(seconds: int) -> None:
    exact = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    text = format_timestamp(exact)
    assert parse_timestamp(text) == exact
    assert parse_timestamp(exact) == exact
    assert format_timestamp(exact.astimezone(timezone(timedelta(hours=5)))) == text


@pytest.mark.parametrize(
    "moment",
    [datetime(2026, 1, 1, microsecond=1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))],
)
def test_a_time_is_in_utc_and_whole_seconds(moment: datetime) -> None:
    with pytest.raises(ValueError, match="UTC"):
        parse_timestamp(moment)


def test_an_id_is_written_from_its_parts() -> None:
    assert new_id("pattern", UUID(int=256)) == PATTERN


@given(st.integers(1, 10**12))
def test_a_count_lies_in_its_bucket(count: int) -> None:
    bucket = bucket_of(count)
    assert lowest_of(bucket) <= count
    higher = list(Bucket)[list(Bucket).index(bucket) + 1 :]
    assert all(count < lowest_of(other) for other in higher)


@pytest.mark.parametrize(
    ("count", "bucket"), [(1, "1-9"), (9, "1-9"), (10, "10-99"), (999_999, "100000-999999"), (10**6, "1000000+")]
)
def test_the_edges_of_buckets(count: int, bucket: str) -> None:
    assert bucket_of(count) == bucket


@pytest.mark.parametrize("count", [0, -1])
def test_what_was_not_seen_has_no_bucket(count: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        bucket_of(count)


@pytest.mark.parametrize(
    "tail",
    [
        "0B0E7A4C-1111-4111-8111-111111111111",
        "0b0e7a4c-1111-4111-8111-11111111111A",
        "0b0e7a4c-A111-4111-8111-111111111111",
        "0b0e7a4c11114111811111111111111111",
        "{0b0e7a4c-1111-4111-8111-111111111111}",
        "0b0e7a4c-1111-4111-8111-111111111111\n",
        "\uff10b0e7a4c-1111-4111-8111-111111111111",
    ],
)
def test_an_id_has_one_spelling(tail: str) -> None:
    ids = TypeAdapter[str](Identifier)
    ids.validate_python("pattern--0b0e7a4c-1111-4111-8111-111111111111")
    with pytest.raises(ValidationError):
        ids.validate_python(f"pattern--{tail}")

"""Whether a record's content is sound, apart from what the log's state decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sharing_protocol.content import MAX_CLOCK_SKEW, check_clock, check_content, check_pattern, check_privacy
from sharing_protocol.errors import Refused
from sharing_protocol.statements import Pattern, Statement, Unknown, parse
from tests.protocol.forum_log import (
    AURORA,
    PATTERN,
    Document,
    forum_with_records,
    pattern_body,
    payload,
    reason,
    record_reference,
    sighting_body,
)
from tests.protocol.refusals import code_of
from tests.protocol.response_bodies import PROCEDURE, playbook_body

RULE = {
    "title": "Bootstrapped instructions",
    "name": "bootstrap",
    "logsource": {"product": "llm_api", "category": "request"},
    "detection": {"s": {"prompt.text|contains": "come up with"}, "condition": "s"},
}
METHOD = {"name": "template share", "features": ["prompt.text"], "parameters": {"least": 0.5}}


def statement(of: str = "pattern", /, **changes: Any) -> Statement:
    log = forum_with_records()
    bodies: dict[str, Document] = {
        "pattern": pattern_body(logic=[RULE]),
        "sighting": sighting_body(record_reference(log.head(PATTERN))),
        "membership.suspend": reason("Write to someone@corp-mail.com"),
    }
    parsed = parse(payload(log.next(of, PATTERN, AURORA, bodies[of] | changes)))
    assert not isinstance(parsed, Unknown)
    return parsed


def pattern(**changes: Any) -> Pattern:
    parsed = statement(**changes)
    assert isinstance(parsed, Pattern)
    return parsed


def refused(code: str, where: str, **changes: Any) -> str:
    with pytest.raises(Refused) as refusal:
        check_content(statement(**changes))
    assert code_of(refusal.value) == code
    assert refusal.value.where.startswith(where)
    return refusal.value.detail


def expecting(*expected: str) -> list[Document]:
    texts = {"match": "Now come up with 20 tasks", "no_match": "Good morning"}
    return [
        {"name": f"test {number}", "expect": kind, "events": [{"prompt.text": texts[kind]}], "synthetic": True}
        for number, kind in enumerate(expected)
    ]


def test_a_sound_pattern_comes_back_compiled() -> None:
    logic = check_pattern(pattern().body)
    assert logic.match_event({"prompt.text": "come up with a joke"})
    check_content(pattern())


def test_a_method_belongs_to_detection_methods_alone() -> None:
    check_content(pattern(kind="detection_method", method=METHOD))
    refused("invalid_statement", "body.method", method=METHOD)
    refused("invalid_statement", "body.method", kind="detection_method")


def test_logic_that_does_not_compile_is_refused() -> None:
    assert "more)" not in refused("invalid_logic", "body.", logic=[RULE | {"detection": {"condition": "s"}}])
    several = [RULE | {"detection": {"s": {"no.such": 1, "nor.this": 2}, "condition": "s"}}]
    assert "more)" in refused("invalid_logic", "body.", logic=several)


def test_a_pattern_passes_its_own_tests() -> None:
    wrong = expecting("match", "no_match")
    wrong[0]["events"], wrong[1]["events"] = wrong[1]["events"], wrong[0]["events"]
    assert "fails 2 of its own 2 tests: 'test 0', 'test 1'" in refused("tests_failed", "body.tests", tests=wrong)


@pytest.mark.parametrize("expected", [("match", "match"), ("no_match", "no_match")])
def test_a_pattern_shows_both_what_matches_and_what_does_not(expected: tuple[str, str]) -> None:
    refused("tests_failed", "body.tests", tests=expecting(*expected))


def test_personal_data_is_refused_without_repeating_it() -> None:
    secret = "someone.real@corp-mail.com"
    said = refused("personal_data", "body.description", description=f"Ask {secret} for more.")
    assert secret not in said
    assert "more)" not in said
    both = refused("personal_data", "body.", description=f"Ask {secret}.", title=f"By {secret}")
    assert both.endswith("(and 1 more)")


def test_a_playbook_has_steps_that_people_walk_through() -> None:
    body = pattern_body()
    shared = {name: body[name] for name in ("marking", "purpose", "legal_basis", "valid_until")}
    sound = playbook_body(shared)

    def written(cacao: Document) -> Statement:
        log = forum_with_records()
        header = log.next("playbook", PATTERN.replace("pattern--", "playbook--"), AURORA, {**sound, "cacao": cacao})
        parsed = parse(payload(header))
        assert not isinstance(parsed, Unknown)
        return parsed

    check_content(written(PROCEDURE))
    for cacao, where in (({**PROCEDURE, "signatures": []}, "body.cacao.signatures"), ({}, "body.cacao.type")):
        with pytest.raises(Refused) as refusal:
            check_content(written(cacao))
        assert (code_of(refusal.value), refusal.value.where) == ("invalid_playbook", where)
    twice = {**PROCEDURE, "agent_definitions": {"group--" + PROCEDURE["id"][10:]: {"type": "group", "name": "x"}}}
    with pytest.raises(Refused) as refusal:
        check_content(written(twice))
    assert refusal.value.where == "body.cacao"


def test_other_statements_have_content_too() -> None:
    check_content(statement("sighting"))
    with pytest.raises(Refused) as refusal:
        check_privacy(statement("sighting", purpose="Ask someone.real@corp-mail.com"))
    assert code_of(refusal.value) == "personal_data"
    # What the admins write of their members is theirs to answer for.
    check_content(statement("membership.suspend"))


def test_a_statement_is_not_written_in_the_future() -> None:
    written = pattern()
    check_clock(written, written.created - MAX_CLOCK_SKEW)
    with pytest.raises(Refused) as refusal:
        check_clock(written, written.created - MAX_CLOCK_SKEW - timedelta(seconds=1))
    assert (code_of(refusal.value), refusal.value.where) == ("invalid_dates", "created")

"""A pattern's own tests: small event lists that must match, and that must not.

They travel with the pattern; its author, the hub and every consumer run them, so all see that they mean the same
by it. A test event may only use fields of the catalogue with values of their type: a misspelt field would make a
"must not match" pass for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from sharing_protocol.pattern_logic.catalogue import Category, fields_in, how_to_mend_field
from sharing_protocol.pattern_logic.events import Event
from sharing_protocol.pattern_logic.logic import Logic
from sharing_protocol.strict_json import Json

MATCH = "match"
NO_MATCH = "no_match"
INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class TestResult:
    """How one test went.

    Attributes:
        name: of the test.
        expected: `match` or `no_match` (or whatever was written there).
        got: `match`, `no_match`, or `invalid` if the test itself is not well-formed.
        passed: whether both are the same.
        detail: for people: what matched, or why the test is invalid.
    """

    __test__ = False  # pytest would take a class of this name for tests

    name: str
    expected: str
    got: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class TestReport:
    """How all tests of a pattern went.

    Attributes:
        results: one a test, in order.
        missing: what a pattern must also test, as clauses; empty if nothing.
    """

    __test__ = False

    results: tuple[TestResult, ...]
    missing: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every test passed and none is missing."""
        return not self.missing and all(result.passed for result in self.results)


def run_tests(logic: Logic, tests: Sequence[Mapping[str, Json]]) -> TestReport:
    """Run a record's tests against its logic.

    Args:
        logic: the compiled logic.
        tests: maps of `name`, `expect` (`match` or `no_match`) and `events` (a list of events, see `events`).
    """
    results = tuple(_run(logic, test, number) for number, test in enumerate(tests))
    missing = tuple(
        f"no test expects {expected}"
        for expected in (MATCH, NO_MATCH)
        if not any(result.expected == expected for result in results)
    )
    return TestReport(results, missing)


def _run(logic: Logic, test: Mapping[str, Json], number: int) -> TestResult:
    name = test.get("name")
    shown = name if isinstance(name, str) and name else f"tests[{number}]"
    expected = str(test.get("expect"))
    problem = _problem(test, logic.category)
    if problem:
        return TestResult(shown, expected, INVALID, False, problem)
    events = test["events"]
    found = list(islice(logic.matches(event for event in _maps(events)), 1))
    got = MATCH if found else NO_MATCH
    detail = f"event {found[0].index} matches {found[0].rule}" if found else "no event matches"
    return TestResult(shown, expected, got, got == expected, detail)


def _maps(events: Json) -> list[Mapping[str, Json]]:
    return [event for event in events if isinstance(event, Mapping)] if isinstance(events, list) else []


def _problem(test: Mapping[str, Json], category: Category) -> str:
    """Why this is not a test, or an empty string."""
    if test.get("expect") not in (MATCH, NO_MATCH):
        return f"expect is {MATCH} or {NO_MATCH}"
    events = test.get("events")
    if not isinstance(events, list) or not events or len(_maps(events)) != len(events):
        return "events is a list of at least one event"
    catalogue = fields_in(category)
    for position, fields in enumerate(_maps(events)):
        event = Event(fields)
        for name, value in fields.items():
            field = catalogue.get(name)
            if field is None:
                return f"event {position}: no field {name[:80]!r}; {how_to_mend_field(name, category)}"
            if value is not None and event.read(name, field.type) is None:
                return f"event {position}: {name} must be {field.type}"
    return ""

"""Every refusal of a pattern file, with the line it is about."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from member_client.cli.main import run
from member_client.errors import InvalidInput
from member_client.patterns import library
from member_client.patterns.authoring import Reading, read, read_bytes
from member_client.patterns.pattern_file import HELP
from sharing_protocol.statements import PatternBody, PatternKind

NOW = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)

FILE = """\
kind: query_pattern
title: Bootstrapped instructions
description: |
  Asks for new tasks in the style of given ones.
techniques: [AML.T0024.002]
marking: amber
severity: high
confidence: 70
valid_for_days: 90
references:
  - title: Self-Instruct
    url: https://example.org/self-instruct
purpose: Detect distillation
legal_basis: Legitimate interest
logic:
  - title: Continue a list
    logsource: {product: llm_api, category: request}
    detection:
      asks:
        prompt.text|contains:
          - come up with a series of tasks
          - continue the list
      condition: asks
tests:
  - name: a list
    expect: match
    events:
      - prompt.text: Come up with a series of tasks.
  - name: small talk
    expect: no_match
    events:
      - prompt.text: Hello
"""


def lint(text: str) -> Reading:
    return read_bytes(text.encode(), "p.yaml", NOW)


def line_of(text: str, part: str) -> int:
    """The number of the only line that has this part."""
    (number,) = [number for number, line in enumerate(text.splitlines(), 1) if part in line]
    return number


def test_a_sound_file_becomes_a_body_with_what_it_left_unsaid() -> None:
    pattern = lint(FILE).pattern
    assert pattern is not None
    body = pattern.body
    assert body["valid_from"] == "2026-03-01T00:00:00Z"
    assert body["valid_until"] == "2026-05-30T00:00:00Z"
    assert (body["method"], body["measured"], body["playbook"]) == (None, None, None)
    assert body["description"] == "Asks for new tasks in the style of given ones."
    assert all(test.synthetic for test in pattern.content.tests)
    assert PatternBody.model_validate_json(pattern.content.model_dump_json()) == pattern.content
    assert pattern.run_tests().passed


def test_days_are_taken_as_their_start() -> None:
    pattern = lint(FILE.replace("valid_for_days: 90", "valid_from: 2026-03-02\nvalid_until: 2026-09-01")).pattern
    assert pattern is not None
    assert pattern.body["valid_from"] == "2026-03-02T00:00:00Z"
    assert pattern.body["valid_until"] == "2026-09-01T00:00:00Z"


REFUSALS = [
    # what is replaced, by what, which line then has the issue, its code, what is said, how to mend it
    ("severity: high", "severty: high", "severty", "unknown_key", "'severty'", "did you mean severity?"),
    ("    url:", "    link:", "link:", "unknown_key", "'link'", "use only title, url"),
    ("    expect: match", "    expects: match", "expects:", "unknown_key", "'expects'", "did you mean expect?"),
    ("title: Boot", "titel: Boot", "titel", "unknown_key", "'titel'", "did you mean title?"),
    ("kind: query_pattern", "kind: query", "kind:", "invalid_value", "'query' is not a kind", "'query_pattern'"),
    ("severity: high", "severity: High", "severity", "invalid_value", "'High' is not a severity", "'critical'"),
    ("confidence: 70", "confidence: 101", "confidence", "invalid_value", "less than or equal", "0 to 100"),
    ("confidence: 70", "confidence: '70'", "confidence", "invalid_value", "integer", "0 to 100"),
    ("confidence: 70", "confidence:", "confidence", "invalid_value", "confidence is empty", "0 to 100"),
    ("[AML.T0024.002]", "[AML.T0024.002, T1]", "techniques", "invalid_value", "pattern", "AML.T0024.002"),
    ("Detect distillation", '"Detect\\u202E"', "purpose", "invalid_value", "U+202E", "one line"),
    ("https://example.org", "ftp://example.org", "url:", "invalid_value", "pattern", "http or https"),
    ("    expect: match", "    expect: yes", "expect: yes", "invalid_value", "'yes' is not a expect", "'no_match'"),
    ("marking: amber", "marking: red", "marking", "red_needs_sealing", "named recipients", "amber+strict"),
    ("marking: amber", "marking: pink", "marking", "invalid_value", "'pink' is not a marking", "'amber+strict'"),
    ("valid_for_days: 90", "valid_for_days: 0", "valid_for_days", "invalid_dates", "not a number of days", "1 to"),
    ("valid_for_days: 90", "valid_for_days: 90d", "valid_for_days", "invalid_dates", "not a number", "1 to"),
    ("valid_for_days: 90", "valid_until: 2026-02-01", "valid_until", "invalid_dates", "not after created", "a day"),
    ("valid_for_days: 90", "valid_until: 2036-02-01", "valid_until", "invalid_dates", "five years", "a day"),
    ("valid_for_days: 90", "valid_until: 1.3.2026", "valid_until", "invalid_value", "YYYY-MM-DD", "a day such as"),
    ("valid_for_days: 90", "valid_until: 2026-02-30", "valid_until", "invalid_value", "", "a day such as"),
    (
        "valid_for_days: 90",
        "valid_until: 2026-09-01\nvalid_for_days: 90",
        "valid_for_days",
        "invalid_dates",
        "both valid_until and valid_for_days",
        "days",
    ),
    ("prompt.text|contains:", "promt.text|contains:", "promt.text", "unknown_field", "promt.text", "prompt.text?"),
    ("          - continue the list", "          - 7", "- 7", "wrong_type", "prompt.text is text", "quotation marks"),
    ("condition: asks", "condition: aks", "condition", "bad_condition", "'aks' not defined", "selection names"),
    ("category: request", "category: requests", "logsource", "bad_logsource", "not a category", "account_window"),
    ("      - prompt.text: Hello", "      - promt.text: Hello", "events:", "invalid_test", "promt.text", "events"),
    ("expect: no_match", "expect: match", "tests:", "missing_test", "no test expects no_match", "at least one"),
    ("Asks for new", "Ask joe.doe@gmail.com for new", "description", "personal_data", "e-mail", "example.com"),
    ("text: Hello", "text: Call +49 30 901820 now", "+49", "personal_data", "phone", "555"),
    (
        "purpose:",
        "method: {name: x, features: [a], parameters: {b: 1}}\npurpose:",
        "method:",
        "invalid_statement",
        "",
        "",
    ),
    ("purpose:", "measured: {events: 12}\npurpose:", "measured:", "invalid_value", "", ""),
    ("  Asks for", "  " + "Long text. " * 900 + "\n  Asks for", "description", "invalid_value", "8000", "8,000"),
]


@pytest.mark.parametrize(("old", "new", "at", "code", "what", "mend"), REFUSALS)
def test_a_mistake_is_named_at_its_line(old: str, new: str, at: str, code: str, what: str, mend: str) -> None:
    assert FILE.count(old) >= 1
    head, tail = FILE.split(old, 1) if old != "expect: no_match" else FILE.rsplit(old, 1)
    text = head + new + tail
    reading = lint(text)
    assert reading.pattern is None
    found = [issue for issue in reading.issues if issue.code == code and issue.line in lines_of(text, at)]
    assert found, [str(issue) for issue in reading.issues]
    assert any(what in issue.what and mend in issue.mend for issue in found), [str(issue) for issue in found]


def lines_of(text: str, part: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if part in line]


@pytest.mark.parametrize("name", [key for key in HELP if "." not in key and f"\n{key}:" in f"\n{FILE}"])
def test_a_missing_key_is_named(name: str) -> None:
    lines = FILE.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
    end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ")), len(lines))
    reading = lint("".join(lines[:start] + lines[end:]))
    if name == "references":
        assert reading.pattern is not None
        return
    said = [issue for issue in reading.issues if issue.line == 1]
    expected = "valid_until nor valid_for_days" if name == "valid_for_days" else f"{name} is missing"
    assert any(expected in issue.what for issue in said), [str(issue) for issue in reading.issues]


def test_everything_wrong_is_said_at_once_and_in_order() -> None:
    text = (
        FILE.replace("severity: high", "severity: huge")
        .replace("confidence: 70", "confidense: 70")
        .replace("prompt.text|contains", "promt.text|contains")
        .replace("marking: amber", "marking: red")
        .replace("Hello", "write to joe.doe@gmail.com")
    )
    issues = lint(text).issues
    assert {issue.code for issue in issues} == {
        "invalid_value",
        "unknown_key",
        "unknown_field",
        "red_needs_sealing",
        "personal_data",
    }
    assert [issue.line for issue in issues] == sorted(issue.line for issue in issues)


def test_an_issue_inside_a_list_points_to_the_item() -> None:
    text = FILE.replace("contains:", "re:").replace("- continue the list", "- '(?=look)ahead'")
    (issue,) = lint(text).issues
    assert (issue.line, issue.column) == (line_of(text, "(?=look)"), 13)
    assert str(issue).startswith(f"p.yaml:{issue.line}:13: look-around")


def test_a_pattern_too_large_for_the_log_is_refused_before_it_is_signed() -> None:
    event = "      - prompt.text: " + "Hello there. " * 80 + "\n"
    reading = lint(FILE + event * 60)
    assert [issue.code for issue in reading.issues] == ["envelope_too_large"]


@pytest.mark.parametrize("text", ["[1, 2]", "just text"])
def test_a_file_that_is_no_map_is_refused(text: str) -> None:
    (issue,) = lint(text).issues
    assert issue.code == "wrong_type"


def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        read(tmp_path / "none.yaml", NOW)
    with pytest.raises(InvalidInput, match="cannot read"):
        read(tmp_path, NOW)


@pytest.mark.parametrize("kind", list(PatternKind))
def test_a_template_passes_lint_and_test_as_it_is(kind: PatternKind) -> None:
    pattern = lint(library.template(kind)).pattern
    assert pattern is not None, [str(issue) for issue in lint(library.template(kind)).issues]
    assert pattern.content.kind is kind
    assert pattern.content.title.startswith(library.TEMPLATE_TITLE)
    assert pattern.run_tests().passed


@pytest.mark.parametrize("name", library.starter_names())
def test_a_starter_passes_lint_and_test(name: str) -> None:
    reading = lint(library.starter(name).text)
    assert reading.pattern is not None, [str(issue) for issue in reading.issues]
    assert reading.pattern.run_tests().passed
    assert reading.warnings == ()


@pytest.mark.parametrize("kind", list(PatternKind))
def test_text_of_a_template_is_warned_of_where_it_stands(kind: PatternKind) -> None:
    text = library.template(kind)
    reading = lint(text)
    lines = text.splitlines()
    shown = {(warning.line, warning.what) for warning in reading.warnings}
    for begins, what in (
        ("title: ", "title is still the template's"),
        ("description: ", "description is still the template's"),
        ("  - title: ", "this rule's title is still the template's"),
        ("  - name: ", "this test's name is still the template's"),
    ):
        places = [number for number, line in enumerate(lines, 1) if line.startswith(begins)]
        places = [number for number in places if "paper or page" not in lines[number - 1]]
        assert {(number, what) for number in places} <= shown
    assert ("this reference is still" in str(reading.warnings)) == (kind is PatternKind.QUERY_PATTERN)
    assert ("method.name is still" in str(reading.warnings)) == (kind is PatternKind.DETECTION_METHOD)
    # without the word that warns of it, and in any other file, it is the template's all the same
    (title,) = (warning for warning in lint(text.replace("Example: ", "")).warnings if "title is" in warning.what[:8])
    assert title.mend == "say what your own pattern finds"


def test_a_file_of_ones_own_is_not_warned_of() -> None:
    assert lint(FILE).warnings == ()


def test_the_format_page_explains_every_key() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "pattern-format.md").read_text("utf-8")
    assert [key for key in HELP if f"`{key.rpartition('.')[2]}`" not in page.replace(": true`", "`")] == []


# -- the commands ------------------------------------------------------------------------------------------------


def test_new_writes_a_template_that_lint_and_test_accept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    assert run(["pattern", "new", "behavioral-signature", "-o", str(file)]) == 0
    assert run(["pattern", "lint", str(file)]) == 0
    said = capsys.readouterr()
    assert f"{file}:6:1: title is still the template's; say what your own pattern finds [template]" in said.err
    assert "nothing to mend but the template's text, before it is submitted" in said.out
    assert run(["pattern", "lint", str(file), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert document["warnings"][0]["line"] == 6
    assert run(["pattern", "test", str(file)]) == 0
    capsys.readouterr()
    assert run(["pattern", "new", "query_pattern", "-o", str(file)]) == 2
    assert "exists" in capsys.readouterr().err


def test_new_copies_a_starter_comments_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    name = library.starter_names()[0]
    assert run(["pattern", "new", "--from", name]) == 0
    assert capsys.readouterr().out == library.starter(name).text


@pytest.mark.parametrize(
    "arguments", [[], ["queries"], ["--from", "no-such-starter"], ["detection_method", "--from", "self-chat-scripts"]]
)
def test_new_refuses_what_it_has_not(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pattern", "new", *arguments]) == 2
    assert "error:" in capsys.readouterr().err


def test_lint_exits_2_and_prints_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(FILE.replace("severity: high", "severity: huge"))
    assert run(["pattern", "lint", str(file)]) == 2
    assert f"{file}:7:1: 'huge' is not a severity" in capsys.readouterr().err


def test_test_exits_2_and_names_what_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(FILE.replace("      - prompt.text: Hello", "      - prompt.text: Continue the list!"))
    assert run(["pattern", "lint", str(file)]) == 0
    assert run(["pattern", "test", str(file)]) == 2
    printed = capsys.readouterr().err
    assert "FAIL" in printed
    assert "small talk: event 0 matches Continue a list (expected no_match, got match)" in printed

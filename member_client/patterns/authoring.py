"""Reading a pattern file, and saying everything that is wrong with it: file, line, what, how to mend.

The checks are those that the hub and every other lab will make, from the same functions. All of them run as far as
what is wrong allows, so that a file is mended in one round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from member_client.named_files import read_named
from member_client.patterns.leftovers import left_from_template
from member_client.patterns.pattern_file import body_of, help_for, problem_with_dates, unknown_keys
from member_client.patterns.yaml_document import MAX_BYTES, BadYaml, Position, YamlDocument, parse
from sharing_protocol import statements, strict_json
from sharing_protocol.admission import check_dates
from sharing_protocol.content import check_pattern
from sharing_protocol.envelope import STATEMENT_TYPE, Envelope, Signature
from sharing_protocol.errors import Malformed, Refused
from sharing_protocol.keys import SIGNATURE_BYTES
from sharing_protocol.pattern_logic import Logic, LogicError, TestReport, compile_logic, run_tests
from sharing_protocol.pattern_logic.testing import INVALID
from sharing_protocol.personal_data import find_personal_data
from sharing_protocol.statements import Marking, Pattern, PatternBody, Playbook, ReferralCriteria, new_id
from sharing_protocol.statements.handling import Handling
from sharing_protocol.statements.header import SCHEMA
from sharing_protocol.strict_json import Json

_NOBODY = new_id("member", UUID(int=0))
_NOTHING = "0" * 64


@dataclass(frozen=True, slots=True)
class FileIssue:
    """One thing to mend in a file.

    Attributes:
        line, column: from 1.
        what: what is wrong, as a clause.
        mend: what to write instead.
        code: stable name of the kind of problem (snake_case).
    """

    file: str
    line: int
    column: int
    what: str
    mend: str
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}; {self.mend} [{self.code}]"

    def document(self) -> dict[str, Any]:
        """The same for scripts, below the file's name."""
        return {"line": self.line, "column": self.column, "what": self.what, "mend": self.mend, "code": self.code}


@dataclass(frozen=True, slots=True)
class WrittenPattern:
    """A pattern file without issues.

    Attributes:
        digest: hex SHA-256 of the file's bytes.
        body: the statement's body as JSON, ready for `publishing.draft`.
        content: the same, typed.
        logic: compiled.
    """

    file: str
    digest: str
    body: dict[str, Json]
    content: PatternBody
    logic: Logic

    def run_tests(self) -> TestReport:
        """Run the pattern's own tests."""
        return run_tests(self.logic, [test.model_dump(mode="json") for test in self.content.tests])


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a file gave: the pattern, or what is wrong; in the order of the file.

    Attributes:
        warnings: what is sound, but must not be published.
    """

    file: str
    pattern: WrittenPattern | None
    issues: tuple[FileIssue, ...]
    warnings: tuple[FileIssue, ...] = ()


def read(path: Path, now: datetime) -> Reading:
    """Read and check a pattern file.

    Args:
        now: in UTC; the pattern's dates are judged as if it were submitted then.

    Raises:
        InvalidInput: the file cannot be read at all.
    """
    return read_bytes(read_named(path, MAX_BYTES), str(path), now)


def read_bytes(data: bytes, name: str, now: datetime) -> Reading:
    """The same for bytes in hand; `name` is what issues call the file."""
    try:
        document = parse(data)
    except BadYaml as bad:
        return Reading(name, None, (_issue(name, bad.position, bad.what, bad.mend, bad.code),))
    if not isinstance(document.value, dict):
        what, mend = "a pattern file is a map of keys to values", "start from `stillwatch pattern new`"
        return Reading(name, None, (_issue(name, document.locate(""), what, mend, "wrong_type"),))
    return _Check(name, document, document.value, now).run(hashlib.sha256(data).hexdigest())


def _issue(name: str, position: Position, what: str, mend: str, code: str) -> FileIssue:
    return FileIssue(name, position.line, position.column, what, mend, code)


class _Check:
    """One file under examination."""

    def __init__(self, name: str, document: YamlDocument, value: dict[str, Json], now: datetime) -> None:
        self._name = name
        self._document = document
        self._value = value
        self._now = now
        self._issues: list[FileIssue] = []

    def run(self, digest: str) -> Reading:
        body = body_of(self._value, self._now)
        self._check_keys()
        content = self._schema(body)
        logic = self._logic(body.get("logic"))
        for finding in find_personal_data(self._value):
            self._add(finding.where, f"this looks like {finding.kind}", finding.mend, "personal_data")
        pattern = None
        if content is not None:
            self._check_dates_and_size(content)
            if logic is not None:
                self._check_content(content, logic)
                pattern = WrittenPattern(self._name, digest, body, content, logic)
        warnings = [
            _issue(self._name, self._document.locate(path), f"{_place(path)} is still the template's", mend, "template")
            for path, mend in left_from_template(self._value)
        ]
        issues = _in_order(self._issues)
        return Reading(self._name, None if issues else pattern, issues, _in_order(warnings))

    def _add(self, path: str, what: str, mend: str, code: str) -> None:
        self._issues.append(_issue(self._name, self._document.locate(path), what, mend, code))

    def _check_keys(self) -> None:
        for path, key, mend in unknown_keys(self._value):
            self._add(path, f"there is no key {key[:80]!r} here", mend, "unknown_key")
        if (problem := problem_with_dates(self._value)) is not None:
            self._add(problem[0], problem[1], help_for(problem[0]), "invalid_dates")
        if self._value.get("marking") == Marking.RED:
            self._add("marking", "TLP:RED is for named recipients only", "use amber+strict", "red_needs_sealing")

    def _schema(self, body: dict[str, Json]) -> PatternBody | None:
        try:
            return PatternBody.model_validate_json(strict_json.dumps(body))
        except ValidationError as error:
            for path, details in _by_path(error.errors(include_url=False)).items():
                # an unknown key was named already, and so was a missing end of validity
                if details["type"] != "extra_forbidden" and not (path == "valid_until" and path not in self._value):
                    self._add(path, *explain(path, details, help_for), "invalid_value")
            return None

    def _logic(self, documents: Json) -> Logic | None:
        if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
            return None  # the schema has said so
        try:
            return compile_logic([document for document in documents if isinstance(document, dict)])
        except LogicError as error:
            for issue in error.issues:
                self._add(issue.where, issue.what, issue.mend, issue.code)
            return None

    def _check_dates_and_size(self, content: PatternBody) -> None:
        for where, what, code in problems_as_statement(Pattern, content, self._now):
            path = where.removeprefix("body.")
            if path == "valid_until" and path not in self._value:
                path = "valid_for_days"
            self._add(path, what, help_for(path) if path else "shorten the description or the tests", code)

    def _check_content(self, content: PatternBody, logic: Logic) -> None:
        report = run_tests(logic, [test.model_dump(mode="json") for test in content.tests])
        for position, result in enumerate(report.results):
            if result.got == INVALID:
                self._add(f"tests[{position}].events", result.detail, help_for("tests[].events"), "invalid_test")
        for missing in report.missing:
            self._add("tests", missing, help_for("tests"), "missing_test")
        try:
            check_pattern(content)
        except Refused as refused:
            if refused.code == "invalid_statement":  # failing tests are for `pattern test` to tell
                self._add("method", refused.detail, help_for("method"), refused.code)


def _in_order(issues: list[FileIssue]) -> tuple[FileIssue, ...]:
    return tuple(sorted(dict.fromkeys(issues), key=lambda issue: (issue.line, issue.column)))


def _place(path: str) -> str:
    """What stands at a path, in words."""
    names = {"logic": "this rule's title", "tests": "this test's name", "references": "this reference"}
    return names.get(path.partition("[")[0], path)


def _by_path(errors: list[ErrorDetails]) -> dict[str, ErrorDetails]:
    """The first error of each place; a number that is neither whole nor decimal fails twice in one."""
    found: dict[str, ErrorDetails] = {}
    for error in errors:
        steps = [step for step in error["loc"] if step not in ("int", "float")]
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
        found.setdefault(path, error)
    return found


def explain(path: str, error: ErrorDetails, help_for: Callable[[str], str]) -> tuple[str, str]:
    """What is wrong, and how to mend it."""
    name = path.rpartition(".")[2]
    if error["type"] == "missing":
        return f"{name} is missing", help_for(path)
    if error["input"] is None:
        return f"{name} is empty", help_for(path)
    context: dict[str, Any] = error.get("ctx", {})
    if error["type"] == "enum":
        return f"{str(error['input'])[:80]!r} is not a {name}", f"write one of {context['expected']}"
    what = str(context["error"]) if error["type"] == "value_error" else error["msg"]
    return f"{name}: {what.replace('Input should', 'it should', 1)}", help_for(path)


def problems_as_statement(
    model: type[Pattern | Playbook | ReferralCriteria], body: Handling, now: datetime
) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a record's dates and size if it were published now.

    Yields:
        Path into the statement ("" for all of it), what is wrong, and its code.
    """
    (kind,) = get_args(model.model_fields["type"].annotation)
    statement = model.model_validate(
        {
            "schema": SCHEMA,
            "forum": _NOTHING,
            "type": kind,
            "id": new_id(kind.replace("_", "-"), UUID(int=0)),
            "version": 1,
            "previous": _NOTHING,
            "author": _NOBODY,
            "created": now,
            "body": body,
        }
    )
    try:
        check_dates(statement)
    except Refused as refused:
        yield refused.where, refused.detail, refused.code
    try:
        payload = statements.encode(statement)
        Envelope(payload, STATEMENT_TYPE, (Signature(_NOTHING, bytes(SIGNATURE_BYTES)),)).encode()
    except Malformed as error:
        yield "", f"once signed, {error.detail}", error.code

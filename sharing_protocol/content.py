"""Whether a record's content is sound: its logic compiles and its own tests pass, its steps are steps that people walk
through to an end, and it tells nothing it must not.

Independent of the log's state, and a thousand times slower than `admission`. The author's client asks before it
signs, the hub before it sequences, and every consumer before it puts a pattern in force.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sharing_protocol.errors import Refused
from sharing_protocol.pattern_logic import Logic, LogicError, compile_logic, run_tests
from sharing_protocol.personal_data import find_personal_data
from sharing_protocol.playbooks import Workflow, read_workflow
from sharing_protocol.statements import Pattern, PatternBody, PatternKind, Playbook, RecordStatement, Statement
from sharing_protocol.statements.playbooks import PlaybookBody

MAX_CLOCK_SKEW = timedelta(minutes=5)


def check_pattern(body: PatternBody) -> Logic:
    """Compile a pattern's logic and run its own tests.

    Returns:
        The compiled logic, ready to use.

    Raises:
        Refused: `invalid_logic`, `tests_failed`, `invalid_statement` for a method where none belongs.
    """
    if (body.method is not None) != (body.kind is PatternKind.DETECTION_METHOD):
        raise Refused("invalid_statement", "a detection_method, and no other kind, has a method", "body.method")
    try:
        logic = compile_logic(body.logic)
    except LogicError as error:
        first = error.issues[0]
        more = f" (and {len(error.issues) - 1} more)" if len(error.issues) > 1 else ""
        raise Refused("invalid_logic", f"{first.what}: {first.mend}{more}", f"body.{first.where}") from error
    report = run_tests(logic, [test.model_dump(mode="json") for test in body.tests])
    failed = [result for result in report.results if not result.passed]
    if failed:
        names = ", ".join(repr(result.name) for result in failed[:5])
        raise Refused(
            "tests_failed",
            f"the pattern fails {len(failed)} of its own {len(body.tests)} tests: {names}",
            "body.tests",
        )
    expected = {result.expected for result in report.results}
    if len(expected) < 2:
        raise Refused("tests_failed", "a pattern needs a test that must match and one that must not", "body.tests")
    return logic


def check_playbook(body: PlaybookBody) -> Workflow:
    """Read a playbook's steps.

    Returns:
        The steps, ready to be walked through.

    Raises:
        Refused: `invalid_playbook`.
    """
    try:
        return read_workflow(body.cacao)
    except Refused as refused:
        where = f"body.cacao.{refused.where}".rstrip(".")
        raise Refused("invalid_playbook", refused.detail, where) from refused


def check_privacy(statement: Statement) -> None:
    """Refuse what looks like personal data or a secret anywhere in a record.

    Raises:
        Refused: `personal_data`, naming the place but never the value.
    """
    if not isinstance(statement, RecordStatement):
        return
    findings = find_personal_data(statement.body.model_dump(mode="json", by_alias=True), "body")
    if findings:
        first = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise Refused("personal_data", f"this looks like {first.kind}: {first.mend}{more}", first.where)


def check_clock(statement: Statement, now: datetime) -> None:
    """Refuse a statement that claims to be written in the future.

    Raises:
        Refused: `invalid_dates`.
    """
    if statement.created > now + MAX_CLOCK_SKEW:
        raise Refused("invalid_dates", "created is in the future: check this machine's clock", "created")


def check_content(statement: Statement) -> None:
    """Everything about a statement's content that the log's state does not decide.

    Raises:
        Refused: what `check_pattern`, `check_playbook` and `check_privacy` raise.
    """
    check_privacy(statement)
    if isinstance(statement, Pattern):
        check_pattern(statement.body)
    if isinstance(statement, Playbook):
        check_playbook(statement.body)

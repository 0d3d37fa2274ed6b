"""`stillwatch pattern new | starters | lint | test`: working on pattern files; none of these needs a home or a hub."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import JsonOption, say
from member_client.errors import InvalidInput
from member_client.named_files import write_new
from member_client.patterns import library
from member_client.patterns.authoring import FileIssue, Reading, WrittenPattern, read, read_bytes
from sharing_protocol.pattern_logic import TestReport
from sharing_protocol.statements import PatternKind

FilesArgument = Annotated[list[Path], typer.Argument(help="Pattern files.", show_default=False)]


def new(
    kind: Annotated[
        str, typer.Argument(help="query_pattern, behavioral_signature or detection_method.", show_default=False)
    ] = "",
    starter: Annotated[
        str, typer.Option("--from", help="Start from this starter pattern instead of a template.", metavar="STARTER")
    ] = "",
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this new file.", metavar="FILE")] = None,
) -> None:
    """Print (or write) a commented pattern file to start from."""
    text = _start(kind.replace("-", "_"), starter)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_new(out, text)
    say(f"{out} written; edit it, then: stillwatch pattern lint {out} && stillwatch pattern test {out}")


def starters(as_json: JsonOption = False) -> None:
    """List the starter patterns that ship with the client."""
    rows = []
    for name in library.starter_names():
        reading = read_bytes(library.starter(name).text.encode(), f"{name}.yaml", now())
        pattern = usable(reading).content
        rows.append({"name": name, "kind": pattern.kind.value, "title": pattern.title})
    if as_json:
        output.print_json(rows)
        return
    output.table(["name", "kind", "title"], [(row["name"], row["kind"], row["title"]) for row in rows])


def lint_files(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Say everything that is wrong with pattern files: file, line, what, how to mend. Exits 2 if anything is.

    Text that is still the template's is warned of; `submit` refuses it.
    """
    readings = [read(file, now()) for file in files]
    if as_json:
        output.print_json([_linted(reading) for reading in readings])
    else:
        for reading in readings:
            report_issues(reading.issues)
            report_issues(reading.warnings, "yellow")
            if reading.pattern is not None:
                only = " but the template's text, before it is submitted" if reading.warnings else ""
                say(f"{reading.file}: nothing to mend{only}", "yellow" if only else "green")
    if any(reading.issues for reading in readings):
        raise typer.Exit(InvalidInput.exit_code)


def try_files(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Run patterns' own tests. Exits 2 if any fails, or if a file does not lint."""
    readings = [read(file, now()) for file in files]
    tried = [(reading, reading.pattern.run_tests() if reading.pattern else None) for reading in readings]
    if as_json:
        output.print_json([_linted(reading) | _tested(report) for reading, report in tried])
    else:
        for reading, report in tried:
            report_issues(reading.issues)
            if report is not None:
                report_tests(reading.file, report)
    if not all(report is not None and report.passed for _, report in tried):
        raise typer.Exit(InvalidInput.exit_code)


def read_for_submission(files: Sequence[Path], moment: datetime) -> list[WrittenPattern]:
    """Read files that shall be published; all of them must be in order before any is.

    Raises:
        InvalidInput: something is to be mended, fails its own tests, or still says what a template says.
    """
    patterns = []
    for file in files:
        reading = read(file, moment)
        report_issues(reading.issues)
        pattern = usable(reading)
        report = pattern.run_tests()
        if not report.passed:
            report_tests(reading.file, report)
            raise InvalidInput(
                f"{file} fails its own tests, so nothing was submitted", f"see `stillwatch pattern test {file}`"
            )
        if reading.warnings:
            report_issues(reading.warnings)
            raise InvalidInput(
                f"{file} still has the template's text, so nothing was submitted; the first: {reading.warnings[0]}",
                f"see `stillwatch pattern lint {file}`",
            )
        patterns.append(pattern)
    return patterns


def usable(reading: Reading) -> WrittenPattern:
    """The pattern of a file without issues.

    Raises:
        InvalidInput: it has some.
    """
    if reading.pattern is None:
        raise to_mend(reading.file, reading.issues, "pattern lint")
    return reading.pattern


def to_mend(file: str | Path, issues: Sequence[FileIssue], linter: str) -> InvalidInput:
    """Why a file with issues is of no use, and the command that tells them all."""
    count = f"{len(issues)} issue{'s' if len(issues) > 1 else ''}"
    return InvalidInput(f"{file} has {count} to mend, the first: {issues[0]}", f"see `stillwatch {linter} {file}`")


def now() -> datetime:
    """This moment, in UTC and whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def report_issues(issues: Sequence[FileIssue], style: str = "red") -> None:
    """Print issues, one a line, as compilers do."""
    for issue in issues:
        output.warn(str(issue), style)


def report_tests(file: str, report: TestReport) -> None:
    """Print how each test went."""
    for result in report.results:
        verdict, style = ("pass", "green") if result.passed else ("FAIL", "bold red")
        expected = "" if result.passed else f" (expected {result.expected}, got {result.got})"
        output.warn(f"{verdict}  {file}: {result.name}: {result.detail}{expected}", style)
    for missing in report.missing:
        output.warn(f"FAIL  {file}: {missing}", "bold red")


def _start(kind: str, starter: str) -> str:
    if kind and kind not in set(PatternKind):
        raise InvalidInput(f"{kind!r} is not a kind of pattern", f"use one of {', '.join(PatternKind)}")
    if not starter:
        if not kind:
            raise InvalidInput("which kind of pattern?", f"name one of {', '.join(PatternKind)}, or --from STARTER")
        return library.template(PatternKind(kind))
    text = library.starter(starter).text
    found = usable(read_bytes(text.encode(), f"{starter}.yaml", now())).content.kind
    if kind and kind != found:
        raise InvalidInput(f"{starter} is a {found}, not a {kind}", "leave the kind out")
    return text


def _linted(reading: Reading) -> dict[str, Any]:
    return {
        "file": reading.file,
        "ok": not reading.issues,
        "issues": [issue.document() for issue in reading.issues],
        "warnings": [issue.document() for issue in reading.warnings],
    }


def _tested(report: TestReport | None) -> dict[str, Any]:
    if report is None:
        return {"passed": False, "tests": [], "missing": []}
    return {
        "passed": report.passed,
        "tests": [
            {
                "name": result.name,
                "expected": result.expected,
                "got": result.got,
                "passed": result.passed,
                "detail": result.detail,
            }
            for result in report.results
        ],
        "missing": list(report.missing),
    }

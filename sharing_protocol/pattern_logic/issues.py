"""What is wrong with a pattern's logic: every issue at once, each with its place and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass

from sharing_protocol.errors import Malformed


@dataclass(frozen=True, slots=True)
class LogicIssue:
    """One thing to mend.

    Attributes:
        where: path into the record, such as `logic[0].detection.selection.prompt.text|re[1]`.
        what: what is wrong, as a clause without a full stop.
        mend: what to write instead.
        code: stable name of the kind of issue (snake_case).
    """

    where: str
    what: str
    mend: str
    code: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.mend}"


class LogicError(Malformed):
    """The logic does not compile.

    Attributes:
        issues: all that was found, in the order of the documents; never empty.
    """

    def __init__(self, issues: tuple[LogicIssue, ...]) -> None:
        others = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        super().__init__("pattern_logic", f"{issues[0]}{others}")
        self.issues = issues


class IssueList:
    """Collects issues while documents are checked."""

    def __init__(self) -> None:
        self._issues: list[LogicIssue] = []

    def add(self, where: str, code: str, what: str, mend: str) -> None:
        self._issues.append(LogicIssue(where, what, mend, code))

    def __len__(self) -> int:
        return len(self._issues)

    def raise_if_any(self) -> None:
        """Raise LogicError with everything collected so far, if there is anything."""
        if self._issues:
            raise LogicError(tuple(self._issues))

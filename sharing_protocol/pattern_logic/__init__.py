"""The detection logic of a pattern: Sigma rules and correlations over the log sources of `docs/log-sources.md`.

`compile_logic` takes the JSON documents of a record and gives a `Logic`, or raises `LogicError` with all that is
wrong and how to mend it. The evaluator here is plain Python and is the definition: an engine that answers
otherwise is wrong. Whatever Sigma has is either supported with one exact meaning or refused with a reason.

    logic = compile_logic(record["logic"])
    report = run_tests(logic, record["tests"])
    names = logic.match_event({"prompt.text": "…"})

To ask many patterns about one event, make one `Event` of it and pass that. To follow a stream with patterns that
have correlations, keep an `Evaluation` for each.
"""

from sharing_protocol.pattern_logic.compiling import compile_logic
from sharing_protocol.pattern_logic.events import Event
from sharing_protocol.pattern_logic.issues import LogicError, LogicIssue
from sharing_protocol.pattern_logic.logic import Evaluation, Logic, Match, MatchedWindow
from sharing_protocol.pattern_logic.testing import TestReport, TestResult, run_tests

__all__ = [
    "Evaluation",
    "Event",
    "Logic",
    "LogicError",
    "LogicIssue",
    "Match",
    "MatchedWindow",
    "TestReport",
    "TestResult",
    "compile_logic",
    "run_tests",
]

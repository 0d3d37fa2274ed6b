"""From a checked Sigma document to our condition tree; the only module that knows pySigma's classes.

pySigma (2.0.1 or later: older ones cut 0.75 to 0) parses the values with their escapes, the modifiers and the
condition's grammar. Only its parser is used: no plugin, pipeline, validator or backend, hence no network and no disk.
Importing it takes about 0.2 s, so `compile_logic` imports this module when it is first called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
)
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaConditionError, SigmaError
from sigma.rule import SigmaRule
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaType,
    SpecialChars,
)

from sharing_protocol.pattern_logic.conditions import (
    All,
    BooleanTest,
    Comparison,
    Condition,
    Either,
    Glob,
    NetworkTest,
    Not,
    NumberTest,
    PresenceTest,
    RegexTest,
    SameAs,
    TextTest,
    Wildcard,
)
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.pattern_logic.regexes import with_flags
from sharing_protocol.strict_json import Json

_COMPARISONS = {
    CompareOperators.LT: Comparison.LT,
    CompareOperators.LTE: Comparison.LTE,
    CompareOperators.GT: Comparison.GT,
    CompareOperators.GTE: Comparison.GTE,
}
_WILDCARDS = {SpecialChars.WILDCARD_MULTI: Wildcard.RUN, SpecialChars.WILDCARD_SINGLE: Wildcard.ONE}
_CONDITION_MEND = (
    "use selection names, `and`, `or`, `not`, brackets, `1 of name*`, `all of name*` and `them`, in lower case"
)


def parse_rule(document: Mapping[str, Json], where: str, issues: IssueList) -> Condition | None:
    """Parse a rule that `check_documents` has passed; None, with the issues reported, if pySigma refuses it."""
    rule = SigmaRule.from_dict(dict(document), collect_errors=True)
    if rule.errors:
        _report(rule.errors, where, issues)
        return None
    parts: list[Condition] = []
    for number, condition in enumerate(rule.detection.parsed_condition):
        place = f"{where}.detection.condition"
        if len(rule.detection.parsed_condition) > 1:
            place = f"{place}[{number}]"
        try:
            tree = condition.parse()
        except SigmaConditionError as error:
            issues.add(place, "bad_condition", str(error), _CONDITION_MEND)
        else:
            parts.append(_convert(tree))
    if len(parts) != len(rule.detection.parsed_condition):
        return None
    return _joined(Either, parts)


def check_correlation_metadata(document: Mapping[str, Json], where: str, issues: IssueList) -> None:
    """Let pySigma check what all documents share (title, id, date, tags, …) of a correlation that we have checked.

    A range of two comparisons is in the specification but not in pySigma, so it sees the first one only.
    """
    part = document["correlation"]
    if not isinstance(part, Mapping):
        raise TypeError("check_documents lets only maps through")
    condition = part.get("condition")
    if isinstance(condition, Mapping):
        comparisons = [key for key in condition if key in set(Comparison)]
        part = {**part, "condition": {key: value for key, value in condition.items() if key not in comparisons[1:]}}
    rule = SigmaCorrelationRule.from_dict({**document, "correlation": dict(part)}, collect_errors=True)
    _report(rule.errors, where, issues)


def _report(errors: list[SigmaError], where: str, issues: IssueList) -> None:
    for error in errors:
        # "SigmaTitleError" and its like name the key that is wrong
        key = type(error).__name__.removeprefix("Sigma").removesuffix("Error").lower()
        issues.add(where, "sigma", str(error), f"see the Sigma specification on `{key}`")


def _convert(tree: object) -> Condition:
    if isinstance(tree, ConditionAND):
        return _joined(All, [_convert(part) for part in tree.args])
    if isinstance(tree, ConditionOR):
        return _joined(Either, [_convert(part) for part in tree.args])
    if isinstance(tree, ConditionNOT):
        return Not(_convert(tree.args[0]))
    if isinstance(tree, ConditionFieldEqualsValueExpression):
        return _convert_test(tree.field, tree.value)
    raise TypeError(f"check_documents lets no {type(tree).__name__} through")


def _joined(kind: type[All | Either], parts: Sequence[Condition]) -> Condition:
    """All or either of the parts. What is there twice says nothing new, and would cost every engine twice."""
    different = tuple(dict.fromkeys(parts))
    return different[0] if len(different) == 1 else kind(different)


def _convert_test(field: str, value: SigmaType) -> Condition:
    if isinstance(value, SigmaString):
        return TextTest(field, _glob(value), cased=isinstance(value, SigmaCasedString))
    if isinstance(value, SigmaRegularExpression):
        flags = (value.sigma_to_re_flag[flag] for flag in value.flags)
        return RegexTest(field, with_flags(str(value.regexp), flags))
    if isinstance(value, SigmaCompareExpression):
        return NumberTest(field, _COMPARISONS[value.op], value.number.number)
    if isinstance(value, SigmaNumber):
        return NumberTest(field, Comparison.EQ, value.number)
    if isinstance(value, SigmaBool):
        return BooleanTest(field, value.boolean)
    if isinstance(value, SigmaNull):
        return PresenceTest(field, present=False)
    if isinstance(value, SigmaExists):
        return PresenceTest(field, present=value.exists)
    if isinstance(value, SigmaCIDRExpression):
        return NetworkTest(field, value.network)
    if isinstance(value, SigmaFieldReference):
        return SameAs(field, value.field)
    raise TypeError(f"check_documents lets no {type(value).__name__} through")


def _glob(value: SigmaString) -> Glob:
    glob: list[str | Wildcard] = []
    for part in value.s:
        if isinstance(part, str):
            glob.append(part)
        elif isinstance(part, SpecialChars):
            glob.append(_WILDCARDS[part])
        else:
            raise TypeError("check_documents lets no placeholder through")
    return tuple(glob)

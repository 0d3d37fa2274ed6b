"""From a record's Sigma documents to `Logic`: check the JSON, let pySigma parse it, build the predicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sharing_protocol.pattern_logic.catalogue import Category, fields_in
from sharing_protocol.pattern_logic.conditions import Condition
from sharing_protocol.pattern_logic.correlation_documents import (
    counted_field,
    criteria,
    group_fields,
    references,
    timespan_seconds,
)
from sharing_protocol.pattern_logic.correlations import Correlation
from sharing_protocol.pattern_logic.documents import check_documents, label
from sharing_protocol.pattern_logic.events import MICROSECONDS, Event
from sharing_protocol.pattern_logic.issues import IssueList
from sharing_protocol.pattern_logic.logic import Logic, Rule
from sharing_protocol.pattern_logic.predicates import build
from sharing_protocol.strict_json import Json

Document = Mapping[str, Json]


def compile_logic(documents: Sequence[Document]) -> Logic:
    """Check and compile a record's Sigma documents.

    Args:
        documents: Sigma rules and correlations, as JSON.

    Raises:
        LogicError: with every issue found; issues in the grammar of conditions show once all else is in order.
    """
    issues = IssueList()
    check_documents(documents, issues)
    issues.raise_if_any()
    conditions = _parse(documents, issues)
    issues.raise_if_any()
    category = _category(documents)
    silent = _only_referenced(documents)
    rules = _rules(documents, conditions, category, silent, issues)
    issues.raise_if_any()
    return Logic(category, rules, _correlations(documents, silent))


def _parse(documents: Sequence[Document], issues: IssueList) -> dict[int, Condition]:
    # Imported when first needed: it takes 0.2 s, which a command that compiles nothing should not wait for.
    from sharing_protocol.pattern_logic import sigma_rules

    conditions: dict[int, Condition] = {}
    for index, document in enumerate(documents):
        if "correlation" in document:
            sigma_rules.check_correlation_metadata(document, f"logic[{index}]", issues)
        else:
            condition = sigma_rules.parse_rule(document, f"logic[{index}]", issues)
            if condition is not None:
                conditions[index] = condition
    return conditions


def _category(documents: Sequence[Document]) -> Category:
    sources = (document.get("logsource") for document in documents)
    return next(Category(str(source["category"])) for source in sources if isinstance(source, Mapping))


def _correlation_parts(documents: Sequence[Document]) -> Iterator[tuple[Document, Document]]:
    for document in documents:
        part = document.get("correlation")
        if isinstance(part, Mapping):
            yield document, part


def _labels(documents: Sequence[Document]) -> dict[str, str]:
    """What a document may be referred to as, to its label."""
    labels = {label(document): label(document) for document in documents}
    return labels | {str(document["id"]): label(document) for document in documents if "id" in document}


def _only_referenced(documents: Sequence[Document]) -> frozenset[str]:
    """Labels of what some correlation without `generate` refers to: Sigma gives those no matches of their own."""
    labels = _labels(documents)
    silencing = (part for _, part in _correlation_parts(documents) if part.get("generate") is not True)
    return frozenset(labels[name] for part in silencing for name in references(part))


def _rules(
    documents: Sequence[Document],
    conditions: Mapping[int, Condition],
    category: Category,
    silent: frozenset[str],
    issues: IssueList,
) -> tuple[Rule, ...]:
    catalogue = fields_in(category)
    nothing = Event({})
    rules: list[Rule] = []
    for index, condition in conditions.items():
        name = label(documents[index])
        holds = build(condition, catalogue.__getitem__)
        rules.append(Rule(name, str(documents[index]["title"]), condition, name not in silent, holds))
        if holds(nothing):
            issues.add(
                f"logic[{index}].detection",
                "matches_everything",
                "an event without any field would match",
                "demand something that must be there; `not`, `neq`, `null` and `exists: false` alone do not",
            )
    return tuple(rules)


def _correlations(documents: Sequence[Document], silent: frozenset[str]) -> tuple[Correlation, ...]:
    """All correlations, each after those that it refers to."""
    labels = _labels(documents)
    pending = {label(document): (document, part) for document, part in _correlation_parts(documents)}
    ordered: list[Correlation] = []
    while pending:
        for name, (document, part) in list(pending.items()):
            referred = tuple(labels[reference] for reference in references(part))
            if pending.keys() & set(referred):
                continue
            del pending[name]
            seconds = timespan_seconds(part["timespan"]) or 0
            ordered.append(
                Correlation(
                    name=name,
                    title=str(document["title"]),
                    kind=str(part["type"]),
                    references=referred,
                    group_by=tuple(group_fields(part)),
                    timespan=seconds * MICROSECONDS,
                    criteria=criteria(part),
                    value_field=counted_field(part),
                    emits=name not in silent,
                )
            )
    return tuple(ordered)

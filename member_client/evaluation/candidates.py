"""The patterns under evaluation, where they were written from, and which of their thresholds were fitted."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from member_client.detection.in_force import RunnablePattern
from member_client.errors import InvalidInput
from member_client.patterns.authoring import Reading, read, read_bytes
from member_client.patterns.finding import listing
from member_client.patterns.library import starter, starter_names
from member_client.patterns.trials import try_new
from member_client.session import Session
from sharing_protocol.pattern_logic import Logic, compile_logic
from sharing_protocol.pattern_logic.catalogue import Category

WRITTEN_FROM: Mapping[str, frozenset[str]] = {
    "alpaca-wrapped-instructions": frozenset({"alpaca_wrapped"}),
    "evol-instruct-rewriting": frozenset({"evol_code_meta"}),
    "math-question-augmentation": frozenset({"metamath_rephrase_meta"}),
    "self-chat-scripts": frozenset({"baize_selfchat_meta"}),
    "self-instruct-bootstrapping": frozenset({"alpaca_bootstrap_meta", "self_instruct_bootstrap_meta"}),
}
"""Starter patterns that name a published method's own words, and the corpora in ../shared/corpora that hold these
words. To leave such a corpus out means to do without them."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number in a starter pattern that was fitted on corpora, not taken from a source.

    Attributes:
        rule, selection, item: where it stands, such as `component_day`, `unlike`, `window.mmd_z|gte`.
        grid: the values that were tried, the most careful one (fewest matches) first.
    """

    rule: str
    selection: str
    item: str
    grid: tuple[float, ...]


FITTED: Mapping[str, Threshold] = {
    "linked-accounts-that-divide-one-job": Threshold(
        "divided_job", "purpose_unlike", "window.mmd_z|gte", (12, 8, 5, 4, 3, 2)
    ),
    "linked-accounts-unlike-all-others": Threshold("far_component", "far", "window.mmd_z|gte", (60, 40, 30)),
}
"""By starter pattern."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pattern that is to be evaluated.

    Attributes:
        name: the starter's or the file's name, or the id of a record.
        kind: query_pattern, behavioral_signature or detection_method.
        documents: its Sigma documents.
        written_from: corpora whose own words it names.
        threshold: what was fitted in it.
    """

    name: str
    title: str
    kind: str
    documents: tuple[dict[str, Any], ...] = field(repr=False)
    logic: Logic = field(repr=False)
    written_from: frozenset[str] = frozenset()
    threshold: Threshold | None = None

    @property
    def runnable(self) -> RunnablePattern:
        """The pattern as `detect` would run it."""
        return RunnablePattern(self.name, 0, self.name, self.title, "", self.logic, self.kind)

    @property
    def category(self) -> Category:
        return self.logic.category

    def variants(self) -> Iterator[tuple[float, Candidate]]:
        """The pattern with each value of its grid; nothing if none of its thresholds was fitted."""
        if self.threshold is None:
            return
        for value in self.threshold.grid:
            documents = copy.deepcopy(self.documents)
            for document in documents:
                if document.get("name") == self.threshold.rule:
                    document["detection"][self.threshold.selection][self.threshold.item] = value
            yield value, replace(self, documents=documents, logic=compile_logic(list(documents)))


def starters(names: Sequence[str] = ()) -> list[Candidate]:
    """The starter patterns, or of these the named ones.

    Raises:
        InvalidInput: there is none of a name.
    """
    now = _now()
    return [
        replace(
            _candidate(read_bytes(starter(name).text.encode(), name, now), name),
            written_from=WRITTEN_FROM.get(name, frozenset()),
            threshold=FITTED.get(name),
        )
        for name in names or starter_names()
    ]


def from_file(path: Path) -> Candidate:
    """A pattern file.

    Raises:
        InvalidInput: it is not sound.
    """
    return _candidate(read(path, _now()), path.stem)


def in_force(session: Session) -> list[Candidate]:
    """The patterns that are active here and passed their trial."""
    try_new(session.store)
    found: list[Candidate] = []
    for version in session.store.versions(type="pattern", newest_only=True):
        if listing(version, session.membership, session.now).state != "active" or version.trial is None:
            continue
        content = session.store.pattern(version).body
        documents = tuple(content.logic)
        found.append(Candidate(version.id, content.title, str(content.kind), documents, compile_logic(list(documents))))
    return found


def _candidate(reading: Reading, name: str) -> Candidate:
    if reading.pattern is None:
        first = reading.issues[0]
        raise InvalidInput(f"{first.file}:{first.line}: {first.what}", "`stillwatch pattern lint` tells everything")
    content = reading.pattern.content
    logic = reading.pattern.logic
    return Candidate(name, content.title, str(content.kind), tuple(content.logic), logic)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)

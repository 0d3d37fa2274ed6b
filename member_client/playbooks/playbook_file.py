"""Reading a playbook file, and saying everything that is wrong with it: file, line, what, how to mend it.

`docs/playbook-format.md` is the same for readers. A file says less than a statement: times are written as `4 h`, dates
may be days, and the steps are what people read; the CACAO document is made of them.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from member_client.named_files import read_named
from member_client.patterns.authoring import FileIssue, explain, problems_as_statement
from member_client.patterns.pattern_file import MAX_DAYS, after_days, moment_of, problem_with_dates
from member_client.patterns.yaml_document import MAX_BYTES, BadYaml, YamlDocument, parse
from member_client.playbooks.cacao_writing import Origin, write
from member_client.playbooks.outline import STOP
from sharing_protocol import strict_json
from sharing_protocol.cacao import MAX_APPROVALS, MAX_BRANCHES, MAX_COMMANDS, MAX_STEPS, Activity
from sharing_protocol.personal_data import find_personal_data
from sharing_protocol.playbooks import Action, Block, Command, Parallel, Question, Step, Workflow, examine
from sharing_protocol.statements import Marking, Playbook, PlaybookBody, PlaybookKind, new_id
from sharing_protocol.statements.handling import Handling
from sharing_protocol.statements.header import Line, Paragraphs, StrictModel, format_timestamp
from sharing_protocol.statements.playbooks import MAX_LEVELS, MAX_MINUTES, EscalationLevel
from sharing_protocol.strict_json import Json

_TERM = re.compile(r"([0-9]{1,6}) ?(min|h|d)")
_MINUTES = {"min": 1, "h": 60, "d": 24 * 60}
_NOBODY = new_id("member", UUID(int=0, version=4))

HELP: Mapping[str, str] = {
    "kind": "write escalation_protocol or revocation_procedure",
    "title": "write one line of at most 200 characters",
    "description": "write what it is for; up to 8,000 characters",
    "marking": "write clear, green, amber or amber+strict (TLP 2.0)",
    "purpose": "write in one line what the record may be used for",
    "legal_basis": "write in one line on what basis it is shared",
    "valid_until": "write a day such as 2026-09-01, or a time such as 2026-09-01T00:00:00Z",
    "valid_for_days": f"write a whole number of days, from 1 to {MAX_DAYS}",
    "levels": f"list from 1 to {MAX_LEVELS} levels for an escalation_protocol, the lowest first; none otherwise",
    "tell": "list roles or functions that are told, no persons",
    "acknowledge_within": "write a time such as 30 min, 4 h or 2 d; at most 90 d",
    "steps": "list the steps, one after the other",
    "name": "write one line of at most 200 characters",
    "role": "write in one line which role does it or answers it; no person",
    "do": f"write what is to be done, or a list of up to {MAX_COMMANDS} things",
    "due_within": "write a time such as 30 min, 4 h or 2 d, at most 90 d; or leave it out",
    "approvals": f"write how many others approve first, up to {MAX_APPROVALS}; or leave it out",
    "activity": "write an activity of CACAO 2.0, such as restrict-access, or leave it out",
    "ask": "write a question that is answered with yes or no",
    "yes": "list the steps that follow a yes",
    "no": "list the steps that follow a no",
    "parallel": f"list from 2 to {MAX_BRANCHES} branches, each a list of steps",
}
"""Every key with what to write there."""


def _minutes(value: object) -> object:
    if isinstance(value, str) and (found := _TERM.fullmatch(value)):
        return int(found[1]) * _MINUTES[found[2]]
    raise ValueError(f"{str(value)[:80]!r} is not a length of time")


_Term = Annotated[int, BeforeValidator(_minutes), Field(ge=1, le=MAX_MINUTES)]
_Approvals = Annotated[int, Field(ge=0, le=MAX_APPROVALS)]


class _ActionItem(StrictModel):
    name: Line
    role: Line
    do: Paragraphs | Annotated[list[Paragraphs], Field(min_length=1, max_length=MAX_COMMANDS)]
    description: Paragraphs = ""
    due_within: _Term = 0
    approvals: _Approvals = 0
    activity: Activity | list[Activity | Literal[""]] | None = None


class _AskItem(StrictModel):
    ask: Line
    role: Line = ""
    description: Paragraphs = ""
    due_within: _Term = 0
    approvals: _Approvals = 0
    yes: list[_Item] = Field(default_factory=list)
    no: list[_Item] = Field(default_factory=list)


class _ParallelItem(StrictModel):
    name: Line = "At the same time"
    description: Paragraphs = ""
    parallel: Annotated[list[list[_Item]], Field(min_length=2, max_length=MAX_BRANCHES)]


def _kind_of(item: object) -> str:
    """Which kind of step an item is; the sign sets it apart from a key of the file in pydantic's paths."""
    if isinstance(item, str):
        return "@stop"
    keys = item if isinstance(item, dict) else getattr(item, "__dict__", {})
    return "@ask" if "ask" in keys else "@parallel" if "parallel" in keys else "@action"


_Item: TypeAlias = Annotated[
    Annotated[_ActionItem, Tag("@action")]
    | Annotated[_AskItem, Tag("@ask")]
    | Annotated[_ParallelItem, Tag("@parallel")]
    | Annotated[Literal["stop"], Tag("@stop")],
    Discriminator(_kind_of),
]


class _LevelItem(StrictModel):
    name: Line
    tell: Annotated[list[Line], Field(min_length=1, max_length=32)]
    acknowledge_within: _Term
    approvals: Annotated[int, Field(ge=1, le=16)] = 1


class _File(Handling):
    kind: Annotated[PlaybookKind, Field(strict=False)]
    title: Line
    description: Paragraphs
    levels: Annotated[list[_LevelItem], Field(max_length=MAX_LEVELS)] = Field(default_factory=list)
    steps: Annotated[list[_Item], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class WrittenPlaybook:
    """A playbook file without issues.

    Attributes:
        digest: hex SHA-256 of the file's bytes.
        content: the statement's body, with a document that is nobody's yet.
        workflow: its steps.
    """

    file: str
    digest: str
    content: PlaybookBody
    workflow: Workflow

    def body(self, origin: Origin) -> dict[str, Any]:
        """The statement's body as JSON, with the document of this record."""
        document = write(self.workflow, self.content.kind, origin)
        return self.content.model_dump(mode="json") | {"cacao": document}


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a file gave: the playbook, or what is wrong; in the order of the file."""

    file: str
    playbook: WrittenPlaybook | None
    issues: tuple[FileIssue, ...]


def read(path: Path, now: datetime) -> Reading:
    """Read and check a playbook file.

    Args:
        now: in UTC; dates are judged as if it were submitted then.

    Raises:
        InvalidInput: the file cannot be read at all.
    """
    return read_bytes(read_named(path, MAX_BYTES), str(path), now)


def read_bytes(data: bytes, name: str, now: datetime) -> Reading:
    """The same for bytes in hand; `name` is what issues call the file."""
    try:
        document = parse(data)
    except BadYaml as bad:
        mend = "start from `stillwatch playbook new`" if bad.code == "empty" else bad.mend
        issue = FileIssue(name, bad.position.line, bad.position.column, bad.what, mend, bad.code)
        return Reading(name, None, (issue,))
    if not isinstance(document.value, dict):
        mend = "start from `stillwatch playbook new`"
        return Reading(name, None, (FileIssue(name, 1, 1, "a playbook file is a map of keys", mend, "wrong_type"),))
    return _Check(name, document, document.value, now).run(hashlib.sha256(data).hexdigest())


class _Check:
    """One file under examination."""

    def __init__(self, name: str, document: YamlDocument, value: dict[str, Json], now: datetime) -> None:
        self._name = name
        self._document = document
        self._value = value
        self._now = now
        self._issues: list[FileIssue] = []

    def run(self, digest: str) -> Reading:
        if (problem := problem_with_dates(self._value)) is not None:
            self._add(problem[0], problem[1], _help(problem[0]), "invalid_dates")
        if self._value.get("marking") == Marking.RED:
            self._add("marking", "TLP:RED is for named recipients only", "use amber+strict", "red_needs_sealing")
        for finding in find_personal_data(self._value):
            self._add(finding.where, f"this looks like {finding.kind}", finding.mend, "personal_data")
        read = self._schema()
        if read is not None and (count := _count(read.steps)) > MAX_STEPS:
            self._add("steps", f"there are {count:,} steps", f"use at most {MAX_STEPS}", "invalid_playbook")
            read = None
        steps = _Steps(self._add).block(read.steps, "steps") if read is not None else ()
        playbook = None
        if read is not None and not self._issues:
            playbook = self._playbook(read, Workflow(read.title, read.description, steps), digest)
        issues = tuple(sorted(dict.fromkeys(self._issues), key=lambda issue: (issue.line, issue.column)))
        return Reading(self._name, None if issues else playbook, issues)

    def _add(self, path: str, what: str, mend: str, code: str) -> None:
        position = self._document.locate(path)
        self._issues.append(FileIssue(self._name, position.line, position.column, what, mend, code))

    def _schema(self) -> _File | None:
        document = {key: _stripped(value) for key, value in self._value.items() if key != "valid_for_days"}
        if "valid_until" in document:
            document["valid_until"] = moment_of(document["valid_until"])
        elif (end := after_days(format_timestamp(self._now), self._value.get("valid_for_days"))) is not None:
            document["valid_until"] = end
        try:
            return _File.model_validate_json(strict_json.dumps(document))
        except ValidationError as error:
            for path, details in _by_path(error.errors(include_url=False)):
                if path == "valid_until" and path not in self._value:
                    continue  # that there is no end of validity was said already
                if details["type"] == "extra_forbidden":
                    self._add(path, f"there is no key {_last(path)[:80]!r} here", _near(_last(path)), "unknown_key")
                else:
                    self._add(path, *explain(path, details, _help), "invalid_value")
            return None

    def _playbook(self, read: _File, workflow: Workflow, digest: str) -> WrittenPlaybook | None:
        nobody = Origin(new_id("playbook", UUID(int=0, version=4)), _NOBODY, self._now, self._now)
        document = write(workflow, read.kind, nobody)
        for finding in examine(document)[1]:
            self._add("steps", finding.what, finding.mend, "invalid_playbook")
        body = read.model_dump(mode="json", exclude={"levels", "steps"}) | {
            "levels": [_level(level).model_dump() for level in read.levels],
            "cacao": document,
        }
        try:
            content = PlaybookBody.model_validate_json(strict_json.dumps(body))
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self._add("levels", *explain("levels", details, _help), "invalid_value")
            return None
        for where, what, code in problems_as_statement(Playbook, content, self._now):
            path = where.removeprefix("body.")
            if path == "valid_until" and path not in self._value:
                path = "valid_for_days"
            self._add(path, what, _help(path) if path else "shorten the description or the steps", code)
        return WrittenPlaybook(self._name, digest, content, workflow)


def _count(items: Sequence[Any]) -> int:
    """Steps of a file, before anything is made of them: each that follows a question that stops is nested in it."""
    return sum(1 + sum(map(_count, _branches(item))) for item in items if item != STOP)


def _branches(item: Any) -> Sequence[Sequence[Any]]:
    if isinstance(item, _AskItem):
        return item.yes, item.no
    return item.parallel if isinstance(item, _ParallelItem) else ()


def _level(item: _LevelItem) -> EscalationLevel:
    return EscalationLevel(
        name=item.name,
        tell=item.tell,
        acknowledge_within_minutes=item.acknowledge_within,
        approvals=item.approvals,
    )


def _stripped(value: Json) -> Json:
    """The value, its blocks of text (`|`) without the line break at their end that nobody means."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    return {key: _stripped(item) for key, item in value.items()} if isinstance(value, dict) else value


def _by_path(errors: Sequence[ErrorDetails]) -> Iterator[tuple[str, ErrorDetails]]:
    """The first error of each place of the file."""
    found: dict[str, ErrorDetails] = {}
    for error in errors:
        # besides the file's own keys and places, pydantic names the form of a value that it tried
        unknown = error["loc"][-1] if error["type"] == "extra_forbidden" else None
        steps = [step for step in error["loc"] if isinstance(step, int) or step in HELP or step == unknown]
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
        found.setdefault(path, error)
    yield from found.items()


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _help(path: str) -> str:
    return HELP.get(re.sub(r"\[[0-9]+\]", "", _last(path)), "docs/playbook-format.md lists the keys")


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, HELP, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else "docs/playbook-format.md lists the keys"


class _Steps:
    """Makes steps of a file's items."""

    def __init__(self, add: Callable[[str, str, str, str], None]) -> None:
        self._add = add

    def block(self, items: Sequence[Any], path: str, *, last: bool = True, first: int = 0) -> Block:
        """Steps one after the other.

        Args:
            last: whether nothing comes after this block, so that it may say `stop`.
            first: the place of the first item in the file's list.
        """
        steps: list[Step] = []
        for at, item in enumerate(items):
            here = f"{path}[{first + at}]"
            if item == STOP:
                self._add(here, "nothing stops here", "end a branch with it, of a question outside of others", "stop")
            elif isinstance(item, _AskItem) and (_stops(item.yes) or _stops(item.no)):
                if not last:
                    mend = "put the question after the others, or write what follows into the other branch"
                    self._add(here, "something else goes on beside or after this question", mend, "stop")
                    return tuple(steps)
                return (*steps, self._stopping(item, here, items[at + 1 :], path, first + at + 1))
            else:
                steps.append(self._step(item, here))
        return tuple(steps)

    def _stopping(self, item: _AskItem, here: str, rest: Sequence[Any], path: str, at: int) -> Question:
        """A question one of whose branches ends the playbook: what follows it is the other branch."""
        if rest and _stops(item.yes) and _stops(item.no):
            self._add(f"{path}[{at}]", "nobody comes here: both answers stop before", "leave it out", "stop")
        branches = []
        for answer, items in (("yes", item.yes), ("no", item.no)):
            kept = items[:-1] if _stops(items) else items
            branch = self.block(kept, f"{here}.{answer}")
            if not _stops(items):
                branch += self.block(rest, path, first=at)
            branches.append(branch)
        return _question(item, *branches)

    def _step(self, item: Any, here: str) -> Step:
        if isinstance(item, _AskItem):
            yes, no = (self.block(getattr(item, answer), f"{here}.{answer}", last=False) for answer in ("yes", "no"))
            return _question(item, yes, no)
        if isinstance(item, _ParallelItem):
            branches = [
                self.block(branch, f"{here}.parallel[{at}]", last=False) for at, branch in enumerate(item.parallel)
            ]
            return Parallel("", item.name, tuple(branches), item.description)
        texts = [item.do] if isinstance(item.do, str) else item.do
        said = item.activity if isinstance(item.activity, list) else [item.activity or ""] * len(texts)
        if len(said) != len(texts):
            self._add(
                f"{here}.activity", "there are more things to do than activities, or fewer", "write one", "activity"
            )
        commands = tuple(Command(text, activity) for text, activity in zip(texts, said, strict=False))
        return Action("", item.name, item.role, commands, item.description, item.due_within, item.approvals)


def _question(item: _AskItem, yes: Block, no: Block) -> Question:
    return Question("", item.ask, item.role, yes, no, item.description, item.due_within, item.approvals)


def _stops(items: Sequence[Any]) -> bool:
    return bool(items) and items[-1] == STOP

"""Reading a file with referral criteria, and saying everything that is wrong with it: line, what, how to mend."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from member_client.named_files import read_named
from member_client.patterns.authoring import FileIssue
from member_client.patterns.yaml_document import MAX_BYTES, BadYaml, Position, YamlDocument, parse
from sharing_protocol import strict_json
from sharing_protocol.admission import check_dates
from sharing_protocol.errors import Refused
from sharing_protocol.personal_data import find_personal_data
from sharing_protocol.statements import Marking, ReferralCriteria, ReferralCriteriaBody, new_id
from sharing_protocol.statements.header import SCHEMA, format_timestamp
from sharing_protocol.statements.playbooks import Measure, RequiredEvidence
from sharing_protocol.strict_json import Json

STARTER = "organised-distillation"
TEMPLATE_TITLE = "Example: "
"""What the starter's title begins with, so that nobody publishes it by mistake."""

_OWN_TEXTS = {
    "title": "say what your own criteria are for",
    "jurisdiction": "name the country or region whose law it is about",
    "statute": "name the law that is thought to be broken",
}
"""What of the starter nobody can mean as it is, and what to write instead."""
_MAX_DAYS = 5 * 366
_DAY = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_POSITIONS = re.compile(r"\[[0-9]+\]")
_NOTHING = "0" * 64
_HELP = {
    "title": "write one line of at most 200 characters",
    "description": "write when a lab may turn to the authority; up to 8,000 characters",
    "jurisdiction": "write the country or region whose law it is about",
    "authority": "write the kind of authority, in one line",
    "statute": "write the law that is thought to be broken, in one line",
    "criteria": "list from 1 to 32 criteria, each with name, measure, at_least and required",
    "criteria[].name": "write one line that no other criterion has",
    "criteria[].measure": f"write one of {', '.join(Measure)}",
    "criteria[].at_least": "write a whole number from 1; of what is attested, 1",
    "criteria[].required": "write true or false",
    "evidence": f"list some of {', '.join(RequiredEvidence)}, each once",
    "marking": "write clear, green, amber or amber+strict (TLP 2.0)",
    "purpose": "write in one line what the record may be used for",
    "legal_basis": "write in one line on what basis it is shared",
    "valid_until": "write a day such as 2027-03-01, or valid_for_days instead",
    "valid_for_days": f"write a whole number of days, from 1 to {_MAX_DAYS}",
}


@dataclass(frozen=True, slots=True)
class WrittenCriteria:
    """A file without issues: its body as JSON and typed, and the SHA-256 of its bytes."""

    file: str
    digest: str
    body: dict[str, Json]
    content: ReferralCriteriaBody


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading gave: the criteria, or what is wrong, in the order of the file."""

    criteria: WrittenCriteria | None
    issues: tuple[FileIssue, ...]


def starter() -> str:
    """The commented starter criteria; `lint` reports which of its texts have to be an author's own."""
    return (files("member_client.referral") / "starter" / f"{STARTER}.yaml").read_text("utf-8")


def read(path: Path, now: datetime) -> Reading:
    """Read and check a file.

    Args:
        now: in UTC; its dates are judged as if it were submitted then.

    Raises:
        InvalidInput: it cannot be read at all.
    """
    return read_bytes(read_named(path, MAX_BYTES), str(path), now)


def read_bytes(data: bytes, name: str, now: datetime) -> Reading:
    """The same for bytes in hand; `name` is what issues call the file."""
    try:
        document = parse(data)
    except BadYaml as bad:
        mend = "start from `stillwatch referral criteria new`" if bad.code == "empty" else bad.mend
        return Reading(None, (_issue(name, bad.position, bad.what, mend, bad.code),))
    if not isinstance(document.value, dict):
        mend = "start from `stillwatch referral criteria new`"
        return Reading(None, (_issue(name, Position(1, 1), "it is no map of keys to values", mend, "wrong_type"),))
    body, problems = _body(document.value, now)
    content: ReferralCriteriaBody | None = None
    try:
        content = ReferralCriteriaBody.model_validate_json(strict_json.dumps(body))
    except ValidationError as error:
        problems += _of_schema(error, document.value)
    if content is not None:
        problems += _of_content(content, now)
    problems += _left_from_starter(document.value)
    for finding in find_personal_data(document.value):
        problems.append((finding.where, f"this looks like {finding.kind}", finding.mend, "personal_data"))
    issues = _placed(name, document, problems)
    written = WrittenCriteria(name, hashlib.sha256(data).hexdigest(), body, content) if content is not None else None
    return Reading(None if issues else written, issues)


_Problem = tuple[str, str, str, str]


def _body(value: dict[str, Json], now: datetime) -> tuple[dict[str, Json], list[_Problem]]:
    """The statement's body, not yet checked, and what is wrong with its dates."""
    body = {key: one.strip() if isinstance(one, str) else one for key, one in value.items() if key != "valid_for_days"}
    days, until = value.get("valid_for_days"), value.get("valid_until")
    if days is not None and until is not None:
        return body, [("valid_for_days", "both valid_until and valid_for_days are given", "keep one", "invalid_dates")]
    if isinstance(until, str) and _DAY.fullmatch(until):
        body["valid_until"] = f"{until}T00:00:00Z"
    if days is not None:
        if type(days) is not int or not 1 <= days <= _MAX_DAYS:
            return body, [("valid_for_days", "this is not a number of days", _HELP["valid_for_days"], "invalid_dates")]
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        body["valid_until"] = format_timestamp(midnight + timedelta(days=days))
    return body, []


def _of_schema(error: ValidationError, value: dict[str, Json]) -> list[_Problem]:
    found: dict[str, _Problem] = {}
    for one in error.errors(include_url=False):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in one["loc"]).removeprefix(".")
        if path == "valid_until" and "valid_for_days" in value:
            continue  # what is wrong with the days was said
        name = path.rpartition(".")[2]
        what, code = f"{name}: {one['msg'].replace('Input should', 'it should', 1)}", "invalid_value"
        if one["type"] == "missing":
            what = f"{name} is missing"
        elif one["type"] == "extra_forbidden":
            what, code = f"there is no key {name[:80]!r} here", "unknown_key"
        elif one["type"] == "enum":
            what = f"{str(one['input'])[:80]!r} is not a {name}"
        context: dict[str, Any] = one.get("ctx", {})
        if one["type"] == "value_error":
            what = f"{name or 'the file'}: {context['error']}"
        mend = "remove it" if code == "unknown_key" else _help(path)
        found.setdefault(path, (path, what, mend, code))
    return list(found.values())


def _of_content(content: ReferralCriteriaBody, now: datetime) -> list[_Problem]:
    found = []
    if content.marking is Marking.RED:
        found.append(("marking", "TLP:RED is for named recipients only", "use amber+strict", "red_needs_sealing"))
    for place, one in enumerate(content.criteria):
        if one.measure is Measure.ATTESTED and one.at_least != 1:
            found.append((f"criteria[{place}].at_least", "what is attested counts 1", "write at_least: 1", "never_met"))
    statement = ReferralCriteria.model_validate(
        {
            "schema": SCHEMA,
            "forum": _NOTHING,
            "type": "referral_criteria",
            "id": new_id("referral-criteria", UUID(int=0)),
            "version": 1,
            "previous": None,
            "author": new_id("member", UUID(int=0)),
            "created": now,
            "body": content,
        }
    )
    try:
        check_dates(statement)
    except Refused as refused:
        found.append((refused.where.removeprefix("body."), refused.detail, _HELP["valid_until"], refused.code))
    return found


def _left_from_starter(value: dict[str, Json]) -> list[_Problem]:
    started = parse(starter().encode()).value
    known = started if isinstance(started, dict) else {}
    found: list[_Problem] = []
    for name, mend in _OWN_TEXTS.items():
        text = value.get(name)
        if isinstance(text, str) and (text == known[name] or (name == "title" and text.startswith(TEMPLATE_TITLE))):
            found.append((name, f"this is still the starter's {name}", mend, "left_from_starter"))
    return found


def _help(path: str) -> str:
    general = _POSITIONS.sub("[]", path)
    while general and general not in _HELP:
        general = general[: max(general.rfind("."), general.rfind("["), 0)]
    return _HELP.get(general, "`stillwatch referral criteria new` shows all keys")


def _placed(name: str, document: YamlDocument, problems: list[_Problem]) -> tuple[FileIssue, ...]:
    issues = [_issue(name, document.locate(path), what, mend, code) for path, what, mend, code in problems]
    return tuple(sorted(dict.fromkeys(issues), key=lambda issue: (issue.line, issue.column)))


def _issue(name: str, position: Position, what: str, mend: str, code: str) -> FileIssue:
    return FileIssue(name, position.line, position.column, what, mend, code)

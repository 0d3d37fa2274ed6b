"""What a verified package shows, for people and scripts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from member_client.referral.summary import DOES_NOT_SHOW
from member_client.referral.verifying import VerifiedPackage
from sharing_protocol.membership import Status
from sharing_protocol.statements.header import format_timestamp


@dataclass(frozen=True, slots=True)
class Report:
    """The same facts, in lines and as JSON."""

    document: dict[str, Any]
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]


def report(verified: VerifiedPackage) -> Report:
    """Say what it shows."""
    telling = verified.telling
    manifest, proven = telling.manifest, telling.proven
    told, key = proven.case.timeline, verified.key.public_key.key_id
    cosigned = {lab: _moment(time) for lab, time in sorted(proven.cosigned.items())}
    last, built_at = verified.custody[-1], format_timestamp(manifest.built_at)
    lines = [
        f"incident {told.id}: {told.title}",
        f"built at {built_at} by {telling.name(manifest.lab)}, signed by its key {key[:16]}…",
        f"{len(proven.admitted)} statements, each signed by who had the right to",
        f"each of them is in the tree of {proven.checkpoint.checkpoint.size:,} entries that the log signed",
        f"the log vouched for it at {_moment(proven.checkpoint.timestamp)}",
        f"cosigned by {', '.join(map(telling.name, cosigned)) or 'nobody'}",
        "summary.md and timeline.md are what the statements give",
        f"{len(telling.evidence)} files stay at the lab; their hashes are in evidence-hashes.json",
        *(
            f"custody {one.number}: {format_timestamp(one.at)} {one.event}, {one.giver} to {one.receiver}"
            + (f" ({one.note})" if one.note else "")
            for one in verified.custody
        ),
        f"the chain of custody ends with {last.digest}",
    ]
    document = {
        "forum": manifest.forum,
        "incident": told.id,
        "title": told.title,
        "lab": manifest.lab,
        "lab_name": telling.name(manifest.lab),
        "built_at": format_timestamp(manifest.built_at),
        "built_by": manifest.built_by,
        "signed_by_key": key,
        "marking": telling.marking.value,
        "despite": manifest.despite,
        "left_out": manifest.left_out,
        "findings": [
            {
                "name": one.name,
                "measure": one.measure,
                "at_least": one.at_least,
                "found": one.found,
                "required": one.required,
                "met": one.met,
                "said": one.said,
            }
            for one in telling.findings
        ],
        "statements": len(proven.admitted),
        "tree_size": proven.checkpoint.checkpoint.size,
        "vouched_at": _moment(proven.checkpoint.timestamp),
        "cosigned": cosigned,
        "local_evidence": [one.model_dump() for one in telling.evidence],
        "custody": [one.model_dump(mode="json") | {"sha256": one.digest} for one in verified.custody],
        "warnings": list(_warnings(verified)),
        "does_not_show": [*DOES_NOT_SHOW, _CUSTODY],
    }
    return Report(document, tuple(lines), tuple(_warnings(verified)), (*DOES_NOT_SHOW, _CUSTODY))


_CUSTODY = (
    "That the hand-overs after the first took place: whoever had the file wrote them. Compare the chain's end with the "
    "one on paper (--custody)."
)


_NEWS_SECONDS = 86400.0
"""How old the log's head may be, when a package is built, without a word about it."""


def _warnings(verified: VerifiedPackage) -> tuple[str, ...]:
    telling = verified.telling
    case, membership = telling.proven.case, telling.proven.membership
    found = [] if telling.manifest.despite is None else [f"built despite unmet criteria: {telling.manifest.despite}"]
    found += telling.left_out
    late = telling.manifest.built_at.timestamp() - telling.proven.checkpoint.timestamp
    if late > _NEWS_SECONDS:
        days = late / _NEWS_SECONDS
        found.append(f"built {days:.0f} days after the log vouched for its head: what was said since is not in it")
    if case.opening_suspect:
        found.append("the key that signed the incident's opening was reported compromised")
    for one in case.patterns:
        if one.why_not:
            found.append(f"pattern {one.logged.statement.id} is {one.why_not}")
        if one.feedback.disputed_by:
            labs = ", ".join(sorted(map(telling.name, one.feedback.disputed_by)))
            found.append(f"pattern {one.logged.statement.id} is disputed by {labs}")
    member = membership.members.get(telling.manifest.lab)
    if member is not None and member.status is not Status.ACTIVE:
        found.append(f"{member.name}, which built it, is {member.status.value}")
    return tuple(found)


def _moment(seconds: int) -> str:
    return format_timestamp(datetime.fromtimestamp(seconds, UTC))

"""The summary and the timeline of a package: what its statements give, in words.

Both are functions of the statements, the manifest's claims and the list of local evidence, so that whoever checks a
package writes them again and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from member_client.referral.document import Block, Heading, Items, Paragraph, Table
from member_client.referral.manifest import LocalEvidence, Manifest
from member_client.referral.proving import Proven
from sharing_protocol.content import MAX_CLOCK_SKEW
from sharing_protocol.membership import Membership
from sharing_protocol.referral import Finding, evidence_in, judge, unmet
from sharing_protocol.referral import count as count_case
from sharing_protocol.statements import Marking, RecordStatement
from sharing_protocol.statements.header import format_timestamp

DOES_NOT_SHOW = (
    "That what the statements say is true. They are what each lab says, signed by that lab.",
    "That nothing was left out: a later version, a withdrawal, a dispute, an act. Any member can look them up.",
    "When a statement was written: that time is its author's word; the order is the log's.",
    "What the files that stay at the lab contain. Their digests only show later that they are still the same.",
    "That the log is the same for everybody, beyond what the cosignatures say.",
    "That the PDF says the same as the Markdown: it is only shown to be the file that the lab signed for.",
)
"""What nobody can conclude from a package."""


@dataclass(frozen=True, slots=True)
class Telling:
    """All that the two documents are written from."""

    manifest: Manifest
    proven: Proven
    evidence: tuple[LocalEvidence, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Each criterion, and whether it is met."""
        case, manifest = self.proven.case, self.manifest
        there = evidence_in(case, cosigners=len(self.cosigned_by_others), local_files=len(self.evidence))
        return judge(case.criteria.statement.body, count_case(case), manifest.attested, there)

    @property
    def cosigned_by_others(self) -> list[str]:
        """Ids of the labs that cosigned the checkpoint, but for who built the package."""
        return sorted(self.proven.cosigned.keys() - {self.manifest.lab})

    @property
    def marking(self) -> Marking:
        """The strictest marking of a record in the package."""
        markings = [
            one.statement.body.marking for one in self.proven.admitted if isinstance(one.statement, RecordStatement)
        ]
        order = list(Marking)
        return max(markings, key=order.index)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the lab that built it says is not in it, and how to see that, in a line for each lab."""
        where = f"any member sees them: stillwatch incident show {self.manifest.incident} --all"
        return tuple(
            f"{count:,} further acts by {self.name(lab)} are left out; {where}"
            for lab, count in self.manifest.left_out.items()
        )

    def name(self, member: str) -> str:
        """A lab's name."""
        return lab_name(member, self.proven.membership)


def lab_name(member: str, membership: Membership) -> str:
    """A lab's name, or its id if the entries do not tell it."""
    known = membership.members.get(member)
    return known.name if known is not None else member


def summary(telling: Telling) -> list[Block]:
    """The summary."""
    return [
        *_head(telling),
        *_criteria(telling),
        *_incident(telling),
        *_patterns(telling),
        *_sightings(telling),
        *_evidence(telling),
        *_proof(telling),
    ]


def timeline_document(telling: Telling) -> list[Block]:
    """The incident's steps, in the order of the log."""
    told = telling.proven.case.timeline
    blocks: list[Block] = [
        Heading(1, f"Timeline: {told.title}"),
        Paragraph(
            f"{told.id}, as of {format_timestamp(telling.manifest.built_at)}.\n"
            "Times are what authors say; the order is the log's."
        ),
    ]
    for step in told.steps:
        level = f" {step.level}" if step.level else ""
        blocks.append(Heading(2, f"{format_timestamp(step.created)} {telling.name(step.lab)}: {step.action}{level}"))
        facts = [f"entry {step.index} of the log, hash {step.entry}"]
        if step.logged - step.created >= MAX_CLOCK_SKEW:
            facts.append(f"in the log no earlier than {format_timestamp(step.logged)}, whatever it is dated")
        if step.in_force:
            facts.append(f"brought level {step.in_force} in force")
        if step.late:
            facts.append("after its time")
        if step.without_effect:
            facts.append(f"WITHOUT EFFECT: {step.without_effect}")
        named = (*step.patterns, *step.sightings)
        facts += [f"names {reference.id} version {reference.version}" for reference in named]
        blocks.append(Items(tuple(facts)))
        if step.note:
            blocks.append(Paragraph(step.note))
    owed = tuple(
        f"{telling.name(due.lab)} owes its acknowledgement of {due.level} by {format_timestamp(due.by)}"
        + (" (overdue)" if due.overdue else "")
        for due in told.due
    )
    if owed:
        blocks += [Heading(2, "Owed"), Items(owed)]
    if telling.left_out:
        blocks += [Heading(2, "Left out"), Items(telling.left_out)]
    return blocks


def _head(telling: Telling) -> Iterator[Block]:
    manifest, case = telling.manifest, telling.proven.case
    told, membership = case.timeline, telling.proven.membership
    forum = membership.forum.name if membership.forum is not None else ""
    yield Heading(1, f"Referral: {told.title}")
    yield Paragraph(
        f"Strictest marking in this package: TLP:{telling.marking.upper()}. Whoever shares it further asks those whose "
        "statements are in it.",
        strong=True,
    )
    missing = unmet(telling.findings)
    if manifest.despite is not None:
        yield Paragraph(
            f"Not every required criterion is met. It was built despite that: {manifest.despite}", strong=True
        )
    elif not missing:
        yield Paragraph("Every required criterion is met.", strong=True)
    by = f", by {manifest.built_by}" if manifest.built_by else ""
    yield Items(
        (
            f"built at {format_timestamp(manifest.built_at)} by {telling.name(manifest.lab)} ({manifest.lab}){by}",
            f"forum {forum}, fingerprint {manifest.forum}",
            f"incident {told.id}, entry hash {told.entry}",
            f"opened by {telling.name(told.opened_by)}, severity {told.severity}, now {told.state}"
            + (f", at level {told.level}" if told.level else ""),
            f"labs that joined: {', '.join(map(telling.name, told.labs))}",
        )
    )


def _criteria(telling: Telling) -> Iterator[Block]:
    logged = telling.proven.case.criteria
    criteria, body = logged.statement, logged.statement.body
    yield Heading(2, f"Criteria: {body.title}")
    yield Items(
        (
            f"jurisdiction: {body.jurisdiction}",
            f"authority: {body.authority}",
            f"statute: {body.statute}",
            f"{criteria.id} version {criteria.version}, by {telling.name(criteria.author)}, entry {logged.index}",
        )
    )
    yield Paragraph(body.description)
    findings = telling.findings
    yield Table(
        ("criterion", "measure", "at least", "found", "required", "met"),
        tuple(
            (one.name, one.measure, str(one.at_least), str(one.found), _yes(one.required), _yes(one.met))
            for one in findings
        ),
    )
    yield Paragraph("Counts that the labs share as buckets are taken at the lowest that they can be.")
    attested = tuple(f"{one.name}: {one.said}" for one in findings if one.said)
    if attested:
        yield Paragraph("Attested, as the lab that built this says:")
        yield Items(attested)


def _incident(telling: Telling) -> Iterator[Block]:
    newest = telling.proven.case.incident.statement
    yield Heading(2, "The incident")
    yield Paragraph(newest.body.description)
    yield Paragraph(f"Purpose: {newest.body.purpose}\nLegal basis: {newest.body.legal_basis}")
    yield Paragraph(f"timeline.md tells {len(telling.proven.case.timeline.steps)} steps.")


def _patterns(telling: Telling) -> Iterator[Block]:
    patterns = telling.proven.case.patterns
    yield Heading(2, f"Patterns ({len(patterns)})")
    state = {"": "in force", "withdrawn": "WITHDRAWN", "suspect": "SUSPECT: its key was reported compromised"}
    for one in patterns:
        pattern, said = one.logged.statement, one.feedback
        yield Heading(3, pattern.body.title)
        kind, techniques = pattern.body.kind.replace("_", " "), ", ".join(pattern.body.techniques)
        voices = (
            ("seen by", said.seen_by),
            ("confirmed by", said.confirmed_by),
            ("endorsed by", said.endorsed_by),
            ("disputed by", said.disputed_by),
        )
        yield Items(
            (
                f"{pattern.id} version {pattern.version}, by {telling.name(pattern.author)}, entry {one.logged.index}",
                f"{kind}, severity {pattern.body.severity}, techniques {techniques}",
                state.get(one.why_not, one.why_not),
                "; ".join(f"{verb} {_names(telling, labs)}" for verb, labs in voices),
            )
        )
        yield Paragraph(pattern.body.description)


def _sightings(telling: Telling) -> Iterator[Block]:
    sightings = telling.proven.case.sightings
    yield Heading(2, f"Sightings ({len(sightings)})")
    rows = []
    for one in sightings:
        seen = one.logged.statement
        body = seen.body
        rows.append(
            (
                telling.name(seen.author),
                f"{body.pattern.id.removeprefix('pattern--')[:8]} v{body.pattern.version}",
                format_timestamp(body.period_start)[:10],
                format_timestamp(body.period_end)[:10],
                body.matches.value,
                body.accounts.value if body.accounts is not None else "not told",
                str(one.logged.index),
                one.why_not or "counts",
            )
        )
    if rows:
        columns = ("lab", "pattern", "from", "until before", "matches", "accounts", "entry", "state")
        yield Table(columns, tuple(rows))


def _evidence(telling: Telling) -> Iterator[Block]:
    yield Heading(2, f"Evidence that stays at the lab ({len(telling.evidence)})")
    if telling.evidence:
        rows = tuple((one.name, f"{one.size:,}", one.sha256) for one in telling.evidence)
        yield Table(("file", "bytes", "SHA-256"), rows)


def _proof(telling: Telling) -> Iterator[Block]:
    proven = telling.proven
    tree, time = proven.checkpoint.checkpoint, _moment(proven.checkpoint.timestamp)
    cosigned = sorted((telling.name(lab), time) for lab, time in proven.cosigned.items())
    yield Heading(2, "What proves this")
    yield Items(
        (
            f"{len(proven.admitted)} statements of the log are in this package, each as it was signed, with its proof",
            f"the log {tree.origin} signed a tree of {tree.size:,} entries, and vouched for it at {time}",
            f"root hash {tree.root.hex()}",
            *(f"cosigned by {name} at {_moment(time)}" for name, time in cosigned),
        )
    )
    yield Paragraph(f"Check all of it, offline: stillwatch referral verify FILE --forum {telling.manifest.forum}")
    yield Heading(2, "What it does not show")
    yield Items(DOES_NOT_SHOW)


def _names(telling: Telling, labs: frozenset[str]) -> str:
    return ", ".join(sorted(map(telling.name, labs))) or "nobody"


def _moment(seconds: int) -> str:
    return format_timestamp(datetime.fromtimestamp(seconds, UTC))


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"

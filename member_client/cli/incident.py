"""`stillwatch incident`: what several labs see at once and answer together, and who in this lab is told of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from member_client.cli import incident_hooks, output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.publication import (
    DryRunOption,
    NoSyncOption,
    ValidUntilOption,
    bring_up_to_date,
    handling_options,
    published_document,
    say_published,
)
from member_client.errors import InvalidInput
from member_client.incidents import incident_timeline, incident_timelines
from member_client.incidents.acting import (
    INCIDENT,
    Proposal,
    Wish,
    propose_act,
    propose_opening,
    propose_revision,
    publish,
)
from member_client.incidents.presenting import state_in_words, summary_document, timeline_document
from member_client.patterns.finding import name_of, resolve, short_id
from member_client.session import Session
from sharing_protocol.content import MAX_CLOCK_SKEW
from sharing_protocol.incidents import Due, Step, Timeline, steps_that_matter
from sharing_protocol.membership import Membership
from sharing_protocol.statements import Act
from sharing_protocol.statements.header import format_timestamp

app = typer.Typer(help="Answer together what several labs see at once.", no_args_is_help=True)

IncidentArgument = Annotated[
    str, typer.Argument(help="The incident's id, or the beginning of it.", metavar="INCIDENT", show_default=False)
]
PatternsOption = Annotated[
    list[str] | None, typer.Option("--pattern", help="A pattern that shows it; may be repeated.", metavar="ID")
]
SightingsOption = Annotated[
    list[str] | None, typer.Option("--sighting", help="A sighting that belongs to it; may be repeated.", metavar="ID")
]
NoteOption = Annotated[str, typer.Option("--note", help="For every lab to read.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
MarkingOption = Annotated[str, typer.Option("--marking", help="TLP marking; by default as of what it is about.")]
PurposeOption = Annotated[str, typer.Option("--purpose", help="By default as of what it is about.")]
LegalBasisOption = Annotated[str, typer.Option("--legal-basis", help="By default as of what it is about.")]


@app.command("open")
def open_incident(
    title: Annotated[str, typer.Option(help="In one line.", show_default=False)],
    description: Annotated[str, typer.Option(help="What is known.", show_default=False)],
    severity: Annotated[str, typer.Option(help="informational, low, medium, high or critical.", show_default=False)],
    pattern: PatternsOption = None,
    protocol: Annotated[
        str, typer.Option(help="The escalation protocol by which its levels move: a playbook.", metavar="ID")
    ] = "",
    level: Annotated[str, typer.Option(help="To begin at; by default the protocol's first.", metavar="LEVEL")] = "",
    marking: MarkingOption = "",
    purpose: PurposeOption = "",
    legal_basis: LegalBasisOption = "",
    valid_until: ValidUntilOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open an incident, which every lab may join. What will be published is shown first, whole."""
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    proposal = propose_opening(
        session,
        title=title,
        description=description,
        severity=severity,
        patterns=pattern or [],
        protocol=protocol,
        level=level,
        handling=handling_options(marking, purpose, legal_basis, valid_until),
    )
    _publish(session, proposal, dry_run=dry_run, yes=yes, as_json=as_json)


@app.command()
def revise(
    incident: IncidentArgument,
    title: Annotated[str, typer.Option(help="In one line.")] = "",
    description: Annotated[str, typer.Option(help="What is known.")] = "",
    severity: Annotated[str, typer.Option(help="informational, low, medium, high or critical.")] = "",
    pattern: Annotated[
        list[str] | None, typer.Option("--pattern", help="A pattern to name besides; may be repeated.", metavar="ID")
    ] = None,
    marking: Annotated[str, typer.Option("--marking", help="TLP marking.")] = "",
    purpose: Annotated[str, typer.Option("--purpose")] = "",
    legal_basis: Annotated[str, typer.Option("--legal-basis")] = "",
    valid_until: Annotated[
        str, typer.Option("--valid-until", help="The day on which it expires, such as 2027-03-01.", metavar="DAY")
    ] = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the next version of an incident of yours. What is not given stays; protocol and first level always do."""
    session = open_session(home)
    bring_up_to_date(session, no_sync or dry_run, as_json)
    said = {"title": title, "description": description, "severity": severity}
    changes = {name: text for name, text in said.items() if text}
    changes |= handling_options(marking, purpose, legal_basis, valid_until)
    proposal = propose_revision(session, incident, changes, pattern or [])
    _publish(session, proposal, dry_run=dry_run, yes=yes, as_json=as_json)


@app.command()
def join(
    incident: IncidentArgument,
    note: NoteOption = "",
    pattern: PatternsOption = None,
    sighting: SightingsOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join an incident: from then on this lab may update and escalate it, and acknowledges its levels."""
    wish = Wish(Act.JOIN, None, note or None, pattern or [], sighting or [])
    _act(incident, wish, dry_run, yes, no_sync, open_session(home), as_json)


@app.command()
def update(
    incident: IncidentArgument,
    note: Annotated[str, typer.Option("--note", help="What is new, for every lab to read.", show_default=False)],
    pattern: PatternsOption = None,
    sighting: SightingsOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is new, and add the patterns and sightings that belong to it."""
    wish = Wish(Act.UPDATE, None, note, pattern or [], sighting or [])
    _act(incident, wish, dry_run, yes, no_sync, open_session(home), as_json)


@app.command()
def escalate(
    incident: IncidentArgument,
    to: Annotated[str, typer.Option(help="The level to move to.", metavar="LEVEL", show_default=False)],
    note: NoteOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for a higher level; it is in force once as many labs have asked as the protocol says."""
    wish = Wish(Act.ESCALATE, to, note or None)
    _act(incident, wish, dry_run, yes, no_sync, open_session(home), as_json)


@app.command()
def acknowledge(
    incident: IncidentArgument,
    level: Annotated[str, typer.Option(help="By default the one in force.", metavar="LEVEL")] = "",
    note: NoteOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that whoever has to know of the level in force in this lab does."""
    wish = Wish(Act.ACKNOWLEDGE, level or None, note or None)
    _act(incident, wish, dry_run, yes, no_sync, open_session(home), as_json)


@app.command()
def close(
    incident: IncidentArgument,
    note: Annotated[str, typer.Option("--note", help="How it ended, for every lab to read.", show_default=False)],
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close an incident for good: its opener does, or any lab that joined if that is suspended or expelled."""
    _act(incident, Wish(Act.CLOSE, None, note), dry_run, yes, no_sync, open_session(home), as_json)


@app.command("list")
def list_incidents(
    only_open: Annotated[bool, typer.Option("--open", help="Only those about which something can be done.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List incidents: level, labs, and acknowledgements that are owed."""
    session = open_session(home)
    membership = session.membership
    found = [one for one in incident_timelines(session, session.now) if not only_open or state_in_words(one) == "open"]
    if as_json:
        output.print_json([summary_document(one, membership) for one in found])
        return
    output.table(
        ["incident", "title", "severity", "state", "level", "opened by", "labs", "owed", "overdue"],
        [
            (
                short_id(one.id),
                one.title,
                one.severity,
                state_in_words(one),
                one.level or "none",
                name_of(one.opened_by, membership),
                len(one.labs),
                len(one.due),
                sum(due.overdue for due in one.due),
            )
            for one in found
        ],
    )


@app.command()
def show(
    incident: IncidentArgument,
    everything: Annotated[
        bool, typer.Option("--all", help="Also every act without effect, of which each lab's first are shown.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an incident's timeline, its level, and who has still to acknowledge it by when. --json always has all."""
    session = open_session(home)
    found = incident_timeline(session, resolve(session.store, incident, INCIDENT)[-1].id, session.now)
    if as_json:
        output.print_json(timeline_document(found, session.membership))
    else:
        _say_timeline(found, session.membership, everything)


for command in (incident_hooks.notify, incident_hooks.deliveries, incident_hooks.hooks):
    app.command()(command)


def _act(incident: str, wish: Wish, dry_run: bool, yes: bool, no_sync: bool, session: Session, as_json: bool) -> None:
    bring_up_to_date(session, no_sync or dry_run, as_json)
    _publish(session, propose_act(session, incident, wish), dry_run=dry_run, yes=yes, as_json=as_json)


def _publish(session: Session, proposal: Proposal, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    if as_json and dry_run:
        output.print_json({"body": dict(proposal.body), "consequences": list(proposal.consequences)})
    elif not as_json:
        say("would be published, signed, to all members:", "bold")
        say(json.dumps(dict(proposal.body), ensure_ascii=False, indent=2))
        for consequence in proposal.consequences:
            say(f"What comes of it: {consequence}", "bold")
    if dry_run:
        return
    if not yes and (as_json or not sys.stdin.isatty()):
        raise InvalidInput("nothing was published: nobody confirmed it", "look at --dry-run, then pass --yes")
    if not yes and not typer.confirm("Publish this?"):
        raise InvalidInput("nothing was published")
    published = publish(session, proposal)
    if as_json:
        output.print_json(published_document(published) | {"consequences": list(proposal.consequences)})
    else:
        say_published("", published, session)


def _say_timeline(found: Timeline, membership: Membership, everything: bool) -> None:
    say(f"{found.id}: {found.title}", "bold")
    level = f"level {found.level!r}" if found.level is not None else "no level"
    say(f"  {state_in_words(found)}, {level}, severity {found.severity}, TLP:{found.marking}")
    say(f"  labs: {', '.join(name_of(lab, membership) for lab in found.labs)}")
    say(f"  patterns: {len(found.patterns)}; sightings: {len(found.sightings)}")
    say(f"  expires {format_timestamp(found.valid_until)}")
    steps, left_out = (found.steps, {}) if everything else steps_that_matter(found.steps)
    for step in steps:
        _say_step(step, membership)
    for lab, count in left_out.items():
        say(f"{count} further acts by {name_of(lab, membership)} left out: they are without effect; --all shows them")
    for asked in found.asked:
        names = ", ".join(name_of(lab, membership) for lab in asked.labs)
        say(f"asked for level {asked.level!r}: {names} ({len(asked.labs)} of {asked.approvals} labs)")
    _say_due(found.due, membership)


def _say_step(step: Step, membership: Membership) -> None:
    level = f" {step.level!r}" if step.level is not None else ""
    line = f"{step.index:>6}  {_moment(step.logged)}  {name_of(step.lab, membership)}: {step.action}{level}"
    if step.logged - step.created >= MAX_CLOCK_SKEW:
        line += f" (dated {_moment(step.created)}, but the log was past that)"
    if step.without_effect:
        say(f"{line} (without effect: {step.without_effect})", "dim")
    else:
        came = f" → level {step.in_force!r} is in force" if step.in_force is not None else ""
        say(f"{line}{came}{' (late)' if step.late else ''}")
    for said in (step.note or "").splitlines():
        say(f"          {said}", "dim" if step.without_effect else "")


def _say_due(due: Sequence[Due], membership: Membership) -> None:
    for one in due:
        told = f"{name_of(one.lab, membership)} has to acknowledge level {one.level!r} by {_moment(one.by)}"
        say(f"{told}{': OVERDUE' if one.overdue else ''}", "bold red" if one.overdue else "yellow")


def _moment(time: datetime) -> str:
    return format_timestamp(time).replace("T", " ").removesuffix("Z") + " UTC"

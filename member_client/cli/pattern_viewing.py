"""`stillwatch pattern list | search | show | export`: what this home's verified copy of the log says of patterns."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.records import IdArgument, VersionOption
from member_client.feedback import feedback_by_entry, feedback_of
from member_client.feedback_in_words import feedback_in_a_line, names
from member_client.patterns import presenting
from member_client.patterns.finding import ALL, STATES, Listed, Wanted, find, listing, resolve, short_id
from member_client.patterns.yaml_writing import pattern_file, sigma
from member_client.session import Session
from member_client.sync.store import StoredVersion
from sharing_protocol.feedback import Feedback, as_wire
from sharing_protocol.statements import PatternKind

StateOption = Annotated[str, typer.Option("--state", help=f"One of {', '.join((*STATES, ALL))}.")]


class Format(StrEnum):
    """What a pattern can be exported as."""

    SIGMA = "sigma"
    PATTERN = "pattern"


def list_patterns(
    state: StateOption = "active",
    kind: Annotated[PatternKind | None, typer.Option(help="Of this kind only.", show_default=False)] = None,
    author: Annotated[str, typer.Option(help="By this lab only: its name or id.")] = "",
    technique: Annotated[str, typer.Option(help="With this ATLAS technique, or a sub-technique of it.")] = "",
    mine: Annotated[bool, typer.Option("--mine", help="By this home's lab only.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List patterns by their state here and now."""
    session = open_session(home)
    author = session.settings.member if mine else author
    wanted = Wanted(state=state, kind=kind.value if kind else "", author=author, technique=technique)
    items = find(session, wanted)
    _report_list(items, as_json)
    if mine and not as_json:
        _warn_of_disputes(session, items)


def search(
    text: Annotated[str, typer.Argument(help="Words in the title or the description.", show_default=False)],
    state: StateOption = "active",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the patterns whose title or description has these words."""
    _report_list(find(open_session(home), Wanted(state=state, text=text)), as_json)


def show(
    record_id: IdArgument,
    version: VersionOption = None,
    diff: Annotated[
        str,
        typer.Option(help="Show what changed between two versions: A..B, or .. for the last change.", metavar="A..B"),
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a pattern: its versions, where it comes from and what proves it, who has seen it, what it says."""
    session = open_session(home)
    versions = resolve(session.store, record_id)
    if diff:
        _report_difference(session, versions, diff, as_json)
        return
    chosen = presenting.choose(versions, version)
    document = _show_document(session, versions, chosen)
    if as_json:
        output.print_json(document)
    else:
        _say_pattern(session, document, chosen)


def export(
    record_id: IdArgument,
    version: VersionOption = None,
    form: Annotated[
        Format, typer.Option("--format", help="Sigma documents, or a pattern file to revise it with.")
    ] = Format.SIGMA,
    home: HomeOption = None,
) -> None:
    """Print a pattern as YAML."""
    session = open_session(home)
    chosen = presenting.choose(resolve(session.store, record_id), version)
    pattern = session.store.pattern(chosen)
    if form is Format.PATTERN:
        typer.echo(pattern_file(pattern.body), nl=False)
        return
    comment = f"{pattern.id} version {pattern.version}, entry {chosen.entry}, TLP:{chosen.marking.upper()}"
    typer.echo(sigma(pattern.body.logic, comment), nl=False)


def _report_list(items: list[Listed], as_json: bool) -> None:
    if as_json:
        output.print_json([presenting.pattern_document(item) for item in items])
        return
    rows = [
        (
            short_id(item.version.id),
            item.version.version,
            item.state,
            item.version.severity,
            item.author_name,
            item.version.title,
        )
        for item in items
    ]
    output.table(["id", "ver.", "state", "severity", "author", "title"], rows)
    for item in items:
        if item.why:
            say(f"{short_id(item.version.id)} is suspect: {item.why}", "yellow")
    say(f"{len(items)} pattern{'' if len(items) == 1 else 's'}")


def _warn_of_disputes(session: Session, items: list[Listed]) -> None:
    found = feedback_by_entry(session, session.now)
    for item in items:
        disputed = found.get(item.version.entry, Feedback(item.version.entry)).disputed_by
        if disputed:
            short = short_id(item.version.id)
            by = names(disputed, session.membership)
            say(f"{short} is disputed by {by}: `stillwatch pattern feedback {short}`", "yellow")


def _report_difference(session: Session, versions: list[StoredVersion], text: str, as_json: bool) -> None:
    before, after = presenting.parse_range(text, versions)
    lines = presenting.difference(session.store.pattern(before), session.store.pattern(after))
    if as_json:
        output.print_json({"id": after.id, "from": before.version, "to": after.version, "diff": lines})
        return
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines or [f"versions {before.version} and {after.version} say the same"]:
        say(line, styles.get(line[:1], ""))


def _show_document(session: Session, versions: list[StoredVersion], chosen: StoredVersion) -> dict[str, Any]:
    listed = [listing(version, session.membership, session.now) for version in versions]
    item = next(item for item in listed if item.version.version == chosen.version)
    withdrawal = presenting.withdrawal_of(session, chosen.id)
    return {
        **presenting.pattern_document(item),
        "versions": [
            {
                "version": one.version.version,
                "state": one.state,
                "index": one.version.index,
                "entry": one.version.entry,
                "created": one.version.created,
            }
            for one in listed
        ],
        "provenance": asdict(presenting.provenance(session, chosen)),
        "sightings": [asdict(seen) for _, seen in presenting.sightings_of(session, chosen.id)],
        "feedback": as_wire(chosen.version, _feedback_on(session, chosen)).model_dump(),
        "withdrawal": asdict(withdrawal) if withdrawal else None,
        "body": session.store.pattern(chosen).body.model_dump(mode="json"),
    }


def _feedback_on(session: Session, chosen: StoredVersion) -> Feedback:
    return feedback_of(session, chosen.id, session.now).get(chosen.entry, Feedback(chosen.entry))


def _say_pattern(session: Session, document: dict[str, Any], chosen: StoredVersion) -> None:
    come = document["provenance"]
    say(document["title"], "bold")
    say(f"{document['id']} version {document['version']}: {document['state']}; own tests here: {document['trial']}")
    if document["why"]:
        say(f"suspect     {document['why']}", "yellow")
    say("")
    say(f"author      {come['author_name']} ({come['author']})")
    say(f"signed by   key {come['signer']}, {come['signer_state']}")
    say(f"log index   {come['index']}, entry {come['entry']}")
    sound = "as verified" if come["intact"] else "DAMAGED: the stored entry no longer has this hash; sync anew"
    say(f"included in the verified checkpoint of {come['tree_size']} entries, root {come['root']}: {sound}")
    if come["receipt"]:
        say("receipt     kept here: the hub's signed promise, with its inclusion proof")
    said = _feedback_on(session, chosen)
    say(f"feedback    {feedback_in_a_line(said, session.membership)}", "yellow" if said.disputed_by else "")
    _say_versions_and_sightings(document)
    say("")
    say(pattern_file(session.store.pattern(chosen).body).rstrip())


def _say_versions_and_sightings(document: dict[str, Any]) -> None:
    if len(document["versions"]) > 1:
        say("")
        rows = [(one["version"], one["state"], one["index"], one["created"]) for one in document["versions"]]
        output.table(["version", "state", "index", "created"], rows)
    if (gone := document["withdrawal"]) is not None:
        reason = gone["reason"].replace("\n", f"\n{'':12}")  # in the second column: what stands in the first is ours
        say(f"withdrawn   by {gone['lab']} at index {gone['index']} on {gone['created']}: {reason}", "yellow")
    say("")
    if not document["sightings"]:
        say("no lab has reported a sighting")
        return
    output.table(
        ["seen by", "from", "until before", "matches", "accounts", "version", "state"],
        [
            (
                seen["lab"],
                seen["period_start"],
                seen["period_end"],
                seen["matches"],
                seen["accounts"] or "not known",
                seen["pattern_version"],
                seen["state"],
            )
            for seen in document["sightings"]
        ],
    )

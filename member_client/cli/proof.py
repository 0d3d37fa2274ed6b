"""`stillwatch prove`, `verify-proof` and `verify-evidence`: what can be shown to somebody who does not follow the log.

Verifying needs no home, no account and no network: a file, and the forum's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from member_client import proof_reading
from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say, typed_fingerprint
from member_client.cli.records import VersionOption
from member_client.errors import InvalidInput, NotProven
from member_client.home import write_privately
from member_client.named_files import read_named
from member_client.proving import prove as make_proof
from sharing_protocol import evidence as evidence_files
from sharing_protocol import record_proof
from sharing_protocol.errors import Malformed, Unproven
from sharing_protocol.evidence import MAX_EVIDENCE_BYTES
from sharing_protocol.record_proof import MAX_PROOF_BYTES

FileArgument = Annotated[Path, typer.Argument(help="The file to check.", dir_okay=False, show_default=False)]


def prove(
    record: Annotated[
        str,
        typer.Argument(
            help="A record's id; its beginning is enough, after `sighting--` or `withdrawal--` for what is no pattern.",
            show_default=False,
        ),
    ],
    version: VersionOption = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file instead of standard output.", metavar="FILE")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove to an outsider who said what: one file that is checked without an account and without the hub; asks nobody.

    The record is in it, whole, with its TLP marking; so are the author's and the forum's own membership entries.
    """
    session = open_session(home)
    data, proven = make_proof(session, record, version)
    if out is None:
        typer.echo(data, nl=False)
        return
    write_privately(out, data)
    if as_json:
        output.print_json({"file": str(out), "bytes": len(data), **proof_reading.summary(proven)})
        return
    say(f"Proof of entry {proven.index} written to {out}, {len(data):,} bytes", "green")
    for line in proof_reading.headlines(proven):
        say(f"  {line}")
    say(f"Whoever gets it checks it with: stillwatch verify-proof {out.name} --forum {session.forum.fingerprint}")


def verify_proof(
    file: FileArgument,
    forum: Annotated[str, typer.Option("--forum", help="The forum's fingerprint, from somebody you trust.")],
    as_json: JsonOption = False,
) -> None:
    """Check a proof file, offline, and say in plain words what it shows and what it does not.

    Exits 0 if it holds, 5 if it does not, 2 if the file is no proof.
    """
    forum = typed_fingerprint(forum)
    data = read_named(file, MAX_PROOF_BYTES)
    try:
        proven = record_proof.verify(data, forum)
    except Malformed as error:
        raise InvalidInput(f"{file}: {error.detail}", "get the file anew, unchanged") from error
    except Unproven as error:
        raise NotProven(error.code, f"{file} proves nothing: {error.detail}", "believe nothing of it") from error
    shows, limits = proof_reading.shows(proven), proof_reading.limits(proven)
    if as_json:
        document = {"holds": True, **proof_reading.summary(proven), "statement": proof_reading.statement_of(proven)}
        output.print_json({**document, "shows": shows, "does_not_show": limits})
        return
    say("The proof holds.", "green")
    for line in proof_reading.headlines(proven):
        say(f"  {line}")
    for warning in proof_reading.warnings(proven):
        say(f"  {warning}", "bold yellow")
    _paragraph("What it shows:", shows)
    _paragraph("What it does not show:", limits)


def verify_evidence(
    file: FileArgument,
    forum: Annotated[
        str, typer.Option("--forum", help="The forum's fingerprint; by default the file's own is taken.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check an evidence file, offline: who misbehaved, and how that is known to somebody who was not there.

    Exits 0 if it proves misbehaviour to anybody, 5 if it does not, 2 if the file is no evidence.
    """
    forum = typed_fingerprint(forum) if forum else ""
    try:
        evidence = evidence_files.parse(read_named(file, MAX_EVIDENCE_BYTES))
    except Malformed as error:
        raise InvalidInput(f"{file}: {error.detail}", "is it a file of HOME/evidence/?") from error
    verdict = evidence_files.judge(evidence, forum or None)
    document: dict[str, Any] = {
        "proven": verdict.proven,
        "fault": verdict.fault.value,
        "forum": evidence.forum,
        "culprits": list(verdict.culprits),
        "reasons": list(verdict.reasons),
        "claimed": {"fault": evidence.fault.value, "code": evidence.code, "seen_at": evidence.seen_at},
    }
    if as_json:
        output.print_json(document)
    else:
        _say_verdict(verdict, evidence, bool(forum))
    if not verdict.proven:
        raise typer.Exit(NotProven.exit_code)


def _say_verdict(verdict: evidence_files.Verdict, evidence: evidence_files.Evidence, pinned: bool) -> None:
    if verdict.proven:
        who = " and ".join("the hub" if culprit == "hub" else culprit for culprit in verdict.culprits)
        say(f"Proven: {verdict.fault.value}, by {who}.", "bold red")
        if not pinned:
            say(
                f"It is about forum {evidence.forum}: compare that with the fingerprint that you have pinned.", "yellow"
            )
    else:
        say(f"Not proven to somebody who was not there. Its maker claims: {verdict.fault.value}.", "bold yellow")
        say(f"Whoever saw it is right not to go on; that was on {evidence.seen_at}, by its own clock.")
    for reason in verdict.reasons:
        say(f"- {reason}")
    if verdict.proven and "hub" in verdict.culprits:
        say("- whether the admins took the log's keys away before, and somebody else has them, only a member can tell")


def _paragraph(title: str, lines: list[str]) -> None:
    say(title, "bold")
    for line in lines:
        say(f"- {line}")

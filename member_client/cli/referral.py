"""`stillwatch referral`: one file by which a lab shows an authority what several labs saw, and what proves it.

Checking one needs no home, no account and no network: the file, and the forum's fingerprint. Nothing here sends one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output, referral_criteria
from member_client.cli.output import HomeOption, JsonOption, open_session, say, typed_fingerprint
from member_client.cli.publication import NoSyncOption, bring_up_to_date
from member_client.errors import InvalidInput, NotProven
from member_client.home import write_privately
from member_client.patterns.finding import resolve
from member_client.referral.archive import MAX_BYTES
from member_client.referral.verifying import VerifiedPackage
from member_client.referral.verifying import verify as check_package
from member_client.session import Session
from sharing_protocol.errors import Malformed, Unproven
from sharing_protocol.referral import Finding, unmet
from sharing_protocol.statements.header import format_timestamp

app = typer.Typer(help="Show an authority what several labs saw, in one file that proves it.", no_args_is_help=True)
app.add_typer(referral_criteria.app, name="criteria")
custody_app = typer.Typer(help="Who had a package, from when, and from whom.", no_args_is_help=True)
app.add_typer(custody_app, name="custody")

FileArgument = Annotated[Path, typer.Argument(help="The referral package.", dir_okay=False, show_default=False)]
_NOTHING_SENT = "Nothing was sent, and nothing will be: whether to share it, and with whom, is your lab's own decision."


@app.command()
def build(
    incident: Annotated[str, typer.Argument(help="The incident's id, or its beginning.", show_default=False)],
    criteria: Annotated[str, typer.Option(help="The criteria's id, or its beginning.", show_default=False)],
    attest: Annotated[
        list[str] | None,
        typer.Option(help="Who answers for a criterion, and how they know; repeatable.", metavar="NAME=WHO"),
    ] = None,
    local_evidence: Annotated[
        list[Path] | None,
        typer.Option(help="A file that stays here: its name, size and hash go in; repeatable.", metavar="FILE"),
    ] = None,
    by: Annotated[str, typer.Option(help="Who builds it.", metavar="NAME")] = "",
    despite: Annotated[
        str, typer.Option(help="Build it although a required criterion is not met: why. It is written into it.")
    ] = "",
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it.", metavar="FILE")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which criteria are met, and build nothing.")] = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold an incident against referral criteria, and build the package: one ZIP. Nothing is sent.

    Exits 2 and builds nothing if a required criterion is not met, unless --despite says why; with --dry-run too.
    """
    from member_client.referral import building, selecting
    from member_client.referral.criteria import find

    session = open_session(home)
    bring_up_to_date(session, no_sync, as_json)
    found = _incident(session, incident)
    version = find(session, criteria)
    claims = building.Claims(by, _attested(attest or []), despite, building.read_local_evidence(local_evidence or []))
    cosigned = [] if no_sync else selecting.cosigned_notes(session)
    selection = selecting.select(session, found, version, cosigned)
    telling = building.assess(session, selection, claims)
    if not as_json:
        _say_findings(telling.findings)
    witnesses = telling.cosigned_by_others
    if not as_json:
        _say_witnesses([telling.name(one) for one in witnesses], no_sync)
        for line in telling.left_out:
            say(line, "yellow")
    document: dict[str, Any] = {
        "incident": found,
        "criteria": version.id,
        "findings": _findings(telling.findings),
        "cosigned_by": witnesses,
        "left_out": telling.manifest.left_out,
    }
    if dry_run:
        _report(document | {"built": False}, as_json, "Nothing was built.")
        if not despite and unmet(telling.findings):
            raise typer.Exit(InvalidInput.exit_code)
        return
    built = building.build(session, selection, telling)
    path = out or Path(f"referral-{found.partition('--')[2][:8]}.zip")
    _write(path, built.data)
    document |= {
        "built": True,
        "file": str(path),
        "bytes": len(built.data),
        "marking": telling.marking.value,
        "sent": False,
    }
    if as_json:
        output.print_json(document)
        return
    say(f"{path} written, {len(built.data):,} bytes; TLP:{telling.marking.upper()} is its strictest marking", "green")
    say(_NOTHING_SENT, "bold")
    say(f"Whoever gets it checks it with: stillwatch referral verify {path.name} --forum {session.forum.fingerprint}")
    say(f"When somebody of your lab has shared it: stillwatch referral record-sharing {path} --with AUTHORITY")


@app.command()
def verify(
    file: FileArgument,
    forum: Annotated[str, typer.Option(help="The forum's fingerprint, from somebody you trust.")],
    custody: Annotated[
        str, typer.Option(help="What the chain of custody has to end with, from paper.", metavar="SHA256")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check a package, offline: every byte, who signed what, that it is in the log, and what it does not show.

    Exits 0 if it holds, 5 if it does not, 2 if the file is no package.
    """
    from member_client.referral.reporting import report

    verified = _verified(file, _read(file), typed_fingerprint(forum), custody)
    found = report(verified)
    if as_json:
        output.print_json({"holds": True, **found.document})
        return
    say("The package holds.", "green")
    for line in found.lines:
        say(f"  {line}")
    _say_findings(verified.telling.findings)
    for warning in found.warnings:
        say(warning, "bold yellow")
    say("What it does not show:", "bold")
    for line in found.limits:
        say(f"- {line}")


@custody_app.command("add")
def custody_add(
    file: FileArgument,
    giver: Annotated[str, typer.Option("--from", help="Who hands it over.", show_default=False)],
    receiver: Annotated[str, typer.Option("--to", help="Who takes it.", show_default=False)],
    note: Annotated[str, typer.Option(help="Why and how.")] = "",
    out: Annotated[Path | None, typer.Option("--output", "-o", help="The new file.", metavar="FILE")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new package with one more hand-over in its chain of custody; all else stays as it was signed.

    The next hand-over is of the new file: from one that was handed over before, as a file beside it shows, none is made
    unless --output names it.
    """
    from member_client.referral.building import hand_over, successor_of

    data = _read(file)
    at = format_timestamp(datetime.now(UTC))
    try:
        made, digest = hand_over(data, at, giver, receiver, note or None)
    except Malformed as error:
        raise InvalidInput(f"{file}: {error.detail}") from error
    except Unproven as error:
        raise NotProven(error.code, f"{file}: {error.detail}", "get the file anew, unchanged") from error
    if out is None and (later := successor_of(file, data)) is not None:
        raise InvalidInput(
            f"{file} was handed over before: {later} goes on from it, and its chain of custody would fork",
            f"add to the last of its line, or insist with --output {_next_name(file)}",
        )
    path = out or _next_name(file)
    _write(path, made)
    if as_json:
        output.print_json({"file": str(path), "custody": digest, "at": at})
        return
    say(f"{path} written: handed over from {giver} to {receiver} at {at}", "green")
    say(f"Both keep this on paper: {digest}")


@app.command("record-sharing")
def record_sharing(
    file: FileArgument,
    authority: Annotated[str, typer.Option("--with", help="Which authority it was shared with.", show_default=False)],
    by: Annotated[str, typer.Option(help="Who shared it.", metavar="NAME")] = "",
    note: Annotated[str, typer.Option(help="How, under what law, with what conditions.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write down that your lab shared a package with an authority; sends nothing, and stays in this home."""
    from member_client.referral.manifest import digest_of
    from member_client.referral.sharing_record import append, register_of

    session = open_session(home)
    data = _read(file)
    verified = _verified(file, data, session.settings.forum, "")
    if not authority.strip():
        raise InvalidInput("which authority was it shared with?", "--with AUTHORITY")
    manifest = verified.telling.manifest
    entry = append(
        session.home,
        {
            "at": format_timestamp(session.now),
            "with": authority,
            "by": by,
            "note": note,
            "file": file.name,
            "package_sha256": digest_of(data),
            "incident": manifest.incident,
            "custody": verified.custody[-1].digest,
        },
    )
    _report(entry, as_json, f"Written down in {register_of(session.home)}; nothing was sent.")


def _incident(session: Session, text: str) -> str:
    return resolve(session.store, text, "incident")[-1].id


def _verified(file: Path, data: bytes, fingerprint: str, custody: str) -> VerifiedPackage:
    try:
        return check_package(data, fingerprint, custody.strip().lower())
    except Malformed as error:
        raise InvalidInput(f"{file}: {error.detail}", "get the file anew, unchanged") from error
    except Unproven as error:
        raise NotProven(error.code, f"{file} does not hold: {error.detail}", "believe nothing of it") from error


def _attested(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, separator, who = (part.strip() for part in one.partition("="))
        if not separator or not name or not who:
            raise InvalidInput(f"--attest {one!r} does not say who answers for it", "write --attest 'NAME=WHO'")
        if name in found:
            raise InvalidInput(f"{name!r} is attested twice", "give each name once")
        found[name] = who
    return found


def _say_witnesses(names: list[str], no_sync: bool) -> None:
    if names:
        labs = "1 other lab" if len(names) == 1 else f"{len(names):,} other labs"
        say(f"The checkpoint it takes is cosigned by {labs}: {', '.join(names)}")
        return
    asked = "; with --no-sync the hub was not asked" if no_sync else ""
    say(
        f"Who cosigned the checkpoint it takes: nobody yet: let other labs sync first, and build again{asked}", "yellow"
    )


def _say_findings(findings: tuple[Finding, ...]) -> None:
    for one in findings:
        verdict, style = ("met", "green") if one.met else ("NOT MET", "bold red" if one.required else "yellow")
        needed = "" if one.required else " (not required)"
        counted = "" if one.measure == "evidence" else f": {one.found:,} of at least {one.at_least:,}"
        said = f" ({one.said})" if one.said else ""
        say(f"  {verdict:8} {one.name} [{one.measure}]{counted}{said}{needed}", style)


def _findings(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
    names = ("name", "measure", "at_least", "required", "found", "said", "met")
    return [{name: getattr(one, name) for name in names} for one in findings]


def _report(document: dict[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        output.print_json(document)
    else:
        say(words, "green")


def _next_name(file: Path) -> Path:
    """The first free name of the form NAME.2.zip."""
    stem = file.name.removesuffix(".zip")
    for number in range(2, 10_000):
        path = file.with_name(f"{stem}.{number}.zip")
        if not path.exists():
            return path
    raise InvalidInput(f"too many packages beside {file}", "name the new one with --output")


def _write(path: Path, data: bytes) -> None:
    if path.exists():
        raise InvalidInput(f"{path} exists", "choose another name with --output")
    try:
        write_privately(path, data)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from error


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}") from error

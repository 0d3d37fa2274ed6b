"""`stillwatch referral criteria`: when a lab may turn to an authority, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.pattern_writing import now, report_issues, to_mend
from member_client.cli.publication import (
    DryRunOption,
    NoSyncOption,
    YesOption,
    bring_up_to_date,
    may_publish,
    published_document,
    say_published,
)
from member_client.errors import InvalidInput
from member_client.named_files import write_new
from member_client.patterns.finding import short_id
from member_client.referral import criteria
from member_client.referral.criteria_file import WrittenCriteria, read, starter

app = typer.Typer(help="When a lab may turn to an authority, and with what.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="A file with referral criteria.", show_default=False)]
CriteriaId = Annotated[str, typer.Argument(help="The criteria's id, or the beginning of it.", show_default=False)]


@app.command()
def new(
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this new file.", metavar="FILE")] = None,
) -> None:
    """Print (or write) a commented file of criteria to start from."""
    if out is None:
        typer.echo(starter(), nl=False)
        return
    write_new(out, starter())
    say(f"{out} written; edit it, then: stillwatch referral criteria lint {out}")


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Files with referral criteria.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Check files; exits 2 if anything is to be mended."""
    readings = [(file, read(file, now())) for file in files]
    if as_json:
        output.print_json(
            [
                {
                    "file": str(file),
                    "ok": not reading.issues,
                    "issues": [issue.document() for issue in reading.issues],
                }
                for file, reading in readings
            ]
        )
    else:
        for file, reading in readings:
            report_issues(reading.issues)
            if not reading.issues:
                say(f"{file}: fine", "green")
    if any(reading.issues for _, reading in readings):
        raise typer.Exit(InvalidInput.exit_code)


@app.command()
def submit(
    file: FileArgument,
    revise: Annotated[str, typer.Option(help="Publish it as the next version of these.", metavar="ID")] = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    no_sync: NoSyncOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish criteria, signed, for every member to read and use. What will be published is shown first, whole."""
    session = open_session(home)
    written = _written(file)
    document = {"file": str(file), "body": written.body}
    if not may_publish([(written.content.title, written.body)], document, dry_run=dry_run, yes=yes, as_json=as_json):
        return
    bring_up_to_date(session, no_sync, as_json)
    published = criteria.submit(session, written, revise)
    if as_json:
        output.print_json({"title": written.content.title} | published_document(published))
    else:
        say_published("", published, session)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List all criteria that labs have published."""
    found = criteria.list_all(open_session(home))
    if as_json:
        output.print_json([criteria.summary(item) for item in found])
        return
    output.table(
        ["id", "ver.", "title", "author", "state", "valid until"],
        [
            (
                short_id(item.version.id),
                item.version.version,
                item.version.title,
                item.author_name,
                item.state,
                item.version.valid_until[:10],
            )
            for item in found
        ],
    )


@app.command()
def show(
    record_id: CriteriaId,
    version: Annotated[int | None, typer.Option(help="By default the newest.", show_default=False)] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show criteria, whole."""
    session = open_session(home)
    found = criteria.document(session, criteria.find(session, record_id, version))
    if as_json:
        output.print_json(found)
        return
    body: dict[str, Any] = found["body"]
    say(f"{body['title']} ({found['state']})", "bold")
    say(f"{found['id']} version {found['version']}, by {found['author_name']}, entry {found['index']}")
    for name in ("jurisdiction", "authority", "statute", "marking", "purpose", "legal_basis", "valid_until"):
        say(f"{name.replace('_', ' ')}: {body[name]}")
    say(body["description"])
    rows = [
        (one["name"], one["measure"], one["at_least"], "yes" if one["required"] else "no") for one in body["criteria"]
    ]
    output.table(["criterion", "measure", "at least", "required"], rows)
    say(f"evidence: {', '.join(body['evidence'])}")


def _written(file: Path) -> WrittenCriteria:
    reading = read(file, now())
    report_issues(reading.issues)
    if reading.criteria is None:
        raise to_mend(file, reading.issues, "referral criteria lint")
    return reading.criteria

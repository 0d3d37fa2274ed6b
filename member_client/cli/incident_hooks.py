"""`stillwatch incident notify | deliveries | hooks`: who in the lab is told of incidents, and what became of it."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.errors import ClientError, InvalidInput
from member_client.incidents.deliveries import Deliveries, Delivery
from member_client.incidents.hooks import Mailbox, Webhook, read_hooks
from member_client.incidents.notifying import Report, outbox_file, signing_key
from member_client.incidents.notifying import notify as notify_hooks
from member_client.patterns.finding import short_id
from member_client.session import Session

UNDELIVERED = 4
"""Exit code of a run in which a try failed: try again later."""


def notify(
    again: Annotated[
        bool, typer.Option("--again", help="Also what waits for its next try, and what was given up.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the hooks of hooks.toml what they were not told yet. Made for a scheduler; `sync` does it too.

    Exits with 4 if something could not be delivered; it is tried again by later runs, for three days.
    """
    report = notify_hooks(open_session(home), again=again)
    if as_json:
        output.print_json(asdict(report) | {"failed": [{"hook": hook, "error": told} for hook, told in report.failed]})
    elif report.busy:
        say("another run is telling them")
    else:
        say(f"{report.found} new, {report.delivered} delivered", "green" if not report.failed else "")
        _warn(report)
    if report.failed:
        raise typer.Exit(UNDELIVERED)


def deliveries(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the hooks were told, and what they are still to be told."""
    session = open_session(home)
    found: list[Delivery] = []
    counts: dict[str, int] = {}
    if outbox_file(session.home).exists():
        with Deliveries(outbox_file(session.home)) as outbox:
            found, counts = outbox.listed(limit), outbox.count()
    if as_json:
        output.print_json({"counts": counts, "deliveries": [_document(one) for one in found]})
        return
    output.table(
        ["hook", "event", "incident", "index", "state", "tries", "next try or end", "error"],
        [
            (
                one.hook,
                one.kind,
                short_id(one.incident),
                one.index,
                one.state,
                one.tries,
                _moment(one.next_try if one.ended is None else one.ended),
                one.error,
            )
            for one in found
        ],
    )


def hooks(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check hooks.toml, and show whom it tells what, and the key by which a receiver checks the signature."""
    session = open_session(home)
    session.settings  # noqa: B018 - a folder that is no home must not get a key
    found = read_hooks(session.home)
    if found is None:
        raise InvalidInput(f"there is no {session.home.hooks}", "see docs/incidents.md")
    key = signing_key(session.home).public_key
    if as_json:
        shown = [_hook_document(one) for one in found.hooks]
        output.print_json({"public_key": str(key), "key_id": key.key_id, "hooks": shown})
        return
    output.table(
        ["hook", "tells", "of", "at levels"],
        [
            (one.name, one.where, ", ".join(sorted(one.events)), ", ".join(sorted(one.levels)) or "all")
            for one in found.hooks
        ],
    )
    say(f"Webhooks are signed by Ed25519 key {key}")
    say(f"  keyid {key.key_id}")


def notify_after_sync(session: Session) -> None:
    """Tell the hooks after a sync; what goes wrong is told on standard error and does not fail the sync."""
    try:
        report = notify_hooks(session)
    except (ClientError, OSError, sqlite3.Error) as error:
        output.warn(f"the hooks were not told of incidents: {error}")
        return
    _warn(report)


def _warn(report: Report) -> None:
    for hook, error in report.failed:
        output.warn(f"hook {hook} was not told: {error}")
    if report.given_up:
        output.warn(
            f"{report.given_up} given up; `stillwatch incident notify --again` tries them once more", "bold red"
        )


def _document(one: Delivery) -> dict[str, Any]:
    document = asdict(one)
    del document["document"]
    for name in ("queued", "next_try", "ended"):
        document[name] = _moment(document[name]) if document[name] is not None else None
    return document


def _hook_document(one: Webhook | Mailbox) -> dict[str, Any]:
    kind = "webhook" if isinstance(one, Webhook) else "email"
    told = {"events": sorted(one.events), "levels": sorted(one.levels)}
    return {"name": one.name, "kind": kind, "where": one.where, **told}


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"

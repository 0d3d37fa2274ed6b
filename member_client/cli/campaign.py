"""`stillwatch campaign`: what several labs see of the same patterns at the same time, from their sightings alone."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.errors import InvalidInput
from member_client.feedback import campaigns_seen
from member_client.patterns.finding import short_id
from member_client.session import Session
from sharing_protocol.campaigns import LEAST_LABS, Campaign, Share
from sharing_protocol.statements.handling import Bucket, lowest_of
from sharing_protocol.statements.header import format_timestamp

app = typer.Typer(help="See what several labs saw at the same time.", no_args_is_help=True)

AllOption = Annotated[bool, typer.Option("--all", help="Also what one lab alone saw.")]

_COLUMNS = 60
_SHORTEST_PREFIX = 4
_DAY = timedelta(days=1)


@app.command("list")
def list_campaigns(
    all_: AllOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the campaigns: from when to when, how many matches at the least, which labs they reached, in order."""
    session = open_session(home)
    found = campaigns_seen(session, session.now, 1 if all_ else LEAST_LABS)
    if as_json:
        output.print_json([_document(session, one) for one in found])
        return
    output.table(
        ["id", "from", "until before", "matches", "trend", "reached", "patterns"],
        [
            (
                short_id(one.id),
                _day(one.start),
                _day(one.end),
                _at_least(one.matches),
                one.trend,
                ", ".join(session.membership.name_of(share.lab) for share in one.shares),
                ", ".join(_title(session, pattern) for pattern in one.patterns),
            )
            for one in found
        ],
    )
    say(f"{len(found)} campaign{'' if len(found) == 1 else 's'}")


@app.command()
def show(
    campaign_id: Annotated[
        str, typer.Argument(help="The campaign's id, or the beginning of it.", metavar="ID", show_default=False)
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one campaign: its patterns, and what each lab saw on which days."""
    session = open_session(home)
    chosen = _resolve(campaigns_seen(session, session.now, 1), campaign_id)
    if as_json:
        output.print_json(_document(session, chosen))
        return
    say(f"{chosen.id}: {chosen.trend}", "bold")
    say(f"{_at_least(chosen.matches)} matches from {_day(chosen.start)} until before {_day(chosen.end)}")
    for pattern in chosen.patterns:
        say(f"pattern {short_id(pattern)} {_title(session, pattern)}")
    output.table(
        ["lab", "from", "until before", "matches", "accounts", "sightings"],
        [
            (
                session.membership.name_of(share.lab),
                _day(share.start),
                _day(share.end),
                _at_least(share.matches),
                _at_least(share.accounts),
                len(share.spans),
            )
            for share in chosen.shares
        ],
    )
    say("")
    _say_timeline(session, chosen)


def _say_timeline(session: Session, campaign: Campaign) -> None:
    days = (campaign.end - campaign.start) // _DAY
    step = -(-days // _COLUMNS)
    width = max(len(session.membership.name_of(share.lab)) for share in campaign.shares)
    columns = [campaign.start + number * step * _DAY for number in range(-(-days // step))]
    for share in campaign.shares:
        cells = "".join(_cell(share, first, first + step * _DAY) for first in columns)
        say(f"{session.membership.name_of(share.lab):<{width}}  {cells}")
    each = "a day" if step == 1 else f"{step} days"
    say(f"{'':<{width}}  each column {each} from {_day(campaign.start)}; a digit is how many digits the count of the")
    say(f"{'':<{width}}  sightings there has at the least (2: 10 to 99, 7: a million and more), '.' none")


def _cell(share: Share, first: datetime, end: datetime) -> str:
    sizes = [len(str(lowest_of(span.matches))) for span in share.spans if span.start < end and first < span.end]
    return str(max(sizes)) if sizes else "."


def _document(session: Session, campaign: Campaign) -> dict[str, Any]:
    document = asdict(campaign)
    for timed in (document, *document["shares"], *(span for share in document["shares"] for span in share["spans"])):
        timed["start"], timed["end"] = format_timestamp(timed["start"]), format_timestamp(timed["end"])
    for share in document["shares"]:
        share["name"] = session.membership.name_of(share["lab"])
    return document


def _resolve(found: list[Campaign], text: str) -> Campaign:
    prefix = text.removeprefix("campaign--").lower()
    if len(prefix) < _SHORTEST_PREFIX:
        raise InvalidInput(f"{text!r} is too short an id", f"give at least {_SHORTEST_PREFIX} of its characters")
    fitting = [one for one in found if one.id.removeprefix("campaign--").startswith(prefix)]
    if len(fitting) != 1:
        what = "there is no campaign" if not fitting else f"{len(fitting)} campaigns begin with"
        raise InvalidInput(f"{what} {text!r}", "`stillwatch campaign list --all` shows them")
    return fitting[0]


def _title(session: Session, pattern: str) -> str:
    versions = session.store.versions(id=pattern, newest_only=True)
    return versions[-1].title if versions else pattern


def _day(moment: datetime) -> str:
    return format_timestamp(moment)[:10]


def _at_least(bucket: Bucket | None) -> str:
    return f"{lowest_of(bucket)}+" if bucket is not None else "not known"

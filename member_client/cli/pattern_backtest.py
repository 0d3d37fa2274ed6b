"""`stillwatch pattern backtest`: what a pattern would have found in this lab's own history."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from member_client.backtest.backtesting import Backtest
from member_client.backtest.backtesting import backtest as run_backtest
from member_client.backtest.chart import days_drawn
from member_client.backtest.legitimate import read_legitimate
from member_client.backtest.measured import measured
from member_client.cli import output
from member_client.cli.chosen_pattern import ChosenPattern, choose_pattern
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.cli.reading_logs import (
    Broken,
    FilesArgument,
    LogsOption,
    MapOption,
    MemoryOption,
    SinceOption,
    progress,
    sources_of,
    warn_left_out,
    warn_missing,
    warn_unreadable,
)
from member_client.detection import runs
from member_client.detection.detecting import Options, parse_memory, parse_since
from member_client.detection.findings import check_target, shown_time
from member_client.detection.in_force import RunnablePattern, Selection, check_runnable, select
from member_client.detection.log_settings import all_files
from member_client.detection.request_logs import total_bytes
from member_client.errors import InvalidInput
from member_client.home import locate
from member_client.lifecycle.backtests import keep_backtest, kept_of
from member_client.patterns.finding import resolve, short_id
from member_client.patterns.trials import try_new
from member_client.patterns.yaml_writing import dump
from member_client.pictures import check_chart, write_chart
from member_client.session import Session

SHOWN_DAYS = 62
SHOWN_PATTERNS = 10
_BAR = 40


def backtest(
    pattern: Annotated[
        str, typer.Argument(help="A record's id, or the beginning of one; or a pattern file.", show_default=False)
    ],
    files: FilesArgument = None,
    logs: LogsOption = None,
    since: SinceOption = "",
    legitimate: Annotated[
        str,
        typer.Option(
            help="Accounts that you know as legitimate: one id a line, or a column of CSV or Parquet "
            "(account.id by default). Without them no false-positive rate is claimed.",
            metavar="FILE[:COLUMN]",
            show_default=False,
        ),
    ] = "",
    chart: Annotated[
        Path | None,
        typer.Option(help="Draw matches by day: .png, .html or .svg.", metavar="FILE", show_default=False),
    ] = None,
    as_measured: Annotated[
        bool, typer.Option("--measured", help="Print only the `measured` block for the pattern file.")
    ] = False,
    version: Annotated[
        int | None,
        typer.Option("--version", min=1, help="Of a record; by default the newest.", metavar="N", show_default=False),
    ] = None,
    revises: Annotated[
        str,
        typer.Option(
            "--revises",
            help="The record that the file shall revise, so that it does not count as another pattern. "
            "By default your own ones with the file's title or logic.",
            metavar="ID",
            show_default=False,
        ),
    ] = "",
    mappings: MapOption = None,
    memory: MemoryOption = "2GB",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a pattern over your own logs, also one that nobody has submitted yet, and see what it would have found.

    Reports matches by day, accounts and clusters, the share of traffic, how many of these accounts the patterns in
    force flag already, and how often it flags accounts that you know as legitimate. Nothing leaves this machine.
    Of a record the result is kept in the home: a policy.toml lets no pattern flag without one.
    A pattern file over logs that you name needs no home; nothing is then said of the patterns in force.
    """
    chosen = choose_pattern(pattern, version, home)
    if revises and chosen.id:
        raise InvalidInput("--revises goes with a pattern file", "leave it out: a record is known by its id")
    session = None if _needs_no_home(chosen, files, home, revises) else open_session(home)
    sources = sources_of(locate(home), files or [], logs, mappings or [])
    if chart is not None:
        check_chart(chart)
        check_target(chart, "--chart")
    known_good = read_legitimate(legitimate) if legitimate else None
    options = Options(since=parse_since(since) if since else None, memory=parse_memory(memory))
    tested = _runnable(chosen)
    selection, own = _in_force(session, chosen, revises)
    others = [one for one in selection.runnable if one.id not in own]
    broken = Broken()
    started = time.monotonic()
    with ExitStack() as running:
        if session is None:
            folder = Path(running.enter_context(TemporaryDirectory(prefix="stillwatch-backtest-")))
        else:
            folder = runs.folder(session.home)
        report_progress = running.enter_context(progress(total_bytes(all_files(sources)), as_json))
        result = run_backtest(tested, others, sources, options, folder, broken.note, known_good, report_progress)
    if not result.requests:
        warn_unreadable(result.readability)
        broken.warn()
        raise InvalidInput("these logs have no requests to look at", "name other files, or an earlier --since")
    if chart is not None:
        write_chart(chart, days_drawn(tested.title, result.days))
    _keep(session, chosen, result)
    if as_json:
        seconds = round(time.monotonic() - started, 3)
        document = _document(chosen, result, selection, broken)
        if session is None:
            document["known"] = None
        set_aside = sorted(own & {one.id for one in selection.runnable})
        output.print_json(document | {"own_records": set_aside, "seconds": seconds})
    elif as_measured:
        warn_unreadable(result.readability)
        typer.echo(dump({"measured": measured(result)}), nl=False)
        _warn_missing(tested, result)
        broken.warn()
    else:
        _report(chosen, result, asked_others=session is not None)
        for one in selection.runnable:
            if one.id in own:
                say(f"its own record does not count as another pattern: {short_id(one.id)} version {one.version}")
        if chart is not None:
            say(f"chart: {chart}")
        warn_left_out(selection)
        _warn_missing(tested, result)
        warn_unreadable(result.readability)
        broken.warn()


def _keep(session: Session | None, chosen: ChosenPattern, result: Backtest) -> None:
    """Keep the result of a record, for the lab's policy."""
    if session is not None and chosen.id:
        keep_backtest(session, kept_of(chosen.entry, session.now, result))


def _needs_no_home(chosen: ChosenPattern, files: list[str] | None, home: Path | None, revises: str) -> bool:
    """Whether nothing is asked of a home: there is none, and a file is to run over logs that are named."""
    return home is None and not chosen.id and bool(files) and not revises and not locate(home).config.exists()


def _in_force(session: Session | None, chosen: ChosenPattern, revises: str) -> tuple[Selection, frozenset[str]]:
    """The patterns in force, and ids of those that the pattern is not to be compared with."""
    if session is None:
        return Selection((), ()), frozenset()
    try_new(session.store)
    return select(session), _own_records(session, chosen, revises)


def _own_records(session: Session, chosen: ChosenPattern, revises: str) -> frozenset[str]:
    """Ids of the records that the pattern is, or will be, a version of.

    Raises:
        InvalidInput: see `resolve`.
    """
    if chosen.id:
        return frozenset([chosen.id])
    if revises:
        return frozenset([resolve(session.store, revises)[-1].id])
    return frozenset(
        one.id
        for one in session.store.versions(type="pattern", newest_only=True)
        if one.author == session.settings.member
        and (one.title == chosen.body.title or session.store.pattern(one).body.logic == chosen.body.logic)
    )


def _runnable(chosen: ChosenPattern) -> RunnablePattern:
    """The pattern, compiled.

    Raises:
        InvalidInput: DuckDB cannot run it, or not say exactly what it means.
    """
    body = chosen.body
    runnable = RunnablePattern(
        chosen.id, chosen.version, chosen.entry, body.title, body.severity.value, chosen.logic, body.kind.value
    )
    check_runnable(runnable)
    return runnable


def _document(chosen: ChosenPattern, result: Backtest, selection: Selection, broken: Broken) -> dict[str, Any]:
    wrong = result.false_positives
    return {
        "pattern": {
            "id": chosen.id or None,
            "version": chosen.version or None,
            "entry" if chosen.id else "file_sha256": chosen.entry,
            "title": chosen.body.title,
            "category": result.category.value,
        },
        "requests": result.requests,
        "accounts": result.accounts,
        "broken_rows": broken.count,
        "first": shown_time(result.first),
        "last": shown_time(result.last),
        "matches": result.matches,
        "undated": result.undated,
        "events": result.events,
        "events_matched": result.matched,
        "match_rate": result.match_rate,
        "requests_matched": result.requests_matched,
        "requests_share": result.requests_share,
        "accounts_flagged": result.flagged,
        "accounts_share": result.accounts_share,
        "clusters": result.clusters,
        "days": [{"day": str(one.day), "requests": one.requests, "matches": one.matches} for one in result.days],
        "known": asdict(result.known),
        "false_positives": None
        if wrong is None
        else asdict(wrong) | {"rate": wrong.rate, "interval": wrong.interval and list(wrong.interval)},
        "measured": measured(result) if result.events and not result.hopeless else None,
        "missing_fields": list(result.missing),
        "could_not_match": result.hopeless,
        "left_out": [asdict(one) for one in selection.left_out],
        "first_broken_rows": broken.document(),
        **result.readability.document(),
    }


def _report(chosen: ChosenPattern, result: Backtest, *, asked_others: bool) -> None:
    say(chosen.body.title, "bold")
    say(chosen.origin)
    period = f", {result.days[0].day} to {result.days[-1].day}" if result.days else ""
    say(f"over {_many(result.requests, 'request')} of {_many(result.accounts, 'account')}{period}")
    clusters = f"; {_many(result.clusters, 'cluster')}" if result.clusters else ""
    undated = f", {result.undated:,} of them undated" if result.undated else ""
    say(f"matches: {result.matches:,}{undated}{clusters}")
    say(
        f"share of traffic: {_many(result.requests_matched, 'request')} ({_percent(result.requests_share)}), "
        f"{_many(result.flagged, 'account')} ({_percent(result.accounts_share)})"
    )
    if asked_others:
        _report_known(result)
    else:
        say("already known: not asked, as there is no home here (`stillwatch init` makes one)")
    _report_false_positives(result)
    _report_days(result)
    if chosen.id:
        say(f"kept: `stillwatch policy explain {short_id(chosen.id)}` says what it is good for")


def _report_known(result: Backtest) -> None:
    known = result.known
    if not known.patterns:
        say("already known: no other pattern is in force here")
        return
    say(
        f"already known: {known.shared:,} of these accounts are flagged by other patterns in force "
        f"({known.patterns:,} ran, and flag {_many(known.accounts, 'account')}); new: {known.new:,}"
    )
    if known.overlaps:
        output.table(
            ["shared", "accounts", "pattern", "title"],
            [
                (f"{one.shared:,}", f"{one.accounts:,}", short_id(one.id), one.title)
                for one in known.overlaps[:SHOWN_PATTERNS]
            ],
        )


def _report_false_positives(result: Backtest) -> None:
    wrong = result.false_positives
    if wrong is None:
        say("false positives: not known; name accounts that you know as legitimate with --legitimate")
        return
    if wrong.rate is None or wrong.interval is None:
        say(f"false positives: not known; none of the {wrong.named:,} legitimate accounts sent requests")
        return
    low, high = wrong.interval
    say(
        f"false positives: {wrong.flagged:,} of {wrong.seen:,} accounts known as legitimate: {_percent(wrong.rate)} "
        f"(95 % interval {_percent(low)} to {_percent(high)}); of others only as far as they are like these"
    )
    if wrong.some:
        say(f"flagged among them: {', '.join(wrong.some)}", "yellow")


def _report_days(result: Backtest) -> None:
    shown = result.days[-SHOWN_DAYS:]
    most = max((one.matches for one in shown), default=0)
    block = "█" if (output.console.encoding or "").lower().startswith("utf") else "#"
    if len(result.days) > len(shown):
        say(f"the newest {len(shown)} of {len(result.days)} days:")
    output.table(
        ["day", "requests", "matches", ""],
        [
            (one.day, f"{one.requests:,}", f"{one.matches:,}", block * -(-one.matches * _BAR // max(1, most)))
            for one in shown
        ],
    )


def _warn_missing(tested: RunnablePattern, result: Backtest) -> None:
    if result.missing:
        hopeless = frozenset([tested.entry] if result.hopeless else [])
        warn_missing({tested.entry: result.missing}, hopeless, {tested.entry: tested.title})


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    """To two digits that say something: 0.042 % is not 0 %."""
    return f"{float(f'{share * 100:.2g}'):,.10g} %"

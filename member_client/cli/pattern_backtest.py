"""`stillwatch pattern backtest`: what a pattern would have found in this lab's own history."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.backtest.backtesting import Backtest
from member_client.backtest.backtesting import backtest as run_backtest
from member_client.backtest.chart import check_chart, write_chart
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
)
from member_client.detection import runs
from member_client.detection.detecting import Options, parse_memory, parse_since
from member_client.detection.findings import check_target, shown_time
from member_client.detection.in_force import RunnablePattern, Selection, select
from member_client.detection.log_settings import all_files
from member_client.detection.request_logs import total_bytes
from member_client.errors import InvalidInput
from member_client.lifecycle.backtests import keep_backtest, kept_of
from member_client.patterns.finding import short_id
from member_client.patterns.trials import try_new
from member_client.patterns.yaml_writing import dump

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
    mappings: MapOption = None,
    memory: MemoryOption = "2GB",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a pattern over your own logs, also one that nobody has submitted yet, and see what it would have found.

    Reports matches by day, accounts and clusters, the share of traffic, how many of these accounts the patterns in
    force flag already, and how often it flags accounts that you know as legitimate. Nothing leaves this machine.
    Of a record the result is kept in the home: a policy.toml lets no pattern flag without one.
    """
    chosen = choose_pattern(pattern, version, home)
    session = open_session(home)
    sources = sources_of(session.home, files or [], logs, mappings or [])
    if chart is not None:
        check_chart(chart)
        check_target(chart, "--chart")
    known_good = read_legitimate(legitimate) if legitimate else None
    options = Options(since=parse_since(since) if since else None, memory=parse_memory(memory))
    tested = _runnable(chosen)
    try_new(session.store)
    selection = select(session)
    others = [one for one in selection.runnable if one.id != chosen.id]
    broken = Broken()
    started = time.monotonic()
    with progress(total_bytes(all_files(sources)), as_json) as report_progress:
        result = run_backtest(
            tested, others, sources, options, runs.folder(session.home), broken.note, known_good, report_progress
        )
    if not result.requests:
        broken.warn()
        raise InvalidInput("these logs have no requests to look at", "name other files, or an earlier --since")
    if chart is not None:
        write_chart(chart, tested.title, result.days)
    if chosen.id:
        keep_backtest(session, kept_of(chosen.entry, session.now, result))
    if as_json:
        seconds = round(time.monotonic() - started, 3)
        output.print_json(_document(chosen, result, selection, broken) | {"seconds": seconds})
    elif as_measured:
        typer.echo(dump({"measured": measured(result)}), nl=False)
        _warn_missing(tested, result)
        broken.warn()
    else:
        _report(chosen, result)
        if chart is not None:
            say(f"chart: {chart}")
        if chosen.id:
            say(f"kept: `stillwatch policy explain {short_id(chosen.id)}` says what it is good for")
        warn_left_out(selection)
        _warn_missing(tested, result)
        broken.warn()


def _runnable(chosen: ChosenPattern) -> RunnablePattern:
    """The pattern, compiled.

    Raises:
        Unsupported: DuckDB cannot say exactly what it means.
    """
    body = chosen.body
    runnable = RunnablePattern(
        chosen.id, chosen.version, chosen.entry, body.title, body.severity.value, chosen.logic, body.kind.value
    )
    runnable.compiled  # noqa: B018 - so that it fails before logs are read
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
    }


def _report(chosen: ChosenPattern, result: Backtest) -> None:
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
    _report_known(result)
    _report_false_positives(result)
    _report_days(result)


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

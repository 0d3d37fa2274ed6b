"""`stillwatch evaluate`: would these patterns find a campaign that nobody tuned them to?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.errors import InvalidInput
from member_client.pictures import check_chart, write_chart

if TYPE_CHECKING:
    from member_client.evaluation.candidates import Candidate
    from member_client.evaluation.prompts import PromptFile

_MIX = re.compile("([1-9][0-9]{0,3}):([0-9]{1,4})", re.ASCII)
_MAX_ORDINARY = 1_000_000
_MAX_DAYS = 60
_MANY = ("--attack", "--benign", "--batch", "--pattern")


class Which(StrEnum):
    """Which patterns are evaluated."""

    STARTER = "starter"
    ACTIVE = "active"


class Windows(StrEnum):
    """Which windows of accounts and clusters are built."""

    LAST = "last"
    ALL = "all"


class _ManyValues(TyperCommand):
    """Lets an option take several values, as shells make them of `--attack folder/*`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args))


def spread(arguments: Sequence[str]) -> list[str]:
    """Repeat an option that takes many values before each of them."""
    spread_out: list[str] = []
    option = ""
    for position, argument in enumerate(arguments):
        if argument.startswith("-"):
            option = argument if argument in _MANY else ""
            spread_out.append(argument)
        elif option and arguments[position - 1] != option:
            spread_out += [option, argument]
        else:
            spread_out.append(argument)
    return spread_out


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("evaluate", cls=_ManyValues)
def evaluate(
    attack: Annotated[
        list[Path],
        typer.Option(
            "--attack",
            help="Prompts of attacks, a campaign a file: JSON lines with `prompt`, also gzip or zstd; or a folder.",
            metavar="FILE…",
            show_default=False,
        ),
    ],
    benign: Annotated[
        list[Path],
        typer.Option("--benign", help="Prompts of ordinary use, likewise.", metavar="FILE…", show_default=False),
    ],
    batch: Annotated[
        list[Path] | None,
        typer.Option(
            "--batch",
            help="Prompts of heavy batch customers; by default the benign files named *batch* or eval_*.",
            metavar="FILE…",
            show_default=False,
        ),
    ] = None,
    allow_list: Annotated[
        Path | None,
        typer.Option(
            "--allow-list",
            help="Names of files of batch customers, one a line: whose prompts they are stand on the lab's allow-list, "
            "and no others. By default four in five of all, the established ones.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    accounts: Annotated[
        int, typer.Option("--accounts", help="Accounts of each campaign.", min=1, max=1_000_000)
    ] = 1000,
    mix: Annotated[str, typer.Option("--mix", help="Attack to ordinary prompts on each of them.")] = "1:1",
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same figures.", min=0, max=2**31)] = 1,
    ordinary: Annotated[
        int, typer.Option("--ordinary-accounts", help="Ordinary accounts.", min=100, max=_MAX_ORDINARY)
    ] = 20_000,
    days: Annotated[int, typer.Option("--days", help="Length of the period.", min=2, max=_MAX_DAYS)] = 7,
    patterns: Annotated[
        Which, typer.Option("--patterns", help="starter: those that ship with it; active: those in force here.")
    ] = Which.STARTER,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern", help="Only these: names of starters, or pattern files.", metavar="NAME…", show_default=False
        ),
    ] = None,
    windows: Annotated[
        Windows,
        typer.Option(
            "--windows",
            help="last: those that end with the period; all: of every day, for the time to detection; slow.",
        ),
    ] = Windows.LAST,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Judge each attack file with nothing tuned to it.")
    ] = False,
    curves: Annotated[
        bool, typer.Option("--curves", help="Also over 1 to 10,000 accounts, mixed 1:0, 1:1 and 1:10.")
    ] = False,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            help="Measure the curves (minutes), and draw them: .png, .html or .svg.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay real prompts as a simulated lab's traffic, run patterns over it, and compare with the truth.

    Every attack file becomes a campaign that hides among ordinary accounts. Nothing leaves this machine.
    docs/evaluation.md says what the simulated lab is like, and what the figures cannot say.
    """
    from member_client.detection.findings import check_target
    from member_client.evaluation.chart import curves_drawn  # these take a second, which other commands shall not pay
    from member_client.evaluation.evaluating import Evaluation
    from member_client.evaluation.prompts import read_names
    from member_client.evaluation.world import Settings, gather

    settings = Settings(accounts, _parse_mix(mix), seed, ordinary, days)
    if chart is not None:
        check_chart(chart)
        check_target(chart, "--chart")
    candidates = _candidates(patterns, pattern or [], home)
    allowed = None if allow_list is None else read_names(allow_list)
    prompts = gather(_read(attack), _read(benign), _read(batch or []), allowed)
    with _progress(as_json) as told:
        evaluation = Evaluation(prompts, candidates, told, last_windows=windows is Windows.LAST)
        report: dict[str, Any] = {"format": 1, **evaluation.run(settings)}
        report["allow_list"] = None if allowed is None else sorted(allowed)
        if leave_one_out:
            report["leave_one_out"] = evaluation.leave_one_out(settings)
        if curves or chart is not None:
            report["curves"] = evaluation.curves(settings)
    if chart is not None:
        write_chart(chart, curves_drawn(report["curves"]))
    if as_json:
        output.print_json(report)
        return
    _show(report)
    if chart is not None:
        say(f"drawn: {chart}")


def _parse_mix(text: str) -> tuple[int, int]:
    parsed = _MIX.fullmatch(text)
    if parsed is None:
        raise InvalidInput(f"--mix {text} is no ratio", "write attack:ordinary, such as 1:1, 1:10 or 1:0")
    return int(parsed[1]), int(parsed[2])


def _read(paths: Sequence[Path]) -> list[PromptFile]:
    from member_client.evaluation.prompts import read_prompts

    files: list[Path] = []
    for path in paths:
        inside = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
        if not inside:
            raise InvalidInput(f"the folder {path} is empty", "name files of prompts")
        files += inside
    read = read_prompts(files)
    for file in read:
        if file.broken:
            output.warn(f"{file.name}: {file.broken:,} lines without a prompt left out")
    return read


def _candidates(patterns: Which, names: Sequence[str], home: Path | None) -> list[Candidate]:
    from member_client.detection.in_force import check_runnable, why_not_runnable
    from member_client.evaluation import candidates

    if names:
        named = [
            candidates.from_file(Path(name)) if name.endswith((".yaml", ".yml")) else candidates.starters([name])[0]
            for name in dict.fromkeys(names)
        ]
        for one in named:
            check_runnable(one.runnable)
        return named
    if patterns is Which.STARTER:
        return candidates.starters()
    active: list[Candidate] = []
    for one in candidates.in_force(open_session(home)):
        if reason := why_not_runnable(one.runnable):
            output.warn(f"left out: {one.title}: {reason}")
        else:
            active.append(one)
    if not active:
        raise InvalidInput("no pattern is in force here", "run `stillwatch sync`, see `stillwatch pattern list`")
    return active


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str], None]]:
    if as_json or not output.errors.is_terminal:
        yield lambda _: None
        return
    with output.errors.status("reading") as status:
        yield status.update


def _show(report: dict[str, Any]) -> None:
    settings = report["settings"]
    say(
        f"{settings['days']} days; {settings['ordinary_accounts']:,} ordinary accounts; "
        f"each campaign on at most {settings['accounts']:,} accounts, mixed {settings['mix']}"
    )
    _show_recall(report)
    if "leave_one_out" in report:
        say("Leaving one out: each file judged with nothing tuned to it", "bold")
        _show_recall(report["leave_one_out"])
    output.table(
        ["pattern", "volume found", "ordinary accounts flagged", "batch customers flagged, list or not"],
        [
            (name, _percent(one["recall_volume"]), _flagged(one), _batch(one))
            for name, one in report["by_pattern"].items()
        ],
    )
    output.table(
        ["kind of customer", "flagged", "95 % interval"],
        [
            (name, f"{one['accounts_flagged_count']:,}", _interval(one["accounts_flagged_interval"]))
            for name, one in report["by_kind"].items()
        ],
    )
    for point in report.get("curves", []):
        total = point["total"]
        say(
            f"{point['accounts']:>6,} accounts, {point['mix']:>4}: {_percent(total['recall_volume'])} of the volume, "
            f"{_percent(total['recall_accounts'])} of the accounts, {_flagged(total)} ordinary accounts"
        )


def _show_recall(report: dict[str, Any]) -> None:
    rows = [*report["by_corpus"].items(), ("in total", report["total"])]
    output.table(
        ["attack", "requests", "accounts", "volume found", "95 % interval", "accounts found", "hours to detection"],
        [
            (
                name,
                f"{one['attack_requests']:,}",
                f"{one['attack_accounts']:,}",
                _percent(one["recall_volume"]),
                _interval(one["recall_volume_interval"]),
                _percent(one["recall_accounts"]),
                "not found" if one["hours_to_detection"] is None else f"{one['hours_to_detection']:.1f}",
            )
            for name, one in rows
        ],
    )
    total = report["total"]
    say(
        f"ordinary accounts flagged: {_flagged(total)}; batch customers flagged: {total['batch_customers_flagged']} "
        f"on the allow-list ({total['batch_customers_flagged_without_list']} if it were not heeded), "
        f"{total['new_batch_customers_flagged']} not on it"
    )


def _batch(one: dict[str, Any]) -> str:
    return f"{one['batch_customers_flagged_without_list'] + one['new_batch_customers_flagged']}"


def _flagged(one: dict[str, Any]) -> str:
    return f"{one['ordinary_accounts_flagged_count']} ({one['ordinary_accounts_flagged_share']:.3%})"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _interval(interval: Sequence[float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"

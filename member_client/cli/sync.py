"""`stillwatch sync`: made for cron and systemd timers."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from filelock import FileLock, Timeout

from member_client.cli import output
from member_client.cli.moved_patterns import Moved, move
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.diagnosis import SKEW_SECONDS, skew_notice
from member_client.errors import ClientError, HubUnreachable, InvalidInput
from member_client.feedback import news_for_author
from member_client.feedback_in_words import voice_document, voice_in_words
from member_client.patterns.trials import TrialCounts, try_new
from member_client.session import Session
from member_client.sync.following import SyncReport, acknowledge
from member_client.sync.judging import REJECTED as REJECTED_VERDICT
from member_client.sync.store import RefusedEntry
from member_client.sync.watching import watch

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

MAX_WAIT_SECONDS = 120.0
LONGEST_RUN_SECONDS = 3600.0
"""How much older than fresh the state may be while another run is under way."""
REJECTED = 5
"""An entry was rejected that an honest hub would not have let into the log."""


def sync(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on for ever: have what is new as soon as the hub has it.")
    ] = False,
    jitter: Annotated[
        float, typer.Option(min=0, max=3600, help="Wait up to this many seconds first, at random.")
    ] = 0.0,
    witness: Annotated[
        bool | None,
        typer.Option(
            "--witness/--no-witness", help="Cosign what was verified; by default if there is a witness key here."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something is wrong.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch, verify and store what the log has gained; try new patterns against their own tests.

    Runs that overlap do no harm: the second says so and exits 0. A failed verification leaves the last good state.
    With --follow, --json prints a line whenever there is news; SIGTERM and Ctrl-C end it.
    """
    session = open_session(home)
    if jitter:
        time.sleep(random.uniform(0, jitter))  # noqa: S311 - spreads load, guards nothing
    voice = _Voice(session, quiet, as_json, one_line=follow)
    if witness and not session.witness_keys:
        raise InvalidInput("this home has no witness key", "make one with `stillwatch key new witness`")
    cosigns = witness if witness is not None else bool(session.witness_keys)
    try:
        if follow:
            _follow(session, voice, cosigns)
        else:
            voice.tell(run(session, show=voice.shows_progress, wait=0, cosigns=cosigns))
            _tell_hooks(session)
    except Timeout:
        if not follow:
            _check_busy(session)
        voice.say({"status": "busy", "home": str(session.home.path)}, "another sync is running")
        return
    if voice.rejected:
        raise typer.Exit(REJECTED)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did.

    Attributes:
        trials: how many patterns passed and failed their own tests here.
        moved: where patterns stand now that stood elsewhere before; None if no policy.toml says how far they may go.
    """

    report: SyncReport
    trials: TrialCounts
    moved: Moved | None


class _Voice:
    """Says how syncs went, to people or to a script."""

    def __init__(self, session: Session, quiet: bool, as_json: bool, *, one_line: bool) -> None:
        self._session = session
        self._quiet = quiet
        self.as_json = as_json
        self._one_line = one_line
        self._trouble = ""
        self._refused: list[RefusedEntry] = []
        self._notices: list[str] = [""]
        self.is_first = True
        """Whether nothing was told so far."""
        self.rejected = False
        """Whether any run met an entry that has no right to be in the log."""

    @property
    def shows_progress(self) -> bool:
        """Whether somebody may be looking at the first run."""
        return self.is_first and not (self._quiet or self.as_json)

    def tell(self, ran: Ran) -> None:
        """Say what a run did, and have it noted that this was said."""
        report, moved = ran.report, ran.moved
        news = news_for_author(self._session, self._session.store.reported)
        document = {
            "status": "rejected entries" if report.rejected else "ok",
            "name": self._session.settings.name,
            "previous": report.previous,
            "entries": report.cursor,
            "new": report.cursor - report.previous,
            "checkpoint_age_seconds": round(report.checkpoint_age, 1),
            "refused": [
                {"index": entry.index, "verdict": entry.verdict, "code": entry.code, "reason": entry.reason}
                for entry in report.refused
            ],
            "refused_in_all": sum(report.counts.values()),
            "evidence": [str(path) for path in report.evidence],
            "interrupted": str(report.interruption) if report.interruption else None,
            "patterns_tried": {"passed": ran.trials.passed, "failed": ran.trials.failed},
            "lifecycle": moved.document() if moved is not None else None,
            "clock_skew_seconds": round(report.skew, 1),
            "waiting": report.waiting or None,
            "cosigned": report.witness.cosigned if report.witness else None,
            "notices": notices(report),
            "feedback": [voice_document(one, self._session.membership) for one in news],
        }
        self.say(document, f"{report.cursor - report.previous} new entries verified, {report.cursor} in all")
        if not self.as_json:
            _warn(report)
            for notice in [*notices(report), *(moved.notices() if moved is not None else ())]:
                output.warn(notice)
            for line in moved.news() if moved is not None and not self._quiet else ():
                say(line)
            for one in news:
                say(voice_in_words(one, self._session), "yellow")
        # If this process ends before the next line has taken effect, the next run says all of it again.
        acknowledge(self._session.store, report)
        self.is_first = False
        self.rejected = self.rejected or bool(report.rejected)

    def tell_news(self, ran: Ran) -> None:
        """The same of one run of many, if there is anything to say."""
        report, moved = ran.report, ran.moved
        recovered = bool(self._trouble) and report.interruption is None
        # A run that was interrupted is not acknowledged, and the next one reports the same entries again.
        refused = [entry.index for entry in report.refused if entry not in self._refused]
        said = [*notices(report), moved.problem if moved is not None else ""]
        told = report.cursor != report.previous or said != self._notices or (moved is not None and moved.changes)
        if self.is_first or recovered or told or refused:
            self.tell(ran)
        self._notices = said
        if recovered:
            self._trouble = ""
        self._refused = report.refused

    def tell_trouble(self, error: HubUnreachable, pause: float) -> None:
        """Say that the hub cannot be followed: once, and once more when what is believed here is no longer fresh."""
        trusted = self._session.store.trusted()
        age = self._session.clock() - trusted.timestamp if trusted is not None else 0.0
        stale = age > self._session.settings.max_checkpoint_age
        trouble = f"{error}{'; what is believed here is no longer fresh' if stale else ''}"
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if self.as_json:
            document = {"status": "unreachable", "message": trouble, "checkpoint_age_seconds": round(age, 1)}
            output.print_json({**document, "again_in_seconds": round(pause, 1)}, one_line=self._one_line)
        else:
            output.warn(f"{trouble}; trying again until it answers")

    def say(self, document: dict[str, Any], sentence: str) -> None:
        """A document for a script, or a sentence for a person who wants to hear it."""
        if self.as_json:
            output.print_json(document, one_line=self._one_line)
        elif not self._quiet:
            say(sentence, "green" if document["status"] == "ok" else "")


def bring_up_to_date(session: Session, show: bool = False) -> None:
    """Follow the log before a command that needs its present state; what is wrong with it, `sync` will tell in full.

    Raises:
        ClientError: see `following.follow`.
    """
    ran = run(session, show)
    report = ran.report
    for notice in ran.moved.notices() if ran.moved is not None else ():
        output.warn(notice)
    if report.rejected:
        count = report.counts[REJECTED_VERDICT]
        told = f"{count} entr{'y' if count == 1 else 'ies'} of the log have no right to be there: run `stillwatch sync`"
        output.warn(told, "bold red")
    if report.interruption is not None:
        raise report.interruption


def run(session: Session, show: bool = False, wait: float = MAX_WAIT_SECONDS, *, cosigns: bool = False) -> Ran:
    """Follow the log, try the new patterns, and see how far each may go now, while no other run does.

    Args:
        wait: seconds to wait for a run that is under way.
        cosigns: whether this home's witness key cosigns what was verified.

    Raises:
        Timeout: another run is still under way.
    """
    _check_pinned(session)
    with session.connect() as hub:
        return _run(session, hub, show=show, wait=wait, cosigns=cosigns)


def _run(
    session: Session,
    hub: HubConnection,
    note: bytes | None = None,
    *,
    show: bool,
    wait: float = MAX_WAIT_SECONDS,
    cosigns: bool = False,
) -> Ran:
    with FileLock(session.home.sync_lock, timeout=wait, mode=0o600):
        with _progress("verifying", show) as progress:
            report = session.sync(hub, progress, note, cosigns=cosigns)
        return Ran(report, try_new(session.store), move(session))


def _follow(session: Session, voice: _Voice, cosigns: bool) -> None:
    """Sync until somebody ends it, or something is wrong that trying again does not mend.

    Raises:
        Timeout: another process follows for this home.
    """
    _check_pinned(session)

    def run_once(note: bytes | None) -> SyncReport:
        try:
            ran = _run(session, hub, note, show=voice.shows_progress, wait=LONGEST_RUN_SECONDS, cosigns=cosigns)
        except Timeout:
            raise HubUnreachable("another sync is running, and does not end", "see what it waits for") from None
        voice.tell_news(ran)
        _tell_hooks(session)
        return ran.report

    for ending in (signal.SIGTERM, signal.SIGINT):  # the second is ignored in what a shell starts in the background
        signal.signal(ending, signal.default_int_handler)
    try:
        with FileLock(session.home.follow_lock, timeout=0, mode=0o600), session.connect(attempts=1) as hub:
            watch(hub, run_once, voice.tell_trouble)
    except KeyboardInterrupt:
        return
    except ClientError as error:
        output.report_error(error, voice.as_json, one_line=True)
        raise typer.Exit(error.exit_code) from error


def _tell_hooks(session: Session) -> None:
    """Tell the lab's hooks what is new of incidents, if it has any; what goes wrong there is told, and no more."""
    if session.home.hooks.exists():
        from member_client.cli.incident_hooks import notify_after_sync  # few homes have hooks

        notify_after_sync(session)


def _check_pinned(session: Session) -> None:
    if not session.settings.forum:
        raise InvalidInput(
            "no forum is pinned", "ask an admin for its fingerprint, then run `stillwatch pin FINGERPRINT`"
        )


def _check_busy(session: Session) -> None:
    """A run that is under way is no excuse for ever: a hub that only ever drips would freeze a client unnoticed.

    Raises:
        HubUnreachable: what this client believes has grown old meanwhile.
    """
    trusted = session.store.trusted()
    age = session.clock() - trusted.timestamp if trusted is not None else 0
    if age > session.settings.max_checkpoint_age + LONGEST_RUN_SECONDS:
        raise HubUnreachable(
            f"another sync is still running, and what is believed here is {age:.0f} s old",
            "see what it waits for, end it, and try again",
        )


def notices(report: SyncReport) -> list[str]:
    """What went well enough, but somebody should know."""
    found = []
    if report.waiting:
        found.append(f"nothing newer is believed yet, the policy wants more cosignatures: {report.waiting}")
    if abs(report.skew) > SKEW_SECONDS:
        found.append(skew_notice(report.skew))
    if report.witness is not None and report.witness.problem:
        found.append(f"not cosigned: {report.witness.problem}")
    if report.witness is not None and report.witness.warning:
        found.append(report.witness.warning)
    return found


def _warn(report: SyncReport) -> None:
    for entry in report.refused:
        line = f"entry {entry.index} is {entry.verdict}: {entry.reason} [{entry.code}]"
        output.warn(line, "bold red" if entry.verdict == REJECTED_VERDICT else "yellow")
    if (more := sum(report.counts.values()) - len(report.refused)) > 0:
        output.warn(f"and {more} more, of which {report.counts.get(REJECTED_VERDICT, 0)} in all are rejected", "")
    for path in report.evidence:
        output.warn(f"evidence: {path}", "")
    if report.interruption is not None:
        output.warn(f"the run ended early: {report.interruption}", "bold red")


@contextmanager
def _progress(label: str, show: bool) -> Iterator[Callable[[int, int], None] | None]:
    if not (show and output.errors.is_terminal):
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Drawn after each batch, by no thread of its own: a long sync can fork only where there is one (`sync.examiner`).
    with Progress(*columns, console=output.errors, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(label, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, refresh=True)

        yield advance

"""A gate in this process: a table in memory, and a thread that exchanges it when the decisions change."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from member_client.errors import InvalidInput
from member_client.gate.building import BUILD_SECONDS, Builder, builder_of
from member_client.gate.settings import GateSettings, read_settings
from member_client.gate.sources import Sources
from member_client.gate.table import Facts, Table, Unusable, remove_leftover_drafts
from member_client.gate.verdict import UNREADABLE, Verdict, is_stale, judge, on_failure
from member_client.home import Home, locate

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""After a build that failed, if nothing changes."""
REST = 2
"""Builds may take one part in so many and one of the time: a lab that syncs every second must not build for ever."""

log = logging.getLogger("stillwatch.gate")


@dataclass(frozen=True, slots=True)
class Condition:
    """How a gate does.

    Attributes:
        facts: of the table in force, None without one.
        age: seconds since the lab last learned from the forum.
        stale: whether that is longer than the policy lets the gate go by.
        reloads, failures: how many tables were taken and how many could not be, since the start.
        error: why the newest table could not be taken, or what is wrong although it was; "" for nothing.
        build_seconds: how long the last one took to make and to take.
    """

    facts: Facts | None
    age: float | None
    stale: bool
    reloads: int
    failures: int
    error: str
    build_seconds: float

    @property
    def ready(self) -> bool:
        """Whether requests are judged by the decisions, not by what is done without them."""
        return self.facts is not None and not self.stale


class _Live:
    """A table in force, and its clock.

    While a table is in force time does not go back: what has expired stays so when somebody sets the machine's clock.
    A new table comes with a new clock, so that one which ran ahead for a while does not do so for ever.
    """

    def __init__(self, table: Table, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.table = table
        self._wall, self._monotonic = wall, monotonic
        self._offset = max(wall(), table.facts.as_of) - monotonic()
        self._raising = threading.Lock()

    def now(self) -> float:
        moment = self._monotonic()
        ahead = self._wall() - moment
        if ahead > self._offset:
            with self._raising:  # of two that see the clock jump, the one that saw less must not have the last word
                self._offset = max(self._offset, ahead)
        return self._offset + moment


class Gate:
    """Says of each request whether it may pass. Safe to ask from many threads.

        with Gate() as gate:
            verdict = gate.check(account="acct-17", model="large-2")
            if not verdict.allowed: ...

    It takes the last table of the home at once, and makes a new one. Before the first one, and while the data is stale
    or unreadable, requests pass or not as the policy says.
    """

    def __init__(
        self,
        home: Home | None = None,
        settings: GateSettings | None = None,
        builder: Builder | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set a gate up; `start` has it work.

        Args:
            home: by default the one of `STILLWATCH_HOME`, or the user's.
            settings: by default those of the home's `gate.toml`.
            wall: gives POSIX seconds.

        Raises:
            InvalidInput: the folder is no home, or its `gate.toml` is not usable.
        """
        self.home = home or locate(None)
        self.home.settings()
        self.settings = settings or read_settings(self.home.path / "gate.toml")
        self._builder = builder or builder_of(self.home)
        self._wall, self._monotonic = wall, monotonic
        self._live: _Live | None = None
        self.without_data = self._fail_without_data()
        """`open` or `closed`: what happens to requests while there is no table."""
        self._reloads = self._failures = 0
        self._error, self._build_seconds = "no table was made yet", 0.0
        self._wake, self._wanted, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._settled = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def path(self) -> Path:
        """Where the table is kept."""
        return self.home.path / "gate" / "table"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Take the last table, if there is one, and begin to watch; the first new one is made in the background.

        Raises:
            OSError: the home cannot be written to.
        """
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        remove_leftover_drafts(self.path, BUILD_SECONDS)
        with contextlib.suppress(Unusable):  # the next one is under way
            self._take()
        self._thread = threading.Thread(target=self._watch, name="stillwatch-gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the watching; what is in force goes on being."""
        self._closing.set()
        self._wake.set()
        self._builder.stop()
        if self._thread is not None:
            self._thread.join()

    def check(self, account: str = "", organisation: str = "", address: str = "", model: str = "") -> Verdict:
        """The verdict on a request; "" for what is not known of it. Takes some microseconds.

        Args:
            address: of the client, as the gateway itself saw it, with or without a port.
            model: that it asks for; without it decisions that are limited to models do not act.
        """
        live = self._live
        if live is None:
            return on_failure(self.without_data, UNREADABLE, None)
        return judge(live.table, live.now(), account, organisation, address, model)

    def reload(self) -> None:
        """Have a new table made now."""
        self._wanted.set()
        self._wake.set()

    def wait(self, reloads: int, timeout: float) -> bool:
        """Wait until so many tables were made since the start, or could not be made."""
        with self._settled:
            return self._settled.wait_for(lambda: self._reloads + self._failures >= reloads, timeout)

    def condition(self) -> Condition:
        """How it does now."""
        live = self._live
        facts = live.table.facts if live is not None else None
        now = live.now() if live is not None else 0.0
        return Condition(
            facts=facts,
            age=max(0.0, now - facts.synced) if facts is not None else None,
            stale=facts is not None and is_stale(facts, now),
            reloads=self._reloads,
            failures=self._failures,
            error=self._error,
            build_seconds=self._build_seconds,
        )

    def _fail_without_data(self) -> str:
        if self.settings.without_data != "policy":
            return self.settings.without_data
        from member_client.lifecycle.policy_file import read_file, read_policy  # only as long as there is no table

        with contextlib.suppress(InvalidInput, OSError):
            return read_policy(self.home).settings.gate.fail
        with contextlib.suppress(InvalidInput, OSError):
            return read_file(self.path.with_name("policy.toml")).settings.gate.fail
        return "open"

    def _take(self) -> None:
        # One assignment: a request sees the old table or the new one, never neither and never both.
        self._live = _Live(Table.load(self.path), self._wall, self._monotonic)

    def _watch(self) -> None:
        sources = Sources(self.home)
        seen: object = None
        done = began = -float("inf")
        while not self._closing.is_set():
            self._wake.clear()
            wanted = self._wanted.is_set()
            look, now = sources.look(), time.monotonic()
            overdue = now - done > (RETRY_SECONDS if self._error else self.settings.rebuild_seconds)
            rested = now - done >= REST * (done - began) if done > began else True
            if wanted or ((look != seen or overdue) and rested):
                self._wanted.clear()
                seen, began = look, now  # looked at before: what changes during the build is seen after it
                self._renew()
                done = time.monotonic()
                self._build_seconds = done - began
                with self._settled:
                    self._settled.notify_all()
            self._wake.wait(POLL_SECONDS)
        sources.close()

    def _renew(self) -> None:
        try:
            wrong = self._builder.build(self.path)
            self._take()
        except Unusable as error:
            if not self._closing.is_set():
                self._failed(str(error))
        except Exception as error:
            log.exception("a fault in making the gate's table")
            self._failed(f"a fault in making the table: {error}")
        else:
            self._reloads += 1
            self._error = wrong
            if wrong:
                log.warning("a new table, but %s", wrong)
            facts = self.condition().facts
            log.info("new table: %d rows, generation %s", facts.rows if facts else 0, facts.generation if facts else "")

    def _failed(self, why: str) -> None:
        if self._live is None:
            self.without_data = self._fail_without_data()
        self._failures += 1
        self._error = why
        log.warning("no new table, the last good one stays in force: %s", why)

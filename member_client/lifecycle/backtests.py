"""Keeping what a backtest found of a logged pattern, for whoever decides later how far that pattern may go."""

from __future__ import annotations

import json
from datetime import datetime

from member_client.backtest.backtesting import Backtest
from member_client.backtest.measured import measured
from member_client.lifecycle.facts import KeptBacktest
from member_client.lifecycle.reviewing import opened
from member_client.session import Session


def kept_of(entry: str, now: datetime, result: Backtest) -> KeptBacktest:
    """What is kept of a backtest of the pattern version with this entry hash."""
    wrong = result.false_positives
    return KeptBacktest(
        entry=entry,
        at=now,
        requests=result.requests,
        events=result.events,
        matched=result.matched,
        accounts=result.flagged,
        legitimate=None if wrong is None else wrong.seen,
        wrong=None if wrong is None else wrong.flagged,
        could_match=not result.hopeless,
        measured=json.dumps(measured(result)) if result.events and not result.hopeless else "",
    )


def keep_backtest(session: Session, kept: KeptBacktest) -> None:
    """Keep a backtest in the home, in place of the version's earlier one.

    Raises:
        InvalidInput: the home or its lifecycle.sqlite is not usable.
    """
    with opened(session) as store, store.transaction():
        store.keep_backtest(kept)


def kept_backtest(session: Session, entry: str) -> KeptBacktest | None:
    """The newest backtest of a pattern version that is kept in the home, None for none.

    Raises:
        InvalidInput: the home or its lifecycle.sqlite is not usable.
    """
    if not session.home.lifecycle.exists():
        return None
    with opened(session) as store:
        return store.backtests().get(entry)

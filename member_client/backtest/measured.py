"""What a pattern file says of a backtest: shares to one digit, counts as buckets, so that no volume can be told."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from typing import Any

from member_client.backtest.backtesting import Backtest
from member_client.errors import InvalidInput
from sharing_protocol.pattern_logic.catalogue import Category
from sharing_protocol.statements.handling import bucket_of

_ROWS = {
    Category.REQUEST: "requests",
    Category.ACCOUNT_WINDOW: "windows of accounts",
    Category.CLUSTER_WINDOW: "windows of clusters",
}


def measured(result: Backtest) -> dict[str, Any]:
    """The block `measured` of a pattern file.

    Shares have one significant digit; the interval is widened to that, never narrowed.

    Raises:
        InvalidInput: there was nothing to measure.
    """
    rows = _ROWS[result.category]
    if not result.events:
        raise InvalidInput(f"these logs give no {rows}, so nothing was measured", "name logs that have the fields")
    if result.hopeless:
        lacking = ", ".join(result.missing)
        raise InvalidInput(
            f"no row has any of {lacking}, so nothing was measured", "say what your log calls them: --map"
        )
    known = result.false_positives
    days = len(result.days)
    method = f"Backtest on one lab's history, {days} day{'' if days == 1 else 's'}; rows are {rows}"
    rate = interval = None
    if known is not None and known.rate is not None and known.interval is not None:
        low, high = known.interval
        rate, interval = _rough(known.rate), [_rough(low, ROUND_FLOOR), _rough(high, ROUND_CEILING)]
        method += f"; false positives: share of {bucket_of(known.seen)} accounts known as legitimate that were flagged"
    return {
        "events": bucket_of(result.events).value,
        "match_rate": _rough(result.match_rate),
        "false_positive_rate": rate,
        "false_positive_interval": interval,
        "method": method,
    }


def _rough(share: float, rounding: str = ROUND_HALF_EVEN) -> float:
    return float(Context(prec=1, rounding=rounding).create_decimal_from_float(share))

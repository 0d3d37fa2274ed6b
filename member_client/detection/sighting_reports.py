"""From a run's counts to what a lab says of them: whole days and powers of ten, nothing of a customer."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from member_client.detection.findings import Tally
from member_client.errors import InvalidInput
from sharing_protocol.statements import bucket_of
from sharing_protocol.statements.header import format_timestamp

_DAY = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def sighting_body(tally: Tally, period: tuple[datetime, datetime] | None, handling: dict[str, Any]) -> dict[str, Any]:
    """The body of a sighting.

    Args:
        period: whole days, the second the day after the last; by default the days that the matches cover.
        handling: marking, purpose, legal_basis, valid_until.

    Raises:
        InvalidInput: nothing matched; or the days are not known; or some matches lie outside of them.
    """
    if not tally.matches:
        raise InvalidInput(f"{tally.id} matched nothing, and what was not seen is not reported")
    start, end = period or _days_of(tally)
    return {
        **handling,
        "pattern": {"id": tally.id, "version": tally.version, "entry": tally.entry},
        "period_start": format_timestamp(start),
        "period_end": format_timestamp(end),
        "matches": bucket_of(tally.matches).value,
        "accounts": bucket_of(tally.accounts).value if tally.accounts else None,
    }


def parse_day(text: str) -> datetime:
    """Midnight (UTC) of a day such as 2026-03-01.

    Raises:
        InvalidInput: not a day.
    """
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a day", "write it like 2026-03-01") from error


def _days_of(tally: Tally) -> tuple[datetime, datetime]:
    if tally.undated or tally.first is None or tally.last is None:
        raise InvalidInput(
            f"{tally.undated} of the {tally.matches} matches of {tally.id} have no readable timestamp",
            "say from when to when with --period START END (END is the day after the last)",
        )
    return _midnight(tally.first), _midnight(tally.last) + timedelta(days=1)


def _midnight(microseconds: int) -> datetime:
    return _EPOCH + timedelta(days=microseconds // 86_400_000_000)

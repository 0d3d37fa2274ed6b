"""The runs that a home remembers: their summaries, by which sightings are made later.

detections/<run>.json    the summary of a run
detections/<run>.jsonl   its matches, unless `--output` sent them elsewhere
detections/state.duckdb  what runs that follow their logs remember: `state`
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from member_client.detection.findings import FORMAT, Counter, Moment, NotRunnable, Summary, Tally
from member_client.detection.request_logs import Place
from member_client.errors import InvalidInput
from member_client.home import Home, write_privately
from sharing_protocol.pattern_logic.events import parse_time

_TALLIES: TypeAdapter[list[Tally]] = TypeAdapter(list[Tally])
_LEFT_OUT: TypeAdapter[list[NotRunnable]] = TypeAdapter(list[NotRunnable])


def folder(home: Home) -> Path:
    """Where runs are kept."""
    path = home.path / "detections"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def new_name(clock: float) -> str:
    """A name for a run that starts now (POSIX seconds); names sort by time, to the microsecond."""
    return f"{datetime.fromtimestamp(clock, UTC):%Y%m%dT%H%M%S-%f}"


def keep(home: Home, summary: Summary) -> None:
    """Write a run's summary into the home; writing it again replaces it."""
    keep_document(home, summary.document())


def keep_document(home: Home, summary: dict[str, Any]) -> None:
    """The same of a summary as JSON."""
    write_privately(folder(home) / f"{summary['run']}.json", json.dumps(summary, indent=1).encode() + b"\n")


def load(home: Home, name: str = "") -> Summary:
    """The summary of a run, by default of the newest.

    Raises:
        InvalidInput: there is none, or the file is damaged.
    """
    known = sorted(path.stem for path in folder(home).glob("*.json"))
    chosen = name or (known[-1] if known else "")
    if not chosen:
        raise InvalidInput("no run is remembered here", "run `stillwatch detect` first")
    if chosen not in known:
        raise InvalidInput(f"there is no run {chosen!r}", f"the newest are: {', '.join(known[-5:]) or 'none'}")
    path = folder(home) / f"{chosen}.json"
    try:
        return _summary(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is damaged: {error}", "run `stillwatch detect` again") from error


def begun_since(home: Home, moment: datetime) -> Iterator[tuple[datetime, Summary]]:
    """The readable summaries of runs that began at this moment or later, each with when it began, oldest first."""
    for path in sorted((home.path / "detections").glob("*.json")):
        if path.stem < new_name(moment.timestamp()):
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):
            begun = datetime.strptime(path.stem, "%Y%m%dT%H%M%S-%f").replace(tzinfo=UTC)
            yield begun, _summary(json.loads(path.read_bytes()))


def read_detections(path: Path) -> list[Tally]:
    """Count a detections file by pattern version.

    Raises:
        InvalidInput: it cannot be read, or is not one.
    """
    counters: dict[str, Counter] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                _count(counters, line, f"{path}:{number}")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", "check the file's name") from error
    return [counter.tally for counter in counters.values()]


def _count(counters: dict[str, Counter], line: bytes, where: str) -> None:
    try:
        match: dict[str, Any] = json.loads(line)
        head = {"id": match["pattern"]} | {name: match[name] for name in ("version", "entry", "title", "severity")}
        (tally,) = _TALLIES.validate_python([head])
        timestamp = match["timestamp"]
        time = parse_time(timestamp)
        if time is not None and "window" in match and "value" not in match["window"]:
            time -= 1  # see `Finding.counted`
        moment = Moment(Place(match["file"], match["line"]), timestamp, time, match["account.id"])
        accounts = match.get("cluster", {}).get("accounts", ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{where} is not a match as `detect` writes it", "give a detections file") from error
    counters.setdefault(tally.entry, Counter(tally)).count(moment, "window" in match, accounts)


def _summary(document: dict[str, Any]) -> Summary:
    if document["format"] != FORMAT:
        raise ValueError("it was written by another version of this program")
    try:
        return Summary(
            run=document["run"],
            files=document["files"],
            rows=document["rows"],
            broken=document["broken_rows"],
            seconds=document["seconds"],
            detections=document["detections"],
            tallies=_TALLIES.validate_python(document["patterns"]),
            left_out=_LEFT_OUT.validate_python(document["left_out"]),
            reported=document["reported"],
            readability={
                name: document[name]
                for name in ("unreadable", "implausible_times", "columns_never_met")
                if name in document
            },
        )
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} values are not as they should be") from error

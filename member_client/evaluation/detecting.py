"""Patterns over a simulated lab's log: which accounts they flag, and when.

Detection sees the log and nothing else. The truth enters in one place only: leaving a corpus out means that a pattern
which names that corpus's own words did not run over its requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from member_client.detection.canonical import CLOSED, keep_from_files
from member_client.evaluation.candidates import Candidate
from member_client.evaluation.matching import matching_events
from member_client.evaluation.population import Integers
from member_client.evaluation.world import Prompts, World
from member_client.windows import build_windows
from member_client.windows.demand import demands
from sharing_protocol.pattern_logic.catalogue import Category

_PROMPT_FIELDS = frozenset({"prompt.text", "prompt.template", "prompt.system"})  # no simulated request has the last
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Flags:
    """Which accounts a pattern flagged.

    Attributes:
        since: of each account, microseconds since 1970 of the first match that concerns it; `NEVER` if there is none.
    """

    since: Integers


class PromptMatches:
    """Which prompts match a pattern that looks at nothing but the prompt: asked once, for all worlds."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._known: dict[str, NDArray[np.bool_]] = {}

    @staticmethod
    def suffice(candidate: Candidate) -> bool:
        """Whether the prompt is all that the pattern looks at."""
        logic = candidate.logic
        return (
            candidate.category is Category.REQUEST
            and not logic.has_correlations
            and logic.required_fields <= _PROMPT_FIELDS
        )

    def of(self, candidate: Candidate) -> NDArray[np.bool_]:
        """Whether each of all prompts matches."""
        if candidate.name not in self._known:
            table = pa.table(
                {
                    "event.id": pa.array(np.arange(len(self._prompts.texts))),
                    "timestamp": pa.nulls(len(self._prompts.texts), pa.int64()),
                    "prompt.text": self._prompts.texts,
                    "prompt.system": pa.nulls(len(self._prompts.texts), pa.string()),
                    "prompt.template": self._prompts.templates,
                }
            )
            with duckdb.connect(config=CLOSED) as connection:
                keep_from_files(connection)
                connection.register("prompts", table)
                found = np.zeros(len(self._prompts.texts), dtype=np.bool_)
                found[matching_events(connection, candidate.logic, "prompts")] = True
            self._known[candidate.name] = found
        return self._known[candidate.name]


class Lab:
    """The log of a world in an engine, with its windows, ready for patterns."""

    def __init__(
        self,
        world: World,
        candidates: Sequence[Candidate],
        matches: PromptMatches,
        *,
        leave_out: Sequence[str] = (),
        last_windows: bool = False,
    ) -> None:
        """Load the log, run the patterns over requests, and build the windows.

        Args:
            candidates: all patterns that will be asked about; of these the query patterns are the ones in force.
            leave_out: names of the attack files, if patterns written from one shall not see its requests.
            last_windows: build only the windows that end after the last request.
        """
        self._world = world
        self._attacks = tuple(leave_out)
        self._spilled = TemporaryDirectory(prefix="stillwatch-evaluate-")
        self._connection = duckdb.connect(config={**CLOSED, "temp_directory": self._spilled.name})
        keep_from_files(self._connection)
        self._connection.execute("SET preserve_insertion_order = false")
        self._connection.register("log", world.requests)
        self._connection.execute("CREATE TABLE requests AS SELECT * FROM log")
        self._connection.unregister("log")
        self._hits = {
            candidate.name: self._request_hits(candidate, matches)
            for candidate in candidates
            if candidate.category is Category.REQUEST
        }
        in_force = [
            self._hits[one.name] for one in candidates if one.kind == "query_pattern" and one.name in self._hits
        ]
        hits = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *in_force]))
        self._connection.register("hits", pa.table({"event_id": pa.array(hits)}))
        if asked := demands(one.logic for one in candidates):
            self._connection.register("releases", world.releases)
            build_windows(
                self._connection,
                demands=asked,
                query_pattern_hits="hits",
                model_releases="releases",
                ends_after=int(world.truth.event_time.max(initial=0)) if last_windows else None,
            )
        self._accounts = {name: number for number, name in enumerate(world.truth.names.tolist())}
        self._window_accounts: dict[str, tuple[Integers, Integers, Integers]] = {}

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()
        self._spilled.cleanup()

    def flags(self, candidate: Candidate) -> Flags:
        """Whom a pattern flags, by a request, an account window, or as a member of a cluster."""
        truth = self._world.truth
        since = np.full(len(truth.kind), NEVER)
        if candidate.category is Category.REQUEST:
            events = self._hits[candidate.name]
            np.minimum.at(since, truth.event_account[events], truth.event_time[events])
            return Flags(since)
        relation = str(candidate.category)
        event, account, time = self._concerned(relation)
        matched = matching_events(self._connection, candidate.logic, relation)
        concerned = np.isin(event, matched)
        np.minimum.at(since, account[concerned], time[concerned])
        return Flags(since)

    def _request_hits(self, candidate: Candidate, matches: PromptMatches) -> Integers:
        if matches.suffice(candidate):
            hits: Integers = np.flatnonzero(matches.of(candidate)[self._world.prompt])
        else:
            hits = matching_events(self._connection, candidate.logic, "requests")
        if candidate.written_from:
            own = [number for number, name in enumerate(self._attacks) if name in candidate.written_from]
            hits = hits[~np.isin(self._world.truth.event_campaign[hits], own)]
        return hits

    def _concerned(self, relation: str) -> tuple[Integers, Integers, Integers]:
        """Window, account and window's end, for every account that a window concerns."""
        if relation not in self._window_accounts:
            found = self._connection.execute(_CONCERNED[relation]).fetchnumpy()
            accounts = [self._accounts[name] for name in found["account.id"]]
            self._window_accounts[relation] = (
                np.asarray(found["event.id"], dtype=np.int64),
                np.array(accounts, dtype=np.int64),
                np.asarray(found["timestamp"], dtype=np.int64),
            )
        return self._window_accounts[relation]


_CONCERNED = {
    "account_window": 'SELECT "event.id", "account.id", timestamp FROM account_window',
    "cluster_window": """
        SELECT "event.id", cluster_member."account.id", timestamp
        FROM cluster_window JOIN cluster_member ON cluster = "event.id"
    """,
}

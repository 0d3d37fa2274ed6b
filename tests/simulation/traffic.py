"""What the labs of the simulation see: the evaluation harness's traffic, a day at a time, and the truth apart from it.

Every lab has ordinary accounts, heavy batch customers and a part of one campaign. The prompts are those of the corpora
beside the repository where they are, else made up from the same openings.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from member_client.evaluation.population import Integers, Kind
from member_client.evaluation.prompts import PromptFile, read_prompts
from member_client.evaluation.traffic import DAY
from member_client.evaluation.world import FIRST_DAY, Prompts, Settings, World, build, gather, is_batch, is_ordinary

START = datetime.fromtimestamp(FIRST_DAY / 1_000_000, UTC)
CORPORA = Path(__file__).parents[3] / "shared" / "corpora" / "train"
ATTACK = "alpaca_wrapped"
ORDINARY = ("banking77", "dolly_3k", "lima", "sharegpt_first_turns", "stackoverflow_titles")
BATCH = ("batch_translate_en_de", "batch_translate_en_fr", "batch_tweet_sentiment", "t0_summarisation_batch")
MOST_PROMPTS = 3_000
"""Of a benign file; more would only take longer to prepare."""
VOUCHED = 450
"""Accounts that a lab's sales people vouch for; the default budget needs at least 381."""
_SENT = ("timestamp", "account.id", "org.id", "network.ip", "gen_ai.request.model", "prompt.text", "request.batch")
_OPENINGS = {
    "batch_translate_en_de": "Translate the following sentence from English to German.",
    "batch_translate_en_fr": "You are a professional translator for an online shop. Translate into French:",
    "batch_tweet_sentiment": "Classify the sentiment of the tweet as positive, neutral or negative. Tweet:",
    "t0_summarisation_batch": "In 2 or 3 sentences, what are the main points of this article? Article:",
}

_WORDS = "garden river train bread winter island music doctor school window history parcel invoice market"


@dataclass(frozen=True)
class Corpus:
    """Prompts of a campaign, of ordinary use and of batch customers."""

    attack: PromptFile
    ordinary: tuple[PromptFile, ...]
    batch: tuple[PromptFile, ...]


def real_corpus(folder: Path = CORPORA) -> Corpus | None:
    """The corpora beside the repository; None if they are not there."""
    if not folder.is_dir():
        return None
    (attack,) = read_prompts([folder / "attack" / f"{ATTACK}.jsonl.gz"])
    benign = [
        tuple(
            PromptFile(one.name, one.prompts[:MOST_PROMPTS])
            for one in read_prompts([folder / "benign" / f"{name}.jsonl.gz" for name in names])
        )
        for names in (ORDINARY, BATCH)
    ]
    return Corpus(attack, *benign)


def made_up_corpus(prompts: int = 1_500) -> Corpus:
    """Prompts of no corpus, small enough for a test."""
    wrapped = "Below is an instruction that describes a task.\n\n### Instruction:\n{}\n\n### Response:"
    attack = PromptFile(ATTACK, tuple(wrapped.format(text) for text in _sentences(prompts, 1)))
    ordinary = tuple(PromptFile(name, _sentences(prompts, number)) for number, name in enumerate(ORDINARY, 2))
    batch = tuple(
        PromptFile(name, tuple(f"{_OPENINGS[name]} {text}" for text in _sentences(prompts, number)))
        for number, name in enumerate(BATCH, 20)
    )
    return Corpus(attack, ordinary, batch)


@dataclass(frozen=True)
class Sizes:
    """How large each lab is.

    Attributes:
        accounts: ordinary ones.
        campaign: accounts of the campaign's part.
    """

    accounts: int
    campaign: int
    days: int


@dataclass(frozen=True)
class Asker:
    """An account, as a gateway knows it."""

    number: int
    account: str
    organisation: str


@dataclass
class LabTraffic:
    """A lab's requests, and the truth about its accounts, by their number."""

    world: World
    days: int
    folder: Path
    _bounds: list[int] = field(init=False)
    _orgs: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        edges = FIRST_DAY + np.arange(self.days + 1) * DAY
        self._bounds = np.searchsorted(self.world.truth.event_time, edges).tolist()
        pairs = self.world.requests.select(["account.id", "org.id"]).group_by(["account.id", "org.id"]).aggregate([])
        self._orgs = dict(
            zip(pairs["account.id"].to_pylist(), (one or "" for one in pairs["org.id"].to_pylist()), strict=True)
        )
        self.numbers = {name: number for number, name in enumerate(self.world.truth.names.tolist())}
        kinds = self.world.truth.kind
        self.ordinary, self.batch, self.campaign = is_ordinary(kinds), is_batch(kinds), kinds == int(Kind.CAMPAIGN)

    @property
    def allowed(self) -> list[str]:
        """The established batch customers, whom a lab has on its allow-list if somebody saw to it."""
        names: list[str] = self.world.truth.names[self.world.truth.allowed].tolist()
        return names

    def vouched_for(self, days: int, *, with_machines: bool) -> frozenset[str]:
        """Accounts that the lab knows as legitimate, of those that sent requests in the first days.

        Args:
            with_machines: whether developers and established batch customers are among them, or people only.
        """
        people = [int(Kind.INDIVIDUAL), int(Kind.SEAT), int(Kind.STUDENT)]
        known = self.ordinary if with_machines else np.isin(self.world.truth.kind, people)
        seen = np.isin(np.arange(len(known)), self.world.truth.event_account[: self._bounds[days]])
        sample = np.flatnonzero(known & seen)
        spread = sample[np.linspace(0, len(sample) - 1, min(VOUCHED, len(sample))).astype(np.int64)]
        names: set[str] = set(self.world.truth.names[spread].tolist())
        return frozenset(names.union(self.allowed) if with_machines else names)

    def log_of(self, day: int) -> Path:
        """The gateway's log of a day, as Parquet."""
        path = self.folder / f"day-{day:02}.parquet"
        if not path.exists():
            first, end = self._bounds[day], self._bounds[day + 1]
            rows = self.world.requests.select(list(_SENT)).slice(first, end - first)
            moments = rows["timestamp"].cast(pa.timestamp("us", tz="UTC"))
            pq.write_table(rows.set_column(0, "timestamp", moments), path)
        return path

    def askers(self, day: int) -> Iterator[Asker]:
        """Who sends requests on a day, each once."""
        for number in np.unique(self._accounts_of(day)).tolist():
            name = str(self.world.truth.names[number])
            yield Asker(number, name, self._orgs[name])

    def requests(self, day: int, of: Sequence[int] | None = None, *, attack: bool) -> int:
        """How many requests were sent on a day, by all accounts or these.

        Args:
            attack: only those with prompts of the campaign.
        """
        chosen = np.ones(self._bounds[day + 1] - self._bounds[day], dtype=np.bool_)
        if attack:
            chosen &= self.world.truth.event_campaign[self._bounds[day] : self._bounds[day + 1]] >= 0
        if of is not None:
            chosen &= np.isin(self._accounts_of(day), list(of))
        return int(chosen.sum())

    def count(self, accounts: set[int], of: NDArray[np.bool_]) -> int:
        """How many of these accounts are of this kind."""
        return int(of[sorted(accounts)].sum()) if accounts else 0

    def _accounts_of(self, day: int) -> Integers:
        accounts: Integers = self.world.truth.event_account[self._bounds[day] : self._bounds[day + 1]]
        return accounts


def labs_traffic(corpus: Corpus, labs: int, sizes: Sizes, seed: int, folder: Path) -> list[LabTraffic]:
    """The traffic of so many labs, among whom the campaign's prompts are dealt out."""
    share = len(corpus.attack.prompts) // labs
    parts = [
        PromptFile(f"{corpus.attack.name}-{number}", corpus.attack.prompts[number * share : (number + 1) * share])
        for number in range(labs)
    ]
    prompts: Prompts = gather(parts, corpus.ordinary, corpus.batch)
    settings = [Settings(sizes.campaign, (1, 1), 1_000 * seed + lab, sizes.accounts, sizes.days) for lab in range(labs)]
    return [
        LabTraffic(build(prompts, one, [lab]), sizes.days, folder / f"lab-{lab}") for lab, one in enumerate(settings)
    ]


def end_of(day: int) -> datetime:
    """Midnight after a day."""
    return START + timedelta(days=day + 1)


def _sentences(count: int, seed: int) -> tuple[str, ...]:
    draw = random.Random(seed)
    words = _WORDS.split()
    return tuple(f"{' '.join(draw.choices(words, k=draw.randint(5, 20)))} {number}?" for number in range(count))

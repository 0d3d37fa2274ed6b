"""A simulated lab: the requests that its gateway logs, and, apart from them, the truth about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from member_client.detection.rows import template_of
from member_client.errors import InvalidInput
from member_client.evaluation.population import (
    ORDINARY,
    Accounts,
    Floats,
    Identities,
    Integers,
    Kind,
    Networks,
    concatenate,
)
from member_client.evaluation.prompts import PromptFile
from member_client.evaluation.society import campaign_accounts, ordinary_accounts
from member_client.evaluation.traffic import DAY, Requests, Source, requests_of

FIRST_DAY = 1_772_409_600_000_000
"""Monday, 2 March 2026, in microseconds since 1970: an arbitrary week."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a world can be chosen.

    Attributes:
        accounts: accounts of each campaign, at most one a prompt.
        mix: attack to ordinary prompts on each of them.
        ordinary: ordinary accounts.
        days: length of the period.
    """

    accounts: int = 1_000
    mix: tuple[int, int] = (1, 1)
    seed: int = 1
    ordinary: int = 20_000
    days: int = 7


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of all files, one after the other: benign files first, then the attacks.

    Attributes:
        texts: all texts.
        templates: `prompt.template` of each.
        attacks: names of the attack files.
        benign, attack: where each file's prompts are.
    """

    texts: pa.StringArray
    templates: pa.StringArray
    lengths: Floats
    attacks: tuple[str, ...]
    benign: tuple[Source, ...]
    attack: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """What no log tells.

    Attributes:
        names: `account.id` of each account.
        kind: `Kind` of each account.
        campaign: position of the attack file of each account, -1 for none.
        cell: payment instrument within the campaign, -1 for accounts of none.
        org: organisation of each account, -1 for none.
        allowed: whether each account is on the allow-list by itself; its organisation is with it.
        event_account: position of the account of each event, by `event.id`.
        event_time: microseconds since 1970 of each event.
        event_campaign: position of the attack file that the event's prompt is from, -1 for none.
    """

    names: NDArray[np.object_]
    kind: Integers
    campaign: Integers
    cell: Integers
    org: Integers
    allowed: NDArray[np.bool_]
    event_account: Integers
    event_time: Integers
    event_campaign: Integers


@dataclass(frozen=True, slots=True)
class World:
    """A simulated lab.

    Attributes:
        requests: the log in canonical form; `event.id` ascends with time.
        releases: when each model was released, which a lab knows: `model` and `timestamp`.
        prompt: position among the prompts of each event.
    """

    requests: pa.Table
    releases: pa.Table
    prompt: Integers
    truth: Truth


def gather(
    attack: Sequence[PromptFile],
    benign: Sequence[PromptFile],
    batch: Sequence[PromptFile] = (),
    allowed: Collection[str] | None = None,
) -> Prompts:
    """Put all files together.

    Args:
        batch: benign files of heavy batch customers. Without any, the benign files whose name contains `batch` or
            begins with `eval_` are theirs; if there are none of these either, all are.
        allowed: names of files whose batch customers are on the allow-list, and no others; None for four in five of
            them, the established ones.

    Raises:
        InvalidInput: an allowed name is none of a file of batch customers.
    """
    ordinary = [(file, "batch" in file.name or file.name.startswith("eval_")) for file in benign]
    if batch:
        ordinary = [(file, False) for file, _ in ordinary] + [(file, True) for file in batch]
    theirs = {file.name for file, is_batch in ordinary if is_batch} or {file.name for file, _ in ordinary}
    for name in allowed or ():
        if name not in theirs:
            raise InvalidInput(
                f"there are no batch customers of {name!r}", f"allow some of {', '.join(sorted(theirs))}"
            )
    texts: list[str] = []
    sources: list[Source] = []
    for file, is_batch in [*ordinary, *((file, False) for file in attack)]:
        on_list = None if allowed is None else file.name in allowed
        sources.append(Source(len(texts), len(file.prompts), is_batch, on_list))
        texts.extend(file.prompts)
    return Prompts(
        texts=pa.array(texts, pa.large_string()),
        templates=pa.array([template_of(text) for text in texts], pa.string()),
        lengths=np.array([len(text) for text in texts], dtype=np.float64),
        attacks=tuple(file.name for file in attack),
        benign=tuple(sources[: len(ordinary)]),
        attack=tuple(sources[len(ordinary) :]),
    )


def build(prompts: Prompts, settings: Settings, campaigns: Sequence[int] | None = None) -> World:
    """The world of these prompts and settings; the same each time.

    Args:
        campaigns: positions of the attack files that are in it, by default all. Ordinary accounts come first, and are
            the same whichever are.
    """
    seeds = np.random.SeedSequence(settings.seed)
    ordinary_seed, release_seed, name_seed, *campaign_seeds = seeds.spawn(3 + len(prompts.attack))
    networks, identities = Networks(settings.ordinary), Identities()
    draw = np.random.default_rng(ordinary_seed)
    parts = [ordinary_accounts(draw, settings.ordinary, settings.days, networks, identities)]
    benign = list(prompts.benign)
    streams = [requests_of(draw, parts[0], benign, None, settings.days)]
    for number, (source, seed) in enumerate(zip(prompts.attack, campaign_seeds, strict=True)):
        if campaigns is not None and number not in campaigns:
            continue
        draw = np.random.default_rng(seed)
        accounts = campaign_accounts(
            draw, number, source.size, settings.accounts, settings.mix, settings.days, networks, identities
        )
        parts.append(accounts)
        streams.append(requests_of(draw, accounts, benign, source, settings.days))
    released = settings.days * np.random.default_rng(release_seed).uniform(0.3, 0.7)
    return _log(np.random.default_rng(name_seed), concatenate(parts), _joined(parts, streams), prompts, released)


def _joined(parts: list[Accounts], streams: list[Requests]) -> Requests:
    firsts = np.cumsum([0, *(len(part) for part in parts)])
    conversations = np.cumsum([0, *(int(one.conversation.max(initial=-1)) + 1 for one in streams)])
    return Requests(
        account=np.concatenate([one.account + first for one, first in zip(streams, firsts, strict=False)]),
        time=np.concatenate([one.time for one in streams]),
        conversation=np.concatenate(
            [one.conversation + first for one, first in zip(streams, conversations, strict=False)]
        ),
        turn=np.concatenate([one.turn for one in streams]),
        prompt=np.concatenate([one.prompt for one in streams]),
        attack=np.concatenate([one.attack for one in streams]),
    )


def _log(draw: np.random.Generator, accounts: Accounts, requests: Requests, prompts: Prompts, released: float) -> World:
    order = np.lexsort((draw.random(len(requests.time)), requests.time))
    account, time, prompt = requests.account[order], requests.time[order], requests.prompt[order]
    of = _Columns(draw, accounts, account)
    large = np.where(time >= (released + accounts.jump[account]) * DAY, "large-2", "large-1")
    model = pa.array(np.where(accounts.small_model[account], "small-1", large))
    length = prompts.lengths[prompt]
    read = np.maximum(1, np.rint((8 + length / 4) * np.exp(0.1 * draw.standard_normal(len(order)))))
    # Longer questions get somewhat longer answers, with a wide scatter; what is asked for does not matter.
    written = np.exp(np.log(40 + 8 * np.sqrt(length)) + 0.8 * draw.standard_normal(len(order)))
    most = accounts.max_tokens[account].astype(np.float64)
    written = np.maximum(1, np.rint(np.where(most > 0, np.minimum(written, most), np.minimum(written, 4096))))
    rows = len(order)
    conversation = draw.permutation(int(requests.conversation.max(initial=-1)) + 1)[requests.conversation[order]]
    columns: dict[str, pa.Array] = {
        "event.id": pa.array(np.arange(rows)),
        "event.file": pa.nulls(rows, pa.string()),
        "event.line": pa.nulls(rows, pa.int64()),
        "timestamp": pa.array(FIRST_DAY + time),
        "account.id": of.identity("acct", np.arange(len(accounts))),
        "account.created": pa.array(FIRST_DAY + np.floor(accounts.created * DAY).astype(np.int64)[account]),
        "org.id": of.identity("org", accounts.org),
        "payment.fingerprint": of.identity("pay", accounts.payment),
        "network.ip": of.addresses(),
        "network.asn": pa.array((64_512 + accounts.asn[account]).astype(np.float64)),
        "client.fingerprint": of.identity("client", accounts.client),
        "user_agent.original": of.user_agents(),
        "gen_ai.operation.name": _constant("chat", rows),
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.conversation.id": _texts("conv-", conversation, accounts.stateless[account]),
        "gen_ai.request.temperature": pa.array(accounts.temperature[account], from_pandas=True),
        "gen_ai.request.max_tokens": pa.array(most, mask=most < 0),
        "gen_ai.request.choice.count": pa.array(np.ones(rows)),
        "gen_ai.output.type": pa.array(np.where(accounts.json_output[account], "json", "text")),
        "gen_ai.usage.input_tokens": pa.array(read),
        "gen_ai.usage.output_tokens": pa.array(written),
        "prompt.text": prompts.texts.take(pa.array(prompt)),
        "prompt.system": pa.nulls(rows, pa.string()),
        "prompt.turns": pa.array(requests.turn[order].astype(np.float64)),
        "prompt.template": prompts.templates.take(pa.array(prompt)),
        "request.tools": pa.array(accounts.tools[account].astype(np.float64)),
        "request.batch": pa.array(accounts.batch[account]),
    }
    campaign = np.where(requests.attack[order], accounts.campaign[account], -1)
    truth = Truth(
        of.names,
        accounts.kind,
        accounts.campaign,
        accounts.cell,
        accounts.org,
        _allowed(accounts, account, prompt, prompts.benign),
        account,
        FIRST_DAY + time,
        campaign,
    )
    days = {"large-1": -200.0, "small-1": -150.0, "large-2": released}
    releases = {"model": list(days), "timestamp": [FIRST_DAY + int(day * DAY) for day in days.values()]}
    return World(pa.table(columns), pa.table(releases), prompt, truth)


def _allowed(accounts: Accounts, account: Integers, prompt: Integers, sources: Sequence[Source]) -> NDArray[np.bool_]:
    """The batch customers on the allow-list: the established ones, or those whose one file is named for it."""
    if all(source.allowed is None for source in sources):
        return np.asarray(accounts.kind == Kind.BATCH_LISTED)
    named = np.zeros(len(prompt), dtype=np.bool_)
    for source in sources:
        if source.allowed:
            named |= (prompt >= source.first) & (prompt < source.first + source.size)
    found = np.zeros(len(accounts), dtype=np.bool_)
    found[account[named]] = True
    return found & is_batch(accounts.kind)


class _Columns:
    """Columns of the log that name somebody or something; numbers are dealt at random so that none tells a kind."""

    def __init__(self, draw: np.random.Generator, accounts: Accounts, account: Integers) -> None:
        self._draw = draw
        self._accounts = accounts
        self._account = account
        self.names = self._renamed("acct", np.arange(len(accounts)))

    def identity(self, prefix: str, identity: Integers) -> pa.Array:
        """An identity of the account, absent where it is -1."""
        names = self.names if prefix == "acct" else self._renamed(prefix, identity)
        return pa.array(names, pa.string()).take(pa.array(self._account))

    def user_agents(self) -> pa.Array:
        """Tells the client bundle's library, not more than the fingerprint does."""
        bundle = self._accounts.client
        library = np.array(["app", "sdk", "desktop"], dtype=object)[bundle // 1_000]
        names = [f"{one}/{1 + number % 1_000 // 10}.{number % 10}" for one, number in zip(library, bundle, strict=True)]
        return pa.array(names, pa.string()).take(pa.array(self._account))

    def addresses(self) -> pa.Array:
        """One of the account's two addresses: documentation's IPv6 for a part of the households, else private IPv4."""
        accounts = self._accounts
        second = self._draw.random(len(self._account)) < 0.3
        subnets, numbers = np.unique(np.stack([accounts.subnet, accounts.second_subnet]), return_inverse=True)
        dealt = self._draw.permutation(65_536)[: len(subnets)] if len(subnets) <= 65_536 else np.arange(len(subnets))
        prefixes = [
            f"2001:db8:{deal:x}::" if subnet < 1_000_000 and subnet % 7 == 0 else f"10.{deal >> 8 & 255}.{deal & 255}."
            for subnet, deal in zip(subnets.tolist(), dealt.tolist(), strict=True)
        ]
        numbers = numbers.reshape(2, -1)
        texts = [
            pa.array(
                [f"{prefixes[number]}{host}" for number, host in zip(row.tolist(), accounts.host.tolist(), strict=True)]
            )
            for row in numbers
        ]
        return pa.chunked_array(texts).combine_chunks().take(pa.array(self._account + second * len(accounts)))

    def _renamed(self, prefix: str, identity: Integers) -> NDArray[np.object_]:
        known, numbers = np.unique(identity, return_inverse=True)
        dealt = self._draw.permutation(len(known))
        names = np.array([f"{prefix}-{number:06x}" for number in dealt.tolist()], dtype=object)
        if len(known) and known[0] == -1:
            names[0] = None
        renamed: NDArray[np.object_] = names[numbers]
        return renamed


def _constant(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int8)), pa.array([text])).cast(pa.string())


def _texts(prefix: str, numbers: Integers, absent: NDArray[np.bool_]) -> pa.Array:
    texts = np.char.add(prefix, numbers.astype(str)).astype(object)
    return pa.array(texts, pa.string(), mask=absent)


def is_ordinary(kind: Integers) -> NDArray[np.bool_]:
    """Whether accounts are ordinary: neither of a campaign nor a batch customer."""
    return np.isin(kind, [int(one) for one in ORDINARY])


def is_batch(kind: Integers) -> NDArray[np.bool_]:
    """Whether accounts are batch customers."""
    return np.isin(kind, [int(Kind.BATCH_LISTED), int(Kind.BATCH_NEW)])

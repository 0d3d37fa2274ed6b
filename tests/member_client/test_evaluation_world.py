"""The simulated lab is what docs/evaluation.md says: complete, repeatable, and no metadata tells an attacker."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from member_client.errors import InvalidInput
from member_client.evaluation.population import ORDINARY, SHARES, Kind
from member_client.evaluation.prompts import PromptFile, read_prompts
from member_client.evaluation.world import FIRST_DAY, Prompts, Settings, World, build, gather
from sharing_protocol.pattern_logic.catalogue import Category, fields_in
from tests.member_client.worlds import attack_file, ordinary_files

SETTINGS = Settings(accounts=100, ordinary=400, days=7)
Columns = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return gather([attack_file()], ordinary_files())


@pytest.fixture(scope="module")
def world(prompts: Prompts) -> World:
    return build(prompts, SETTINGS)


def test_the_log_has_every_field_of_a_request_and_nothing_else(world: World) -> None:
    fields = {"event.id", "event.file", "event.line", *fields_in(Category.REQUEST)}
    assert set(world.requests.column_names) == fields
    assert world.requests.column("event.id").to_pylist() == list(range(world.requests.num_rows))
    times = world.requests.column("timestamp").to_numpy()
    assert (np.diff(times) >= 0).all()


def test_same_seed_same_world_and_another_seed_another(prompts: Prompts, world: World) -> None:
    assert build(prompts, SETTINGS).requests.equals(world.requests)
    assert not build(prompts, replace(SETTINGS, seed=2)).requests.equals(world.requests)


@pytest.mark.parametrize(("mix", "ordinary"), [((1, 0), 0), ((1, 1), 400), ((1, 10), 4_000)])
def test_each_attack_prompt_is_sent_once_and_mixed_as_asked(
    prompts: Prompts, mix: tuple[int, int], ordinary: int
) -> None:
    world = build(prompts, replace(SETTINGS, mix=mix))
    truth = world.truth
    sent = world.requests.column("prompt.text").to_numpy(zero_copy_only=False)[truth.event_campaign == 0]
    assert sorted(sent) == sorted(attack_file().prompts)
    mine = truth.campaign[truth.event_account] == 0
    assert int((mine & (truth.event_campaign < 0)).sum()) == pytest.approx(ordinary, abs=20)
    assert len(np.unique(truth.event_account[truth.event_campaign == 0])) == 100
    created = world.requests.column("account.created").to_numpy()
    assert (created <= truth.event_time).all()


def test_more_accounts_than_prompts_means_one_prompt_an_account(prompts: Prompts) -> None:
    truth = build(prompts, replace(SETTINGS, accounts=10_000)).truth
    assert int((truth.kind == Kind.CAMPAIGN).sum()) == 400


def test_a_campaign_leaves_ordinary_traffic_as_it_is(prompts: Prompts, world: World) -> None:
    other = build(gather([], ordinary_files()), SETTINGS)
    texts = world.requests.column("prompt.text").to_numpy(zero_copy_only=False)
    innocent = texts[world.truth.campaign[world.truth.event_account] < 0]
    assert sorted(innocent) == sorted(other.requests.column("prompt.text").to_pylist())


def test_accounts_send_no_prompt_twice_but_for_retries(world: World) -> None:
    account = world.truth.event_account
    ordinary = np.isin(world.truth.kind[account], [Kind.INDIVIDUAL, Kind.DEVELOPER, Kind.SEAT])
    pairs = np.stack([account[ordinary], world.prompt[ordinary]])
    distinct = np.unique(pairs, axis=1).shape[1]
    assert 0.9 * pairs.shape[1] < distinct < pairs.shape[1]


def test_files_are_read_whatever_their_form_and_broken_lines_counted(tmp_path: Path) -> None:
    plain = tmp_path / "a.jsonl"
    plain.write_text('{"prompt": "one"}\n\n[1]\n{"prompt": 5}\n{"prompt": "\\ud800 two"}\nnot json\n')
    zipped = tmp_path / "a.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = read_prompts([plain, zipped])
    assert first.prompts == second.prompts == ("one", "\ufffd two")
    assert (first.name, second.name, first.broken) == ("a", "a#2", 3)


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x1f\x8bnot gzip"])
def test_a_file_without_prompts_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"bad\.jsonl\.gz"):
        read_prompts([path])


# The leak test: may a classifier tell attack accounts from ordinary developers by metadata?


def metadata_of_requests(world: World) -> Columns:
    """All that a log tells of a request, without the prompt and without what links accounts to others.

    Tokens follow from the prompt's length: what that does not explain is compared.
    """
    log, account, time = world.requests, world.truth.event_account, world.truth.event_time / 3.6e9

    def number(name: str, absent: float = -1.0) -> NDArray[np.float64]:
        values = log.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
        return np.where(np.isnan(values), absent, values)

    def text(name: str) -> NDArray[np.object_]:
        values: NDArray[np.object_] = log.column(name).to_numpy(zero_copy_only=False)
        return values

    order = np.lexsort((time, account))
    same = account[order][1:] == account[order][:-1]
    gap = np.zeros(len(time))
    gap[order[1:]] = np.where(same, np.diff(time[order]), 0)
    length = np.array([len(one) for one in text("prompt.text")])
    columns = {
        "hour": (time - FIRST_DAY / 3.6e9) % 24,
        "weekend": (time - FIRST_DAY / 3.6e9) // 24 % 7 >= 5,
        "gap": np.log(gap + 1e-4),
        "turns": number("prompt.turns"),
        "stateless": text("gen_ai.conversation.id") == None,  # noqa: E711 - element by element
        "temperature": number("gen_ai.request.temperature"),
        "most tokens": number("gen_ai.request.max_tokens"),
        "tools": number("request.tools"),
        "input": np.log(number("gen_ai.usage.input_tokens")) - np.log(8 + length / 4),
        "output": np.log(number("gen_ai.usage.output_tokens")) - np.log(40 + 8 * np.sqrt(length)),
        "small": text("gen_ai.request.model") == "small-1",
        "new": text("gen_ai.request.model") == "large-2",
        "org": text("org.id") != None,  # noqa: E711
        "hosted": number("network.asn") >= 64_712,
        "json": text("gen_ai.output.type") == "json",
        "age": time - log.column("account.created").to_numpy() / 3.6e9,
    }
    return {name: values.astype(np.float64) for name, values in columns.items()}


def metadata_of_accounts(world: World) -> Columns:
    """The same of an account: means and spreads over its requests from the third day on, and their number.

    By then every campaign has begun, and every developer who begins in the period.
    """
    late = world.truth.event_time >= FIRST_DAY + 2 * 86_400_000_000
    account = world.truth.event_account[late]
    count = np.bincount(account, minlength=len(world.truth.kind)).astype(np.float64)
    columns: Columns = {"count": count}
    count = np.maximum(count, 1)
    for name, values in ((name, values[late]) for name, values in metadata_of_requests(world).items()):
        mean = np.bincount(account, weights=values, minlength=len(count)) / count
        squares = np.bincount(account, weights=values**2, minlength=len(count)) / count
        columns |= {name: mean, f"{name} spread": np.sqrt(np.maximum(squares - mean**2, 0))}
    return columns


def separation(columns: Columns, positive: NDArray[np.bool_], seed: int) -> float:
    """Area under the curve of a logistic regression over quantiles of the columns, on the half it has not seen."""
    draw = np.random.default_rng(seed)
    parts = []
    for values in columns.values():
        edges = np.unique(np.quantile(values, np.linspace(0, 1, 7)[1:-1]))
        parts.append(np.digitize(values, edges)[:, None] == np.arange(len(edges) + 1))
    features = np.concatenate(parts, axis=1).astype(np.float64)
    features -= features.mean(axis=0)
    train = draw.random(len(positive)) < 0.5
    weights = np.zeros(features.shape[1])
    target = positive.astype(np.float64)
    for _ in range(200):
        error = 1 / (1 + np.exp(-features[train] @ weights)) - target[train]
        weights -= 0.5 * (features[train].T @ error / train.sum() + 0.01 * weights)
    score = features[~train] @ weights
    rank = np.argsort(np.argsort(score)) + 1.0
    held = positive[~train]
    hits, misses = held.sum(), (~held).sum()
    return float((rank[held].sum() - hits * (hits + 1) / 2) / (hits * misses))


def matched(world: World, columns: Columns) -> tuple[Columns, NDArray[np.bool_]]:
    """Attack accounts, and for each an ordinary developer of its volume, which is what the settings say.

    The time of opening is left out: it is one for a whole burst, hence a link.
    """
    draw = np.random.default_rng(5)
    by_count: dict[float, list[int]] = {}
    for position in draw.permutation(np.flatnonzero(world.truth.kind == Kind.DEVELOPER)):
        by_count.setdefault(columns["count"][position], []).append(int(position))
    pairs = [
        (int(position), partners.pop())
        for position in draw.permutation(np.flatnonzero(world.truth.kind == Kind.CAMPAIGN))
        if columns["count"][position] and (partners := by_count.get(columns["count"][position]))
    ]
    chosen = np.array(pairs).T.reshape(-1)
    kept = {name: values[chosen] for name, values in columns.items() if name != "count" and "age" not in name}
    return kept, np.arange(len(chosen)) < len(pairs)


@pytest.fixture(scope="module")
def crowd() -> World:
    """A campaign among many developers."""
    prompts = gather([attack_file(4_000)], ordinary_files())
    with pytest.MonkeyPatch.context() as patch:
        for kind in ORDINARY:
            patch.setitem(SHARES, kind, 0.96 if kind is Kind.DEVELOPER else 0.01)
        return build(prompts, Settings(accounts=400, ordinary=6_000, days=7))


def test_metadata_of_one_account_tell_no_attacker(crowd: World) -> None:
    columns, positive = matched(crowd, metadata_of_accounts(crowd))
    assert positive.sum() > 200
    # With about 100 against 100 unseen accounts chance alone scatters by 0.04.
    assert separation(columns, positive, 1) < 0.6


def test_the_age_of_an_account_tells_no_attacker() -> None:
    files = [PromptFile(f"harvest{number}", attack_file(8).prompts) for number in range(300)]
    truth_of = build(gather(files, ordinary_files(50)), Settings(accounts=1, ordinary=1_500))
    opened = truth_of.requests.column("account.created").to_numpy()
    kind = truth_of.truth.kind[truth_of.truth.event_account]
    ages = [np.unique(FIRST_DAY + 86_400_000_000 - opened[kind == one]) for one in (Kind.CAMPAIGN, Kind.DEVELOPER)]
    grid = np.quantile(ages[1], np.linspace(0.1, 0.9, 9))
    shares = [np.searchsorted(np.sort(one), grid) / len(one) for one in ages]
    # Kolmogorov and Smirnov's distance; by chance above 0.115 once in a hundred times.
    assert np.abs(shares[0] - shares[1]).max() < 0.115


def test_metadata_of_one_request_tell_no_attack(crowd: World) -> None:
    columns = metadata_of_requests(crowd)
    account, attack = crowd.truth.event_account, crowd.truth.event_campaign == 0
    draw = np.random.default_rng(7)
    chosen: list[int] = []
    for one in np.flatnonzero(crowd.truth.campaign == 0):  # as many of either sort from each account
        sides = [draw.permutation(np.flatnonzero((account == one) & (attack == side))) for side in (True, False)]
        both = min(len(side) for side in sides)
        chosen += [*sides[0][:both], *sides[1][:both]]
    columns = {name: values[chosen] for name, values in columns.items()}
    # Of about 1,400 against 1,400 unseen requests: chance alone scatters by 0.011.
    assert separation(columns, attack[chosen], 1) < 0.54


def test_a_planted_leak_is_found(crowd: World) -> None:
    columns, positive = matched(crowd, metadata_of_accounts(crowd))
    draw = np.random.default_rng(3)
    columns["temperature"] = np.where(positive & (draw.random(len(positive)) < 0.5), 0.37, columns["temperature"])
    assert separation(columns, positive, 1) > 0.65

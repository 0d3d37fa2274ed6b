"""Every feature of the windows but `mmd_z`, in plain Python: slow, and as docs/log-sources.md words it."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from member_client.windows.distilling import REASONING_ELICITATION, RUBRIC_ELICITATION
from tests.windows.traffic import DAY, HOUR, Request, Row, with_template

Key = tuple[int, int, str]  # hours, end, account
Cluster = tuple[int, int, str, str]  # hours, end, kind, key


class Log:
    """Requests with what was derived from them, and the numbers of those that a query pattern matched."""

    def __init__(self, requests: Sequence[Request], hits: set[int] | None) -> None:
        self.requests = [with_template(request) | {"number": n} for n, request in enumerate(requests, start=1)]
        self.hits = hits
        self.releases: dict[str, int] = {}
        for one in self.requests:
            model = one.get("gen_ai.request.model")
            if model is not None and one.get("timestamp") is not None:
                self.releases[model] = min(one["timestamp"], self.releases.get(model, one["timestamp"]))
        self.counted = [r for r in self.requests if r.get("timestamp") is not None and r.get("account.id") is not None]

    def ends(self, hours: int) -> list[int]:
        times = [r["timestamp"] for r in self.counted]
        if hours == 168:
            last = max(times) // DAY * DAY + DAY
            ends = {(t // DAY + n) * DAY for t in times for n in range(1, 8)}
            return sorted(end for end in ends if end <= last)
        return sorted({t // (hours * HOUR) * hours * HOUR + hours * HOUR for t in times})

    def between(self, start: int, end: int) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for request in self.counted:
            if start <= request["timestamp"] < end:
                found[request["account.id"]].append(request)
        return dict(found)


def values(requests: Sequence[Row], field: str) -> list[Any]:
    return [request[field] for request in requests if request.get(field) is not None]


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def evenness(counts: Sequence[int], classes: int) -> float:
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts) / math.log(classes)


def topic(prompt: str) -> str | None:
    rest = re.sub(r"\A\s*(\S+\s+){8}", "", prompt.lower()[:4000], count=1) if len(prompt.split()) > 8 else ""
    words = re.findall(r"[^\W\d_]+", rest)
    return min(words, key=lambda word: (-len(word), word), default=None)


def latest(requests: Sequence[Row], field: str) -> str | None:
    having = [(r["timestamp"], r[field]) for r in requests if r.get(field) is not None]
    return max(having)[1] if having else None


def gap_variation(requests: Sequence[Row]) -> float | None:
    times = sorted(request["timestamp"] for request in requests)
    gaps = [Fraction(later - earlier) for earlier, later in pairwise(times)]
    if len(gaps) < 2 or not sum(gaps):
        return None
    mean = sum(gaps) / len(gaps)
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / float(mean)


def both(log: Log, hours: int, end: int, accounts: dict[str, list[Row]]) -> Row:
    """The fields that windows of accounts and of clusters have, but for `gap_variation`."""
    requests = [request for found in accounts.values() for request in found]
    before = log.between(end - 2 * hours * HOUR, end - hours * HOUR)
    prompts = values(requests, "prompt.text")
    conversations = Counter(
        (r["account.id"], r["gen_ai.conversation.id"]) for r in requests if r.get("gen_ai.conversation.id") is not None
    )
    single = [
        r
        for r in requests
        if conversations[r["account.id"], r.get("gen_ai.conversation.id")] <= 1 and r.get("prompt.turns") in (None, 1)
    ]
    paired = [
        r
        for r in requests
        if r.get("gen_ai.usage.input_tokens") is not None and r.get("gen_ai.usage.output_tokens") is not None
    ]
    inputs, outputs = values(requests, "gen_ai.usage.input_tokens"), values(requests, "gen_ai.usage.output_tokens")
    modelled = [r for r in requests if r.get("gen_ai.request.model") is not None]
    topics = [found for prompt in prompts if (found := topic(prompt)) is not None]
    templates = Counter(values(requests, "prompt.template"))
    texts = [values([r], "prompt.text") + values([r], "prompt.system") for r in requests]
    readable = [text for text in texts if text]
    return {
        "timestamp": end,
        "window.hours": hours,
        "window.requests": len(requests),
        "window.requests_before": sum(len(before.get(account, ())) for account in accounts),
        "window.conversations": len(conversations) or None,
        "window.input_tokens": sum(inputs) if inputs else None,
        "window.output_tokens": sum(outputs) if outputs else None,
        "window.output_tokens_per_request": share(sum(outputs), len(outputs)),
        "window.output_input_ratio": share(
            sum(values(paired, "gen_ai.usage.output_tokens")), sum(values(paired, "gen_ai.usage.input_tokens"))
        ),
        "window.active_hours": len({r["timestamp"] // HOUR for r in requests}),
        "window.hour_entropy": evenness(list(Counter(r["timestamp"] // HOUR % 24 for r in requests).values()), 24),
        "window.models": len(set(values(requests, "gen_ai.request.model"))) or None,
        "window.new_model_share": share(
            sum(r["timestamp"] - log.releases[r["gen_ai.request.model"]] < DAY for r in modelled), len(modelled)
        ),
        "window.distinct_prompt_share": share(len(set(prompts)), len(prompts)),
        "window.single_turn_share": len(single) / len(requests),
        "window.template_concentration": share(max(templates.values(), default=0), sum(templates.values())),
        "window.topic_spread": None
        if not topics
        else 0
        if len(topics) == 1
        else evenness(list(Counter(topics).values()), len(topics)),
        "window.reasoning_elicitation_share": share(
            sum(any(re.search(REASONING_ELICITATION, t) for t in text) for text in readable), len(readable)
        ),
        "window.rubric_elicitation_share": share(
            sum(any(re.search(RUBRIC_ELICITATION, t) for t in text) for text in readable), len(readable)
        ),
        "window.query_pattern_share": None
        if log.hits is None
        else sum(r["number"] in log.hits for r in requests) / len(requests),
        "window.mmd_z": None,
    }


def account_windows(log: Log, lengths: Sequence[int]) -> list[Row]:
    found = []
    for hours in lengths:
        for end in log.ends(hours):
            for account, requests in sorted(log.between(end - hours * HOUR, end).items()):
                created = min(values(requests, "account.created"), default=None)
                found.append(
                    both(log, hours, end, {account: requests})
                    | {
                        "window.gap_variation": gap_variation(requests),
                        "account.id": account,
                        "account.created": created,
                        "account.age_days": None if created is None else (end - created) / DAY,
                        "org.id": latest(requests, "org.id"),
                        "payment.fingerprint": latest(requests, "payment.fingerprint"),
                    }
                )
    return found


def subnet(address: str) -> str:
    return ".".join(address.split(".")[:3]) + ".0/24"


def keys_of(requests: Sequence[Row]) -> dict[str, Counter[str]]:
    """How often the account used each value of each kind of key."""
    created = min(values(requests, "account.created"), default=None)
    hour = [] if created is None else [created // HOUR]
    return {
        "payment": Counter(values(requests, "payment.fingerprint")),
        "subnet": Counter(subnet(address) for address in values(requests, "network.ip")),
        "network": Counter(str(int(number)) for number in values(requests, "network.asn")),
        "client": Counter(values(requests, "client.fingerprint")),
        "template": Counter(values(requests, "prompt.template")),
        "creation_burst": Counter(str(opened) for opened in hour),
    }


def clusters(accounts: dict[str, list[Row]]) -> dict[tuple[str, str], set[str]]:
    """Accounts by kind and key: those that have it among the eight most frequent of the shared ones."""
    keys = {account: keys_of(requests) for account, requests in accounts.items()}
    owners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for account, kinds in keys.items():
        for kind, counter in kinds.items():
            for key in counter:
                owners[kind, key].add(account)
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for account, kinds in keys.items():
        for kind, counter in kinds.items():
            shared = sorted((-n, key) for key, n in counter.items() if len(owners[kind, key]) > 1)
            for _, key in shared[:8]:
                found[kind, key].add(account)
    return {key: members for key, members in found.items() if len(members) > 1}


def cluster_windows(log: Log, lengths: Sequence[int]) -> list[tuple[Row, set[str]]]:
    """The windows of clusters by single keys, with their accounts; without surprise and key."""
    found = []
    for hours in lengths:
        for end in log.ends(hours):
            accounts = log.between(end - hours * HOUR, end)
            for (kind, _), members in clusters(accounts).items():
                found.append((cluster_window(log, hours, end, kind, {a: accounts[a] for a in members}), members))
    return found


def cluster_window(log: Log, hours: int, end: int, kind: str, accounts: dict[str, list[Row]]) -> Row:
    requests = [request for one in accounts.values() for request in one]
    gaps = [gap for one in accounts.values() if (gap := gap_variation(one)) is not None]
    orgs = {account: latest(one, "org.id") for account, one in accounts.items()}
    opened = sorted(c for one in accounts.values() if (c := min(values(one, "account.created"), default=None)))
    active = [{r["timestamp"] // HOUR for r in one} for one in accounts.values()]
    busy = set().union(*active)
    senders, users = defaultdict(set), defaultdict(set)
    for request in requests:
        senders[request.get("prompt.text")].add(request["account.id"])
        users[request.get("prompt.template")].add(request["account.id"])
    prompts, templates = values(requests, "prompt.text"), values(requests, "prompt.template")
    everybody = [r for one in log.between(end - hours * HOUR, end).values() for r in one]
    elsewhere = Counter(values(everybody, "prompt.text")) - Counter(prompts)
    known = Counter(org for org in orgs.values() if org is not None)
    used = [keys_of(one) for one in accounts.values()]

    def distinct(kind: str) -> int | None:
        return len(set().union(*(keys[kind] for keys in used))) or None

    return both(log, hours, end, accounts) | {
        "window.gap_variation": share(sum(gaps), len(gaps)),
        "cluster.key_kind": kind,
        "cluster.accounts": len(accounts),
        "cluster.units": len({org or f"account {account}" for account, org in orgs.items()}),
        "cluster.orgs": len(known),
        "cluster.largest_org_share": max(known.values(), default=0) / len(accounts),
        "cluster.payments": distinct("payment"),
        "cluster.networks": distinct("network"),
        "cluster.clients": distinct("client"),
        "cluster.requests_per_account": len(requests) / len(accounts),
        "cluster.creation_burst_share": share(
            max((sum(t - DAY < other <= t for other in opened) for t in opened), default=0), len(opened)
        ),
        "cluster.new_account_share": share(sum(t >= end - 7 * DAY for t in opened), len(opened)),
        "cluster.load_evenness": evenness([len(one) for one in accounts.values()], len(accounts)),
        "cluster.shared_hours_share": sum(sum(hour in one for one in active) for hour in busy)
        / (len(busy) * len(accounts)),
        "cluster.repeated_prompt_share": share(sum(len(senders[text]) > 1 for text in prompts), len(prompts)),
        "cluster.repeated_within_share": share(
            sum(
                len(senders[text]) > 1
                and prompts.count(text) * sum(elsewhere.values()) >= 10 * len(prompts) * elsewhere[text]
                for text in prompts
            ),
            len(prompts),
        ),
        "cluster.distinct_by_account_share": share(
            sum(len(set(values(one, "prompt.text"))) for one in accounts.values()), len(prompts)
        ),
        "cluster.shared_template_share": share(sum(len(users[text]) > 1 for text in templates), len(templates)),
        "cluster.link_kinds": 1,
    }

"""What a backtest counts is what happened, and what it cannot know it does not claim."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.backtest.backtesting import Backtest, FalsePositives, Known, backtest
from member_client.backtest.legitimate import read_legitimate
from member_client.backtest.measured import measured
from member_client.detection.detecting import Options
from member_client.detection.in_force import RunnablePattern
from member_client.detection.log_settings import Source
from member_client.errors import InvalidInput
from member_client.patterns.authoring import read_bytes
from member_client.patterns.library import starter
from member_client.patterns.yaml_writing import dump
from sharing_protocol.intervals import wilson
from sharing_protocol.pattern_logic.catalogue import Category
from tests.member_client.detection_runs import pattern, run, write_json_lines
from tests.pattern_logic.documents import correlation, rule

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def told(hour: float, account: str | None, text: str, **more: Any) -> dict[str, Any]:
    """A request, so many hours after Monday's midnight."""
    row: dict[str, Any] = {"timestamp": (MONDAY + timedelta(hours=hour)).isoformat(), "prompt.text": text}
    return row | ({} if account is None else {"account.id": account}) | more


def over(
    folder: Path,
    one: RunnablePattern,
    rows: Sequence[dict[str, Any]],
    in_force: Sequence[RunnablePattern] = (),
    legitimate: frozenset[str] | None = None,
    options: Options = Options(),  # noqa: B008 - immutable
) -> Backtest:
    """Backtest over a log of these rows."""
    log = write_json_lines(folder / "log.jsonl", rows)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    broken: list[Any] = []
    result = backtest(one, in_force, [Source((str(log),))], options, scratch, broken.append, legitimate)
    assert broken == []
    assert list(scratch.iterdir()) == []
    return result


TASKS = pattern("tasks", rule(s={"prompt.text|contains": "tasks"}))


def test_days_accounts_and_shares_are_counted(tmp_path: Path) -> None:
    rows = [
        told(1, "a", "ten tasks"),
        told(2, "b", "a recipe"),
        told(23.99, "a", "ten more tasks"),
        told(24, "c", "other tasks"),
        told(80, None, "nobody's tasks"),
        {"account.id": "d", "prompt.text": "undated tasks", "timestamp": "once"},
        told(81, "b", "a recipe"),
        told(82, "b", "a recipe"),
    ]
    result = over(tmp_path, TASKS, rows)
    assert (result.requests, result.accounts) == (8, 4)
    assert (result.matches, result.undated, result.events, result.matched) == (5, 1, 8, 5)
    assert (result.flagged, result.accounts_share, result.requests_share) == (3, 3 / 4, 5 / 8)
    assert [(one.day, one.requests, one.matches) for one in result.days] == [
        (date(2026, 3, 2), 3, 2),
        (date(2026, 3, 3), 1, 1),
        (date(2026, 3, 5), 3, 1),
    ]
    assert result.false_positives is None
    assert measured(result)["false_positive_rate"] is None


def test_what_is_before_since_is_no_traffic_either(tmp_path: Path) -> None:
    rows = [told(1, "a", "tasks"), told(30, "b", "tasks"), told(31, "c", "hello")]
    since = int((MONDAY + timedelta(days=1)).timestamp() * 1_000_000)
    result = over(tmp_path, TASKS, rows, options=Options(since=since))
    assert (result.requests, result.accounts, result.matches, len(result.days)) == (2, 2, 1, 1)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"prompt.text": st.sampled_from(["tasks", "a recipe", "tasks, and a recipe"])},
            optional={
                "timestamp": st.integers(1_700_000_000, 1_700_400_000) | st.just("yesterday"),
                "account.id": st.sampled_from(["a", "b", "c", 7]),
            },
        ),
        min_size=1,
        max_size=25,
    ),
    st.sets(st.sampled_from(["a", "b", "c", "nobody"])),
)
def test_it_counts_as_detect_does_and_each_request_once(rows: list[dict[str, Any]], legitimate: set[str]) -> None:
    both = [
        rule(name="tasks", s={"prompt.text|contains": "tasks"}),
        rule(name="recipes", s={"prompt.text|contains": "recipe"}),
        correlation("event_count", "tasks", condition={"gte": 2}, generate=True),
    ]
    one = pattern("both", *both)
    with tempfile.TemporaryDirectory() as place:
        result = over(Path(place), one, rows, legitimate=frozenset(legitimate))
        (tally,) = run(Path(place) / "detect", [one], Path(place) / "log.jsonl").result.tallies
    assert (result.matches, result.undated, result.flagged) == (tally.matches, tally.undated, tally.accounts)
    assert result.matched == len(rows)  # every text is matched by one rule at least
    texts = [row["account.id"] for row in rows if isinstance(row.get("account.id"), str)]
    days = Counter(
        datetime.fromtimestamp(row["timestamp"], UTC).date() for row in rows if isinstance(row.get("timestamp"), int)
    )
    assert {one.day: one.requests for one in result.days} == days
    assert sum(one.matches for one in result.days) == result.matches - result.undated
    assert result.accounts == result.flagged == len(set(texts))
    wrong = result.false_positives
    assert wrong is not None
    assert (wrong.named, wrong.seen, wrong.flagged) == (len(legitimate), *[len(set(texts) & legitimate)] * 2)


def test_what_others_flag_already_and_what_is_new(tmp_path: Path) -> None:
    recipes = pattern("recipes", rule(s={"prompt.text|contains": "recipe"}))
    idle = pattern("idle", rule(s={"prompt.text|contains": "never said"}))
    rows = [
        told(1, "a", "tasks"),
        told(2, "a", "recipe"),
        told(3, "b", "tasks"),
        told(4, "c", "recipe"),
        told(5, "d", "hello"),
    ]
    known = over(tmp_path, TASKS, rows, [recipes, idle]).known
    assert (known.patterns, known.accounts, known.shared, known.new) == (2, 2, 1, 1)
    assert [(one.id, one.accounts, one.shared) for one in known.overlaps] == [("pattern--recipes", 2, 1)]


def campaign(accounts: int, requests: int) -> list[dict[str, Any]]:
    """Accounts with one payer on Monday, each with so many requests, two hours apart."""
    return [
        told(2 * number + account / 60, f"pool-{account}", f"tasks {account} {number}", **{"payment.fingerprint": "p"})
        for number in range(requests)
        for account in range(accounts)
    ]


CLUSTERS = rule(
    category="cluster_window",
    s={"cluster.key_kind": "payment", "window.hours": 24, "cluster.accounts|gte": 3},
)


def test_windows_are_counted_on_the_day_they_cover_and_so_are_their_accounts_requests(tmp_path: Path) -> None:
    others = [told(hour, f"user-{hour}", "hello", **{"payment.fingerprint": f"q{hour}"}) for hour in range(10)]
    later = [told(30, "pool-0", "hello", **{"payment.fingerprint": "p"})]  # alone on Tuesday: no cluster
    result = over(tmp_path, pattern("pool", CLUSTERS), [*campaign(4, 5), *others, *later])
    assert (result.matches, result.matched, result.clusters, result.flagged) == (1, 1, 1, 4)
    assert [(one.day.day, one.requests, one.matches) for one in result.days] == [(2, 30, 1), (3, 1, 0)]
    assert (result.requests_matched, result.requests) == (20, 31)
    assert result.events >= result.matched
    assert "windows of clusters" in measured(result)["method"]


def test_overlapping_windows_count_an_accounts_requests_once(tmp_path: Path) -> None:
    always = rule(category="account_window", s={"window.requests|gte": 1})
    result = over(tmp_path, pattern("always", always), campaign(2, 6))
    assert result.matches > result.flagged  # hours, a day, and weeks that overlap
    assert result.requests_matched == result.requests == 12
    assert result.match_rate == 1


def test_a_draft_does_not_make_the_windows_of_others_look_known(tmp_path: Path) -> None:
    known = rule(category="account_window", s={"window.query_pattern_share|gt": 0})
    in_force = pattern("known", known, kind="behavioral_signature")
    recipes = pattern("recipes", rule(s={"prompt.text|contains": "recipe"}))
    rows = [told(1, "a", "tasks"), told(2, "b", "recipe")]
    result = over(tmp_path, TASKS, rows, [in_force, recipes])
    assert (result.known.accounts, result.known.shared, result.known.new) == (1, 0, 1)


def test_the_sample_is_the_legitimate_accounts_that_sent_requests(tmp_path: Path) -> None:
    rows = [told(n, f"batch-{n}", "tasks" if n == 3 else "hello") for n in range(40)] + [told(1, "a", "tasks")]
    named = frozenset(f"batch-{n}" for n in range(100))
    result = over(tmp_path, TASKS, rows, legitimate=named)
    wrong = result.false_positives
    assert wrong is not None
    assert (wrong.named, wrong.seen, wrong.flagged, wrong.some) == (100, 40, 1, ("batch-3",))
    assert (wrong.rate, wrong.interval) == (1 / 40, wilson(1, 40))
    absent = over(tmp_path, TASKS, rows, legitimate=frozenset(["nobody"])).false_positives
    assert absent is not None
    assert (absent.rate, absent.interval) == (None, None)


def test_wilson_is_as_published_and_holds_what_was_found() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    for found, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(found, of) == pytest.approx((low, high), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


def with_sample(wrong: int, seen: int) -> Backtest:
    """A backtest of two requests in three, with this sample."""
    return Backtest(
        category=Category.REQUEST,
        requests=3 * seen,
        accounts=seen,
        first=None,
        last=None,
        events=3 * seen,
        matched=2 * seen,
        matches=2 * seen,
        undated=0,
        flagged=wrong,
        clusters=0,
        requests_matched=2 * seen,
        days=(),
        known=Known(0, 0, 0, wrong, ()),
        false_positives=FalsePositives(seen, seen, wrong, ()),
        missing=(),
        hopeless=False,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.integers(1, 5_000))
def test_what_is_published_is_rough_and_its_interval_never_too_narrow(wrong: int, seen: int) -> None:
    wrong = min(wrong, seen)
    block = measured(with_sample(wrong, seen))
    low, high = block["false_positive_interval"]
    exact_low, exact_high = wilson(wrong, seen)
    assert 0 <= low <= exact_low
    assert exact_high <= high <= 1
    assert low <= block["false_positive_rate"] <= high
    for share in (block["match_rate"], block["false_positive_rate"], low, high):
        assert len(f"{share:e}".partition("e")[0].rstrip("0").rstrip(".")) == 1
    text = starter("self-instruct-bootstrapping").text
    reading = read_bytes((text + "\n" + dump({"measured": block})).encode(), "mine.yaml", MONDAY)
    assert reading.issues == ()
    assert reading.pattern is not None
    assert reading.pattern.content.measured is not None
    assert reading.pattern.content.measured.model_dump(mode="json") == block


@pytest.mark.parametrize("form", ["lines", "csv", "named column", "parquet", "numbers"])
def test_legitimate_accounts_are_lines_or_a_column(tmp_path: Path, form: str) -> None:
    ids = ["acme:batch", "7", "customer, the first"]
    path = tmp_path / {"lines": "ids.txt", "parquet": "ids.parquet", "numbers": "ids.pq"}.get(form, "ids.csv")
    written = str(path)
    if form == "lines":
        path.write_text("\ufeff" + "\r\n".join(ids) + "\n\n")
    elif form == "parquet":
        pq.write_table(pa.table({"other": ids, "account.id": ids}), path)
    elif form == "numbers":
        pq.write_table(pa.table({"id": [1, 2, None]}), path)
        written, ids = f"{path}:id", ["1", "2"]
    else:
        column = "account.id" if form == "csv" else "customer"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["name", column], *(["x", one] for one in ids)])
        written += "" if form == "csv" else ":customer"
    assert read_legitimate(written) == frozenset(ids)


def test_a_list_that_names_nobody_is_refused(tmp_path: Path) -> None:
    empty, table = tmp_path / "empty.txt", tmp_path / "table.csv"
    empty.write_text("\n \n")
    table.write_text("customer\nx\n")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    for written, said in (
        (empty, "names no account"),
        (table, "no one column 'account.id'"),
        (f"{table}:nothing", "it has: customer"),
        (binary, "cannot be read"),
        (tmp_path / "none.txt", "cannot read"),
    ):
        with pytest.raises(InvalidInput, match=said):
            read_legitimate(str(written))

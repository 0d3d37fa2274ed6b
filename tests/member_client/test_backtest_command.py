"""`stillwatch pattern backtest`: what it says, draws and prints, of a draft and of a record."""

from __future__ import annotations

import io
import json
import shutil
import stat
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from member_client.backtest.chart import days_drawn
from member_client.backtest.history import Day
from member_client.patterns import library
from member_client.pictures import write_chart
from sharing_protocol.statements import PatternKind
from tests.forum import pattern_body
from tests.member_client.command import Command, settle
from tests.member_client.follower import Lab, entries_of
from tests.member_client.lying_hub import LyingHub
from tests.protocol.forum_log import AURORA, forum_of_two_labs, identifier

TASKS, GREETINGS = identifier("pattern", 0x1000), identifier("pattern", 0x2000)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two patterns in force: one finds bootstrapping prompts, the other greetings."""
    log = forum_of_two_labs()
    log.say("pattern", TASKS, AURORA, pattern_body(), ["Aurora analyst"])
    greeting = pattern_body("Greetings")
    greeting["logic"][0]["detection"]["selection"] = {"prompt.text|startswith": "hello"}
    greeting["tests"][0]["events"], greeting["tests"][1]["events"] = [{"prompt.text": "hello"}], [{"prompt.text": "x"}]
    log.say("pattern", GREETINGS, AURORA, greeting, ["Aurora analyst"])
    with LyingHub(entries_of(log)) as hub:
        lab = Lab(tmp_path_factory.mktemp("synced") / "lab", hub, log.fingerprint)
        lab.sync()
        lab.store.close()
        return settle(lab)


@pytest.fixture
def home(synced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synced, tmp_path / "lab"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three days of six accounts; two of them bootstrap, one of these also says hello; one row is broken."""
    texts = {"a": "Please come up with 20 diverse tasks.", "b": "hello, come up with 20 diverse tasks", "c": "hello"}
    rows = [
        json.dumps(
            {
                "timestamp": (MONDAY + timedelta(days=day, hours=9)).isoformat(),
                "account.id": account,
                "prompt.text": texts.get(account, "What is the capital of France?"),
            }
        )
        for day in range(3)
        for account in "abcdef"
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join([*rows, "{broken"]))
    return path


def test_of_a_record_it_says_days_accounts_overlap_and_no_rate_without_a_sample(
    home: Path, command: Command, log: Path
) -> None:
    said = command("pattern", "backtest", TASKS[9:], log, "--home", home)
    for expected in (
        "Bootstrapped instructions",
        "over 18 requests of 6 accounts, 2026-03-02 to 2026-03-04",
        "matches: 6",
        "6 requests (33 %), 2 accounts (33 %)",
        "1 of these accounts are flagged by other patterns in force (1 ran, and flag 2 accounts); new: 1",
        "Greetings",
        "false positives: not known",
        f"{log}:19: left out: not JSON",
    ):
        assert expected in said
    assert [line.split()[:3] for line in said.splitlines() if line.startswith("2026-")] == [
        [f"2026-03-0{day}", "6", "2"] for day in (2, 3, 4)
    ]
    assert not list((home / "detections").iterdir())


def test_a_draft_is_measured_and_the_block_fits_the_file(
    home: Path, command: Command, log: Path, tmp_path: Path
) -> None:
    draft, legitimate = tmp_path / "mine.yaml", tmp_path / "legitimate.txt"
    text = library.template(PatternKind.QUERY_PATTERN).split("# What a backtest")[0]
    draft.write_text(text.replace("Example: ", ""))
    legitimate.write_text("c\nd\ne\nelsewhere\n")
    given = ("pattern", "backtest", draft, log, "--legitimate", legitimate, "--home", home)
    document = command.json(*given)
    assert document["pattern"]["id"] is None
    assert document["false_positives"]["seen"] == 3
    assert document["known"]["patterns"] == 2
    block = command(*given, "--measured")
    block = block[: block.index(f"{log}:19")]
    draft.write_text(draft.read_text() + "\n" + block)
    command("pattern", "lint", draft)
    assert f"events: '{document['measured']['events']}'" in block
    assert "customer" not in block


def test_a_revision_is_not_compared_with_its_own_record(
    home: Path, command: Command, log: Path, tmp_path: Path
) -> None:
    draft = tmp_path / "mine.yaml"
    exported = command("pattern", "export", TASKS, "--format", "pattern", "--home", home)
    given = ("pattern", "backtest", draft, log, "--home", home)
    for text, revises in (
        (exported, ()),
        (exported.replace("20 diverse", "20 new"), ()),
        (exported.replace("title: Bootstrapped instructions", "title: Other", 1), ()),
        (
            exported.replace("Bootstrapped instructions", "Other").replace("20 diverse", "20 new"),
            ("--revises", TASKS[9:]),
        ),
    ):
        draft.write_text(text)
        document = command.json(*given, *revises)
        assert document["own_records"] == [TASKS]
        assert document["known"]["patterns"] == 1
        assert [one["id"] for one in document["known"]["overlaps"]] in ([GREETINGS], [])
        said = command(*given, *revises)
        assert f"its own record does not count as another pattern: {TASKS[9:17]} version 1" in said
    document = command.json(*given)
    assert (document["own_records"], document["known"]["patterns"]) == ([], 2)
    assert "--revises goes with a pattern file" in command(
        "pattern", "backtest", TASKS, log, "--revises", TASKS, "--home", home, code=2
    )


def test_a_file_over_named_logs_needs_no_home(
    command: Command, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "data"
    monkeypatch.setenv("XDG_DATA_HOME", str(nowhere))
    monkeypatch.delenv("STILLWATCH_HOME", raising=False)
    draft = tmp_path / "mine.yaml"
    draft.write_text(library.template(PatternKind.QUERY_PATTERN))
    said = command("pattern", "backtest", draft, log)
    assert "over 18 requests of 6 accounts" in said
    assert "already known: not asked, as there is no home here" in said
    document = command.json("pattern", "backtest", draft, log)
    assert (document["known"], document["own_records"], document["requests"]) == (None, [], 18)
    for needs in ([draft], [draft, log, "--revises", TASKS], [TASKS, log], [draft, log, "--home", nowhere]):
        assert "error:" in command("pattern", "backtest", *needs, code=2)
    assert not nowhere.exists()


def test_legitimate_accounts_that_are_flagged_are_named_here_alone(
    home: Path, command: Command, log: Path, tmp_path: Path
) -> None:
    legitimate = tmp_path / "legitimate.csv"
    legitimate.write_text("customer,account\nAcme,b\nOther,c\n")
    given = ("pattern", "backtest", TASKS, log, "--legitimate", f"{legitimate}:account", "--home", home)
    said = command(*given)
    assert "1 of 2 accounts known as legitimate: 50 % (95 % interval 9.5 % to 91 %)" in said
    assert "flagged among them: b" in said
    block = command(*given, "--measured")
    assert "false_positive_rate: 0.5" in block
    assert "share of 1-9 accounts" in block


def test_the_chart_is_drawn_in_each_form_for_its_owner_alone(
    home: Path, command: Command, log: Path, tmp_path: Path
) -> None:
    for name in ("chart.png", "chart.svg", "chart.html"):
        path = tmp_path / name
        said = command("pattern", "backtest", TASKS, log, "--chart", path, "--home", home)
        assert f"chart: {path}" in said
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    picture = Image.open(io.BytesIO((tmp_path / "chart.png").read_bytes()))
    colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert (0x1B, 0x6C, 0xA8) in colours
    bars = [one for one in ET.parse(tmp_path / "chart.svg").iter() if one.get("fill") == "#1b6ca8"]  # noqa: S314 - ours
    assert len(bars) == 3
    assert "<td>2026-03-03</td><td>6</td><td>2</td>" in (tmp_path / "chart.html").read_text()


def test_a_chart_shows_a_title_as_text_and_a_gap_as_a_gap(tmp_path: Path) -> None:
    days = [Day(date(2020, 1, 1), 9, 7), Day(date(2026, 3, 2), 9, 1), Day(date(2026, 3, 12), 9, 4)]
    for ending in (".svg", ".html"):
        write_chart(tmp_path / f"chart{ending}", days_drawn("<script>x</script> \u202e" + "t" * 300, days))
        text = (tmp_path / f"chart{ending}").read_text()
        assert "<script" not in text
        assert "\u202e" not in text
    boxes = [one for one in ET.parse(tmp_path / "chart.svg").iter() if one.get("fill") == "#1b6ca8"]  # noqa: S314 - ours
    heights = [float(one.get("height", 0)) for one in boxes]
    assert heights == pytest.approx([heights[1] / 4, heights[1]], abs=0.1)  # what is years before is not drawn
    apart = float(boxes[1].get("x", 0)) - float(boxes[0].get("x", 0))
    assert apart > 9 * float(boxes[0].get("width", 0))
    write_chart(tmp_path / "nothing.png", days_drawn("nothing", []))
    assert (tmp_path / "nothing.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_done_is_said_before_logs_are_read(
    home: Path, command: Command, log: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    cases: list[tuple[list[object], str]] = [
        ([TASKS, log, "--chart", tmp_path / "chart.gif"], "no picture that can be drawn"),
        ([TASKS, log, "--chart", tmp_path / "none" / "chart.svg"], "--chart"),
        ([TASKS, log, "--legitimate", tmp_path / "none"], "cannot read"),
        ([TASKS, log, "--since", "then"], "neither a day nor a time"),
        ([TASKS, log, "--since", "2027-01-01"], "no requests to look at"),
        ([TASKS, empty], "no requests to look at"),
        ([TASKS], "logs.toml"),
        ([tmp_path / "none.yaml", log], "cannot read"),
        ([TASKS, log, "--version", "9"], "no version 9"),
    ]
    for arguments, expected in cases:
        said = command("pattern", "backtest", *(str(one) for one in arguments), "--home", home, code=2)
        assert expected in said
        assert "Traceback" not in said


def test_what_cannot_be_read_is_said_also_if_no_request_is_left(
    home: Path, command: Command, log: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.jsonl"
    odd.write_text(log.read_text().replace("+00:00", "").removesuffix("{broken"))
    given = ("pattern", "backtest", TASKS, odd, "--home", home)
    expected = "timestamp could not be read in 18 rows, where it counts as absent; the first has text of the form"
    assert expected in command(*given)
    assert expected in command(*given, "--measured")
    assert expected in command(*given, "--since", "2026-01-01", code=2)
    (told,) = command.json(*given)["unreadable"]
    assert (told["field"], told["kind"]) == ("timestamp", "text of the form 9999-99-99T99:99:99")


def test_what_could_not_match_is_not_measured(home: Path, command: Command, log: Path, tmp_path: Path) -> None:
    draft, alone, odd = tmp_path / "pool.yaml", tmp_path / "alone.jsonl", tmp_path / "odd.jsonl"
    draft.write_text(library.starter("account-burst-behind-one-payment").text)
    said = command("pattern", "backtest", draft, log, "--home", home)
    assert "matches: 0" in said
    assert "no row has cluster.creation_burst_share" in said
    alone.write_text(log.read_text().splitlines()[0])
    odd.write_text(json.dumps({"timestamp": "2026-03-02T00:00:00Z", "prompt": "come up with 20 diverse tasks"}))
    for pattern, file, expected in (
        (str(draft), alone, "give no windows of clusters"),
        (TASKS, odd, "no row has any of prompt.text"),
    ):
        assert expected in command("pattern", "backtest", pattern, file, "--measured", "--home", home, code=2)
        assert command.json("pattern", "backtest", pattern, file, "--home", home)["measured"] is None
    assert "events: '1-9'" in command(
        "pattern", "backtest", TASKS, odd, "--map", "prompt.text=prompt", "--measured", "--home", home
    )

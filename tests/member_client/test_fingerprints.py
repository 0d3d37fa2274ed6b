"""A forum's fingerprint as words and as a QR code: what people read to each other, and the slips they make."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import segno
import typer
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from hub.cli import commands
from member_client.cli.main import run
from sharing_protocol import envelope
from sharing_protocol.errors import Malformed
from sharing_protocol.fingerprints import parse_fingerprint, words_of
from tests.member_client.lab_homes import Client
from tests.protocol.forum_log import log_identity

LIST = Mnemonic("english").wordlist
FORUM = "db5cf373625cc2d05128199d9b9df2cfd473fbee6262298aeae7cca2c9ec4eaf"

fingerprints = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(fingerprints)
def test_words_give_the_fingerprint_back(fingerprint: str) -> None:
    words = words_of(fingerprint)
    assert len(words.split()) == 24
    assert parse_fingerprint(words) == fingerprint
    assert parse_fingerprint(" ".join(word[:4] for word in words.split())) == fingerprint
    assert parse_fingerprint(f"  {words.upper().replace(' ', ', ')}.\n") == fingerprint


def test_the_words_are_those_of_bip_39() -> None:
    """Vectors of BIP-39 (trezor/python-mnemonic)."""
    assert words_of("00" * 32) == "abandon " * 23 + "art"
    assert words_of("ff" * 32) == "zoo " * 23 + "vote"
    assert words_of("7f" * 32) == (
        "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal "
        "winner thank year wave sausage worth title"
    )


@given(fingerprints, st.integers(0, 63))
def test_hex_digits_may_be_grouped_and_of_any_case(fingerprint: str, at: int) -> None:
    assert parse_fingerprint(f" {fingerprint[:at].upper()} {fingerprint[at:]}") == fingerprint
    assert parse_fingerprint(":".join(fingerprint[start : start + 4] for start in range(0, 64, 4))) == fingerprint


@given(fingerprints, st.integers(0, 23), st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8))
def test_a_word_that_is_none_is_named(fingerprint: str, at: int, typo: str) -> None:
    words = words_of(fingerprint).split()
    if any(word == typo or (len(typo) >= 4 and word.startswith(typo)) for word in LIST):
        return
    words[at] = typo
    with pytest.raises(Malformed, match=f"word {at + 1}, '{typo}', is not in the list"):
        parse_fingerprint(" ".join(words))


def test_nearly_every_mistaken_or_swapped_word_is_noticed() -> None:
    """A checksum of 8 bits: one slip of 256 goes unnoticed, and then leads to a forum that does not exist."""
    words = words_of(FORUM).split()
    noticed = tried = 0
    for at in range(24):
        for other in LIST[::400]:
            if other == words[at]:
                continue
            tried += 1
            try:
                found = parse_fingerprint(" ".join([*words[:at], other, *words[at + 1 :]]))
            except Malformed:
                noticed += 1
            else:
                assert found != FORUM
    assert tried > 100
    assert noticed / tried > 0.95
    swapped = [*words[:3], words[4], words[3], *words[5:]]
    with pytest.raises(Malformed, match="do not belong together"):
        parse_fingerprint(" ".join(swapped))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 words, and there are 24"),
        ("abandon", "64 hexadecimal digits, or 24 words"),
        ("ab" * 31, "64 hexadecimal digits, or 24 words"),
        ("abandon " * 25, "25 words, and there are 24"),
        ("abandon " * 22 + "abandn art", "perhaps 'abandon'"),
        ("x" * 2000, "too long"),
        ("aba " * 24, "word 1, 'aba', is not in the list"),
        ("café " * 24, "word 1"),
    ],
)
def test_what_is_no_fingerprint_says_what_to_look_at(text: str, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        parse_fingerprint(text)


# -- the commands --------------------------------------------------------------------------------------------------


def make(home: Path, *options: str) -> int:
    return run(["init", "--hub", "http://127.0.0.1:1", "--name", "Aurora", "--home", str(home), *options])


def test_a_home_is_pinned_by_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "one", "--forum", words_of(FORUM)) == 0
    assert make(tmp_path / "two") == 0
    capsys.readouterr()
    two = Client(tmp_path / "two", capsys)
    two.run("pin", *words_of(FORUM).split())
    for home in ("one", "two"):
        status = Client(tmp_path / home, capsys).json("status")
        assert (status["forum"], status["forum_in_words"]) == (FORUM, words_of(FORUM))
    typo = words_of(FORUM).replace(words_of(FORUM).split()[2], "misspelt")
    assert make(tmp_path / "three", "--forum", typo) == 2
    assert "word 3" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()


def test_status_shows_a_qr_code_that_says_the_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "home", "--forum", FORUM, "--qr") == 0
    made = capsys.readouterr().out
    shown = Client(tmp_path / "home", capsys).run("status", "--qr")
    assert "None" not in shown
    assert "checkpoint age seconds  -\n" in shown
    assert "checkpoint is fresh     no\n" in shown
    for printed in (made, shown):
        assert words_of(FORUM) in " ".join(printed.split())
        assert "█" in printed
    expected = io.StringIO()
    segno.make(FORUM, micro=False).terminal(out=expected, compact=True)
    assert expected.getvalue() in shown
    Client(tmp_path / "home", capsys).run("status", "--qr", "--json", code=2)
    assert make(tmp_path / "unpinned", "--qr") == 2


def test_the_hub_is_bound_by_words(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands(["bind", *words_of(FORUM).split(), "--database-url", database], standalone_mode=False)
    assert FORUM in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match="word 1"):
        commands(["bind", "misspelt", *words_of(FORUM).split()[1:], "--database-url", database], standalone_mode=False)


def test_the_founders_see_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--admin", "--hub", "http://127.0.0.1:1", "--name", "Ada", "--home", str(tmp_path / "ada"),
                "-o", str(tmp_path / "ada.json")]) == 0  # fmt: skip
    mark = re.search(r"[0-9a-f]{16}\b(?!.*[0-9a-f]{16}\b)", capsys.readouterr().out, re.DOTALL)
    log, founding = log_identity(), tmp_path / "founding.json"
    said = Client(tmp_path / "ada", capsys).run(
        "forum", "found", "--name", "Test", "--threshold", "1", "--admin", str(tmp_path / "ada.json"),
        "--log-key", log["log_key"], "--timestamp-key", log["timestamp_key"], "-o", str(founding), "--qr", "--yes",
    )  # fmt: skip
    assert mark is not None
    assert f"card's mark {mark[0]}" in said, "what Ada was told to read to whoever drafts"
    fingerprint = envelope.parse(founding.read_bytes()).payload_sha256
    assert words_of(fingerprint) in said
    assert "█" in said
    assert json.loads(envelope.parse(founding.read_bytes()).payload)["type"] == "membership.found"

"""A referral package: built by a lab, checked by somebody who has the file and the forum's fingerprint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.member_client.command import Command
from tests.member_client.follower import entries_of
from tests.member_client.lying_hub import LyingHub
from tests.member_client.referral_case import CRITERIA, INCIDENT, TITLE, contents, eventful_case, read_home

LOG = eventful_case()
ATTEST = ("--attest", "counsel agreed=General counsel, by memo of 1 March")
BUILD = ("referral", "build", INCIDENT, "--criteria", CRITERIA)


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with LyingHub(entries_of(LOG)) as hub:
        return read_home(tmp_path_factory.mktemp("referral") / "lab", hub, LOG)


@pytest.fixture
def home(synced: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synced, tmp_path / "lab"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_first(home: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "case.zip"
    evidence = tmp_path / "gateway log.jsonl"
    evidence.write_bytes(b"{}\n")
    print(command(*BUILD, "--no-sync", *ATTEST, "--local-evidence", evidence, "--by", "Ana Lyst", "-o", file, "--home", home))
    print(command("referral", "verify", file, "--forum", LOG.fingerprint))
    for name, data in contents(file.read_bytes()).items():
        print(name, len(data))
    print(contents(file.read_bytes())["summary.md"].decode())
    print(contents(file.read_bytes())["timeline.md"].decode())
    Path("/tmp/case.zip").write_bytes(file.read_bytes())
    assert False

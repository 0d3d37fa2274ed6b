"""`stillwatch evaluate --patterns active`: what other labs published, as it is in force here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.identity import HubIdentity
from member_client.evaluation.prompts import PromptFile
from tests.forum import ForumInABox, pattern_body, running_hub
from tests.member_client.lab_homes import Client, make_home
from tests.member_client.worlds import ordinary_files, write


def test_patterns_in_force_are_evaluated(
    new_database: Callable[[], str], hub_identity: HubIdentity, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap = PromptFile("bootstrap", tuple(f"Please come up with 20 diverse tasks. {n}" for n in range(20)))
    files = ["--attack", str(write(tmp_path, bootstrap)), "--benign"]
    files += [str(write(tmp_path, file)) for file in ordinary_files(50)]
    with running_hub(new_database(), hub_identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora, boreal = box.admit("Aurora"), box.admit("Boreal")
        client = Client(make_home(tmp_path / "boreal", box, boreal), capsys)
        client.run("sync")
        arguments = ["evaluate", *files, "--ordinary-accounts", "100", "--days", "2", "--patterns", "active"]
        assert "no pattern is in force" in client.run(*arguments, code=2)
        published, _ = box.publish(aurora, pattern_body())
        client.run("sync")
        report = client.json(*arguments)
    assert report["by_pattern"][published]["recall_volume"] == 1
    assert report["total"]["ordinary_accounts_flagged_share"] == 0

"""Fixtures for tests of what a lab's commands say."""

from __future__ import annotations

import pytest

from tests.member_client.command import Command


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs commands in this process."""
    return Command(capsys)

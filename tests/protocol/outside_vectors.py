"""Where the published test vectors lie, and how a test says that they are not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"


def vectors(*parts: str) -> Path:
    """The path of a vector file or folder; skips the test when the vectors are not on this machine."""
    path = VECTORS.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"published vectors are not here: ../shared/vectors/{'/'.join(parts)}")
    return path


def json_vectors(*parts: str) -> Any:
    """A parsed JSON vector file."""
    return json.loads(vectors(*parts).read_text("utf-8"))

"""Files that a user names: what is wrong with one is said, and how to mend it; none is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from member_client.errors import InvalidInput
from member_client.named_files import read_named, write_new


def test_a_file_is_read_so_far_that_too_much_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert [read_named(file, most) for most in (3, 4, 5)] == [b"1234", b"12345", b"12345"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none", tmp_path):
        with pytest.raises(InvalidInput, match="cannot read") as refused:
            read_named(wrong, 10)
        assert refused.value.hint


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_new(file, "gr\u00fcn\n")
    assert file.read_bytes() == b"gr\xc3\xbcn\n"
    for wrong, says in ((file, "exists"), (tmp_path / "none" / "file", "cannot write")):
        with pytest.raises(InvalidInput, match=says) as refused:
            write_new(wrong, "other")
        assert refused.value.hint
    assert file.read_bytes() == b"gr\xc3\xbcn\n"

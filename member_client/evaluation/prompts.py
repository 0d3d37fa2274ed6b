"""Real prompts from files: JSON lines with a `prompt` each, also gzip or zstd."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from member_client.errors import InvalidInput

MAX_PROMPTS = 2_000_000
MAX_LINE = 4_000_000
"""Bytes; a longer line is no prompt that any model takes, and is left out as broken."""
_ENDINGS = (".gz", ".zst", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The prompts of one file.

    Attributes:
        name: the file's name without folders and endings: what reports call it.
        prompts: in the file's order, repetitions included.
        broken: lines that hold no prompt, which were left out.
    """

    name: str
    prompts: tuple[str, ...]
    broken: int = 0


def read_prompts(paths: Sequence[Path]) -> list[PromptFile]:
    """Read files; two of one name are told apart by a number.

    Raises:
        InvalidInput: a file cannot be read, is damaged, or holds no prompt at all.
    """
    found: list[PromptFile] = []
    seen: dict[str, int] = {}
    for path in paths:
        name = _name(path)
        seen[name] = seen.get(name, 0) + 1
        found.append(_read(path, name if seen[name] == 1 else f"{name}#{seen[name]}"))
    return found


def read_names(path: Path) -> frozenset[str]:
    """Names of prompt files, one a line, with or without folders and endings; none stands for none.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        if path.stat().st_size > MAX_LINE:
            raise InvalidInput(f"{path} is too large a list", f"name files, in at most {MAX_LINE:,} bytes")
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}", "check the file's name") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8", "write a name a line, as text") from error
    return frozenset(_name(Path(line.strip())) for line in lines if line.strip())


def _read(path: Path, name: str) -> PromptFile:
    prompts: list[str] = []
    broken = 0
    try:
        for line in _lines(path):
            text = _prompt(line)
            if text is None:
                broken += bool(line.strip())
            else:
                prompts.append(text)
            if len(prompts) > MAX_PROMPTS:
                raise InvalidInput(f"{path} holds more than {MAX_PROMPTS:,} prompts", "give a sample of them")
    except (EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise InvalidInput(f"{path} is damaged: {error}", "fetch it again") from error
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}", "check the file's name") from error
    if not prompts:
        raise InvalidInput(f"{path} holds no prompt", 'each line is a JSON object such as {"prompt": "…"}')
    return PromptFile(name, tuple(prompts), broken)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw:
        stream: io.BufferedIOBase = raw
        if path.name.endswith(".gz"):
            stream = gzip.GzipFile(fileobj=raw)
        elif path.name.endswith(".zst"):
            stream = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        while line := stream.readline(MAX_LINE):
            yield line


def _prompt(line: bytes) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        return None
    # Half a surrogate pair reads as U+FFFD (docs/log-sources.md), and Arrow takes no other.
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _name(path: Path) -> str:
    name = path.name
    while ending := next((one for one in _ENDINGS if name.endswith(one) and name != one), ""):
        name = name.removesuffix(ending)
    return name

"""Reading `policy.toml`: strictly, and each setting with its line.

tomllib gives no lines, and no library that we know gives those of values. But an expression of TOML (a header, or a key
with its value) is a document by itself, and no beginning of one is. So the file is cut where a piece first parses.
"""

from __future__ import annotations

import codecs
import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.lifecycle.policy import BUILT_IN, Policy, Settings

MAX_BYTES = 65_536
MAX_LINES = 1_000
SEE = "see docs/policy-reference.md"
_AT_LINE = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the file that cannot be meant.

    Attributes:
        line: 0 if it is about the file as a whole.
        setting: dotted name; "" if it is not about one.
        what: what is wrong.
        mend: what to do about it.
    """

    line: int
    setting: str
    what: str
    mend: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.setting}{': ' if self.setting else ''}{self.what}"


class PolicyRefused(InvalidInput):
    """A policy file that is not to be followed.

    Attributes:
        faults: everything that is wrong with it, by line.
    """

    def __init__(self, name: str, faults: list[Fault]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{name}: {faults[0]}{more}", faults[0].mend)
        self.faults = faults


def template() -> str:
    """The policy to start from, with a comment on every setting."""
    return (files("member_client.lifecycle") / "policy.toml").read_text("utf-8")


def read_policy(home: Home) -> Policy:
    """The home's policy; the built-in one, which only observes, if it has none.

    Raises:
        PolicyRefused: there is a file, and it has something to mend.
    """
    try:
        return read_file(home.lifecycle_policy)
    except FileNotFoundError:
        return BUILT_IN


def read_file(path: Path) -> Policy:
    """A policy from a file.

    Raises:
        PolicyRefused: it has something to mend.
        FileNotFoundError: there is none.
    """
    return parse(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """What is in a file, as far as a policy may go; `parse` refuses what is longer."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def parse(data: bytes, name: str = "policy.toml") -> Policy:
    """A policy from the bytes of a file.

    Args:
        name: of the file, for messages.

    Raises:
        PolicyRefused: it has something to mend.
    """
    if len(data) > MAX_BYTES:
        raise PolicyRefused(name, [Fault(0, "", f"it has more than {MAX_BYTES:,} bytes", SEE)])
    if data.startswith(codecs.BOM_UTF8):
        what = "it begins with a byte order mark, which TOML does not have"
        raise PolicyRefused(name, [Fault(1, "", what, "save it as UTF-8 without one (without BOM)")])
    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PolicyRefused(name, [Fault(line, "", "it is not UTF-8 text", "save it as UTF-8")]) from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        found = _AT_LINE.search(str(error))
        what = f"it is not TOML: {_AT_LINE.sub('', str(error)).strip()}"
        mend = 'write `setting = value` under a [section], text in "quotation marks"'
        line = int(found[1]) if found else text.count("\n") + 1  # it ended too early
        raise PolicyRefused(name, [Fault(line, "", what, mend)]) from error
    if text.count("\n") > MAX_LINES:
        raise PolicyRefused(name, [Fault(0, "", f"it has more than {MAX_LINES:,} lines", SEE)])
    lines = _lines_of(text)
    try:
        return Policy(Settings.model_validate(document), lines, exists=True)
    except ValidationError as error:
        faults = [_fault(one, lines) for one in error.errors()]
        raise PolicyRefused(name, sorted(faults, key=lambda one: one.line)) from error


def settings_of(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting there is, in the order of the file."""
    for name, entry in model.model_fields.items():
        kind = entry.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def _lines_of(text: str) -> dict[str, int]:
    """The line of each setting, and of each section's header, of a text that is TOML."""
    found: dict[str, int] = {}
    section: tuple[str, ...] = ()
    written = text.replace("\r\n", "\n").split("\n")
    start = 0
    for end in range(1, len(written) + 1):
        try:
            piece = tomllib.loads("\n".join(written[start:end]))
        except tomllib.TOMLDecodeError:
            continue  # a value that goes on in the next line
        if written[start].lstrip().startswith("["):
            section = _only_path(piece)
            found.setdefault(".".join(section), start + 1)
        else:
            for path in _paths(piece, section):
                found.setdefault(".".join(path), start + 1)
        start = end
    return found


def _only_path(piece: dict[str, Any]) -> tuple[str, ...]:
    path: list[str] = []
    inner: Any = piece
    while isinstance(inner, dict) and inner:
        ((name, inner),) = inner.items()
        path.append(name)
    return tuple(path)


def _paths(piece: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    waiting = [(above, piece)]  # no recursion: a dotted key may have thousands of parts
    while waiting:
        path, table = waiting.pop()
        for name, value in table.items():
            yield (*path, name)
            if isinstance(value, dict):
                waiting.append(((*path, name), value))


def _fault(error: Any, lines: dict[str, int]) -> Fault:
    """One of pydantic's findings, where it stands in the file and in words."""
    path = [str(part) for part in error["loc"] if not isinstance(part, int)]
    setting = ".".join(part for part in path if part != "[key]")
    line = next((lines[name] for name in _upwards(setting) if name in lines), 0)
    if error["type"] == "extra_forbidden":
        return Fault(line, setting, "there is no such setting", _closest(setting))
    what = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = error["input"]
    shown = f", not {given!r:.80}" if isinstance(given, str | int | float) else ""
    wanted = what if error["msg"].startswith("Value error, ") else f"it should be {what}{shown}"
    return Fault(line, setting, wanted, SEE)


def _upwards(setting: str) -> Iterator[str]:
    while setting:
        yield setting
        setting = setting.rpartition(".")[0]


def _closest(setting: str) -> str:
    known = list(settings_of())
    same_name = [one for one in known if one.rpartition(".")[2] == setting.rpartition(".")[2]]
    close = same_name or difflib.get_close_matches(setting, known, 1)
    if close:
        section, _, name = close[0].rpartition(".")
        return f"did you mean {name} {f'under [{section}]' if section else 'above all sections'}?"
    return SEE

"""Who in the lab is told of incidents, and how: `hooks.toml` in the home, 0600.

[[webhook]]
name = "pager"                                  # names it in `incident deliveries`
url = "https://pager.example/hooks/stillwatch"  # plain http to this machine only
ca_file = "/etc/ssl/lab-ca.pem"                 # left out: the system's certificates
events = ["escalated", "overdue"]               # left out: opened, escalated, overdue, closed
levels = ["Act"]                                # left out: at every level, and at none

[[email]]
name = "duty"
to = ["duty@lab.example"]
from = "stillwatch@lab.example"
host = "smtp.lab.example"
port = 587                                      # left out: 587, or 465 with tls = "implicit"
tls = "starttls"                                # or "implicit"; "none" to this machine only
user = "stillwatch"                             # left out: no login
password_file = "/etc/stillwatch/smtp-password" # 0600; or password_env = "STILLWATCH_SMTP_PASSWORD"
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from member_client.calling_out import HOST, LOCAL, check_webhook_url
from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.incidents.events import Event, EventKind

MAX_HOOKS = 32
MAX_FILE_BYTES = 64 * 1024
MAX_PASSWORD_BYTES = 4096
MAX_RECIPIENTS = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ADDRESS = re.compile(r"[!#-'*+\-./-9=?A-Z^-~]{1,64}@[A-Za-z0-9.-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hook:
    """Which events somebody is told.

    Attributes:
        levels: empty for all, and for events at no level.
        ca_file: certificates by which the other side's is checked, None for the usual ones.
    """

    name: str
    events: frozenset[EventKind]
    levels: frozenset[str]
    ca_file: Path | None

    def wants(self, event: Event) -> bool:
        """Whether this event is told."""
        return event.kind in self.events and (not self.levels or event.level in self.levels)


@dataclass(frozen=True, slots=True)
class Webhook(Hook):
    """An HTTP endpoint.

    Attributes:
        url: exactly as it is sent and signed. It may hold a secret: only its host is ever shown.
    """

    url: str = field(repr=False)

    @property
    def where(self) -> str:
        """Where it goes, without what could be secret."""
        parts = httpx.URL(self.url)
        return f"{parts.scheme}://{parts.netloc.decode()}"


@dataclass(frozen=True, slots=True)
class Mailbox(Hook):
    """People who are told by e-mail.

    Attributes:
        tls: `starttls`, `implicit` or `none`.
        user: "" for no login.
        password_file, password_env: where the password is; one of them, if there is a user.
    """

    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    tls: str
    user: str
    password_file: Path | None
    password_env: str

    @property
    def where(self) -> str:
        """Where it goes."""
        return f"{', '.join(self.to)} by {self.host}:{self.port}"

    def password(self) -> str:
        """The password, read when it is needed.

        Raises:
            InvalidInput: it is not there, or others could read it.
        """
        if self.password_file is None:
            found = os.environ.get(self.password_env, "")
            if not found:
                raise InvalidInput(f"{self.password_env} is not set", f"hook {self.name!r} takes its password from it")
            return found
        data = read_private(self.password_file, MAX_PASSWORD_BYTES)
        try:
            return data.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{self.password_file} is not text", "write the password into it") from error


@dataclass(frozen=True, slots=True)
class Hooks:
    """All hooks, and a digest of the file that says so."""

    hooks: tuple[Webhook | Mailbox, ...]
    digest: str


def read_hooks(home: Home) -> Hooks | None:
    """The hooks of a home, None if it has no `hooks.toml`.

    Raises:
        InvalidInput: it cannot be read, others could read it, or it says something that cannot be meant.
    """
    path = home.hooks
    if not path.exists():
        return None
    data = read_private(path, MAX_FILE_BYTES)
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}", "see docs/incidents.md") from error
    try:
        hooks = _hooks(document, path.parent)
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}", "see docs/incidents.md") from error
    return Hooks(hooks, hashlib.sha256(data).hexdigest())


def read_private(path: Path, limit: int) -> bytes:
    """Read a file that nobody else can read.

    Raises:
        InvalidInput: it is not there, others could read it, or it is too large.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise InvalidInput(f"{path} can be read by other users", f"run: chmod 600 {path}")
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", "check its name") from error
    if len(data) > limit:
        raise InvalidInput(f"{path} is larger than {limit:,} bytes", "it is not what it should be")
    return data


def _hooks(document: dict[str, Any], folder: Path) -> tuple[Webhook | Mailbox, ...]:
    unknown = set(document) - {"webhook", "email"}
    if unknown:
        raise ValueError(f"unknown table {sorted(unknown)[0]!r}; there are [[webhook]] and [[email]]")
    found: list[Webhook | Mailbox] = []
    for kind, read in (("webhook", _webhook), ("email", _mailbox)):
        tables = document.get(kind, [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise ValueError(f"write [[{kind}]], in two brackets")
        for number, table in enumerate(tables, 1):
            try:
                found.append(read(_Table(dict(table)), folder))
            except ValueError as error:
                raise ValueError(f"[[{kind}]] number {number}: {error}") from error
    if len(found) > MAX_HOOKS:
        raise ValueError(f"there are more than {MAX_HOOKS} hooks")
    if len({one.name for one in found}) < len(found):
        raise ValueError("two hooks have the same name")
    return tuple(found)


class _Table:
    """A table whose settings are taken one by one; what is left over is unknown."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.pop(name, default)
        if not isinstance(value, str) or (not value and default is None):
            raise ValueError(f"{name} is missing" if value is None else f"{name} is a text")
        return value

    def number(self, name: str, default: int) -> int:
        value = self._values.pop(name, default)
        if type(value) is not int or not 1 <= value <= 65535:
            raise ValueError(f"{name} is a number from 1 to 65535")
        return value

    def texts(self, name: str, limit: int) -> tuple[str, ...] | None:
        """None if it is left out."""
        value = self._values.pop(name, None)
        if value is None:
            return None
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= limit
            or not all(isinstance(one, str) for one in value)
        ):
            raise ValueError(f"{name} is a list of 1 to {limit} texts")
        return tuple(value)

    def path(self, name: str, folder: Path) -> Path | None:
        value = self.text(name, "")
        try:
            if "\0" in value:
                raise RuntimeError("no name of a file has U+0000")
            return folder / Path(value).expanduser() if value else None
        except RuntimeError as error:  # ~somebody
            raise ValueError(f"{name}: {error}") from error

    def end(self) -> None:
        if self._values:
            raise ValueError(f"unknown setting {sorted(self._values)[0]!r}")


def _common(table: _Table, folder: Path) -> dict[str, Any]:
    name = table.text("name")
    if not _NAME.fullmatch(name):
        raise ValueError("name is of letters, digits and . _ -")
    events = table.texts("events", len(EventKind))
    known = [kind.value for kind in EventKind]
    if odd := [one for one in events or () if one not in known]:
        raise ValueError(f"{odd[0]!r} is not an event; there are {', '.join(known)}")
    return {
        "name": name,
        "events": frozenset(EventKind(one) for one in events or known),
        "levels": frozenset(table.texts("levels", 64) or ()),
        "ca_file": table.path("ca_file", folder),
    }


def _webhook(table: _Table, folder: Path) -> Webhook:
    common = _common(table, folder)
    url = table.text("url")
    table.end()
    return Webhook(**common, url=check_webhook_url(url))


def _mailbox(table: _Table, folder: Path) -> Mailbox:
    common = _common(table, folder)
    tls = table.text("tls", "starttls")
    mailbox = Mailbox(
        **common,
        to=table.texts("to", MAX_RECIPIENTS) or (),
        sender=table.text("from"),
        host=table.text("host"),
        port=table.number("port", 465 if tls == "implicit" else 587),
        tls=tls,
        user=table.text("user", ""),
        password_file=table.path("password_file", folder),
        password_env=table.text("password_env", ""),
    )
    table.end()
    if tls not in ("starttls", "implicit", "none"):
        raise ValueError("tls is starttls, implicit or none")
    if not HOST.fullmatch(mailbox.host):
        raise ValueError("host is a name or an address")
    if tls == "none" and mailbox.host not in LOCAL:
        raise ValueError("tls is none only to this machine")
    if not mailbox.to or not all(_ADDRESS.fullmatch(one) for one in (*mailbox.to, mailbox.sender)):
        raise ValueError("to and from are plain e-mail addresses")
    if bool(mailbox.user) != (bool(mailbox.password_file) != bool(mailbox.password_env)):
        raise ValueError("user goes with one of password_file and password_env")
    return mailbox

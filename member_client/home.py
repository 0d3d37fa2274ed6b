"""A client's home: one folder with its settings, keys, store and evidence.

config.toml      whose client this is, and which hub and forum it follows
keys/            private keys, 0600
store.sqlite     every entry of the log, verified
evidence/        what a failed verification left
outbox/          signed drafts that no receipt is known of yet
playbook-runs/   who did what when in playbooks that were walked through here
detections/      what `detect` found, its summaries, and how far it has read
logs.toml        what the lab's own logs are called, for `detect`
sync.lock        held while a sync runs
policy           whose cosignatures a checkpoint needs before it is believed; none is asked for without it
hooks.toml       who in the lab is told of incidents
hooks/           the key that signs what webhooks are told
deliveries.sqlite  what they were told, and are to be
follow.lock      held by a sync that goes on for ever, also while it waits
policy.toml      what other labs' patterns may do here; without it they are only observed
lifecycle.sqlite how far each pattern has come here, its backtests, and the stop switch
decisions.sqlite decisions, approvals, the allow-list and appeals
referrals.jsonl  what this lab shared with an authority
revocations/     whose access was ended, and given back
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from member_client.errors import InvalidInput

DEFAULT_MAX_AGE_SECONDS = 15 * 60


@dataclass(frozen=True, slots=True)
class Settings:
    """What `config.toml` says.

    Attributes:
        hub: base URL.
        forum: the forum's fingerprint, pinned: hex SHA-256 of its founding statement; "" before it is known.
        name: the lab's name, or the admin's.
        member: the lab's id; "" for a forum admin.
        max_checkpoint_age: seconds after which a checkpoint is stale.
    """

    hub: str
    forum: str
    name: str
    member: str
    max_checkpoint_age: int = DEFAULT_MAX_AGE_SECONDS

    @property
    def is_admin(self) -> bool:
        """Whether this home belongs to a forum admin rather than to a lab."""
        return not self.member


@dataclass(frozen=True, slots=True)
class Home:
    """The folder itself."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def store(self) -> Path:
        return self.path / "store.sqlite"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def lifecycle_policy(self) -> Path:
        return self.path / "policy.toml"

    @property
    def lifecycle(self) -> Path:
        return self.path / "lifecycle.sqlite"

    @property
    def logs(self) -> Path:
        return self.path / "logs.toml"

    @property
    def hooks(self) -> Path:
        return self.path / "hooks.toml"

    @property
    def sync_lock(self) -> Path:
        return self.path / "sync.lock"

    @property
    def follow_lock(self) -> Path:
        return self.path / "follow.lock"

    def create(self) -> None:
        """Make the folder, for its owner alone; one that exists keeps its mode."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def settings(self) -> Settings:
        """Read `config.toml`.

        Raises:
            InvalidInput: there is none, or it is not usable.
        """
        if not self.config.exists():
            raise InvalidInput(f"{self.path} is not a Stillwatch home", "run `stillwatch init` first, or pass --home")
        try:
            document = tomllib.loads(self.config.read_text("utf-8"))
            return _settings(document)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{self.config} is not usable: {error}", "mend it, or run `stillwatch init` anew"
            ) from error

    def save(self, settings: Settings) -> None:
        """Write `config.toml`, whole or not at all."""
        text = (
            f"hub = {json.dumps(settings.hub)}\n"
            f"forum = {json.dumps(settings.forum)}\n"
            f"name = {json.dumps(settings.name, ensure_ascii=False)}\n"
            f"member = {json.dumps(settings.member)}\n"
            f"# Refuse a checkpoint that the log has not vouched for within this many seconds.\n"
            f"max_checkpoint_age = {settings.max_checkpoint_age}\n"
        )
        write_privately(self.config, text.encode())

    def pin(self, fingerprint: str) -> Settings:
        """Fix the forum that this home follows; it can never be changed by what a hub says.

        Raises:
            InvalidInput: another one is pinned.
        """
        settings = self.settings()
        if settings.forum not in ("", fingerprint):
            raise InvalidInput(f"this home is pinned to forum {settings.forum}", "use another --home for another forum")
        pinned = replace(settings, forum=fingerprint)
        self.save(pinned)
        return pinned


def locate(chosen: Path | None) -> Home:
    """The home to use: `--home`, else `STILLWATCH_HOME`, else the user's data folder."""
    named = chosen or os.environ.get("STILLWATCH_HOME")
    return Home(Path(named).expanduser() if named else platformdirs.user_data_path("stillwatch"))


def write_privately(path: Path, data: bytes) -> None:
    """Write a file with mode 0600, durable and atomic: a crash leaves the old one or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def check_hub_url(url: str) -> str:
    """Check a hub's base URL.

    Raises:
        InvalidInput: not an absolute http(s) URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidInput(f"{url!r} is not a hub's URL", "give https://host[:port][/path]")
    return url.rstrip("/")


def _settings(document: dict[str, Any]) -> Settings:
    unknown = set(document) - {"hub", "forum", "name", "member", "max_checkpoint_age"}
    if unknown:
        raise ValueError(f"unknown setting {sorted(unknown)[0]!r}")
    settings = Settings(
        hub=document["hub"],
        forum=document["forum"],
        name=document["name"],
        member=document["member"],
        max_checkpoint_age=document.get("max_checkpoint_age", DEFAULT_MAX_AGE_SECONDS),
    )
    texts = (settings.hub, settings.forum, settings.name, settings.member)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("hub, forum, name and member are strings")
    if type(settings.max_checkpoint_age) is not int or settings.max_checkpoint_age < 1:
        raise ValueError("max_checkpoint_age is a positive number of seconds")
    return settings

"""One client at work: its home, settings, keys and store, and the way to its hub."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from member_client.errors import HubUnreachable, InvalidInput
from member_client.home import Home, Settings
from member_client.keystore import KeyStore, StoredKey
from member_client.sync import evidence
from member_client.sync.cosigning import Witness, WitnessKey
from member_client.sync.following import Progress, SyncReport, follow
from member_client.sync.quorum import Rule
from member_client.sync.store import Store
from sharing_protocol import witness_policy
from sharing_protocol.errors import Malformed, Misbehaviour
from sharing_protocol.keys import PrivateKey
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.membership import ADMIN_ROLE, Forum, Membership
from sharing_protocol.statements.membership import Role
from sharing_protocol.witnesses import witness_key

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

_LOCK_SECONDS = 120.0


@dataclass
class Session:
    """Everything a command needs; opened lazily, so that a command pays for what it uses."""

    home: Home
    clock: Callable[[], float] = time.time

    @cached_property
    def settings(self) -> Settings:
        """The home's settings."""
        return self.home.settings()

    @cached_property
    def keys(self) -> KeyStore:
        """The home's keys."""
        return KeyStore(self.home.keys)

    @cached_property
    def store(self) -> Store:
        """The home's store."""
        self.settings  # noqa: B018 - a folder that is no home must not get a store
        return Store(self.home.store)

    @property
    def now(self) -> datetime:
        """This moment, in UTC and whole seconds."""
        return datetime.fromtimestamp(int(self.clock()), UTC)

    @property
    def membership(self) -> Membership:
        """The membership as of the local store."""
        return self.store.membership()

    @property
    def forum(self) -> Forum:
        """The forum as of the local store.

        Raises:
            InvalidInput: nothing was synced yet.
        """
        forum = self.membership.forum
        if forum is None:
            raise InvalidInput("nothing is known of the forum yet", "run `stillwatch sync` first")
        return forum

    def key(self, *roles: str) -> StoredKey:
        """The key to act with: the newest of the first role that has one in force.

        Raises:
            InvalidInput: this home has no usable key of these roles.
        """
        registered = self.membership.keys
        for role in roles:
            stored = self.keys.stored(role)
            current = [
                key
                for key in stored
                if (known := registered.get(key.public_key.key_id)) is not None and known.revoked_at is None
            ]
            # Before the log has registered anything of ours, the newest key is the one that was asked for.
            unknown = [key for key in stored if key.public_key.key_id not in registered]
            if current or unknown:
                return (current or unknown)[-1]
        wanted = " or ".join(roles)
        raise InvalidInput(f"this home has no {wanted} key in force", f"make one with `stillwatch key new {roles[0]}`")

    def signer(self, *roles: str) -> PrivateKey:
        """Open the key that `key` chooses."""
        return self.keys.open(self.key(*roles))

    def reader(self) -> PrivateKey:
        """The key to read with: the least powerful one."""
        return self.signer(ADMIN_ROLE) if self.settings.is_admin else self.signer("sync", "analyst", "owner")

    def connect(self, signer: PrivateKey | None = None, attempts: int | None = None) -> HubConnection:
        """A connection to the hub, as `signer` or as a reader."""
        from member_client.hub_connection import ATTEMPTS, HubConnection  # half of what a local command would load

        return HubConnection(self.settings.hub, signer or self.reader(), self.clock, attempts=attempts or ATTEMPTS)

    def rule(self) -> Rule | None:
        """Whose cosignatures a checkpoint needs before it is believed; None for nobody's.

        Raises:
            InvalidInput: the home's policy is not one.
        """
        try:
            return witness_policy.parse(self.home.policy.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, Malformed) as error:
            raise InvalidInput(
                f"{self.home.policy} is not a policy: {error}", "mend it, or set another with `stillwatch witness set`"
            ) from error

    @cached_property
    def witness_keys(self) -> list[WitnessKey]:
        """The home's witness keys, oldest first."""
        return [
            WitnessKey(
                witness_key(self.settings.member, key.public_key),
                key.path.with_suffix(".cosigned"),
                partial(self.keys.open, key),
            )
            for key in self.keys.stored(Role.WITNESS)
        ]

    def sync(
        self,
        hub: HubConnection,
        progress: Progress | None = None,
        note: bytes | None = None,
        *,
        cosigns: bool = False,
    ) -> SyncReport:
        """Follow the log once; see `following.follow`.

        Args:
            cosigns: whether a witness key of this home cosigns what was verified.
        """
        return follow(
            self.store,
            hub,
            self.settings.forum,
            max_age=self.settings.max_checkpoint_age,
            clock=self.clock,
            keep_evidence=self.keep_evidence,
            note=note,
            rule=self.rule(),
            witness=Witness(hub, self.witness_keys, self.clock, cosigns=cosigns),
            progress=progress,
        )

    def catch_up(self) -> None:
        """Follow the log once, while no other run does; what else is new there, the next run tells.

        Raises:
            ClientError: see `following.follow`; or another run does not end.
        """
        from filelock import FileLock, Timeout  # every command would pay for it

        try:
            with FileLock(self.home.sync_lock, timeout=_LOCK_SECONDS, mode=0o600), self.connect() as hub:
                self.sync(hub)
        except Timeout as error:
            raise HubUnreachable("another sync of this home does not end", "wait for it, and try again") from error

    def pin(self, fingerprint: str) -> None:
        """Fix the forum that this home follows; see `Home.pin`."""
        self.settings = self.home.pin(fingerprint)

    def keep_evidence(self, misbehaviour: Misbehaviour, record: Sequence[LoggedEntry] = ()) -> Path:
        """Write an evidence file into this home; the forum's own record is the stored one unless it is given."""
        settings = self.settings
        record = record or self.store.forum_record()
        return evidence.keep(self.home.evidence, misbehaviour, settings.forum, record, settings.hub, self.clock())

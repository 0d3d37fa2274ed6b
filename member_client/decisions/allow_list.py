"""The allow-list: accounts, organisations and networks on whom nothing is ever enforced, for a stated time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from member_client.decisions.model import Subject, SubjectKind
from member_client.errors import InvalidInput

_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses, as a socket for both kinds shows them."""
MAX_ID = 256
"""Characters of an account's or organisation's id."""


class AllowKind(StrEnum):
    """What an entry names."""

    ACCOUNT = "account"
    ORGANISATION = "organisation"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Allowed:
    """An entry of the allow-list.

    Attributes:
        number: by which people name it.
        id: of the account or organisation as the lab's logs write it; of a network its CIDR block.
        owner: who at the lab answers for it.
        expires: from then on it does not hold.
    """

    number: int
    kind: AllowKind
    id: str
    owner: str
    reason: str
    added: datetime
    expires: datetime

    def __str__(self) -> str:
        return f"allow-list entry {self.number} ({self.kind} {self.id}, {self.owner}: {self.reason})"


class AllowList:
    """The entries, ready to be asked; those that have expired say nothing."""

    def __init__(self, entries: Iterable[Allowed] = (), remembered: Mapping[str, Allowed] | None = None) -> None:
        """Take the entries.

        Args:
            remembered: by account the entry that covers its organisation or network, as the lab's detections told; of
                several the one that holds the longest.
        """
        self._remembered = remembered or {}
        self._entries = tuple(entries)
        self._ids: dict[AllowKind, dict[str, Allowed]] = {AllowKind.ACCOUNT: {}, AllowKind.ORGANISATION: {}}
        self._networks: dict[tuple[int, int], dict[int, Allowed]] = {}
        for entry in self._entries:
            if entry.kind is AllowKind.NETWORK:
                network = ip_network(entry.id)
                level = self._networks.setdefault((network.version, network.prefixlen), {})
                level[int(network.network_address)] = entry
            else:
                self._ids[entry.kind][entry.id] = entry

    def __iter__(self) -> Iterator[Allowed]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def spelled_out(self) -> Iterator[Allowed]:
        """The entries; then each once more for every account that it covers as detections told, as if it named that.

        A gateway that sends no address, or no organisation, then knows these accounts too.
        """
        yield from self._entries
        for account, entry in self._remembered.items():
            yield replace(entry, kind=AllowKind.ACCOUNT, id=account)

    def covers(self, now: datetime, account: str = "", organisation: str = "", address: str = "") -> Allowed | None:
        """The entry that covers a request of this account, organisation or client address; None if none does.

        Args:
            address: one that cannot be read is covered by nothing.
        """
        for kind, value in ((AllowKind.ACCOUNT, account), (AllowKind.ORGANISATION, organisation)):
            if value and (found := self._ids[kind].get(value)) is not None and found.expires > now:
                return found
        if account and (found := self._remembered.get(account)) is not None and found.expires > now:
            return found
        return self._network(address, now) if address and self._networks else None

    def covers_subject(self, subject: Subject, now: datetime) -> Allowed | None:
        """The entry that covers all of a decision's subject; the accounts of a cluster are asked for one by one."""
        if subject.kind is SubjectKind.ACCOUNT:
            return self.covers(now, account=subject.id)
        if subject.kind is SubjectKind.ORGANISATION:
            return self.covers(now, organisation=subject.id)
        kind, _, key = subject.id.partition(":")
        return self._network(key, now) if kind == "subnet" else None

    def _network(self, written: str, now: datetime) -> Allowed | None:
        """The entry with the network that holds this address, or the whole of this network."""
        network = _read(written)
        if network is None:
            return None
        bits, start = network.max_prefixlen, int(network.network_address)
        for (version, length), entries in self._networks.items():
            if version == network.version and length <= network.prefixlen:
                found = entries.get(start >> (bits - length) << (bits - length))
                if found is not None and found.expires > now:
                    return found
        return None


def check_id(kind: AllowKind, written: str) -> str:
    """What an entry names, in its one form.

    Raises:
        InvalidInput: it is none.
    """
    value = written.strip()
    if kind is AllowKind.NETWORK:
        try:
            network = ip_network(value)
            if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
                start = network.network_address.ipv4_mapped
                network = IPv4Network((int(start or 0), network.prefixlen - _MAPPED.prefixlen))
            if "%" in str(network):
                raise ValueError("an address has no zone here")
            return str(network)
        except ValueError as error:
            raise InvalidInput(
                f"{written!r} is not a network: {error}", "write it like 203.0.113.0/24 or 2001:db8::/48"
            ) from error
    if not value or len(value) > MAX_ID or not value.isprintable():
        raise InvalidInput(f"{written[:60]!r} is not an {kind} id", f"1 to {MAX_ID} printable characters")
    return value


def _read(written: str) -> IPv4Network | IPv6Network | None:
    try:
        if "/" in written:
            return ip_network(written)
        address = ip_address(written)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return ip_network(address)

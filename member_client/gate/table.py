"""The table that a gate looks accounts and organisations up in: one block of bytes, sorted, never changed.

A row is found by a 128-bit BLAKE2b digest of kind and id, keyed with a secret that is new in every table: nobody can
make two ids that meet, and by chance two of a million do with probability 2^-89. A first index (by the digest's leading
bits, as in Git's pack index) leaves one row or two to compare. Rows of one subject stand together, the strongest
first, and an entry of the allow-list before all: the first that applies decides.

    magic 16 | SHA-256 of the rest 32 | length of the header 8 | header, JSON, padded to 8 |
    expires f64 | index u32 | pattern u32 | scope u32 | digests 16 each | decisions 16 each | ranks u8

The hash finds what a disk or a broken-off write did to the file. Who may write into the home can write decisions.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
import secrets
import socket
import struct
import sys
import time
import uuid
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from member_client.gate.snapshot import ACCOUNT, ACTIONS, ORGANISATION, Allowed, Effective, Snapshot

MAX_ID_BYTES = 2048
"""Of an account, an organisation or a model, as a request gives it: 512 characters."""
MAX_TABLE_BYTES = 2**31
ALLOWED = len(ACTIONS)
"""The rank of a row that stands for an entry of the allow-list; below it are the indices of `ACTIONS`."""
NEVER = float("inf")
_MAGIC = b"stillwatch-gate1"
_HEAD = struct.Struct("<16s32sQ")
_DECISION = "decision--"
_PERSON = {ACCOUNT: b"account", ORGANISATION: b"organisation"}
_NETWORK = "network"
_MAX_BITS = 24
_WITH_PORT = re.compile(r"(?P<ipv4>[0-9.]+):[0-9]{1,5}|\[(?P<ipv6>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\](?::[0-9]{1,5})?")


class Unusable(Exception):
    """A snapshot or a table that no gate can act on."""


class Row(NamedTuple):
    """One row, as it is found. `rank` is an index of `ACTIONS`, or `ALLOWED`."""

    rank: int
    expires: float
    decision: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a table says of itself. Times are POSIX seconds.

    Attributes:
        as_of: when the decisions were computed.
        synced: when the lab last learned from the forum.
        stale_after: seconds after `synced`.
    """

    as_of: float
    synced: float
    generation: str
    fail: str
    stale_after: int
    rows: int


class Table:
    """A table in memory."""

    def __init__(self, data: bytes) -> None:
        """Read a table.

        Raises:
            Unusable: it is not one, or not whole.
        """
        header, start = _checked(data)
        self.facts = Facts(**header["facts"])
        self._key = bytes.fromhex(header["key"])
        self._scopes = [frozenset(scope) for scope in header["scopes"]]
        self._patterns: list[str] = header["patterns"]
        self._networks = Networks(header["networks"])
        self._shift = 32 - header["bits"]
        rows, index = header["rows"], 2 ** header["bits"] + 1
        whole = memoryview(data)
        columns = []
        for size in (8 * rows, 4 * index, 4 * rows, 4 * rows, 16 * rows, 16 * rows, rows):
            columns.append(whole[start : start + size])
            start += size
        if start != len(data):
            raise Unusable("the gate's table has another length than its header says")
        self._expires = columns[0].cast("d")
        self._index, self._pattern, self._scope = (column.cast("I") for column in columns[1:4])
        self._digests, self._decisions, self._ranks = columns[4:]

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a table from a file, whole: what was checked is what is used.

        Raises:
            Unusable: there is none, or it is not whole.
        """
        try:
            if path.stat().st_size > MAX_TABLE_BYTES:
                raise Unusable(f"{path} is larger than {MAX_TABLE_BYTES} bytes")
            return cls(path.read_bytes())
        except OSError as error:
            raise Unusable(f"{path} cannot be read: {error}") from error

    def first(self, kind: str, id_: bytes, model: str | None, now: float) -> Row | None:
        """The strongest row that applies to this account or organisation, or None.

        Args:
            id_: in UTF-8.
            model: that the request is for; None if that is not known: then only rows for all models apply.
        """
        digest = hashlib.blake2b(id_, digest_size=16, key=self._key, person=_PERSON[kind]).digest()
        bucket = int.from_bytes(digest[:4]) >> self._shift
        for place in range(self._index[bucket], self._index[bucket + 1]):
            if self._digests[16 * place : 16 * place + 16] != digest or self._expires[place] <= now:
                continue
            scope = self._scopes[self._scope[place]]
            if not scope or model in scope:
                return self._row(place)
        return None

    def allows_address(self, address: str, now: float) -> bool:
        """Whether an address is in a network of the allow-list."""
        return self._networks.contain(address, now)

    def _row(self, place: int) -> Row:
        rank = self._ranks[place]
        if rank == ALLOWED:
            return Row(rank, self._expires[place], "", "")
        decision = _DECISION + str(uuid.UUID(bytes=bytes(self._decisions[16 * place : 16 * place + 16])))
        return Row(rank, self._expires[place], decision, self._patterns[self._pattern[place]])


class Networks:
    """The networks of an allow-list, by the length of their prefix."""

    def __init__(self, entries: Iterable[tuple[str, float | None]]) -> None:
        """Take CIDR blocks, each with the POSIX time from which it has no effect, None for never.

        Raises:
            Unusable: one is no CIDR block.
        """
        self._families: dict[int, dict[int, dict[int, float]]] = {32: {}, 128: {}}
        for block, until in entries:
            try:
                network = ipaddress.ip_network(block)
            except ValueError as error:
                raise Unusable(f"the allow-list's network {block!r} is none: {error}") from error
            shift = network.max_prefixlen - network.prefixlen
            known = self._families[network.max_prefixlen].setdefault(shift, {})
            prefix = int(network.network_address) >> shift
            known[prefix] = max(known.get(prefix, -NEVER), NEVER if until is None else until)

    def contain(self, address: str, now: float) -> bool:
        """Whether an address, as text and maybe with a port, is in one of them; what is no address is in none."""
        try:
            if ":" in address and ("." in address or address[0] == "["):
                address = _without_port(address)
            if ":" not in address:
                width, number = 32, int.from_bytes(socket.inet_pton(socket.AF_INET, address))
            else:
                width, number = 128, int.from_bytes(socket.inet_pton(socket.AF_INET6, address))
                if number >> 32 == 0xFFFF:  # an IPv4 address, as a socket for both kinds shows it
                    width, number = 32, number & 0xFFFF_FFFF
        except (OSError, ValueError):
            return False
        return any(now < known.get(number >> shift, -NEVER) for shift, known in self._families[width].items())


def _without_port(address: str) -> str:
    """192.0.2.1 of 192.0.2.1:567 and ::1 of [::1] and [::1]:80, as some proxies write them; anything else as it is."""
    found = _WITH_PORT.fullmatch(address)
    return found["ipv4"] or found["ipv6"] if found else address


def write(path: Path, snapshot: Snapshot, ends: Mapping[str, datetime] | None = None) -> None:
    """Write the table of a snapshot, whole or not at all.

    Args:
        ends: by the id of a pattern until when it is valid; no action by it lasts longer.

    Raises:
        Unusable: the snapshot has something that no row can say.
    """
    data = encode(snapshot, ends)
    draft = draft_of(path, os.getpid())
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # Not forced to the disk: a table that a crash tore is found by its hash, and made anew.
        with os.fdopen(descriptor, "wb") as file:
            for part in data:
                file.write(part)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def draft_of(path: Path, process: int) -> Path:
    """Where a process writes a table before it is whole."""
    return path.with_name(f".{path.name}.{process}")


def remove_leftover_drafts(path: Path, older_than: float) -> None:
    """Remove what processes left that were killed while they wrote a table; another gate's draft is in the making.

    Args:
        older_than: in seconds; so old a draft is nobody's, though a process has its number by now.

    Raises:
        OSError: the folder cannot be read, or not written to.
    """
    now = time.time()
    for draft in path.parent.glob(f".{path.name}.*"):
        process = draft.suffix[1:]
        if process.isdecimal():
            with contextlib.suppress(FileNotFoundError):
                if now - draft.stat().st_mtime > older_than or not _is_running(int(process)):
                    draft.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def encode(snapshot: Snapshot, ends: Mapping[str, datetime] | None = None) -> list[bytes]:
    """The table of a snapshot, in parts to be written one after the other; see `write`.

    Raises:
        Unusable: the snapshot has something that no row can say.
    """
    rows = _Rows(ends or {})
    for one in snapshot.rows:
        rows.add(one)
    networks = []
    for entry in snapshot.allowed:
        if entry.kind == _NETWORK:
            networks.append((entry.id, None if entry.expires is None else entry.expires.timestamp()))
        else:
            rows.allow(entry)
    Networks(networks)
    policy = snapshot.policy
    if policy.fail not in ("open", "closed"):
        raise Unusable(f"gate.fail is {policy.fail!r}, not open or closed")
    columns, bits = rows.sorted()
    facts = {
        "as_of": snapshot.as_of.timestamp(),
        "synced": snapshot.synced.timestamp(),
        "generation": snapshot.generation,
        "fail": policy.fail,
        "stale_after": policy.stale_after,
        "rows": rows.effective,
    }
    header: dict[str, Any] = {
        "facts": facts,
        "byteorder": sys.byteorder,
        "rows": len(columns[-1]),
        "bits": bits,
        "key": rows.key.hex(),
        "scopes": list(rows.scopes),
        "patterns": list(rows.patterns),
        "networks": networks,
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    hashed = hashlib.sha256(struct.pack("<Q", len(text)) + text)
    for column in columns:
        hashed.update(column)
    return [_HEAD.pack(_MAGIC, hashed.digest(), len(text)), text, *columns]


class _Rows:
    """Rows in the making, column by column: a million of them are 50 MB here, and would be 500 MB as objects."""

    def __init__(self, ends: Mapping[str, datetime]) -> None:
        self._ends = ends
        self.key = secrets.token_bytes(32)
        self.scopes: dict[tuple[str, ...], int] = {(): 0}
        self.patterns: dict[str, int] = {"": 0}
        self.effective = 0
        self._digests, self._decisions, self._ranks = bytearray(), bytearray(), bytearray()
        self._expires, self._pattern, self._scope = array("d"), array("I"), array("I")

    def add(self, row: Effective) -> None:
        if row.action not in ACTIONS:
            raise Unusable(f"{row.decision_id} has the action {row.action!r}, which no gate knows")
        scope = tuple(sorted(set(row.models)))
        expires = min(row.expires, self._ends.get(row.pattern_id, row.expires))
        self._put(row.kind, row.id, ACTIONS.index(row.action), expires)
        self._decisions += _uuid_of(row.decision_id)
        self._scope.append(self.scopes.setdefault(scope, len(self.scopes)))
        self._pattern.append(self.patterns.setdefault(row.pattern_id, len(self.patterns)))
        self.effective += 1

    def allow(self, entry: Allowed) -> None:
        self._put(entry.kind, entry.id, ALLOWED, entry.expires)
        self._decisions += bytes(16)
        self._scope.append(0)
        self._pattern.append(0)

    def _put(self, kind: str, id_: str, rank: int, expires: datetime | None) -> None:
        if kind not in _PERSON:
            raise Unusable(f"a gate acts on accounts and organisations, not on the {kind} {id_!r}")
        written = id_.encode("utf-8", "surrogatepass")
        self._digests += hashlib.blake2b(written, digest_size=16, key=self.key, person=_PERSON[kind]).digest()
        self._ranks.append(rank)
        self._expires.append(NEVER if expires is None else expires.timestamp())

    def sorted(self) -> tuple[list[bytes], int]:
        """The columns as they are written, and the number of leading bits of a digest that the index goes by."""
        import numpy as np  # a gate that only reads tables does without

        digests = np.frombuffer(self._digests, ">u8").reshape(-1, 2)
        ranks = np.frombuffer(self._ranks, np.uint8)
        expires = np.frombuffer(self._expires, np.float64)
        high = digests[:, 0].astype(np.uint64)
        order = np.lexsort((-expires, -ranks.astype(np.int8), digests[:, 1].astype(np.uint64), high))
        bits = min(_MAX_BITS, max(1, len(order).bit_length()))
        buckets = high[order] >> np.uint64(64 - bits)
        index = np.searchsorted(buckets, np.arange(2**bits + 1, dtype=np.uint64)).astype(np.uint32)
        columns: list[np.ndarray[Any, Any]] = [
            expires[order],
            index,
            np.frombuffer(self._pattern, np.uint32)[order],
            np.frombuffer(self._scope, np.uint32)[order],
            digests[order],
            np.frombuffer(self._decisions, "V16")[order],
            ranks[order],
        ]
        return [column.tobytes() for column in columns], bits


def _uuid_of(decision: str) -> bytes:
    try:
        found = uuid.UUID(decision.removeprefix(_DECISION))
    except ValueError:
        found = None
    if found is None or decision != f"{_DECISION}{found}":
        raise Unusable(f"{decision!r} is not the id of a decision")
    return found.bytes


def _checked(data: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where the columns begin."""
    if len(data) < _HEAD.size:
        raise Unusable("the gate's table is cut short")
    magic, digest, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise Unusable("this is no gate's table, or one of another version")
    # Lets other threads run meanwhile.
    if hashlib.sha256(memoryview(data)[_HEAD.size - 8 :]).digest() != digest:
        raise Unusable("the gate's table is damaged: its hash is another")
    end = _HEAD.size + length
    header: dict[str, Any] = json.loads(data[_HEAD.size : end])
    if header["byteorder"] != sys.byteorder:
        raise Unusable("the gate's table was made on another kind of machine")
    return header, end

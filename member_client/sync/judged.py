"""The verdicts on a batch before they are stored: rows for the store, and the records as they are meanwhile.

An entry may rest on one before it in the same batch, so what was judged so far is looked up here first and in the store
after. The store takes all of it at once, which costs a fraction of a statement for each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import orjson

from sharing_protocol.admission import Head, Records
from sharing_protocol.statements import PatternBody, RecordStatement, headline_of, is_about
from sharing_protocol.statements.header import format_timestamp

EntryRow = tuple[int, bytes, bytes, str, str, str, str]
VersionRow = tuple[int | str, ...]


class Listing(NamedTuple):
    """What lists of records show of a version, and what it is found by: columns of the store, which have these names.

    Attributes:
        searchable: what is searched for words.
        refers_to: id of the one record that it is about (`statements.is_about`), "" for none.
    """

    id: str
    type: str
    version: int
    author: str
    signer: str
    created: str
    marking: str
    valid_until: str
    valid_from: str
    kind: str
    severity: str
    title: str
    techniques: str
    searchable: str
    refers_to: str


def listing_of(statement: RecordStatement, signer: str) -> Listing:
    """How the store lists a record version that this key has signed."""
    body = statement.body
    shown = headline_of(statement)
    return Listing(
        statement.id,
        statement.type,
        statement.version,
        statement.author,
        signer,
        format_timestamp(statement.created),
        body.marking.value,
        format_timestamp(body.valid_until),
        format_timestamp(body.valid_from) if isinstance(body, PatternBody) else "",
        shown.kind,
        shown.severity,
        shown.title,
        orjson.dumps(shown.techniques).decode(),
        f"{shown.title}\n{shown.description}".casefold() if shown.title else "",
        is_about(statement),
    )


class KnownRecords(Records, Protocol):
    """What was known before the batch."""

    def unread(self, record_ids: Iterable[str]) -> int | None:
        """Index of the first statement that was not understood about any of these records, or None."""
        ...

    def heads(self, record_ids: Sequence[str]) -> dict[str, Head]:
        """The newest versions of those of these records that there are."""
        ...


class Judged:
    """What a batch adds to the store. It is also what `admission.admit` looks records up in.

    Attributes:
        entries, versions: rows of the tables of these names, in log order.
        heads: the newest versions that the batch brought, by record.
        withdrawn: log index of the withdrawal, by record.
        unread_records: log index of the first statement not understood, by record.
    """

    def __init__(self, known: KnownRecords, expected: Sequence[str] = ()) -> None:
        """Begin a batch.

        Args:
            expected: records that will be asked for; looked up all at once, each costs a fraction.
        """
        self._known = known
        self._before: dict[str, Head | None] = {**dict.fromkeys(expected), **known.heads(expected)}
        self._entry_of: dict[tuple[str, int], str] = {}
        self.entries: list[EntryRow] = []
        self.versions: list[VersionRow] = []
        self.heads: dict[str, Head] = {}
        self.withdrawn: dict[str, int] = {}
        self.unread_records: dict[str, int] = {}

    # -- as it is meanwhile ------------------------------------------------------------------------------------

    def head(self, record_id: str) -> Head | None:
        """See `admission.Records`."""
        head = self.heads.get(record_id)
        if head is None:
            head = self._before[record_id] if record_id in self._before else self._known.head(record_id)
        return replace(head, withdrawn=True) if head is not None and record_id in self.withdrawn else head

    def entry_of(self, record_id: str, version: int) -> str | None:
        """See `admission.Records`."""
        return self._entry_of.get((record_id, version)) or self._known.entry_of(record_id, version)

    def unread(self, record_ids: Iterable[str]) -> int | None:
        """See `KnownRecords`."""
        wanted = list(record_ids)
        found = [index for record in wanted if (index := self.unread_records.get(record)) is not None]
        before = self._known.unread(wanted)
        return before if before is not None else min(found, default=None)

    # -- what is added -----------------------------------------------------------------------------------------

    def put_entry(self, index: int, leaf: bytes, data: bytes, kind: str, verdict: str, code: str, reason: str) -> None:
        """Keep one entry with its verdict."""
        self.entries.append((index, leaf, data, kind, verdict, code, reason))

    def put_unread(self, record_id: str, index: int) -> None:
        """Note that the statement at `index` about this record was not understood."""
        self.unread_records.setdefault(record_id, index)

    def put_head(self, head: Head) -> None:
        """Set a record's newest version."""
        self.heads[head.id] = head

    def mark_withdrawn(self, record_id: str, index: int) -> None:
        """Note that the withdrawal at log index `index` names a record."""
        self.withdrawn[record_id] = index

    def add_version(self, index: int, entry: str, listing: Listing) -> None:
        """Index one record version for listing and searching."""
        self._entry_of[listing.id, listing.version] = entry
        self.versions.append((index, entry, *listing))

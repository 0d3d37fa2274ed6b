"""Chain of custody: who had a package, from when, and from whom; one line of JSON for each hand-over.

Each line names the digest of the line before, and ends with its own. The first follows from the manifest, so the lab's
signature covers it. Hand-overs are written by whoever makes them, and nobody signs them: the last line's digest, kept
on paper by both sides, is what shows later that none was taken away or written anew.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from member_client.referral.manifest import CUSTODY, Manifest, digest_of
from sharing_protocol import strict_json
from sharing_protocol.errors import Malformed, Unproven
from sharing_protocol.statements.header import Line, Paragraphs, Sha256Hex, StrictModel, Timestamp, format_timestamp

MAX_ENTRIES = 1000
MAX_LINE_BYTES = 64 * 1024


class CustodyEntry(StrictModel):
    """One line.

    Attributes:
        number: from 0.
        at: when, by the clock of the machine where it was written.
        giver, receiver: who; of the first, both are the lab's id.
        note: why and how, "" for nothing.
        manifest: SHA-256 of the manifest.
        previous: digest of the line before; of the first, 64 zeros.
    """

    number: Annotated[int, Field(ge=0, lt=MAX_ENTRIES)]
    at: Timestamp
    event: Literal["built", "handed over"]
    giver: Line
    receiver: Line
    note: Paragraphs | None
    manifest: Sha256Hex
    previous: Sha256Hex

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the entry as compact JSON."""
        return digest_of(strict_json.dumps(self.model_dump(mode="json")))

    def line(self) -> bytes:
        """The line, with its digest as the last member and its line break."""
        return strict_json.dumps({**self.model_dump(mode="json"), "sha256": self.digest}) + b"\n"


def first_entry(manifest: Manifest) -> CustodyEntry:
    """What the chain begins with: that the lab built the package."""
    by = manifest.built_by
    return CustodyEntry(
        number=0,
        at=manifest.built_at,
        event="built",
        giver=manifest.lab,
        receiver=manifest.lab,
        note=f"built by {by}" if by else None,
        manifest=digest_of(manifest.encode()),
        previous="0" * 64,
    )


def next_entry(chain: list[CustodyEntry], at: str, giver: str, receiver: str, note: str | None) -> CustodyEntry:
    """The next hand-over.

    Raises:
        Malformed: `bad_custody_entry`: the chain is full, it would go back in time, or a text is none.
    """
    last = chain[-1]
    if len(chain) >= MAX_ENTRIES:
        raise Malformed("bad_custody_entry", f"a chain of custody has at most {MAX_ENTRIES} entries")
    try:
        made = CustodyEntry.model_validate(
            {
                "number": last.number + 1,
                "at": at,
                "event": "handed over",
                "giver": giver,
                "receiver": receiver,
                "note": note,
                "manifest": last.manifest,
                "previous": last.digest,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Malformed("bad_custody_entry", f"{first['loc'][0]}: {first['msg']}") from error
    if made.at < last.at:
        when = format_timestamp(last.at)
        raise Malformed("bad_custody_entry", f"the hand-over before was at {when}: set this machine's clock")
    return made


def write_chain(chain: list[CustodyEntry]) -> bytes:
    """The file."""
    return b"".join(entry.line() for entry in chain)


def read_chain(data: bytes, manifest: Manifest) -> list[CustodyEntry]:
    """Read and check a chain.

    Raises:
        Unproven: `changed`, naming the line.
    """
    lines = data.split(b"\n")
    if lines[-1] or not 2 <= len(lines) <= MAX_ENTRIES + 1:
        raise _changed(f"it has 1 to {MAX_ENTRIES} lines, each with its line break")
    chain = [_read(line, number) for number, line in enumerate(lines[:-1], 1)]
    expected = first_entry(manifest)
    if chain[0] != expected:
        raise _changed("line 1 is not what the manifest says of its making")
    for before, entry in pairwise(chain):
        line = before.number + 2
        if (entry.number, entry.previous) != (before.number + 1, before.digest) or entry.event == "built":
            raise _changed(f"line {line} does not follow the line before it")
        if entry.manifest != expected.manifest or entry.at < before.at:
            raise _changed(f"line {line} is about another package, or before the line before it")
    return chain


def _read(line: bytes, number: int) -> CustodyEntry:
    try:
        if len(line) > MAX_LINE_BYTES:
            raise Malformed("malformed_json", f"line {number} has more than {MAX_LINE_BYTES:,} bytes")
        document = strict_json.loads(line, f"line {number}")
        if not isinstance(document, dict):
            raise Malformed("malformed_json", f"line {number} is not an object")
        entry = CustodyEntry.model_validate({name: value for name, value in document.items() if name != "sha256"})
    except (Malformed, ValidationError) as error:
        raise _changed(f"line {number} is not an entry of a chain of custody") from error
    if entry.line() != line + b"\n":
        raise _changed(f"line {number} does not have its own digest, or is not in the one strict form")
    return entry


def _changed(reason: str) -> Unproven:
    return Unproven("changed", f"{CUSTODY} was changed: {reason}")

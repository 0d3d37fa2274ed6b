"""What a package says of itself: every file with its digest, and what its lab claims that the log does not tell.

`manifest.json` is one line of compact JSON in one strict form. `manifest.dsse.json` is a DSSE envelope, signed by an
analyst's key of the lab, whose payload is an in-toto Statement v1 (in-toto attestation framework) with the manifest's
digest as its subject. The manifest names every other file but `custody.jsonl`, which grows; that file's first line
follows from the manifest (`custody`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from member_client.referral.archive import MAX_BYTES, MAX_FILES, MAX_NAME
from sharing_protocol import envelope as envelopes
from sharing_protocol import strict_json
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Malformed, Unproven
from sharing_protocol.keys import Signer
from sharing_protocol.statements import RecordReference
from sharing_protocol.statements.header import Identifier, Line, Paragraphs, Sha256Hex, StrictModel, Timestamp
from sharing_protocol.statements.playbooks import MAX_CRITERIA
from sharing_protocol.tiles import MAX_TREE_SIZE

FORMAT = "stillwatch-referral/1"
MANIFEST, SIGNATURE, CUSTODY = "manifest.json", "manifest.dsse.json", "custody.jsonl"
SUMMARY_PDF, SUMMARY, TIMELINE = "summary.pdf", "summary.md", "timeline.md"
EVIDENCE, CHECKPOINT = "evidence-hashes.json", "checkpoint"
NAMED_LISTED = 20
MAX_EVIDENCE = 1000
MAX_LIST_BYTES = 2 * 1024 * 1024
"""Of the manifest and of the list of local evidence, with room for their longest texts: a few MB of JSON can take a
hundred times as much memory, and whoever sends a package decides what is in it."""

_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "urn:stillwatch:referral-manifest:1"


class FileEntry(StrictModel):
    """A file by its name, bytes and hex SHA-256."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    size: Annotated[int, Field(ge=0, le=MAX_BYTES)]
    sha256: Sha256Hex


class LocalEvidence(StrictModel):
    """A file that stays at the lab."""

    name: Line
    size: Annotated[int, Field(ge=0, le=2**53 - 1)]
    sha256: Sha256Hex


class Manifest(StrictModel):
    """The manifest.

    Attributes:
        forum: fingerprint.
        lab: id of the lab that built it.
        built_by: the person, as the lab says; null for unsaid.
        incident: its id.
        attested: by name of a criterion, who answers for it and how they know.
        despite: why it was built although a criterion that is required is not met; null for all are.
        left_out: by lab, how many versions and acts of the incident are not in it, as the lab that built it says.
        files: in the order of the archive.
    """

    format: Literal["stillwatch-referral/1"]
    forum: Sha256Hex
    lab: Identifier
    built_at: Timestamp
    built_by: Line | None
    incident: Identifier
    criteria: RecordReference
    attested: Annotated[dict[Line, Line], Field(max_length=MAX_CRITERIA)]
    despite: Paragraphs | None
    left_out: Annotated[dict[Identifier, Annotated[int, Field(ge=1, le=MAX_TREE_SIZE)]], Field(max_length=MAX_FILES)]
    files: Annotated[list[FileEntry], Field(min_length=1, max_length=MAX_FILES)]

    def encode(self) -> bytes:
        """Write the one strict form."""
        return strict_json.dumps(self.model_dump(mode="json")) + b"\n"


def entry_for(name: str, data: bytes) -> FileEntry:
    """A file as the manifest names it."""
    return FileEntry(name=name, size=len(data), sha256=digest_of(data))


def digest_of(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest; what it says is not verified.

    Raises:
        Unproven: `changed`: it is not in the strict form, or larger than any.
    """
    try:
        _bound(data)
        strict_json.loads(data, MANIFEST)
        manifest = Manifest.model_validate_json(data)
    except (Malformed, ValidationError) as error:
        what = error.detail if isinstance(error, Malformed) else "it does not have exactly the members of a manifest"
        raise Unproven("changed", f"{MANIFEST} was changed: {what}") from error
    if manifest.encode() != data:
        raise Unproven("changed", f"{MANIFEST} was changed: it is not in its one strict form")
    return manifest


def sign(manifest: bytes, signer: Signer) -> bytes:
    """The signed envelope of a manifest."""
    return envelopes.sign(_statement(manifest), [signer], _PAYLOAD_TYPE).encode()


def open_signature(data: bytes, manifest: bytes) -> Envelope:
    """Read the envelope of a manifest; its signature is not verified.

    Raises:
        Unproven: `changed`: it is none, or is about another manifest.
    """
    try:
        envelope = envelopes.parse(data, _PAYLOAD_TYPE)
    except Malformed as error:
        raise Unproven("changed", f"{SIGNATURE} was changed: {error.detail}") from error
    if envelope.payload != _statement(manifest):
        raise Unproven("changed", f"{MANIFEST} was changed: {SIGNATURE} is about another one")
    if len(envelope.signatures) != 1:
        raise Unproven("changed", f"{SIGNATURE} was changed: it has one signature, not {len(envelope.signatures)}")
    return envelope


def check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Check that a package has exactly the manifest's files.

    Raises:
        Unproven: `changed`, naming those that were changed, added or removed.
    """
    named = {entry.name: entry for entry in manifest.files}
    free = (MANIFEST, SIGNATURE, CUSTODY)
    removed = [name for name in (*named, *free) if name not in files]
    added = [name for name in files if name not in named and name not in free]
    changed = [name for name, entry in named.items() if name in files and entry_for(name, files[name]) != entry]
    found = (("changed", changed), ("added", added), ("removed", removed))
    problems = [f"{verb}: {_some(names)}" for verb, names in found if names]
    if problems:
        raise Unproven("changed", f"these files of the package were {'; '.join(problems)}")
    order = [MANIFEST, SIGNATURE, CUSTODY, *named]
    if len(named) != len(manifest.files) or list(files) != order:
        raise Unproven("changed", "the package's files are not each once, in the order of the manifest")


def write_evidence(found: list[LocalEvidence]) -> bytes:
    """The list of files that stay at the lab, as indented JSON."""
    return _indented([one.model_dump(mode="json") for one in found])


def read_evidence(data: bytes) -> list[LocalEvidence]:
    """Read what `write_evidence` wrote.

    Raises:
        Unproven: `changed`.
    """
    try:
        _bound(data)
        document = strict_json.loads(data, EVIDENCE)
        if not isinstance(document, list) or len(document) > MAX_EVIDENCE:
            raise Malformed("malformed_json", f"it is an array of at most {MAX_EVIDENCE} files")
        found = [LocalEvidence.model_validate(item) for item in document]
    except (Malformed, ValidationError) as error:
        raise Unproven("changed", f"{EVIDENCE} is not a list of files with name, size and sha256") from error
    if write_evidence(found) != data:
        raise Unproven("changed", f"{EVIDENCE} is not in its one strict form")
    return found


def _bound(data: bytes) -> None:
    if len(data) > MAX_LIST_BYTES:
        raise Malformed("malformed_json", f"it has at most {MAX_LIST_BYTES:,} bytes")


def _indented(items: list[strict_json.Json]) -> bytes:
    """A JSON array with one item a line, so that people can read it too."""
    lines = b",\n".join(strict_json.dumps(item) for item in items)
    return b"[\n%b\n]\n" % lines if items else b"[]\n"


def _statement(manifest: bytes) -> bytes:
    return strict_json.dumps(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [{"name": MANIFEST, "digest": {"sha256": digest_of(manifest)}}],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {"size": len(manifest)},
        }
    )


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_LISTED
    return ", ".join(names[:NAMED_LISTED]) + (f" and {more} more" if more > 0 else "")

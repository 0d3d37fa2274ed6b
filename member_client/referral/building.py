"""Building a referral package from this home's verified copy of the log; nothing is sent anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from member_client.errors import InvalidInput
from member_client.referral.archive import MAX_BYTES, pack, unpack
from member_client.referral.custody import CustodyEntry, first_entry, next_entry, read_chain, write_chain
from member_client.referral.document import to_markdown
from member_client.referral.manifest import (
    CHECKPOINT,
    CUSTODY,
    EVIDENCE,
    FORMAT,
    MANIFEST,
    MAX_EVIDENCE,
    SIGNATURE,
    SUMMARY,
    SUMMARY_PDF,
    TIMELINE,
    LocalEvidence,
    Manifest,
    decode_manifest,
    entry_for,
    sign,
    write_evidence,
)
from member_client.referral.pdf import to_pdf
from member_client.referral.proving import Claim, prove
from member_client.referral.selecting import Selection
from member_client.referral.summary import Telling, summary, timeline_document
from member_client.referral.verifying import proof_name, statement_name, verify
from member_client.session import Session
from sharing_protocol.errors import Malformed, Unproven
from sharing_protocol.referral import Finding, unmet
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.statements.playbooks import Measure
from sharing_protocol.tlog_proof import TlogProof

_READ = 1024 * 1024
_MEMBER_HEADER = 30
"""Bytes of a ZIP file that have the size and the CRC-32 of its first member."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What the lab says itself.

    Attributes:
        built_by: the person, "" for unsaid.
        attested: by name of a criterion, who answers for it and how they know.
        despite: why to build although a required criterion is not met, "" for not to.
        evidence: files that stay here.
    """

    built_by: str
    attested: Mapping[str, str]
    despite: str
    evidence: tuple[LocalEvidence, ...]


@dataclass(frozen=True, slots=True)
class Built:
    """A package, checked as its reader will."""

    data: bytes
    telling: Telling

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Each criterion, and whether it is met."""
        return self.telling.findings


def assess(session: Session, selection: Selection, claims: Claims) -> Telling:
    """Hold the incident against the criteria, with what the lab claims.

    Raises:
        InvalidInput: a claim is none, or is not asked for.
        Unproven: the store is damaged.
    """
    now = session.now
    claim = Claim(session.forum.fingerprint, selection.incident, selection.criteria, now)
    proven = prove(selection.entries, selection.note, claim)
    asked = {one.name for one in proven.case.criteria.statement.body.criteria if one.measure is Measure.ATTESTED}
    if unknown := set(claims.attested) - asked:
        known = ", ".join(map(repr, sorted(asked))) or "none"
        raise InvalidInput(f"the criteria do not ask anybody to attest {min(unknown)!r}", f"they ask for {known}")
    fields = {
        "format": FORMAT,
        "forum": session.forum.fingerprint,
        "lab": session.settings.member,
        "built_at": format_timestamp(now),
        "built_by": claims.built_by or None,
        "incident": selection.incident,
        "criteria": selection.criteria.model_dump(),
        "attested": dict(sorted(claims.attested.items())),
        "despite": claims.despite or None,
        "left_out": dict(selection.left_out),
        "files": [entry_for(CHECKPOINT, selection.note.encode()).model_dump()],
    }
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(f"{first['loc'][0]}: {first['msg']}") from error
    return Telling(manifest, proven, claims.evidence)


def build(session: Session, selection: Selection, telling: Telling) -> Built:
    """Make the package of an assessed incident, and check it as its reader will.

    Raises:
        InvalidInput: a required criterion is not met and nobody says why to go on; ReportLab is not installed.
        Malformed: `not_a_package`: it would be too large.
    """
    missing = unmet(telling.findings)
    if missing and telling.manifest.despite is None:
        names = ", ".join(repr(one.name) for one in missing)
        raise InvalidInput(
            f"required and not met: {names}; nothing was built", "--despite REASON builds it, with the reason in it"
        )
    files = _files(selection, telling)
    manifest = telling.manifest.model_copy(update={"files": [entry_for(name, data) for name, data in files.items()]})
    written = manifest.encode()
    signature = sign(written, session.signer("analyst"))
    custody = write_chain([first_entry(manifest)])
    data = pack({MANIFEST: written, SIGNATURE: signature, CUSTODY: custody, **files})
    return Built(data, verify(data, session.forum.fingerprint).telling)


def _files(selection: Selection, telling: Telling) -> dict[str, bytes]:
    blocks = summary(telling)
    title = telling.proven.case.timeline.title
    incident = telling.manifest.incident
    files = {
        SUMMARY_PDF: to_pdf(blocks, f"Referral: {title}", incident),
        SUMMARY: to_markdown(blocks).encode(),
        TIMELINE: to_markdown(timeline_document(telling)).encode(),
        EVIDENCE: write_evidence(list(telling.evidence)),
        CHECKPOINT: selection.note.encode(),
    }
    for entry in selection.entries:
        files[statement_name(entry.index)] = entry.entry
    for entry in selection.entries:
        files[proof_name(entry.index)] = str(TlogProof(entry.index, entry.steps, selection.note)).encode()
    return files


def read_local_evidence(paths: Sequence[Path]) -> tuple[LocalEvidence, ...]:
    """Name, size and digest of files; their content stays where it is.

    Raises:
        InvalidInput: one cannot be read or is empty, there are too many, or two have one name.
    """
    if len(paths) > MAX_EVIDENCE:
        raise InvalidInput(
            f"a package names at most {MAX_EVIDENCE:,} files", "put them into one archive that stays here"
        )
    found: dict[str, LocalEvidence] = {}
    for path in paths:
        if path.name in found:
            raise InvalidInput(
                f"two files are named {path.name}", "rename one: the package tells names without folders"
            )
        found[path.name] = _local_evidence(path)
    return tuple(found[name] for name in sorted(found))


def _local_evidence(path: Path) -> LocalEvidence:
    size, digest = 0, hashlib.sha256()
    try:
        with path.open("rb") as file:
            while some := file.read(_READ):
                size += len(some)
                digest.update(some)
        if not size:
            raise InvalidInput(f"{path} is empty: it is evidence of nothing", "leave it out, or name the right file")
        return LocalEvidence(name=path.name, size=size, sha256=digest.hexdigest())
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidInput(
            f"{path.name!r} is no name for a package", "rename it: printable, up to 200 characters"
        ) from error


def hand_over(data: bytes, at: str, giver: str, receiver: str, note: str | None) -> tuple[bytes, str]:
    """The package with one more line in its chain of custody, and that line's digest.

    Whether all of the package holds is not asked: whoever hands it over need not know the forum.

    Raises:
        Malformed, Unproven: it is no package, its chain is broken, or the entry is none.
    """
    files = unpack(data)
    chain = _chain_of(files)
    entry = next_entry(chain, at, giver, receiver, note)
    return pack(files | {CUSTODY: write_chain([*chain, entry])}), entry.digest


def successor_of(path: Path, data: bytes) -> Path | None:
    """A package beside this one, of whatever name, whose chain of custody goes on from its own; None if there is none.

    Raises:
        Malformed, Unproven: this one is no package, or its chain is broken.
    """
    mine = _chain_of(unpack(data))
    for other in sorted(path.parent.glob("*.zip")):
        try:
            if other.name == path.name or not other.is_file():
                continue
            with other.open("rb") as file:
                head = file.read(_MEMBER_HEADER)
                if head != data[:_MEMBER_HEADER]:
                    continue  # another package, or none: the archive of this one begins with the same manifest
                chain = _chain_of(unpack(head + file.read(MAX_BYTES + 1)))
        except (OSError, Malformed, Unproven, InvalidInput):
            continue  # whatever that is, it does not go on from this package
        if len(chain) > len(mine) and chain[: len(mine)] == mine:
            return other
    return None


def _chain_of(files: Mapping[str, bytes]) -> list[CustodyEntry]:
    if MANIFEST not in files or CUSTODY not in files:
        raise InvalidInput("the package has no manifest or no chain of custody")
    return read_chain(files[CUSTODY], decode_manifest(files[MANIFEST]))

"""Checking a referral package: its bytes and the forum's fingerprint, and nothing else.

In this order: the archive is in its one form; the manifest is signed for; every file is what the manifest names; the
statements hash into the signed tree and are admitted by the log's rules at their places; the signing key is an
analyst's of the lab; the summary and the timeline are what the statements give; the chain of custody is whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from member_client.referral.archive import unpack
from member_client.referral.custody import CustodyEntry, read_chain
from member_client.referral.document import to_markdown
from member_client.referral.manifest import (
    CHECKPOINT,
    CUSTODY,
    EVIDENCE,
    MANIFEST,
    SIGNATURE,
    SUMMARY,
    SUMMARY_PDF,
    TIMELINE,
    check_files,
    decode_manifest,
    open_signature,
    read_evidence,
)
from member_client.referral.proving import Claim, analyst_key, prove
from member_client.referral.summary import Telling, summary, timeline_document
from sharing_protocol import tlog_proof
from sharing_protocol.errors import Malformed, Unproven
from sharing_protocol.log_excerpt import MAX_ENTRIES, LoggedEntry
from sharing_protocol.membership import RegisteredKey
from sharing_protocol.notes import MAX_NOTE_BYTES
from sharing_protocol.referral import unmet
from sharing_protocol.statements.playbooks import Measure
from sharing_protocol.tiles import MAX_TREE_SIZE

_STATEMENT = re.compile(r"statements/(0[0-9]{5}|[1-9][0-9]{5,14})\.json")
_FIXED = (SUMMARY_PDF, SUMMARY, TIMELINE, EVIDENCE, CHECKPOINT)


@dataclass(frozen=True, slots=True)
class VerifiedPackage:
    """A package that holds.

    Attributes:
        telling: what it tells; its summary was written again and is the same.
        key: by which the lab signed the manifest.
        custody: who had it.
    """

    telling: Telling
    key: RegisteredKey
    custody: tuple[CustodyEntry, ...]


def statement_name(index: int) -> str:
    """The file of the entry at a log index."""
    return f"statements/{index:06d}.json"


def proof_name(index: int) -> str:
    """The file of its inclusion proof."""
    return f"proofs/{index:06d}.tlog-proof"


def verify(data: bytes, fingerprint: str, custody: str = "") -> VerifiedPackage:
    """Check a package.

    Args:
        custody: the digest that the last line of its chain of custody has to have, "" to take what is there.

    Raises:
        Malformed: `not_a_package`.
        Unproven: `changed`, `wrong_forum`, `wrong_signer`, `bad_signature`, `incomplete_case`, `wrong_summary`,
            `unmet_criteria`, `wrong_custody`; or what does not hold of its statements, see `proving.prove`.
    """
    files = unpack(data)
    if MANIFEST not in files or SIGNATURE not in files or CUSTODY not in files:
        gone = next(name for name in (MANIFEST, SIGNATURE, CUSTODY) if name not in files)
        raise Unproven("changed", f"{gone} was removed")
    manifest = decode_manifest(files[MANIFEST])
    envelope = open_signature(files[SIGNATURE], files[MANIFEST])
    check_files(manifest, files)
    if manifest.forum != fingerprint:
        raise Unproven("wrong_forum", f"it is about forum {manifest.forum}, not {fingerprint}")
    entries = _entries(files)
    claim = Claim(fingerprint, manifest.incident, manifest.criteria, manifest.built_at)
    proven = prove(entries, _text(files, CHECKPOINT, MAX_NOTE_BYTES), claim)
    key = analyst_key(proven.membership, envelope.signatures[0].key_id, manifest.lab)
    if not key.public_key.verifies(envelope.signed_message, envelope.signatures[0].value):
        raise Unproven("bad_signature", f"the signature in {SIGNATURE} is not by the key that it names")
    telling = Telling(manifest, proven, tuple(read_evidence(files[EVIDENCE])))
    _check_telling(telling, files)
    chain = read_chain(files[CUSTODY], manifest)
    if custody and chain[-1].digest != custody:
        raise Unproven("wrong_custody", f"the last line of {CUSTODY} has the digest {chain[-1].digest}, not {custody}")
    return VerifiedPackage(telling, key, tuple(chain))


def _entries(files: Mapping[str, bytes]) -> list[LoggedEntry]:
    """The statements with their proofs; all of these are of the one checkpoint."""
    checkpoint = files.get(CHECKPOINT, b"")
    found: list[LoggedEntry] = []
    known = {MANIFEST, SIGNATURE, CUSTODY, *_FIXED}
    for name in files:
        if (named := _STATEMENT.fullmatch(name)) is None:
            continue
        index = int(named[1])
        if index >= MAX_TREE_SIZE or len(found) == MAX_ENTRIES:
            raise Unproven("incomplete_case", f"{name}: there are at most {MAX_ENTRIES:,} statements")
        place = proof_name(index)
        if place not in files:
            raise Unproven("incomplete_case", f"{name} has no proof: {place} is not there")
        try:
            proof = tlog_proof.parse(files[place])
        except Malformed as error:
            raise Unproven("not_in_the_log", f"{place}: {error.detail}") from error
        if proof.index != index or proof.checkpoint.encode() != checkpoint:
            raise Unproven("not_in_the_log", f"{place} is of another entry or another checkpoint")
        found.append(LoggedEntry(index, files[name], proof.steps))
        known |= {name, place}
    if other := [name for name in files if name not in known] or [name for name in _FIXED if name not in files]:
        raise Unproven("incomplete_case", f"{other[0]} has no place in a package, or is missing from it")
    if [entry.index for entry in found] != sorted(entry.index for entry in found):
        raise Unproven("incomplete_case", "the statements are not in the order of the log")
    return found


def _text(files: Mapping[str, bytes], name: str, most: int) -> str:
    try:
        return files[name][: most + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unproven("changed", f"{name} is not UTF-8") from error


def _check_telling(telling: Telling, files: Mapping[str, bytes]) -> None:
    """Check the claims against the criteria, and the documents against what the statements give."""
    manifest, criteria = telling.manifest, telling.proven.case.criteria.statement.body
    names = {one.name for one in criteria.criteria if one.measure is Measure.ATTESTED}
    if unknown := set(manifest.attested) - names:
        raise Unproven("wrong_summary", f"{min(unknown)!r} is attested, and the criteria do not ask for that")
    if (missing := unmet(telling.findings)) and manifest.despite is None:
        raise Unproven("unmet_criteria", f"{missing[0].name!r} is required and not met, and it does not say so")
    for name, blocks in ((SUMMARY, summary(telling)), (TIMELINE, timeline_document(telling))):
        if to_markdown(blocks).encode() != files[name]:
            raise Unproven("wrong_summary", f"{name} is not what the statements give")

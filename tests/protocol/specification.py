"""The worked examples of docs/protocol.md and the vectors of docs/protocol-vectors.json, made from the code.

    python -m tests.protocol.specification     writes both anew

`test_specification` makes them again in memory and compares, so that neither can grow untrue.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from sharing_protocol import checkpoints, envelope, merkle, record_proof, tiles
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError
from sharing_protocol.fingerprints import words_of
from sharing_protocol.keys import PrivateKey, encode_base64
from sharing_protocol.request_signing import sign_request
from sharing_protocol.statements import possession_message
from sharing_protocol.statements.header import comparable_name
from sharing_protocol.tiles import Bundle, GrowingTree, Tile
from sharing_protocol.witnesses import witness_key
from tests.protocol.excerpts import Tree, evidence, lines, verdict
from tests.protocol.forum_log import (
    AURORA,
    FORUM,
    LOG_KEY,
    ORIGIN,
    PATTERN,
    TIMESTAMP_KEY,
    ForumLog,
    change_log_body,
    entry_hash,
    forum_with_records,
    key,
    log_identity,
    log_of,
    pattern_body,
    reason,
    record_reference,
    revoke_body,
    signed,
    withdrawal_body,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "protocol.md"
VECTORS = DOCS / "protocol-vectors.json"

TIME = 1_772_366_460
NAMES = [
    "Ada", "Ben", "Cleo", "Aurora owner", "Aurora analyst", "Aurora sync", "Boreal owner", "Boreal analyst",
    "Boreal sync", "Aurora witness",
]  # fmt: skip
_BLOCK = re.compile(r"(?P<opening><!-- example: (?P<path>[a-z0-9_.]+) -->\n```[a-z]*\n)(?P<text>(?:(?!```).*\n)*)```")

Vectors = dict[str, Any]


def make_vectors() -> Vectors:
    """Everything, as one JSON document."""
    log = forum_with_records()
    return {
        "about": "Vectors of docs/protocol.md. Binary values are base64 unless a name says hex.",
        "keys": [_key(name) for name in NAMES] + [_key(name) for name in ("log", "timestamp", "log 2", "timestamp 2")],
        "possession": _possession(),
        "envelope": _envelope(log),
        "log": _log(log),
        "witness": _witness(log),
        "exchanged_keys": _exchanged_keys(),
        "requests": _requests(),
        "tile_paths": [
            {"level": 0, "index": 0, "width": 5, "path": Tile(0, 0, 5).path},
            {"level": 0, "index": 1_234_067, "width": 256, "path": Tile(0, 1_234_067).path},
            {"level": 2, "index": 0, "width": 1, "path": Tile(2, 0, 1).path},
            {"level": "entries", "index": 1000, "width": 256, "path": Bundle(1000).path},
        ],
        "comparable_names": {name: comparable_name(name) for name in ("Aurora", "AURORA Labs", "Au-ro.ra", "3rd Lab")},
        "refused_envelopes": _refused_envelopes(log),
        "refused_entries": _refused_entries(log),
        "tlog_proof": str(Tree.of(log).proof(3, []).proof),
        "record_proof": _record_proof(log),
        "evidence": _evidence(log),
    }


def _key(name: str) -> Vectors:
    seed = hashlib.sha256(name.encode()).digest()
    public = key(name).public_key
    return {"name": name, "seed_hex": seed.hex(), "public_key": str(public), "key_id": public.key_id}


def _possession() -> Vectors:
    signer = key("Aurora owner")
    message = possession_message("owner", AURORA, signer.public_key)
    return {
        "role": "owner",
        "subject": AURORA,
        "key": str(signer.public_key),
        "message": message.decode(),
        "proof": encode_base64(signer.sign(message)),
    }


def _envelope(log: ForumLog) -> Vectors:
    made = log.entries[4]
    return {
        "payload": made.payload.decode(),
        "payload_sha256_hex": made.payload_sha256,
        "signed_message": made.signed_message.decode(),
        "encoded": made.encode().decode(),
        "leaf_hash_hex": entry_hash(made),
    }


def _log(log: ForumLog) -> Vectors:
    entries = [made.encode() for made in log.entries]
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    tree, roots = GrowingTree(), [merkle.EMPTY_ROOT]
    for leaf in leaves:
        tree.append([leaf])
        roots.append(tree.root())
    size = len(entries)
    bundle = tiles.encode_bundle(entries)

    def node(height: int, index: int) -> bytes:
        return merkle.subtree_root(leaves[index << height : (index + 1) << height])

    head = Checkpoint(ORIGIN, size, roots[size])
    signed_head = checkpoints.sign(head, LOG_KEY)
    return {
        "fingerprint": log.fingerprint,
        "fingerprint_words": words_of(log.fingerprint),
        "identity": log_identity(),
        "entries": [entry.decode() for entry in entries],
        "leaf_hashes_hex": [leaf.hex() for leaf in leaves],
        "roots_hex": [root.hex() for root in roots],
        "bundle_path": Bundle(0, size).path,
        "bundle_sha256_hex": hashlib.sha256(bundle).hexdigest(),
        "bundle_start_hex": bundle[:2].hex(),
        "tile_path": Tile(0, 0, size).path,
        "tile": encode_base64(b"".join(leaves)),
        "inclusion_proof_of_2": [encode_base64(step) for step in merkle.inclusion_proof(2, size, node)],
        "consistency_proof_from_3": [encode_base64(step) for step in merkle.consistency_proof(3, size, node)],
        "checkpoint": str(checkpoints.cosign(signed_head, ORIGIN, TIMESTAMP_KEY, TIME)),
        "timestamp": TIME,
    }


def _witness(log: ForumLog) -> Vectors:
    leaves = [merkle.leaf_hash(made.encode()) for made in log.entries]
    signed_head = checkpoints.sign(Checkpoint(ORIGIN, len(leaves), merkle.root_from_leaves(leaves)), LOG_KEY)
    vouched = checkpoints.cosign(signed_head, ORIGIN, TIMESTAMP_KEY, TIME)
    return {
        "member": AURORA,
        "verifier_key": str(witness_key(AURORA, key("Aurora witness").public_key)),
        "timestamp": TIME + 2,
        "checkpoint": str(checkpoints.cosign(vouched, AURORA, key("Aurora witness"), TIME + 2)),
    }


def _exchanged_keys() -> Vectors:
    """The log above with entry 5, which names other keys, and checkpoints of it by the new ones and by the old ones."""
    log = forum_with_records()
    log.say("membership.change_log", FORUM, FORUM, change_log_body("2"), ["Ada", "Ben"])
    root = merkle.root_from_leaves(merkle.leaf_hash(made.encode()) for made in log.entries)
    head = Checkpoint(ORIGIN, log.size, root)

    def signed_by(log_key: PrivateKey, timestamp_key: PrivateKey) -> str:
        return str(checkpoints.cosign(checkpoints.sign(head, log_key), ORIGIN, timestamp_key, TIME))

    return {
        "entry": log.entries[-1].encode().decode(),
        "log_key_message": possession_message("log", ORIGIN, key("log 2").public_key).decode(),
        "timestamp_key_message": possession_message("timestamp", ORIGIN, key("timestamp 2").public_key).decode(),
        "identity": log_of("2").model_dump(),
        "checkpoint": signed_by(key("log 2"), key("timestamp 2")),
        "refused_checkpoint": signed_by(LOG_KEY, TIMESTAMP_KEY),
        "refused_code": "retired_key",
    }


def _requests() -> list[Vectors]:
    nonce = "0123456789abcdefghijkl"
    made = []
    for method, url, content in (
        ("GET", "https://hub.example/records?kind=query_pattern&limit=20", b""),
        ("POST", "https://hub.example/entries", b'{"payload":"e30="}'),
    ):
        signer = key("Aurora sync")
        headers = dict(sign_request(method, url, content, signer, TIME, nonce))
        parameters = headers["Signature-Input"].removeprefix("stillwatch=")
        path, _, query = url.removeprefix("https://hub.example").partition("?")
        base = [f'"@method": {method}', '"@authority": hub.example', f'"@path": {path}', f'"@query": ?{query}']
        if content:
            base.append(f'"content-digest": {headers["Content-Digest"]}')
        base.append(f'"@signature-params": {parameters}')
        signature = base64.b64decode(headers["Signature"].removeprefix("stillwatch=:").removesuffix(":"))
        # What we write here is what was signed, or the example would be a wrong one.
        if not signer.public_key.verifies("\n".join(base).encode(), signature):
            raise AssertionError("the signature base of the example is not what was signed")
        made.append(
            {
                "method": method,
                "url": url,
                "content": content.decode(),
                "created": TIME,
                "nonce": nonce,
                "key": "Aurora sync",
                "signature_base": "\n".join(base),
                "headers": "\n".join(f"{name}: {value}" for name, value in headers.items()),
            }
        )
    return made


def _refused_envelopes(log: ForumLog) -> list[Vectors]:
    text = log.entries[0].encode().decode()
    document = json.loads(text)
    first, second = document["signatures"]
    payload_text = document["payload"]

    def compact(**changes: Any) -> str:
        return json.dumps({**document, **changes}, separators=(",", ":"))

    variants = {
        "white space": json.dumps(document),
        "a newline at the end": text + "\n",
        "members in another order": compact(payload=None).replace('"payload":null,', "")[:-1]
        + f',"payload":"{payload_text}"}}',
        "an unknown member": compact(extra=1),
        "a member twice": text.replace("{", '{"payload":"",', 1),
        "an escape where none is needed": text.replace("payloadType", "payload\\u0054ype"),
        "signatures out of order": compact(signatures=[second, first]),
        "one key twice": compact(signatures=[first, first]),
        "no signature": compact(signatures=[]),
        "a key id in upper case": compact(signatures=[{**first, "keyid": first["keyid"].upper()}, second]),
        "base64 without padding": compact(signatures=[{**first, "sig": first["sig"].rstrip("=")}, second]),
        "base64 of the other alphabet": compact(payload="-_8="),
        "base64 with stray bits": compact(payload="QR=="),
        "another payload type": compact(payloadType="application/json"),
    }
    return [{"why": why, "envelope": text, "code": _code(text)} for why, text in variants.items()]


def _code(text: str) -> str:
    try:
        envelope.parse(text.encode())
    except ProtocolError as error:
        return error.code
    raise AssertionError(f"not refused: {text}")


def _refused_entries(log: ForumLog) -> list[Vectors]:
    """Entries offered at index 5 of the log above, and why each is refused there."""
    two = ["Ada", "Ben"]
    pattern = record_reference(log.head(PATTERN))
    withdrawal = "withdrawal--00000000-0000-0000-0000-000000000300"
    revision = log.next("pattern", PATTERN, AURORA, pattern_body(title="Revised"))
    offered = {
        "one admin where two must sign": signed(log.next("membership.suspend", AURORA, FORUM, reason()), "Ada"),
        "a stranger's signature": signed(log.next("membership.suspend", AURORA, FORUM, reason()), *two, "Mallory"),
        "an owner changes another lab's keys": signed(
            log.next("membership.revoke_key", AURORA, "member--00000000-0000-0000-0000-00000000000b",
                     revoke_body("Aurora analyst")), "Boreal owner"),
        "the lab's last owner key": signed(
            log.next("membership.revoke_key", AURORA, AURORA, revoke_body("Aurora owner")), "Aurora owner"),
        "a record signed by an owner": signed(revision, "Aurora owner"),
        "another lab's record": signed(revision | {"author": "member--00000000-0000-0000-0000-00000000000b"},
                                       "Boreal analyst"),
        "another forum": signed(revision | {"forum": "00" * 32}, "Aurora analyst"),
        "the log's own key again": signed(
            log.next("membership.change_log", FORUM, FORUM, change_log_body("", ("log", "timestamp 2"))), *two),
        "log keys that nobody was proven to hold": signed(
            log.next("membership.change_log", FORUM, FORUM,
                     {**change_log_body("2"), "log_key_proof": change_log_body("3")["log_key_proof"]}), *two),
        "the same version with other bytes": signed(revision | {"version": 1, "previous": None}, "Aurora analyst"),
        "a version left out": signed(revision | {"version": 3}, "Aurora analyst"),
        "another version before": signed(revision | {"previous": "00" * 32}, "Aurora analyst"),
        "an unknown member": signed(revision | {"price": 7}, "Aurora analyst"),
        "valid for more than five years": signed(
            log.next("pattern", PATTERN, AURORA, pattern_body(valid_until="2036-01-01T00:00:00Z")), "Aurora analyst"),
        "TLP:RED in the open": signed(log.next("pattern", PATTERN, AURORA, pattern_body(marking="red")),
                                      "Aurora analyst"),
        "a withdrawal of an older version": signed(
            log.next("withdrawal", withdrawal, AURORA, withdrawal_body({**pattern, "entry": "00" * 32})),
            "Aurora analyst"),
    }  # fmt: skip
    made = []
    for why, refused in offered.items():
        try:
            log.decide(refused)
        except ProtocolError as error:
            made.append({"why": why, "entry": refused.encode().decode(), "code": error.code})
        else:
            raise AssertionError(f"not refused: {why}")
    return made


def _record_proof(log: ForumLog) -> Vectors:
    """A proof of entry 3 for outsiders, and files that are none."""
    tree = Tree.of(log)
    good = tree.proof(3, [0, 1])
    text = good.encode().decode()
    by_another = tree.note(log_key=key("Mallory"))
    refused = {
        "white space": text.replace('":', '": ', 1),
        "no newline at the end": text[:-1],
        "without the founding statement": tree.proof(3, [1]).encode().decode(),
        "without the author's admission": tree.proof(3, [0]).encode().decode(),
        "with another lab's admission": tree.proof(3, [0, 1, 2]).encode().decode(),
        "another index": text.replace("index 3", "index 2"),
        "a checkpoint by another key": text.replace(json.dumps(good.proof.checkpoint, ensure_ascii=False)[1:-1],
                                                    json.dumps(by_another, ensure_ascii=False)[1:-1]),
        "extra data": text.replace("@v1\\n", "@v1\\nextra AAAA\\n"),
    }  # fmt: skip
    return {
        "index": 3,
        "file": text,
        "refused": [{"why": why, "file": file, "code": _proof_code(file, log)} for why, file in refused.items()],
    }


def _proof_code(file: str, log: ForumLog) -> str:
    try:
        record_proof.verify(file.encode(), log.fingerprint)
    except ProtocolError as error:
        return error.code
    raise AssertionError(f"not refused: {file}")


def _evidence(log: ForumLog) -> list[Vectors]:
    """Files and what they prove to a reader who has pinned the forum."""
    entries = [made.encode() for made in log.entries]
    tree, other = Tree(entries), Tree([*entries[:2], b"another", *entries[3:]])
    twin = log.next("pattern", PATTERN, AURORA, pattern_body(title="Other bytes")) | {"version": 1, "previous": None}
    intruded = Tree([*entries, signed(twin, "Aurora analyst").encode()])
    unknown = Tree(
        [*entries, signed(twin | {"id": "pattern--00000000-0000-0000-0000-000000000999"}, "Mallory").encode()]
    )
    shown = {
        "two trees of one size": {"old_checkpoint": tree.note(), "new_checkpoint": other.note()},
        "a tree that does not continue a smaller one": {
            "old_checkpoint": tree.note(4), "new_checkpoint": other.note(),
            "prefix_proof": lines(merkle.prefix_proof(4, 5, other.node))},
        "an older tree vouched for later": {"old_checkpoint": tree.note(), "new_checkpoint": tree.note(4, TIME + 301)},
        "an older tree": {"old_checkpoint": tree.note(), "new_checkpoint": tree.note(4, TIME - 60)},
        "one version twice": intruded.accuse(5, range(4)),
        "a stranger's record": unknown.accuse(5, range(4)),
        "a rightful entry": tree.accuse(4, range(4)),
    }  # fmt: skip
    made = []
    for why, documents in shown.items():
        found = verdict(log, documents)
        file = evidence(log, documents).model_dump_json()
        made.append(
            {"why": why, "file": file, "proven": found.proven, "fault": found.fault.value if found.proven else None}
        )
    return made


def render(vectors: Vectors) -> str:
    """The text of docs/protocol-vectors.json."""
    return json.dumps(vectors, indent=2, ensure_ascii=False) + "\n"


def example(vectors: Vectors, path: str) -> str:
    """The text of one worked example: a value of the vectors, by its path."""
    value: Any = vectors
    for step in path.split("."):
        value = value[int(step)] if step.isdigit() else value[step]
    if isinstance(value, str):
        return value.rstrip("\n")
    return json.dumps(value, indent=2, ensure_ascii=False)


def fill_in(page: str, vectors: Vectors) -> str:
    """The page with every example as the code makes it."""

    def written(block: re.Match[str]) -> str:
        return f"{block['opening']}{example(vectors, block['path'])}\n```"

    return _BLOCK.sub(written, page)


def examples_in(page: str) -> list[str]:
    """The paths of all examples in the page."""
    return [block["path"] for block in _BLOCK.finditer(page)]


if __name__ == "__main__":
    everything = make_vectors()
    VECTORS.write_text(render(everything), "utf-8")
    PAGE.write_text(fill_in(PAGE.read_text("utf-8"), everything), "utf-8")

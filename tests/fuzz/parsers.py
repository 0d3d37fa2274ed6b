"""Coverage-guided fuzzing of every parser that reads bytes of others (`make fuzz-parsers`; libFuzzer through Atheris).

    python tests/fuzz/parsers.py note -runs=1000000

A parser either refuses with a `ProtocolError` or reads what it would write again byte for byte. Anything else, and
anything that takes longer than a second, is a finding; libFuzzer leaves the input in a file. The seeds are the worked
examples of docs/protocol-vectors.json.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sharing_protocol"]):
    from sharing_protocol import (
        checkpoints,
        envelope,
        evidence,
        log_export,
        notes,
        record_proof,
        request_signing,
        statements,
        strict_json,
        tiles,
        tlog_proof,
        witness_policy,
    )
    from sharing_protocol.errors import ProtocolError, Refused
    from sharing_protocol.keys import PublicKey
    from sharing_protocol.statements import Statement, Unknown

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "protocol-vectors.json").read_text())
EXAMPLE_KEYS = {entry["key_id"]: PublicKey.parse(entry["public_key"]) for entry in VECTORS["keys"]}


def read_json(data: bytes) -> None:
    value = strict_json.loads(data)
    assert strict_json.loads(strict_json.dumps(value)) == value


def read_envelope(data: bytes) -> None:
    assert envelope.parse(data).encode() == data


def read_statement(data: bytes) -> None:
    """What is known to be strict JSON already is read the same without looking again."""
    strict_json.loads(data)
    first, again = (_outcome(data, is_strict) for is_strict in (False, True))
    assert first == again
    if isinstance(first, str):
        return
    statement = first
    if not isinstance(statement, Unknown):
        assert statements.parse(statements.encode(statement)) == statement


def _outcome(data: bytes, is_strict: bool) -> Statement | Unknown | str:
    """The statement, or why there is none."""
    try:
        return statements.parse(data, is_strict=is_strict)
    except ProtocolError as refusal:
        return f"{type(refusal).__name__}: {refusal}"


def read_note(data: bytes) -> None:
    note = notes.parse(data)
    assert str(note).encode() == data
    checkpoint = checkpoints.parse_text(note.text)
    assert checkpoint.text == note.text


def read_verifier_key(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert str(notes.VerifierKey.parse(text)) == text


def read_bundle(data: bytes) -> None:
    width = 1 + data[0] if data else 1
    assert tiles.encode_bundle(tiles.decode_bundle(data[1:], width)) == data[1:]


def read_tile_path(data: bytes) -> None:
    path = data.decode("utf-8", "surrogateescape")
    assert tiles.parse_path(path).path == path


def read_export(data: bytes) -> None:
    stream = io.BytesIO(data)
    header = log_export.read_header(stream.read)
    entries = list(log_export.read_entries(stream.read, header))
    assert header.encode() + b"".join(map(log_export.encode_entry, entries)) == data


def read_request(data: bytes) -> None:
    """The headers as lines; whatever the signature says, the URL is another one, so it cannot hold."""
    head, _, content = data.partition(b"\n\n")
    lines = (line.partition(b": ") for line in head.split(b"\n"))
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, _, value in lines]
    try:
        request_signing.verify_request("GET", "https://another.example/", headers, content, example_key, 1772366460)
    except ProtocolError:
        return
    raise AssertionError("a signature for one URL passed for another")


def read_policy(data: bytes) -> None:
    rule = witness_policy.parse(data)
    assert witness_policy.parse(str(rule).encode()) == rule


def read_tlog_proof(data: bytes) -> None:
    assert str(tlog_proof.parse(data)).encode() == data


def read_proof(data: bytes) -> None:
    """Whatever is accepted is the very file that proves the example."""
    genuine = VECTORS["record_proof"]["file"].encode()
    record_proof.verify(data, VECTORS["log"]["fingerprint"])
    assert data == genuine


def read_evidence(data: bytes) -> None:
    evidence.judge(evidence.parse(data), VECTORS["log"]["fingerprint"])


def example_key(key_id: str) -> PublicKey:
    if key_id not in EXAMPLE_KEYS:
        raise Refused("unknown_key", "no such key")
    return EXAMPLE_KEYS[key_id]


POLICY = b"""log forum.example/log+58fe8b3c+AZsfhHkc/HZjBFhU04netcqVRJ2HXydqg4QLBgqznPxx
witness w forum.example/log+386daa8a+BHI3XxcfCR2TjeOOVcGEVCGHhvzeATEcPV0eYKNSRbf3
group g 1 w
quorum g
"""


def entries() -> list[bytes]:
    return [entry.encode() for entry in VECTORS["log"]["entries"]]


def requests() -> Iterable[bytes]:
    for request in VECTORS["requests"]:
        yield f"{request['headers'].strip()}\n\n{request['content']}".encode()


def export() -> bytes:
    header = log_export.ExportHeader(0, VECTORS["log"]["checkpoint"])
    return header.encode() + b"".join(map(log_export.encode_entry, entries()))


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterable[bytes]]]] = {
    "json": (read_json, lambda: [base64.b64decode(json.loads(entry)["payload"]) for entry in entries()]),
    "envelope": (read_envelope, entries),
    "statement": (read_statement, lambda: [base64.b64decode(json.loads(entry)["payload"]) for entry in entries()]),
    "note": (read_note, lambda: [VECTORS["log"]["checkpoint"].encode()]),
    "verifier-key": (read_verifier_key, lambda: [VECTORS["log"]["identity"]["log_key"].encode()]),
    "bundle": (read_bundle, lambda: [bytes([len(entries()) - 1]) + tiles.encode_bundle(entries()), b"\1\0\1a\0\1b"]),
    "tile-path": (read_tile_path, lambda: [place["path"].encode() for place in VECTORS["tile_paths"]]),
    "export": (read_export, lambda: [export()]),
    "request": (read_request, requests),
    "witness-policy": (read_policy, lambda: [POLICY, b"majority\n", b"2 of members\n"]),
    "proof": (read_proof, lambda: [VECTORS["record_proof"]["file"].encode()]),
    "tlog-proof": (read_tlog_proof, lambda: [VECTORS["tlog_proof"].encode()]),
    "evidence": (read_evidence, lambda: [case["file"].encode() for case in VECTORS["evidence"]]),
}


def main() -> None:
    name, *options = sys.argv[1:]
    read, seeds = TARGETS[name]

    def one(data: bytes) -> None:
        try:
            read(data)
        except ProtocolError:
            return

    with tempfile.TemporaryDirectory(prefix="stillwatch-fuzz-") as corpus:
        for number, seed in enumerate(seeds()):
            one(seed)
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        limits = ["-timeout=1", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0", "-max_len=8192"]
        atheris.Setup([sys.argv[0], corpus, *limits, *options], one)
        atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(TARGETS))
    else:
        main()

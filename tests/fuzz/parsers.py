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
        log_export,
        notes,
        request_signing,
        statements,
        strict_json,
        tiles,
    )
    from sharing_protocol.errors import ProtocolError, Refused
    from sharing_protocol.keys import PublicKey
    from sharing_protocol.statements import Unknown

VECTORS = json.loads((Path(__file__).parents[2] / "docs" / "protocol-vectors.json").read_text())
EXAMPLE_KEYS = {entry["key_id"]: PublicKey.parse(entry["public_key"]) for entry in VECTORS["keys"]}


def read_json(data: bytes) -> None:
    value = strict_json.loads(data)
    assert strict_json.loads(strict_json.dumps(value)) == value


def read_envelope(data: bytes) -> None:
    assert envelope.parse(data).encode() == data


def read_statement(data: bytes) -> None:
    statement = statements.parse(data)
    if not isinstance(statement, Unknown):
        assert statements.parse(statements.encode(statement)) == statement


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


def example_key(key_id: str) -> PublicKey:
    if key_id not in EXAMPLE_KEYS:
        raise Refused("unknown_key", "no such key")
    return EXAMPLE_KEYS[key_id]


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

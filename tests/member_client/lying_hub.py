"""A real HTTP server that speaks the log's protocol from memory, and lies when it is told to.

It serves whatever entries it is given, right or wrong, under a checkpoint signed with the real log keys: an operator
who holds the keys and the database is the strongest liar there is.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from sharing_protocol import checkpoints, notes, wire
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.merkle import leaf_hash, root_from_leaves
from sharing_protocol.tiles import TILE_WIDTH, Bundle, GrowingTree, Tile, encode_bundle, parse_path
from tests.protocol.forum_log import LOG_KEY, ORIGIN, TIMESTAMP_KEY


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.0


Lie = Callable[[str, Answer], Answer]


def truth(path: str, answer: Answer) -> Answer:
    """Change nothing."""
    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed is no error here
            super().handle_error(request, client_address)  # type: ignore[arg-type] # what it is, it only prints


class LyingHub:
    """Serves `entries` as a log of the test forum.

    Attributes:
        entries: the log's entries; append to let it grow.
        shown: how many of them the checkpoint covers; None for all.
        clock: POSIX seconds that its timestamps say.
        lie: changes an answer before it is sent.
        cosigned: notes that it was sent, or that a test put there, the newest first.
        takes_cosignatures: what it answers to one that it is sent.
        reminded: checkpoints that members showed it.
        keys: the log key and the timestamp key that sign.
    """

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = list(entries)
        self.shown: int | None = None
        self.clock: Callable[[], float] = time.time
        self.lie: Lie = truth
        self.keys = LOG_KEY, TIMESTAMP_KEY
        self.requests: list[str] = []
        self.cosigned: list[str] = []
        self.takes_cosignatures = 200
        self.reminded: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for an ACK

            def do_GET(self) -> None:
                hub.requests.append(self.path)
                answer = hub.lie(self.path, hub.answer(self.path))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                try:
                    for start in range(0, len(answer.content), 1) if answer.drip_seconds else ():
                        time.sleep(answer.drip_seconds)
                        self.wfile.write(answer.content[start : start + 1])
                        self.wfile.flush()
                    if not answer.drip_seconds:
                        self.wfile.write(answer.content)
                except OSError:
                    self.close_connection = True

            def do_POST(self) -> None:
                hub.requests.append(f"POST {self.path}")
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, content = 404, b""
                if self.path == wire.COSIGNATURES:
                    status, content = hub.takes_cosignatures, b'{"tree_size": 0, "cosigned": 1}'
                    if status == 200:
                        hub.cosigned.insert(0, body.decode())
                if self.path == wire.CHECKPOINT:
                    hub.reminded.append(body.decode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def checkpoint(self, entries: list[bytes] | None = None, origin: str = ORIGIN) -> bytes:
        """A checkpoint over these entries, signed and timestamped with the log's own keys."""
        covered = self.entries[: self.shown] if entries is None else entries
        root = root_from_leaves(leaf_hash(entry) for entry in covered)
        note = checkpoints.sign(Checkpoint(origin, len(covered), root), self.keys[0])
        note = checkpoints.cosign(note, origin, self.keys[1], int(self.clock()))
        for other in map(notes.parse, (one.encode() for one in self.cosigned)):
            if other.text == note.text:
                note = note.signed_by(line for line in other.signatures if line.name != origin)
        return str(note).encode()

    def answer(self, path: str) -> Answer:
        """The honest answer to a GET."""
        if path.partition("?")[0] == "/checkpoint":
            return Answer(200, self.checkpoint())
        if path.partition("?")[0] == wire.COSIGNATURES:
            member = path.partition("member=")[2]
            shown = [note for note in self.cosigned if f"\u2014 {member}" in note]
            return Answer(200, wire.CosignedCheckpoints(checkpoints=shown).model_dump_json().encode())
        place = parse_path(path.removeprefix("/"))
        covered = self.entries[: self.shown]
        content = _bundle(covered, place) if isinstance(place, Bundle) else _tile(covered, place)
        return Answer(404) if content is None else Answer(200, content)


def _bundle(entries: list[bytes], place: Bundle) -> bytes | None:
    start = place.index * TILE_WIDTH
    held = entries[start : start + place.width]
    return encode_bundle(held) if len(held) == place.width else None


def _tile(entries: list[bytes], place: Tile) -> bytes | None:
    tree = GrowingTree()
    changed = tree.append(leaf_hash(entry) for entry in entries)
    hashes = changed.get((place.level, place.index), [])
    return b"".join(hashes[: place.width]) if len(hashes) >= place.width else None

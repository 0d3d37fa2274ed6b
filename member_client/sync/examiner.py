"""A process that verifies signatures while this one judges: a second core for a long sync.

Threads do not help there: libsodium releases the interpreter, but to get it back after every signature a thread waits
for whoever judges. What the process says of an entry depends on the entry and the keys alone, and is what this one
would find by the same functions; where the process fails, this one finds it itself.

It is asked by bundles, over a socket that it alone has the other end of: a message of public keys, then one of
entries, framed as in a bundle. For each entry it answers with a byte that says whether the payload is strict JSON, and
a byte for each signature that says whether it is by one of the keys and holds. It ends with the socket, so also when
this process is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from sharing_protocol import envelope as envelopes
from sharing_protocol import strict_json
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import PUBLIC_KEY_BYTES, verify_strictly
from sharing_protocol.tiles import decode_bundle, encode_bundle

MIN_ENTRIES = 4096
"""Less than this is done before a process has started."""
_PATIENCE_SECONDS = 60
"""For one bundle, which takes some hundredths of a second: a process that is stopped must not stop this one."""
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is so about one entry wherever it stands.

    Attributes:
        is_strict: whether `strict_json` takes the payload; also False where nobody has asked it.
        holds: for each signature, whether it is by one of the keys given and holds.
    """

    is_strict: bool
    holds: tuple[bool, ...]


class ExaminerGone(Exception):
    """The process does not run any more, or does not do what it should."""


class Examiner:
    """The process: asked for bundles, it answers in their order.

    One thread may ask while another takes the answers. Whoever asks waits until the process has taken the bundle; what
    it does not come to yet waits outside of it.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            ExaminerGone: it cannot be started.
        """
        # -P: the folder that a member happens to be in is no place to import from.
        command = [sys.executable, "-P", "-m", __name__]
        try:
            own_end, other_end = socket.socketpair()
            with own_end, other_end:
                for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                    own_end.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", _PATIENCE_SECONDS, 0))
                # In a group of its own: Ctrl-C is for this process, which then ends that one.
                self._process = subprocess.Popen(
                    [*command, str(other_end.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(other_end.fileno(),),
                    process_group=0,
                )
                self._connection = Connection(own_end.detach())
        except OSError as error:
            raise ExaminerGone(str(error)) from error

    def ask(self, entries: Sequence[bytes], keys: Iterable[bytes]) -> None:
        """Have entries, at most 65,535, looked at.

        Args:
            keys: public keys, 32 bytes each.

        Raises:
            ExaminerGone: nobody does it.
        """
        try:
            self._connection.send_bytes(b"".join(keys))
            self._connection.send_bytes(len(entries).to_bytes(2, "big") + encode_bundle(entries))
        except OSError as error:
            raise ExaminerGone(str(error)) from error

    def answer(self, signatures: Sequence[int]) -> list[Finding]:
        """What was found about the first entries asked for that were not answered yet.

        Args:
            signatures: how many each entry has, 0 for one that is no envelope.

        Raises:
            ExaminerGone: there is no such answer.
        """
        try:
            data = self._connection.recv_bytes(len(signatures) + sum(signatures))
        except (OSError, EOFError) as error:
            raise ExaminerGone(str(error)) from error
        if len(data) != len(signatures) + sum(signatures):
            raise ExaminerGone("its answer is about something else")
        findings, position = [], 0
        for count in signatures:
            end = position + 1 + count
            findings.append(Finding(bool(data[position]), tuple(map(bool, data[position + 1 : end]))))
            position = end
        return findings

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._connection.close()
        self._process.kill()
        self._process.wait(_END_SECONDS)


def is_worthwhile(entries: int) -> bool:
    """Whether a process would get through so many entries sooner: there have to be many, and a core that is free."""
    return entries >= MIN_ENTRIES and (os.cpu_count() or 1) > 1


def _look_at(entry: bytes, keys: dict[str, bytes]) -> bytes:
    try:
        signed = envelopes.parse(entry)
    except Malformed:
        return b"\x00"
    message = signed.signed_message
    found = [one.key_id in keys and verify_strictly(keys[one.key_id], message, one.value) for one in signed.signatures]
    try:
        strict_json.loads(signed.payload)
    except Malformed:
        return bytes([False, *found])
    return bytes([True, *found])


def _serve(connection: Connection) -> None:
    while True:
        raw = connection.recv_bytes()
        keys = {
            hashlib.sha256(key).hexdigest(): key
            for start in range(0, len(raw), PUBLIC_KEY_BYTES)
            if (key := raw[start : start + PUBLIC_KEY_BYTES])
        }
        asked = connection.recv_bytes()
        entries = decode_bundle(asked[2:], int.from_bytes(asked[:2], "big"))
        connection.send_bytes(b"".join(_look_at(entry, keys) for entry in entries))


if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):
        _serve(Connection(int(sys.argv[1])))

"""Processes that read and verify entries while this one judges them: all the cores for a long sync.

Threads do not help there: libsodium releases the interpreter, but to get it back after every signature a thread waits
for whoever judges. What such a process says of an entry depends on the entry and the keys alone, and is what this one
would find by the same functions; where one fails, this one finds it itself.

They are asked by bundles, in turn, each over a socket that it alone has the other end of: a message of public keys,
then one of entries, framed as in a bundle. The answer is a JSON array of one item for each entry. Most entries are
records that only their place can still refuse, and this process need not even open them: the item is an array of what
there is to know. Of any other entry it is a string of 0 and 1: whether the payload is strict JSON, and for each
signature whether it is by one of the keys and holds. They end with their sockets, so also when this process is killed.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import orjson

from member_client.sync.judged import Listing, listing_of
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements, strict_json
from sharing_protocol.admission import Claim, claim_of
from sharing_protocol.envelope import Envelope
from sharing_protocol.errors import Malformed, ProtocolError
from sharing_protocol.keys import PUBLIC_KEY_BYTES, verify_strictly
from sharing_protocol.statements import RecordStatement
from sharing_protocol.tiles import decode_bundle, encode_bundle

MIN_ENTRIES = 4096
"""Less than this is done before a process has started."""
PROCESSES = 2
"""Looking at an entry takes twice as long as judging it: more processes would wait for this one."""
_READY = b"ready"
_HELD_BETWEEN_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 60
"""For one bundle, which takes some hundredths of a second: a process that is stopped must not stop this one."""
_END_SECONDS = 5.0
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


_UNLISTED = 2
"""So many fields of a claim come first in an item; its others are also a listing's first, and said once."""
_MOST_ANSWERED = 8
"""Bytes of answer for one of entry: what is searched says a text again, whose lower case can be longer."""


class PlainRecord(NamedTuple):
    """An entry that only its place can still refuse: a record that refers to no other, with one signature, which holds.

    Attributes:
        claim: what its place decides on.
        listing: how it is listed if it is admitted.
    """

    claim: Claim
    listing: Listing


@dataclass(frozen=True, slots=True)
class Finding:
    """What is so about any other entry wherever it stands.

    Attributes:
        is_strict: whether `strict_json` takes the payload.
        holds: for each signature, whether it is by one of the keys given and holds.
    """

    is_strict: bool
    holds: tuple[bool, ...]


class ExaminerGone(Exception):
    """A process does not run any more, or does not do what it should."""


class Examiner:
    """The processes: asked for bundles, they answer in their order.

    One thread may ask while another takes the answers. Whoever asks waits until a process has taken the bundle; what
    they do not come to yet waits outside of them.
    """

    def __init__(self) -> None:
        """Start them.

        Raises:
            ExaminerGone: they cannot be started.
        """
        try:
            with contextlib.ExitStack() as stack:
                pairs = [socket.socketpair() for _ in range(PROCESSES)]
                for one in itertools.chain.from_iterable(pairs):
                    stack.enter_context(one)
                    # So that neither side waits for the other in the middle of a bundle, as far as the system allows.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _HELD_BETWEEN_BYTES)
                for own_end, _ in pairs:
                    for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                        own_end.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", _PATIENCE_SECONDS, 0))
                other_ends = [other_end.fileno() for _, other_end in pairs]
                self._end = (_forked if _may_fork() else _started)(other_ends)
                self._connections = [Connection(own_end.detach()) for own_end, _ in pairs]
        except OSError as error:
            raise ExaminerGone(str(error)) from error
        self._to_ask, self._to_answer = itertools.cycle(self._connections), itertools.cycle(self._connections)
        self._starting = list(self._connections)

    def is_ready(self) -> bool:
        """Whether all processes have started; for whoever asks, before anything is asked.

        Raises:
            ExaminerGone: one has not.
        """
        try:
            while self._starting and self._starting[-1].poll():
                if self._starting.pop().recv_bytes(len(_READY)) != _READY:
                    raise ExaminerGone("it does not say what it should")
        except (OSError, EOFError) as error:
            raise ExaminerGone(str(error)) from error
        return not self._starting

    def ask(self, entries: Sequence[bytes], keys: Iterable[bytes]) -> None:
        """Have entries, at most 65,535, looked at.

        Args:
            keys: public keys, 32 bytes each.

        Raises:
            ExaminerGone: nobody does it.
        """
        connection = next(self._to_ask)
        try:
            connection.send_bytes(b"".join(keys))
            connection.send_bytes(len(entries).to_bytes(2, "big") + encode_bundle(entries))
        except OSError as error:
            raise ExaminerGone(str(error)) from error

    def answer(self, entries: Sequence[bytes]) -> list[PlainRecord | Finding]:
        """What was found about these entries, the first asked for that were not answered yet.

        Raises:
            ExaminerGone: there is no such answer.
        """
        try:
            most = _MOST_ANSWERED * (sum(map(len, entries)) + 1024 * len(entries))
            data = next(self._to_answer).recv_bytes(most)
            items = orjson.loads(data)
        except (OSError, EOFError, orjson.JSONDecodeError) as error:
            raise ExaminerGone(str(error)) from error
        if not isinstance(items, list) or len(items) != len(entries):
            raise ExaminerGone("its answer is about something else")
        return [_finding(item) for item in items]

    def close(self) -> None:
        """End them, whatever they are doing."""
        for connection in self._connections:
            connection.close()
        self._end()


def is_worthwhile(entries: int) -> bool:
    """Whether processes would get through so many entries sooner: there have to be many, and a core that is free."""
    return entries >= MIN_ENTRIES and (os.cpu_count() or 1) > 1


def _may_fork() -> bool:
    """Whether this process has one thread alone, those of libraries counted, and may have such children."""
    if multiprocessing.current_process().daemon:
        return False
    try:
        return sys.platform == "linux" and len([*Path("/proc/self/task").iterdir()]) == 1
    except OSError:
        return False


def _forked(sockets: Sequence[int]) -> Callable[[], None]:
    """Fork one process for each of these sockets; return what ends them.

    Raises:
        OSError: they cannot be forked.
    """
    begun: list[multiprocessing.process.BaseProcess] = []

    def end() -> None:
        for process in begun:
            process.kill()
        for process in begun:
            process.join(_END_SECONDS)

    # What others have Python do at a fork must not be broken off, or a lock of theirs may never be free again; nor may
    # a handler of this process run in the other one.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        try:
            for one in sockets:
                process = multiprocessing.get_context("fork").Process(target=_serve_apart, args=(one,), daemon=True)
                process.start()
                begun.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:
        end()
        raise
    return end


def _started(sockets: Sequence[int]) -> Callable[[], None]:
    """Start this module anew, to share itself out among these sockets; return what ends all of it.

    Raises:
        OSError: it cannot be started.
    """
    # -P: the folder that a member happens to be in is no place to import from.
    # In a group of their own: Ctrl-C is for this process, which then ends them.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, *map(str, sockets)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=sockets,
        process_group=0,
    )

    def end() -> None:
        with contextlib.suppress(OSError):  # there may be none left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(_END_SECONDS)

    return end


def _finding(item: object) -> PlainRecord | Finding:
    if isinstance(item, list) and len(item) == _UNLISTED + len(Listing._fields):
        return PlainRecord(Claim(*item[: len(Claim._fields)]), Listing(*item[_UNLISTED:]))
    if isinstance(item, str) and item:
        return Finding(item[0] == "1", tuple(digit == "1" for digit in item[1:]))
    raise ExaminerGone("its answer makes no sense")


def _look_at(entry: bytes, keys: dict[str, bytes]) -> str | tuple[str | int | None, ...]:
    try:
        signed = envelopes.parse(entry)
    except Malformed:
        return "0"
    message = signed.signed_message
    holds = [one.key_id in keys and verify_strictly(keys[one.key_id], message, one.value) for one in signed.signatures]
    is_strict = _is_strict(signed.payload)
    if is_strict and holds == [True] and (plain := _plain_record(signed)) is not None:
        return (*plain.claim[:_UNLISTED], *plain.listing)
    return "".join("1" if one else "0" for one in (is_strict, *holds))


def _is_strict(payload: bytes) -> bool:
    try:
        strict_json.loads(payload)
    except Malformed:
        return False
    return True


def _plain_record(signed: Envelope) -> PlainRecord | None:
    signer = signed.signatures[0].key_id
    try:
        statement = statements.parse(signed.payload, is_strict=True)
        claim = claim_of(statement, signer)
    except ProtocolError:
        return None
    if claim is None or not isinstance(statement, RecordStatement):
        return None
    return PlainRecord(claim, listing_of(statement, signer))


def _share_out(sockets: Sequence[int]) -> int:
    """Become one process for each of these sockets, which it is given; what takes long to import is imported once."""
    own = sockets[0]
    for one in sockets[1:]:
        if os.fork() == 0:
            own = one
            break
    for other in sockets:
        if other != own:
            os.close(other)
    return own


def _serve_apart(own: int) -> None:
    """Serve in a fork: with this socket, and nothing else of what the process had open, or does when it ends."""
    try:
        os.setpgid(0, 0)  # Ctrl-C is for the process that forked this one, which then ends it
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
        gc.freeze()  # what is garbage of the other process, that one closes
        for other in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if other != own:
                with contextlib.suppress(OSError):  # the one by which they were listed
                    os.close(other)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)  # standard input and output, as the lowest numbers that are free
        _serve(Connection(own))
    finally:
        os._exit(0)


def _serve(connection: Connection) -> None:
    connection.send_bytes(_READY)
    while True:
        raw = connection.recv_bytes()
        keys = {
            hashlib.sha256(key).hexdigest(): key
            for start in range(0, len(raw), PUBLIC_KEY_BYTES)
            if (key := raw[start : start + PUBLIC_KEY_BYTES])
        }
        asked = connection.recv_bytes()
        entries = decode_bundle(asked[2:], int.from_bytes(asked[:2], "big"))
        connection.send_bytes(orjson.dumps([_look_at(entry, keys) for entry in entries]))


if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):
        _serve(Connection(_share_out([int(number) for number in sys.argv[1:]])))

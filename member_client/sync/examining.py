"""Finding out about entries what does not hang on the entries before: their form, and whose signatures hold.

Whether a signature's key may sign is decided later, in order (`judging`). A key's id is its hash, so a signature that
holds, holds wherever the key is registered.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain

from member_client.garbage import little_collecting
from member_client.sync.batches import Stretch, ahead
from member_client.sync.examiner import Examiner, ExaminerGone, Finding, PlainRecord, is_worthwhile
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import PublicKey
from sharing_protocol.membership import RegisteredKey
from sharing_protocol.statements import Statement, Unknown

Keys = Mapping[str, RegisteredKey]
"""By key id."""
STRETCHES_BEGUN_AHEAD = 8
_ENTRIES_A_TASK = 64
_TURN_SECONDS = 0.0003


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry's envelope, with what was found out about it.

    Attributes:
        signed: the envelope, or what is wrong with it.
        held: ids of the keys whose signatures on it hold.
        is_strict: whether `strict_json` is known to take the payload.
    """

    signed: Envelope | Malformed
    held: frozenset[str] = frozenset()
    is_strict: bool = False

    def check(self, key: PublicKey, signed: Envelope, signature: Signature) -> bool:
        """A `SignatureCheck` for this envelope that verifies nothing twice."""
        known = signature.key_id == key.key_id and key.key_id in self.held
        return known or key.verifies(signed.signed_message, signature.value)

    def read(self, signed: Envelope) -> Statement | Unknown:
        """`statements.parse` of this payload, without asking again what was asked already."""
        return statements.parse(signed.payload, is_strict=self.is_strict)


@dataclass(frozen=True, slots=True)
class Examined:
    """A stretch of the log, with what was found out about each of its entries."""

    stretch: Stretch
    findings: Sequence[PlainRecord | Opened]


class Examination:
    """How stretches are examined: by processes of their own in a long sync, else and until they run by threads."""

    def __init__(self, verifiers: ThreadPoolExecutor, examiner: Examiner | None) -> None:
        self._verifiers = verifiers
        self._examiner = examiner

    def examine(self, stretch: Stretch, keys: Keys) -> Examined:
        """Parse the envelopes, and verify in threads what these keys have signed."""
        return _examine(stretch, keys, self._verifiers)

    def examine_all(self, stretches: Iterator[Stretch], keys: Callable[[], Keys]) -> Generator[Examined]:
        """Examine one stretch after the other, by the keys that are known when it is drawn.

        They are drawn, and examined or sent to a process, in a thread of its own. What is left to do once the process
        has answered is done by whoever wants the next one: with two threads at it, one always waits for the other.
        """
        with closing(ahead(self._begun(stretches, keys), STRETCHES_BEGUN_AHEAD)) as begun:
            for one in begun:
                yield one if isinstance(one, Examined) else self._answer(*one)

    def _begun(
        self, stretches: Iterator[Stretch], keys: Callable[[], Keys]
    ) -> Iterator[Examined | tuple[Stretch, Keys, Examiner]]:
        for stretch in stretches:
            known = keys()
            examiner = self._asked(stretch, known)
            yield self.examine(stretch, known) if examiner is None else (stretch, known, examiner)

    def _asked(self, stretch: Stretch, keys: Keys) -> Examiner | None:
        """The processes, if they have started and have taken it; else the work is done here, and comes to the same."""
        examiner = self._examiner
        try:
            if examiner is None or not examiner.is_ready():
                return None
            examiner.ask(stretch.entries, (key.public_key.raw for key in keys.values()))
        except ExaminerGone:
            self._examiner = None
            return None
        return examiner

    def _answer(self, stretch: Stretch, keys: Keys, examiner: Examiner) -> Examined:
        if self._examiner is None:
            return self.examine(stretch, keys)
        try:
            findings = examiner.answer(stretch.entries)
        except ExaminerGone:
            self._examiner = None
            return self.examine(stretch, keys)
        return Examined(
            stretch,
            [
                found if isinstance(found, PlainRecord) else _open(entry, found)
                for entry, found in zip(stretch.entries, findings, strict=True)
            ],
        )


@contextmanager
def examination(entries: int) -> Iterator[Examination]:
    """Prepare for so many entries; what was started for it has ended after the block."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as verifiers, ExitStack() as stack:
        examiner = None
        if is_worthwhile(entries):
            with suppress(ExaminerGone):
                examiner = stack.enter_context(closing(Examiner()))
                stack.enter_context(_short_turns())
                stack.enter_context(little_collecting())
        yield Examination(verifiers, examiner)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let the threads that feed the process wait less for the one that judges: they have little to do, but often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _TURN_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def opened(entry: bytes) -> Opened:
    """An entry of which nothing is known yet."""
    try:
        return Opened(envelopes.parse(entry))
    except Malformed as error:
        return Opened(error)


def _open(entry: bytes, found: Finding) -> Opened:
    one = opened(entry)
    signatures = one.signed.signatures if isinstance(one.signed, Envelope) else ()
    if len(found.holds) != len(signatures):
        return one  # this is about something else
    held = (signature.key_id for signature, holds in zip(signatures, found.holds, strict=True) if holds)
    return replace(one, held=frozenset(held), is_strict=found.is_strict)


def _examine(stretch: Stretch, keys: Keys, verifiers: ThreadPoolExecutor) -> Examined:
    found = [opened(entry) for entry in stretch.entries]
    chunks = [found[start : start + _ENTRIES_A_TASK] for start in range(0, len(found), _ENTRIES_A_TASK)]

    def verify(chunk: list[Opened]) -> list[Opened]:
        return [_verified(one, one.signed, keys) if isinstance(one.signed, Envelope) else one for one in chunk]

    return Examined(stretch, [*chain.from_iterable(verifiers.map(verify, chunks))])


def _verified(one: Opened, signed: Envelope, keys: Keys) -> Opened:
    held = (
        signature.key_id
        for signature in signed.signatures
        if (key := keys.get(signature.key_id)) is not None
        and key.public_key.verifies(signed.signed_message, signature.value)
    )
    return replace(one, held=frozenset(held))

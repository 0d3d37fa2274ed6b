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
from dataclasses import dataclass
from itertools import chain

from member_client.sync.batches import Stretch, ahead
from member_client.sync.examiner import Examiner, ExaminerGone, Finding, is_worthwhile
from sharing_protocol import envelope as envelopes
from sharing_protocol import statements
from sharing_protocol.envelope import Envelope, Signature
from sharing_protocol.errors import Malformed
from sharing_protocol.keys import PublicKey
from sharing_protocol.membership import RegisteredKey
from sharing_protocol.statements import Statement, Unknown

Keys = Mapping[str, RegisteredKey]
"""By key id."""
_Held = tuple[bytes, str, bytes]
"""Of a signature that holds: the public key, the payload's hash, the signature."""
STRETCHES_BEGUN_AHEAD = 8
_SIGNATURES_A_TASK = 64
_TURN_SECONDS = 0.0003


@dataclass(frozen=True, slots=True)
class Examined:
    """A stretch of the log, with what was found out about its entries.

    Attributes:
        parsed: the envelopes, or what is wrong with them.
    """

    stretch: Stretch
    parsed: list[Envelope | Malformed]
    _held: frozenset[_Held]
    _strict: frozenset[str]

    def check(self, key: PublicKey, signed: Envelope, signature: Signature) -> bool:
        """A `SignatureCheck` that verifies nothing twice."""
        known = (key.raw, signed.payload_sha256, signature.value) in self._held
        return known or key.verifies(signed.signed_message, signature.value)

    def read(self, signed: Envelope) -> Statement | Unknown:
        """`statements.parse` of the payload, without asking again what was asked already."""
        return statements.parse(signed.payload, is_strict=signed.payload_sha256 in self._strict)


class Examination:
    """How stretches are examined: by a process of its own in a long sync, else by threads."""

    def __init__(self, verifiers: ThreadPoolExecutor, examiner: Examiner | None) -> None:
        self._verifiers = verifiers
        self._examiner = examiner

    def examine(self, stretch: Stretch, keys: Keys) -> Examined:
        """Parse the envelopes, and verify in threads what these keys have signed."""
        return _examine(stretch, keys, self._verifiers)

    def examine_all(self, stretches: Iterator[Stretch], keys: Callable[[], Keys]) -> Generator[Examined]:
        """Examine one stretch after the other, by the keys that are known when it is drawn.

        They are drawn, and examined or sent to the process, in a thread of its own. What is left to do once the process
        has answered is done by whoever wants the next one: with two threads at it, one always waits for the other.
        """
        with closing(ahead(self._begun(stretches, keys), STRETCHES_BEGUN_AHEAD)) as begun:
            for one in begun:
                yield one if isinstance(one, Examined) else self._answer(*one)

    def _begun(
        self, stretches: Iterator[Stretch], keys: Callable[[], Keys]
    ) -> Iterator[Examined | tuple[Stretch, Keys, Examiner]]:
        for stretch in stretches:
            known, examiner = keys(), self._examiner
            if examiner is None:
                yield self.examine(stretch, known)
                continue
            try:
                examiner.ask(stretch.entries, (key.public_key.raw for key in known.values()))
            except ExaminerGone:
                self._examiner = None  # the work is done here, and comes to the same
            yield stretch, known, examiner

    def _answer(self, stretch: Stretch, keys: Keys, examiner: Examiner) -> Examined:
        if self._examiner is None:
            return self.examine(stretch, keys)
        parsed = [_parse(entry) for entry in stretch.entries]
        try:
            findings = examiner.answer([len(_signatures(signed)) for signed in parsed])
        except ExaminerGone:
            self._examiner = None
            return self.examine(stretch, keys)
        return _found_elsewhere(stretch, parsed, findings, keys)


@contextmanager
def examination(entries: int) -> Iterator[Examination]:
    """Prepare for so many entries; what was started for it has ended after the block."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as verifiers, ExitStack() as stack:
        examiner = None
        if is_worthwhile(entries):
            with suppress(ExaminerGone):
                examiner = stack.enter_context(closing(Examiner()))
                stack.enter_context(_short_turns())
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


def _examine(stretch: Stretch, keys: Keys, verifiers: ThreadPoolExecutor) -> Examined:
    parsed = [_parse(entry) for entry in stretch.entries]
    work = [
        (signed, signature)
        for signed in parsed
        if isinstance(signed, Envelope)
        for signature in signed.signatures
        if signature.key_id in keys
    ]
    chunks = [work[start : start + _SIGNATURES_A_TASK] for start in range(0, len(work), _SIGNATURES_A_TASK)]

    def verify(chunk: list[tuple[Envelope, Signature]]) -> list[_Held]:
        return [
            (key.raw, signed.payload_sha256, signature.value)
            for signed, signature in chunk
            if (key := keys[signature.key_id].public_key).verifies(signed.signed_message, signature.value)
        ]

    return Examined(stretch, parsed, frozenset(chain.from_iterable(verifiers.map(verify, chunks))), frozenset())


def _found_elsewhere(
    stretch: Stretch, parsed: list[Envelope | Malformed], findings: list[Finding], keys: Keys
) -> Examined:
    held = (
        (keys[signature.key_id].public_key.raw, signed.payload_sha256, signature.value)
        for signed, finding in zip(parsed, findings, strict=True)
        if isinstance(signed, Envelope)
        for signature, holds in zip(signed.signatures, finding.holds, strict=True)
        if holds
    )
    strict = (
        signed.payload_sha256
        for signed, finding in zip(parsed, findings, strict=True)
        if isinstance(signed, Envelope) and finding.is_strict
    )
    return Examined(stretch, parsed, frozenset(held), frozenset(strict))


def _parse(entry: bytes) -> Envelope | Malformed:
    try:
        return envelopes.parse(entry)
    except Malformed as error:
        return error


def _signatures(signed: Envelope | Malformed) -> Sequence[Signature]:
    return signed.signatures if isinstance(signed, Envelope) else ()

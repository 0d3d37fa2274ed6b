"""Bringing the local store up to the hub's newest checkpoint, believing nothing on the way.

`follow` is the order of the design's rule 5, each step one call: checkpoint signature and origin (`handing_over`),
freshness, consistency with the last checkpoint believed and with every receipt, then batch by batch every entry into
the signed root, its statement, its authority, its version chain. A batch and the cursor after it are one transaction.
Whatever fails leaves the last good state in force and its evidence on disk.

An entry that is rejected (`judging`) stops nothing. But an honest hub would not have sequenced it, so every run says
so, with evidence, until somebody was told: a hub cannot talk its way past it by failing at the right moment.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from member_client.errors import ClientError, HubUnreachable, InvalidInput, RefusedByHub, VerificationFailed
from member_client.sync.accusations import accusations, substantiate
from member_client.sync.batches import Stretch, verified_stretches
from member_client.sync.cosigning import Witness, WitnessReport
from member_client.sync.examining import Examination, Examined, examination
from member_client.sync.handing_over import Opened, open_newest
from member_client.sync.judging import REJECTED, judge_anew, judge_batch, put_back
from member_client.sync.promises import check_promises
from member_client.sync.quorum import Quorum, Rule, Witnessing, find_quorum, memberships_at
from member_client.sync.reading_ahead import ReadingAhead
from member_client.sync.store import MAX_LISTED, RefusedEntry, Store
from sharing_protocol import envelope as envelopes
from sharing_protocol.admission import Admission, admit
from sharing_protocol.checkpoints import parse_text
from sharing_protocol.errors import Fault, Malformed, Misbehaviour, ProtocolError
from sharing_protocol.keys import encode_base64
from sharing_protocol.log_excerpt import LoggedEntry
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.membership import Membership
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.notes import parse as parse_note
from sharing_protocol.statements import Found
from sharing_protocol.tiles import Bundle, VerifiedTree, decode_bundle
from sharing_protocol.trust import RETIRED_KEY, TrustedCheckpoint, check_consistency, check_freshness
from sharing_protocol.wire import HALTED, Receipt

if TYPE_CHECKING:
    from member_client.hub_connection import HubConnection

BUNDLES_PER_BATCH = 8
BATCH_BYTES = 8 * 1024 * 1024
"""A batch is closed once it holds so much; one bundle can hold twice that."""

KeepEvidence = Callable[[Misbehaviour, Sequence[LoggedEntry]], Path]
"""Given what was found, and the forum's own entries, as far as they are known: they make the evidence checkable."""
Progress = Callable[[int, int], None]
"""Told `(entries stored, entries there are)` after every batch."""


@dataclass(slots=True)
class SyncReport:
    """What a run did.

    Attributes:
        previous: entries stored before.
        cursor: entries stored now.
        checkpoint_age: seconds since the log vouched for its newest checkpoint.
        refused: entries without effect here that nobody was told of yet, rejected ones first, at most `MAX_LISTED`.
        counts: how many of them there are in all, by verdict.
        evidence: files that prove the hub let a rejected entry through.
        interruption: why the run ended early although it has rejected entries to report, or None.
        skew: seconds by which the hub's newest timestamp is ahead of this machine's clock.
        waiting: which cosignatures the newest checkpoint lacks before this member's policy lets it be believed, in
            words; "" if it is.
        witness: what became of cosigning, None if that was not to be.
    """

    previous: int
    cursor: int
    checkpoint_age: float
    refused: list[RefusedEntry] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    evidence: list[Path] = field(default_factory=list)
    interruption: ClientError | None = None
    skew: float = 0.0
    waiting: str = ""
    witness: WitnessReport | None = None

    @property
    def rejected(self) -> list[RefusedEntry]:
        """The refused entries that an honest hub would not have sequenced."""
        return [entry for entry in self.refused if entry.verdict == REJECTED]


def follow(
    store: Store,
    hub: HubConnection,
    fingerprint: str,
    *,
    max_age: float,
    clock: Callable[[], float],
    keep_evidence: KeepEvidence,
    note: bytes | None = None,
    rule: Rule | None = None,
    witness: Witness | None = None,
    progress: Progress | None = None,
    bundles_per_batch: int = BUNDLES_PER_BATCH,
) -> SyncReport:
    """Fetch, verify and store everything up to the hub's newest checkpoint.

    Refused entries are in every report until `acknowledge`.

    Args:
        fingerprint: the pinned forum.
        max_age: seconds after which a checkpoint is stale.
        clock: POSIX seconds.
        note: the checkpoint that the hub has just answered with, not yet verified; by default it is asked for.
        rule: whose cosignatures a checkpoint needs before it is believed.
        witness: is held to what it cosigned before, and cosigns the newest checkpoint.

    Raises:
        VerificationFailed: the hub lied; nothing after the last good batch was stored.
        HubUnreachable, RefusedByHub: no usable answer.
        InvalidInput: the local store belongs to another forum, or is damaged.
    """
    record: Sequence[LoggedEntry] = ()
    trusted: TrustedCheckpoint | None = None
    tree: VerifiedTree | None = None
    witness = witness or Witness(hub)
    last_good = store.trusted()
    report = SyncReport(store.cursor, store.cursor, 0.0, witness=witness.report)
    try:
        if store.is_of_other_understanding:
            with examination(store.cursor) as judging:
                judge_anew(store, judging)
        logs, record = _known_keys(store, hub, fingerprint)
        opened = _newest(store, hub, note, logs, record, fingerprint, witness)
        trusted, record, logs = opened.trusted, opened.record, opened.logs
        report.skew = trusted.timestamp - clock()
        check_freshness(trusted, clock(), max_age)
        tree = VerifiedTree(trusted.checkpoint.size, trusted.checkpoint.root, hub.tile)
        check_consistency(last_good, trusted, tree)
        kept = check_promises(store, trusted, tree, logs)
        witness.check(trusted, tree, logs)
        witnessing = Witnessing(rule, clock(), max_age) if rule is not None else None
        quorum = _find_quorum(store, hub, trusted, tree, logs, witness, witnessing)
        believed, report.waiting = quorum.checkpoint, quorum.missing
        if believed is None:
            return report
        if believed.checkpoint != trusted.checkpoint:
            tree, kept = VerifiedTree(believed.checkpoint.size, believed.checkpoint.root, hub.tile), []
        _judge_up_to(store, hub, tree, believed, logs, fingerprint, progress, bundles_per_batch)
        with store.transaction():
            store.advance(fingerprint, believed, store.cursor)
            store.settle_receipts(kept)
        witness.cosign(trusted, logs, store.membership())
        report.checkpoint_age = clock() - believed.timestamp
    except Misbehaviour as misbehaviour:
        if trusted is not None and "new_checkpoint" not in misbehaviour.evidence:
            misbehaviour.evidence.setdefault("checkpoint", trusted.note)
        substantiate(store, misbehaviour, tree)
        if misbehaviour.fault in (Fault.ROLL_BACK, Fault.FORK):
            _remind(store, hub, witness)
        if misbehaviour.code == RETIRED_KEY and store.cursor != report.previous:
            put_back(store, report.previous, last_good)
        raise VerificationFailed(misbehaviour, keep_evidence(misbehaviour, record)) from misbehaviour
    except (HubUnreachable, RefusedByHub) as error:
        if isinstance(error, HubUnreachable) and error.reason in HALTED:
            _remind(store, hub, witness)
        if not store.count_refused(store.reported).get(REJECTED):
            raise
        report.interruption = error
    _report_refused(store, report, max(record, store.forum_record(), key=len), keep_evidence)
    return report


def _judge_up_to(
    store: Store,
    hub: HubConnection,
    tree: VerifiedTree,
    believed: TrustedCheckpoint,
    logs: LogHistory,
    fingerprint: str,
    progress: Progress | None,
    bundles_per_batch: int,
) -> None:
    """Fetch, verify, judge and store every entry of the tree that is not stored yet."""
    with (
        examination(tree.size - store.cursor) as examining,
        closing(verified_stretches(store, hub, tree)) as stretches,
        closing(_examined(stretches, store, examining)) as examined,
    ):
        for batch in _in_batches(examined, bundles_per_batch):
            judge_batch(store, batch, fingerprint, believed, logs)
            if progress is not None:
                progress(store.cursor, tree.size)


def _examined(stretches: Iterator[Stretch], store: Store, examining: Examination) -> Generator[Examined]:
    """Every stretch with what can be found out about it while the ones before are judged."""
    keys = store.membership().keys
    if not keys and (first := next(stretches, None)) is not None:
        # Nobody is known whose signatures could be verified: who is registered there is looked up before it is judged.
        reading = ReadingAhead(store)
        for index, (entry, leaf) in enumerate(zip(first.entries, first.leaves, strict=True), first.start):
            reading.take(index, entry, leaf)
        keys, stretches = reading.membership.keys, chain([first], stretches)
    with closing(examining.examine_all(stretches, lambda: keys)) as examined:
        for one in examined:
            yield one
            keys = store.membership().keys


def _in_batches(examined: Iterable[Examined], most: int) -> Iterator[list[Examined]]:
    batch: list[Examined] = []
    held = 0
    for one in examined:
        batch.append(one)
        held += sum(map(len, one.stretch.entries))
        if len(batch) >= most or held >= BATCH_BYTES or one.stretch.start == 0:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _newest(
    store: Store,
    hub: HubConnection,
    note: bytes | None,
    logs: LogHistory,
    record: Sequence[LoggedEntry],
    fingerprint: str,
    witness: Witness,
) -> Opened:
    """The hub's newest checkpoint; what it answered before another run of this home went further is no news."""
    if note is not None:
        opened, believed = open_newest(note, logs, record, store, hub, fingerprint), store.trusted()
        known = [parse_text(parse_note(text.encode()).text) for text in witness.remembered()]
        known += [believed.checkpoint] if believed is not None else []
        if all(checkpoint.size <= opened.trusted.checkpoint.size for checkpoint in known):
            return opened
    return open_newest(hub.checkpoint(), logs, record, store, hub, fingerprint)


def _find_quorum(
    store: Store,
    hub: HubConnection,
    newest: TrustedCheckpoint,
    tree: VerifiedTree,
    logs: LogHistory,
    witness: Witness,
    witnessing: Witnessing | None,
) -> Quorum:
    """What may be believed. Cosign first, or all witnesses would wait; by a key that was registered just now, too."""
    if witnessing is None:
        return Quorum(newest, "")  # and cosign at the end, once every entry is verified
    membership = store.membership()
    if not witness.is_registered(membership):
        membership = memberships_at(store, hub, tree, {tree.size})[tree.size]
    witness.cosign(newest, logs, membership)
    return find_quorum(store, hub, newest, tree, logs, witnessing)


def _remind(store: Store, hub: HubConnection, witness: Witness) -> None:
    """Show the hub what it signed: one that was restored from a backup does not know, and must not sign again."""
    trusted = store.trusted()
    known = [trusted.note] if trusted is not None else []
    known += [Receipt.model_validate_json(text).checkpoint for _, _, text in store.unsettled_receipts()]
    known += witness.remembered()
    if known:
        hub.show_checkpoint(max(known, key=lambda note: parse_text(parse_note(note.encode()).text).size))


def acknowledge(store: Store, report: SyncReport) -> None:
    """Note that a person or a scheduler was told of the refused entries of a complete run."""
    if report.interruption is None:
        with store.transaction():
            store.set_reported(report.cursor)


def _report_refused(
    store: Store, report: SyncReport, record: Sequence[LoggedEntry], keep_evidence: KeepEvidence
) -> None:
    report.cursor = store.cursor
    report.counts = store.count_refused(store.reported)
    rejected = store.refused(store.reported, REJECTED)
    others = [entry for entry in store.refused(store.reported) if entry.verdict != REJECTED]
    report.refused = [*rejected, *others][:MAX_LISTED]
    report.evidence = [keep_evidence(accusation, record) for accusation in accusations(store, rejected)]


def _known_keys(store: Store, hub: HubConnection, fingerprint: str) -> tuple[LogHistory, list[LoggedEntry]]:
    """The log's keys, and the forum's own entries, which name them.

    From the store, or at first contact from a founding statement that has the pinned hash.
    """
    if store.fingerprint not in (None, fingerprint):
        raise InvalidInput(f"the local store is of forum {store.fingerprint}", "use another --home for another forum")
    forum = store.membership().forum
    if forum is not None:
        if forum.fingerprint != fingerprint:
            raise InvalidInput(
                f"the local store is of forum {forum.fingerprint}", "move store.sqlite away and sync anew"
            )
        return forum.logs, store.forum_record()
    try:
        content, width = hub.bundle(Bundle(0, 1))
    except Misbehaviour as error:
        raise HubUnreachable("the hub serves no founding statement: its log is empty, or it hides it") from error
    evidence = {"bundle": encode_base64(content[:65_537])}
    try:
        founding = envelopes.parse(decode_bundle(content, width)[0])
        if founding.payload_sha256 != fingerprint:
            raise Malformed("wrong_forum", f"entry 0 founds forum {founding.payload_sha256}, not the pinned one")
        admission = admit(founding, 0, leaf_hash(founding.encode()).hex(), Membership(), store)
    except ProtocolError as error:
        raise Misbehaviour(Fault.FORGE, error.code, f"the founding statement: {error.detail}", evidence) from error
    if not isinstance(admission, Admission) or not isinstance(admission.statement, Found):
        raise Misbehaviour(Fault.FORGE, "not_founded", "entry 0 does not found a forum", evidence)
    return LogHistory.of(admission.statement.body.log), [LoggedEntry(0, founding.encode(), ())]

"""Which entries of the log a package needs: the incident's, what they name, what was said of that, and who may sign.

Of what has nothing to do with the incident, nothing is taken: whoever is shown a package has no business with it. No
lab makes every package too large:

- Of the incident's versions and acts, those with effect are taken, of which the timeline's rules bound how many one lab
  makes, and of each lab a few without (`incidents.steps_that_matter`).
- Of what is no longer the newest only what the incident names is taken; of what others said, what counts.
- If that is still too much, what is without effect is left out, and updates of other labs than the opener and the one
  that builds it, the latest first. What they named counts for nothing then.

How many of each lab were left out, the manifest says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from member_client.errors import HubUnreachable, InvalidInput, RefusedByHub
from member_client.feedback import voices
from member_client.incidents.reading import Story, read_story
from member_client.session import Session
from member_client.sync.excerpts import Excerpts
from member_client.sync.store import StoredVersion, state_of
from sharing_protocol import notes
from sharing_protocol.errors import Misbehaviour
from sharing_protocol.incidents import MAX_UPDATES, Step, steps_that_matter
from sharing_protocol.log_excerpt import MAX_ENTRIES, LoggedEntry
from sharing_protocol.notes import VerifierKey
from sharing_protocol.record_proof import own_signatures
from sharing_protocol.statements import Act, RecordReference
from sharing_protocol.trust import open_checkpoint
from sharing_protocol.witnesses import all_witnesses, open_cosigned

_FEWER = (MAX_UPDATES, 32, 16, 8, 4, 2, 1, 0)
"""Updates of each other lab that are taken, until that is few enough."""
_MAX_NOTES = 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """What a package is made of.

    Attributes:
        incident: its id.
        criteria: the version that is in force.
        note: the checkpoint with its cosignatures.
        entries: by rising index, with their proofs in the checkpoint's tree.
        left_out: by lab, how many versions and acts of the incident are not among them.
    """

    incident: str
    criteria: RecordReference
    note: str
    entries: tuple[LoggedEntry, ...]
    left_out: Mapping[str, int]


def select(session: Session, incident: str, criteria: StoredVersion, cosigned: Iterable[bytes] = ()) -> Selection:
    """Choose the entries and the checkpoint.

    Args:
        incident: its id.
        criteria: the version to hold it against.
        cosigned: checkpoint notes by the hub with witnesses' cosignatures, not verified.

    Raises:
        InvalidInput: the criteria are not in force; not all of the log is here; it would be too much for a package.
    """
    store = session.store
    trusted = store.trusted()
    if trusted is None or store.cursor != trusted.checkpoint.size:
        raise InvalidInput("not all of the log is stored here: the last sync was interrupted", "run `stillwatch sync`")
    if (state := state_of(criteria, session.membership, session.now)) != "active":
        raise InvalidInput(f"{criteria.id} version {criteria.version} is {state}", "use criteria that are in force")
    excerpts = Excerpts(store, trusted.checkpoint.size)
    notes_held, wanted = list(cosigned), set[int]()
    reference = RecordReference(id=criteria.id, version=criteria.version, entry=criteria.entry)
    for story, left_out in _ever_less(session, read_story(session, incident)):
        chosen = _records(session, story, criteria)
        labs = {one.author for one in chosen} | {session.settings.member}
        needed = {one.index for one in chosen} | set(excerpts.histories({session.forum.id, *labs}))
        note, witnesses = _checkpoint(session, excerpts, max(needed), notes_held)
        # A witness's own history is what says that the key in its cosignature is its own.
        wanted = needed | {index for index in excerpts.histories(witnesses) if index < note.size}
        if len(wanted) <= MAX_ENTRIES:
            entries = tuple(Excerpts(store, note.size).logged(wanted))
            return Selection(incident, reference, note.text, entries, dict(sorted(left_out.items())))
    raise InvalidInput(f"a package holds at most {MAX_ENTRIES:,} statements, and this takes at least {len(wanted):,}")


def cosigned_notes(session: Session) -> list[bytes]:
    """What the hub shows of witnesses' cosignatures; nothing if it cannot be asked."""
    try:
        with session.connect(attempts=1) as hub:
            return hub.cosigned_checkpoints()[:_MAX_NOTES]
    except (HubUnreachable, RefusedByHub):
        return []


def _ever_less(session: Session, whole: Story) -> Iterator[tuple[Story, dict[str, int]]]:
    """The story, with ever fewer updates by others; and by lab how many of its versions and acts are left out."""
    steps = whole.timeline(session.now).steps
    kept, left_out = steps_that_matter(steps)
    yield _only(whole, kept), left_out
    # Without an update that had effect, what had none might have some: so that goes first.
    with_effect = [step for step in steps if not step.without_effect]
    for most in _FEWER:
        taken, updates = list[Step](), Counter[str]()
        for step in with_effect:
            if step.action == Act.UPDATE and step.lab not in (session.settings.member, whole.first.author):
                updates[step.lab] += 1
                if updates[step.lab] > most:
                    continue
            taken.append(step)
        yield _only(whole, taken), dict(Counter(one.lab for one in steps) - Counter(one.lab for one in taken))


def _only(story: Story, steps: Iterable[Step]) -> Story:
    """The story of these steps alone."""
    taken = {step.index for step in steps}
    versions = tuple(one for one in story.versions if one.index in taken)
    return replace(story, versions=versions, acts=tuple(one for one in story.acts if one.index in taken))


def _records(session: Session, story: Story, criteria: StoredVersion) -> list[StoredVersion]:
    """The incident, its acts, what the timeline names, what became of that, and what is said of it now."""
    store, incident = session.store, story.first.id
    told = story.timeline(session.now)
    taken = {step.index for step in told.steps}
    own = [*store.versions(id=incident), *store.versions(type="incident_action", refers_to=incident)]
    chosen = [criteria, *(one for one in own if one.index in taken)]
    if told.protocol is not None:
        chosen += _from(store.versions(id=told.protocol.id), told.protocol, only=True)
    for reference in (*told.patterns, *told.sightings):
        chosen += _from(store.versions(id=reference.id), reference)
        chosen += store.versions(type="withdrawal", refers_to=reference.id)
    for reference in told.patterns:
        author = next(one.author for one in store.versions(id=reference.id))
        for voice in (*voices(session, "opinion", reference.id), *voices(session, "endorsement", reference.id)):
            # A pattern's own lab's endorsement counts for nothing, but can end a suspicion.
            if voice.state == "active" or (voice.version.author == author and voice.version.withdrawn_at is None):
                chosen.append(voice.version)
    return list({one.index: one for one in chosen}.values())


def _from(versions: Sequence[StoredVersion], reference: RecordReference, *, only: bool = False) -> list[StoredVersion]:
    """The version that is meant, and the newest; of what was withdrawn that says nothing more."""
    return [
        one
        for one in versions
        if one.version == reference.version or (one.version == one.newest and one.withdrawn_at is None and not only)
    ]


@dataclass(frozen=True, slots=True)
class _Chosen:
    text: str
    size: int


def _checkpoint(session: Session, excerpts: Excerpts, last: int, cosigned: Iterable[bytes]) -> tuple[_Chosen, set[str]]:
    """The checkpoint that most witnesses vouch for, of those that cover all that is needed; the larger of two equals.

    Returns:
        The note with the log's own lines and those of the witnesses, and the ids of these labs.
    """
    logs, store = session.forum.logs, session.store
    trusted = store.trusted()
    assert trusted is not None  # noqa: S101 - the caller has asked
    known = all_witnesses(session.membership)
    best: tuple[int, int] = (-1, 0)
    found: tuple[_Chosen, set[str]] | None = None
    by_text: dict[str, list[bytes]] = {}
    for data in [trusted.note.encode(), *cosigned]:
        try:
            checkpoint = open_checkpoint(data, logs).checkpoint
        except Misbehaviour:
            continue  # not vouched for, or not this log's: it is of no use here, and a sync is where it is examined
        if last < checkpoint.size <= store.cursor and excerpts.tree.root(checkpoint.size) == checkpoint.root:
            by_text.setdefault(checkpoint.text, []).append(data)
    for same in by_text.values():
        chosen, witnesses = _joined(session, same, known)
        if (len(witnesses), chosen.size) > best:
            best, found = (len(witnesses), chosen.size), (chosen, witnesses)
    if found is None:
        raise InvalidInput("the store's checkpoint does not cover its own entries", "run `stillwatch doctor`")
    return found


def _joined(session: Session, same: Sequence[bytes], known: Sequence[VerifierKey]) -> tuple[_Chosen, set[str]]:
    """One note of notes of one checkpoint: the log's own two lines, and each witness's newest."""
    logs = session.forum.logs
    opened = max((open_checkpoint(data, logs) for data in same), key=lambda one: one.timestamp)
    own = notes.parse(own_signatures(opened.note, logs.at(opened.checkpoint.size)).encode())
    newest: dict[VerifierKey, tuple[int, notes.NoteSignature]] = {}
    for line in {line: None for data in same for line in notes.parse(data).signatures}:
        try:
            times = open_cosigned(str(own.signed_by([line])).encode(), logs, known).times
        except Misbehaviour:
            continue  # whoever made that line, it vouches for nothing
        for key, time in times.items():
            if time > newest.get(key, (-1, line))[0]:
                newest[key] = (time, line)
    lines = [line for _, line in sorted(newest.values(), key=lambda one: one[1].line)]
    note = own.signed_by(lines[: notes.MAX_NOTE_SIGNATURES - 2])
    return _Chosen(str(note), opened.checkpoint.size), {key.name for key in newest}

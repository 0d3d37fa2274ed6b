"""Publishing playbooks of our own and their next versions: what is drafted, and when the log has it already."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from member_client.errors import InvalidInput
from member_client.patterns.finding import listing
from member_client.patterns.outbox import deliver
from member_client.patterns.submission import IN_FORCE, already, as_record, author_of, own_newest
from member_client.playbooks.cacao_writing import Origin, write
from member_client.playbooks.playbook_file import WrittenPlaybook
from member_client.publishing import Published, draft, first_version, next_version
from member_client.session import Session
from member_client.sync.store import Store, StoredVersion
from sharing_protocol.playbooks import read_workflow
from sharing_protocol.statements import Playbook, PlaybookBody, RecordStatement, new_id
from sharing_protocol.statements.header import parse_timestamp


def submit_playbook(session: Session, playbook: WrittenPlaybook) -> Published:
    """Publish a file as a new playbook; one that says the same as a playbook of ours in force is that playbook.

    Raises:
        ClientError: see `outbox.deliver`.
    """

    def write() -> RecordStatement | Published:
        for version in session.store.versions(type="playbook", newest_only=True):
            if version.author == session.settings.member and _says(session, version, playbook, dated=False):
                return already(version)
        record_id, now = new_id("playbook", uuid4()), session.now
        header = first_version(session, "playbook", author_of(session), now, record_id)
        return as_record(draft(header, "playbook", playbook.body(Origin(record_id, author_of(session), now, now))))

    return deliver(session, ("playbook submit", playbook.digest), write)


def revise_playbook(session: Session, record_id: str, playbook: WrittenPlaybook) -> Published:
    """Publish a file as the next version of our own playbook, unless the newest says exactly that.

    Args:
        record_id: or the beginning of it.

    Raises:
        ClientError: see `outbox.deliver`.
    """
    newest = own_newest(session, record_id, "playbook")

    def write() -> RecordStatement | Published:
        if _says(session, newest, playbook, dated=True):
            return already(newest)
        origin = Origin(newest.id, newest.author, _first_created(session, newest.id), session.now)
        header = next_version(session, newest.id, newest.author, session.now)
        return as_record(draft(header, "playbook", playbook.body(origin)))

    return deliver(session, ("playbook revise", newest.id, playbook.digest), write)


def playbook_of(store: Store, version: StoredVersion) -> PlaybookBody:
    """The body of a stored playbook version."""
    statement = store.record(version)
    if not isinstance(statement, Playbook):
        raise InvalidInput(f"{version.id} is not a playbook")
    return statement.body


def _first_created(session: Session, record_id: str) -> datetime:
    """When version 1 was written: CACAO keeps `created` through all versions (3.1)."""
    first = session.store.record(session.store.versions(id=record_id)[0])
    return parse_timestamp(first.created)


def _says(session: Session, version: StoredVersion, playbook: WrittenPlaybook, *, dated: bool) -> bool:
    if listing(version, session.membership, session.now).state not in IN_FORCE:
        return False
    body = playbook_of(session.store, version)
    left_out = {"cacao"} if dated else {"cacao", "valid_until"}
    if body.model_dump(exclude=left_out) != playbook.content.model_dump(exclude=left_out):
        return False
    # Written for the same record and time, the same steps are the same document.
    origin = Origin(version.id, version.author, session.now, session.now)
    return write(read_workflow(body.cacao), body.kind, origin) == write(playbook.workflow, body.kind, origin)

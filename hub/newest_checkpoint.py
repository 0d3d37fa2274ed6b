"""`newest-checkpoint` in the home: the largest checkpoint that a process of this home has published.

It is a lower bound and no more: other processes, with other homes, may have published later ones, and the last second
before a crash may be missing. But it does not lie in the database, so it is not rolled back with it.
"""

from pathlib import Path

from hub.errors import HubError
from hub.identity import HubIdentity
from hub.private_files import write_privately
from sharing_protocol import checkpoints, notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError, Refused

FILE = "newest-checkpoint"


class NewestCheckpointError(HubError):
    """The home's `newest-checkpoint` is unreadable, or not of this log."""

    def __init__(self, detail: str) -> None:
        super().__init__("newest_checkpoint", detail)


def own_checkpoint(identity: HubIdentity, data: bytes) -> tuple[Checkpoint, str]:
    """A checkpoint that this log's key signed, and its note with that signature alone.

    Raises:
        Malformed: it is none, or a signature of this log's key does not hold.
        Refused: `foreign_checkpoint`: another log's, or not signed by this log's key.
    """
    note = notes.parse(data)
    checkpoint = checkpoints.parse_text(note.text)
    verifier = identity.log_verifier
    if checkpoint.origin != identity.origin or not notes.verify(note, [verifier]):
        raise Refused("foreign_checkpoint", "this hub's log key did not sign that checkpoint")
    ours = [line for line in note.signatures if (line.name, line.key_id) == (verifier.name, verifier.key_id)]
    return checkpoint, str(notes.Note(note.text, tuple(ours[:1])))


def load(home: Path, identity: HubIdentity) -> tuple[Checkpoint, str] | None:
    """The checkpoint in the home and its note, None if none was kept yet.

    Raises:
        NewestCheckpointError: the file cannot be believed.
    """
    path = home / FILE
    try:
        return own_checkpoint(identity, path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NewestCheckpointError(f"{path} cannot be read: {error}") from error
    except ProtocolError as error:
        raise NewestCheckpointError(
            f"{path} is not what this hub wrote ({error.detail}); find out why, and ask the members how long the log "
            "is before you move that file away"
        ) from error


def save(home: Path, identity: HubIdentity, checkpoint: Checkpoint, note: str) -> None:
    """Keep a checkpoint, unless a larger one is kept: several processes may have one home."""
    kept = load(home, identity)
    if kept is None or kept[0].size < checkpoint.size:
        write_privately(home / FILE, note.encode())

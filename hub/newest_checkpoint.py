"""`newest-checkpoint` in the home: the largest checkpoint that a process of this home has published.

It is a lower bound and no more: other processes, with other homes, may have published later ones, and the last second
before a crash may be missing. But it does not lie in the database, so it is not rolled back with it.
"""

from pathlib import Path

from hub.errors import HubError
from hub.log_keys import LogKeys
from hub.private_files import write_privately
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError
from sharing_protocol.log_keys import LogHistory

FILE = "newest-checkpoint"


class NewestCheckpointError(HubError):
    """The home's `newest-checkpoint` is unreadable, or not of this log."""

    def __init__(self, detail: str) -> None:
        super().__init__("newest_checkpoint", detail)


def load(home: Path, keys: LogKeys, logs: LogHistory | None) -> tuple[Checkpoint, str] | None:
    """The checkpoint in the home and its note, None if none was kept yet; `logs` as for `LogKeys.own_checkpoint`.

    Raises:
        NewestCheckpointError: the file cannot be believed.
    """
    path = home / FILE
    try:
        return keys.own_checkpoint(logs, path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NewestCheckpointError(f"{path} cannot be read: {error}") from error
    except ProtocolError as error:
        raise NewestCheckpointError(
            f"{path} is not what this hub wrote ({error.detail}); find out why, and ask the members how long the log "
            "is before you move that file away"
        ) from error


def save(home: Path, keys: LogKeys, logs: LogHistory | None, checkpoint: Checkpoint, note: str) -> None:
    """Keep a checkpoint, unless a larger one is kept: several processes may have one home."""
    kept = load(home, keys, logs)
    if kept is None or kept[0].size < checkpoint.size:
        write_privately(home / FILE, note.encode())

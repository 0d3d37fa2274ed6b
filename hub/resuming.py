"""Letting a halted log go on, once it extends everything that is known to be published of it."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from hub import newest_checkpoint
from hub.database import halt_store, log_store
from hub.database.halt_store import Halt
from hub.directory import Directory
from hub.errors import HubError, LogDamaged
from hub.log_keys import LogKeys, history_of
from hub.rollback import extends
from sharing_protocol import notes
from sharing_protocol.checkpoints import Checkpoint
from sharing_protocol.errors import ProtocolError, Refused
from sharing_protocol.membership import Membership
from sharing_protocol.merkle import EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class Claim:
    """A checkpoint that the log's key signed, as somebody knows it.

    Attributes:
        who: a lab's or an admin's name, or where the checkpoint was found.
        holds: whether the log extends it.
        unknown_key: name and id of the key that it is said to be signed by, "" if that is one of the log's.
    """

    who: str
    size: int
    holds: bool
    unknown_key: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a log stands to what was published of it."""

    size: int
    halt: Halt | None
    claims: list[Claim]

    @property
    def unmet(self) -> list[Claim]:
        """What stands against going on."""
        return [claim for claim in self.claims if not claim.holds and not claim.unknown_key]

    @property
    def unproven(self) -> list[Claim]:
        """What would, if keys that are not here are the log's."""
        return [claim for claim in self.claims if claim.unknown_key]


async def examine(connection: AsyncConnection, keys: LogKeys, home: Path) -> Standing:
    """Compare the log with the home's newest checkpoint, with what members have shown, and with what halted it.

    Raises:
        LogDamaged: the log's newest checkpoint is not its own.
        NewestCheckpointError: the home's file cannot be believed.
    """
    found = Checkpoint(keys.origin, 0, EMPTY_ROOT)
    membership = await Directory(connection.engine).current(connection)
    logs = history_of(membership)
    newest = await log_store.read_checkpoint(connection)
    if newest is not None:
        try:
            found, _ = keys.own_checkpoint(logs, newest[1].encode())
        except ProtocolError as error:
            raise LogDamaged(f"the newest checkpoint is refused: {error.detail}") from error
    halt = await halt_store.read_halt(connection)
    known: list[tuple[str, Checkpoint]] = []
    kept = newest_checkpoint.load(home, keys, logs)
    if kept is not None:
        known.append((f"{newest_checkpoint.FILE} in the home", kept[0]))
    if halt is not None and halt.note is not None:
        known.append(("what halted the log", keys.own_checkpoint(logs, halt.note.encode())[0]))
    for report in await halt_store.read_reports(connection):
        known.append((_name(report.reporter, membership), keys.own_checkpoint(logs, report.note.encode())[0]))
    unproven: list[Claim] = []
    for report in await halt_store.read_unproven(connection):
        who, note = _name(report.reporter, membership), report.note.encode()
        try:
            known.append((who, keys.own_checkpoint(logs, note)[0]))  # its keys have been brought meanwhile
        except Refused:
            unproven.append(Claim(who, report.size, False, _signer_of(note)))
    claims = [Claim(who, shown.size, await extends(connection, found, shown)) for who, shown in known]
    return Standing(found.size, halt, claims + unproven)


def _signer_of(note: bytes) -> str:
    (line,) = notes.parse(note).signatures
    return f"{line.name}+{line.key_id.hex()}"


def _name(reporter: str, membership: Membership) -> str:
    name = membership.name_of(reporter)
    return f"{name}, an admin" if reporter in membership.keys else name


async def resume(connection: AsyncConnection, keys: LogKeys, home: Path, *, despite_unknown: bool = False) -> Standing:
    """Lift the halt, if nothing stands against it; the caller has checked the log as a whole.

    Args:
        despite_unknown: whether the operator takes what is unproven for no checkpoints of this log.

    Raises:
        HubError: `log_behind`, `unknown_log_key`: something was published, or may be, that the log does not extend.
    """
    await log_store.lock_log(connection)
    standing = await examine(connection, keys, home)
    refuse_if_behind(standing, despite_unknown=despite_unknown)
    await halt_store.lift_halt(connection)
    await connection.commit()
    return standing


def refuse_if_behind(standing: Standing, *, despite_unknown: bool = False) -> None:
    """See that nothing stands against going on; arguments and errors as for `resume`."""
    if standing.unmet:
        first = max(standing.unmet, key=lambda claim: claim.size)
        raise HubError(
            "log_behind",
            f"the log has {standing.size} entries and does not extend the {first.size} of which {first.who} has a "
            "signed checkpoint: get a `stillwatch log export` from a member and run `stillwatch-hub recover`",
        )
    if standing.unproven and not despite_unknown:
        first = max(standing.unproven, key=lambda claim: claim.size)
        raise HubError(
            "unknown_log_key",
            f"{first.who} shows a checkpoint of {first.size} entries by {first.unknown_key}, which is no key of this "
            "home: if the log's keys were exchanged after the backup, copy keys/ of a home that has them, and ask "
            "again; if the admins say that they were not, --despite-unknown-keys",
        )

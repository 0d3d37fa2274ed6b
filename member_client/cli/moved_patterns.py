"""What a sync says of patterns that stand elsewhere now than before it, by the lab's policy.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from member_client.errors import ClientError
from member_client.session import Session

if TYPE_CHECKING:
    from member_client.lifecycle.standing import Change

MAX_TOLD = 100


@dataclass(frozen=True, slots=True)
class Moved:
    """Where patterns stand now.

    Attributes:
        changes: the patterns whose stage or roll-out changed, in log order.
        problem: why nobody could tell how far patterns may go; "" if somebody could.
        shut_out: after a fall, how many accounts stay without access although their decision no longer blocks.
    """

    changes: tuple[Change, ...] = ()
    problem: str = ""
    shut_out: int = 0

    def document(self) -> dict[str, Any]:
        """For a script: those that fell first, of each kind the first hundred."""
        fell = [one for one in self.changes if one.is_demotion]
        rose = [one for one in self.changes if not one.is_demotion]
        return {
            "demoted": [_document(one) for one in fell[:MAX_TOLD]],
            "demoted_in_all": len(fell),
            "promoted": [_document(one) for one in rose[:MAX_TOLD]],
            "promoted_in_all": len(rose),
            "to_give_back": self.shut_out,
            "problem": self.problem or None,
        }

    def notices(self) -> list[str]:
        """What somebody should know, also if nothing else is to be said."""
        fell = [one for one in self.changes if one.is_demotion]
        found = [f"{_sentence(one)}: {one.why[0]}" if one.why else _sentence(one) for one in fell[:MAX_TOLD]]
        if len(fell) > MAX_TOLD:
            found.append(f"and {len(fell) - MAX_TOLD} more fell; `stillwatch policy list`")
        if self.shut_out:
            are = "account is" if self.shut_out == 1 else "accounts are"
            found.append(
                f"{self.shut_out:,} {are} still without access by a revocation whose decision no longer blocks: "
                "`stillwatch revocation list`"
            )
        return [*found, self.problem] if self.problem else found

    def news(self) -> list[str]:
        """Those that may do more than before, where that is more than to observe."""
        from member_client.lifecycle.standing import Stage

        rose = [one for one in self.changes if not one.is_demotion and one.after > Stage.SHADOW]
        more = [f"and {len(rose) - MAX_TOLD} more"] if len(rose) > MAX_TOLD else []
        return [*map(_sentence, rose[:MAX_TOLD]), *more]


def move(session: Session) -> Moved | None:
    """See how far each pattern may go now, and remember it; None if the home has no policy.toml.

    Whatever is wrong with that is told and stops nothing: what was synced is synced, and how far a pattern may go is
    computed anew by whoever acts on it.
    """
    if not session.home.lifecycle_policy.exists():
        return None
    from member_client.lifecycle import advance, read_policy  # a home without a policy need not load it

    try:
        changes = tuple(advance(session, read_policy(session.home), session.now))
    except ClientError as error:
        return Moved(problem=_problem(f"{error}{f' ({error.hint})' if error.hint else ''}"))
    except Exception as error:  # noqa: BLE001 - a fault in what follows a sync must not fail the sync
        return Moved(problem=_problem(f"{type(error).__name__}: {error}"))
    if not any(one.is_demotion for one in changes):
        return Moved(changes)
    try:
        return Moved(changes, shut_out=_shut_out(session))
    except Exception as error:  # noqa: BLE001 - the same
        return Moved(changes, f"whom to give access back was not looked at: {error}")


def _shut_out(session: Session) -> int:
    from member_client.revocation.journal import read_journal  # most homes never ended anybody's access

    if not (lines := read_journal(session.home)):
        return 0
    from member_client.revocation.authority import Decided
    from member_client.revocation.giving_back import to_give_back

    decided = Decided(session)
    try:
        return len({one.target.id for one in to_give_back(lines, decided.at_one_moment())})
    finally:
        decided.close()


def _problem(what: str) -> str:
    return f"how far patterns may go was not looked at: {what}"


def _sentence(one: Change) -> str:
    share = f" at {one.share_after} %" if one.share_after else ""
    verb = "fell" if one.is_demotion else "rose"
    return f"{one.title} ({one.id} version {one.version}) {verb} from {one.before} to {one.after}{share}"


def _document(one: Change) -> dict[str, Any]:
    return {
        "id": one.id,
        "version": one.version,
        "entry": one.entry,
        "title": one.title,
        "from": one.before,
        "to": one.after,
        "share": one.share_after,
        "why": [str(reason) for reason in one.why],
    }

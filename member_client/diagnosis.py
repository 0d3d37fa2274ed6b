"""Finding out what is wrong with a home, a store, a clock or a hub, and how to mend it."""

from __future__ import annotations

import sqlite3
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from member_client.errors import ClientError, HubUnreachable, InvalidInput, RefusedByHub, VerificationFailed
from member_client.session import Session
from sharing_protocol.errors import Misbehaviour
from sharing_protocol.merkle import CompactRange
from sharing_protocol.trust import check_freshness, open_checkpoint
from sharing_protocol.witnesses import all_witnesses

SKEW_SECONDS = 30.0
"""A difference of the clocks that is told of, before the hub refuses requests for it, at 60 s."""
_LEAVES_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `exit_code` is 0 when all is well, else what `stillwatch doctor` exits with."""

    check: str
    detail: str
    exit_code: int = 0
    mend: str = ""


def diagnose(session: Session) -> list[Finding]:
    """Run every check that makes sense after the ones before it."""
    checks: list[tuple[str, Callable[[Session], str]]] = [
        ("settings", _settings),
        ("permissions", _permissions),
        ("keys", _keys),
        ("store", _store),
        ("policy", _policy),
        ("witness", _witness),
        ("clock", _clock),
        ("hub", _hub),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name, check(session)))
        except ClientError as error:
            findings.append(Finding(name, str(error), error.exit_code, error.hint))
            if name == "settings":
                break
    return findings


def _settings(session: Session) -> str:
    settings = session.settings
    if not settings.forum:
        raise InvalidInput(
            "no forum is pinned", "ask an admin for its fingerprint, then run `stillwatch pin FINGERPRINT`"
        )
    return f"{settings.name}, hub {settings.hub}, forum {settings.forum[:16]}…"


def _permissions(session: Session) -> str:
    private = [session.home.path, session.home.keys, session.home.store, *session.home.keys.glob("*.pem")]
    for path in private:
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise InvalidInput(f"{path} is open to other users", f"run: chmod go-rwx {path}")
    return "only this user can read the home and its keys"


def _keys(session: Session) -> str:
    stored = session.keys.stored()
    if not stored:
        raise InvalidInput("there are no keys", "run `stillwatch key new`")
    known = session.membership.keys
    registered = [key for key in stored if key.public_key.key_id in known]
    in_force = [key for key in registered if known[key.public_key.key_id].revoked_at is None]
    if registered and not in_force:
        raise InvalidInput("every key of this home was revoked", "make new ones and have them registered")
    return f"{len(stored)} keys, {len(registered)} registered, {len(in_force)} in force"


def _store(session: Session) -> str:
    store = session.store
    try:
        damage = store.integrity()
    except sqlite3.Error as error:
        damage = str(error)
    if damage:
        raise InvalidInput(f"the store is damaged: {damage}", "move store.sqlite away and sync anew")
    trusted, cursor = store.trusted(), store.cursor
    if trusted is None:
        return "empty; nothing was synced yet"
    tree = CompactRange()
    for start in range(0, cursor, _LEAVES_AT_A_TIME):
        for leaf in store.leaves(start, min(start + _LEAVES_AT_A_TIME, cursor)):
            tree.append(leaf)
    if tree.size != cursor or (cursor == trusted.checkpoint.size and tree.root() != trusted.checkpoint.root):
        raise InvalidInput(
            "the stored entries do not hash to the stored checkpoint", "move store.sqlite away and sync anew"
        )
    return f"{cursor} entries, which hash to the checkpoint last believed"


def _policy(session: Session) -> str:
    from member_client.lifecycle import read_policy, standings  # every sync would pay for it

    policy = read_policy(session.home)
    if not policy.exists:
        return "no policy.toml, so patterns are only observed"
    counted = Counter(standing.stage for standing in standings(session, policy, session.now).values())
    stages = ", ".join(f"{count} {stage}" for stage, count in sorted(counted.items())) or "no patterns"
    return f"policy.toml: {stages}"


def _witness(session: Session) -> str:
    keys = session.witness_keys
    rule = session.rule()
    policy = f"; {'no policy' if rule is None else 'a policy'} for others' cosignatures"
    if not keys:
        return f"no witness key here, so this home cosigns nothing{policy}"
    in_force = set(all_witnesses(session.membership))
    if not any(key.verifier in in_force for key in keys):
        return f"the witness key is not registered, so this home cosigns nothing{policy}"
    last = max((known.checkpoint.size for key in keys if (known := key.last()) is not None), default=None)
    return f"{'nothing' if last is None else f'{last} entries'} cosigned so far{policy}"


def _clock(session: Session) -> str:
    forum = session.membership.forum
    try:
        with session.connect() as hub:
            note = hub.checkpoint()
        skew = open_checkpoint(note, forum.log).timestamp - session.clock() if forum is not None else 0.0
    except RefusedByHub as error:
        if error.problem.code == "stale_request":
            raise InvalidInput(
                f"the clocks differ: {error.problem.detail}", "set this machine's clock (NTP)"
            ) from error
        return "not compared: the hub refuses this home"
    except (HubUnreachable, Misbehaviour):
        return "not compared: the hub does not say what time it is"
    if abs(skew) > SKEW_SECONDS:
        raise InvalidInput(skew_notice(skew), "set this machine's clock (NTP)")
    return f"the hub's timestamps are {skew:+.0f} s from this clock"


def skew_notice(skew: float) -> str:
    """What a difference of the clocks means.

    Args:
        skew: seconds by which the hub's newest timestamp is ahead of this clock.
    """
    where = "behind the hub's" if skew > 0 else "ahead of the hub's, or its newest timestamp is old"
    about = abs(skew) // 10 * 10  # so that who follows is not told of every second
    return f"this machine's clock is about {about:.0f} s {where}: beyond 60 s the hub refuses every request"


def _hub(session: Session) -> str:
    forum = session.membership.forum
    try:
        with session.connect() as hub:
            note = hub.checkpoint()
    except RefusedByHub as error:
        if error.problem.code == "stale_request":
            raise InvalidInput("the hub refuses requests of this machine's time", "set its clock (NTP)") from error
        raise
    if forum is None:
        return "reachable, and it knows this home's key"
    try:
        trusted = open_checkpoint(note, forum.logs)
        check_freshness(trusted, session.clock(), session.settings.max_checkpoint_age)
    except Misbehaviour as misbehaviour:
        if misbehaviour.code == "unsigned_checkpoint":
            raise InvalidInput(
                "the hub's checkpoint is signed by keys that are not known here",
                "run `stillwatch sync`: it finds out whether the admins exchanged them or the hub lies",
            ) from misbehaviour
        raise VerificationFailed(misbehaviour, session.keep_evidence(misbehaviour)) from misbehaviour
    behind = trusted.checkpoint.size - session.store.cursor
    return f"reachable; {behind} entries to sync"

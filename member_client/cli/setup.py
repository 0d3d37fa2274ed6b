"""`stillwatch init`, `pin`, `status` and `doctor`."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from member_client.cli import output
from member_client.cli.output import (
    HomeOption,
    JsonOption,
    QrOption,
    open_session,
    say,
    say_fingerprint,
    typed_fingerprint,
)
from member_client.diagnosis import diagnose
from member_client.errors import InvalidInput
from member_client.forum import cards
from member_client.home import Settings, check_hub_url
from member_client.keystore import Keeper, ask_passphrase, check_keeper
from member_client.session import Session
from member_client.sync.store import state_of
from sharing_protocol.errors import Malformed
from sharing_protocol.fingerprints import words_of
from sharing_protocol.log_keys import mark_of
from sharing_protocol.membership import ADMIN_ROLE
from sharing_protocol.notes import parse as parse_note
from sharing_protocol.notes import verify as verify_note
from sharing_protocol.statements import Role, new_id
from sharing_protocol.trust import TrustedCheckpoint
from sharing_protocol.witness_policy import MembersRule
from sharing_protocol.witnesses import all_witnesses

PassphraseOption = Annotated[
    bool, typer.Option("--passphrase", help="Encrypt the keys; asked for, or from STILLWATCH_PASSPHRASE_FILE.")
]

KeysOption = Annotated[
    Keeper, typer.Option("--keys", help="Where private keys lie: in files of the home, or in the system's keyring.")
]
RequestFileOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the request to a file.", metavar="FILE")
]


def init(
    hub: Annotated[str, typer.Option(help="The hub's URL.")],
    name: Annotated[str, typer.Option(help="The lab's name, or the admin's with --admin.")],
    forum: Annotated[
        str, typer.Option(help="The forum's fingerprint, as the admins told you: hex digits or 24 words.")
    ] = "",
    admin: Annotated[bool, typer.Option("--admin", help="This home is a forum admin's, not a lab's.")] = False,
    member: Annotated[str, typer.Option(help="Another machine of a lab that exists: the lab's id.")] = "",
    role: Annotated[list[Role] | None, typer.Option(help="Which keys to make; all four by default.")] = None,
    passphrase: PassphraseOption = False,
    keep: KeysOption = Keeper.FILE,
    out: RequestFileOption = None,
    qr: QrOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a home: keys, settings, and the request to hand to the forum's admins."""
    session = open_session(home)
    if session.home.config.exists():
        raise InvalidInput(f"{session.home.path} is set up already", "use another --home, or `stillwatch key new`")
    forum = typed_fingerprint(forum) if forum else ""
    if qr and (as_json or not forum):
        raise InvalidInput("--qr shows the fingerprint of --forum, and goes without --json")
    if admin and (member or role):
        raise InvalidInput("--admin goes without --member and --role")
    if member and len(role or []) != 1:
        raise InvalidInput("another machine of a lab gets one key", "name it with --role, for instance --role sync")
    settings = Settings(check_hub_url(hub), forum, name, "" if admin else member or new_id("member", uuid4()))
    check_keeper(keep, encrypted=passphrase)
    secret = ask_passphrase("New passphrase for the keys: ") if passphrase else None
    roles = [ADMIN_ROLE] if admin else [kind.value for kind in role or list(Role)]
    cards.check_name(name)
    session.home.create()
    made = {kind: session.keys.create(kind, secret, keep) for kind in roles}
    session.home.save(settings)
    card: cards.JoinRequest | cards.AdminCard | cards.KeyRequest
    if admin:
        card = cards.admin_card(name, made[ADMIN_ROLE])
    else:
        keys = [cards.register(Role(kind), settings.member, key) for kind, key in made.items()]
        card = (
            cards.KeyRequest(member=settings.member, key=keys[0])
            if member
            else cards.JoinRequest(name=name, member=settings.member, keys=keys)
        )
    text = cards.write(card)
    if out is not None:
        out.write_text(text, "utf-8")
    mark = mark_of(card)
    if as_json:
        output.print_json(
            {
                "home": str(session.home.path),
                "member": settings.member,
                "request": card.model_dump(mode="json"),
                "mark": mark,
            }
        )
        return
    where = "the keyring" if keep is Keeper.KEYRING else str(session.home.keys)
    say(f"Made {', '.join(f'{kind} key' for kind in made)} in {where}", "green")
    if forum:
        say(f"Pinned to forum {forum}")
        say_fingerprint(forum, qr=qr)
    if out is None:
        say(text.rstrip())
    else:
        say(f"Request written to {out}")
    whom = "the lab's owner (stillwatch key add)" if member else "the forum's admins"
    say(f"Hand it to {whom}, and tell them its mark by another channel: {mark}")


def pin(
    forum: Annotated[
        list[str], typer.Argument(help="The forum's fingerprint, as the admins told you: hex digits or 24 words.")
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fix the forum that this home follows, once and for all; `init --forum` does the same."""
    settings = open_session(home).home.pin(typed_fingerprint(" ".join(forum)))
    if as_json:
        output.print_json({"forum": settings.forum})
    else:
        say(f"pinned to forum {settings.forum}", "green")
        say_fingerprint(settings.forum, qr=False)


def status(qr: QrOption = False, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say whose home this is, how far it has read, and what is in force; asks nobody."""
    session = open_session(home)
    document = _status(session)
    if qr and (as_json or not session.settings.forum):
        raise InvalidInput("--qr shows the pinned forum's fingerprint, and goes without --json")
    if as_json:
        output.print_json(document)
        return
    rows = [
        (name.replace("_", " "), _readable(name, value))
        for name, value in document.items()
        if name not in ("keys", "refused")
    ]
    output.table(["", ""], rows)
    output.table(
        ["key", "role", "registered"], [(key["key_id"][:16], key["role"], key["state"]) for key in document["keys"]]
    )
    if qr:
        say_fingerprint(session.settings.forum, qr=True)
    for entry in document["refused"]:
        say(f"entry {entry['index']} is {entry['verdict']}: {entry['reason']}", "yellow")


def _readable(name: str, value: Any) -> str:
    if isinstance(value, dict):
        if value and name == "checkpoint_cosigned_by":
            return ", ".join(f"{lab} {age} s ago" for lab, age in value.items())
        return ", ".join(f"{count} {what}" for what, count in value.items()) or "none"
    if value is None or value == "":
        return "-"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _status(session: Session) -> dict[str, Any]:
    settings, membership, store = session.settings, session.membership, session.store
    trusted = store.trusted()
    me = membership.members.get(settings.member)
    states = Counter(
        state_of(version, membership, session.now) for version in store.versions(type="pattern", newest_only=True)
    )
    return {
        "home": str(session.home.path),
        "name": settings.name,
        "role": "forum admin" if settings.is_admin else "lab",
        "member": settings.member,
        "membership": "-"
        if settings.is_admin
        else (me.status.value if me else "not admitted, as far as is known here"),
        "hub": settings.hub,
        "forum": settings.forum or "not pinned",
        "forum_in_words": words_of(settings.forum) if settings.forum else "",
        "entries": store.cursor,
        "checkpoint_size": trusted.checkpoint.size if trusted else 0,
        "checkpoint_age_seconds": int(session.clock() - trusted.timestamp) if trusted else None,
        "checkpoint_is_fresh": trusted is not None
        and session.clock() - trusted.timestamp <= settings.max_checkpoint_age,
        "checkpoint_cosigned_by": _cosigners(session, trusted),
        "witness_policy": _policy(session),
        "cosigned_here": max(
            (last.checkpoint.size for key in session.witness_keys if (last := key.last()) is not None), default=None
        ),
        "patterns": dict(states),
        "evidence_files": len(list(session.home.evidence.glob("*.json"))),
        "keys": [
            {"key_id": key.public_key.key_id, "role": key.role, "state": key_state(session, key.public_key.key_id)}
            for key in session.keys.stored()
        ],
        "refused": [
            {"index": entry.index, "verdict": entry.verdict, "code": entry.code, "reason": entry.reason}
            for entry in store.newest_refused(10)
        ],
    }


def _cosigners(session: Session, trusted: TrustedCheckpoint | None) -> dict[str, int]:
    """By the name of each lab that cosigned the newest believed checkpoint: how many seconds ago."""
    membership, found = session.membership, dict[str, int]()
    if trusted is None:
        return found
    note = parse_note(trusted.note.encode())
    for key in all_witnesses(membership):
        # One by one: a line that does not hold says nothing about the others.
        with contextlib.suppress(Malformed):
            for held in verify_note(note, [key]):
                age = int(session.clock() - (held.timestamp or 0))
                name = membership.members[key.name].name
                found[name] = min(age, found.get(name, age))
    return found


def _policy(session: Session) -> str:
    rule = session.rule()
    if rule is None:
        return "none"
    return str(rule) if isinstance(rule, MembersRule) else f"tlog-policy in {session.home.policy}"


def key_state(session: Session, key_id: str) -> str:
    """Where a key stands in the log, in words."""
    known = session.membership.keys.get(key_id)
    if known is None:
        return "not registered"
    return "in force" if known.revoked_at is None else f"revoked at entry {known.revoked_at}"


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check this home, its keys and store, the clock and the hub, and say how to mend what is wrong."""
    session = open_session(home)
    findings = diagnose(session)
    worst = next((finding for finding in findings if finding.exit_code), None)
    if as_json:
        output.print_json(
            [{"check": f.check, "ok": not f.exit_code, "detail": f.detail, "mend": f.mend} for f in findings]
        )
    else:
        for finding in findings:
            mark, style = ("ok  ", "green") if not finding.exit_code else ("FAIL", "bold red")
            say(f"{mark} {finding.check}: {finding.detail}", style)
            if finding.mend:
                say(f"     {finding.mend}")
    if worst is not None:
        raise typer.Exit(worst.exit_code)

"""`stillwatch witness`: whose cosignatures this home wants to see before it believes a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.errors import InvalidInput
from member_client.home import write_privately
from member_client.session import Session
from sharing_protocol import witness_policy
from sharing_protocol.errors import Malformed
from sharing_protocol.membership import Status
from sharing_protocol.witness_policy import MembersRule, Policy
from sharing_protocol.witnesses import witnesses_of

app = typer.Typer(help="Say whose cosignatures a checkpoint needs before it is believed here.", no_args_is_help=True)


@app.command("show")
def show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the policy, and every lab's witness keys: enough to write a tlog-policy of your own."""
    session = open_session(home)
    rule = session.rule()
    labs = _labs(session)
    text = str(rule) if rule is not None else "none"
    if as_json:
        output.print_json({"policy": text, "labs": labs})
        return
    say(f"policy: {text.rstrip()}")
    rows = [(lab["name"], lab["status"], "\n".join(lab["witness_keys"]) or "no witness key") for lab in labs]
    output.table(["lab", "", "witness keys"], rows)


@app.command("set")
def set_policy(
    rule: Annotated[str, typer.Argument(help="`majority`, `3 of members`, `none`, or a file with a C2SP tlog-policy.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the policy, in place of the one there was. It holds from the next sync on."""
    session = open_session(home)
    path = session.home.policy
    session.settings  # noqa: B018 - a folder that is no home must not get a policy
    if rule == witness_policy.NONE:
        path.unlink(missing_ok=True)
        text = rule
    else:
        found, data = _read(rule)
        write_privately(path, data)
        text = str(found)
    if as_json:
        output.print_json({"policy": text})
    else:
        say(f"from the next sync on a checkpoint needs: {text.rstrip()}", "green")


def _read(rule: str) -> tuple[Policy | MembersRule, bytes]:
    try:
        words = witness_policy.parse(rule.encode())
        if isinstance(words, MembersRule):
            return words, f"{words}\n".encode()
    except Malformed:
        pass  # then it is a file
    try:
        with Path(rule).open("rb") as file:
            data = file.read(witness_policy.MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise InvalidInput(
            f"{rule!r} is neither a rule nor a file that can be read: {error.strerror}",
            "say `majority`, `3 of members`, `none`, or name a file",
        ) from error
    return witness_policy.parse(data), data


def _labs(session: Session) -> list[dict[str, Any]]:
    membership = session.membership
    return [
        {
            "member": member.id,
            "name": member.name,
            "status": member.status.value,
            "witness_keys": [str(key) for key in witnesses_of(membership, member.id)],
        }
        for member in membership.members.values()
        if member.status is not Status.EXPELLED
    ]

"""A plan: whose access shall be revoked by which decisions. It is a list; making it changes nothing.

It names accounts, so it is written with mode 0600 and stays in the lab. What it says is only ever a wish: a run asks
again of each account, so an edited plan cannot reach an account that no decision in effect is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field, ValidationError

from member_client.decisions.model import Decision
from member_client.errors import InvalidInput
from member_client.revocation.authority import Decided, Target
from sharing_protocol import strict_json
from sharing_protocol.errors import Malformed
from sharing_protocol.statements.header import StrictModel, Timestamp, format_timestamp, new_id

MAX_TARGETS = 1_000_000
MAX_BYTES = 512 * 1024 * 1024

_MAKE_ONE = "`stillwatch revocation plan --all-approved -o PLAN` makes one"

_Id = Annotated[str, Field(min_length=1, max_length=256)]


class PlannedDecision(StrictModel):
    """A decision as it stood when the plan was made, for people to read."""

    id: _Id
    subject: Annotated[str, Field(max_length=400)]
    pattern: Annotated[str, Field(max_length=400)]
    approved_by: list[str]
    expires: Timestamp


class PlannedTarget(StrictModel):
    """Whose access."""

    decision: _Id
    kind: Literal["account", "organisation"]
    id: _Id


class Plan(StrictModel):
    """The file.

    Attributes:
        id: `revocation-plan--<uuid>`.
    """

    format: Literal["stillwatch-revocation-plan/1"]
    id: Annotated[str, Field(pattern=r"^revocation-plan--[0-9a-f-]{36}$")]
    created: Timestamp
    decisions: list[PlannedDecision]
    targets: Annotated[list[PlannedTarget], Field(max_length=MAX_TARGETS)]

    def encode(self) -> bytes:
        """Write it, a target a line."""
        head = self.model_dump(mode="json", exclude={"targets"})
        lines = b",\n".join(strict_json.dumps(one.model_dump(mode="json")) for one in self.targets)
        return strict_json.dumps(head)[:-1] + b',"targets":[\n' + lines + b"\n]}\n"


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and whom the decisions are about that it leaves out, with the reason."""

    plan: Plan
    left_out: tuple[tuple[Target, str], ...]


def make_plan(decided: Decided, decisions: Iterable[Decision]) -> Planned:
    """List whose access these decisions end, as of now; of one that several name, only the first."""
    named: list[PlannedDecision] = []
    targets: dict[tuple[str, str], PlannedTarget] = {}
    left_out = []
    moment = decided.moment()
    for decision in decisions:
        named.append(
            PlannedDecision(
                id=decision.id,
                subject=f"{decision.subject.kind} {decision.subject.id}"[:400],
                pattern=f"{decision.pattern_title} ({decision.pattern_id} version {decision.pattern_version})"[:400],
                approved_by=list(decision.approved_by),
                expires=decision.expires,
            )
        )
        judged = decided.judge(decision.id, moment)
        for target in judged.targets():
            why = judged.why_not(target)
            if not why and (target.kind, target.id) in targets:
                why = f"{targets[target.kind, target.id].decision} ends its access already"
            if why:
                left_out.append((target, why))
            else:
                made = PlannedTarget.model_validate({"decision": target.decision, "kind": target.kind, "id": target.id})
                targets[target.kind, target.id] = made
    if len(targets) > MAX_TARGETS:
        raise InvalidInput(f"a plan has at most {MAX_TARGETS:,} accounts, not {len(targets):,}", "name fewer decisions")
    plan = Plan(
        format="stillwatch-revocation-plan/1",
        id=new_id("revocation-plan", uuid4()),
        created=moment.now,
        decisions=named,
        targets=list(targets.values()),
    )
    return Planned(plan, tuple(left_out))


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        InvalidInput: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", _MAKE_ONE) from error
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{path} has more than {MAX_BYTES:,} bytes, which no plan has", _MAKE_ONE)
    try:
        strict_json.loads(data, str(path))
        return Plan.model_validate_json(data)
    except Malformed as error:
        raise InvalidInput(f"{path} is not a plan: {error.detail}", _MAKE_ONE) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"{path} is not a plan: {where}: {first['msg']}", _MAKE_ONE) from error


def described(plan: Plan) -> dict[str, object]:
    """The plan for scripts, without its accounts."""
    return {
        "id": plan.id,
        "created": format_timestamp(plan.created),
        "decisions": [one.model_dump(mode="json") for one in plan.decisions],
        "accounts": len(plan.targets),
    }

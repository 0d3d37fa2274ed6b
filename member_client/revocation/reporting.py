"""What became of a plan: counts, the undo list, and every account, for scripts and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from member_client.referral.document import Block, Heading, Items, Paragraph, Table, to_markdown
from member_client.revocation.giving_back import ToGiveBack
from member_client.revocation.journal import Line, What
from member_client.revocation.planning import Plan, described
from member_client.revocation.running import is_to_undo, states
from sharing_protocol.statements.header import format_timestamp

NOT_BEGUN = "not begun"
_WORDS = {
    What.BEGUN: "begun, not known whether done: run the plan again",
    What.DONE: "access revoked",
    What.FAILED: "failed: access may be revoked, run the plan again or undo it",
    What.HELD_BACK: "held back",
    What.UNDO_BEGUN: "giving back was begun: undo again",
    What.UNDONE: "access given back",
    What.UNDO_FAILED: "giving back failed: undo again",
    What.RELEASED: "undone, but another decision keeps the access revoked",
}


def report_document(plan: Plan, lines: Iterable[Line], owed: Sequence[ToGiveBack] | None = ()) -> dict[str, Any]:
    """For scripts: the plan, how many are in which state, and each account.

    Args:
        owed: who is shut out without reason, of any plan; None if that is not known.
    """
    found = states(plan, lines)
    accounts = [
        {
            "kind": target.kind,
            "id": target.id,
            "decision": target.decision,
            "state": line.what.value if line is not None else NOT_BEGUN,
            "at": line.at if line is not None else None,
            "plan": line.plan if line is not None else None,
            "idempotency_key": line.key if line is not None else None,
            "note": line.note if line is not None else "",
        }
        for target, line in found.items()
    ]
    counts = Counter(str(one["state"]) for one in accounts)
    undo = [target.id for target, line in found.items() if is_to_undo(plan, line)][::-1]
    back = [
        {"kind": one.target.kind, "id": one.target.id, "decision": one.target.decision, "why": one.why}
        for one in owed or ()
        if one.plan == plan.id
    ]
    return {
        **described(plan),
        "states": dict(sorted(counts.items())),
        "to_undo": undo,
        "to_give_back": None if owed is None else back,
        "targets": accounts,
    }


def report_markdown(plan: Plan, lines: Iterable[Line], owed: Sequence[ToGiveBack] | None = ()) -> str:
    """For people."""
    document = report_document(plan, lines, owed)
    blocks: list[Block] = [
        Heading(1, f"Access revocation {plan.id.partition('--')[2][:8]}"),
        Paragraph(f"Planned at {format_timestamp(plan.created)} for {len(plan.targets):,} accounts or organisations."),
        Items(tuple(f"{count:,} {_words(state)}" for state, count in document["states"].items()) or ("nothing to do",)),
        Heading(2, "Decisions"),
        Table(
            ("decision", "about", "pattern", "approved by", "until"),
            tuple(
                (one.id, one.subject, one.pattern, ", ".join(one.approved_by), format_timestamp(one.expires)[:10])
                for one in plan.decisions
            ),
        ),
        *_to_give_back(document["to_give_back"]),
        Heading(2, "Accounts"),
        Table(
            ("kind", "id", "state", "since", "why", "idempotency key"),
            tuple(
                (
                    one["kind"],
                    one["id"],
                    one["state"],
                    one["at"] or "",
                    one["note"],
                    one["idempotency_key"] or "",
                )
                for one in document["targets"]
            ),
        ),
        Paragraph(f"stillwatch revocation undo would give {len(document['to_undo']):,} of them their access back."),
    ]
    return to_markdown(blocks)


def _to_give_back(owed: Sequence[dict[str, str]] | None) -> list[Block]:
    if owed is None:
        return [Heading(2, "To give back"), Paragraph("Left out: the policy cannot be read, so it is not known.")]
    if not owed:
        return []
    return [
        Heading(2, "To give back"),
        Paragraph(
            "Access ended, but the decision no longer blocks: give it back with "
            "stillwatch revocation undo PLAN --account ID"
        ),
        Table(("kind", "id", "why"), tuple((one["kind"], one["id"], one["why"]) for one in owed)),
    ]


def _words(state: str) -> str:
    return NOT_BEGUN if state == NOT_BEGUN else _WORDS[What(state)]

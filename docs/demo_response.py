"""The demo's part about what a lab does with matches: policy, decision, gate, appeal, and what other labs learn."""

from __future__ import annotations

from docs.demo_stage import Stage

CUSTOMER = "acct-0007"
POLICY = """\
highest_stage = "enforce"
[backtest]
required = false
[shadow]
hours = 0
[flag]
hours = 0
[enforce]
endorsements = 1
precision = 0.0
[rollout]
steps = [100]
[decisions.actions]
medium = "block"
"""


def respond(stage: Stage, pattern: str) -> None:
    """Boreal and Cirrus let a pattern of Aurora's enforce; Boreal blocks a customer, errs, and both learn of it."""
    stage.scene(
        "From match to response",
        "A match alone does nothing: without a policy of its own a lab only observes. Boreal and Cirrus write one. It",
        "lets a pattern block as soon as another lab endorses it and a person approves; the usual one asks for a week,",
        "a backtest and a measured precision besides.",
    )
    for home in ("boreal", "cirrus"):
        (stage.root / home / "policy.toml").write_text(POLICY)
        stage.run(home, "endorse", pattern, "--yes", lines=0)
    stage.run("boreal", "sync", lines=2)
    stage.run("boreal", "decide")
    (decision,) = stage.ask("boreal", "decisions", "list", "--subject", CUSTOMER)
    named = decision["id"].partition("--")[2][:8]
    with stage.gate("boreal") as ask:
        before = ask(CUSTOMER, 200)
        stage.run("boreal", "decisions", "approve", named, "--by", "Bo Real")
        blocked = ask(CUSTOMER, 403)
        stage.check("the gate's answers before and after approval", (before, blocked), (before, blocked) == (200, 403))
        stage.tell(
            "The customer appeals, and is right: a teacher. The ruling lifts the decision, and tells all labs that"
        )
        stage.tell("the pattern errs: signed, counts only. What the customer said stays at the lab.")
        stage.run("boreal", "appeal", "open", named, "--contact-note", "Ticket 4711", lines=0)
        ruling = ("--upheld", "--reason", "Allowed by contract", "--publish", "--yes")
        stage.run("boreal", "appeal", "decide", "1", *ruling, lines=30)
        lifted = ask(CUSTOMER, 200)
        stage.check("the gate's answer after the appeal", lifted, lifted == 200)
    stage.tell("At Cirrus the pattern may block until the next sync, and from then on no more.")
    said = stage.run("cirrus", "sync")
    fell = "fell from enforce to shadow" in said
    stage.check("the pattern fell at Cirrus", fell, fell)

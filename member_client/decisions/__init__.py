"""From matches to measured responses: decisions about accounts, organisations and clusters, and what is in effect.

`decide` makes decisions of a run's matches; people approve, review and lift them, put customers on the allow-list, and
rule on appeals. What is in effect is never stored: `snapshot` computes it from what was decided, the policy, the stage
of the pattern now, and the allow-list. Whatever is missing or in doubt leaves a decision without effect.
"""

from member_client.decisions.effect import effective
from member_client.decisions.in_effect import Effective, Snapshot, remember_enforced, snapshot
from member_client.decisions.model import Action, Decision, State, Subject, SubjectKind

__all__ = [
    "Action",
    "Decision",
    "Effective",
    "Snapshot",
    "State",
    "Subject",
    "SubjectKind",
    "effective",
    "remember_enforced",
    "snapshot",
]

"""The life of a pattern at this lab: how far it may go here, by the lab's own policy.

    policy = read_policy(home)                       # policy.toml; without it, one that only observes
    standings(session, policy, now)[entry].stage     # computed from the facts as they are at that moment
    advance(session, policy, now)                    # remembers: the only way up

standing      stages, and what a policy's lines say of a pattern
policy        policy.toml as values; `policy_file` reads it, with the line of each
facts         what a stage is decided from
backtests     keeping what a backtest found
climbing      what decides, as pure functions
store         what is remembered: lifecycle.sqlite
reviewing     all of it put together for a home
"""

from member_client.lifecycle.policy import Policy
from member_client.lifecycle.policy_file import read_policy
from member_client.lifecycle.reviewing import advance, standings
from member_client.lifecycle.standing import Change, Reason, Stage, Standing

__all__ = ["Change", "Policy", "Reason", "Stage", "Standing", "advance", "read_policy", "standings"]

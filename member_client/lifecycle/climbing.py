"""What decides how far a pattern may go. Pure: facts, policy, what is remembered and the time in; a stage out.

Every line of the policy is a condition of some stage. A pattern stands below the lowest stage of which a condition does
not hold, and never above the stage that is remembered: it climbs in `advanced` alone, one stage after another.

Falling:   as soon as a condition does not hold. `stand` says so at once, whoever asks; `advanced` also remembers it,
           and the pattern begins anew from the stage where it fell to.
Stopping:  the stop switch holds all patterns at SHADOW, and is not remembered of any: they go on from where they stood,
           though their clocks start again.
Expiring:  an expired record is retired for whoever asks, and that, too, is not remembered: no record comes back from
           it, so one that does had expired by a clock that ran ahead. Nor is it remembered that one is not valid yet:
           none that was valid becomes so, but by a clock that was set back.
Times:     hours and requests are asked for on the way up only. What was earned is not lost when a clock is set back.
Budgets:   to climb, the upper bound of the interval must be within the budget; to halt, the share itself is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from member_client.lifecycle.facts import Circumstances, Facts, Memory
from member_client.lifecycle.policy import EVERYBODY, Policy
from member_client.lifecycle.standing import Reason, Stage, Standing
from sharing_protocol.intervals import wilson
from sharing_protocol.statements.handling import Marking, Severity

EXPIRED = "expired"
GONE = frozenset(["withdrawn", EXPIRED, "superseded"])
"""States of a record that it does not come back from."""
_BY_THE_CLOCK = frozenset([EXPIRED, "not yet valid"])
"""States that a record has by nothing but the time."""
_ID = "member--"
RESUME = "a person takes it up again: `stillwatch policy resume PATTERN`"


def stand(facts: Facts, policy: Policy, memory: Memory, now: datetime, around: Circumstances) -> Standing:
    """Where a pattern stands now, with every line that was consulted."""
    reasons = (*_pauses(policy, around), *_conditions(facts, policy, memory, now, around))
    stage = min(memory.stage, allowed(reasons))
    share = _share(policy, memory.share) if stage is Stage.ENFORCE else 0
    return Standing(facts.id, facts.version, facts.entry, stage, share, reasons)


def advanced(facts: Facts, policy: Policy, memory: Memory, now: datetime, around: Circumstances) -> Memory:
    """What is to be remembered from now on: the pattern fell, or climbed as far as it could, or is where it was."""
    if facts.state in _BY_THE_CLOCK:
        return memory
    memory = _not_ahead(memory, now)
    conditions = tuple(_conditions(facts, policy, memory, now, around))
    if (ceiling := allowed(conditions)) < memory.stage:
        return _fallen(facts, policy, memory, now, ceiling)
    paused = allowed(_pauses(policy, around))
    if paused < memory.stage:
        return replace(memory, since=now, share_since=now if memory.stage is Stage.ENFORCE else None)
    while (following := memory.stage.next) is not None and following <= min(
        paused, allowed(_conditions(facts, policy, memory, now, around))
    ):
        enforcing = following is Stage.ENFORCE
        share = policy.settings.rollout.steps[0] if enforcing else 0
        memory = replace(memory, stage=following, since=now, share=share, share_since=now if enforcing else None)
    return _rolled_out(policy, memory, now)


def resumed(facts: Facts, memory: Memory, now: datetime) -> Memory:
    """What is to be remembered once a person lets a halted or retired pattern climb again."""
    if memory.stage is Stage.RETIRED:
        memory = Memory(since=now)
    return counted(facts, replace(memory, halted="", ceiling=Stage.ENFORCE))


def counted(facts: Facts, memory: Memory) -> Memory:
    """The same, with all decisions until now counted and settled: budgets are about those that follow."""
    return replace(memory, counted_enforced=facts.enforced, counted_wrong=facts.wrong)


def allowed(reasons: Iterable[Reason]) -> Stage:
    """The highest stage that all of these allow."""
    return min((one.needed_for.below for one in reasons if not one.holds), default=Stage.ENFORCE)


def is_over(budget: float, enforced: int, wrong: int) -> bool:
    """Whether the wrong ones among the decisions are more than the budget allows."""
    return wrong > budget * enforced


def _not_ahead(memory: Memory, now: datetime) -> Memory:
    """The same, with no time later than now: what a clock that ran ahead has left would otherwise hold it till then."""
    share_since = memory.share_since and min(memory.share_since, now)
    return replace(memory, since=min(memory.since or now, now), share_since=share_since)


def _fallen(facts: Facts, policy: Policy, memory: Memory, now: datetime, ceiling: Stage) -> Memory:
    fallen = replace(memory, stage=ceiling, since=now, share=0, share_since=None)
    enforced, wrong = memory.outcomes(facts)
    if memory.stage >= Stage.FLAG and is_over(policy.settings.false_positives.budget, enforced, wrong):
        text = f"{_moment(now)}: {wrong:,} of {enforced:,} decisions were wrong ({_percent(wrong / enforced)})"
        fallen = counted(facts, replace(fallen, halted=text, ceiling=min(memory.ceiling, memory.stage.below)))
    return fallen


def _share(policy: Policy, reached: int) -> int:
    """The largest step that was reached; a policy with other steps never makes it more than it was."""
    return max((step for step in policy.settings.rollout.steps if step <= reached), default=reached)


def _rolled_out(policy: Policy, memory: Memory, now: datetime) -> Memory:
    if memory.stage is not Stage.ENFORCE or memory.share_since is None:
        return memory
    rollout = policy.settings.rollout
    share = _share(policy, memory.share)
    following = next((step for step in rollout.steps if step > share), None)
    if following is not None and now - memory.share_since >= timedelta(hours=rollout.hours) and memory.since != now:
        return replace(memory, share=following, share_since=now)
    return replace(memory, share=share)


# -- the conditions ------------------------------------------------------------------------------------------------


def _pauses(policy: Policy, around: Circumstances) -> Iterator[Reason]:
    stop = policy.settings.stop
    says = "the stop switch is on" if stop else "the stop switch is off"
    yield Reason(policy.line("stop"), "stop", not stop, says, Stage.FLAG)
    if (stopped := around.stopped) is not None:
        text = f"{stopped.by} stopped everything on {_moment(stopped.at)}: {stopped.why}; `stillwatch policy start`"
        yield Reason(0, "policy stop", False, text, Stage.FLAG)


def _conditions(facts: Facts, policy: Policy, memory: Memory, now: datetime, around: Circumstances) -> Iterator[Reason]:
    yield from _of_the_record(facts, memory)
    yield from _of_trust(facts, policy)
    yield from _of_disputes(facts, policy)
    yield from _of_the_backtest(facts, policy, now)
    yield from _of_outcomes(facts, policy, memory, around)
    yield from _of_time(facts, policy, memory, now)
    yield from _of_enforcing(facts, policy)


def _of_the_record(facts: Facts, memory: Memory) -> Iterator[Reason]:
    if memory.stage is Stage.RETIRED:
        text = f"it was retired here{f' on {_moment(memory.since)}' if memory.since else ''}; {RESUME}"
        yield Reason(0, "retired", False, text, Stage.RECEIVED)
    words = f"the record is {facts.state}{f': {facts.state_why}' if facts.state_why else ''}"
    needed_for = Stage.RECEIVED if facts.state in GONE else Stage.TESTED
    yield Reason(0, "record", facts.state == "active", words, needed_for)
    passed = "it passed its own tests here" if facts.tried else "its own tests were not run here yet"
    yield Reason(0, "trial", facts.tried, passed, Stage.TESTED)
    status = f"its author {facts.author_name} is {_a(facts.author_status)} member of the forum"
    yield Reason(0, "author", facts.author_status == "active", status, Stage.FLAG)


def _of_trust(facts: Facts, policy: Policy) -> Iterator[Reason]:
    settings, line = policy.settings, policy.line
    highest = settings.highest_stage
    text = f"patterns go no further than {highest} here" + ("" if policy.exists else ": there is no policy.toml")
    yield _up_to(highest, line("highest_stage"), "highest_stage", text)
    trust = settings.trust
    never = is_named(facts.author, facts.author_name, trust.never)
    text = f"{facts.author_name} is {'' if never else 'not '}among the labs that are never trusted"
    yield Reason(line("trust.never"), "trust.never", not never, text, Stage.TESTED)
    trusted = facts.author == facts.here or is_named(facts.author, facts.author_name, trust.labs)
    text = f"{facts.author_name} is {'' if trusted else 'not '}trusted beyond shadow"
    yield Reason(line("trust.labs"), "trust.labs", trusted, text, Stage.FLAG)
    for lab, stage in trust.highest_stage.items():
        if is_named(facts.author, facts.author_name, [lab]):
            setting = f"trust.highest_stage.{lab}"
            text = f"patterns of {facts.author_name} go no further than {stage} here"
            yield _up_to(stage, line(setting), setting, text)


def _of_disputes(facts: Facts, policy: Policy) -> Iterator[Reason]:
    ignored = _ignored(facts, policy)
    if ignored:
        text = f"what {_names(facts, ignored)} found in disputing it is ignored here, at this lab's own risk"
        yield Reason(policy.line("disputes.ignore"), "disputes.ignore", True, text, Stage.FLAG)
    disputed = facts.feedback.disputed_by - ignored
    by = f" ({_names(facts, disputed)})" if disputed else ""
    for setting, limit, needed_for in (
        ("retire", policy.settings.disputes.retire, Stage.RECEIVED),
        ("demote", policy.settings.disputes.demote, Stage.FLAG),
    ):
        does = setting if limit > 1 else f"{setting}s"
        text = f"{_many(len(disputed), 'lab calls', 'labs call')} it a false positive{by}; {limit:,} {does} it"
        name = f"disputes.{setting}"
        yield Reason(policy.line(name), name, len(disputed) < limit, text, needed_for)


def _of_the_backtest(facts: Facts, policy: Policy, now: datetime) -> Iterator[Reason]:
    rule, kept, line = policy.settings.backtest, facts.backtest, policy.line
    if not rule.required:
        yield Reason(line("backtest.required"), "backtest.required", True, "no backtest is asked for", Stage.FLAG)
        return
    how = "`stillwatch pattern backtest PATTERN LOGS --legitimate FILE`"
    if kept is None:
        text = f"it was not run over this lab's history yet: {how}"
        yield Reason(line("backtest.required"), "backtest.required", False, text, Stage.FLAG)
        return
    ran = kept.could_match and kept.events > 0
    text = f"it was run over {kept.requests:,} requests, and matched {kept.matched:,} of {kept.events:,} events"
    text = text if ran else "in its backtest there was nothing to look at: the logs lack the fields that it reads"
    yield Reason(line("backtest.required"), "backtest.required", ran, text, Stage.FLAG)
    age = abs(now - kept.at)  # by a clock that ran ahead it is of nobody knows when: that makes it no younger
    text = f"the backtest is {age.days:,} days old, {rule.max_age_days:,} are allowed"
    fresh = age < timedelta(days=rule.max_age_days)
    yield Reason(line("backtest.max_age_days"), "backtest.max_age_days", fresh, text, Stage.FLAG)
    budget, name = policy.settings.false_positives.budget, "false_positives.budget"
    if kept.rate is None or kept.interval is None:
        text = f"the backtest had no accounts known as legitimate: {how}"
        yield Reason(line(name), name, False, text, Stage.FLAG)
        return
    upper = kept.interval[1]
    text = (
        f"in the backtest {kept.wrong:,} of {kept.legitimate:,} legitimate accounts were flagged: at most "
        f"{_percent(upper)} (95 %); the budget is {_percent(budget)}"
    )
    yield Reason(line(name), name, upper <= budget, text, Stage.FLAG)


def _of_outcomes(facts: Facts, policy: Policy, memory: Memory, around: Circumstances) -> Iterator[Reason]:
    budgets, line = policy.settings.false_positives, policy.line
    if memory.halted:
        following = memory.ceiling.next or Stage.ENFORCE
        yield Reason(0, "halt", False, f"halted on {memory.halted}; {RESUME}", following)
    enforced, wrong = memory.outcomes(facts)
    within = not is_over(budgets.budget, enforced, wrong)
    text = f"{wrong:,} of {enforced:,} decisions were wrong; the budget is {_percent(budgets.budget)}"
    name = "false_positives.budget"
    yield Reason(line(name), name, within, text if within else f"{text}; {RESUME}", max(Stage.FLAG, memory.stage))
    if around.halted:
        text = f"all enforcement was halted on {around.halted}; `stillwatch policy resume --all`"
        yield Reason(0, "halt", False, text, Stage.ENFORCE)
    within = not is_over(budgets.total_budget, around.enforced, around.wrong)
    text = f"{around.wrong:,} of {around.enforced:,} decisions by all patterns were wrong; the budget is "
    name = "false_positives.total_budget"
    yield Reason(line(name), name, within, text + _percent(budgets.total_budget), Stage.ENFORCE)


def _of_time(facts: Facts, policy: Policy, memory: Memory, now: datetime) -> Iterator[Reason]:
    settings, line = policy.settings, policy.line
    since = memory.since or now
    for stage, hours, following in (
        (Stage.SHADOW, settings.shadow.hours, Stage.FLAG),
        (Stage.FLAG, settings.flag.hours, Stage.ENFORCE),
    ):
        name = f"{stage}.hours"
        if memory.stage > stage:
            yield Reason(line(name), name, True, f"it was in {stage} for the {hours:,} hours asked for", following)
            continue
        if not hours:
            yield Reason(line(name), name, True, f"no time in {stage} is asked for", following)
            continue
        ready = since + timedelta(hours=hours)
        spent = max(timedelta(0), now - since) // timedelta(hours=1) if memory.stage is stage else 0
        until = f", until {_moment(ready)}" if memory.stage is stage and ready > now else ""
        text = f"it was in {stage} for {spent:,} of {hours:,} hours{until}"
        yield Reason(line(name), name, memory.stage is stage and ready <= now, text, following)
    asked, name = settings.shadow.requests, "shadow.requests"
    if asked:
        earned = memory.stage > Stage.SHADOW
        seen = facts.requests_seen if memory.stage is Stage.SHADOW else 0
        text = f"`detect` looked at {seen:,} of {asked:,} requests with it in shadow"
        text = f"`detect` looked at the {asked:,} requests asked for in shadow" if earned else text
        yield Reason(line(name), name, earned or seen >= asked, text, Stage.FLAG)


def _of_enforcing(facts: Facts, policy: Policy) -> Iterator[Reason]:
    rule, line, said = policy.settings.enforce, policy.line, facts.feedback
    endorsed = endorsements(facts, policy)
    by = f" ({_names(facts, endorsed)})" if endorsed else ""
    text = f"{_many(len(endorsed), 'other lab endorses', 'other labs endorse')} this very version{by}; "
    text += f"{rule.endorsements:,} {'is' if rule.endorsements == 1 else 'are'} asked for"
    name = "enforce.endorsements"
    yield Reason(line(name), name, len(endorsed) >= rule.endorsements, text)
    left_out = _ignored(facts, policy) | {lab for lab in said.measured if _is_never_trusted(facts, policy, lab)}
    reviewed, true_positives = said.measured_by_others(left_out)
    low, _ = wilson(true_positives, reviewed)
    without = left_out & said.measured.keys()
    text = (
        f"of {_many(reviewed, 'reviewed match', 'reviewed matches')} {true_positives:,} were true: at least "
        f"{_percent(low)} (95 %); {_percent(rule.precision)} is asked for"
    ) + (f"; left out is what {_names(facts, without)} measured" if without else "")
    yield Reason(line("enforce.precision"), "enforce.precision", low >= rule.precision, text)
    may = Marking(facts.marking) in rule.markings
    text = f"TLP:{facts.marking.upper()} patterns may {'' if may else 'not '}enforce"
    yield Reason(line("enforce.markings"), "enforce.markings", may, text)
    may = Severity(facts.severity) in rule.severities
    text = f"patterns of severity {facts.severity} may {'' if may else 'not '}enforce"
    yield Reason(line("enforce.severities"), "enforce.severities", may, text)


def endorsements(facts: Facts, policy: Policy) -> frozenset[str]:
    """The labs whose endorsements count: active ones, not the author, not this lab, none that is never trusted."""
    return frozenset(
        lab
        for lab in facts.feedback.endorsed_by
        if lab in facts.labs and lab not in (facts.author, facts.here) and not _is_never_trusted(facts, policy, lab)
    )


def _is_never_trusted(facts: Facts, policy: Policy, lab: str) -> bool:
    return is_named(lab, facts.labs.get(lab, lab), policy.settings.trust.never)


def _ignored(facts: Facts, policy: Policy) -> frozenset[str]:
    """The labs that dispute it, and whose disputes do not count here."""
    listed = policy.settings.disputes.ignore
    return frozenset(lab for lab in facts.feedback.disputed_by if is_named(lab, facts.labs.get(lab, lab), listed))


def is_named(lab: str, name: str, listed: Iterable[str]) -> bool:
    """Whether names or ids in a list are of this lab. What reads like an id is one, whatever labs call themselves."""
    return any(
        one in (EVERYBODY, lab) or (not one.startswith(_ID) and one.casefold() == name.casefold()) for one in listed
    )


def _up_to(highest: Stage, line: int, setting: str, text: str) -> Reason:
    return Reason(line, setting, highest is Stage.ENFORCE, text, highest.next or Stage.ENFORCE)


def _names(facts: Facts, labs: Iterable[str]) -> str:
    return ", ".join(sorted(facts.labs.get(lab, lab) for lab in labs))


def _many(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _a(status: str) -> str:
    return f"{'an' if status[:1] in 'aeiou' else 'a'} {status}"


def _percent(share: float) -> str:
    return f"{float(f'{share * 100:.3g}'):,.10g} %"


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"

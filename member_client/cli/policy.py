"""`stillwatch policy`: what other labs' patterns may do here, by this lab's own policy.toml."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from member_client.cli import output
from member_client.cli.output import HomeOption, JsonOption, open_session, say
from member_client.errors import InvalidInput
from member_client.home import locate, write_privately
from member_client.lifecycle.climbing import is_named
from member_client.lifecycle.policy import EVERYBODY, Policy
from member_client.lifecycle.policy_file import Fault, PolicyRefused, read_file, read_policy, settings_of, template
from member_client.lifecycle.reviewing import Reviewed, advance, opened, resume, review
from member_client.lifecycle.standing import Reason, Stage, Standing
from member_client.patterns.finding import resolve, short_id
from member_client.session import Session
from sharing_protocol.statements.header import format_timestamp, show_hidden

app = typer.Typer(
    help="Say what other labs' patterns may do here: policy.toml, and how far it lets each pattern.",
    no_args_is_help=True,
)

PatternArgument = Annotated[
    str, typer.Argument(help="A pattern's id, or the beginning of one.", metavar="PATTERN", show_default=False)
]
ByOption = Annotated[str, typer.Option("--by", help="Who says so; by default the system's user.", show_default=False)]
MAX_WHY = 500


@app.command("init")
def init(
    force: Annotated[bool, typer.Option("--force", help="Replace the policy that is there.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a policy.toml to start from, with a comment on every setting.

    By it a pattern that proves itself comes to enforce, step by step. Without a policy.toml patterns are only observed.
    """
    session = open_session(home)
    session.settings  # noqa: B018 - a folder that is no home must not get a policy
    path = session.home.lifecycle_policy
    if path.exists() and not force:
        raise InvalidInput(f"{path} exists", "edit it, or replace it with --force")
    write_privately(path, template().encode())
    if as_json:
        output.print_json({"file": str(path)})
    else:
        say(f"{path}: read it, and change what is not yours; then `stillwatch policy check`", "green")


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="By default the home's policy.toml.", show_default=False)] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a policy can be followed, and if not, what to mend in which line (exit code 2)."""
    path = file or locate(home).lifecycle_policy
    faults: list[Fault] = []
    try:
        faults = _unknown_labs(read_file(path), home)
    except PolicyRefused as refused:
        faults = refused.faults
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}", "`stillwatch policy init` writes one to start from"
        ) from error
    if as_json:
        shown = [{"line": one.line, "setting": one.setting, "what": one.what, "mend": one.mend} for one in faults]
        output.print_json({"file": str(path), "ok": not faults, "faults": shown})
    elif not faults:
        say(f"{path} is good", "green")
    else:
        for one in faults:
            output.warn(f"{path}: {one}", "bold red")
            output.warn(f"  mend: {one.mend}", "")
    if faults:
        raise typer.Exit(InvalidInput.exit_code)


@app.command("show")
def show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the policy in force: each setting, its value, and the line that says so."""
    session = open_session(home)
    policy = read_policy(session.home)
    with opened(session) as store:
        stopped, halted = store.stopped, store.halted
    path = str(session.home.lifecycle_policy) if policy.exists else None
    if as_json:
        output.print_json(
            {
                "file": path,
                "stopped": stopped and {"at": format_timestamp(stopped.at), "by": stopped.by, "why": stopped.why},
                "halted": halted or None,
                "settings": policy.settings.model_dump(mode="json"),
                "lines": dict(policy.lines),
            }
        )
        return
    say(f"policy: {path or 'none, so patterns are only observed; `stillwatch policy init` writes one'}")
    if stopped is not None:
        output.warn(f"stopped by {stopped.by} on {_moment(stopped.at)}: {stopped.why}", "bold red")
    if halted:
        output.warn(f"all enforcement was halted on {halted}; `stillwatch policy resume --all`", "bold red")
    rows = [(name, _value(policy, name), policy.line(name) or "built in") for name in settings_of()]
    output.table(["setting", "value", "line"], rows)


@app.command("explain")
def explain(pattern: PatternArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say which line of the policy holds a pattern where it is, and what is missing for the next stage."""
    session = open_session(home)
    policy = read_policy(session.home)
    wanted = resolve(session.store, pattern)[-1].entry
    [found] = [one for one in review(session, policy, session.now) if one.facts.entry == wanted]
    with opened(session) as store:
        history = store.changes(wanted)
    if as_json:
        past = [
            {"at": format_timestamp(at), "stage": stage, "share": share, "why": why}
            for at, stage, share, why in history
        ]
        reasons = [_reason(one) for one in found.standing.reasons]
        output.print_json(_document(found) | {"reasons": reasons, "history": past})
        return
    facts, standing = found.facts, found.standing
    say(facts.title, "bold")
    say(f"{facts.id} version {facts.version} by {facts.author_name}, entry {facts.entry}")
    say(f"stage: {_stage(found)}")
    if standing.held_by:
        say("held by:")
    for one in standing.held_by:
        output.warn(f"  {one}")
    if not standing.held_by and standing.stage.next is not None:
        say(f"nothing holds it: it goes on to {standing.stage.next} when its stage is next looked at, as after a sync")
    later = [one for one in standing.reasons if not one.holds and one not in standing.held_by]
    if later:
        say("after that, as things are:")
    for one in later:
        say(f"  {one.needed_for}: {one}")
    say("what holds good:")
    for one in standing.reasons:
        if one.holds:
            say(f"  {one}")
    if history:
        say("so far:")
    for at, stage, share, why in history:
        say(f"  {_moment(at)}: {stage}{f' at {share} %' if share else ''}{'; ' if why else ''}{'; '.join(why)}")


@app.command("list")
def list_patterns(
    stage: Annotated[Stage | None, typer.Option("--stage", help="Only these.", show_default=False)] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all patterns with their stage, since when, and what holds them."""
    session = open_session(home)
    found = [
        one
        for one in review(session, read_policy(session.home), session.now)
        if stage is None or one.standing.stage is stage
    ]
    if as_json:
        output.print_json([_document(one) for one in found])
        return
    rows = [
        (
            short_id(one.facts.id),
            f"{one.standing.stage}{f' {one.standing.share} %' if one.standing.share else ''}",
            f"{one.memory.since:%Y-%m-%d %H:%M}" if one.memory.since else "",
            ", ".join(dict.fromkeys(reason.setting for reason in one.standing.held_by)),
            one.facts.title,
        )
        for one in found
    ]
    output.table(["pattern", "stage", "since (UTC)", "held by", "title"], rows)


@app.command("stop")
def stop(
    why: Annotated[str, typer.Argument(help="For the record.", metavar="REASON", show_default=False)],
    by: ByOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop everything at once: until `policy start` no pattern flags, throttles or blocks, whatever the policy says."""
    _switch(open_session(home), why, by, as_json, stops=True)


@app.command("start")
def start(
    why: Annotated[str, typer.Argument(help="For the record.", metavar="REASON", show_default=False)],
    by: ByOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn the stop switch off: patterns go on from where they stood, and their clocks start again."""
    _switch(open_session(home), why, by, as_json, stops=False)


@app.command("resume")
def resume_pattern(
    pattern: Annotated[
        str | None, typer.Argument(help="A pattern's id, or the beginning of one.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All halted patterns, and enforcement if all of it was halted.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a pattern climb again that was halted over its budget, or retired: the decision of a person."""
    if (pattern is None) is not everything:
        raise InvalidInput("say which pattern, or --all", "`stillwatch policy list` shows what holds them")
    session = open_session(home)
    chosen = resolve(session.store, pattern)[-1].id if pattern is not None else ""
    policy = read_policy(session.home)
    found = resume(session, policy, session.now, chosen)
    held = {one.facts.entry: _still_held(one.standing) for one in review(session, policy, session.now)}
    if as_json:
        still = {one.id: [_reason(reason) for reason in held[one.entry]] for one in found}
        output.print_json({"resumed": [one.id for one in found], "held_by": still})
        return
    for one in found:
        name = f"{one.title} ({short_id(one.id)})"
        if not held[one.entry]:
            say(f"{name} may climb again; what it was wrong about until now is settled", "green")
            continue
        say(f"{name} is taken up again, and what it was wrong about until now is settled; it is still held by:")
        for reason in held[one.entry]:
            output.warn(f"  {reason}")
    with opened(session) as store:
        stopped = store.stopped
    if not found and stopped is not None:
        output.warn(f"no pattern was halted; all is still stopped, by {stopped.by} on {_moment(stopped.at)}: "
                    f"{stopped.why}; `stillwatch policy start` ends that")  # fmt: skip
    elif not found:
        say("no pattern was halted; enforcement may go on", "green")


def _switch(session: Session, why: str, by: str, as_json: bool, *, stops: bool) -> None:
    why = why.strip()
    if not why or len(why) > MAX_WHY:
        raise InvalidInput(f"the reason has {len(why)} characters", f"say why, in 1 to {MAX_WHY} characters")
    who = by.strip() or getpass.getuser()
    with opened(session) as store, store.transaction():
        stopped = store.stopped
        if (stopped is not None) is stops:
            told = (
                f"it was stopped by {stopped.by} on {_moment(stopped.at)}: {stopped.why}"
                if stopped
                else "nothing is stopped"
            )
            raise InvalidInput(told, "see `stillwatch policy show`")
    if not stops and session.home.lifecycle_policy.exists():
        # While all is still stopped, so that the time until now counts for no stage.
        advance(session, read_policy(session.home), session.now)
    with opened(session) as store, store.transaction():
        store.switch(session.now, who, show_hidden(why), stop=stops)
    if as_json:
        output.print_json({"stopped": stops, "by": who, "why": why, "at": format_timestamp(session.now)})
    elif stops:
        say("stopped: from now on no pattern flags, throttles or blocks anything here", "bold red")
    else:
        say("started: patterns go on from where they stood", "green")


def _unknown_labs(policy: Policy, home: Path | None) -> list[Fault]:
    """Labs that the policy names and this home's forum does not know: a slip of the pen would spare a lab."""
    place = locate(home)
    if not place.config.exists() or not place.store.exists():
        return []
    members = Session(place).membership.members.values()
    trust = policy.settings.trust
    named = [("trust.labs", lab) for lab in trust.labs] + [("trust.never", lab) for lab in trust.never]
    named += [(f"trust.highest_stage.{lab}", lab) for lab in trust.highest_stage]
    named += [("disputes.ignore", lab) for lab in policy.settings.disputes.ignore]
    return [
        Fault(
            policy.line(setting),
            setting,
            f"the forum has no lab {lab!r}",
            "give a lab's name or id, as the forum has it",
        )
        for setting, lab in named
        if lab != EVERYBODY and not any(is_named(one.id, one.name, [lab]) for one in members)
    ]


def _document(found: Reviewed) -> dict[str, Any]:
    facts, standing, memory = found.facts, found.standing, found.memory
    return {
        "id": facts.id,
        "version": facts.version,
        "entry": facts.entry,
        "title": facts.title,
        "author": facts.author_name,
        "stage": standing.stage,
        "share": standing.share,
        "reached": memory.stage,
        "since": memory.since and format_timestamp(memory.since),
        "next": standing.stage.next,
        "held_by": [_reason(one) for one in standing.held_by],
    }


def _reason(one: Reason) -> dict[str, Any]:
    return {
        "line": one.line, "setting": one.setting, "holds": one.holds, "text": one.text, "needed_for": one.needed_for
    }  # fmt: skip


def _still_held(standing: Standing) -> list[Reason]:
    """What keeps a pattern from climbing, at any stage; not what each later stage takes its time for anyway."""
    return [
        one
        for one in standing.reasons
        if not one.holds and (one in standing.held_by or not one.setting.startswith((Stage.SHADOW, Stage.FLAG)))
    ]


def _stage(found: Reviewed) -> str:
    standing, memory = found.standing, found.memory
    share = f" at {standing.share} %" if standing.stage is Stage.ENFORCE else ""
    if standing.stage is not memory.stage:
        return f"{standing.stage}, where {memory.stage} was reached"
    return f"{standing.stage}{share}{f' since {_moment(memory.since)}' if memory.since else ''}"


def _value(policy: Policy, setting: str) -> str:
    value: Any = policy.settings.model_dump(mode="json")
    for part in setting.split("."):
        value = value[part]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{lab}: {stage}" for lab, stage in value.items()) or "none"
    return str(value)


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"

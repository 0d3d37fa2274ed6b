"""The story of the simulation, a day at a time: what four labs, a malicious member and two of its friends do.

day 2     Aurora publishes a good pattern, Delta a bad one that matches batch customers, Mallory another such; Nadir and
          Onyx, whom Mallory has talked into it, stand for Mallory's
day 3     all of them are in shadow, and were backtested
day 6     those within the budget flag; analysts begin to look into what is flagged, and their labs say what they found
day 7     the bad one is retired; day 8: Nadir and Onyx are suspended for having lied
day 9     the good one enforces, on 1 %, 10 % and 100 % of the subjects
day 14    Mallory calls the good one a false positive; everybody's enforcement ends with the next sync
day 16    Cirrus changes its policy: it takes two disputes there
day 19    the forum suspends Mallory
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from hub.identity import HubIdentity
from member_client.decisions.model import Action
from member_client.feedback import VoiceKind
from member_client.home import Home
from member_client.lifecycle.policy_file import template
from member_client.lifecycle.standing import Stage
from sharing_protocol.envelope import Envelope
from sharing_protocol.intervals import wilson
from sharing_protocol.statements import new_id, voice_id
from sharing_protocol.statements.header import format_timestamp
from tests.forum import Document, ForumInABox, Lab, code_of, handling, key, pattern_body, running_hub, signed
from tests.member_client.lab_homes import make_home
from tests.protocol.response_bodies import endorsement_body, opinion_body
from tests.simulation.lab import Clock, SimulatedLab
from tests.simulation.traffic import START, LabTraffic, end_of

LABS = ("Aurora", "Boreal", "Cirrus", "Delta")
CAREFUL = "Cirrus"
"""The one lab that names developers and batch customers for its backtests, and has an allow-list."""
GOOD, BAD, STUFFED = "good", "bad", "stuffed"
PUBLISHED, FRAUD_FOUND, GRUDGE, REMEDY, EXPULSION = 2, 8, 14, 16, 19
BEDTIME = timedelta(minutes=30)
"""After midnight: when people have done the day's work, and at which the gate is asked about all of the next day. A lab
that follows the log builds its table many times a day; by a table of last night the data would be stale at one o'clock.
"""
LAST_DAY = 26
"""With all that it takes to climb once more by the rules."""
_OPENINGS = {
    GOOD: ("Instructions wrapped in a training template", ["Below is an instruction that describes a task"]),
    BAD: (
        "Harvest of translation pairs",
        ["Translate the following sentence from English to", "You are a professional translator for an online shop."],
    ),
    STUFFED: ("Harvest of labelled tweets", ["Classify the sentiment of the tweet as"]),
}


@dataclass(frozen=True)
class Row:
    """One pattern at one lab on one day, after that day's run.

    Attributes:
        observed, flagged, throttled, blocked: decisions by effective action.
        ordinary_hit, batch_hit: accounts of either kind with a decision of FLAG or more in effect.
        ordinary_blocked, batch_blocked: of these, throttled or blocked.
        campaign_blocked: accounts of the campaign that the pattern blocks.
        held_by: settings of the policy that hold it where it is.
    """

    day: int
    lab: str
    pattern: str
    stage: str
    share: int
    observed: int
    flagged: int
    throttled: int
    blocked: int
    ordinary_hit: int
    batch_hit: int
    ordinary_blocked: int
    batch_blocked: int
    campaign_blocked: int
    held_by: tuple[str, ...]


@dataclass(frozen=True)
class GateDay:
    """What a lab's gate did to a day's requests, by the table of the evening before.

    Attributes:
        attack, attack_blocked: requests with prompts of the campaign.
        ordinary_blocked, batch_blocked, campaign_blocked: accounts.
    """

    day: int
    lab: str
    requests: int
    attack: int
    attack_blocked: int
    ordinary_blocked: int
    batch_blocked: int
    campaign_blocked: int


@dataclass
class Report:
    """What came of it.

    Attributes:
        events: what people did, by day.
        refusals: by what was tried, the code that the hub refused it with.
        wronged: ordinary accounts and batch customers that were ever blocked, by lab.
        voices: by day what counts of what was said of each pattern: endorsements, disputes, reviewed, true, and the
            lower bound of the precision.
    """

    rows: list[Row] = field(default_factory=list)
    gates: list[GateDay] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)
    voices: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    wronged: set[tuple[str, int]] = field(default_factory=set)
    found_out: bool = True

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "rows": [asdict(one) for one in self.rows],
            "gates": [asdict(one) for one in self.gates],
            "events": [{"day": day, "event": event} for day, event in self.events],
            "voices": self.voices,
            "refusals": self.refusals,
        }

    def of(self, pattern: str) -> list[Row]:
        """The rows of a pattern."""
        return [one for one in self.rows if one.pattern == pattern]

    def stages(self, pattern: str, day: int) -> dict[str, str]:
        """Where a pattern stood at each lab in the evening of a day."""
        return {one.lab: one.stage for one in self.of(pattern) if one.day == day}

    def first_day(self, pattern: str, stage: Stage, share: int = 0) -> dict[str, int]:
        """When a pattern first stood there, by lab."""
        found: dict[str, int] = {}
        for one in self.of(pattern):
            if one.stage == stage and one.share >= share:
                found.setdefault(one.lab, one.day)
        return found


class TimedForum(ForumInABox):
    """A forum whose members sign their requests by the hub's clock."""

    def client(self, key_name: str, **signing: Any) -> httpx.Client:
        return super().client(key_name, **{"clock": self.hub.clock, **signing})


class Story:
    """The world and all who act in it."""

    def __init__(
        self, box: TimedForum, clock: Clock, traffics: list[LabTraffic], folder: Path, *, found_out: bool = True
    ) -> None:
        """Found the forum and settle everybody.

        Args:
            found_out: whether the forum learns that Nadir and Onyx lied; else labs have only their policies.
        """
        self.box, self.clock, self.report, self.found_out = box, clock, Report(found_out=found_out), found_out
        members = [box.admit(name) for name in LABS]
        self.mallory, self.nadir, self.onyx = (box.admit(name) for name in ("Mallory", "Nadir", "Onyx"))
        self.labs = [
            SimulatedLab(
                member, Home(make_home(folder / member.name, box, member)), clock, traffic, member.name == CAREFUL
            )
            for member, traffic in zip(members, traffics, strict=True)
        ]
        self.ids: dict[str, str] = {}
        self.entries: dict[str, str] = {}
        self.spoken: set[tuple[str, str]] = set()
        self.wronged: dict[str, set[int]] = {}

    def run(self, days: int, idle: frozenset[int] = frozenset()) -> Report:
        """Live through so many days.

        Args:
            idle: days on which no lab does anything.
        """
        evenings: dict[int, Callable[[int], None]] = {
            PUBLISHED: self._publish,
            **({FRAUD_FOUND: self._suspend_friends} if self.found_out else {}),
            GRUDGE: self._dispute_without_cause,
            REMEDY: self._change_one_policy,
            EXPULSION: self._suspend_mallory,
        }
        for day in range(days):
            awake = [] if day in idle else self.labs
            for number, lab in enumerate(awake):
                self._live(lab, number, day)
            self.clock.moment = end_of(day) + BEDTIME
            for lab in awake:
                self._work(lab, day)
            if day in evenings:
                evenings[day](day)
        return self.report

    # -- a day ------------------------------------------------------------------------------------------------------

    def _live(self, lab: SimulatedLab, number: int, day: int) -> None:
        """A lab's day: its gate at work, and then sync, detection, decisions and a new table."""
        self.clock.moment = end_of(day - 1) + BEDTIME
        self._note_gate(lab, day)
        self.clock.moment = end_of(day) + timedelta(minutes=number)
        lab.sync()
        if day == PUBLISHED + 1:
            lab.backtest_all(day)
        if day > PUBLISHED:
            lab.detect_and_decide(day)
        lab.build_table()
        self._note_rows(lab, day)

    def _work(self, lab: SimulatedLab, day: int) -> None:
        """What people do in the evening.

        Nobody looks into what Mallory's pattern flags, and all is approved. Customers who are blocked appeal.
        """
        lab.approve_everything()
        if wronged := self.wronged.pop(lab.member.name, None):
            lab.hear_appeals(wronged)
            self._tell(day, f"{lab.member.name} upholds the appeals of blocked customers: {len(wronged)}")
        for name in (GOOD, BAD):
            entry = self.entries.get(name, "")
            stage = lab.stage(entry)
            if stage is None or stage < Stage.FLAG:
                continue
            lab.review(entry)
            if (lab.member.name, name) not in self.spoken and (said := lab.speak(entry)):
                self.spoken.add((lab.member.name, name))
                self._tell(day, f"{lab.member.name} {said} the {name} pattern")
        lab.build_table()

    def _note_gate(self, lab: SimulatedLab, day: int) -> None:
        traffic = lab.traffic
        felt = lab.ask_gate(day)
        innocent = {one for one in felt.blocked if not traffic.campaign[one]}
        if innocent:
            self.wronged[lab.member.name] = innocent
            self.report.wronged |= {(lab.member.name, one) for one in innocent}
        self.report.gates.append(
            GateDay(
                day,
                lab.member.name,
                traffic.requests(day, attack=False),
                traffic.requests(day, attack=True),
                traffic.requests(day, sorted(felt.blocked), attack=True),
                traffic.count(felt.blocked, traffic.ordinary),
                traffic.count(felt.blocked, traffic.batch),
                traffic.count(felt.blocked, traffic.campaign),
            )
        )

    def _note_rows(self, lab: SimulatedLab, day: int) -> None:
        policy, traffic = lab.policy(), lab.traffic
        for name, entry in self.entries.items():
            found = lab.effect(entry, policy)
            if found.standing is None:
                continue
            count, actions = traffic.count, found.actions
            self.report.rows.append(
                Row(
                    day,
                    lab.member.name,
                    name,
                    found.standing.stage,
                    found.standing.share,
                    actions[Action.OBSERVE],
                    actions[Action.FLAG],
                    actions[Action.THROTTLE],
                    actions[Action.BLOCK],
                    count(found.flagged, traffic.ordinary),
                    count(found.flagged, traffic.batch),
                    count(found.blocked, traffic.ordinary),
                    count(found.blocked, traffic.batch),
                    count(found.blocked, traffic.campaign),
                    tuple(reason.setting for reason in found.standing.held_by),
                )
            )
            if lab is self.labs[0]:
                self._note_voices(lab, name, entry, day)

    def _note_voices(self, lab: SimulatedLab, name: str, entry: str, day: int) -> None:
        said = lab.feedback(entry)
        self.report.voices.append(
            {
                "day": day,
                "pattern": name,
                "endorsements": len(said.endorsed_by),
                "disputes": len(said.disputed_by),
                "reviewed": said.reviewed,
                "true_positives": said.true_positives,
                "precision_at_least": round(wilson(said.true_positives, said.reviewed)[0], 3),
            }
        )

    # -- what happens -----------------------------------------------------------------------------------------------

    def _publish(self, day: int) -> None:
        aurora, *_, delta = (lab.member for lab in self.labs)
        for name, author in ((GOOD, aurora), (BAD, delta), (STUFFED, self.mallory)):
            self.ids[name], _ = self.box.publish(author, _pattern(*_OPENINGS[name]))
            self.entries[name] = self.box.reference(self.ids[name])["entry"]
            self._tell(day, f"{author.name} publishes the {name} pattern")
        self._stuff_the_ballot(day)

    def _stuff_the_ballot(self, day: int) -> None:
        """All that Mallory and friends can say for Mallory's pattern, and say again."""
        praise: Document = {"verdict": "confirm", "measured": _measured(10_000, 10_000)}
        for lab in (self.nadir, self.onyx):
            for _ in range(3):
                self._say("endorsement", lab, STUFFED, endorsement_body)
                self._say("opinion", lab, STUFFED, lambda *of: opinion_body(*of, **praise))
        for _ in range(5):
            self._say("endorsement", self.mallory, STUFFED, endorsement_body)
        refused = self.report.refusals
        refused["an opinion of one's own pattern"] = self._refused(
            "opinion", self.mallory, lambda *of: opinion_body(*of, **praise)
        )
        another = voice_id("endorsement", self.mallory.id, self.entries[GOOD])
        refused["a second endorsement under another id"] = self._refused(
            "endorsement", self.nadir, endorsement_body, another
        )
        self._tell(day, "Nadir and Onyx endorse the stuffed pattern three times each, Mallory five times")

    def _suspend_friends(self, day: int) -> None:
        for lab in (self.nadir, self.onyx):
            self.box.decree("membership.suspend", lab.id, {"reason": "It reviewed nothing of what it said it did."})
        self.report.refusals["an endorsement by a suspended lab"] = self._refused(
            "endorsement", self.nadir, endorsement_body
        )
        self._tell(day, "the forum suspends Nadir and Onyx")

    def _dispute_without_cause(self, day: int) -> None:
        self._say("opinion", self.mallory, GOOD, lambda *of: opinion_body(*of, measured=_measured(10_000, 0)))
        self._tell(day, "Mallory calls the good pattern a false positive: 0 of 10,000")

    def _change_one_policy(self, day: int) -> None:
        (cirrus,) = [lab for lab in self.labs if lab.member.name == CAREFUL]
        cirrus.write_policy(template().replace("\ndemote = 1\n", "\ndemote = 2\n"))
        self._tell(day, "Cirrus sets disputes.demote = 2 in its policy.toml")

    def _suspend_mallory(self, day: int) -> None:
        self.box.decree("membership.suspend", self.mallory.id, {"reason": "It made its numbers up."})
        self._tell(day, "the forum suspends Mallory")

    # -- statements -------------------------------------------------------------------------------------------------

    def _say(self, kind: VoiceKind, lab: Lab, pattern: str, body: Callable[..., Document]) -> None:
        self.box.log(self._voice(kind, lab, pattern, body), lab.analyst)

    def _refused(self, kind: VoiceKind, lab: Lab, body: Callable[..., Document], record_id: str = "") -> str:
        response = self.box.submit(self._voice(kind, lab, STUFFED, body, record_id), lab.analyst)
        assert response.status_code >= 400, response.text
        return code_of(response)

    def _voice(
        self, kind: VoiceKind, lab: Lab, pattern: str, body: Callable[..., Document], record_id: str = ""
    ) -> Envelope:
        about = self.box.reference(self.ids[pattern])
        said = body(_handled(), about)
        number = record_id or voice_id(kind, lab.id, about["entry"])
        return signed(self.box.statement(kind, number, lab.id, said), lab.analyst)

    def _tell(self, day: int, what: str) -> None:
        self.report.events.append((day, what))


@contextmanager
def story_on(database_url: str, traffics: list[LabTraffic], folder: Path, *, found_out: bool = True) -> Iterator[Story]:
    """The story's world: a hub, a forum with seven labs, and the homes of four.

    All keys and ids are the same each time: the roll-out comes to accounts by hashes of what is signed.
    """
    clock, numbers = Clock(START), itertools.count(1)
    identity = HubIdentity("forum.example/log", key("log"), key("timestamp"))
    with running_hub(database_url, identity, clock) as hub:
        box = TimedForum(hub, id=new_id("forum", UUID(int=0)), new_uuid=lambda: UUID(int=next(numbers)))
        box.found()
        yield Story(box, clock, traffics, folder, found_out=found_out)


def claims(report: Report) -> dict[str, bool]:
    """What the simulation is to show, and whether it does."""
    last = max(one.day for one in report.rows)
    grudge = [one for one in report.rows if one.pattern == GOOD and GRUDGE < one.day <= REMEDY]
    bad, stuffed = report.of(BAD), report.of(STUFFED)
    found = {
        "the bad pattern flags somewhere before it is disputed": any(one.flagged for one in bad),
        "it blocks nobody": not any(one.blocked or one.throttled for one in bad),
        "it is retired everywhere": set(report.stages(BAD, last).values()) == {Stage.RETIRED},
        "the good one enforces at every lab": set(report.first_day(GOOD, Stage.ENFORCE)) == set(LABS),
    }
    if report.found_out:
        found |= {
            "no ordinary account and no batch customer is ever blocked": not report.wronged
            and not any(one.ordinary_blocked or one.batch_blocked for one in report.rows),
            "the stuffed one never goes beyond flag": all(one.stage != Stage.ENFORCE for one in stuffed),
        }
    else:
        found["the stuffed one is retired everywhere"] = set(report.stages(STUFFED, last).values()) == {Stage.RETIRED}
    if last >= GRUDGE:
        found["one dispute ends the enforcement everywhere"] = bool(grudge) and not any(one.blocked for one in grudge)
    if last >= LAST_DAY:
        found["without the dispute it enforces at every lab again"] = all(
            one.share == 100 for one in report.of(GOOD) if one.day == last
        )
    return found


def summary(report: Report) -> dict[str, Any]:
    """The numbers in short."""
    full = report.first_day(GOOD, Stage.ENFORCE, 100)
    volume: dict[str, list[int]] = {"before": [0, 0], "rolled out": [0, 0], "disputed": [0, 0], "again": [0, 0]}
    again = {one.lab: one.day for one in reversed(report.of(GOOD)) if one.share == 100 and one.day > GRUDGE + 1}
    for day in report.gates:
        begun = full.get(day.lab, 10_000)
        part = "before" if day.day <= begun else "rolled out" if day.day <= GRUDGE + 1 else "disputed"
        part = "again" if day.day > again.get(day.lab, 10_000) else part
        volume[part][0] += day.attack_blocked
        volume[part][1] += day.attack
    return {
        "requests": sum(one.requests for one in report.gates),
        "attack_requests": sum(one.attack for one in report.gates),
        "attack_volume_blocked": {
            name: {"blocked": blocked, "sent": sent, "share": round(blocked / sent, 4) if sent else None}
            for name, (blocked, sent) in volume.items()
        },
        "good_enforces_from_day": report.first_day(GOOD, Stage.ENFORCE),
        "good_on_all_from_day": full,
        "good_on_all_again_from_day": again,
        "bad_retired_from_day": report.first_day(BAD, Stage.RETIRED),
        "bad_flagged_at_most": {
            "ordinary": max((one.ordinary_hit for one in report.of(BAD)), default=0),
            "batch": max((one.batch_hit for one in report.of(BAD)), default=0),
        },
        "stuffed_enforces_from_day": report.first_day(STUFFED, Stage.ENFORCE),
        "stuffed_retired_from_day": report.first_day(STUFFED, Stage.RETIRED),
        "customers_ever_blocked": len(report.wronged),
    }


def _pattern(title: str, openings: list[str]) -> Document:
    logic = {
        "title": title,
        "logsource": {"product": "llm_api", "category": "request"},
        "detection": {"opening": {"prompt.text|startswith": openings}, "condition": "opening"},
    }
    tests = [
        {"name": "one", "expect": "match", "events": [{"prompt.text": f"{openings[0]} …"}], "synthetic": True},
        {"name": "none", "expect": "no_match", "events": [{"prompt.text": "hello"}], "synthetic": True},
    ]
    began = format_timestamp(START)
    return pattern_body(title, **_handled(), valid_from=began, logic=[logic], tests=tests)


def _handled() -> Document:
    return handling(valid_until=format_timestamp(START + timedelta(days=200)))


def _measured(reviewed: int, true_positives: int) -> Document:
    return {"reviewed": reviewed, "true_positives": true_positives, "method": "A sample"}

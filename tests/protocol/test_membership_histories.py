"""Random membership histories against a model that knows nothing of how the protocol does it."""

from __future__ import annotations

from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sharing_protocol.errors import Refused
from tests.protocol.forum_log import (
    FORUM,
    LOG,
    Document,
    ForumLog,
    add_key_body,
    admins_body,
    admit_body,
    change_log_body,
    found_body,
    identifier,
    key,
    log_of,
    pattern_body,
    reason,
    revoke_body,
    signed,
)

ADMINS = [f"Admin {letter}" for letter in "ABCDEF"]
LABS = [identifier("member", number) for number in range(1, 4)]
KEYS = {lab: [f"Key {number} of {lab[-1]}" for number in range(5)] for lab in LABS}
EVERYONE = [*ADMINS, *(name for names in KEYS.values() for name in names), "Mallory"]
NAMES = {name: key(name).public_key.key_id for name in EVERYONE}

signers = st.sets(st.sampled_from(EVERYONE), min_size=1, max_size=4)
some_admins = st.sets(st.sampled_from(ADMINS), min_size=1, max_size=5)
labs = st.sampled_from(LABS)
roles = st.sampled_from(["owner", "analyst", "sync"])
key_numbers = st.integers(0, 4)


@dataclass
class Lab:
    status: str = "active"
    roles: dict[str, str] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)

    def holds(self, name: str, role: str) -> bool:
        return self.roles.get(name) == role and name not in self.revoked

    def owners(self) -> set[str]:
        return {name for name in self.roles if self.holds(name, "owner")}


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log = ForumLog()
        self.admins: set[str] = set()
        self.threshold = 0
        self.used: set[str] = set()
        self.labs: dict[str, Lab] = {}
        self.logs = {0: LOG}

    @initialize(admins=some_admins, threshold=st.integers(1, 5))
    def found(self, admins: set[str], threshold: int) -> None:
        threshold = min(threshold, len(admins))
        self.log.say("membership.found", FORUM, FORUM, found_body(sorted(admins), threshold), sorted(admins))
        self.admins, self.threshold, self.used = set(admins), threshold, set(admins)

    def offer(self, kind: str, record: str, author: str, body: Document, by: set[str], allowed: bool) -> bool:
        """Offer a statement; the log must decide as the model does."""
        made = signed(self.log.next(kind, record, author, body), *sorted(by))
        before = self.log.membership
        refusal = ""
        try:
            self.log.append(made)
        except Refused as refused:
            refusal = f"{refused.code}: {refused.detail}"
        assert allowed is not bool(refusal), refusal or f"{kind} by {sorted(by)} should have been refused"
        assert allowed or self.log.membership is before
        return allowed

    def enough_admins(self, by: set[str]) -> bool:
        return by <= self.admins and len(by) >= self.threshold

    def by_a_key_of(self, author: str, by: set[str], role: str) -> bool:
        lab = self.labs.get(author)
        return lab is not None and lab.status == "active" and len(by) == 1 and lab.holds(next(iter(by)), role)

    @rule(lab=labs, by=signers, take=st.sets(key_numbers, min_size=1, max_size=3), role=roles)
    def admit_by_anyone(self, lab: str, by: set[str], take: set[int], role: str) -> None:
        self.admit(lab, by, take, role)

    @rule(lab=labs, take=st.sets(key_numbers, min_size=1, max_size=3), role=roles)
    def admit_by_all_admins(self, lab: str, take: set[int], role: str) -> None:
        self.admit(lab, set(self.admins), take, role)

    def admit(self, lab: str, by: set[str], take: set[int], role: str) -> None:
        named = {KEYS[lab][number]: role for number in sorted(take)}
        named[KEYS[lab][min(take)]] = "owner"
        new = lab not in self.labs
        body = admit_body(lab, f"Lab {lab[-1]}", list(named.items()))
        if self.offer("membership.admit", lab, FORUM, body, by, self.enough_admins(by) and new):
            self.labs[lab] = Lab(roles=named)
            self.used |= set(named)

    @rule(lab=labs, by=signers, everyone=st.booleans(), action=st.sampled_from(["suspend", "reinstate", "expel"]))
    def set_status(self, lab: str, by: set[str], everyone: bool, action: str) -> None:
        by = set(self.admins) if everyone else by
        moves = {
            "suspend": (["active"], "suspended"),
            "reinstate": (["suspended"], "active"),
            "expel": (["active", "suspended"], "expelled"),
        }
        sources, target = moves[action]
        can = lab in self.labs and self.labs[lab].status in sources
        if self.offer(f"membership.{action}", lab, FORUM, reason(), by, self.enough_admins(by) and can):
            self.labs[lab].status = target

    @rule(lab=labs, number=key_numbers, role=roles, everyone=st.booleans(), by=signers)
    def add_key_by_forum(self, lab: str, number: int, role: str, everyone: bool, by: set[str]) -> None:
        by = set(self.admins) if everyone else by
        can = lab in self.labs and self.labs[lab].status != "expelled"
        self.add_key(lab, FORUM, number, role, by, self.enough_admins(by) and can)

    @rule(lab=labs, author=labs, number=key_numbers, role=roles, signer=st.sampled_from(EVERYONE))
    def add_key_by_a_lab(self, lab: str, author: str, number: int, role: str, signer: str) -> None:
        self.add_key(lab, author, number, role, {signer}, author == lab and self.by_a_key_of(lab, {signer}, "owner"))

    @rule(lab=labs, number=key_numbers, role=roles, choice=st.integers(0, 4))
    def add_key_by_an_owner(self, lab: str, number: int, role: str, choice: int) -> None:
        if lab in self.labs and (owners := sorted(self.labs[lab].owners())):
            signer = owners[choice % len(owners)]
            self.add_key(lab, lab, number, role, {signer}, self.labs[lab].status == "active")

    def add_key(self, lab: str, author: str, number: int, role: str, by: set[str], can: bool) -> None:
        name = KEYS[lab][number]
        can = can and name not in self.used
        if self.offer("membership.add_key", lab, author, add_key_body(name, role, lab), by, can):
            self.labs[lab].roles[name] = role
            self.used.add(name)

    @rule(lab=labs, other=labs, number=key_numbers, everyone=st.booleans(), by=signers)
    def revoke_by_forum(self, lab: str, other: str, number: int, everyone: bool, by: set[str]) -> None:
        by = set(self.admins) if everyone else by
        self.revoke(lab, FORUM, KEYS[other][number], by, lab in self.labs and self.enough_admins(by))

    @rule(lab=labs, author=labs, number=key_numbers, signer=st.sampled_from(EVERYONE))
    def revoke_by_a_lab(self, lab: str, author: str, number: int, signer: str) -> None:
        name = KEYS[lab][number]
        can = author == lab and self.by_a_key_of(lab, {signer}, "owner") and self.labs[lab].owners() != {name}
        self.revoke(lab, author, name, {signer}, can)

    def revoke(self, lab: str, author: str, name: str, by: set[str], can: bool) -> None:
        can = can and name in self.labs[lab].roles and name not in self.labs[lab].revoked
        if self.offer("membership.revoke_key", lab, author, revoke_body(name), by, can):
            self.labs[lab].revoked.add(name)

    @rule(admins=some_admins, threshold=st.integers(1, 5), old=some_admins, new=some_admins)
    def change_admins(self, admins: set[str], threshold: int, old: set[str], new: set[str]) -> None:
        by = (old & self.admins) | (new & admins)
        if not by:
            return
        fresh = all(name in self.admins or name not in self.used for name in admins)
        enough = len(by & self.admins) >= self.threshold and len(by & admins) >= threshold
        body = admins_body(sorted(admins), threshold)
        allowed = fresh and enough and threshold <= len(admins)
        if self.offer("membership.change_admins", FORUM, FORUM, body, by, allowed):
            self.admins, self.threshold = set(admins), threshold
            self.used |= admins

    @rule(by=signers, everyone=st.booleans(), number=st.integers(2, 5))
    def change_log(self, by: set[str], everyone: bool, number: int) -> None:
        by = set(self.admins) if everyone else by
        fresh = log_of(str(number)) not in self.logs.values()
        at = self.log.size
        body = change_log_body(str(number))
        if self.offer("membership.change_log", FORUM, FORUM, body, by, self.enough_admins(by) and fresh):
            self.logs[at] = log_of(str(number))

    @rule(author=labs, signer=st.sampled_from(EVERYONE), number=st.integers(0, 10**6))
    def publish_by_anyone(self, author: str, signer: str, number: int) -> None:
        self.publish(author, {signer}, number)

    @rule(author=labs, choice=st.integers(0, 4), number=st.integers(0, 10**6))
    def publish_by_an_analyst(self, author: str, choice: int, number: int) -> None:
        named = [name for name, role in self.labs.get(author, Lab()).roles.items() if role == "analyst"]
        if named:
            self.publish(author, {named[choice % len(named)]}, number)

    def publish(self, author: str, by: set[str], number: int) -> None:
        record = identifier("pattern", number)
        if self.log.head(record) is None:
            self.offer("pattern", record, author, pattern_body(), by, self.by_a_key_of(author, by, "analyst"))

    @invariant()
    def the_state_is_the_models(self) -> None:
        membership = self.log.membership
        if membership.forum is None:
            return
        assert membership.forum.threshold == self.threshold
        for size in range(1, self.log.size + 1):
            newest = max(since for since in self.logs if since < size)
            assert membership.forum.logs.at(size) == self.logs[newest]
        assert set(membership.forum.admins) == {NAMES[name] for name in self.admins}
        assert {known.public_key.key_id for known in membership.keys_of(FORUM)} == set(membership.forum.admins)
        assert set(membership.keys) == {NAMES[name] for name in self.used}
        assert {lab: member.status.value for lab, member in membership.members.items()} == {
            lab: model.status for lab, model in self.labs.items()
        }
        for lab, model in self.labs.items():
            current = {known.public_key.key_id: known.role for known in membership.keys_of(lab)}
            assert current == {NAMES[name]: role for name, role in model.roles.items() if name not in model.revoked}

    def teardown(self) -> None:
        # Authority goes by position: read again from the start, every entry is as admissible as it was when it
        # came, whatever was revoked since, and the state is the same.
        again = ForumLog()
        for made in self.log.entries:
            again.append(made)
        assert again.membership == self.log.membership
        assert again.heads == self.log.heads


def test_random_histories_are_decided_as_the_model_decides_them() -> None:
    run_state_machine_as_test(Histories, settings=settings(max_examples=100, stateful_step_count=50))

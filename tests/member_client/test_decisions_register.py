"""What decisions are made of matches, and what of them is in effect, at the register itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.decisions import allow_register
from member_client.decisions.allow_list import Allowed, AllowKind, AllowList, check_id
from member_client.decisions.appeals import measured, open_appeal, rule_on
from member_client.decisions.effect import Circumstances, effective, explained, in_roll_out
from member_client.decisions.in_effect import Snapshot, effects, remember_enforced, what_and_why
from member_client.decisions.matches import Counted, Gathered, gather
from member_client.decisions.model import Action, State, Subject, SubjectKind
from member_client.decisions.register import Register
from member_client.decisions.rules import Rules
from member_client.errors import InvalidInput
from member_client.gate.table import ALLOWED, Table, encode
from member_client.home import Home
from member_client.lifecycle.policy import GateRule
from member_client.lifecycle.standing import Stage
from sharing_protocol.statements.handling import Severity
from tests.member_client.decision_worlds import (
    BLOCKING,
    START,
    acting,
    all_of,
    gathered,
    lab,
    line,
    make,
    seen,
    standing,
    temporary_register,
    write_lines,
)

DAY = timedelta(days=1)
PATTERN = seen()


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    opened = Register(tmp_path / "decisions.sqlite")
    yield opened
    opened.close()


def entry(kind: AllowKind, value: str, days: int = 30) -> Allowed:
    return Allowed(1, kind, value, "Sales", "Batch", START, START + days * DAY)


def read(path: Path, organisations: bool = False) -> tuple[list[Gathered], Counted]:
    counted = Counted()
    return list(gather(path, organisations, counted, path.parent / "spilled")), counted


# -- matches -------------------------------------------------------------------------------------------------------


def test_matches_are_gathered_by_pattern_and_subject(tmp_path: Path) -> None:
    window = {"start": START.timestamp() - 3600, "end": START.timestamp()}
    path = write_lines(
        tmp_path / "found.jsonl",
        line(PATTERN, "1", **{"account.id": "a"}, numbers={"x": 3}),
        line(
            PATTERN,
            "2",
            cluster={"key_kind": "subnet", "key": "203.0.113.0/24", "accounts": ["a", "b"]},
            window=window,
            whose=[{"account.id": "b", "org.id": ["acme"], "network.ip": ["203.0.113.8", "203.0.113.9"]}],
        ),
        line(PATTERN, "3", **{"account.id": "b"}, window={"group": {"org.id": "acme", "network.ip": "203.0.113.7"}}),
        line(PATTERN, "4", **{"account.id": "a"}, timestamp=START.timestamp()),
        line(PATTERN, "5", timestamp=None),
        line(seen("q"), "6", **{"account.id": "a"}, timestamp="undated"),
    )
    found, counted = read(path)
    assert (counted.matches, counted.nobodys) == (6, 1)
    by_subject = {(one.pattern.id, one.subject.kind, one.subject.id): one for one in found}
    assert set(by_subject) == {
        ("pattern--p", "account", "a"),
        ("pattern--p", "account", "b"),
        ("pattern--p", "cluster", "subnet:203.0.113.0/24"),
        ("pattern--q", "account", "a"),
    }
    start = int(START.timestamp()) * 1_000_000
    assert [match.time for match in by_subject["pattern--p", SubjectKind.ACCOUNT, "a"].matches.values()] == [start] * 2
    cluster = by_subject["pattern--p", SubjectKind.CLUSTER, "subnet:203.0.113.0/24"]
    assert cluster.accounts == {"a", "b"}
    assert cluster.facts == {
        ("b", AllowKind.ORGANISATION, "acme"),
        ("b", AllowKind.NETWORK, "203.0.113.8"),
        ("b", AllowKind.NETWORK, "203.0.113.9"),
    }
    # a window's end is no part of it, and what began before a lift is told by its start
    assert [(match.began, match.time) for match in cluster.matches.values()] == [(start - 3_600_000_000, start - 1)]
    assert by_subject["pattern--p", SubjectKind.ACCOUNT, "b"].facts == {
        ("b", AllowKind.ORGANISATION, "acme"),
        ("b", AllowKind.NETWORK, "203.0.113.7"),
    }
    organisations, _ = read(path, organisations=True)
    assert Subject(SubjectKind.ORGANISATION, "acme") in {one.subject for one in organisations}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "short"},
        {"entry": "00"},
        {"severity": "terrible"},
        {"version": None},
        {"window": {"start": "soon"}},
        {"cluster": {"key_kind": "subnet", "key": "k"}},
        {"whose": [{"account.id": "a", "org.id": "acme"}]},
    ],
)
def test_a_file_that_detect_did_not_write_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = write_lines(tmp_path / "found.jsonl", line(PATTERN, "1", **{"account.id": "a"} | changes))
    with pytest.raises(InvalidInput, match="not as `detect` writes it"):
        read(path)


def test_no_customer_keeps_others_from_being_decided_on_by_an_odd_id(tmp_path: Path) -> None:
    window = {"start": START.timestamp() - 3600, "end": START.timestamp()}
    path = write_lines(
        tmp_path / "found.jsonl",
        line(PATTERN, "1", **{"account.id": "good"}),
        line(PATTERN, "2", **{"account.id": "x" * 257}),
        line(PATTERN, "3", **{"account.id": ""}),
        line(PATTERN, "4", **{"account.id": "a\0b"}),
        line(PATTERN, "5", **{"account.id": "c", "org.id": ""}),
        line(
            PATTERN,
            "6",
            cluster={"key_kind": "template", "key": "Judge this. " * 90 + "1", "accounts": ["m", "", "y" * 257]},
            window=window,
        ),
        line(PATTERN, "7", cluster={"key_kind": "template", "key": "Judge this. " * 90, "accounts": ["n"]}),
    )
    found, counted = read(path, organisations=True)
    assert (counted.matches, counted.nobodys) == (7, 2)
    assert {one.subject.id for one in found if one.subject.kind is SubjectKind.ACCOUNT} == {"good", "a\0b", "c"}
    one, other = (found for found in found if found.subject.kind is SubjectKind.CLUSTER)
    assert {*one.accounts, *other.accounts} == {"m", "n"}  # nobody could put the others on the allow-list
    assert one.subject != other.subject
    assert len(one.subject.id) == 256
    assert one.subject.id.startswith("template:Judge this. Judge this.")


def test_what_is_no_file_of_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not there"):
        read(tmp_path / "none.jsonl")
    path = tmp_path / "broken.jsonl"
    path.write_text('{"id": ')
    with pytest.raises(InvalidInput, match="cannot be read"):
        read(path)


# -- deciding ------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(1, 2), st.sampled_from("123"), st.integers(0, 9)), max_size=5
        ),
        min_size=2,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=12, deadline=None)
def test_runs_lead_to_the_same_decisions_in_any_order(
    runs: list[list[tuple[str, int, str, int]]], order: object
) -> None:
    def found(run: list[tuple[str, int, str, int]]) -> list[Gathered]:
        parts: dict[tuple[str, int], Gathered] = {}
        for account, version, name, hour in run:
            # the same match is found with the same time and numbers in every run
            one = gathered(
                seen("p", version), account, {f"{name}{hour}": START + timedelta(hours=hour)}, numbers={"n": hour}
            )
            if (account, version) in parts:
                parts[account, version].matches.update(one.matches)
            else:
                parts[account, version] = one
        return list(parts.values())

    shuffled = list(runs)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for arranged in (runs, shuffled):
        with temporary_register() as register:
            for run in arranged:
                make(register, *found(run))
            results.append(all_of(register))
    assert results[0] == results[1]


def test_a_newer_version_of_a_pattern_speaks_alone(register: Register) -> None:
    first, second = seen("p", 1), seen("p", 2)
    make(register, gathered(second, "a"))
    make(register, gathered(first, "a"))
    states = {one.pattern_version: (one.state, one.superseded_by) for one in all_of(register)}
    newest = next(one for one in all_of(register) if one.pattern_version == 2)
    assert states == {1: (State.SUPERSEDED, newest.id), 2: (State.IN_FORCE, "")}
    assert acting(register, lab(standing(first), standing(second))) == [("a", "block")]


def test_an_expired_decision_is_followed_by_another_with_approvals_of_its_own(register: Register) -> None:
    rules = replace(BLOCKING, approvals={Action.BLOCK: 1})
    make(register, gathered(PATTERN, "a"), rules=rules)
    (decision,) = all_of(register, rules)
    number = register.resolve(decision.id)
    with register.transaction():
        assert register.approve(number, "Ada", "", rules, START)
    later = START + 15 * DAY
    assert acting(register, lab(standing(PATTERN), rules=rules)) == [("a", "block")]
    assert acting(register, lab(standing(PATTERN), rules=rules), now=later) == []
    assert make(register, gathered(PATTERN, "a"), rules=rules, now=later).unchanged == 1
    assert make(register, gathered(PATTERN, "a", {"n": later}), rules=rules, now=later).new == 1
    states = {one.state: one.follows for one in all_of(register, rules, later)}
    assert states == {State.EXPIRED: "", State.PROPOSED: decision.id}


@pytest.mark.parametrize(
    "name", ["Ada\u200b", "A\u00adda", "Ada\ufe0f", "Ada\u2800", "Ada\u202e", "Ada\nBen", "\u3164", "A" * 101]
)
def test_nobody_is_two_people_by_what_nobody_sees(register: Register, name: str) -> None:
    rules = replace(BLOCKING, approvals={Action.BLOCK: 2})
    make(register, gathered(PATTERN, "a"), rules=rules)
    number = register.resolve(all_of(register)[0].id)
    with register.transaction():
        assert register.approve(number, "Ada", "", rules, START)
        assert not any(register.approve(number, same, "", rules, START) for same in ("ADA ", "\uff21da", " ada"))
        with pytest.raises(InvalidInput, match="name"):
            register.approve(number, name, "", rules, START)


def test_a_folder_that_is_no_home_gets_no_register(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a Stillwatch home"):
        Register.of(Home(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_ipv4_network_is_one_however_it_is_written() -> None:
    assert check_id(AllowKind.NETWORK, "::ffff:203.0.113.0/120") == "203.0.113.0/24"
    assert check_id(AllowKind.NETWORK, "::ffff:0:0/96") == "0.0.0.0/0"
    assert check_id(AllowKind.NETWORK, "2001:db8::/48") == "2001:db8::/48"
    with pytest.raises(InvalidInput, match="zone"):
        check_id(AllowKind.NETWORK, "fe80::1%eth0/128")


def test_accounts_that_join_a_cluster_later_count_against_the_budget_too(register: Register) -> None:
    policy = lab(standing(PATTERN))
    make(register, gathered(PATTERN, "subnet:k", ["1"], cluster=["a"]))
    assert remember_enforced(register, policy, START) == 1
    make(register, gathered(PATTERN, "subnet:k", ["2"], cluster=["a", "b", "c", "d"]))
    assert len(acting(register, policy)) == 4
    assert remember_enforced(register, policy, START) == 1
    assert remember_enforced(register, policy, START) == 0
    assert register.outcomes(PATTERN.entry) == (4, 0)
    number = register.resolve(all_of(register)[0].id)
    with register.transaction():
        for account in "bcd":
            register.spare(number, account, "Ada", "Innocent", START)
    assert register.outcomes(PATTERN.entry) == (4, 3)


def test_an_approval_holds_for_the_accounts_that_the_approver_could_see(register: Register) -> None:
    rules = replace(BLOCKING, approvals={Action.BLOCK: 2})
    policy = lab(standing(PATTERN), rules=rules)
    make(register, gathered(PATTERN, "subnet:k", ["1"], cluster=["a", "b"]), rules=rules)
    number = register.resolve(all_of(register)[0].id)

    def approve(name: str) -> bool:
        with register.transaction():
            return register.approve(number, name, "", rules, START)

    assert [approve("Ada"), approve("Ben"), approve("ada")] == [True, True, False]
    assert remember_enforced(register, policy, START) == 1
    make(register, gathered(PATTERN, "subnet:k", ["2"], cluster=["b", "c", "d"]), rules=rules)
    assert acting(register, policy) == [("a", "block"), ("b", "block")]
    (decision,) = all_of(register, rules)
    assert (decision.state, decision.approved_by, decision.waiting) == (State.IN_FORCE, ("Ada", "Ben"), ("c", "d"))
    effect, why = what_and_why(decision, policy, AllowList(), START)
    assert effect is Action.BLOCK
    assert "not on 2 of its accounts" in why[-1]
    assert remember_enforced(register, policy, START) == 0
    assert register.outcomes(PATTERN.entry) == (2, 0)
    # one of the two is not enough for those who joined
    assert approve("Ada")
    assert acting(register, policy) == [("a", "block"), ("b", "block")]
    assert register.unapproved(number, 2) == ("c", "d")
    make(register, gathered(PATTERN, "subnet:k", ["3"], cluster=["e"]), rules=rules)
    assert approve("Ben")
    assert acting(register, policy) == [(one, "block") for one in "abcd"]
    assert remember_enforced(register, policy, START) == 1
    assert register.outcomes(PATTERN.entry) == (4, 0)
    assert all_of(register, rules)[0].waiting == ("e",)
    assert approve("Ada")
    assert acting(register, policy) == [(one, "block") for one in "abcde"]


def test_a_file_of_the_first_version_keeps_what_people_could_mean(tmp_path: Path) -> None:
    rules = replace(BLOCKING, approvals={Action.BLOCK: 1})
    path = tmp_path / "decisions.sqlite"
    register = Register(path)
    same, grown = gathered(PATTERN, "subnet:s", ["1"], ["a", "x"]), gathered(PATTERN, "subnet:g", ["1"], ["b"])
    make(register, same, grown, gathered(PATTERN, "c"), rules=rules)
    with register.transaction():
        for one in all_of(register):
            number = register.resolve(one.id)
            register.approve(number, "Ada", "", rules, START)
            if "x" in one.accounts:
                register.spare(number, "x", "Ada", "A customer", START)
    make(register, gathered(PATTERN, "subnet:g", ["2"], ["d"]), gathered(PATTERN, "c", ["2"]), rules=rules)
    for command in (
        "ALTER TABLE members DROP COLUMN joined",
        "ALTER TABLE approvals DROP COLUMN seen",
        "DROP INDEX members_cleared",
        "ALTER TABLE members DROP COLUMN cleared",
        "DROP TABLE spared",
        "CREATE INDEX members_spared ON members (decision) WHERE spared",
        "PRAGMA user_version = 1",
    ):
        register.database.execute(command)
    register.close()
    register = Register(path)
    policy = lab(standing(PATTERN), rules=rules)
    # nobody can tell whom of the cluster that has grown Ada saw
    assert acting(register, policy) == [("a", "block"), ("c", "block")]
    (waiting,) = (one for one in all_of(register, rules) if one.state is State.PROPOSED)
    assert waiting.waiting == ("b", "d")
    with register.transaction():
        assert register.approve(register.resolve(waiting.id), "Ada", "", rules, START)
    assert acting(register, policy) == [(one, "block") for one in "abcd"]
    assert register.reviewed(PATTERN.entry) == (1, 0)
    make(register, gathered(seen(version=2), "subnet:s", ["3"], ["x", "y"]))
    assert acting(register, lab(standing(seen(version=2)))) == [("y", "block")]
    register.close()


def test_who_approved_a_flag_has_not_approved_a_block(register: Register) -> None:
    needing = {Action.FLAG: 1, Action.BLOCK: 1}
    flagging = replace(BLOCKING, actions={Severity.HIGH: Action.FLAG}, approvals=needing)
    blocking = replace(BLOCKING, approvals=needing)
    make(register, gathered(PATTERN, "a"), rules=flagging)
    number = register.resolve(all_of(register)[0].id)
    with register.transaction():
        register.approve(number, "Ada", "", flagging, START)
    assert acting(register, lab(standing(PATTERN), rules=blocking)) == [("a", "flag")]
    make(register, gathered(PATTERN, "a", ["n"]), rules=blocking)
    assert acting(register, lab(standing(PATTERN), rules=blocking)) == []
    with register.transaction():
        assert register.approve(number, "Ada", "", blocking, START)
    assert acting(register, lab(standing(PATTERN), rules=blocking)) == [("a", "block")]


def test_many_matches_of_one_subject_come_in_parts_and_make_one_decision(register: Register) -> None:
    part = gathered(PATTERN, "a", [str(n) for n in range(5)])
    more = gathered(PATTERN, "a", [str(n) for n in range(3, 9)])
    more.goes_on = True
    assert make(register, part, more).new == 1
    (decision,) = all_of(register)
    assert decision.matches == 9


def test_a_cluster_acts_on_its_accounts_but_not_on_those_allowed_or_spared(register: Register, tmp_path: Path) -> None:
    make(register, gathered(PATTERN, "template:t", cluster=["a", "b", "c", "d"]), gathered(seen("q"), "b"))
    policy = lab(standing(PATTERN), standing(seen("q"), Stage.FLAG))
    assert acting(register, policy) == [(one, "block") for one in "abcd"]
    # the organisation of an account is known from a match that named it
    with register.transaction():
        register.database.execute(
            "INSERT INTO facts VALUES ('c', 'organisation', 'acme'), ('d', 'network', '203.0.113.9')"
        )
    for kind, value in ((AllowKind.ORGANISATION, "acme"), (AllowKind.NETWORK, "203.0.113.0/24")):
        wish = allow_register.checked(kind, value, "Sales", "Batch", "2026-06-01", START)
        allow_register.add(register, [wish], "somebody", START)
    allowed = allow_register.load(register, START)
    assert acting(register, policy, allowed) == [("a", "block"), ("b", "block")]
    (cluster,) = (one for one in all_of(register) if one.subject.kind is SubjectKind.CLUSTER)
    assert remember_enforced(register, policy, START) == 1
    appeal = open_appeal(register, cluster.id, "b", "a note", "Ada", BLOCKING, START)
    ruling = rule_on(register, appeal.number, "Ada", "a customer", BLOCKING, START, upheld=True)
    assert (ruling.lifted, ruling.spared) == ((), (cluster.id,))
    assert acting(register, policy, allowed) == [("a", "block"), ("b", "flag")]
    assert register.outcomes(PATTERN.entry) == (4, 1)
    assert measured(register, PATTERN.entry) == {
        "reviewed": 1,
        "true_positives": 0,
        "method": "decisions of this lab that people reviewed, and appeals",
    }
    make(register, gathered(PATTERN, "template:t", ["n"], cluster=["a", "b", "e"]))
    assert acting(register, policy, allowed) == [("a", "block"), ("b", "flag"), ("e", "block")]


def test_a_gate_that_is_sent_no_address_knows_the_accounts_of_an_allowed_network(register: Register) -> None:
    make(register, gathered(PATTERN, "a"), gathered(PATTERN, "d"))
    with register.transaction():
        register.database.execute(
            "INSERT INTO facts VALUES ('d', 'network', '203.0.113.9'), ('e', 'organisation', 'acme'), "
            "('f', 'network', '198.51.100.1')"
        )
    for kind, value in ((AllowKind.ORGANISATION, "acme"), (AllowKind.NETWORK, "203.0.113.0/24")):
        wish = allow_register.checked(kind, value, "Sales", "Batch", "2026-06-01", START)
        allow_register.add(register, [wish], "somebody", START)
    allowed = allow_register.load(register, START)
    rows = effects(register, lab(standing(PATTERN)), allowed, START)
    made = Snapshot(START, START, "one", rows, tuple(allowed.spelled_out()), GateRule())
    table = Table(b"".join(encode(made)))

    def rank(account: str, after: timedelta = timedelta()) -> int | None:
        found = table.first("account", account.encode(), None, (START + after).timestamp())
        return found.rank if found is not None else None

    assert {account: rank(account) for account in "adef"} == {
        "a": Action.BLOCK.rank,
        "d": ALLOWED,
        "e": ALLOWED,
        "f": None,
    }
    assert rank("e", after=365 * DAY) is None, "it ends with the entry"


def test_a_cluster_of_an_allowed_network_is_left_alone(register: Register) -> None:
    make(register, gathered(PATTERN, "subnet:203.0.113.0/24", cluster=["a"]))
    policy = lab(standing(PATTERN))
    assert acting(register, policy) == [("a", "block")]
    assert acting(register, policy, AllowList([entry(AllowKind.NETWORK, "203.0.112.0/22")])) == []
    assert acting(register, policy, AllowList([entry(AllowKind.NETWORK, "203.0.113.0/25")])) == [("a", "block")]


def test_of_several_decisions_the_strongest_is_in_effect_and_longer_ones_follow(register: Register) -> None:
    long = replace(BLOCKING, days={Action.THROTTLE: 60})
    mild = seen("mild", severity=Severity.LOW)
    make(register, gathered(PATTERN, "a"), gathered(mild, "a"), rules=long)
    policy = lab(standing(PATTERN), standing(mild), rules=long)
    assert acting(register, policy) == [("a", "throttle"), ("a", "block")]
    assert acting(register, policy, now=START + 20 * DAY) == [("a", "throttle")]
    make(register, gathered(PATTERN, "a", ["n"]), rules=replace(long, days={Action.BLOCK: 60}))
    assert acting(register, policy) == [("a", "block")]


def test_killed_while_deciding_it_goes_on_where_it_was(tmp_path: Path) -> None:
    after = 4  # in the second transaction, whose first decision is then lost too
    script = f"""
import os, signal, sys
from pathlib import Path
from member_client.decisions import deciding
from member_client.decisions.register import Register
from tests.member_client.decision_worlds import gathered, make, seen
deciding._SUBJECTS = 2
keep, kept = deciding._Batch._keep, 0
def killing(self, *arguments):
    global kept
    keep(self, *arguments)
    kept += 1
    if kept == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
deciding._Batch._keep = killing
make(Register(Path(sys.argv[1])), *(gathered(seen(), f"c-{{n}}") for n in range(7)))
"""
    path = tmp_path / "decisions.sqlite"
    root = Path(__file__).resolve().parents[2]
    died = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    register = Register(path)
    kept = all_of(register)
    assert len(kept) == (after - 1) // 2 * 2
    made = make(register, *(gathered(PATTERN, f"c-{n}") for n in range(7)))
    assert (made.new, made.unchanged) == (7 - len(kept), len(kept))
    with temporary_register() as whole:
        make(whole, *(gathered(PATTERN, f"c-{n}") for n in range(7)))
        assert all_of(register) == all_of(whole)
    assert register.database.execute("SELECT count(*) FROM history").fetchone()[0] == 7
    register.close()


# -- what is in effect ---------------------------------------------------------------------------------------------


def test_nothing_is_stronger_than_the_weakest_of_all_that_decides() -> None:
    everything = product(Action, State, (0, 1), Action, (None, *Stage), (False, True), (False, True), (False, True))
    for action, state, missing, asked_for, stage, reached, listed, stopped in everything:
        where = None if stage is None else standing(PATTERN, stage)
        allowed = entry(AllowKind.ACCOUNT, "a") if listed else None
        now = Circumstances(action, state, missing, asked_for, where, reached, allowed, stopped)
        if missing or listed or stopped or not state.is_open or stage not in (Stage.FLAG, Stage.ENFORCE):
            expected = Action.OBSERVE
        elif stage is Stage.FLAG or not reached:
            expected = min(action, asked_for, Action.FLAG)
        else:
            expected = min(action, asked_for)
        assert effective(now) is expected, now
        assert bool(explained(now)) == (expected < action), now


def test_a_roll_out_grows_over_the_same_subjects() -> None:
    subjects = [f"customer-{n}" for n in range(5_000)]
    inside = {
        share: {one for one in subjects if in_roll_out(standing(PATTERN, share=share), one)}
        for share in (0, 1, 10, 100)
    }
    assert inside[0] == set()
    assert inside[1] < inside[10] < inside[100] == set(subjects)
    assert 25 <= len(inside[1]) <= 75
    assert 430 <= len(inside[10]) <= 570


def test_actions_compare_by_what_they_do() -> None:
    assert Action.OBSERVE < Action.FLAG < Action.THROTTLE < Action.BLOCK
    assert max(Action, key=lambda action: action) is Action.BLOCK
    assert Rules().action(Severity.CRITICAL) is Action.OBSERVE


def test_addresses_are_covered_by_their_networks_until_these_expire() -> None:
    listed = AllowList([entry(AllowKind.NETWORK, "203.0.113.0/24"), entry(AllowKind.NETWORK, "2001:db8::/32", days=1)])
    for address, covered in (
        ("203.0.113.255", True),
        ("203.0.114.0", False),
        ("::ffff:203.0.113.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("not an address", False),
        ("", False),
    ):
        assert (listed.covers(START, address=address) is not None) is covered, address
    assert listed.covers(START + 2 * DAY, address="2001:db8::1") is None

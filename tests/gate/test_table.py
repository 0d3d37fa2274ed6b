"""A gate's table against a plain dictionary, and what a damaged one does."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.gate.snapshot import ACTIONS
from member_client.gate.table import Networks, Table, Unusable, encode, write
from member_client.gate.verdict import ALLOW_LISTED, DECIDED, NO_ACCOUNT, NO_DECISION, judge
from tests.gate.decided import NOW, Allowed, Effective, Snapshot, new_decision

IDS = st.sampled_from(["a", "b", "c", "Ö & co", "x" * 512, "\udc80"])
MODELS = st.sampled_from(["", "large", "small"])
MOMENTS = st.integers(-2, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))
ADDRESSES = [
    "",
    "192.0.2.1",
    "192.0.2.200",
    "198.51.100.7",
    "2001:db8::1",
    "::ffff:192.0.2.1",
    "no address",
    "192.0.2.01",
]
NETWORKS = ["192.0.2.0/25", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "198.51.100.7/32"]
ROWS = st.builds(
    Effective,
    id=IDS,
    action=st.sampled_from(ACTIONS),
    kind=st.sampled_from(["account", "organisation"]),
    expires=MOMENTS,
    models=st.sampled_from([(), ("large",), ("small", "large")]),
    decision_id=st.builds(new_decision),
    pattern_id=st.sampled_from(["pattern--1", "pattern--2"]),
)
ALLOWED = st.one_of(
    st.builds(Allowed, id=IDS, kind=st.sampled_from(["account", "organisation"]), expires=st.none() | MOMENTS),
    st.builds(Allowed, id=st.sampled_from(NETWORKS), kind=st.just("network"), expires=st.none() | MOMENTS),
)
SNAPSHOTS = st.builds(Snapshot, rows=st.lists(ROWS, max_size=12), allowed=st.lists(ALLOWED, max_size=4))


def table_of(snapshot: Snapshot) -> Table:
    return Table(b"".join(encode(snapshot)))


def in_network(address: str, network: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return found in ipaddress.ip_network(network)


def in_plain_words(
    snapshot: Snapshot, account: str, organisation: str, address: str, model: str
) -> tuple[str, str, frozenset[str]]:
    """Action, reason, and which decisions may be named."""
    names = {("account", account), ("organisation", organisation)}
    alive = [entry for entry in snapshot.allowed if entry.expires is None or entry.expires > NOW]
    applying = [
        row
        for row in snapshot.rows
        if row.id and (row.kind, row.id) in names and row.expires > NOW and (not row.models or model in row.models)
    ]
    if any(entry.id and (entry.kind, entry.id) in names for entry in alive):
        return "observe", ALLOW_LISTED, frozenset([""])
    if not applying:
        return "observe", NO_DECISION if account else NO_ACCOUNT, frozenset([""])
    if any(entry.kind == "network" and in_network(address, entry.id) for entry in alive):
        return "observe", ALLOW_LISTED, frozenset([""])
    strongest = max(ACTIONS.index(row.action) for row in applying)
    action = ACTIONS[strongest]
    return action, DECIDED, frozenset(row.decision_id for row in applying if row.action == action)


@settings(deadline=None)  # the first example loads NumPy
@given(SNAPSHOTS, IDS, st.one_of(st.just(""), IDS), st.sampled_from(ADDRESSES), MODELS)
def test_a_verdict_is_what_a_plain_search_says(
    snapshot: Snapshot, account: str, organisation: str, address: str, model: str
) -> None:
    action, reason, decisions = in_plain_words(snapshot, account, organisation, address, model)
    got = judge(table_of(snapshot), NOW.timestamp(), account, organisation, address, model)
    assert (got.action, got.reason) == (action, reason)
    assert got.decision in decisions
    named = {row.decision_id: row.pattern_id for row in snapshot.rows}
    assert got.pattern == named.get(got.decision, "")


@given(SNAPSHOTS, IDS, st.sampled_from(ADDRESSES), MODELS, st.sampled_from(["open", "closed"]), st.integers(0, 10**9))
def test_whoever_is_allow_listed_passes_whatever_else_holds(
    snapshot: Snapshot, account: str, address: str, model: str, fail: str, later: int
) -> None:
    listed = replace(snapshot, allowed=[*snapshot.allowed, Allowed(account)])
    assert judge(table_of(listed), NOW.timestamp() + later, account, "", address, model, fail).action == "observe"


@given(st.lists(st.sampled_from(NETWORKS)), st.sampled_from(ADDRESSES))
def test_an_address_is_in_a_network_as_the_standard_library_says(networks: list[str], address: str) -> None:
    ours = Networks([(network, None) for network in networks])
    assert ours.contain(address, 0.0) is any(in_network(address, network) for network in networks)


def test_an_address_with_a_port_is_the_address() -> None:
    allowed = Networks([("192.0.2.0/24", None), ("2001:db8::/32", None)])
    for address in ("192.0.2.7:567", "[2001:db8::7]:80", "[2001:db8::7]", "[::ffff:192.0.2.7]:65535"):
        assert allowed.contain(address, 0.0), address
    for address in (
        "192.0.3.7:567", "[2001:db9::7]:80", "192.0.2.7:", "192.0.2.7:http", "192.0.2.7:1:2", "192.0.2.7:567890",
        "[192.0.2.7]:80", "[2001:db8::7", "2001:db8::7]:80", "[2001:db8::7]80", "[]:80", "[", ":80", "[:]:1",
        "192.0.2.7:٣", "[[2001:db8::7]]:80",
    ):  # fmt: skip
        assert not allowed.contain(address, 0.0), address


def test_many_rows_are_found_each_and_no_other(tmp_path: Path) -> None:
    rows = [Effective(f"acct-{number}", decision_id=new_decision()) for number in range(20_000)]
    write(tmp_path / "table", Snapshot(rows))
    table = Table.load(tmp_path / "table")
    now = NOW.timestamp()
    found = [table.first("account", row.id.encode(), None, now) for row in rows]
    assert [row.decision if row else "" for row in found] == [row.decision_id for row in rows]
    assert not any(table.first("account", f"acct-{number}".encode(), None, now) for number in range(20_000, 40_000))
    assert not any(table.first("organisation", row.id.encode(), None, now) for row in rows)


def test_a_decision_ends_at_the_very_moment_it_expires() -> None:
    table = table_of(Snapshot([Effective("a", expires=NOW)]))
    moment = NOW.timestamp()
    assert judge(table, moment - 1e-6, "a", "", "", "").action == "block"
    assert judge(table, moment, "a", "", "", "").action == "observe"


def test_an_entry_of_the_allow_list_ends_at_the_very_moment_it_expires() -> None:
    for entry in (Allowed("a", expires=NOW), Allowed("192.0.2.0/24", "network", NOW)):
        table = table_of(Snapshot([Effective("a")], [entry]))
        moment = NOW.timestamp()
        assert judge(table, moment - 1e-6, "a", "", "192.0.2.1", "").action == "observe"
        assert judge(table, moment, "a", "", "192.0.2.1", "").action == "block"


def test_without_a_model_what_is_limited_to_models_does_not_act() -> None:
    table = table_of(Snapshot([Effective("a", models=("large",)), Effective("a", action="flag")]))
    verdicts = [judge(table, NOW.timestamp(), "a", "", "", model).action for model in ("large", "small", "")]
    assert verdicts == ["block", "flag", "flag"]


def test_every_changed_byte_and_every_cut_is_found() -> None:
    data = b"".join(encode(Snapshot([Effective("a"), Effective("b")], [Allowed("192.0.2.0/24", "network")])))
    for place in range(0, len(data), 7):
        with pytest.raises(Unusable):
            Table(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(Unusable):
            Table(data[:place])
    with pytest.raises(Unusable):
        Table(data + b"\0")


def test_what_no_row_can_say_makes_no_table(tmp_path: Path) -> None:
    whole = tmp_path / "table"
    write(whole, Snapshot([Effective("a")]))
    before = whole.read_bytes()
    refused = [
        Snapshot([Effective("a", action="shoot")]),
        Snapshot([Effective("a", kind="cluster")]),
        Snapshot([Effective("a", decision_id="decision--7")]),
        Snapshot(allowed=[Allowed("300.0.0.0/8", "network")]),
        Snapshot(allowed=[Allowed("192.0.2.1/24", "network")]),
    ]
    for snapshot in refused:
        with pytest.raises(Unusable):
            write(whole, snapshot)
    assert whole.read_bytes() == before
    assert whole.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [whole]


def test_two_tables_of_the_same_rows_have_no_digest_in_common() -> None:
    one, other = (b"".join(encode(Snapshot([Effective("a")]))) for _ in range(2))
    assert one[-33:-17] != other[-33:-17]

"""Going through a plan: never twice, never without a note, never faster or longer than was asked for."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.revocation.authority import Target
from member_client.revocation.giving_back import plans_in_short, to_give_back
from member_client.revocation.hooks import Command, Outcome, Webhook
from member_client.revocation.journal import Journal, locked, read_journal
from member_client.revocation.planning import Plan, read_plan
from member_client.revocation.reporting import report_document, report_markdown
from member_client.revocation.running import Limits, Tally, run_plan, states, to_undo, undo_plan
from tests.gate.decided import home_in
from tests.member_client.revocation_world import (
    DECISION,
    Crash,
    Gateway,
    Says,
    StoppedClock,
    heard,
    hook_script,
    plan_of,
)

LIMITS = Limits(per_second=1000, attempts=3, max_failures=100)
NOT_NOW = Outcome(False, "not now")


def go(
    home: Path, plan: Plan, gateway: Gateway, says: Says | None = None, limits: Limits = LIMITS, *, undo: bool = False
) -> Tally:
    clock = StoppedClock().clock
    with Journal(Home(home)) as journal:
        if undo:
            return undo_plan(plan, gateway, journal, limits, clock)
        return run_plan(plan, says or Says(), gateway, journal, limits, clock)


def state(home: Path, plan: Plan) -> list[str]:
    return [line.what.value if line else "" for line in states(plan, read_journal(Home(home))).values()]


def test_what_is_done_is_not_done_again_by_any_plan(tmp_path: Path) -> None:
    plan, gateway = plan_of("a", "b"), Gateway()
    assert go(tmp_path, plan, gateway).done == 2
    again = go(tmp_path, plan, gateway)
    assert (again.done, again.before) == (0, 2)
    other = go(tmp_path, plan_of("b", "c", number=2), gateway)
    assert (other.done, other.before) == (1, 1)
    assert [account for _, account, _ in gateway.calls] == ["a", "b", "c"]
    assert gateway.revoked == {"a", "b", "c"}
    # What another plan did, this one does not undo.
    assert go(tmp_path, plan_of("b", "c", number=2), gateway, undo=True).done == 1
    assert gateway.revoked == {"a", "b"}


def test_undo_gives_back_the_last_first_and_a_new_round_has_new_keys(tmp_path: Path) -> None:
    plan, gateway = plan_of("a", "b", "c"), Gateway()
    go(tmp_path, plan, gateway, Says({"b": "on the allow-list"}))
    assert state(tmp_path, plan) == ["done", "held back", "done"]
    undone = go(tmp_path, plan, gateway, undo=True)
    assert (undone.done, gateway.revoked) == (2, set())
    assert [call[:2] for call in gateway.calls[2:]] == [("restore", "c"), ("restore", "a")]
    assert go(tmp_path, plan, gateway, undo=True) == Tally(before=2)
    go(tmp_path, plan, gateway)
    keys = [key for action, account, key in gateway.calls if account == "a"]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("first", [0, 1])
def test_what_two_decisions_ended_comes_back_with_the_second_undoing(tmp_path: Path, first: int) -> None:
    plans = [plan_of("a", "b"), plan_of("b", number=2, decision=DECISION[:-1] + "2")]
    gateway = Gateway()
    for plan in plans:
        assert go(tmp_path, plan, gateway).done == len(plan.targets)
    one, other = plans[first], plans[1 - first]
    undone = go(tmp_path, one, gateway, undo=True)
    assert "b" in gateway.revoked
    ((target, why),) = undone.held_back
    assert (target.id, undone.done) == ("b", len(one.targets) - 1)
    assert other.decisions[0].id in why
    assert other.id in why
    assert "released" in state(tmp_path, one)
    assert go(tmp_path, one, gateway, undo=True) == Tally(before=len(one.targets) - 1)
    assert go(tmp_path, other, gateway, undo=True).done == len(other.targets)
    assert gateway.revoked == set()
    # and a new round is another one for the lab's own system
    go(tmp_path, one, gateway)
    revoked = [key for action, account, key in gateway.calls if (action, account) == ("revoke", "b")]
    assert len(set(revoked)) == 3


def test_who_is_shut_out_by_another_decision_that_still_blocks_is_not_to_be_given_back(tmp_path: Path) -> None:
    other = DECISION[:-1] + "2"
    for plan in (plan_of("a", "b"), plan_of("b", "c", number=2, decision=other)):
        go(tmp_path, plan, Gateway())

    class FirstFell(Says):
        def why_not(self, target: Target) -> str:
            return "lifted" if target.decision == DECISION else super().why_not(target)

    lines = read_journal(Home(tmp_path))
    assert [one.target.id for one in to_give_back(lines, FirstFell())] == ["a"]
    everybody = to_give_back(lines, FirstFell({"b": "expired", "c": "expired"}))
    assert [one.target.id for one in everybody] == ["a", "b", "b", "c"]
    assert [(one.ended, one.to_give_back) for one in plans_in_short(lines, everybody)] == [(2, 2), (2, 2)]


def test_each_account_is_asked_about_at_its_turn_and_before_another_try(tmp_path: Path) -> None:
    says = Says()

    def change_of_mind(number: int) -> Outcome | None:
        says.no = {"b": "the decision is lifted"}
        return None

    plan, gateway = plan_of("a", "b", "c"), Gateway(change_of_mind)
    tally = go(tmp_path, plan, gateway, says)
    assert gateway.revoked == {"a", "c"}
    assert [(one.id, why) for one, why in tally.held_back] == [("b", "the decision is lifted")]

    def fail(number: int) -> Outcome | None:
        says.no = {"d": "the decision is lifted"}
        return NOT_NOW

    failing = Gateway(fail)
    tally = go(tmp_path, plan_of("d", number=2), failing, says)
    assert len(failing.calls) == 1
    assert "not tried again: the decision is lifted" in tally.failed[0][1]


def test_at_a_slow_pace_each_is_asked_about_after_the_wait(tmp_path: Path) -> None:
    stopped, says, gateway = StoppedClock(), Says(), Gateway()

    def wait(seconds: float) -> None:
        stopped.wait(seconds)
        says.no["b"] = "somebody put it on the allow-list meanwhile"

    clock = replace(stopped.clock, wait=wait)
    with Journal(Home(tmp_path)) as journal:
        tally = run_plan(plan_of("a", "b", "c"), says, gateway, journal, Limits(per_second=0.01), clock)
    assert [account for _, account, _ in gateway.calls] == ["a", "c"]
    assert [target.id for target, _ in tally.held_back] == ["b"]
    assert stopped.waits == [100.0]


def test_failures_are_tried_again_within_bounds_and_stop_the_run(tmp_path: Path) -> None:
    plan = plan_of(*"abcdef")
    gateway = Gateway(lambda number: NOT_NOW)
    tally = go(tmp_path, plan, gateway, limits=Limits(1000, 3, 2))
    assert (tally.stopped, len(tally.failed), len(gateway.calls)) == (True, 2, 6)
    refusing = Gateway(lambda number: Outcome(False, "HTTP status 404", again=False))
    tally = go(tmp_path, plan, refusing, limits=Limits(1000, 3, 2))
    assert (tally.stopped, len(refusing.calls)) == (True, 2)
    assert {key for _, account, key in gateway.calls + refusing.calls if account == "a"} == {gateway.calls[0][2]}
    healthy = Gateway(lambda number: NOT_NOW if number < 2 else None)
    assert go(tmp_path, plan, healthy).done == 6
    assert healthy.revoked == set("abcdef")


def test_it_calls_no_faster_than_it_may_and_waits_longer_after_each_failure(tmp_path: Path) -> None:
    stopped, gateway = StoppedClock(), Gateway()
    with Journal(Home(tmp_path)) as journal:
        run_plan(plan_of(*"abcde"), Says(), gateway, journal, Limits(2.0, 3, 5), stopped.clock)
    assert stopped.waits == [0.5] * 4
    stopped, gateway = StoppedClock(), Gateway(lambda number: NOT_NOW)
    with Journal(Home(tmp_path)) as journal:
        run_plan(plan_of("x"), Says(), gateway, journal, Limits(1000, 4, 5), stopped.clock)
    assert stopped.waits == [2.0, 4.0, 8.0]


_calls = st.integers(0, 8)
runs = st.lists(st.tuples(st.booleans(), st.frozensets(_calls), _calls, st.booleans()), max_size=4)
"""Of each run: whether it undoes, which calls fail, after which call it is killed, and whether a line was cut off."""


@settings(deadline=None, max_examples=20)
@given(runs)
def test_wherever_it_is_killed_it_goes_on_without_a_second_effect(
    history: list[tuple[bool, frozenset[int], int, bool]],
) -> None:
    plan = plan_of(*"abcd")
    with tempfile.TemporaryDirectory() as folder:
        home, journal = Path(folder), Path(folder) / "revocations" / "journal.jsonl"
        calls = []
        for undo, failing, last, torn in history:
            gateway = Gateway(partial(fails_at, failing), crash_after=last)
            done = {account for account, now in zip("abcd", state(home, plan), strict=True) if now == "done"}
            with contextlib.suppress(Crash):
                go(home, plan, gateway, limits=Limits(1000, 2, 100), undo=undo)
            assert undo or not done & {account for _, account, _ in gateway.calls}
            calls += gateway.calls
            if torn:  # the machine died while it wrote a line, which nobody relied upon yet
                journal.write_bytes(journal.read_bytes() + b'{"at":"2026')
        rounds: dict[tuple[str, bool, int], set[str]] = {}
        for line in read_journal(Home(home)):
            of_this = rounds.setdefault((line.id, line.what.value.startswith("und"), line.round), set())
            of_this.add(line.key)
        assert all(len(keys) == 1 for keys in rounds.values())
        assert {key for _, _, key in calls} <= {key for keys in rounds.values() for key in keys}
        go(home, plan, gateway := Gateway(), undo=True)
        go(home, plan, gateway)
        assert state(home, plan) == ["done"] * 4
        assert gateway.revoked == set("abcd")


def fails_at(failing: frozenset[int], number: int) -> Outcome | None:
    return NOT_NOW if number in failing else None


def test_a_killed_run_calls_again_with_the_same_key_only_for_what_it_had_begun(tmp_path: Path) -> None:
    plan, gateway = plan_of(*"abcd"), Gateway(crash_after=1)
    with pytest.raises(Crash):
        go(tmp_path, plan, gateway)
    assert state(tmp_path, plan) == ["done", "begun", "", ""]
    gateway.crash_after = -1
    assert go(tmp_path, plan, gateway).done == 3
    assert [account for _, account, _ in gateway.calls] == ["a", "b", "b", "c", "d"]
    assert gateway.calls[1] == gateway.calls[2]
    # What was begun when the decision went away may have been done: it stays to be undone.
    with pytest.raises(Crash):
        go(tmp_path, plan_of("e", number=2), Gateway(crash_after=0))
    late = Gateway()
    assert len(go(tmp_path, plan_of("e", number=2), late, Says({"e": "lifted"})).held_back) == 1
    assert go(tmp_path, plan_of("e", number=2), late, undo=True).done == 1


def test_the_journal_is_private_append_only_and_damage_is_named(tmp_path: Path) -> None:
    plan = plan_of("a", "b")
    go(tmp_path, plan, Gateway())
    journal = tmp_path / "revocations" / "journal.jsonl"
    before = journal.read_bytes()
    assert journal.stat().st_mode & 0o777 == 0o600
    go(tmp_path, plan, Gateway(), undo=True)
    assert journal.read_bytes().startswith(before)
    home = home_in(tmp_path / "home")
    with locked(home), pytest.raises(InvalidInput, match="under way"), locked(home):
        pass
    journal.write_bytes(before[:30] + b"\n" + before[31:])
    with pytest.raises(InvalidInput, match=r"journal\.jsonl:1 is damaged"):
        go(tmp_path, plan, Gateway())


def test_the_report_says_what_became_of_everybody(tmp_path: Path) -> None:
    plan = plan_of("a|b", "b", "c")
    gone = Outcome(False, "HTTP status 404", again=False)
    go(tmp_path, plan, Gateway(lambda number: gone if number else None), Says({"c": "on the allow-list"}))
    lines = read_journal(Home(tmp_path))
    document = report_document(plan, lines)
    assert document["states"] == {"done": 1, "failed": 1, "held back": 1}
    assert document["to_undo"] == ["b", "a|b"]  # whose hook failed: it may have been done all the same
    with Journal(Home(tmp_path)) as journal:
        assert [target.id for target in to_undo(plan, journal)] == document["to_undo"]
    text = report_markdown(plan, lines)
    assert "| account | a\\|b | done |" in text
    assert "HTTP status 404" in text
    assert "on the allow-list" in text
    assert report_document(plan_of("x"), lines)["states"] == {"not begun": 1}


def test_a_plan_file_is_read_back_and_damage_is_named(tmp_path: Path) -> None:
    plan, file = plan_of("a", "ü,\n"), tmp_path / "plan.json"
    file.write_bytes(plan.encode())
    assert read_plan(file) == plan
    file.write_bytes(plan.encode().replace(b'"account"', b'"person"'))
    with pytest.raises(InvalidInput, match=r"targets\.0\.kind"):
        read_plan(file)
    file.write_bytes(b"{")
    with pytest.raises(InvalidInput, match="not a plan") as refused:
        read_plan(file)
    assert "stillwatch revocation plan" in refused.value.hint
    with pytest.raises(InvalidInput, match="cannot read"):
        read_plan(tmp_path / "nothing")


# -- hooks -----------------------------------------------------------------------------------------------------------


def test_a_hook_is_not_told_how_to_open_this_labs_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLWATCH_PASSPHRASE", "a secret")
    monkeypatch.setenv("LABS_OWN", "settings")
    hook = hook_script(
        tmp_path / "hook.py",
        "import os",
        "sys.exit('STILLWATCH_PASSPHRASE' in os.environ or os.environ['LABS_OWN'] != 'settings')",
    )
    assert Command(hook, 10).call(b"{}", "k") == Outcome(True)


def test_a_command_gets_arguments_without_a_shell_and_json_on_its_input(tmp_path: Path) -> None:
    command = hook_script(tmp_path / "hook.py", "sys.exit(0 if sys.argv[1:] == ['$(touch x)', ';', 'a b'] else 9)")
    assert Command(f"{command} '$(touch x)' ';' 'a b'", 10).call(b'{"a":1}', "k") == Outcome(True)
    assert heard(tmp_path / "hook.py") == [{"a": 1}]
    loud = hook_script(tmp_path / "loud.py", "sys.stderr.write('no\\x1b[31m such' + 'x' * 100000)", "sys.exit(3)")
    outcome = Command(loud, 10).call(b"{}", "k")
    assert outcome.note.startswith("exit status 3: no\\u001b[31m such")
    assert len(outcome.note) < 300
    missing = Command(str(tmp_path / "missing"), 10).call(b"{}", "k")
    assert not missing.again
    assert "does not start" in missing.note
    for unusable in ("", "'"):
        with pytest.raises(InvalidInput):
            Command(unusable, 10)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = hook_script(
        tmp_path / "hook.py",
        "import fcntl, subprocess, time",
        f"held = open({str(lock)!r}, 'w')",
        "fcntl.flock(held, fcntl.LOCK_EX)",
        "subprocess.Popen(['sleep', '600'], pass_fds=[held.fileno()])",
        "time.sleep(600)",
    )
    assert "no answer within" in Command(script, 1.0).call(b"{}", "k").note
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # would wait for as long as any of them lives


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.heard.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined] # the test's
            self.send_response(self.server.answers.pop(0))  # type: ignore[attr-defined] # the test's
            self.send_header("location", self.server.location)  # type: ignore[attr-defined] # the test's
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    made.heard, made.answers = [], []  # type: ignore[attr-defined] # what the handler hears and answers
    made.location = "/elsewhere"  # type: ignore[attr-defined] # where it redirects to
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_webhook_carries_its_key_and_its_token_and_knows_when_to_try_again(
    server: HTTPServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with pytest.raises(InvalidInput, match="read by other users"):
        Webhook("https://example.com/x", 5, token)
    token.chmod(0o600)
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/revoke", 5, token)
    server.answers += [204, 503, 429, 404, 302]  # type: ignore[attr-defined] # the fixture's
    outcomes = [hook.call(b'{"a":1}', "the-key") for _ in range(5)]
    assert [(one.done, one.again) for one in outcomes[1:]] == [
        (False, True),
        (False, True),
        (False, False),
        (False, False),
    ]
    assert outcomes[0] == Outcome(True)
    path, headers, body = server.heard[0]  # type: ignore[attr-defined] # the fixture's
    lower = {name.lower(): value for name, value in headers.items()}
    assert (path, body, lower["idempotency-key"]) == ("/revoke", b'{"a":1}', "the-key")
    assert lower["authorization"] == "Bearer s3cret"
    assert {one[0] for one in server.heard} == {"/revoke"}  # type: ignore[attr-defined] # the fixture's
    server.answers, server.location = [302], "http:elsewhere"  # type: ignore[attr-defined] # the fixture's
    assert hook.call(b"{}", "k") == Outcome(False, "no answer: InvalidURL")
    hook.close()
    for url in (
        "http://example.com/x",
        "ftp://x",
        "https://user:pass@example.com",
        "https://:pass@example.com",
        "http://",
        "https://[example",
        "https://example.com:port/",
        "https://example.com/\n",
        "https://xn--/",
        f"https://{'a' * 300}/",
    ):
        with pytest.raises(InvalidInput, match="no URL for a webhook"):
            Webhook(url, 5)
    with socket.create_server(("127.0.0.1", 0)) as dripping:  # headers without end, a byte at a time
        ended = threading.Event()

        def drip() -> None:
            connection, _ = dripping.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not ended.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        slow = Webhook(f"http://127.0.0.1:{dripping.getsockname()[1]}/x", 0.3)
        outcome = slow.call(b"{}", "k")
        ended.set()
        thread.join()
        slow.close()
    assert outcome == Outcome(False, "no answer within 0.3 s")
    gone = Webhook("http://127.0.0.1:9/x", 1)
    assert gone.call(b"{}", "k").again
    gone.close()

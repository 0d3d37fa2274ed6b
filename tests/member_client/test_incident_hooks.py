"""Who is told of incidents: whatever the other side does, each event arrives, signed, under one key, at least once."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import http_message_signatures
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from member_client.errors import InvalidInput
from member_client.home import Home
from member_client.incidents import notifying
from member_client.incidents.deliveries import DELIVERED, GIVEN_UP, IN_DIGEST, MAX_WAITING, WAITING
from member_client.incidents.events import MAX_LISTED
from member_client.incidents.hooks import Mailbox, Webhook, read_hooks
from member_client.incidents.notifying import TOLD_SINGLY, TRIES_A_RUN, Report, signing_key
from member_client.session import Session
from sharing_protocol.errors import ProtocolError
from sharing_protocol.request_signing import sign_request, verify_request
from tests.member_client.lab_homes import Client
from tests.member_client.lying_hub import LyingHub
from tests.member_client.receivers import Received, WebServer, mail_server, make_certificate, web_server
from tests.member_client.told_lab import ToldLab, email
from tests.protocol.forum_log import AURORA, BOREAL, key

STILLWATCH = str(Path(sys.executable).parent / "stillwatch")
MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ToldLab]:
    with LyingHub([]) as hub:
        told = ToldLab(tmp_path / "boreal", hub)
        yield told
        told.session.store.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("mail"))


def webhook(web: WebServer, *more: str, name: str = "pager") -> str:
    return "\n".join(["[[webhook]]", f'name = "{name}"', f'url = "{web.url("/a%7Cb?token=s3cret")}"', *more, ""])


def events(web: WebServer) -> list[tuple[str, str | None]]:
    told = [json.loads(request.body) for request in web.received]
    return [(one["event"], one["level"]) for one in told]


# -- which events ----------------------------------------------------------------------------------------------------


def test_a_whole_incident_is_told_once(lab: ToldLab, web: WebServer) -> None:
    before = lab.open(1)
    lab.hooks(webhook(web))
    incident = lab.open(2, protocol=lab.protocol())
    lab.act(incident, BOREAL, "join")
    lab.act(incident, BOREAL, "escalate", "Act")
    assert lab.notify().delivered == 1
    lab.act(incident, AURORA, "escalate", "Act")
    lab.act(incident, AURORA, "escalate", "Panic")
    assert lab.notify().delivered == 1
    lab.now += 59 * MINUTE
    assert lab.notify().found == 0
    lab.now += 2 * MINUTE
    assert (lab.notify().delivered, lab.notify().found) == (1, 0)
    lab.act(incident, AURORA, "close")
    lab.act(before, AURORA, "close")
    assert lab.notify().delivered == 2
    assert events(web) == [
        ("opened", "Watch"),
        ("escalated", "Act"),
        ("overdue", "Act"),
        ("closed", "Act"),
        ("closed", None),
    ]
    told = json.loads(web.received[2].body)
    assert told["lab"] == {"id": BOREAL, "name": "Boreal"}
    assert told["occurred"] == "2026-03-01T13:00:00Z"
    assert told["incident"]["id"] == incident
    assert len({request.headers["idempotency-key"] for request in web.received}) == 5


def test_hooks_are_told_only_what_they_want(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(
        webhook(web, 'events = ["escalated", "overdue"]', 'levels = ["Act"]', name="picky")
        + webhook(web, 'events = ["closed"]', name="end")
    )
    incident = lab.open(protocol=lab.protocol())
    lab.act(incident, BOREAL, "join")
    for number in (AURORA, BOREAL):
        lab.act(incident, number, "escalate", "Act")
    lab.act(incident, AURORA, "close")
    lab.notify()
    assert {(one.hook, one.kind) for one in lab.deliveries()} == {("picky", "escalated"), ("end", "closed")}
    keys = {request.headers["idempotency-key"] for request in web.received}
    assert len(keys) == 2


def test_a_lab_that_does_much_is_told_of_in_a_digest_and_others_singly(lab: ToldLab, web: WebServer) -> None:
    quiet = lab.open(0)
    lab.hooks(webhook(web) + webhook(web, 'events = ["closed"]', name="end"))
    lab.act(quiet, BOREAL, "join")
    for number in range(1, TOLD_SINGLY + MAX_LISTED + 3):
        lab.say_open(number)
    lab.sync()
    lab.act(quiet, BOREAL, "escalate", "Red")
    report = lab.notify()
    assert (report.found, report.delivered) == (TOLD_SINGLY + 2, TOLD_SINGLY + 2)
    told = [json.loads(request.body) for request in web.received]
    assert [one["event"] for one in told if one["lab"]["name"] == "Boreal"] == ["escalated"]
    (digest,) = [one for one in told if one["event"] == "digest"]
    assert (digest["lab"]["name"], digest["counts"]) == ("Aurora", {"opened": MAX_LISTED + 2})
    assert digest["newest"][-1]["incident"]["title"] == f"Incident {TOLD_SINGLY + MAX_LISTED + 2}"
    assert len(digest["newest"]) == MAX_LISTED
    states = [one.state for one in lab.deliveries()]
    assert (states.count(IN_DIGEST), states.count(DELIVERED)) == (MAX_LISTED + 2, TOLD_SINGLY + 2)
    assert (lab.notify().found, lab.notify(again=True).delivered) == (0, 0)


def test_a_digest_that_finds_no_room_is_made_later_with_all_that_is_in_it(
    lab: ToldLab, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("member_client.incidents.deliveries.MAX_WAITING", TOLD_SINGLY)
    lab.hooks(webhook(web))
    for number in range(1, TOLD_SINGLY + 8):
        lab.say_open(number)
    lab.sync()
    assert lab.notify().found == TOLD_SINGLY
    assert IN_DIGEST not in {one.state for one in lab.deliveries()}
    assert [lab.notify().found for _ in range(3)] == [TOLD_SINGLY, 2, 0]
    assert [one for one, _ in events(web)] == ["opened"] * (2 * TOLD_SINGLY + 2)


def test_a_new_hook_is_told_from_then_on_and_what_is_overdue_now(lab: ToldLab, web: WebServer) -> None:
    incident = lab.open(protocol=lab.protocol())
    lab.act(incident, BOREAL, "join")
    lab.now += 5 * HOUR
    lab.write_hooks(webhook(web))
    lab.notify()
    assert events(web) == [("overdue", "Watch")]


# -- signatures ------------------------------------------------------------------------------------------------------


def told_once(lab: ToldLab, web: WebServer) -> Received:
    lab.hooks(webhook(web))
    lab.open()
    assert lab.notify().delivered == 1
    (request,) = web.received
    return request


def test_a_receiver_can_check_who_told_it_what(lab: ToldLab, web: WebServer) -> None:
    request = told_once(lab, web)
    public_key = signing_key(lab.session.home).public_key
    url = web.url(request.path)

    def find(key_id: str) -> object:
        assert key_id == public_key.key_id
        return public_key

    signed = verify_request("POST", url, request.headers.items(), request.body, find, lab.now)  # type: ignore[arg-type]
    assert signed.created == int(lab.now)
    assert json.loads(request.body)["delivery"] == request.headers["idempotency-key"].strip('"')
    for changed, path in ((request.body.replace(b"opened", b"closed"), url), (request.body, web.url("/other"))):
        with pytest.raises(ProtocolError):
            verify_request("POST", path, request.headers.items(), changed, find, lab.now)  # type: ignore[arg-type]


def test_a_receiver_needs_only_a_public_library(lab: ToldLab, web: WebServer) -> None:
    """As docs/incidents.md shows it."""
    lab.now = time.time()
    lab.sync()
    request = told_once(lab, web)
    public_key = signing_key(lab.session.home).public_key

    class Keys(http_message_signatures.HTTPSignatureKeyResolver):
        def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
            assert key_id == public_key.key_id
            return Ed25519PublicKey.from_public_bytes(base64.b64decode(str(public_key)))

    class Arrived:
        method, url, headers = "POST", web.url(request.path), dict(request.headers)

    verifier = http_message_signatures.HTTPMessageVerifier(
        signature_algorithm=http_message_signatures.algorithms.ED25519, key_resolver=Keys()
    )
    (result,) = verifier.verify(Arrived(), max_age=timedelta(minutes=5), expect_tag="stillwatch")
    assert set(result.covered_components) >= {'"@authority"', '"@path"', '"content-digest"'}
    verifier.verify_body(Arrived(), [result], request.body)
    with pytest.raises(http_message_signatures.InvalidSignature):
        verifier.verify_body(Arrived(), [result], request.body + b" ")


def test_each_try_is_signed_anew_and_says_the_same(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    lab.open()
    web.answers = [(503, {})]
    assert lab.notify().failed == [("pager", "it answered 503")]
    lab.now += HOUR
    assert lab.notify().delivered == 1
    first, second = web.received
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])
    assert first.headers["signature-input"] != second.headers["signature-input"]


# -- failures --------------------------------------------------------------------------------------------------------


def test_failures_are_tried_again_ever_more_rarely_and_given_up(
    lab: ToldLab, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.hooks(webhook(web))
    lab.open()
    web.answers = [(500, {})] * 1000
    lab.notify()
    assert lab.notify().failed == []
    pauses = []
    monkeypatch.setattr(notifying, "GIVEN_UP_AFTER_SECONDS", 8 * HOUR)
    while (one := lab.deliveries()[0]).state == WAITING:
        pauses.append(one.next_try - lab.now)
        lab.now = one.next_try
        lab.notify()
    assert pauses[0] <= 30
    assert all(pause <= HOUR for pause in pauses)
    assert pauses[-1] >= 0.8 * HOUR
    assert (one.state, one.tries) == (GIVEN_UP, len(pauses) + 1)
    assert 8 * HOUR < lab.now - one.queued < 9 * HOUR
    web.answers = []
    assert lab.notify().delivered == 0
    assert lab.notify(again=True).delivered == 1
    assert len({request.headers["idempotency-key"] for request in web.received}) == 1


def test_a_busy_receiver_is_left_in_peace_as_long_as_it_asks(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    lab.open(1)
    lab.open(2)
    web.answers = [(429, {"Retry-After": "600"})]
    assert len(lab.notify().failed) == 1
    assert len(web.received) == 1
    assert max(one.next_try for one in lab.deliveries()) == lab.now + 600
    web.answers = [(204, {}), (503, {"Retry-After": "Sun, 01 Mar 2026 13:30:00 GMT"})]
    lab.now += 600
    assert lab.notify().delivered == 1
    assert max(one.next_try for one in lab.deliveries()) == lab.now + 80 * MINUTE
    web.answers = [(429, {"Retry-After": "9" * 9})]
    lab.now += 80 * MINUTE
    lab.notify()
    assert max(one.next_try for one in lab.deliveries()) == lab.now + 6 * HOUR


def test_one_event_that_is_not_taken_does_not_hold_up_the_others(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    for number in range(3):
        lab.open(number)
    web.answers = [(400, {}), (204, {}), (410, {})]
    report = lab.notify()
    assert (report.delivered, len(report.failed), report.given_up) == (1, 2, 1)
    assert [one.state for one in lab.deliveries()] == [WAITING, DELIVERED, GIVEN_UP]


def test_a_hook_that_is_gone_does_not_hold_up_the_others(lab: ToldLab, web: WebServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f'[[webhook]]\nname = "dead"\nurl = "http://127.0.0.1:{closed.getsockname()[1]}/s3cret"\n'
        lab.hooks(dead + webhook(web))
        for number in range(3):
            lab.open(number)
        report = lab.notify()
    assert report.delivered == 3
    assert [hook for hook, _ in report.failed] == ["dead"]
    assert "refused" in report.failed[0][1]
    assert "s3cret" not in str([one.error for one in lab.deliveries()])


def test_redirects_are_not_followed(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    lab.open()
    with web_server() as elsewhere:
        web.answers = [(307, {"Location": elsewhere.url()})]
        assert lab.notify().failed == [("pager", "it answered 307: redirects are not followed")]
        assert elsewhere.received == []


@pytest.mark.parametrize("target", ["http:elsewhere", "mailto:duty@lab.example", "http://xn--a/", "http://[::1"])
def test_a_redirect_to_nowhere_is_a_failure_like_any_other(lab: ToldLab, web: WebServer, target: str) -> None:
    lab.hooks(webhook(web))
    lab.open()
    web.answers = [(302, {"Location": target})]
    assert [hook for hook, _ in lab.notify().failed] == ["pager"]
    lab.now += HOUR
    assert lab.notify().delivered == 1


def test_an_answer_without_end_is_cut_off(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    lab.open()
    web.drip = 0.02
    ((_, told),) = lab.notify(deadline=0.2).failed
    assert "no answer within" in told
    web.drip, web.large = 0.0, 1 << 30
    lab.now += HOUR
    assert lab.notify().delivered == 1


def test_a_run_does_not_wait_for_all_of_a_slow_receiver(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    for number in range(12):
        lab.open(number)
    web.before = lambda request: time.sleep(0.1)
    lab.notify(deadline=0.2)
    assert len(web.received) < TOLD_SINGLY + 1
    web.before = lambda request: None
    lab.notify(again=True)
    assert {one.state for one in lab.deliveries()} == {DELIVERED, IN_DIGEST}


def test_a_clock_that_was_ahead_once_keeps_nothing_back(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    incident = lab.open(protocol=lab.protocol())
    lab.act(incident, BOREAL, "join")
    web.answers = [(503, {})]
    lab.now += 5 * 365 * 24 * HOUR
    assert len(lab.notify().failed) == 1
    lab.now -= 5 * 365 * 24 * HOUR
    assert lab.notify().delivered == 1
    lab.now += 5 * 365 * 24 * HOUR
    assert lab.notify().found == 0
    lab.now -= 5 * 365 * 24 * HOUR - 30 * 24 * HOUR
    lab.notify()
    assert events(web)[-1] == ("overdue", "Watch")


def test_over_tls_the_certificate_counts_and_the_deadline_too(lab: ToldLab, certificate: Path, tmp_path: Path) -> None:
    with web_server(certificate) as web:
        lab.hooks(webhook(web))
        lab.open()
        ((_, told),) = lab.notify().failed
        assert "certificate" in told.lower()
        assert web.received == []
        lab.write_hooks(webhook(web, f'ca_file = "{certificate}"'))
        web.drip = 0.02
        ((_, told),) = lab.notify(again=True, deadline=0.3).failed
        assert "no answer within" in told
        web.drip = 0.0
        assert lab.notify(again=True).delivered == 1
    (tmp_path / "no.pem").write_text("no certificate")
    lab.write_hooks(webhook(web, f'ca_file = "{tmp_path / "no.pem"}"'))
    lab.open(2)
    assert "no file of certificates" in lab.notify().failed[0][1]


def test_a_killed_run_tells_it_again_under_the_same_key(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    lab.open()
    command = [STILLWATCH, "incident", "notify", "--again", "--json", "--home", str(lab.session.home.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    web.before = lambda request: os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (one,) = lab.deliveries()
    assert (one.state, one.tries, len(web.received)) == (WAITING, 1, 1)
    web.before = lambda request: None
    assert lab.notify(again=True).delivered == 1
    first, second = web.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
    assert lab.notify(again=True).delivered == 0


def test_what_finds_no_room_is_told_later(lab: ToldLab, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("member_client.incidents.deliveries.MAX_WAITING", 2)
    lab.hooks(webhook(web))
    for number in range(5):
        lab.open(number)
    found = [lab.notify().found for _ in range(4)]
    assert found == [2, 2, 1, 0]
    assert len(web.received) == 5
    assert TRIES_A_RUN < MAX_WAITING


def test_two_runs_at_once_do_not_tell_it_twice(lab: ToldLab, web: WebServer) -> None:
    lab.hooks(webhook(web))
    lab.open()
    reports: list[Report] = []

    def run_too(request: Received) -> None:
        second = Session(lab.session.home, clock=lab.clock)
        reports.append(notifying.notify(second))

    web.before = run_too
    assert lab.notify().delivered == 1
    assert [report.busy for report in reports] == [True]
    assert len(web.received) == 1


# -- settings and commands -------------------------------------------------------------------------------------------


GOOD_MAIL = 'name = "m"\nto = ["a@b.example"]\nfrom = "a@b.example"\nhost = "smtp.b.example"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[webhook]]", "name is missing"),
        ('[[webhook]]\nname = "a"\nurl = "http://pager.example/"', "begins with https://"),
        ('[[webhook]]\nname = "a"\nurl = "https://me:pw@pager.example/"', "without user"),
        ('[[webhook]]\nname = "a"\nurl = "https://pager..example/"', "absolute URL"),
        ('[[webhook]]\nname = "a"\nurl = "/hook"', "absolute URL"),
        ('[[webhook]]\nname = "a"\nurl = "https://[pager/"', "absolute URL"),
        ('[[webhook]]\nname = "a"\nurl = "https://pager.example:x/"', "not a URL"),
        ('[[webhook]]\nname = "a"\nurl = "https://pager.example/a|b"', "percent-encoded"),
        ('[[webhook]]\nname = "a"\nurl = "https://pager.example:99999/"', "absolute URL"),
        ('[[webhook]]\nname = "a b"\nurl = "https://pager.example/"', "name is of letters"),
        ('[[webhook]]\nname = "a"\nurl = "https://p.example/"\nevents = ["opend"]', "'opend' is not an event"),
        ('[[webhook]]\nname = "a"\nurl = "https://p.example/"\nevents = []', "a list of 1 to 4 texts"),
        ('[[webhook]]\nname = "a"\nurl = "https://p.example/"\nlevel = "x"', "unknown setting 'level'"),
        ('[webhook]\nname = "a"', "in two brackets"),
        ('[[hook]]\nname = "a"', "unknown table 'hook'"),
        ("[[", "not TOML"),
        ('[[webhook]]\nname = "a"\nurl = "https://p.example/"\n' * 2, "the same name"),
        (f'[[email]]\n{GOOD_MAIL}tls = "none"', "only to this machine"),
        (f'[[email]]\n{GOOD_MAIL}tls = "sure"', "tls is starttls"),
        (f'[[email]]\n{GOOD_MAIL}user = "u"', "one of password_file"),
        (f'[[email]]\n{GOOD_MAIL}password_env = "P"', "one of password_file"),
        (f"[[email]]\n{GOOD_MAIL}port = 0", "from 1 to 65535"),
        (f"[[email]]\n{GOOD_MAIL}".replace("a@b.example", "A <a@b.example>"), "plain e-mail addresses"),
    ],
)
def test_hooks_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=r"hooks\.toml") as caught:
        read(tmp_path, text)
    assert told in str(caught.value)


def read(folder: Path, text: str) -> tuple[Webhook | Mailbox, ...]:
    home = Home(folder)
    home.hooks.write_text(text)
    home.hooks.chmod(0o600)
    found = read_hooks(home)
    assert found is not None
    return found.hooks


def test_an_url_is_taken_as_it_will_be_sent(tmp_path: Path) -> None:
    sent = {
        "https://H.example:443/a?x=1": "https://h.example/a?x=1",
        "https://h.example": "https://h.example/",
        "http://[::1]:8/a%7cb?": "http://[::1]:8/a%7cb?",
        "http://localhost/ü": "http://localhost/%C3%BC",
    }
    for written, url in sent.items():
        (hook,) = read(tmp_path, f'[[webhook]]\nname = "a"\nurl = "{written}"\n')
        assert isinstance(hook, Webhook)
        assert hook.url == url
        assert url not in repr(hook)
        assert sign_request("POST", url, b"{}", key("hooks"), 0, "0123456789abcdef")


def test_what_the_documentation_shows_is_meant(tmp_path: Path) -> None:
    shown = re.search(r"```toml\n(.*?)```", (Path("docs") / "incidents.md").read_text(), re.DOTALL)
    assert shown is not None
    hooks = read(tmp_path, shown[1])
    assert [type(hook) for hook in hooks] == [Webhook, Mailbox]


@pytest.mark.parametrize(
    "text",
    [
        '[[webhook]]\nname = "a"\nurl = "https://p.example/"\nca_file = "~nobody-of-this-name/ca.pem"',
        '[[webhook]]\nname = "a"\nurl = "https://p.example/"\nca_file = "\\u0000"',
        "webhook = " + "[" * 20_000,
    ],
)
def test_files_that_cannot_be_are_refused_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"hooks\.toml"):
        read(tmp_path, text)


def test_secrets_that_others_can_read_are_not_used(lab: ToldLab, tmp_path: Path) -> None:
    lab.write_hooks("", 0o644)
    with pytest.raises(InvalidInput, match="can be read by other users"):
        lab.notify()
    secret = tmp_path / "password"
    secret.write_text("p4ss")
    secret.chmod(0o640)
    with mail_server() as server:
        lab.hooks(email(server, 'tls = "none"', 'user = "u"', f'password_file = "{secret}"'))
        lab.open()
        ((_, error),) = lab.notify().failed
        assert "can be read by other users" in error
        assert server.commands == []


def test_commands_tell_check_and_show(lab: ToldLab, web: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(lab.session.home.path, capsys)
    assert client.json("incident", "deliveries") == {"counts": {}, "deliveries": []}
    assert "docs/incidents.md" in client.run("incident", "notify", code=2)
    assert "docs/incidents.md" in client.run("incident", "hooks", code=2)
    lab.write_hooks(webhook(web))
    shown = client.json("incident", "hooks")
    assert shown["public_key"] == str(signing_key(lab.session.home).public_key)
    assert shown["hooks"][0]["where"] == f"http://127.0.0.1:{web.port}"
    assert "s3cret" not in client.run("incident", "hooks")
    assert client.json("incident", "notify")["delivered"] == 0
    incident = lab.open()
    web.answers = [(500, {})]
    assert "hook pager was not told: it answered 500" in client.run("incident", "notify", code=4)
    listed = client.json("incident", "deliveries")
    assert listed["counts"] == {"waiting": 1}
    assert (listed["deliveries"][0]["incident"], listed["deliveries"][0]["tries"]) == (incident, 1)
    assert client.json("incident", "notify", "--again")["delivered"] == 1
    assert "delivered" in client.run("incident", "deliveries")
    assert "s3cret" not in client.run("incident", "deliveries", "--json")


def test_a_sync_tells_the_hooks_and_does_not_fail_for_them(
    lab: ToldLab, web: WebServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client(lab.session.home.path, capsys)
    lab.now = time.time()
    lab.hooks(webhook(web))
    lab.open()
    client.run("sync")
    assert events(web) == [("opened", None)]
    lab.open(2)
    web.answers = [(500, {})]
    assert "hook pager was not told" in client.run("sync")
    lab.write_hooks("[[")
    assert "the hooks were not told" in client.run("sync")
    assert client.json("sync")["status"] == "ok"

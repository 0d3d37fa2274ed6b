"""People who are told of incidents by e-mail: what a title, a login and a rude mail server cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from member_client.incidents.deliveries import DELIVERED
from member_client.incidents.events import MAX_LISTED
from member_client.incidents.notifying import TOLD_SINGLY
from tests.member_client.lying_hub import LyingHub
from tests.member_client.receivers import mail_server, make_certificate
from tests.member_client.told_lab import ToldLab, email

HOUR = 3600.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ToldLab]:
    with LyingHub([]) as hub:
        told = ToldLab(tmp_path / "boreal", hub)
        yield told
        told.session.store.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("mail"))


def test_people_are_told_by_mail_over_tls(
    lab: ToldLab, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("p4ss\n")
    secret.chmod(0o600)
    monkeypatch.setenv("MAIL_PASSWORD", "p4ss")
    sources = {"starttls": f'password_file = "{secret}"', "implicit": 'password_env = "MAIL_PASSWORD"'}
    for number, (tls, source) in enumerate(sources.items()):
        with mail_server(certificate, implicit=tls == "implicit", login="sw\0p4ss") as server:
            settings = (f'tls = "{tls}"', f'ca_file = "{certificate}"', 'user = "sw"', source)
            lab.write_hooks(email(server, *settings).replace('"duty"', f'"{tls}"'))
            lab.notify()
            incident = lab.open(number, title="Accounts, ünd more")
            assert lab.notify().failed == []
            ((recipients, mail),) = server.mails
            assert recipients == ["duty@lab.example"]
            assert mail["Subject"] == "[stillwatch] Accounts, ünd more: opened"
            assert mail["Message-ID"].endswith("@lab.example>")
            assert f"stillwatch incident show {incident}" in mail.get_content()
            assert "TLS" not in server.commands
            assert "TLP:AMBER" in mail.get_content()
    assert "p4ss" not in str(lab.deliveries())


@pytest.mark.parametrize(
    ("verb", "reply", "told"),
    [
        ("MAIL", "451 later", "it answered 451"),
        ("DATA", "554 no", "it answered 554"),
        ("EHLO", "500 what", "SMTPNotSupportedError"),
        ("STARTTLS", "454 not now", "it answered 454"),
        ("RCPT", "550 who", "no recipient was taken"),
    ],
)
def test_a_mail_server_that_does_not_take_it_is_asked_again(
    lab: ToldLab, certificate: Path, verb: str, reply: str, told: str
) -> None:
    with mail_server(certificate) as server:
        lab.hooks(email(server, f'ca_file = "{certificate}"'))
        lab.open()
        server.replies = {verb: [reply]}
        ((_, error),) = lab.notify().failed
        assert told in error
        lab.now += HOUR
        assert lab.notify().delivered == 1
        assert len(server.mails) == 1


def test_a_mail_that_was_taken_is_not_sent_again_for_a_rude_goodbye(lab: ToldLab) -> None:
    with mail_server() as server:
        lab.hooks(email(server, 'tls = "none"'))
        lab.open()
        server.replies = {"QUIT": ["421 go away"]}
        assert lab.notify().delivered == 1


@pytest.mark.parametrize(
    "title", ["=?utf-8?q?a=0D=0ABcc:_a=40b.example=0D=0A=0D=0APay?=", "=?utf-8?b?eA0KeDogeQ==?=", "=?=?"]
)
def test_a_title_cannot_bring_headers_or_a_text_of_its_own_into_a_mail(lab: ToldLab, title: str) -> None:
    with mail_server() as server:
        lab.hooks(email(server, 'tls = "none"'))
        incident = lab.open(title=title)
        assert lab.notify().delivered == 1
        ((_, mail),) = server.mails
    assert set(mail) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    }
    assert mail["Subject"].strip() == f"[stillwatch] {title.replace('=?', '= ?')}: opened"
    assert mail.get_content().splitlines()[0] == title
    assert f"stillwatch incident show {incident}" in mail.get_content()


def test_a_digest_says_how_many_and_names_the_newest(lab: ToldLab) -> None:
    with mail_server() as server:
        lab.hooks(email(server, 'tls = "none"'))
        for number in range(1, TOLD_SINGLY + MAX_LISTED + 3):
            lab.say_open(number, level="Orange")
        lab.sync()
        assert lab.notify().delivered == TOLD_SINGLY + 1
        (digest,) = (mail for _, mail in server.mails if "further" in mail["Subject"])
    count = MAX_LISTED + 2
    assert digest["Subject"] == f"[stillwatch] {count} further events by Aurora"
    content = digest.get_content()
    assert f"in one message: {count} opened." in content
    assert f"opened 'Orange': Incident {TOLD_SINGLY + count} (TLP:AMBER, incident--" in content
    assert content.count("opened 'Orange'") == MAX_LISTED


def test_a_login_that_cannot_be_is_told_and_the_password_is_not(
    lab: ToldLab, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "pässwörd")
    with mail_server(certificate, login="sw\0other") as server:
        settings = (f'ca_file = "{certificate}"', 'user = "sw"', 'password_env = "MAIL_PASSWORD"')
        lab.hooks(email(server, *settings))
        lab.open()
        ((_, told),) = lab.notify().failed
        assert "ASCII" in told
        assert "sswörd" not in told
        monkeypatch.setenv("MAIL_PASSWORD", "plain")
        server.replies = {"AUTH": ["334 abcde"]}
        lab.now += HOUR
        ((_, told),) = lab.notify().failed
        assert "no SMTP" in told


def test_some_recipients_are_enough_and_the_others_are_named(lab: ToldLab) -> None:
    with mail_server() as server:
        lab.hooks(email(server, 'tls = "none"', to='duty@lab.example", "nobody@lab.example'))
        lab.open()
        assert lab.notify().delivered == 1
        (one,) = lab.deliveries()
        assert (one.state, one.error) == (DELIVERED, "refused: nobody@lab.example")


def test_a_mail_server_cannot_downgrade_or_talk_for_ever(lab: ToldLab, certificate: Path) -> None:
    with mail_server() as server:
        lab.hooks(email(server))
        lab.open()
        ((_, error),) = lab.notify().failed
        assert "STARTTLS" in error
        server.flood = True
        lab.now += HOUR
        ((_, error),) = lab.notify().failed
        assert "bytes" in error
    with mail_server(certificate) as server:
        lab.write_hooks(email(server))
        lab.now += HOUR
        ((_, error),) = lab.notify().failed
        assert "certificate" in error.lower()
        assert server.mails == []

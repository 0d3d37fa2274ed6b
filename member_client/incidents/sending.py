"""One try of one delivery, to a webhook or by e-mail: every wait and size bounded, nothing that is answered believed.

A webhook gets a POST that is signed as requests to a hub are (RFC 9421 with Ed25519, RFC 9530 content digest; see
`sharing_protocol.request_signing`), by a key of its own that is registered nowhere: whoever has the public key can
check it, and nobody who has it, the receiver included, can make one. The content names its delivery, so the signature
covers the idempotency key too. Of the answer only its status is read, and Retry-After.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import smtplib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parsedate_to_datetime
from importlib.metadata import version
from typing import Any, BinaryIO

import httpx

from member_client.calling_out import Watch, cut_off
from member_client.errors import InvalidInput
from member_client.incidents.deliveries import Delivery
from member_client.incidents.events import DIGEST
from member_client.incidents.hooks import Mailbox, Webhook
from sharing_protocol.keys import Signer
from sharing_protocol.request_signing import sign_request

WAIT_SECONDS = 10.0
"""For a connection, and for each part of an answer."""
DEADLINE_SECONDS = 30.0
"""For the whole of a try: an answer that drips resets the wait above, but not this."""
MAX_SMTP_BYTES = 256 * 1024
MAX_RETRY_AFTER = 6 * 3600.0


class Undelivered(Exception):
    """A try failed.

    Attributes:
        retry_after: seconds that the other side asks to be left in peace.
        for_good: whether it never wants to be asked again.
        others_may_pass: whether it is about this delivery, as far as can be told, and not about the whole hook.
    """

    def __init__(
        self, message: str, *, retry_after: float = 0.0, for_good: bool = False, others_may_pass: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.for_good = for_good
        self.others_may_pass = others_may_pass


# -- webhooks --------------------------------------------------------------------------------------------------------


def send_to_webhook(
    hook: Webhook, delivery: Delivery, signer: Signer, now: float, deadline: float = DEADLINE_SECONDS
) -> None:
    """Post a delivery.

    Raises:
        Undelivered: it was not answered with a 2xx.
    """
    content = delivery.document.encode()
    headers = {
        **sign_request("POST", hook.url, content, signer, int(now), secrets.token_urlsafe(18)),
        "Content-Type": "application/json",
        "Idempotency-Key": f'"{delivery.key}"',
        "User-Agent": f"stillwatch/{version('stillwatch')}",
    }
    with cut_off(deadline) as watch:
        try:
            status, retry_after = _post(hook, content, headers, watch)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # The second and the last are about a redirect's target, which httpx reads though it is not to follow it.
            raise Undelivered(f"no answer within {deadline:.0f} s" if watch.expired else _reason(error)) from error
    if not 200 <= status < 300:
        raise _refusal(status, _seconds(retry_after, now))


def _post(hook: Webhook, content: bytes, headers: dict[str, str], watch: Watch) -> tuple[int, str]:
    watched = {"trace": watch.trace}
    with (
        httpx.Client(verify=_certificates(hook), timeout=WAIT_SECONDS, follow_redirects=False) as client,
        client.stream("POST", hook.url, content=content, headers=headers, extensions=watched) as response,
    ):
        return response.status_code, response.headers.get("retry-after", "")


def _reason(error: BaseException) -> str:
    """Why there was no answer, as the operating system says it; httpx's own words may quote the URL, a secret."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(error).__name__}: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _certificates(hook: Webhook | Mailbox) -> ssl.SSLContext:
    if isinstance(hook, Webhook) and hook.where.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without certificates, which take 50 ms to read
    try:
        return ssl.create_default_context(cafile=hook.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Undelivered(f"{hook.ca_file} is no file of certificates") from error


def _refusal(status: int, retry_after: float) -> Undelivered:
    if 300 <= status < 400:
        return Undelivered(f"it answered {status}: redirects are not followed")
    busy = status in (408, 429) or status >= 500
    return Undelivered(
        f"it answered {status}", retry_after=retry_after, for_good=status == 410, others_may_pass=not busy
    )


def _seconds(retry_after: str, now: float) -> float:
    """Retry-After as seconds (RFC 9110, 10.2.3), 0 for none or what is none, at most `MAX_RETRY_AFTER`."""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        return min(float(retry_after), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(retry_after).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(moment - now, 0.0), MAX_RETRY_AFTER)


# -- e-mail ----------------------------------------------------------------------------------------------------------


def send_by_email(hook: Mailbox, delivery: Delivery, now: float, deadline: float = DEADLINE_SECONDS) -> str:
    """Hand a delivery to the mail server; gives who of several recipients was refused, in words, "" for nobody.

    Raises:
        Undelivered: the server did not take it for anybody.
    """
    try:
        message = _message(hook, delivery, now)
        login = hook.password() if hook.user else ""
    except InvalidInput as error:
        raise Undelivered(str(error)) from error
    with cut_off(deadline) as watch:
        try:
            server = _connect(hook, watch)
            try:
                if hook.user:
                    server.login(hook.user, login)
                refused = server.send_message(message, hook.sender, hook.to)
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    server.quit()  # the mail has been taken, whatever is answered to this
            finally:
                server.close()
        except smtplib.SMTPRecipientsRefused as error:
            raise Undelivered(
                f"no recipient was taken: {len(error.recipients)} refused", others_may_pass=True
            ) from error
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"it answered {error.smtp_code} ({type(error).__name__})") from error
        except (smtplib.SMTPException, OSError) as error:
            told = f"no answer within {deadline:.0f} s" if watch.expired else f"{type(error).__name__}: {error}"
            raise Undelivered(told) from error
        except UnicodeEncodeError:
            # Without its cause: that quotes the password.
            raise Undelivered("smtplib logs in with ASCII only: choose another user or password") from None
        except ValueError as error:
            raise Undelivered(f"it answered what is no SMTP ({type(error).__name__})") from error
    return f"refused: {', '.join(sorted(refused))}" if refused else ""


def _connect(hook: Mailbox, watch: Watch) -> smtplib.SMTP:
    name = hook.sender.partition("@")[2]
    if hook.tls == "implicit":
        server: smtplib.SMTP = _BoundedOverTls(
            hook.host, hook.port, name, timeout=WAIT_SECONDS, context=_certificates(hook), watch=watch
        )
    else:
        server = _Bounded(hook.host, hook.port, name, timeout=WAIT_SECONDS, watch=watch)
    if hook.tls == "starttls":
        try:
            server.starttls(context=_certificates(hook))
        except BaseException:
            server.close()
            raise
    return server


class _Replies:
    """What a mail server says, up to a limit: a reply may have any number of lines."""

    def __init__(self, file: BinaryIO, take: Callable[[int], None]) -> None:
        self._file = file
        self._take = take

    def readline(self, size: int = -1) -> bytes:
        line = self._file.readline(size)
        self._take(len(line))
        return line

    def close(self) -> None:
        self._file.close()


class _Bounded(smtplib.SMTP):
    """A session whose socket the deadline reaches, and whose server cannot talk for ever."""

    def __init__(self, *arguments: Any, watch: Watch, **settings: Any) -> None:
        self._watch = watch
        self._left = MAX_SMTP_BYTES
        super().__init__(*arguments, **settings)

    def getreply(self) -> tuple[int, bytes]:
        """See `smtplib`; STARTTLS makes another socket, whose file is made here too."""
        if self.file is None and self.sock is not None:
            self._watch.hold(self.sock)
            self.file = _Replies(self.sock.makefile("rb"), self._take)
        return super().getreply()

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            self.close()
            raise smtplib.SMTPServerDisconnected(f"it said more than {MAX_SMTP_BYTES:,} bytes")


class _BoundedOverTls(_Bounded, smtplib.SMTP_SSL):
    """The same over TLS from the first byte."""


def _message(hook: Mailbox, delivery: Delivery, now: float) -> EmailMessage:
    """The mail of a delivery; its Message-ID is the idempotency key."""
    told = json.loads(delivery.document)
    subject, content = _digest_in_words(told) if told["event"] == DIGEST else _event_in_words(told)
    message = EmailMessage()
    message["From"], message["To"] = hook.sender, ", ".join(hook.to)
    # EmailMessage decodes encoded words (RFC 2047) in what it is given, and so a title could bring line breaks with it.
    message["Subject"] = f"[stillwatch] {subject}".replace("=?", "= ?")
    message["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    message["Message-ID"] = f"<{delivery.key}@{hook.sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(content)
    return message


def _event_in_words(told: dict[str, Any]) -> tuple[str, str]:
    """Subject and content."""
    incident = told["incident"]
    what = {
        "opened": "opened",
        "escalated": f"level {told['level']!r} is in force",
        "overdue": f"{told['lab']['name']} has not acknowledged level {told['level']!r}",
        "closed": "closed",
    }[told["event"]]
    content = (
        f"{incident['title']}\n\n"
        f"What happened:  {what}\n"
        f"By or whose:    {told['lab']['name']}\n"
        f"When:           {told['occurred']} (when it was due, if it is overdue)\n"
        f"Incident:       {incident['id']}\n"
        f"Stands at:      {incident['state']}, level {incident['level'] or 'none'}, severity {incident['severity']}\n"
        f"Labs:           {', '.join(lab['name'] for lab in incident['labs'])}\n"
        f"Marking:        TLP:{incident['marking'].upper()}\n\n"
        f"More:           stillwatch incident show {incident['id']}\n"
    )
    return f"{incident['title']}: {what}", content


def _digest_in_words(told: dict[str, Any]) -> tuple[str, str]:
    """Subject and content."""
    lab, count = told["lab"]["name"], sum(told["counts"].values())
    lines = [
        f"{one['index']:>6}  {one['event']}{f' {level!r}' if (level := one['level']) else ''}: "
        f"{one['incident']['title']} (TLP:{one['incident']['marking'].upper()}, {one['incident']['id']})"
        for one in told["newest"]
    ]
    counts = ", ".join(f"{number} {kind}" for kind, number in told["counts"].items())
    content = (
        f"{count} further events by {lab}, or that it owes, in one message: {counts}.\n\n"
        f"The newest {len(lines)}:\n"
        + "".join(f"{line}\n" for line in lines)
        + "\nMore:           stillwatch incident list, and stillwatch incident deliveries\n"
    )
    return f"{count} further events by {lab}", content

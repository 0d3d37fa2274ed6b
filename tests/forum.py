"""A forum in a box, for tests: a real hub on a loopback port, real keys, and every statement sent over real HTTP.

    with running_hub(database_url, identity) as hub:
        box = ForumInABox(hub)
        box.found()
        aurora = box.admit("Aurora")
        receipt = box.publish(aurora, pattern_body("Bootstrapped instructions"))

Statements are plain documents, so that a test can say what no model would.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg

from hub.app import create_app, utc_now
from hub.database import binding_store, migrating
from hub.database.connections import make_command_engine, plain_url
from hub.identity import HubIdentity
from hub.serving import HubServer, listen, url_of
from hub.settings import HubSettings
from sharing_protocol import checkpoints, envelope, notes, wire
from sharing_protocol.envelope import Envelope
from sharing_protocol.keys import PrivateKey
from sharing_protocol.log_keys import LogHistory
from sharing_protocol.merkle import leaf_hash
from sharing_protocol.request_signing import sign_request
from sharing_protocol.statements import new_id, prove_possession
from sharing_protocol.statements.header import format_timestamp
from sharing_protocol.trust import check_receipt

Document = dict[str, Any]

# The hubs here speak plain HTTP; reading a machine's certificates anew takes httpx 50 ms a client.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@cache
def key(name: str) -> PrivateKey:
    """The private key that goes by this name."""
    return PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


def make_identity(folder: Path, origin: str = "forum.example/log") -> HubIdentity:
    """A hub's keys in a folder of their own."""
    return HubIdentity.load_or_make(folder, origin)


# -- HTTP ----------------------------------------------------------------------------------------------------------


class RequestSigning(httpx.Auth):
    """Signs every request as one key; `nonce` and `created` can be fixed to misbehave on purpose."""

    requires_request_body = True

    def __init__(self, signer: PrivateKey, clock: Callable[[], datetime] = utc_now, nonce: str | None = None) -> None:
        self._signer = signer
        self._clock = clock
        self._nonce = nonce

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the signature's headers."""
        created = int(self._clock().timestamp())
        nonce = self._nonce or secrets.token_urlsafe(18)
        request.headers.update(
            sign_request(request.method, str(request.url), request.content, self._signer, created, nonce)
        )
        yield request


def code_of(response: httpx.Response) -> str:
    """The code of a problem document; fails if the response is none."""
    assert response.headers["content-type"] == wire.PROBLEM_MEDIA_TYPE, response.text
    problem = wire.Problem.model_validate_json(response.content)
    assert problem.status == response.status_code
    assert problem.request_id == response.headers["x-request-id"]
    assert problem.type == wire.PROBLEM_TYPE_PREFIX + problem.code
    return problem.code


# -- a hub ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunningHub:
    """A hub that answers at `url`."""

    url: str
    database_url: str
    identity: HubIdentity
    clock: Callable[[], datetime] = utc_now
    metrics_url: str = ""

    def bind(self, fingerprint: str) -> None:
        """What the operator does before a forum is founded."""
        engine = make_command_engine(self.database_url)
        with engine.begin() as connection:
            binding_store.bind(connection, fingerprint)
        engine.dispose()


@contextlib.contextmanager
def running_hub(
    database_url: str,
    identity: HubIdentity,
    clock: Callable[[], datetime] = utc_now,
    port: int = 0,
    settings: HubSettings | None = None,
    home: Path | None = None,
) -> Iterator[RunningHub]:
    """Run a hub in a thread of this process. The database must be migrated."""
    ready = threading.Event()
    with listen("127.0.0.1", port) as listener:
        application = create_app(database_url, identity, settings, clock, home)
        server = HubServer(application, ready.set, settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="hub")
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not ready.wait(0.02):
                assert thread.is_alive(), "the hub did not start"
                assert time.monotonic() < deadline, "the hub does not get ready"
            scheme = "https" if settings is not None and settings.tls_certificate else "http"
            metrics = f"http://127.0.0.1:{application.metrics.port}/metrics"
            yield RunningHub(url_of(listener, scheme), database_url, identity, clock, metrics)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def migrate(database_url: str) -> None:
    """Bring a database to the newest schema."""
    engine = make_command_engine(database_url)
    migrating.upgrade(engine)
    engine.dispose()


@contextlib.contextmanager
def sql(database_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A plain connection to a hub's database, committed at the end; the append-only triggers do not bind it."""
    url = plain_url(database_url)
    guarded = ("log_entries", "checkpoints")
    with psycopg.connect(url) as connection:
        for table in guarded:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only".encode())
        yield connection
        for table in guarded:
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER append_only".encode())


# -- statements ----------------------------------------------------------------------------------------------------


def handling(**changes: Any) -> Document:
    """What every record's body says of its own use."""
    return {
        "marking": "amber",
        "purpose": "Detect adversarial distillation",
        "legal_basis": "Written from public reports; no personal data",
        "valid_until": format_timestamp(utc_now() + timedelta(days=90)),
        **changes,
    }


def pattern_body(title: str = "Bootstrapped instructions", **changes: Any) -> Document:
    """A query pattern whose logic compiles and passes its own tests."""
    return {
        **handling(),
        "kind": "query_pattern",
        "title": title,
        "description": "Asks for new tasks in the style of given ones.\nMany times over.",
        "techniques": ["AML.T0024.002"],
        "severity": "high",
        "confidence": 70,
        "valid_from": format_timestamp(utc_now() - timedelta(days=1)),
        "references": [{"title": "Self-instruct", "url": "https://example.org/self-instruct"}],
        "method": None,
        "logic": [
            {
                "title": title,
                "logsource": {"product": "llm_api", "category": "request"},
                "detection": {
                    "selection": {"prompt.text|contains": "come up with 20 diverse tasks"},
                    "condition": "selection",
                },
            }
        ],
        "tests": [
            {
                "name": "a bootstrap prompt",
                "expect": "match",
                "events": [{"prompt.text": "Please come up with 20 diverse tasks."}],
                "synthetic": True,
            },
            {
                "name": "small talk",
                "expect": "no_match",
                "events": [{"prompt.text": "hello"}],
                "synthetic": True,
            },
        ],
        "measured": None,
        "playbook": None,
        **changes,
    }


def reference(record_id: str, version: int, entry: str) -> Document:
    """One exact version of a record."""
    return {"id": record_id, "version": version, "entry": entry}


def withdrawal_body(record: Document) -> Document:
    """Withdraws a record."""
    return {**handling(), "record": record, "reason": "Too many false positives."}


def sighting_body(pattern: Document) -> Document:
    """Says that a pattern was seen last week."""
    today = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        **handling(),
        "pattern": pattern,
        "period_start": format_timestamp(today - timedelta(days=7)),
        "period_end": format_timestamp(today),
        "matches": "100-999",
        "accounts": "10-99",
    }


def admin(name: str) -> Document:
    """An admin's registration; the key goes by the admin's name."""
    return {"name": name, "key": str(key(name).public_key), "proof": prove_possession("admin", name, key(name))}


def registration(key_name: str, role: str, member: str) -> Document:
    """A member key's registration."""
    signer = key(key_name)
    return {"key": str(signer.public_key), "role": role, "proof": prove_possession(role, member, signer)}


def signed(document: Document, *signers: str) -> Envelope:
    """The document in an envelope, signed by the keys of these names."""
    payload = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return envelope.sign(payload, [key(name) for name in signers])


@dataclass
class Lab:
    """An admitted lab, whose keys go by `<name> owner`, `<name> analyst` and `<name> sync`."""

    id: str
    name: str

    @property
    def owner(self) -> str:
        """Name of the owner's key."""
        return f"{self.name} owner"

    @property
    def analyst(self) -> str:
        """Name of the analyst's key."""
        return f"{self.name} analyst"

    @property
    def sync(self) -> str:
        """Name of the sync key."""
        return f"{self.name} sync"

    @property
    def witness(self) -> str:
        """Name of the witness key, once it is registered."""
        return f"{self.name} witness"


@dataclass
class ForumInABox:
    """A forum with its admins, on a running hub. Give the hub anew after a restart.

    Attributes:
        new_uuid: what ids of labs and records are made of.
    """

    hub: RunningHub
    admins: Sequence[str] = ("Ada", "Ben", "Cleo")
    threshold: int = 2
    id: str = field(default_factory=lambda: new_id("forum", uuid4()))
    fingerprint: str | None = None
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    logs: LogHistory | None = None
    new_uuid: Callable[[], UUID] = uuid4

    # -- requests ------------------------------------------------------------------------------------------------

    def client(self, key_name: str, **signing: Any) -> httpx.Client:
        """An HTTP client whose requests this key signs. Close it."""
        signed_by = RequestSigning(key(key_name), **signing)
        return httpx.Client(base_url=self.hub.url, auth=signed_by, timeout=30, verify=_NO_CERTIFICATES)

    def get(self, path: str, key_name: str = "Ada", **parameters: Any) -> httpx.Response:
        """A signed GET."""
        with self.client(key_name) as client:
            return client.get(path, params=parameters or None)

    def post(self, path: str, body: bytes, key_name: str) -> httpx.Response:
        """A signed POST."""
        with self.client(key_name) as client:
            return client.post(path, content=body, headers={"content-type": wire.ENVELOPE_MEDIA_TYPE})

    def submit(self, made: Envelope, sender: str) -> httpx.Response:
        """Send an envelope to the log."""
        return self.post(wire.ENTRIES, made.encode(), sender)

    def log(self, made: Envelope, sender: str) -> wire.Receipt:
        """Send an envelope that the log must take, and check the receipt."""
        response = self.submit(made, sender)
        assert response.status_code in (200, 201), response.text
        receipt = wire.Receipt.model_validate_json(response.content)
        check_receipt(receipt, made.encode(), self.logs or self.hub.identity.public)
        self.remember(made)
        return receipt

    def size(self) -> int:
        """Entries in the log, as its newest checkpoint says."""
        return int(self.checkpoint().split("\n")[1])

    def checkpoint(self) -> str:
        """The newest checkpoint's text, without signatures."""
        response = self.get(wire.CHECKPOINT)
        assert response.status_code == 200, response.text
        return notes.parse(response.content).text

    # -- the forum ---------------------------------------------------------------------------------------------

    def statement(self, kind: str, record_id: str, author: str, body: Document, **changes: Any) -> Document:
        """The next version of a record, as a statement of this type."""
        version, entry = self.heads.get(record_id, (0, None))
        return {
            "schema": 1,
            "forum": self.fingerprint,
            "type": kind,
            "id": record_id,
            "version": version + 1,
            "previous": entry,
            "author": author,
            "created": format_timestamp(self.hub.clock()),
            "body": body,
            **changes,
        }

    def founding(self, *signers: str, **changes: Any) -> Envelope:
        """The founding statement, signed by the first admins as far as the threshold."""
        body = {
            "name": "Test forum",
            "log": self.hub.identity.public.model_dump(),
            "admins": [admin(name) for name in self.admins],
            "threshold": self.threshold,
            **changes,
        }
        return signed(
            self.statement("membership.found", self.id, self.id, body), *(signers or self.admins[: self.threshold])
        )

    def found(self) -> wire.Receipt:
        """Bind the hub, and found the forum."""
        made = self.founding()
        self.hub.bind(made.payload_sha256)
        receipt = self.log(made, self.admins[0])
        self.fingerprint = made.payload_sha256
        return receipt

    def decree(self, kind: str, subject: str, body: Document) -> wire.Receipt:
        """A membership statement by as many admins as it takes."""
        document = self.statement(kind, subject, self.id, body)
        return self.log(signed(document, *self.admins[: self.threshold]), self.admins[0])

    def change_log(self, pair: HubIdentity, *signers: str, **changes: Any) -> Envelope:
        """The statement that makes this pair the log's, signed by as many admins as it takes."""
        card = pair.card.model_dump(exclude={"format", "origin"})
        document = self.statement("membership.change_log", self.id, self.id, {**card, "reason": "A test", **changes})
        return signed(document, *(signers or self.admins[: self.threshold]))

    def exchange_keys(self, pair: HubIdentity) -> wire.Receipt:
        """Make this pair the log's; from there on its receipts are checked by it."""
        made = self.change_log(pair)
        response = self.submit(made, self.admins[0])
        assert response.status_code == 201, response.text
        receipt = wire.Receipt.model_validate_json(response.content)
        before = self.logs or LogHistory.of(self.hub.identity.public)
        self.logs = before.continued(receipt.index, pair.public)
        check_receipt(receipt, made.encode(), self.logs)
        self.remember(made)
        return receipt

    def admit(self, name: str, *more_roles: str) -> Lab:
        """Admit a lab with an owner, an analyst and a sync key, and perhaps a witness key."""
        lab = Lab(new_id("member", self.new_uuid()), name)
        roles = ("owner", "analyst", "sync", *more_roles)
        keys = [registration(getattr(lab, role), role, lab.id) for role in roles]
        self.decree("membership.admit", lab.id, {"name": name, "keys": keys, "reason": "A founding lab"})
        return lab

    def add_key(self, lab: Lab, role: str, key_name: str = "") -> wire.Receipt:
        """Register one more key of a lab, signed by its owner; `<name> <role>` unless it is said."""
        added = {"key": registration(key_name or f"{lab.name} {role}", role, lab.id), "reason": "One more key"}
        return self.log(signed(self.statement("membership.add_key", lab.id, lab.id, added), lab.owner), lab.owner)

    def cosign(self, lab: Lab, key_name: str = "", text: str | None = None, at: float | None = None) -> str:
        """A note of the newest checkpoint, or of this text, with the log's lines and a cosignature of this lab's."""
        note = notes.parse(self.get(wire.CHECKPOINT).content)
        if text is not None:
            note = self.hub.identity.sign(checkpoints.parse_text(text))
        time = int(self.hub.clock().timestamp() if at is None else at)
        return str(note.signed_by([notes.cosign(note.text, lab.id, key(key_name or lab.witness), time)]))

    def witness(self, lab: Lab, note: str | None = None) -> httpx.Response:
        """Send a cosignature as a lab."""
        return self.post(wire.COSIGNATURES, (note or self.cosign(lab)).encode(), lab.sync)

    def record(self, lab: Lab, body: Document, record_id: str | None = None, **changes: Any) -> Envelope:
        """A record's next version, signed by the lab's analyst but not sent; a pattern unless it says otherwise."""
        kind = "withdrawal" if "record" in body else "sighting" if "pattern" in body else "pattern"
        record_id = record_id or new_id(kind, self.new_uuid())
        return signed(self.statement(kind, record_id, lab.id, body, **changes), lab.analyst)

    def publish(self, lab: Lab, body: Document, record_id: str | None = None) -> tuple[str, wire.Receipt]:
        """Publish a record's next version; returns its id and the receipt."""
        made = self.record(lab, body, record_id)
        receipt = self.log(made, lab.analyst)
        return json.loads(made.payload)["id"], receipt

    def reference(self, record_id: str) -> Document:
        """The newest version of a record that was published here."""
        version, entry = self.heads[record_id]
        return reference(record_id, version, entry)

    def remember(self, made: Envelope) -> None:
        """Take an envelope as logged: what is made next of its record follows it."""
        document = json.loads(made.payload)
        self.heads[document["id"]] = (document["version"], leaf_hash(made.encode()).hex())


def at(clock: datetime) -> Callable[[], datetime]:
    """A clock that stands still."""
    return lambda: clock.astimezone(UTC)

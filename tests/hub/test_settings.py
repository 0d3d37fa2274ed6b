"""What a hub is told from outside: where it comes from, what is refused, what stays hidden, and who is believed."""

from __future__ import annotations

import json
import logging
import os
import ssl
import tomllib
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from hub.app import utc_now
from hub.cli import commands
from hub.errors import HubError
from hub.identity import HubIdentity
from hub.serving import HubServer
from hub.settings import HubSettings, SettingsError, read_settings
from sharing_protocol import wire
from tests.forum import ForumInABox, RequestSigning, RunningHub, key, running_hub
from tests.hub.raw_requests import head, send_raw, signing
from tests.hub.refusals import problem_of
from tests.hub.stored_log import wait_until

SECRET = "a password that nobody may read"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("STILLWATCH_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write(home: Path, text: str, name: str = "hub.toml") -> Path:
    path = home / name
    path.write_text(text)
    return path


# -- where they come from ----------------------------------------------------------------------------------------


def test_option_before_environment_before_file_before_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings(home, None).port == 8470
    write(home, "port = 1001\nmax_at_once = 7")
    assert read_settings(home, None).port == 1001
    monkeypatch.setenv("STILLWATCH_HUB_PORT", "1002")
    assert read_settings(home, None).port == 1002
    settings = read_settings(home, None, port=1003, host=None)
    assert (settings.port, settings.max_at_once, settings.host) == (1003, 7, "127.0.0.1")


def test_a_named_file_in_place_of_the_homes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, "port = 1001\nhost = '127.0.0.9'")
    by_option, by_variable = write(home, "port = 1002", "a.toml"), write(home, "port = 1003", "b.toml")
    monkeypatch.setenv("STILLWATCH_HUB_CONFIG", str(by_variable))
    assert read_settings(home, None).port == 1003
    settings = read_settings(home, by_option)
    assert (settings.port, settings.host) == (1002, "127.0.0.1")
    with pytest.raises(SettingsError, match="no settings file"):
        read_settings(home, home / "missing.toml")


def test_lists_and_nothing_from_everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, 'trusted_proxies = ["10.0.0.1", "10.1.0.0/16"]')
    assert read_settings(home, None).trusted_proxies == ("10.0.0.1", "10.1.0.0/16")
    monkeypatch.setenv("STILLWATCH_HUB_TRUSTED_PROXIES", "10.0.0.2, 10.0.0.3")
    settings = read_settings(home, None)
    assert settings.trusted_proxies == ("10.0.0.2", "10.0.0.3")
    assert (settings.metrics_port, settings.metrics_host) == (None, "127.0.0.1")


@pytest.mark.parametrize("variable", ["STILLWATCH_DATABASE_URL", "STILLWATCH_HUB_DATABASE_URL"])
def test_two_names_for_the_database(home: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    write(home, 'database_url = "postgresql://in-the-file/x"')
    monkeypatch.setenv(variable, "postgresql://in-the-environment/x")
    url = read_settings(home, None).database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://in-the-environment/x"


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_at_ones = 5", r"max_at_ones is set in .*hub\.toml, and there is no such setting"),
        ("[limits]\nmax_at_once = 5", "limits"),
        ("port = 70000", "port"),
        ("max_at_once = 0", "max_at_once"),
        ("log_level = 'LOUD'", "log_level"),
        ("public_url = 'hub.example'", "public_url"),
        ("tls_key = '/etc/key.pem'", "go together"),
        ("port = ", "cannot be read"),
        (f"database_url = ['{SECRET}']", "database_url"),
    ],
)
def test_refused_in_a_file(home: Path, text: str, says: str) -> None:
    write(home, text)
    with pytest.raises(SettingsError, match=says) as refused:
        read_settings(home, None)
    assert SECRET not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("name", ["STILLWATCH_HUB_MAX_AT_ONES", "STILLWATCH_HUB_", "stillwatch_hub_max_at_ones"])
def test_unknown_in_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(SettingsError, match="no such setting") as refused:
        read_settings(home, None)
    assert SECRET not in str(refused.value)


# -- what is shown -----------------------------------------------------------------------------------------------


def test_config_shows_all_that_is_in_force_and_no_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLWATCH_DATABASE_URL", f"postgresql://stillwatch:{SECRET}@db/stillwatch")
    write(home, 'max_at_once = 77\ntrusted_proxies = ["10.0.0.1"]\nlog_level = "DEBUG"')
    shown = CliRunner().invoke(commands, ["config", "--home", str(home), "--json"])
    assert shown.exit_code == 0, shown.output
    assert set(json.loads(shown.stdout)) == set(HubSettings.model_fields)
    assert json.loads(shown.stdout)["max_at_once"] == 77
    as_file = CliRunner().invoke(commands, ["config", "--home", str(home)])
    for name, field in HubSettings.model_fields.items():
        assert f"{name} = " in as_file.stdout
        assert field.description
        assert f"# {field.description}" in as_file.stdout
    assert SECRET not in shown.output + as_file.output
    # What it prints is a settings file that says the same, without the secret.
    monkeypatch.delenv("STILLWATCH_DATABASE_URL")
    again = read_settings(home, write(home, as_file.stdout, "again.toml"))
    assert again.shown() == read_settings(home, None).shown()
    assert "database_url" not in tomllib.loads(as_file.stdout)


# -- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(home: Path) -> Path:
    """A certificate that signed itself, for 127.0.0.1, with its key beside it."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a hub for tests")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    (home / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path = home / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


def test_tls_in_this_process(database: str, hub_identity: HubIdentity, certificate: Path) -> None:
    settings = HubSettings(tls_certificate=certificate, tls_key=certificate.with_name("key.pem"))
    trusting = ssl.create_default_context(cafile=str(certificate))
    with running_hub(database, hub_identity, settings=settings) as hub:
        assert hub.url.startswith("https://")
        assert httpx.get(hub.url + wire.HEALTH, verify=trusting).status_code == 200
        box = ForumInABox(hub)
        made = box.founding()
        hub.bind(made.payload_sha256)
        with httpx.Client(base_url=hub.url, auth=RequestSigning(key("Ada")), verify=trusting) as client:
            assert client.post(wire.ENTRIES, content=made.encode()).status_code == 201
            assert client.get(wire.CHECKPOINT).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(hub.url + wire.HEALTH, verify=ssl.create_default_context())
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(hub.url.replace("https", "http") + wire.HEALTH)


def test_a_certificate_that_cannot_be_used_is_said_in_one_line(home: Path, certificate: Path) -> None:
    other = write(home, "no key", "other.pem")

    async def application(*_: object) -> None:
        raise AssertionError("never served")

    with pytest.raises(HubError, match="TLS certificate") as refused:
        HubServer(application, lambda: None, HubSettings(tls_certificate=certificate, tls_key=other))  # type: ignore[arg-type] # not served
    assert refused.value.code == "tls"


# -- proxies -----------------------------------------------------------------------------------------------------

FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.66, 192.0.2.7"}


def through_tls(hub: RunningHub) -> httpx.Response:
    """A request as a proxy that ends TLS sends it on; the member's signature leaves out the port of https alone."""
    signed = signing(hub, "Ada", base="https://hub.example:443")
    return send_raw(hub, head(hub, {**signed, "Host": "hub.example:443", **FORWARDED}))


@pytest.mark.parametrize("trusted", [("127.0.0.1",), ("10.0.0.1", "127.0.0.0/8")])
def test_a_named_proxy_is_believed(
    database: str, hub_identity: HubIdentity, caplog: pytest.LogCaptureFixture, trusted: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO, "hub.access")
    with running_hub(database, hub_identity, settings=HubSettings(trusted_proxies=trusted)) as hub:
        ForumInABox(hub).found()
        response = through_tls(hub)
        assert response.status_code == 200
        assert client_in(caplog, response) == "192.0.2.7", "the last one that is no trusted proxy, not what it claims"


@pytest.mark.parametrize("trusted", [(), ("10.0.0.1", "192.0.2.0/24")])
def test_nobody_else_is(
    database: str, hub_identity: HubIdentity, caplog: pytest.LogCaptureFixture, trusted: tuple[str, ...]
) -> None:
    caplog.set_level(logging.INFO, "hub.access")
    with running_hub(database, hub_identity, settings=HubSettings(trusted_proxies=trusted)) as hub:
        ForumInABox(hub).found()
        response = send_raw(hub, head(hub, {**signing(hub, "Ada"), **FORWARDED}))
        assert response.status_code == 200
        assert client_in(caplog, response) == "127.0.0.1"
        problem_of(through_tls(hub), 401, "bad_request_signature")


def client_in(caplog: pytest.LogCaptureFixture, response: httpx.Response) -> str:
    """Who sent a request, by its line in the log."""
    wanted = response.headers["x-request-id"]

    def found() -> list[logging.LogRecord]:
        return [line for line in caplog.records if line.__dict__.get("request_id") == wanted]

    wait_until(lambda: len(found()) > 0, "the line is missing")
    (line,) = found()
    return str(line.__dict__["client"])

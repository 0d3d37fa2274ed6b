"""What a hub process is told from outside: options, environment and a file, in this order of precedence.

    option of the command      stillwatch-hub serve --port 8443
    environment                STILLWATCH_HUB_PORT=8443
    file                       port = 8443      in --config FILE, or hub.toml in the home

A name that is not known is refused, wherever it stands: a limit that was misspelt is no limit.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SettingsSourceError,
)
from typing_extensions import override

from hub.errors import HubError

PREFIX = "STILLWATCH_HUB_"
DATABASE_URL_VARIABLE = "STILLWATCH_DATABASE_URL"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
CONFIG_FILE = "hub.toml"

Count = Annotated[int, Field(ge=1, le=10**9)]
Bytes = Annotated[int, Field(ge=1, le=2**50)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class SettingsError(HubError):
    """A setting that is unknown, or has an impossible value."""

    exit_code = 2

    def __init__(self, detail: str) -> None:
        super().__init__("settings", detail)


class HubSettings(BaseSettings):
    """Everything that can be set. `stillwatch-hub config` prints it with what each is for."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(f"{PREFIX}DATABASE_URL", DATABASE_URL_VARIABLE),
        description="a Postgres 15 or later; without it, the embedded one of the home",
    )
    database_connections: Count = Field(16, le=1000, description="connections of this process for reading")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8470, ge=0, le=65535, description="port to listen on; 0 takes any that is free")
    public_url: str | None = Field(
        None, pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$", description="how clients reach the hub through a proxy"
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain: TLS in this process")
    tls_key: Path | None = Field(None, description="PEM file with the certificate's key")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="addresses or networks whose X-Forwarded-For and -Proto are believed; comma-separated"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="of the hub's own log")
    traces: bool = Field(
        False, description="send OpenTelemetry traces; where to is set by the standard OTEL_… environment variables"
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="port for Prometheus's /metrics, without authentication; not set: none"
    )
    metrics_host: str = Field("127.0.0.1", description="address for /metrics: never one that strangers reach")
    request_timeout: Seconds = Field(60, description="seconds that any request may take, following not counted")
    max_at_once: Count = Field(512, description="requests in work in this process, following not counted")
    max_at_once_per_member: Count = Field(64, description="of which one member may have so many")
    max_followers: Count = Field(4096, description="long polls that wait for the next checkpoint in this process")
    max_followers_per_member: Count = Field(512, description="of which one member may have so many")
    requests_per_minute: Count = Field(6000, description="requests of one member to this process")
    submissions_per_minute: Count = Field(600, description="of which so many may be submissions")
    entry_bytes_per_day: Bytes = Field(
        256 * 2**20, description="bytes of entries that one member may add to the log in 24 hours"
    )
    entry_bytes_per_member: Bytes = Field(
        16 * 2**30, description="bytes of entries that one member may have in the log"
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _both_or_neither(self) -> HubSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self

    def shown(self) -> dict[str, Any]:
        """Every setting as JSON has it, secrets hidden."""
        return self.model_dump(mode="json")

    def as_toml(self) -> str:
        """A settings file that says what is in force; a secret stands in it as a comment, hidden."""
        lines = []
        for name, value in self.shown().items():
            lines += [f"# {type(self).model_fields[name].description}"]
            hidden = value is None or isinstance(getattr(self, name), SecretStr)
            # A TOML value of these kinds (text, number, truth, list of text) is written as JSON writes it.
            lines += [
                f"# {name} = {json.dumps(value or '', ensure_ascii=False)}"
                if hidden
                else f"{name} = {json.dumps(value, ensure_ascii=False)}",
                "",
            ]
        return "\n".join(lines).rstrip("\n")


def read_settings(home: Path | None, config: Path | None, **options: object) -> HubSettings:
    """What is in force.

    Args:
        home: whose `hub.toml` is read if no other file is named.
        config: the file named by an option; else the environment may name one.
        options: from the command line; None means not given.

    Raises:
        SettingsError: unreadable file, unknown name, impossible value.
    """
    _refuse_unknown_variables()
    file = _file(home, config)

    class FromFile(HubSettings):
        @classmethod
        @override
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        return FromFile(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # An alias is told as such; everywhere the setting has the one name.
        name = ".".join(str(step) for step in first["loc"]).removeprefix(PREFIX).lower() or "settings"
        if first["type"] == "extra_forbidden" and file is not None:
            raise SettingsError(f"{name} is set in {file}, and there is no such setting") from None
        raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    except (SettingsSourceError, tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings cannot be read{f' from {file}' if file else ''}: {error}") from error


def _file(home: Path | None, config: Path | None) -> Path | None:
    named = config or (Path(variable) if (variable := os.environ.get(CONFIG_VARIABLE)) else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"there is no settings file {named}")
        return named
    beside = home / CONFIG_FILE if home is not None else None
    try:
        return beside if beside is not None and beside.is_file() else None
    except OSError as error:
        raise SettingsError(f"the settings cannot be read: {error}") from error


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name}".upper() for name in HubSettings.model_fields} | {CONFIG_VARIABLE}
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            raise SettingsError(f"{variable} is set in the environment, and there is no such setting")

"""`gate.toml` in a home: where a gate listens, and which header of a request says what."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from member_client.errors import InvalidInput

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_MAX_BYTES = 65_536
_HINT = "docs/gate.md says what it may say"
THROTTLE_STATUSES = (200, 401, 403, 429)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: `HOST:PORT`, or `unix:PATH`."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read one.

        Raises:
            ValueError: it is none.
        """
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not Path(path).is_absolute() or len(path.encode()) > 100:
                raise ValueError(f"{text!r} is no absolute path of at most 100 bytes after unix:")
            return cls("", 0, path)
        host, _, port = text.rpartition(":")
        if not host or not re.fullmatch(r"0|[1-9][0-9]{0,4}", port) or int(port) > 65_535:
            raise ValueError(f"{text!r} is neither HOST:PORT nor unix:PATH")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What `gate.toml` says.

    Attributes:
        listen: where the gateway asks. Every request there is judged, whatever its path.
        status: where `/healthz`, `/readyz` and `/metrics` are.
        trusted_hops: how many entries at the end of the address header were written by proxies that can be believed;
            the client is the first of these. 0: the header is not looked at.
        throttle_status: how a throttled request is answered.
        throttle_per_minute: so many requests of a throttled subject pass each minute, marked; 0 for none.
        without_data: `open` or `closed`, while no table could be read; `policy`: as policy.toml says of what is stale.
        rebuild_seconds: the table is made anew after this time also if nothing seems to have changed.
    """

    listen: Address = Address("127.0.0.1", 8480)
    status: Address = Address("127.0.0.1", 8481)
    account_header: str = "x-account-id"
    organisation_header: str = "x-organisation-id"
    model_header: str = "x-model"
    address_header: str = "x-forwarded-for"
    trusted_hops: int = 0
    throttle_status: int = 429
    throttle_per_minute: int = 0
    without_data: str = "policy"
    rebuild_seconds: int = 300

    def __post_init__(self) -> None:
        headers = [getattr(self, name) for name in _HEADERS]
        for name, header in zip(_HEADERS, headers, strict=True):
            if not _HEADER.fullmatch(header):
                raise ValueError(f"{name} {header!r} is no header's name in lower case")
        if len(set(headers)) < len(headers):
            raise ValueError("two of the four headers are the same")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is not between {least} and {most}")
        if self.throttle_status not in THROTTLE_STATUSES:
            raise ValueError(f"throttle_status is not one of {', '.join(map(str, THROTTLE_STATUSES))}")
        if self.without_data not in ("policy", "open", "closed"):
            raise ValueError("without_data is none of policy, open and closed")
        # By the port of the socket that a request came in at, the two are told apart.
        if 0 < self.listen.port == self.status.port or "" != self.listen.path == self.status.path:
            raise ValueError("listen and status need a port each, or a path")


_HEADERS = ("account_header", "organisation_header", "model_header", "address_header")
_BOUNDS = {"trusted_hops": (0, 16), "throttle_per_minute": (0, 60_000), "rebuild_seconds": (1, 86_400)}


def read_settings(path: Path, **instead: str | None) -> GateSettings:
    """Read `gate.toml`; without one everything is as it is by default.

    Args:
        instead: what to take instead of what the file says, as text; None for nothing.

    Raises:
        InvalidInput: it is not usable.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        document = tomllib.loads(text.decode())
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not usable: {error}", _HINT) from error
    document |= {name: value for name, value in instead.items() if value is not None}
    try:
        return GateSettings(**_typed(document))
    except ValueError as error:
        raise InvalidInput(f"the gate's settings: {error}", f"mend {path}: {_HINT}") from error


def _typed(document: dict[str, Any]) -> dict[str, Any]:
    kinds = {field.name: type(field.default) for field in dataclasses.fields(GateSettings)}
    found: dict[str, Any] = {}
    for name, value in document.items():
        if name not in kinds:
            raise ValueError(f"unknown setting {name!r}")
        wanted = str if kinds[name] is Address else kinds[name]
        if type(value) is not wanted:
            raise ValueError(f"{name} is not a {'string' if wanted is str else 'whole number'}")
        found[name] = Address.parse(str(value)) if kinds[name] is Address else value
    return found

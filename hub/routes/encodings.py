"""Content codings: entries are JSON and base64, and shrink to about a half. Hashes do not, so tiles go as they are."""

import asyncio
import gzip

import zstandard

from hub.routes.shared import Content

_PREFERRED = ("zstd", "gzip")
_WORTH_IT_BYTES = 1024


def choose(accepted: str) -> str:
    """The coding to use for an Accept-Encoding header (RFC 9110, section 12.5.3): `zstd`, `gzip` or `identity`."""
    weights: dict[str, float] = {}
    for item in accepted.split(","):
        name, _, parameter = item.partition(";")
        weights[name.strip().lower()] = _weight(parameter.strip())
    offered = [(weights.get(coding, weights.get("*", 0.0)), coding) for coding in _PREFERRED]
    best = max(weight for weight, _ in offered)
    return next(coding for weight, coding in offered if weight == best) if best > 0 else "identity"


async def encode(data: bytes, coding: str) -> Content:
    """Encode a body as `choose` says, if that is worth it."""
    if coding == "identity" or len(data) < _WORTH_IT_BYTES:
        return Content(data)
    return Content(await asyncio.to_thread(_compress, data, coding), coding)


def _compress(data: bytes, coding: str) -> bytes:
    return zstandard.compress(data, 3) if coding == "zstd" else gzip.compress(data, 5, mtime=0)


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0

"""The connection to a hub: every request signed, every wait and size bounded, nothing believed.

Reads are tried again when the network fails, each try signed anew; a submission too, because the hub answers the same
payload with the same place in the log.
"""

from __future__ import annotations

import contextlib
import random
import re
import secrets
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlencode

import httpx
import stamina
import stamina.instrumentation
import zstandard
from pydantic import BaseModel, TypeAdapter, ValidationError

from member_client.errors import HubUnreachable, RefusedByHub
from sharing_protocol import wire
from sharing_protocol.errors import Fault, Misbehaviour
from sharing_protocol.keys import Signer
from sharing_protocol.notes import MAX_NOTE_BYTES
from sharing_protocol.request_signing import sign_request
from sharing_protocol.tiles import MAX_BUNDLE_BYTES, MAX_TILE_BYTES, TILE_WIDTH, Bundle, Tile, split_hashes

MAX_JSON_BYTES = 16 * 1024 * 1024
ATTEMPTS = 4
LONGEST_PAUSE_SECONDS = 20.0
"""A hub that asks for a longer pause than this between two tries is not waited for."""
RESPONSE_DEADLINE_SECONDS = 120.0
"""For one whole response: a slow drip of bytes resets a read time-out, but not this."""

READ_SECONDS = 30.0
CONNECT_SECONDS = 10.0

stamina.instrumentation.set_on_retry_hooks([])  # what came of it, whoever asked says
_TIMEOUT = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
_Model = TypeVar("_Model", bound=BaseModel)
_NOT_IN_BULK = frozenset({404, 405, 413})
"""What an older hub, or a proxy that knows only its paths and sizes, says to a bulk submission."""


_MEDIA_TYPES = {
    wire.CHECKPOINT: wire.NOTE_MEDIA_TYPE,
    wire.COSIGNATURES: wire.NOTE_MEDIA_TYPE,
    wire.BULK_ENTRIES: wire.ENVELOPE_LINES_MEDIA_TYPE,
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: bytes
    media_type: str


class _Retry(Exception):
    """A failure that may pass: no connection, a broken answer, 429 or 5xx.

    Attributes:
        after: the seconds of the hub's Retry-After, if it sent one.
        reason: the code of its problem document, if it sent one.
    """

    def __init__(self, message: str, after: int | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.after = after
        self.reason = reason


class HubConnection:
    """One keep-alive connection to a hub, as one key."""

    def __init__(
        self,
        base_url: str,
        signer: Signer,
        clock: Callable[[], float] = time.time,
        transport: httpx.BaseTransport | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._base_url = base_url
        self._signer = signer
        self._clock = clock
        self._attempts = attempts
        # Over plain HTTP nobody's certificate is asked for, and reading all of a machine's takes longer than a request.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if base_url.startswith("http://") else True
        self._client = httpx.Client(verify=verify, timeout=_TIMEOUT, follow_redirects=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # -- the log -----------------------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The newest checkpoint note, not yet verified."""
        return self._get(wire.CHECKPOINT, MAX_NOTE_BYTES).content

    def next_checkpoint(self, after: int, wait: int) -> bytes:
        """The newest checkpoint note, as soon as the log is longer than `after`, or else in `wait` seconds."""
        target = f"{wire.CHECKPOINT}?{urlencode({'after': after, 'wait': wait})}"
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, read=wait + READ_SECONDS)
        answer = self._request("GET", target, b"", MAX_NOTE_BYTES, timeout)
        if answer.status != 200:
            raise _refusal(answer)
        return answer.content

    def show_checkpoint(self, note: str) -> None:
        """Show the hub a checkpoint that it signed: it may not know any more, and must not go on without.

        Best effort, one try: a hub that does not want to hear it changes nothing for us.
        """
        with contextlib.suppress(_Retry, HubUnreachable):
            self._try("POST", wire.CHECKPOINT, note.encode(), MAX_JSON_BYTES, _TIMEOUT)

    def send_cosignature(self, note: str) -> None:
        """Send a checkpoint that this lab has cosigned."""
        self.send(wire.COSIGNATURES, note.encode(), wire.CosignatureReceipt)

    def cosigned_checkpoints(self, member: str = "") -> list[bytes]:
        """Checkpoint notes that witnesses have cosigned, not yet verified; with `member`, what this lab has."""
        query = {"member": member} if member else None
        shown = self.read(wire.COSIGNATURES, wire.CosignedCheckpoints, query).checkpoints
        return [note.encode("utf-8", "surrogatepass") for note in shown]

    def tile(self, tile: Tile) -> bytes:
        """A tile's hashes, not yet verified.

        Raises:
            Misbehaviour: `WITHHOLD`, if the hub has neither the tile nor the full one that replaced it.
        """
        answer = self._get(f"/{tile.path}", MAX_TILE_BYTES, absent_is_fine=True)
        if answer.status == 200:
            return answer.content
        if tile.width < TILE_WIDTH:
            # A server may drop a partial tile once the full one exists (C2SP tlog-tiles).
            full = self._get(f"/{Tile(tile.level, tile.index).path}", MAX_TILE_BYTES, absent_is_fine=True)
            if full.status == 200:
                return b"".join(split_hashes(full.content, TILE_WIDTH)[: tile.width])
        raise _withheld(tile.path)

    def bundle(self, bundle: Bundle) -> tuple[bytes, int]:
        """An entry bundle, not yet verified, and how many entries it is said to hold.

        Raises:
            Misbehaviour: `WITHHOLD`, as for `tile`.
        """
        for width in dict.fromkeys((bundle.width, TILE_WIDTH)):
            candidate = Bundle(bundle.index, width)
            answer = self._get(f"/{candidate.path}", MAX_BUNDLE_BYTES, absent_is_fine=True)
            if answer.status == 200:
                return answer.content, width
        raise _withheld(bundle.path)

    # -- talking to the hub ------------------------------------------------------------------------------------

    def read(self, path: str, model: type[_Model], query: Mapping[str, str | int] | None = None) -> _Model:
        """A JSON answer, parsed."""
        target = f"{path}?{urlencode(query)}" if query else path
        return _parse(model, self._get(target, MAX_JSON_BYTES))

    def send(self, path: str, content: bytes, model: type[_Model]) -> _Model:
        """Post an envelope and parse the answer."""
        answer = self._request("POST", path, content, MAX_JSON_BYTES)
        if answer.status not in (200, 201, 202):
            raise _refusal(answer)
        return _parse(model, answer)

    def send_entries(self, entries: Sequence[bytes]) -> Iterator[wire.Receipt | RefusedByHub | HubUnreachable]:
        """Post envelopes to the log, in order and in few requests; what the hub says of each, as of one by `send`."""
        in_bulk = len(entries) > 1
        for load in _loads(entries):
            told = self._send_load(load) if in_bulk else None
            in_bulk = told is not None
            if told is not None:
                yield from told
                continue
            for entry in load:
                try:
                    yield self.send(wire.ENTRIES, entry, wire.Receipt)
                except (RefusedByHub, HubUnreachable) as error:
                    yield error

    def _send_load(self, entries: Sequence[bytes]) -> list[wire.Receipt | RefusedByHub | HubUnreachable] | None:
        """Send envelopes together, those again that the hub had no room for; None if the hub takes none together."""
        told: dict[int, wire.Receipt | wire.Problem] = {}
        unreachable: HubUnreachable | None = None
        try:
            for attempt in stamina.retry_context(
                on=_pause_before_next, attempts=self._attempts, wait_initial=0.2, wait_max=5.0, timeout=None
            ):
                with attempt:
                    left = [place for place in range(len(entries)) if _may_be_taken_later(told.get(place))]
                    lines = b"\n".join(entries[place] for place in left)
                    answer = self._try("POST", wire.BULK_ENTRIES, lines, MAX_JSON_BYTES, _TIMEOUT)
                    if answer.status in _NOT_IN_BULK:
                        return None
                    if answer.status != 200:
                        return [_refusal(answer)] * len(entries)
                    told |= zip(left, _told_of(answer, len(left)), strict=True)
                    for one in told.values():
                        if isinstance(one, wire.Problem) and _may_be_taken_later(one):
                            raise _Retry(f"it answered {one.status}: {one.detail}", one.retry_after, one.code)
        except _Retry as error:
            unreachable = self._unreachable(error)
        outcomes: list[wire.Receipt | RefusedByHub | HubUnreachable] = []
        for place in range(len(entries)):
            said = told.get(place)
            if unreachable is not None and _may_be_taken_later(said):
                outcomes.append(unreachable)
            elif isinstance(said, wire.Problem):
                outcomes.append(RefusedByHub(said))
            elif said is not None:
                outcomes.append(said)
        return outcomes

    def _get(self, target: str, limit: int, absent_is_fine: bool = False) -> _Answer:
        answer = self._request("GET", target, b"", limit)
        if answer.status != 200 and not (absent_is_fine and answer.status == 404):
            raise _refusal(answer)
        return answer

    def _request(
        self, method: str, target: str, content: bytes, limit: int, timeout: httpx.Timeout = _TIMEOUT
    ) -> _Answer:
        try:
            for attempt in stamina.retry_context(
                on=_pause_before_next, attempts=self._attempts, wait_initial=0.2, wait_max=5.0, timeout=None
            ):
                with attempt:
                    return self._try(method, target, content, limit, timeout)
        except _Retry as error:
            raise self._unreachable(error) from error
        raise AssertionError("retry_context either returns or raises")

    def _unreachable(self, error: _Retry) -> HubUnreachable:
        hint = f"it asks to wait {error.after} s" if error.after else "check the address and the network; try again"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            hint = "if it is of an authority of the forum's own, set SSL_CERT_FILE to that authority's certificate"
        return HubUnreachable(f"{self._base_url}: {error}", hint, error.after or 0, error.reason)

    def _try(self, method: str, target: str, content: bytes, limit: int, timeout: httpx.Timeout) -> _Answer:
        url = self._base_url + target
        nonce = secrets.token_urlsafe(16)
        headers = dict(sign_request(method, url, content, self._signer, int(self._clock()), nonce))
        headers["Accept-Encoding"] = "zstd, gzip"
        if content:
            headers["Content-Type"] = _MEDIA_TYPES.get(target, wire.ENVELOPE_MEDIA_TYPE)
        try:
            with self._client.stream(
                method, url, content=content or None, headers=headers, timeout=timeout
            ) as response:
                body = _read_bounded(response, limit)
                answer = _Answer(response.status_code, body, response.headers.get("content-type", ""))
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            # The last two are about a redirect's target, which httpx reads though it is not to follow it.
            raise _Retry(str(error) or type(error).__name__) from error
        if answer.status == 429 or answer.status >= 500:
            problem = _problem(answer)
            after = _seconds(response.headers.get("retry-after", ""))
            raise _Retry(_describe(answer), after, problem.code if problem else "")
        return answer


def _pause_before_next(error: Exception) -> bool | float:
    """Whether to try again; how long to wait first, if the hub said so, with some jitter on top."""
    if not isinstance(error, _Retry) or error.after is None:
        return isinstance(error, _Retry)
    if error.after > LONGEST_PAUSE_SECONDS:
        return False
    return error.after + random.uniform(0.1, 1.0)  # noqa: S311 - spreads load, guards nothing


def _seconds(retry_after: str) -> int | None:
    """A Retry-After in seconds (RFC 9110 10.2.3); a hub sends no date."""
    return int(retry_after) if re.fullmatch("[0-9]{1,9}", retry_after) else None


def _read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read and decode a body of at most `limit` bytes, before and after decompression, within the deadline."""
    deadline = time.monotonic() + RESPONSE_DEADLINE_SECONDS
    raw = bytearray()
    for chunk in response.iter_raw():
        raw += chunk
        if len(raw) > limit:
            raise HubUnreachable(f"the hub's answer is larger than {limit:,} bytes")
        if time.monotonic() > deadline:
            raise HubUnreachable(f"the hub's answer took longer than {RESPONSE_DEADLINE_SECONDS:.0f} s")
    body = _decode(bytes(raw), response.headers.get("content-encoding", "identity"), limit)
    if len(body) > limit:
        raise HubUnreachable(f"the hub's answer decompresses to more than {limit:,} bytes")
    return body


def _decode(raw: bytes, encoding: str, limit: int) -> bytes:
    try:
        if encoding == "identity":
            return raw
        if encoding == "gzip":
            return zlib.decompressobj(wbits=31).decompress(raw, limit + 1)
        if encoding == "zstd":
            # To read without knowing the size takes a buffer for the limit: most of the time for a bundle.
            said = zstandard.frame_content_size(raw)
            size = said if 0 <= said < limit else limit
            return zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(raw).read(size + 1)
    except (zlib.error, zstandard.ZstdError) as error:
        raise HubUnreachable(f"the hub's answer does not decompress: {error}") from error
    raise HubUnreachable(f"the hub answered in an encoding nobody asked for: {encoding[:40]!r}")


def _parse(model: type[_Model], answer: _Answer) -> _Model:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise HubUnreachable(f"the hub's answer is not a {model.__name__}") from error


def _loads(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """As few runs of envelopes as a hub takes by one request each."""
    start = size = 0
    for place, entry in enumerate(entries):
        size += len(entry) + 1
        if place - start == wire.MAX_BULK_ENVELOPES or size > wire.MAX_BULK_BYTES:
            yield entries[start:place]
            start, size = place, len(entry) + 1
    if entries:
        yield entries[start:]


def _told_of(answer: _Answer, count: int) -> list[wire.Receipt | wire.Problem]:
    try:
        told = TypeAdapter(list[wire.Receipt | wire.Problem]).validate_json(answer.content)
    except ValidationError as error:
        raise _Retry("its answer is no list of receipts and problems") from error
    if len(told) != count:
        raise _Retry(f"it told of {len(told)} entries, and was sent {count}")
    return told


def _may_be_taken_later(told: wire.Receipt | wire.Problem | None) -> bool:
    """Whether the hub said nothing of an envelope yet, or that it had no room for it."""
    return told is None or (isinstance(told, wire.Problem) and (told.status == 429 or told.status >= 500))


def _refusal(answer: _Answer) -> RefusedByHub | HubUnreachable:
    if (problem := _problem(answer)) is not None:
        return RefusedByHub(problem)
    if 300 <= answer.status < 400:
        return HubUnreachable("the hub redirects elsewhere, which is not followed", "give the hub's own address")
    return HubUnreachable(_describe(answer))


def _problem(answer: _Answer) -> wire.Problem | None:
    if not answer.media_type.startswith(wire.PROBLEM_MEDIA_TYPE):
        return None
    try:
        return wire.Problem.model_validate_json(answer.content)
    except ValidationError:
        return None


def _describe(answer: _Answer) -> str:
    if (problem := _problem(answer)) is not None:
        return f"it answered {answer.status}: {problem.detail}"
    return f"it answered {answer.status}, and not as a Stillwatch hub would"


def _withheld(path: str) -> Misbehaviour:
    return Misbehaviour(Fault.WITHHOLD, "withheld", f"the hub signed a tree but does not serve its {path}")

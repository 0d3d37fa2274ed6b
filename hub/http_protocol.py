"""uvicorn's HTTP/1.1 by h11, with a bound that it lacks: on how long the head of a request may take to come."""

import asyncio

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0


class PunctualH11(H11Protocol):
    """Hangs up on who has begun a head, or a connection, and does not come to its end.

    Between two requests uvicorn's own timer runs; it stops with the first byte of the next one, and this one begins.
    A request's body has other bounds (`gate`).
    """

    _head_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._stop_expecting()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        # Not begun anew with every byte: that would be the whole trick.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _stop_expecting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _hang_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

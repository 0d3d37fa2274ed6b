"""The process between the hub and its embedded Postgres: it starts the server, and ends it when the hub is gone.

Nobody can ask a process that was killed with -9 to clean up. So the server's parent is this small program, and the
hub holds the write end of a pipe to its standard input. However the hub ends, the kernel closes that end, and the
end of file here is the order to stop. No polling, no pids that another process might have taken over meanwhile.

It is run as a file, in isolated mode and a session of its own, so that Ctrl-C at the hub's terminal does not reach
the server before the hub has finished with it. It needs the standard library alone. While it lives it holds, by an
inherited descriptor, the lock of the cluster that it serves.

Argument: one JSON object, the fields of `Orders`. Exit code: the server's, 128 + n if signal n ended it.
"""

import json
import logging
import logging.handlers
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import FrameType

# Fast shutdown closes the connections and writes a checkpoint. A server that hangs at that is aborted, and recovers
# from its write-ahead log at the next start. Seconds to wait after each.
SHUTDOWN_STEPS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
SHUTDOWN_SECONDS = sum(seconds for _, seconds in SHUTDOWN_STEPS)
LOG_BYTES = 8 * 1024 * 1024  # of the log in use; the one before it is kept too
READ_BYTES = 65_536
STDIN = 0


@dataclass(frozen=True)
class Orders:
    """What to run, as whom (None: as ourselves; numbers: user and group id), and where its log goes."""

    command: list[str]
    environment: dict[str, str]
    user: int | None
    group: int | None
    log: str


def main() -> int:
    """Run the server until it ends or the hub does; the exit code is the server's."""
    # A handler, not SIG_IGN: an ignored signal would stay ignored in the server that we start.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave_it_to_the_hub)
    os.umask(0o077)
    orders = Orders(**json.loads(sys.argv[1]))
    log = logging.handlers.RotatingFileHandler(orders.log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    log.terminator = ""
    try:
        server = subprocess.Popen(
            orders.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=orders.environment,
            user=orders.user,
            group=orders.group,
            extra_groups=None if orders.user is None else [],
        )
    except OSError as error:
        _write(log, f"cannot run {orders.command[0]}: {error}\n")
        return 1
    _serve(server, log)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _leave_it_to_the_hub(number: int, frame: FrameType | None) -> None:
    """When to stop is the hub's decision: whatever ends the hub closes the pipe."""


def _write(log: logging.Handler, text: str) -> None:
    log.handle(logging.makeLogRecord({"msg": text}))


def _serve(server: subprocess.Popen[bytes], log: logging.Handler) -> None:
    """Copy what the server says to its log until it and all its children are gone.

    Each of its processes holds the write end of the output pipe, so the end of file there means that none is left
    that could still write to the data.
    """
    assert server.stdout is not None  # noqa: S101 - for the type checker: it was started with a pipe
    output = server.stdout.fileno()
    steps = iter(SHUTDOWN_STEPS)
    deadline: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(STDIN, selectors.EVENT_READ)
        selector.register(output, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select(deadline and max(0.0, deadline - time.monotonic()))}
            if output in ready:
                data = os.read(output, READ_BYTES)
                if not data:
                    return
                _write(log, data.decode(errors="replace"))
            hub_left = STDIN in ready and not os.read(STDIN, READ_BYTES)
            if hub_left:
                selector.unregister(STDIN)
            if hub_left or (deadline is not None and time.monotonic() >= deadline):
                step = next(steps, None)
                if step is None:
                    return
                server.send_signal(step[0])
                deadline = time.monotonic() + step[1]


if __name__ == "__main__":
    sys.exit(main())

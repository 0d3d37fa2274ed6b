"""What can go wrong in the hub besides what the protocol names.

    HubError                      base; `code` is stable, `detail` is a sentence for people
    ├── Denied                    a request the hub does not serve: not found, not bound, not the signer, …
    ├── OverLimit                 more than a member may have; the same request may succeed later
    ├── Unavailable               try again later; nothing was decided
    │   ├── Overloaded            too much at once
    │   ├── DatabaseSilent        the database does not answer
    │   ├── LogHalted             the log is older than what was published of it, or may be
    │   └── LogKeysMissing        the log's keys are not here: it can neither be signed nor extended
    ├── DatabaseUnusable          wrong URL, too old, migrated by a later version
    │   └── DatabaseUnreachable   does not answer, or does not let us in
    └── LogDamaged                the stored log contradicts itself; the hub does not build on it

Which HTTP status each becomes is said in `problems`. A command that ends with one exits with its `exit_code`: 2 for
what was typed or set, 4 for a database that may answer later, 3 for whatever else somebody has to mend first.
"""

from sharing_protocol.wire import LOG_KEYS_MISSING


class HubError(Exception):
    """Base of what the hub raises on purpose."""

    exit_code = 3

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Denied(HubError):
    """A request that this hub does not serve, whoever asks."""


class OverLimit(HubError):
    """More than one member may have at a time, or in a time. Nothing was decided."""

    def __init__(self, code: str, detail: str, retry_after: int) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class Unavailable(HubError):
    """The hub cannot answer now. Nothing was decided: the same request may succeed later."""

    def __init__(self, code: str, detail: str, retry_after: int = 2) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class Overloaded(Unavailable):
    """More requests at once than the hub takes."""

    def __init__(self, detail: str = "the hub has more to do than it takes at once; try again in a moment") -> None:
        super().__init__("overloaded", detail, retry_after=1)


class DatabaseSilent(Unavailable):
    """The database does not answer."""

    def __init__(self) -> None:
        super().__init__("database_unavailable", "the hub's database does not answer")


class LogHalted(Unavailable):
    """The log is not the newest that was published, or nobody has confirmed yet that it is: nothing is built on it."""

    def __init__(self, code: str, detail: str) -> None:
        # Only a person can mend this: whoever asks need not ask often.
        super().__init__(code, detail, retry_after=60)


class LogKeysMissing(Unavailable):
    """The hub does not hold the keys that its log has now."""

    def __init__(self, detail: str) -> None:
        super().__init__(LOG_KEYS_MISSING, detail, retry_after=60)


class DatabaseUnusable(HubError):
    """A database that the hub cannot work with."""

    def __init__(self, detail: str) -> None:
        super().__init__("database_unusable", detail)


class DatabaseUnreachable(DatabaseUnusable):
    """A database that does not answer, or not us."""

    exit_code = 4


class LogDamaged(HubError):
    """The stored log contradicts itself, or is not this hub's: it is not extended."""

    def __init__(self, detail: str) -> None:
        super().__init__("log_damaged", f"{detail}; run `stillwatch-hub check`")

"""How many bytes of entries a member may add to the log: in 24 hours, and in all. Decided as a pure function.

Decided under the log's lock, from sums that are committed with the entries they count (`database.usage_store`). So
the quotas hold exactly over all processes of a hub: no entry goes in that would exceed one, however many submit at
once. A day's window is counted in hours and rounded up: what was added is forgotten after 24 to 25 hours.

The forum's own statements (who is admitted, who is expelled) are never refused for their size: they need several
admins, and the forum must be able to act.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hub.errors import OverLimit

_FORUM = "forum--"


@dataclass(frozen=True, slots=True)
class Quotas:
    """Bytes of entries that one member may add."""

    per_day: int
    in_all: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of entries that one member has added: in all, and before the last day."""

    in_all: int = 0
    before_day: int = 0

    @property
    def in_day(self) -> int:
        """Bytes that count as the last day's."""
        return self.in_all - self.before_day


def counted(authors: Collection[str]) -> set[str]:
    """The authors whose bytes are counted."""
    return {author for author in authors if not author.startswith(_FORUM)}


class Allowance:
    """What members may still add, kept up to date while a batch is decided.

    Attributes:
        added: bytes by author so far.
    """

    def __init__(self, quotas: Quotas | None = None, usage: Mapping[str, Usage] | None = None) -> None:
        self._quotas = quotas
        self._usage = usage or {}
        self.added: dict[str, int] = {}

    def take(self, author: str, size: int) -> OverLimit | None:
        """Count an entry, or say why it is too much."""
        if author.startswith(_FORUM):
            return None
        added = self.added.get(author, 0) + size
        usage = self._usage.get(author, Usage())
        if self._quotas is not None and usage.in_all + added > self._quotas.in_all:
            return OverLimit(
                "quota_exceeded",
                f"the log has {usage.in_all + added - size:,} bytes of this member's entries; it takes "
                f"{self._quotas.in_all:,}, and this one has {size:,}",
                retry_after=24 * 3600,
            )
        if self._quotas is not None and usage.in_day + added > self._quotas.per_day:
            return OverLimit(
                "quota_exceeded",
                f"this member has added {usage.in_day + added - size:,} bytes of entries in 24 hours; it may add "
                f"{self._quotas.per_day:,}, and this one has {size:,}",
                retry_after=3600,
            )
        self.added[author] = added
        return None

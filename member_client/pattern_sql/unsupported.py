"""What a dialect cannot say exactly."""

from __future__ import annotations

from member_client.errors import InvalidInput


class Unsupported(InvalidInput):
    """The dialect has no SQL that means exactly this.

    Attributes:
        what: what cannot be said, as a clause.
        why: the engine's limit.
        hint: how to mend it.
    """

    code = "unsupported_in_dialect"

    def __init__(self, what: str, why: str, mend: str) -> None:
        super().__init__(f"{what}: {why}", mend)
        self.what = what
        self.why = why

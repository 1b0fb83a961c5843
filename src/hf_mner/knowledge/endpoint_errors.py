"""The errors of chat endpoints; their texts never hold the key."""

from __future__ import annotations

from hf_mner.knowledge.base import SourceError


class EndpointError(SourceError):
    """An endpoint gave no usable reply.

    Attributes:
        reason: the kind in a word, e.g. `"timeout"`, `"429"`, `"broken reply"`.
        is_passing: the same request may well succeed later.
        retry_after_s: seconds that the server asks to wait, None if it names none.
    """

    def __init__(self, text: str, reason: str = "", is_passing: bool = False, retry_after_s: float | None = None):
        super().__init__(text)
        self.reason, self.is_passing, self.retry_after_s = reason, is_passing, retry_after_s


class BudgetReached(EndpointError):
    """The next request could exceed the budget; it was not sent."""

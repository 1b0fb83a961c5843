"""What may be spent at an endpoint, and how fast: counted over all threads, checked before a request is sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Condition, Lock
from typing import NamedTuple

from hf_mner.knowledge.endpoint_errors import BudgetReached


class Tokens(NamedTuple):
    """Tokens that a request reads and writes."""

    read: int
    written: int


class Spending(NamedTuple):
    """Requests sent, tokens read and written, and their cost in the currency of the prices (0 without prices)."""

    requests: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    cost: float = 0.0

    def __str__(self) -> str:
        """Return it in words."""
        cost = f", cost {self.cost:.4f}" if self.cost else ""
        return f"{self.requests} requests, {self.tokens_read} + {self.tokens_written} tokens{cost}"


class Budget:
    """Counts what requests cost, and refuses those that could cost more than is left.

    A request reserves its upper bound first and gets back what it did not need. Where only the reservations of running
    requests stand in the way, it waits for them.

    Args:
        max_requests: requests in all, repeated ones included; None = no limit.
        max_total_tokens: tokens read and written in all; None = no limit.
        max_cost: in the currency of the prices; None = no limit.
        input_price: of a million tokens read.
        output_price: of a million tokens written.
    """

    def __init__(
        self,
        max_requests: int | None = None,
        max_total_tokens: int | None = None,
        max_cost: float | None = None,
        input_price: float = 0.0,
        output_price: float = 0.0,
    ):
        self.max_requests, self.max_total_tokens, self.max_cost = max_requests, max_total_tokens, max_cost
        self.input_price, self.output_price = input_price, output_price
        self._requests, self._spent, self._reserved = 0, Tokens(0, 0), Tokens(0, 0)
        self._changed = Condition()

    @property
    def spent(self) -> Spending:
        """What was spent so far."""
        with self._changed:
            return self._spending(self._requests, self._spent)

    def check(self, bounds: Sequence[Tokens]) -> None:
        """Refuse a group of requests if not all of them can be paid, before the first is sent.

        Raises:
            BudgetReached: saying what they could cost and what was spent.
        """
        with self._changed:
            all_bounds = Tokens(sum(bound.read for bound in bounds), sum(bound.written for bound in bounds))
            if excess := self._excess(len(bounds), _add(self._reserved, all_bounds)):
                raise self._reached(excess, len(bounds))

    def reserve(self, bound: Tokens) -> None:
        """Count a request that is about to be sent, and set its upper bound aside until `settle`.

        Raises:
            BudgetReached: if it could exceed the budget.
        """
        with self._changed:
            while self._excess(1, _add(self._reserved, bound)):
                if excess := self._excess(1, bound):
                    raise self._reached(excess, 1)
                self._changed.wait()
            self._requests += 1
            self._reserved = _add(self._reserved, bound)

    def settle(self, bound: Tokens, used: Tokens) -> None:
        """Put what a request used in the place of its upper bound."""
        with self._changed:
            self._reserved = Tokens(self._reserved.read - bound.read, self._reserved.written - bound.written)
            self._spent = _add(self._spent, used)
            self._changed.notify_all()

    def _excess(self, requests: int, tokens: Tokens) -> str:
        """Name the limit that these could exceed on top of what is spent; `""` = none."""
        after = self._spending(self._requests + requests, _add(self._spent, tokens))
        if self.max_requests is not None and after.requests > self.max_requests:
            return f"`max_requests={self.max_requests}`"
        if self.max_total_tokens is not None and after.tokens_read + after.tokens_written > self.max_total_tokens:
            return f"`max_total_tokens={self.max_total_tokens}`"
        if self.max_cost is not None and after.cost > self.max_cost:
            return f"`max_cost={self.max_cost}`"
        return ""

    def _spending(self, requests: int, tokens: Tokens) -> Spending:
        cost = (tokens.read * self.input_price + tokens.written * self.output_price) / 1e6
        return Spending(requests, *tokens, cost)

    def _reached(self, limit: str, requests: int) -> BudgetReached:
        spent = self._spending(self._requests, self._spent)
        return BudgetReached(
            f"The budget {limit} could be exceeded by {requests} more request{'s' * (requests > 1)}, which were not"
            f" sent. Spent so far: {spent}. What a store holds is kept: raise the limit or run again with a new"
            " budget, and with a store (`Stored`, or `hf-mner knowledge build`) only what is missing is asked for.",
            "budget",
        )


class Pacer:
    """Lets requests begin at even distances, over all threads.

    Args:
        requests_per_minute: None = no limit.
    """

    def __init__(self, requests_per_minute: float | None):
        self._distance_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0
        self._lock = Lock()

    def take(self) -> float:
        """Return the seconds to wait before the next request, whose turn is taken by this call."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._distance_s
            return turn - now


def _add(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(one.read + other.read, one.written + other.written)

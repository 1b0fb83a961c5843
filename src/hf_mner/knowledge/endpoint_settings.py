"""Where a chat model is asked, how, and what may be spent: plain values, which recipes can name."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal
from urllib.parse import urlsplit

from hf_mner.knowledge.model_source import check_positive

OPENAI_HOST = "api.openai.com"
OPENAI_URL = f"https://{OPENAI_HOST}/v1"


@dataclass(eq=False)
class EndpointSettings:
    """Where a chat model is asked, how, and what may be spent.

    The limits count for one client or source of one process; each further one has limits of its own.

    Args:
        model: its name at the endpoint; a dated one, where there is one, since an alias changes unnoticed.
        base_url: http(s) address up to `/v1`, without user, query or fragment; None = OpenAI.
        key_variable: environment variable that holds the key; None = `OPENAI_API_KEY` at OpenAI and no key elsewhere,
            so that no other host gets the key of OpenAI by accident.
        temperature: 0 = the likeliest words; None = not sent, for models that allow no other than their own.
        max_tokens: longest answer in tokens.
        length_field: how the request calls that; newer models of OpenAI want `max_completion_tokens`.
        timeout_s: seconds without any byte of the reply after which a request is given up.
        max_attempts: times that a request is sent until a reply comes; 1 = no repetition.
        requests_per_minute: limit over all threads, repetitions included; None = none.
        concurrency: requests at the same time, 1 to 8.
        max_requests: limit of requests, repetitions included; None = none.
        max_total_tokens: limit of tokens read and written; None = none.
        max_cost: limit in the currency of the prices, which it needs; None = none.
        input_price: price of a million tokens read.
        output_price: price of a million tokens written.

    Raises:
        ValueError: if a number is out of its range, `base_url` is no such address, or `max_cost` has no prices.
    """

    model: str
    base_url: str | None = None
    _: KW_ONLY
    key_variable: str | None = None
    temperature: float | None = 0.0
    max_tokens: int = 512
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    timeout_s: float = 60.0
    max_attempts: int = 6
    requests_per_minute: float | None = None
    concurrency: int = 4
    max_requests: int | None = None
    max_total_tokens: int | None = None
    max_cost: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"`model` is {self.model!r}; expected its name at the endpoint, e.g. 'gpt-4o-mini'.")
        check_address(self.base_url)
        check_positive(max_tokens=self.max_tokens, max_attempts=self.max_attempts)
        if not 1 <= self.concurrency <= 8:
            raise ValueError(f"`concurrency` must be from 1 to 8, got {self.concurrency}.")
        if self.length_field not in ("max_tokens", "max_completion_tokens"):
            raise ValueError(
                f"`length_field={self.length_field!r}` is not known; choose 'max_tokens' or 'max_completion_tokens'."
            )
        for name in ("timeout_s", "requests_per_minute", "max_requests", "max_total_tokens", "max_cost"):
            value = getattr(self, name)
            if not (value is None or (isinstance(value, int | float) and value > 0)):
                raise ValueError(f"`{name}` must be a number above 0, got {value!r}.")
        if min(self.input_price, self.output_price) < 0:
            raise ValueError(f"Prices must not be below 0, got {self.input_price} and {self.output_price}.")
        if self.max_cost is not None and not self.input_price + self.output_price > 0:
            raise ValueError(
                f"`max_cost={self.max_cost}` needs `input_price` and `output_price`, those of a million tokens; for a"
                " server without prices use `max_total_tokens` or `max_requests`."
            )

    @property
    def host(self) -> str:
        """Host and port of the endpoint, `""` for OpenAI."""
        host = urlsplit(self.base_url or OPENAI_URL).netloc.lower()
        return "" if host == OPENAI_HOST else host


def check_address(base_url: str | None) -> None:
    """Refuse what is no plain http(s) address; what it holds is not shown, since it may be a key.

    Raises:
        ValueError: saying what was expected.
    """
    if base_url is None:
        return
    wanted = "expected an http(s) address such as 'http://localhost:8000/v1'"
    parts = urlsplit(base_url) if isinstance(base_url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"`base_url` is no http(s) address; {wanted}, or None for OpenAI.")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            f"`base_url` holds a user, a query or a fragment; {wanted} and nothing else. A key belongs into an"
            " environment variable, which `key_variable` names."
        )

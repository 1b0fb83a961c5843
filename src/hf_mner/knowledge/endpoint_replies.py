"""What comes back from a chat endpoint: answers, and failures in words that say what to do and never hold the key."""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from hf_mner.knowledge.endpoint_errors import EndpointError
from hf_mner.knowledge.spending import Tokens

if TYPE_CHECKING:
    from openai import APIError, APIStatusError

SHOWN_CHARACTERS = 300  # of what a server says about an error
THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)  # what reasoning models of some servers begin with
NO_MONEY = "insufficient_quota"  # OpenAI's 429 that no waiting ends


class Answer(NamedTuple):
    """What the model wrote, and whether it was cut off at `max_tokens`."""

    text: str
    is_cut_off: bool


def describe_failure(error: APIError, where: str, key_variable: str | None, key: str | None) -> EndpointError:
    """Return what an error of the `openai` package means, without the key.

    Args:
        error: what the package raised. Neither it nor its cause may be kept: they can quote the request.
        where: how the texts call model and endpoint.
        key_variable: the environment variable of the key, None without one.
        key: what must not be shown.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return EndpointError(f"{where} did not reply in time; raise `timeout_s`.", "timeout", True)
    if isinstance(error, openai.APIStatusError):
        return _describe_status(error, where, key_variable, key)
    return EndpointError(
        f"{where} cannot be reached ({describe_cause(error)}); check `base_url`, and that the server runs.",
        "connection",
        True,
    )


def describe_cause(error: BaseException) -> str:
    """Return what the system says of a lost connection ("connection refused"), else the kind of the cause.

    No text of another package is shown, which could quote the request.
    """
    kind, cause = type(error).__name__, error.__cause__
    kind = type(cause).__name__ if cause is not None else kind
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return str(cause.strerror).lower()
        cause = cause.__cause__ or cause.__context__
    return kind


def read_reply(body: str, where: str, key: str | None) -> tuple[Answer | EndpointError, Tokens | None]:
    """Return the answer in the body of a reply, or what is wrong with it, and the tokens that it says it used.

    The thoughts that reasoning models put before their answer (`<think>...</think>`) are left out.
    """
    try:
        reply = json.loads(body)
        choice = reply["choices"][0]
        text = choice["message"]["content"] or ""
        cleaned = THOUGHTS.sub("", without_key(text, key), count=1)
        return Answer(cleaned, choice.get("finish_reason") == "length"), _read_usage(reply.get("usage"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        text = f"{where} sent a reply that is no chat completion: {quote(body, key)!r}; check `base_url`."
        return EndpointError(text, "broken reply", True), None


def _describe_status(error: APIStatusError, where: str, key_variable: str | None, key: str | None) -> EndpointError:
    status, said = error.status_code, quote(_message(error.body), key)
    if status == 429 and error.code == NO_MONEY:
        return EndpointError(f"{where} says that the account has no quota left; check its billing.", "quota")
    if status in (408, 409, 429) or status >= 500:
        wait = read_retry_after(error.response.headers.get("retry-after"))
        return EndpointError(f"{where} replied {status}: {said!r}.", str(status), True, wait)
    if status in (401, 403):
        advice = (
            f"check that the environment variable {key_variable} holds a key that is valid there"
            if key_variable
            else "name the environment variable that holds its key in `key_variable`"
        )
        return EndpointError(f"{where} refused the access ({status}); {advice}.", str(status))
    if status == 404:
        return EndpointError(
            f"{where} does not exist there (404: {said}); check `model` and `base_url`, which usually ends in /v1.",
            "404",
        )
    return EndpointError(
        f"{where} refused the request ({status}: {said}); correct the setting that this names, such as `model`,"
        " `temperature`, `max_tokens` or `length_field`.",
        str(status),
    )


def quote(text: str, key: str | None) -> str:
    """Return the beginning of a text in single spaces, without the key."""
    text = " ".join(without_key(text, key).split())
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def without_key(text: str, key: str | None) -> str:
    """Return a text that holds `[key]` where it held the key."""
    return text.replace(key, "[key]") if key else text


def read_retry_after(header: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for: a number, or the time until a date; None without one.

    Source: RFC 9110, Section 10.2.3.
    """
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _message(body: Any) -> str:
    """Return what the body of an error says: OpenAI's `message`, else all of it."""
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"]
    return body if isinstance(body, str) else json.dumps(body)


def _read_usage(usage: Any) -> Tokens | None:
    names = ("prompt_tokens", "completion_tokens")
    counts = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    told = [count for count in counts if isinstance(count, int) and count >= 0]
    return Tokens(*told) if len(told) == len(names) else None

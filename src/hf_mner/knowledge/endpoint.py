"""A client of OpenAI-compatible chat endpoints: OpenAI itself, vLLM, Ollama, llama.cpp and others.

    ChatEndpoint("gpt-4o-mini-2024-07-18", max_cost=2.0, input_price=0.15, output_price=0.6)
    ChatEndpoint("Qwen/Qwen2.5-7B-Instruct", "http://localhost:8000/v1")  # vllm serve
    ChatEndpoint("llama3.1", "http://localhost:11434/v1")  # ollama serve
    ChatEndpoint("any", "http://localhost:8080/v1")  # llama-server, which answers with the model it has
    ChatEndpoint("some/model", "https://llm.example.org/v1", key_variable="EXAMPLE_KEY")

The key comes from an environment variable, at the first request. It is in no setting, text, log or pickle. Needs
`pip install hf-mner[llm]`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import fields
from threading import Event, Lock
from typing import Any

from hf_mner.knowledge.base import SourceSetupError
from hf_mner.knowledge.endpoint_errors import EndpointError
from hf_mner.knowledge.endpoint_replies import Answer, describe_failure, read_reply
from hf_mner.knowledge.endpoint_settings import OPENAI_URL, EndpointSettings
from hf_mner.knowledge.model_source import check_installed
from hf_mner.knowledge.spending import Budget, Pacer, Spending, Tokens

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0  # of the back-off
NOTED_WAIT_S, NOTED_ATTEMPT = 10.0, 3  # from here on a wait, or a failed attempt, is a warning in the log
LONGEST_RETRY_AFTER_S = 600.0  # a server that asks for more is no longer waited for
MESSAGE_TOKENS = 16  # upper bound of what a chat template adds to a message
IMAGE_TOKENS = 2000  # estimate for an image of up to 1024 pixels a side, until the first reply tells more

Message = Mapping[str, Any]


class ChatEndpoint(EndpointSettings):
    """A chat model behind an OpenAI-compatible endpoint; arguments as of `EndpointSettings`.

    Timeouts, lost connections, replies that are no chat completion, 408, 409, 429 and 5xx are asked again, after the
    seconds of the `Retry-After` header or else 1, 2, 4, ... up to 60 s with up to 1 s of chance. All other errors end
    at once.

    A request is only sent if its upper bound fits into the budget: for what it reads, a token for each byte (no
    byte-level vocabulary needs more) and 16 for each message, and `max_tokens` for what it writes. An image counts as
    2,000 tokens, or as the longest request so far: an estimate, which the first requests can exceed. What a server
    does not tell (a timeout, a reply without `usage`) counts as its upper bound.

    A pickled copy has the settings alone: no key, no connection, and a budget of its own.

    Attributes:
        failures: how often which reason made a request be repeated or fail.
    """

    def __post_init__(self) -> None:
        """Check the settings; nothing is opened yet."""
        super().__post_init__()
        self.failures: Counter[str] = Counter()
        self._budget = Budget(
            self.max_requests, self.max_total_tokens, self.max_cost, self.input_price, self.output_price
        )
        self._pacer = Pacer(self.requests_per_minute)
        self._lock = Lock()
        self._longest_read = 0
        self._client: Any = None
        self._key: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone."""
        return {field.name: getattr(self, field.name) for field in fields(EndpointSettings)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin anew with the settings."""
        self.__dict__.update(state)
        self.__post_init__()

    @property
    def spent(self) -> Spending:
        """What was spent so far."""
        return self._budget.spent

    def ask_all(self, requests: Sequence[Sequence[Message]]) -> list[Answer]:
        """Return the answer to each request; several are under way at the same time.

        If one fails, those that were sent are finished, the rest is not sent, and nothing is returned.

        Args:
            requests: each the messages of a chat.

        Raises:
            BudgetReached: if the budget is too small for all of them; then none was sent. Later only if repetitions
                used it up.
            EndpointError: if an endpoint refuses, or does not reply for `max_attempts` times.
            ImportError, ValueError: if `hf-mner[llm]` or the key is missing.
        """
        if not requests:
            return []
        self._connect()
        self._budget.check([self._bound(messages) for messages in requests])
        with ThreadPoolExecutor(min(self.concurrency, len(requests))) as pool:
            stopped = Event()
            answers = [pool.submit(self._repeat, messages, stopped) for messages in requests]
            try:
                done, _ = wait(answers, return_when=FIRST_EXCEPTION)
                for answer in done:
                    answer.result()
                return [answer.result() for answer in answers]
            except BaseException:  # also when the user interrupts; the `with` waits for the threads
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def ask(self, messages: Sequence[Message]) -> Answer:
        """Return the answer to one chat.

        Raises:
            BudgetReached, EndpointError, ImportError, ValueError: see `ask_all`.
        """
        self._connect()
        return self._repeat(messages, Event())

    def _repeat(self, messages: Sequence[Message], stopped: Event) -> Answer:
        """Send a request until there is an answer, or until there is no use in it."""
        import tenacity

        backoff = tenacity.wait_exponential_jitter(initial=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=1.0)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, EndpointError) and error.is_passing),
            wait=lambda state: self._wait_s(state, backoff(state)),
            before_sleep=self._log_wait,
            stop=tenacity.stop_after_attempt(self.max_attempts),
            sleep=lambda seconds: pause(seconds, stopped),
            retry_error_callback=_give_up,
        )
        return retrying(self._attempt, messages, stopped)

    def _attempt(self, messages: Sequence[Message], stopped: Event) -> Answer:
        """Send a request once, when it is its turn and if it can be paid."""
        if wait_s := self._pacer.take():
            pause(wait_s, stopped)
        if stopped.is_set():
            raise EndpointError(f"{self._where} was not asked any more, since another request failed.", "stopped")
        bound = self._bound(messages)
        self._budget.reserve(bound)
        used = bound
        try:
            answer, used = self._send(messages, bound)
        finally:
            self._budget.settle(bound, used)
        if isinstance(answer, EndpointError):
            self.count(answer.reason)
            raise answer
        with self._lock:
            self._longest_read = max(self._longest_read, used.read)
        return answer

    def _send(self, messages: Sequence[Message], bound: Tokens) -> tuple[Answer | EndpointError, Tokens]:
        """Return the answer or what went wrong, and what it cost; errors of `openai` can quote the key and end here.

        A refusal with a status costs nothing.
        """
        import openai

        options: dict[str, Any] = {self.length_field: self.max_tokens}
        if self.temperature is not None:
            options["temperature"] = self.temperature
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.model, messages=list(messages), **options
            )
        except openai.APIStatusError as error:
            return describe_failure(error, self._where, self._key_variable, self._key), Tokens(0, 0)
        except openai.APIError as error:
            return describe_failure(error, self._where, self._key_variable, self._key), bound
        answer, usage = read_reply(raw.http_response.text, self._where, self._key)
        return answer, usage or bound

    def _wait_s(self, state: Any, backoff_s: float) -> float:
        """Return the seconds until the next attempt, if there is one."""
        error = state.outcome.exception()
        wait_s = backoff_s if error.retry_after_s is None else error.retry_after_s
        if wait_s > LONGEST_RETRY_AFTER_S:
            raise EndpointError(f"{error} It asks to wait {wait_s:.0f} s; run again later.", error.reason)
        return wait_s

    def _log_wait(self, state: Any) -> None:
        """Say in the log that an attempt failed, why, and when the next one is."""
        wait_s = state.next_action.sleep
        is_noted = wait_s >= NOTED_WAIT_S or state.attempt_number >= NOTED_ATTEMPT
        logger.log(
            *(logging.WARNING if is_noted else logging.INFO, "%s Attempt %d of %d failed; the next in %.1f s."),
            *(state.outcome.exception(), state.attempt_number, self.max_attempts, wait_s),
        )

    def count(self, reason: str) -> None:
        """Count a failure."""
        with self._lock:
            self.failures[reason] += 1

    def _bound(self, messages: Sequence[Message]) -> Tokens:
        texts, images = [], 0
        for message in messages:
            parts = message["content"]
            for part in [{"text": parts}] if isinstance(parts, str) else parts:
                texts.append(part.get("text", ""))
                images += "image_url" in part
        size = sum(len(text.encode()) for text in texts) + MESSAGE_TOKENS * len(messages)
        return Tokens(max(size + IMAGE_TOKENS * images, self._longest_read if images else 0), self.max_tokens)

    @property
    def _where(self) -> str:
        return f"Model {self.model!r} at {self.host or 'OpenAI'}"

    @property
    def _key_variable(self) -> str | None:
        return self.key_variable or (None if self.host else "OPENAI_API_KEY")

    def _connect(self) -> None:
        with self._lock:
            if self._client is None:
                openai = _import_openai()
                self._key = read_key(self._key_variable, self._where)
                # Which organisation pays is told to OpenAI alone, although the variables are set for all.
                untold: Any = {name: openai.Omit() for name in ("OpenAI-Organization", "OpenAI-Project")}
                self._client = openai.OpenAI(
                    api_key=self._key or "none",
                    base_url=self.base_url or OPENAI_URL,
                    timeout=self.timeout_s,
                    max_retries=0,
                    default_headers=untold if self.host else None,
                )


def pause(seconds: float, stopped: Event) -> None:
    """Wait, or until the event is set; all waiting of this module goes through here."""
    stopped.wait(seconds)


def read_key(variable: str | None, where: str) -> str | None:
    """Return the key from the environment, None if there is to be none.

    Raises:
        SourceSetupError: if the variable is not set, or holds what no header can.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SourceSetupError(
            f"{where} needs a key, and the environment variable {variable} is not set; set it, or name another one in"
            " `key_variable`."
        )
    if not (key.isascii() and key.isprintable()):
        raise SourceSetupError(
            f"The environment variable {variable} holds no key: it has characters that no header can."
        )
    return key


def _give_up(state: Any) -> Answer:
    """Say that the last attempt failed as well."""
    error = state.outcome.exception()
    raise EndpointError(f"{error} Given up after {state.attempt_number} attempts.", error.reason)


def _import_openai() -> Any:
    try:
        import openai
        import tenacity  # noqa: F401 asked for here, so that the first request finds both
    except ImportError as error:
        check_installed("A chat endpoint", "llm", ["openai", "tenacity"])
        raise ImportError(
            f"A chat endpoint needs {error.name}, which cannot be imported; `pip install hf-mner[llm]`."
        ) from error
    return openai

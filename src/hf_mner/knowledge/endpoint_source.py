"""What the knowledge sources behind a chat endpoint share: identity, checked answers, malformed ones asked again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from hf_mner.knowledge.base import SourceIdentity
from hf_mner.knowledge.endpoint import ChatEndpoint, Message
from hf_mner.knowledge.endpoint_errors import EndpointError
from hf_mner.knowledge.endpoint_replies import Answer
from hf_mner.knowledge.endpoint_settings import EndpointSettings
from hf_mner.knowledge.model_identity import prompt_version
from hf_mner.knowledge.source_pickles import PickledUnopened

logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class EndpointSource(PickledUnopened, EndpointSettings):
    """A knowledge source that asks a chat endpoint.

    Args:
        max_malformed: times that a malformed answer is asked for again, within the budget. It helps where answers
            vary, as those of OpenAI do even at `temperature=0`; a server that always repeats itself needs 0.
        on_malformed: what an answer that stays malformed does: `"raise"` an error, or become `"none"`. That None is
            kept by a store like any answer, and not asked for again.

    Attributes:
        endpoint: the client, with what was spent.
    """

    max_malformed: int = 2
    on_malformed: Literal["raise", "none"] = "raise"

    before_use: ClassVar[Mapping[str, Any]] = {"_is_warned": False}

    def __post_init__(self) -> None:
        """Check the settings; nothing is opened yet."""
        super().__post_init__()
        if self.max_malformed < 0:
            raise ValueError(f"`max_malformed` must be at least 0, got {self.max_malformed}.")
        if self.on_malformed not in ("raise", "none"):
            raise ValueError(f"`on_malformed={self.on_malformed!r}` is not known; choose 'raise' or 'none'.")
        settings = {field.name: getattr(self, field.name) for field in fields(EndpointSettings)}
        self.endpoint = ChatEndpoint(**settings)
        self._is_warned = False

    @property
    def identity(self) -> SourceIdentity:
        """Say what decides the answers. An endpoint does not tell the state of its model: its host stands for it."""
        return {
            "source": type(self).__name__,
            "model": self.model,
            "revision": self.host,
            "prompt": prompt_version(self._prompt_text()),
            "settings": json.dumps(self._settings(), sort_keys=True),
        }

    def _prompt_text(self) -> str:
        """Return all that the requests have in common."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it asks; define `_prompt_text`.")

    def _settings(self) -> dict[str, Any]:
        """Return what else changes the answers; what malformed ones become does not change the others."""
        return {"temperature": self.temperature, "max_tokens": self.max_tokens}

    def _ask(
        self, requests: Sequence[Sequence[Message]], names: Sequence[str], is_well_formed: Callable[[str], bool]
    ) -> list[str | None]:
        """Return the answers in single spaces; None for those that stay malformed, with `on_malformed="none"`.

        Args:
            requests: each the messages of a chat.
            names: how error texts call each.
            is_well_formed: tells of an answer in single spaces whether it can be used.
        """
        texts: list[str | None] = [None] * len(requests)
        pending, last = list(range(len(requests))), ""
        for _ in range(self.max_malformed + 1):
            answers = self.endpoint.ask_all([requests[place] for place in pending])
            malformed = []
            for place, answer in zip(pending, answers, strict=True):
                text = " ".join(answer.text.split())
                if is_well_formed(text):
                    texts[place] = text
                    self._note_cut_off(answer)
                else:
                    malformed.append(place)
                    last = text
                    self.endpoint.count("malformed answer")
            pending = malformed
        if pending and self.on_malformed == "raise":
            raise EndpointError(
                f"Model {self.model!r} gave {self.max_malformed + 1} malformed answers for {names[pending[0]]}, the"
                f" last one {last[:200]!r}; use a model that follows the prompt, raise `max_tokens` if answers are cut"
                " off, or set `on_malformed='none'` to leave such posts without an answer.",
                "malformed answer",
            )
        return texts

    def _note_cut_off(self, answer: Answer) -> None:
        if answer.is_cut_off:
            self.endpoint.count("cut off")
            if not self._is_warned:
                self._is_warned = True
                logger.warning(
                    "%s: an answer was cut off at `max_tokens=%d` and is used as it is (said once).",
                    *(type(self).__name__, self.max_tokens),
                )

"""What systems share that give each word a BIO tag with a CRF: loss, decoding, and the way back to entities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_mner.data.alignment import WordWindow, read_windows, subwords_of_words, window_words
from hf_mner.data.labels import decode_bio, split_tag
from hf_mner.data.schema import MnerExample
from hf_mner.layers.crf import LinearChainCrf, TagConstraints, bio_constraints
from hf_mner.layers.losses import IGNORE_INDEX, Distillation, blended_losses

from .modeling_base import MnerPreTrainedModel
from .processing_base import MnerProcessor, Row, check_tokens, example_tags, known_class


class TaggingModel(MnerPreTrainedModel):
    """A model whose classes are BIO tags and whose `crf` decides on whole sequences of them.

    Its configuration has `is_constrained`: decode only tag sequences that BIO allows.
    """

    teacher_fields = {"conditionals": 1}

    @property
    def entity_types(self) -> list[str]:
        """Name the entity types of the tags."""
        return list(dict.fromkeys(kind for _, kind in map(split_tag, self.class_names) if kind))

    @cached_property
    def constraints(self) -> TagConstraints | None:
        """The tag sequences that decoding allows, `None` = all."""
        return bio_constraints(self.class_names) if self.config.is_constrained else None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LinearChainCrf):
            module.reset_parameters()

    def count_labels(self, labels: Tensor) -> Tensor:
        """Count the labelled rows (`labels`: `b n`), which `sequence_loss` is a mean over."""
        return (labels != IGNORE_INDEX).any(1).sum()

    def sequence_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of the labelled rows.

        Source: MMAVK, Eq. 11 and 12; HamLearning, Eq. 16 and 17 (whose printed loss lacks the minus).
        Departure: both sum over sequences; the mean keeps the learning rate independent of the batch's size.

        Args:
            logits: `b n c`.
            labels: `b n`, -100 marks padding. A row without any label counts for nothing.
        """
        labelled = labels != IGNORE_INDEX
        likelihood = self.crf(logits, labels.clamp(min=0), labelled)
        return -likelihood.sum() / labelled[:, 0].sum().clamp(min=1)

    def conditionals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return `b n c`, the log-probability of each tag at each word given the gold tags before it; 0 at padding.

        Args:
            logits: `b n c`.
            labels: `b n`, -100 marks padding.
        """
        return self.crf.conditional_log_probs(logits, labels.clamp(min=0), labels != IGNORE_INDEX)

    def read_as_teacher(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return `conditionals`, see there."""
        logits = self(**{name: value for name, value in inputs.items() if name != "labels"}).logits
        return {"conditionals": self.conditionals(logits, inputs["labels"])}

    def distillation_loss(
        self,
        outputs: Any,
        inputs: Mapping[str, Any],
        teacher: Mapping[str, Tensor],
        distillation: Distillation,
    ) -> Tensor:
        """Return Eq. 4 of SCANNER at each word, with the CRF's distributions given the gold tags before the word.

        A linear-chain CRF is a Markov chain: `-log p(y | x) = sum_i -log p(y_i | y_(i-1), x)`. So Eq. 4 is applied to
        `S_i = p(. | y_(i-1), x)` of the student and `T_i` of the teacher, `a_i = T_i[y_i]`, and the terms are summed
        over the words and averaged over the sequences. With all `a_i = 1` this is exactly `sequence_loss`, which it
        would not be with the marginals of the words.

        Limit: the history of a word are gold tags. A wrong gold tag that the teacher does not trust is still the
        history of the next word, whose distributions, the teacher's too, are those after the wrong tag.

        Source: SCANNER, Eq. 4, which has no CRF; the formulation is ours.
        """
        labels = inputs["labels"]
        labelled = labels != IGNORE_INDEX
        student = self.conditionals(outputs.logits, labels)
        terms = blended_losses(
            student[labelled], teacher["conditionals"][labelled].float(), labels[labelled], distillation
        )
        return terms.sum() / labelled[:, 0].sum().clamp(min=1)

    def decode(self, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best path (`b n`, -1 = padding) and the marginal probability of each of its tags (`b n`)."""
        tags = self.crf.decode(logits, mask, self.constraints).tags
        marginals = self.crf.marginals(logits, mask)
        return tags, marginals.gather(-1, tags.clamp(min=0).unsqueeze(-1)).squeeze(-1)


class TaggingProcessor(MnerProcessor):
    """A processor that reads entities from tags: rows hold `origin` and `shown`, outputs `tags` and their scores.

    It has the tokenizer's `frame` (see `special_token_frame`) and a `max_length`.
    """

    def windows(
        self, examples: Sequence[MnerExample], label2id: Mapping[str, int] | None
    ) -> Iterator[tuple[int, WordWindow, Row]]:
        """Cut texts into windows of whole words that fit the encoder.

        Yields:
            The position of the example, the window, and the fields that every tagging row has: `origin` (the position,
            first word, word after the last) and, with `label2id`, `labels`, the tag of each word.

        Raises:
            ValueError: for an example without words, entities that overlap or do not fit, or an unknown type.
        """
        check_tokens(examples)
        words = subwords_of_words(self.tokenizer, [example["tokens"] for example in examples])
        for position, (example, subwords) in enumerate(zip(examples, words, strict=True)):
            labels = None
            if label2id is not None:
                labels = [known_class(tag, example, label2id) for tag in example_tags(example)]
            for window in window_words(subwords, self.frame, self.max_length):
                fields: Row = {"origin": (position, window.first_word, window.end_word)}
                if labels is not None:
                    fields["labels"] = labels[window.first_word : window.end_word]
                yield position, window, fields

    def post_process_entities(
        self,
        outputs: Sequence[Mapping[str, Any]],
        rows: Sequence[Row],
        examples: Sequence[MnerExample],
        stage: str,
        id2label: Mapping[int, str],
        threshold: float = 0.0,
    ) -> list[MnerExample]:
        """Return copies of the examples whose `entities` are the decoded tags' spans.

        Args:
            outputs: for each row `tags` (`n`), `tag_probabilities` (`n`), and what `knowledge_shown` reads.
            rows: the rows that were scored.
            examples: the examples that the rows were made of.
            stage: `"recognition"`.
            id2label: the tags.
            threshold: entities with a lower score, the mean marginal probability of their words' tags, are left out.
        """
        self.check_stage(stage)
        tags = [np.zeros(len(example["tokens"]), dtype=int) for example in examples]
        scores = [np.zeros(len(example["tokens"])) for example in examples]
        shown: list[dict[str, Any]] = [{} for _ in examples]
        windows = read_windows((row["origin"] for row in rows), [len(words) for words in tags])
        for output, row, (text, first, counts) in zip(outputs, rows, windows, strict=True):
            place = slice(first, first + len(counts))
            tags[text][place][counts] = output["tags"][: len(counts)][counts]
            scores[text][place][counts] = output["tag_probabilities"][: len(counts)][counts]
            shown[text] = self.knowledge_shown(output, row)
        found: list[Any] = []
        for example, indices, words, knowledge in zip(examples, tags, scores, shown, strict=True):
            entities = []
            for span in decode_bio([id2label[int(index)] for index in indices]):
                score = float(words[span.start : span.end].mean())
                if score >= threshold:
                    entities.append({**span._asdict(), "score": score, "boxes": [], "shown": knowledge})
            found.append({**example, "entities": entities})
        return found

    def knowledge_shown(self, output: Mapping[str, Any], row: Row) -> dict[str, Any]:  # noqa: ARG002 for subclasses
        """Return the knowledge that the model read for a row, by its part."""
        return row["shown"]


def check_tags(names: Sequence[str]) -> None:
    """Refuse labels that are no BIO tags before anything is trained on them."""
    try:
        list(map(split_tag, names))
    except ValueError as error:
        raise ValueError(f"`id2label`: {error} Use `dict(enumerate(bio_labels(types)))`.") from error

"""The pipeline as a component of spaCy: `nlp.add_pipe("hf_mner", config={"model": ...})`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from .spacy_docs import find_image, register_extensions, set_entities


class HfMner:
    """Finds the entities of documents with their images, in batches.

    A document's image is `doc._.image` or `doc.user_data["image"]`, its knowledge `doc.user_data["knowledge"]`. The
    model reads `doc.text` in words of its own, as `pipeline("multimodal-ner")` does; an entity that begins or ends
    inside of a spaCy token gets the whole token, and `from_doc` still gives its own characters.

    Args:
        model: checkpoint folder or Hub name; None = the embedded SCANNER.
        threshold: entities with a lower score are left out.
        batch_size: documents in one forward pass, where `nlp.pipe` does not say.
        device: of the model, such as `"cuda:0"`; None = the pipeline's choice.

    Raises:
        ValueError: if the threshold is not in [0, 1].
    """

    def __init__(
        self, model: str | None = None, threshold: float = 0.0, batch_size: int = 32, device: str | None = None
    ):
        from hf_mner.pipelines import pipeline
        from hf_mner.pipelines.multimodal_ner import check_threshold

        check_threshold(threshold)
        register_extensions()
        options: dict[str, Any] = {} if device is None else {"device": device}
        self.pipeline = pipeline(model=model, **options)
        self.threshold, self.batch_size = threshold, batch_size

    def __call__(self, doc: Doc) -> Doc:
        """Find the entities of one document."""
        return next(self.pipe([doc], batch_size=1))

    def pipe(self, stream: Iterable[Doc], batch_size: int | None = None) -> Iterator[Doc]:
        """Find the entities of documents as they come, a batch at a time."""
        remaining, size = iter(stream), batch_size or self.batch_size
        while batch := list(islice(remaining, size)):
            found = self.pipeline(list(map(as_input, batch)), threshold=self.threshold, batch_size=size)
            for doc, entities in zip(batch, found, strict=True):
                set_entities(doc, entities)
                yield doc


def as_input(doc: Doc) -> dict[str, Any]:
    """Return a document as an input of the pipeline."""
    return {"text": doc.text, "image": find_image(doc), "knowledge": doc.user_data.get("knowledge")}


@Language.factory(
    "hf_mner",
    assigns=["doc.ents", "doc.spans", "span._.boxes", "span._.score"],
    default_config={"model": None, "threshold": 0.0, "batch_size": 32, "device": None},
)
def make_hf_mner(
    nlp: Language,  # noqa: ARG001 spaCy hands these two to every factory
    name: str,  # noqa: ARG001
    model: str | None,
    threshold: float,
    batch_size: int,
    device: str | None,
) -> HfMner:
    """Make the component; the arguments are those of `HfMner`."""
    return HfMner(model, threshold, batch_size, device)

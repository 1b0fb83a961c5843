"""Named entity recognition on posts that come with an image: text and image in; entities with offsets and boxes out.

Importing the package makes transformers know its systems (`AutoModel.from_pretrained`, `pipeline("multimodal-ner")`).
Everything else is imported when it is first used.
"""

from importlib import import_module
from typing import Any

from hf_mner.auto import BACKBONES, SYSTEMS, register_on_use

__version__ = "0.1.0"

PUBLIC = {
    "AuxiliaryKnowledge": "hf_mner.knowledge.auxiliary",
    "ClipSimilarity": "hf_mner.knowledge.similarity",
    "Encyclopedia": "hf_mner.knowledge.encyclopedia",
    "ImageCaptioner": "hf_mner.knowledge.captions",
    "LinearChainCrf": "hf_mner.layers.crf",
    "MnerTrainingArguments": "hf_mner.training.arguments",
    "MultimodalNerPipeline": "hf_mner.pipelines.multimodal_ner",
    "TrustYourTeacherTrainer": "hf_mner.training.trainer",
    "add_knowledge": "hf_mner.knowledge.base",
    "annotate": "hf_mner.annotation.jobs",
    "evaluate_model": "hf_mner.evaluation",
    "load_mner_dataset": "hf_mner.data.loaders",
    "load_recipe": "hf_mner.training.recipes",
    "open_sources": "hf_mner.knowledge.registry",
    "pipeline": "hf_mner.pipelines",
    "push_dataset": "hf_mner.hub.push",
    "push_model": "hf_mner.hub.push",
    "recognize_entities": "hf_mner.models.base.recognition",
    "render": "hf_mner.rendering.rendered_posts",
    "train_from_recipe": "hf_mner.training.run",
}
for _type, _system in SYSTEMS.items():
    for _kind, _names in (
        ("configuration", (_system.config,)),
        ("modeling", _system.models),
        ("processing", (_system.processor,)),
    ):
        PUBLIC.update(dict.fromkeys(_names, f"hf_mner.models.{_type}.{_kind}_{_type}"))
for _type, _backbone in BACKBONES.items():
    PUBLIC[_backbone.config] = f"hf_mner.models.{_type}.configuration_{_type}"
    PUBLIC[_backbone.model] = f"hf_mner.models.{_type}.modeling_{_type}"

__all__ = sorted([*PUBLIC, "__version__"])  # noqa: PLE0605 the table above is the one list of public names


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'hf_mner' has no attribute {name!r}; it has {', '.join(sorted(PUBLIC))}.")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)


register_on_use()

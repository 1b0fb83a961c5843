"""One table of the systems, and their registration with the Auto classes and the pipeline."""

from __future__ import annotations

from typing import NamedTuple

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.pipelines import PIPELINE_REGISTRY

from hf_mner.models.base.processing_base import MnerProcessor
from hf_mner.models.scanner.configuration_scanner import ScannerConfig
from hf_mner.models.scanner.modeling_scanner import (
    ScannerForEntityRecognition,
    ScannerForMultimodalNer,
    ScannerForSpanDetection,
)
from hf_mner.models.scanner.processing_scanner import ScannerProcessor


class System(NamedTuple):
    """One published system: its configuration, its heads (the first is the whole system), its processor."""

    config: type[PreTrainedConfig]
    models: tuple[type[PreTrainedModel], ...]
    processor: type[MnerProcessor]


SYSTEMS: dict[str, System] = {
    "scanner": System(
        ScannerConfig,
        (ScannerForMultimodalNer, ScannerForSpanDetection, ScannerForEntityRecognition),
        ScannerProcessor,
    ),
}


def register() -> None:
    """Register every system with the Auto classes, and the task `multimodal-ner`; safe to call again."""
    from hf_mner.pipelines.multimodal_ner import TASK, MultimodalNerPipeline

    for model_type, system in SYSTEMS.items():
        AutoConfig.register(model_type, system.config, exist_ok=True)
        # A tuple lets the Auto classes choose by the `architectures` of the saved configuration.
        AutoModel.register(system.config, system.models, exist_ok=True)
        AutoModelForTokenClassification.register(system.config, system.models, exist_ok=True)
        AutoProcessor.register(system.config, system.processor, exist_ok=True)
    PIPELINE_REGISTRY.register_pipeline(
        TASK, MultimodalNerPipeline, pt_model=AutoModelForTokenClassification, type="multimodal"
    )

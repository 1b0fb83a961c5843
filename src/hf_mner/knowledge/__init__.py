"""Knowledge sources: a batch of examples in, one column of their knowledge out."""

from hf_mner.knowledge.auxiliary import AuxiliaryKnowledge, load_prompt
from hf_mner.knowledge.base import (
    KnowledgeSource,
    SourceError,
    SourceSetupError,
    add_knowledge,
    entity_mentions,
    knowledge_map,
)
from hf_mner.knowledge.captions import ImageCaptioner
from hf_mner.knowledge.classification import ImageClassifier
from hf_mner.knowledge.encyclopedia import Encyclopedia, EncyclopediaMatch, normalise_title
from hf_mner.knowledge.endpoint import ChatEndpoint
from hf_mner.knowledge.endpoint_auxiliary import EndpointAuxiliary
from hf_mner.knowledge.endpoint_errors import BudgetReached, EndpointError
from hf_mner.knowledge.objects import ObjectDetector
from hf_mner.knowledge.ocr import OcrText
from hf_mner.knowledge.onnx_detectors import OnnxDetector
from hf_mner.knowledge.rationales import LlmRationales, parse_rationale
from hf_mner.knowledge.regions import RegionCaptioner, RegionSimilarity
from hf_mner.knowledge.segments import SegmentationObjects
from hf_mner.knowledge.similarity import CaptionSimilarity, ClipSimilarity
from hf_mner.knowledge.store import KnowledgeStore, Stored
from hf_mner.knowledge.vinvl import VinvlObjects
from hf_mner.knowledge.vinvl_files import read_vinvl

__all__ = [
    "AuxiliaryKnowledge",
    "BudgetReached",
    "CaptionSimilarity",
    "ChatEndpoint",
    "ClipSimilarity",
    "Encyclopedia",
    "EncyclopediaMatch",
    "EndpointAuxiliary",
    "EndpointError",
    "ImageCaptioner",
    "ImageClassifier",
    "KnowledgeSource",
    "KnowledgeStore",
    "LlmRationales",
    "ObjectDetector",
    "OcrText",
    "OnnxDetector",
    "RegionCaptioner",
    "RegionSimilarity",
    "SegmentationObjects",
    "SourceError",
    "SourceSetupError",
    "Stored",
    "VinvlObjects",
    "add_knowledge",
    "entity_mentions",
    "knowledge_map",
    "load_prompt",
    "normalise_title",
    "parse_rationale",
    "read_vinvl",
]

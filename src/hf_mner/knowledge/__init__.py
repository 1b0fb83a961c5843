"""Knowledge sources: a batch of examples in, one column of their knowledge out."""

from hf_mner.knowledge.auxiliary import AuxiliaryKnowledge, load_prompt
from hf_mner.knowledge.base import KnowledgeSource, add_knowledge, entity_mentions, knowledge_map
from hf_mner.knowledge.captions import ImageCaptioner
from hf_mner.knowledge.encyclopedia import Encyclopedia, EncyclopediaMatch, normalise_title
from hf_mner.knowledge.similarity import CaptionSimilarity, ClipSimilarity

__all__ = [
    "AuxiliaryKnowledge",
    "CaptionSimilarity",
    "ClipSimilarity",
    "Encyclopedia",
    "EncyclopediaMatch",
    "ImageCaptioner",
    "KnowledgeSource",
    "add_knowledge",
    "entity_mentions",
    "knowledge_map",
    "load_prompt",
    "normalise_title",
]

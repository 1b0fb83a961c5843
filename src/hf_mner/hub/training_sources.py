"""What model cards say of the data that a model was trained on, by the names that recipes use."""

from __future__ import annotations

from typing import NamedTuple


class DatasetFacts(NamedTuple):
    """A data set in words.

    Attributes:
        source: whose it is, and under which licence.
        texts: what kind of texts it holds.
        origin: where and when its texts come from.
        example: an input as Python source, without its closing brace.
    """

    source: str
    texts: str
    origin: str
    example: str


_NO_LICENCE = "(no licence stated, Twitter's terms)"
_POSTS = "English social-media posts"
_POST = '{"text": "Steve Kerr and the #Warriors land in Oakland"'

DATASETS = {
    "twitter2015": DatasetFacts(
        f"tweets with annotations by Zhang et al. 2018 {_NO_LICENCE}", _POSTS, "tweets of 2014 and 2015", _POST
    ),
    "twitter2017": DatasetFacts(
        f"tweets with annotations by Lu et al. 2018 {_NO_LICENCE}", _POSTS, "tweets of 2016 and 2017", _POST
    ),
    "twitter_gmner": DatasetFacts(
        f"tweets with annotations by Yu et al. 2023 {_NO_LICENCE}", _POSTS, "tweets of 2014 to 2017", _POST
    ),
    "twitter_fmnerg": DatasetFacts(
        f"tweets with annotations by Wang et al. 2023 {_NO_LICENCE}", _POSTS, "tweets of 2014 to 2017", _POST
    ),
    "conll2003": DatasetFacts(
        "CoNLL-2003 (Tjong Kim Sang and De Meulder 2003; text of Reuters, for research)",
        "English news",
        "news of 1996",
        _POST.replace("the #Warriors", "the Warriors"),
    ),
    "wnut17": DatasetFacts(
        "WNUT-17 (Derczynski et al. 2017; CC BY 4.0)", _POSTS, "posts and comments of 2017 and before", _POST
    ),
    "cp_mner": DatasetFacts(
        "CP-MNER, texts and images of Chinese paintings (no licence stated)",
        "Chinese texts about paintings",
        "texts about paintings",
        '{"tokens": list("徐悲鸿绘于北京")',
    ),
    "planted_signal": DatasetFacts(
        "posts and pictures that `hf_mner` generates by rule (no one's texts or images; Apache-2.0)",
        "made-up posts with drawn pictures, which show whether a system reads images and say nothing on language",
        "made-up posts",
        '{"text": "all about Seitrem tonight"',
    ),
    "planted_relation": DatasetFacts(
        "posts and pictures that `hf_mner` generates by rule (no one's texts or images; Apache-2.0)",
        "made-up posts with drawn pictures, which show whether a system reads how shapes lie to each other and say"
        " nothing on language",
        "made-up posts",
        '{"text": "all about Seitrem tonight"',
    ),
    "flickr30k_entities": DatasetFacts(
        "Flickr30K Entities (Young et al. 2014, Plummer et al. 2015; images for non-commercial research, Flickr's"
        " terms)",
        "English captions of photographs",
        "captions of photographs",
        '{"text": "A young boy throws a ball to a dog"',
    ),
    "yolo": DatasetFacts(
        "photographs with boxes in YOLO's format (their licence is not known here)",
        "names of things in photographs",
        "labelled photographs",
        '{"text": "traffic light"',
    ),
}
UNKNOWN_DATASET = DatasetFacts(
    "a data set of its author's own (`{}`; its licence is not known here)",
    "texts of the kind that it was trained on",
    "training texts",
    '{"text": "Put a text here"',
)

KNOWLEDGE_SOURCES = {
    "blip2_captions": "BLIP-2 captions of their images",
    "chatgpt": "what ChatGPT wrote about each text and its caption (PGIM, Li et al. 2023)",
    "mplug_owl_captions": "what mPLUG-Owl wrote about each image",
    "drawing": "words for every shape in their pictures, by rule",
    "knowledge.jsonl": "what the data set's `knowledge.jsonl` says of their images",
}
WIKIPEDIA = "encyclopedia entries from Wikipedia and Wikidata (CC BY-SA, CC0)"


def find_facts(dataset: str) -> DatasetFacts:
    """Return what is known of a data set; of one that is not public, neutral words."""
    return DATASETS.get(dataset) or UNKNOWN_DATASET._replace(source=UNKNOWN_DATASET.source.format(dataset))

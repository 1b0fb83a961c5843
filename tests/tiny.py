"""Tiny tokenizers, models and data, all made in code: what the tests of models, training and pipelines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    PreTrainedConfig,
    ResNetConfig,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from hf_mner.data.labels import bio_labels
from hf_mner.models.base.vision import select_feature_maps
from hf_mner.models.ham_learning.configuration_ham_learning import HamLearningConfig
from hf_mner.models.ham_learning.modeling_ham_learning import HamLearningForTokenClassification
from hf_mner.models.ham_learning.processing_ham_learning import HamLearningProcessor
from hf_mner.models.mmavk.configuration_mmavk import MmavkConfig
from hf_mner.models.mmavk.modeling_mmavk import MmavkForTokenClassification
from hf_mner.models.mmavk.processing_mmavk import MmavkProcessor
from hf_mner.models.mner_qg import modeling_mner_qg
from hf_mner.models.mner_qg.configuration_mner_qg import MnerQgConfig
from hf_mner.models.mner_qg.processing_mner_qg import MnerQgProcessor
from hf_mner.models.mner_qg.queries import build_queries
from hf_mner.models.scanner import modeling_scanner
from hf_mner.models.scanner.configuration_scanner import NON_ENTITY, SPAN_LABELS, ScannerConfig
from hf_mner.models.scanner.processing_scanner import ScannerProcessor

KINDS = ("bert", "roberta", "xlm-roberta")
SEEDS = {"bert": 2, "roberta": 0, "xlm-roberta": 0}  # of models that find several entities in the tiny data set
TYPES = ["PER", "LOC", "ORG", "MISC"]
CLASSES = [*TYPES, NON_ENTITY]
HEADS = ("ScannerForSpanDetection", "ScannerForEntityRecognition", "ScannerForMultimodalNer")
OBJECT_LABELS = ["person", "ball", "cup", "tower"]  # HamLearning's; objects of other classes are unknown to it

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?#@'’&-/()[]<>_|\""
SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


# ------------------------------------------------------------------------------------------------------- tokenizers


def corpus() -> list[str]:
    """Every text of the tiny data set and of the prompt's frame."""
    texts = ["The entity is for in this sentence."]
    for example in tiny_examples():
        knowledge = example["knowledge"] or {}
        texts.append(" ".join(example["tokens"]))
        texts.append(knowledge.get("caption") or "")
        texts += [entry["text"] for entry in knowledge.get("encyclopedia") or []]
        texts += [f"{item['label']} {item['caption'] or ''}" for item in knowledge.get("objects") or []]
    return texts


def tiny_tokenizer(kind: str, add_prefix_space: bool = True):
    """A fast tokenizer of one of `KINDS` with the special tokens of its real namesake."""
    words = sorted({word for text in corpus() for word in text.split()})
    if kind == "bert":
        pieces = [*CHARACTERS, *(f"##{character}" for character in CHARACTERS), *map(str.lower, words)]
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]
        return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
    if kind == "roberta":
        learned = Tokenizer(models.BPE())
        learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        learned.train_from_iterator(
            corpus(),
            trainers.BpeTrainer(
                vocab_size=500,
                initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
                show_progress=False,
            ),
        )
        vocab = learned.get_vocab()
        return RobertaTokenizer(
            vocab={**vocab, "<mask>": len(vocab)}, merges=bpe_merges(learned), add_prefix_space=add_prefix_space
        )
    if kind == "xlm-roberta":
        special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
        pieces = [
            ("▁", -4.0),
            *((character, -6.0) for character in CHARACTERS),
            *((f"▁{word}", -1.0) for word in words),
        ]
        return XLMRobertaTokenizer(vocab=[*special, *dict(pieces).items(), ("<mask>", 0.0)])
    raise ValueError(f"no tiny tokenizer of kind {kind!r}")


def bpe_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The merges of a trained byte-pair tokenizer."""
    import json

    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


# ----------------------------------------------------------------------------------------------------------- models


def tiny_encoder_config(kind: str, vocab_size: int) -> PreTrainedConfig:
    config_class = {"bert": BertConfig, "roberta": RobertaConfig, "xlm-roberta": XLMRobertaConfig}[kind]
    return config_class(vocab_size=vocab_size, max_position_embeddings=300, **SIZE)


def tiny_processor(kind: str = "bert", **kwargs: Any) -> ScannerProcessor:
    kwargs = {"max_length": 256, "detection_max_length": 128, **kwargs}
    return ScannerProcessor(tiny_tokenizer(kind), **kwargs)


def tiny_scanner_config(kind: str = "bert", **kwargs: Any) -> ScannerConfig:
    classes = kwargs.pop("classes", CLASSES)
    fields = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    text_config = tiny_encoder_config(kind, len(tiny_processor(kind).tokenizer))
    return ScannerConfig(text_config=text_config, **fields, **kwargs)


def tiny_scanner(head: str = "ScannerForMultimodalNer", kind: str = "bert", seed: int | None = None, **kwargs: Any):
    """A SCANNER with random weights, in evaluation mode.

    Weights are drawn much wider than transformers does, and stage 1's `B` and the overlap score get a bias: with the
    usual weights every word would get the same label and no test would see an entity. Nothing has been learned.
    """
    torch.manual_seed(SEEDS[kind] if seed is None else seed)
    model = getattr(modeling_scanner, head)(tiny_scanner_config(kind, **kwargs))
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=1.0)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.3)
            if module.out_features == len(SPAN_LABELS):
                module.bias.data = torch.tensor([0.5, 1.0, 0.0])
            elif module.out_features == 1:
                torch.nn.init.constant_(module.bias, 1.0)
    return model.eval()


def tiny_mmavk_processor(kind: str = "bert", fusion: str = "word_level", **kwargs: Any) -> MmavkProcessor:
    kwargs = {"max_length": 128, "knowledge_max_length": 64, "knowledge": ["auxiliary", "caption"], **kwargs}
    return MmavkProcessor(tiny_tokenizer(kind), fusion=fusion, **kwargs)


def tiny_mmavk_config(kind: str = "bert", fusion: str = "word_level", **kwargs: Any) -> MmavkConfig:
    tags = bio_labels(kwargs.pop("types", TYPES))
    fields = {"id2label": dict(enumerate(tags)), "label2id": {name: i for i, name in enumerate(tags)}}
    vision = tiny_resnet_config() if fusion == "prefix" else None
    kwargs = {"similarity_threshold": 0.3, "prefix_hidden_size": 16, **kwargs}
    text_config = tiny_encoder_config(kind, len(tiny_tokenizer(kind)))
    return MmavkConfig(text_config=text_config, vision_config=vision, fusion=fusion, **fields, **kwargs)


def tiny_resnet_config() -> PreTrainedConfig:
    return ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic")


def tiny_mmavk(head: str = "MmavkForTokenClassification", kind: str = "bert", seed: int = 0, **kwargs: Any):
    """An MMAVK with random weights, drawn wide as in `tiny_scanner` so that words get different tags."""
    assert head == "MmavkForTokenClassification"
    torch.manual_seed(seed)
    model = MmavkForTokenClassification(tiny_mmavk_config(kind, **kwargs))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=1.0)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.6 if name == "classifier" else 0.3)
    return model.eval()


def tiny_mner_qg_processor(kind: str = "bert", style: str = "keyword", **kwargs: Any) -> MnerQgProcessor:
    queries = build_queries(kwargs.pop("types", TYPES), style)
    kwargs = {"image_size": 64, "max_length": 128, "query_max_length": 24, **kwargs}
    return MnerQgProcessor(tiny_tokenizer(kind), queries, **kwargs)


def tiny_mner_qg_config(kind: str = "bert", **kwargs: Any) -> MnerQgConfig:
    types = kwargs.pop("types", TYPES)
    fields = {"id2label": dict(enumerate(types)), "label2id": {name: i for i, name in enumerate(types)}}
    is_text = kwargs.get("modality") == "text"
    vision = None if is_text else kwargs.pop("vision_config", None) or select_feature_maps(tiny_resnet_config())
    kwargs = {"hidden_size": 32, "num_attention_heads": 2, "image_size": 64, **kwargs}
    text_config = tiny_encoder_config(kind, len(tiny_tokenizer(kind)))
    return MnerQgConfig(text_config=text_config, vision_config=vision, **fields, **kwargs)


def tiny_mner_qg(head: str = "MnerQgForMultimodalNer", kind: str = "bert", seed: int = 1, **kwargs: Any):
    """An MNER-QG with random weights, drawn wide as in `tiny_scanner`, that finds spans of several types."""
    torch.manual_seed(seed)
    model = getattr(modeling_mner_qg, head)(tiny_mner_qg_config(kind, **kwargs))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and not name.endswith("labels"):
            torch.nn.init.normal_(module.weight, std=1.0)
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.3)
            if name in ("start_classifier", "end_classifier", "match_classifier"):
                torch.nn.init.constant_(module.bias[-1:], 2.0)
    return model.eval()


def tiny_ham_learning_processor(kind: str = "bert", **kwargs: Any) -> HamLearningProcessor:
    kwargs = {"object_labels": OBJECT_LABELS, "image_size": 64, "max_length": 128, **kwargs}
    return HamLearningProcessor(tiny_tokenizer(kind), **kwargs)


def tiny_ham_learning_config(kind: str = "bert", **kwargs: Any) -> HamLearningConfig:
    tags = bio_labels(kwargs.pop("types", TYPES))
    fields = {"id2label": dict(enumerate(tags)), "label2id": {name: i for i, name in enumerate(tags)}}
    is_text = kwargs.get("modality") == "text"
    vision = None if is_text else select_feature_maps(tiny_resnet_config(), HamLearningForTokenClassification.strides)
    shape = {"num_attention_heads": 2, "num_semantic_layers": 2, "num_iterations": 2, "label_embedding_size": 8}
    kwargs = {**shape, "image_size": 64, "object_labels": OBJECT_LABELS, **kwargs}
    text_config = tiny_encoder_config(kind, len(tiny_tokenizer(kind)))
    return HamLearningConfig(text_config=text_config, vision_config=vision, **fields, **kwargs)


def tiny_ham_learning(head: str = "HamLearningForTokenClassification", kind: str = "bert", seed: int = 1, **kwargs):
    """A HamLearning with random weights; embeddings and classifier are drawn wide as in `tiny_scanner`.

    The layers between them keep their own start: wider, what words read of their image would drown the words.
    """
    assert head == "HamLearningForTokenClassification"
    torch.manual_seed(seed)
    model = HamLearningForTokenClassification(tiny_ham_learning_config(kind, **kwargs))
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=1.0)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    return model.eval()


def tiny_encoder_folder(folder: Path, kind: str = "bert") -> Path:
    """Save a tiny encoder with its tokenizer, as a backbone for `from_backbones` and recipes."""
    tokenizer = tiny_tokenizer(kind)
    torch.manual_seed(0)
    AutoModel.from_config(tiny_encoder_config(kind, len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class TinySystem(NamedTuple):
    """How the common tests make one system: model of a head, its processor, and the stage that a head reads."""

    config: Callable[..., PreTrainedConfig]
    model: Callable[..., torch.nn.Module]
    processor: Callable[..., Any]
    stages: dict[str, tuple[str, ...]]
    is_trainable: dict[str, bool]
    training_fields: dict[str, Any]  # of the configuration, so that every parameter is trained
    examples: Callable[[], list[dict[str, Any]]] = lambda: tiny_examples()


TINY_SYSTEMS = {
    "scanner": TinySystem(
        tiny_scanner_config,
        tiny_scanner,
        tiny_processor,
        {
            "ScannerForSpanDetection": ("detection",),
            "ScannerForEntityRecognition": ("recognition",),
            "ScannerForMultimodalNer": ("detection", "recognition"),
        },
        {"ScannerForSpanDetection": True, "ScannerForEntityRecognition": True, "ScannerForMultimodalNer": False},
        {"grounding_weight": 1.0},
    ),
    "mmavk": TinySystem(
        tiny_mmavk_config,
        tiny_mmavk,
        tiny_mmavk_processor,
        {"MmavkForTokenClassification": ("recognition",)},
        {"MmavkForTokenClassification": True},
        {},
    ),
    "mner_qg": TinySystem(
        tiny_mner_qg_config,
        tiny_mner_qg,
        tiny_mner_qg_processor,
        {"MnerQgForMultimodalNer": ("recognition",), "MnerQgForVisualGrounding": ("grounding",)},
        {"MnerQgForMultimodalNer": True, "MnerQgForVisualGrounding": False},
        {},
        lambda: with_images(tiny_examples()),
    ),
    "ham_learning": TinySystem(
        tiny_ham_learning_config,
        tiny_ham_learning,
        tiny_ham_learning_processor,
        {"HamLearningForTokenClassification": ("recognition",)},
        {"HamLearningForTokenClassification": True},
        {"is_vision_frozen": False},
        lambda: with_images(tiny_examples()),
    ),
}


def save_tiny(model_type: str, folder: Path, **kwargs: Any) -> Path:
    """Save a tiny whole system and its processor as a training leaves them; SCANNER grounds what it finds."""
    system = TINY_SYSTEMS[model_type]
    is_grounded = model_type == "scanner" and not kwargs
    system.model(**({"grounding_weight": 1.0} if is_grounded else kwargs)).save_pretrained(folder)
    system.processor(**({"grounding_threshold": 0.5} if is_grounded else {})).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------------------------------- data


def tiny_image(color: tuple[int, int, int] = (10, 200, 30), size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, color)


def detected(label: str, box: list[float], similarity: float | None, caption: str | None = None) -> dict[str, Any]:
    return {"label": label, "score": 0.9, "box": box, "caption": caption, "similarity": similarity}


def tiny_examples() -> list[dict[str, Any]]:
    """Six posts: with several, one and no entity, with every part of knowledge and with none."""
    person, ball, cup = [0.0, 0.0, 4.0, 8.0], [5.0, 5.0, 7.0, 7.0], [1.0, 1.0, 3.0, 3.0]
    return [
        {
            "id": "kerr",
            "tokens": ["Steve", "Kerr", "coaches", "the", "Warriors", "in", "Oakland", "."],
            "image_size": [8, 8],
            "entities": [
                {"start": 0, "end": 2, "type": "PER", "boxes": [person]},
                {"start": 4, "end": 5, "type": "ORG", "boxes": []},
                {"start": 6, "end": 7, "type": "LOC", "boxes": []},
            ],
            "knowledge": {
                "caption": "a man with a ball on a court",
                "encyclopedia": [
                    {"mention": "Steve Kerr", "title": "Steve Kerr", "text": "Steve Kerr is a coach from Beirut"},
                    {"mention": "Warriors", "title": "Warriors", "text": "The Warriors are a team"},
                ],
                "objects": [
                    detected("ball", ball, 0.1, "an orange ball"),
                    detected("person", [0.0, 0.0, 4.0, 7.0], 0.8, "a man in a suit"),
                    detected("cup", cup, 0.4),
                ],
                "auxiliary": "The image shows a coach",
                "similarity": 0.31,
            },
        },
        {
            "id": "paris",
            "tokens": ["#", "Paris", "is", "so", "lovely", "today", "!"],
            "image_size": [8, 8],
            "entities": [{"start": 1, "end": 2, "type": "LOC", "boxes": [ball, cup]}],
            "knowledge": {
                "caption": "a tower at night",
                "objects": [detected("tower", [4.0, 4.0, 8.0, 8.0], 0.2, "a tall tower"), detected("tree", cup, 0.7)],
                "encyclopedia": [],
            },
        },
        {"id": "none", "tokens": ["I", "am", "so", "tired", "today"], "entities": [], "knowledge": None},
        {
            "id": "nba",
            "tokens": ["The", "NBA", "and", "Adidas", "sign", "O'Brien"],
            "entities": [
                {"start": 1, "end": 2, "type": "ORG", "boxes": []},
                {"start": 3, "end": 4, "type": "ORG", "boxes": []},
                {"start": 5, "end": 6, "type": "PER", "boxes": []},
            ],
            "knowledge": {
                "caption": "a logo",
                "encyclopedia": [{"mention": "NBA", "title": "NBA", "text": "A league"}],
            },
        },
        {
            "id": "oscars",
            "tokens": ["Watching", "the", "Academy", "Awards", "with", "Anna", "in", "New", "York"],
            "entities": [
                {"start": 2, "end": 4, "type": "MISC", "boxes": []},
                {"start": 5, "end": 6, "type": "PER", "boxes": [[2.0, 2.0, 6.0, 6.0]]},
                {"start": 7, "end": 9, "type": "LOC", "boxes": []},
            ],
            "knowledge": {"objects": [detected("woman", [2.0, 2.0, 6.0, 6.0], None, "a woman smiling")]},
        },
        {
            "id": "berlin",
            "tokens": ["Berlin", "meets", "Rome"],
            "entities": [
                {"start": 0, "end": 1, "type": "LOC", "boxes": []},
                {"start": 2, "end": 3, "type": "LOC", "boxes": []},
            ],
            "knowledge": {"caption": None, "encyclopedia": None, "objects": None},
        },
    ]


def with_images(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every example that has an image's size an image with a pattern of its own."""
    pictures = iter(range(len(examples)))
    return [{**e, "image": noisy_image(next(pictures))} if e.get("image_size") else e for e in examples]


def noisy_image(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())

"""Ten planted-signal posts and tiny encoders for them: what the tests of whole trainings share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_encoder_config, tiny_resnet_config, tiny_tokenizer
from transformers import AutoModel, BertTokenizer, TrainerCallback
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from hf_mner.data import PlantedSignal, load_mner_dataset, write_planted_folder
from hf_mner.training.run import examples_of

SPLITS = ("train", "validation", "test")
NUM_POSTS = 10  # the fewest of the set in which every type occurs
RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


class StopAfterFirstEpoch(TrainerCallback):
    """Ends the process, as it were, as soon as the first checkpoint is written."""

    def on_save(self, args, state, control, **kwargs):
        raise InterruptedError("stopped")


def write_planted_posts(folder: Path, **settings: Any) -> Path:
    """Write a data set `folder` whose splits hold the same posts: a model that learned them by heart scores."""
    write_planted_folder(PlantedSignal(**settings), {"train": NUM_POSTS}, folder)
    for split in SPLITS[1:]:
        shutil.copy(folder / "train.txt", folder / f"{split}.txt")
    return folder


def tiny_backbones(data: Path, folder: Path) -> dict[str, str]:
    """Save a tiny text encoder whose tokenizer cuts no word of the posts, and a tiny image encoder."""
    vocab = dict(tiny_tokenizer("bert").get_vocab())
    for line in (data / "train.txt").read_text().splitlines():
        vocab.setdefault(line.partition("\t")[0].lower(), len(vocab))
    tokenizer = BertTokenizer(vocab=vocab)
    torch.manual_seed(0)
    AutoModel.from_config(tiny_encoder_config("bert", len(tokenizer))).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    torch.manual_seed(0)
    AutoModel.from_config(tiny_resnet_config()).save_pretrained(folder / "vision")
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    images = ConvNextImageProcessorPil(size={"shortest_edge": 32}, image_mean=mean, image_std=std)
    images.save_pretrained(folder / "vision")
    return {"text": str(folder / "text"), "vision": str(folder / "vision")}


def posts_of(data: Path) -> list[Any]:
    """The posts with their pictures."""
    return examples_of(load_mner_dataset("folder", data)["test"], has_images=True)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    values = other.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.state_dict().items())

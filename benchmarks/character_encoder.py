"""Build a small text encoder with random weights over the characters of a data set's training split.

    python -m benchmarks.character_encoder cp_mner runs/character-encoder --data-dir DATA

For data in a language that no encoder at hand reads, here the Chinese characters of CP-MNER: what a model on top of it
scores comes from the training split and the images alone.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
from transformers import AutoModel, BertConfig, BertTokenizer

from hf_mner import load_mner_dataset

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def main() -> None:
    """Count the characters, build tokenizer and encoder, save both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("output", type=Path)
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()

    train = load_mner_dataset(options.dataset, options.data_dir, knowledge=[])["train"]
    counts = Counter(character for tokens in train["tokens"] for token in tokens for character in token.lower())
    known = [character for character, count in counts.most_common() if count > 1]
    vocabulary = [*SPECIAL, *known, *(f"##{character}" for character in known)]
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(dict.fromkeys(vocabulary))})
    tokenizer.model_max_length = 512
    torch.manual_seed(options.seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 32,
        intermediate_size=4 * options.width,
    )
    AutoModel.from_config(config).save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    print(f"{len(known)} characters, {options.layers} layers of width {options.width}: {options.output}")


if __name__ == "__main__":
    main()

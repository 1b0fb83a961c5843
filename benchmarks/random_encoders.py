"""Text encoders of random weights in two sizes, with BERT's tokenizer: what is computed is that of trained ones."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertModel

from hf_mner.pipelines import DEFAULT_CHECKPOINT

SIZES = {  # width, layers, heads: those of all-MiniLM-L6-v2 and of BERT-base
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}


def write_encoder(size: str, folder: Path) -> str:
    """Save an encoder of random weights with its tokenizer; return the folder as text."""
    tokenizer = AutoTokenizer.from_pretrained(str(DEFAULT_CHECKPOINT), trust_remote_code=False)
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SIZES[size])).save_pretrained(folder)
    return str(folder)

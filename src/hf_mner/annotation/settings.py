"""What a job computes with, apart from its input and its model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hf_mner.data.images import DEFAULT_MAX_PIXELS
from hf_mner.inference.precision import Precision, check_precision

OnError = Literal["raise", "skip"]
LIMITS = {"shard_size": 1, "batch_size": 1, "batch_tokens": 16, "threads": 1, "image_threads": 1, "max_pixels": 1}


@dataclass(frozen=True)
class Settings:
    """What a job computes with.

    Attributes:
        shard_size: rows of a shard, which is computed at once, written at once, and lost at most by a kill.
        batch_size: most rows in one forward pass.
        batch_tokens: most tokens in one forward pass, padding included; a GPU wants more than a CPU.
        precision: with how many bits the model computes, see `hf_mner.inference.precision.set_precision`.
        threads: of each worker's computations; the number can change the last bits of sums.
        image_threads: images that a worker decodes at once.
        threshold: entities with a lower score are left out.
        max_pixels: images with more pixels are refused.
        on_error: what a bad row does: stop the job, or be left out and reported.
    """

    shard_size: int = 5_000
    batch_size: int = 128
    batch_tokens: int = 2_048
    precision: Precision = "float32"
    threads: int = 1
    image_threads: int = 4
    threshold: float = 0.0
    max_pixels: int = DEFAULT_MAX_PIXELS
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            ValueError: naming the argument.
        """
        for name, least in LIMITS.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"`threshold` must be between 0 and 1, got {self.threshold}.")
        check_precision(self.precision)
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"`on_error={self.on_error!r}` is not known; choose 'raise' or 'skip'.")

    def deciding(self) -> dict[str, Any]:
        """Return what changes a finished shard; `on_error` does not, nor does how images are decoded."""
        return {key: value for key, value in asdict(self).items() if key not in ("on_error", "image_threads")}

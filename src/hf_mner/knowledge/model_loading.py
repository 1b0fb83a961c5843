"""Models of transformers for sources: loaded whole, or refused in words that say what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_mner.knowledge.base import SourceError, SourceSetupError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SHOWN_CHARACTERS = 300  # of what transformers says
SHOWN_PARAMETERS = 4  # of those that are missing


def load_model(
    auto_class: Any,
    name: str,
    device: str | torch.device | None,
    dtype: str,
    revision: str | None = None,
    unread: Collection[str] = (),
) -> PreTrainedModel:
    """Load a model for inference, from safetensors only.

    Args:
        auto_class: the class of transformers that knows the architecture.
        name: a folder or a Hub name.
        device: where it is put; None = the first GPU if there is one, else the CPU.
        dtype: its precision, e.g. `"float16"`; `"auto"` = as its weights are stored.
        revision: branch, tag or commit of a Hub name; None = the main branch.
        unread: modules by name, e.g. `"pooler"`, that may have no weights since nothing reads them.

    Raises:
        ValueError: if the weights lack parameters that are read: those of another task do, and transformers would
            choose them by chance.
    """
    import torch

    model, report = auto_class.from_pretrained(
        name, dtype=dtype, use_safetensors=True, revision=revision or "main", output_loading_info=True
    )
    own = {parameter for parameter, _ in model.named_parameters()}
    missing = sorted(key for key in report["missing_keys"] if key in own and not set(key.split(".")) & set(unread))
    if missing:
        more = ", ..." if len(missing) > SHOWN_PARAMETERS else ""
        raise ValueError(
            f"its weights lack {len(missing)} parameters of a {type(model).__name__}, which would be random:"
            f" {', '.join(missing[:SHOWN_PARAMETERS])}{more}"
        )
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


@contextmanager
def source_errors(source: str, name: str, revision: str | None, expected: str) -> Iterator[None]:
    """Let every way in which a model cannot be loaded be a `SourceError`.

    Args:
        source: how the text calls the source.
        name: a folder or a Hub name.
        revision: branch, tag or commit of a Hub name; None = the main branch.
        expected: what kind of model can be loaded.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SourceError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:SHOWN_CHARACTERS].rstrip(".")
        called = f"{name!r}" if revision is None else f"{name!r} (revision {revision!r})"
        if Path(name).is_dir() or is_cached(name, revision):
            place = "folder" if Path(name).is_dir() else "cached Hub model"
            raise SourceSetupError(
                f"{source}: the {place} {called} cannot be loaded: {said}. Expected {expected}; give such a one as"
                " `model`."
            ) from error
        raise SourceError(
            f"{source}: the model {called} is neither a folder here nor in the cache of the Hub, and it could not be"
            f" fetched: {said}. Correct the name or the path, fetch it where there is a network (`hf download"
            f" NAME`), or give the folder of {expected}."
        ) from error


def is_cached(name: str, revision: str | None) -> bool:
    """Tell whether the configuration of a Hub model lies in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str)
    except HFValidationError:
        return False

"""What decides the bytes of a job's shards, as plain data: another fingerprint is another job."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from .workers import Job

PACKAGES = ("hf-mner", "torch", "transformers", "tokenizers", "pyarrow")


def describe_job(job: Job) -> dict[str, Any]:
    """Return the fingerprint of a job: its input, model, sources, columns, settings, and the versions of packages.

    The engine and the number of workers are not in it, nor where files lie.
    """
    from hf_mner.knowledge.model_identity import model_name, model_revision
    from hf_mner.pipelines import DEFAULT_CHECKPOINT

    model = str(DEFAULT_CHECKPOINT) if job.model is None else job.model
    return {
        "input": job.collection.describe(),
        "model": {"name": model_name(model), "revision": model_revision(model)},
        "sources": describe_sources(job),
        "columns": asdict(job.columns),
        "settings": {**job.settings.deciding(), "device": (job.device or default_device()).partition(":")[0]},
        "versions": {name: version(name) for name in PACKAGES},
    }


def describe_sources(job: Job) -> list[Any]:
    """Return the identity of each source, or how it was named where it has none."""
    if not job.sources:
        return []
    from hf_mner.knowledge.registry import describe_spec, open_sources

    opened = open_sources(job.sources, job.data_dir)
    pairs = zip(opened, job.sources, strict=True)
    return [dict(getattr(source, "identity", None) or {"source": describe_spec(spec)}) for source, spec in pairs]


def default_device() -> str:
    """Return the kind of device that a pipeline chooses by itself."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

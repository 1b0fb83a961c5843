"""What a worker is given and does: one model, loaded once, and shards to annotate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .columns import Columns
from .parts import Collection
from .settings import Settings
from .shard_files import ShardFiles

if TYPE_CHECKING:
    from .annotator import Annotator


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to annotate a shard; can be sent to another process.

    Attributes:
        collection: the input.
        columns: of its tables.
        files: of the output.
        settings: of the computation.
        model: checkpoint folder or Hub name; None = the embedded SCANNER.
        sources: of knowledge, as in a recipe.
        data_dir: folder that the files of sources may lie in.
        store: of knowledge; None keeps nothing.
        device: of the model, such as `"cuda:0"`; None = the pipeline's choice.
    """

    collection: Collection
    columns: Columns
    files: ShardFiles
    settings: Settings
    model: str | None = None
    sources: Sequence[Any] = ()
    data_dir: Path | None = None
    store: Path | None = None
    device: str | None = None


class ShardWorker:
    """One worker: its model, loaded once, and the shards that it is told to annotate."""

    def __init__(self, job: Job, annotator: Annotator):
        self.job, self.annotator = job, annotator

    def work(self, number: int) -> int:
        """Annotate a shard unless it is there; return the rows of the input that it holds."""
        start, stop = self.job.files.bounds(number)
        if not self.job.files.path(number).is_file():
            table, rejects, counts = self.annotator.annotate(self.job.collection.read(start, stop))
            self.job.files.write(number, table, rejects, counts)
        return stop - start


@contextmanager
def open_worker(job: Job) -> Iterator[ShardWorker]:
    """Load the model and open the sources of a job; the number of threads is as before afterwards."""
    import torch
    from transformers.utils import logging

    from hf_mner.knowledge.registry import open_sources
    from hf_mner.knowledge.store import KnowledgeStore
    from hf_mner.pipelines import pipeline

    from .annotator import Annotator

    logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(job.settings.threads)
    store = None if job.store is None else KnowledgeStore(job.store)
    try:
        options: dict[str, Any] = {} if job.device is None else {"device": job.device}
        pipe = pipeline(model=job.model, precision=job.settings.precision, **options)
        sources = open_sources(job.sources, job.data_dir, store)
        yield ShardWorker(job, Annotator(pipe, sources, job.columns, job.settings, job.collection.folder))
    finally:
        torch.set_num_threads(threads)
        if store is not None:
            store.close()

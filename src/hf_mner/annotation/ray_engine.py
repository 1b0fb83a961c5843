"""Annotate shards on Ray Data: numbers of shards stream through actors that hold a model each.

The unit is the shard, as in the local engine, so that both write the same bytes. An actor reads its shard's rows
itself, from where the driver would: on a cluster, input and output lie on a disk that all machines see. No more shards
are in memory than there are actors, whatever the number of rows. A killed actor is started again by Ray, and its
shard with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from hf_mner.knowledge.base import SourceError

from .workers import Job, open_worker

INSTALL = 'Ray is not installed; `pip install "hf-mner[ray]"`, or use `engine="local"`.'


class ShardActor:
    """An actor: the model is loaded once, and each call annotates one shard.

    Args:
        job: what to do.
        folder: relative paths count from it, as in the driver.
    """

    def __init__(self, job: Job, folder: str):
        if os.path.isdir(folder):
            os.chdir(folder)
        self._stack = ExitStack()  # open for as long as the actor lives
        self.worker = self._stack.enter_context(open_worker(job))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Annotate the shards of a batch; a bad row comes back in words, since Ray would try it again."""
        rows, errors, kinds = [], [], []
        for number in batch["shard"]:
            try:
                rows.append(self.worker.work(int(number)))
                errors.append("")
                kinds.append("")
            except (ValueError, TypeError, OSError) as error:
                rows.append(0)
                errors.append(str(error))
                kinds.append("source" if isinstance(error, SourceError) else "value")
        return {"rows": rows, "error": errors, "kind": kinds}


def run_on_ray(job: Job, pending: Sequence[int], workers: int, address: str | None = None) -> Iterator[int]:
    """Annotate shards in actors; yield the rows that each shard holds, as they are done.

    Args:
        job: what to do; it is sent to the actors.
        pending: numbers of shards.
        workers: actors.
        address: of a running cluster; None starts one on this machine, and stops it in the end.

    Raises:
        ImportError: if Ray is not installed, with how to install it.
        ValueError: if a row cannot be used.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(INSTALL) from error
    is_gpu = (job.device or "").startswith("cuda")
    with ray_cluster(job, workers, address):
        quiet_progress(ray)
        shards = ray.data.from_items([{"shard": number} for number in pending], override_num_blocks=len(pending))
        done = shards.map_batches(
            ShardActor,
            fn_constructor_args=(job, os.getcwd()),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(pending))),
            num_cpus=job.settings.threads,
            num_gpus=1 if is_gpu else 0,
        )
        for result in done.iter_rows():
            if result["error"]:
                raise (SourceError if result["kind"] == "source" else ValueError)(result["error"])
            yield int(result["rows"])


@contextmanager
def ray_cluster(job: Job, workers: int, address: str | None) -> Iterator[None]:
    """Join a cluster, or start one that ends with the block; one that is already joined is used as it is."""
    import ray

    if ray.is_initialized():
        yield
        return
    if address is None:
        # Without "local", Ray joins whatever cluster was started on this machine before.
        resources: dict[str, Any] = {"address": "local", "num_cpus": workers * job.settings.threads}
        resources["include_dashboard"] = False
    else:
        resources = {"address": address}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **resources)
    try:
        yield
    finally:
        ray.shutdown()


def quiet_progress(ray: Any) -> None:
    """Leave the telling of progress to the job."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

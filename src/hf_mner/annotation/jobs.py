"""Annotate a collection: `annotate(data, output, ...)`."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hf_mner.file_locks import lock_file
from hf_mner.knowledge.store import Progress

from .columns import find_columns
from .devices import check_device
from .fingerprint import describe_job
from .inputs import open_collection
from .manifest import FILE, FORMAT, LOCK, check_folder, read_manifest, write_json
from .settings import Settings
from .shard_files import ShardFiles
from .workers import Job

logger = logging.getLogger(__name__)

Engine = Literal["local", "ray"]
Report = Callable[[Progress], object]


class Summary(NamedTuple):
    """What became of a job.

    Attributes:
        folder: of the output.
        rows: written, in all shards.
        rejected: rows left out; `rejects.jsonl` says why.
        entities: found, in all rows.
        distinct: posts that were read; those that are alike in a shard are read once.
        new_rows: rows of the input that this call went through.
        seconds: that it took, with the loading of the model.
    """

    folder: Path
    rows: int
    rejected: int
    entities: int
    distinct: int
    new_rows: int
    seconds: float


def annotate(
    data: Any,
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    knowledge: Sequence[Any] = (),
    split: str | None = None,
    text_column: str | None = None,
    tokens_column: str | None = None,
    image_column: str | None = None,
    id_column: str | None = None,
    knowledge_columns: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
    entities_column: str = "entities",
    engine: Engine = "local",
    workers: int = 1,
    address: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: Report | None = None,
    **settings: Any,
) -> Summary:
    """Find the entities of a large collection of posts, and write them beside the posts as shards of Parquet.

    A job that was stopped or killed goes on when it is called again with the same arguments: shards that are written
    are not computed again. The bytes of the shards do not depend on the engine or on the number of workers.

    Args:
        data: see `open_collection`: Parquet, JSON lines, a `datasets.Dataset`, or a name on the Hub.
        output: folder of the output: `data/train-*.parquet` (`datasets.load_dataset(output)` reads them),
            `manifest.json`, and `rejects.jsonl` if rows were left out.
        model: checkpoint folder or Hub name; None = the embedded SCANNER.
        knowledge: sources to ask for what the rows lack, as in a recipe: `"ocr"`, `{"captions": MODEL}`, ...
        split: of a data set that has several.
        text_column: the texts; default: `text`.
        tokens_column: words instead of texts; default: `tokens`, where there is no `text`.
        image_column: images as bytes, paths or `{"bytes", "path"}`; default: `image`, if it is there.
        id_column: what rejects are called by; default: `id`, if it is there.
        knowledge_columns: columns that hold a part of the knowledge each, by the part: `{"caption": "blip2"}`. A
            column `knowledge` with records of all parts is read too.
        columns: the columns of the input that are written again; default: all.
        entities_column: the column that is added, entities as `pipeline("multimodal-ner")` gives them.
        engine: `"local"`: this process, or as many as `workers`; `"ray"`: actors of Ray Data (`hf-mner[ray]`).
        workers: processes or actors, with a model each.
        address: of a running Ray cluster (`"auto"`, `"ray://..."`); default: one is started here.
        data_dir: folder that the files of sources may lie in.
        store: knowledge store that keeps what sources say.
        device: of the model, such as `"cuda:0"`.
        progress: called with a `Progress` at the begin and after each shard.
        settings: see `Settings`: `shard_size`, `batch_tokens`, `threshold`, `on_error`, ...

    Raises:
        ValueError: for an argument or a row that cannot be used, and if `output` holds another job's shards.
        FileExistsError: if `output` holds something else, or another process works on it.
        ImportError: if Ray is asked for and not installed, with how to install it.
    """
    check_engine(engine, workers, address)
    if address is None:  # a cluster has devices of its own
        check_device(device)
    chosen = make_settings(settings)
    collection = open_collection(data, split)
    found = find_columns(
        collection.schema,
        text_column,
        tokens_column,
        image_column,
        id_column,
        knowledge_columns,
        columns,
        entities_column,
    )
    check_place(Path(output), data)
    job = Job(
        collection=collection,
        columns=found,
        files=ShardFiles(Path(output).resolve(), collection.num_rows, chosen.shard_size),
        settings=chosen,
        model=None if model is None else os.fspath(model),
        sources=list(knowledge),
        data_dir=None if data_dir is None else Path(data_dir),
        store=None if store is None else Path(store),
        device=device,
    )
    return run_job(job, engine, workers, address, progress)


def make_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings; a name that nothing reads is an error that lists the names.

    Raises:
        TypeError: for such a name.
        ValueError: for a value that means nothing.
    """
    known = Settings.__dataclass_fields__
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"`annotate` has no argument {unknown[0]!r}; its settings are {', '.join(known)}.")
    return Settings(**given)


def check_engine(engine: str, workers: int, address: str | None) -> None:
    """Refuse an engine that there is none of, and an address that nothing would read.

    Raises:
        ValueError: naming the argument.
    """
    if engine not in ("local", "ray"):
        raise ValueError(f"`engine={engine!r}` is not known; choose 'local' or 'ray'.")
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1, got {workers}.")
    if address is not None and engine != "ray":
        raise ValueError(f"`address={address!r}` is of a Ray cluster; add `engine='ray'` (`--engine ray`).")


def check_place(output: Path, data: Any) -> None:
    """Refuse an output inside of the folder that is read.

    Raises:
        ValueError: naming both.
    """
    is_path = isinstance(data, str | os.PathLike) and Path(data).is_dir()
    if is_path and output.resolve().is_relative_to(Path(data).resolve()):
        raise ValueError(f"Output '{output}' lies in the input '{data}', and would be read; choose another place.")


def run_job(
    job: Job, engine: Engine = "local", workers: int = 1, address: str | None = None, progress: Report | None = None
) -> Summary:
    """Do what is left of a job; see `annotate`."""
    if job.settings.on_error == "raise" and job.collection.problem is not None:
        raise ValueError(f"{job.collection.problem} Mend it, or skip such rows (`on_error='skip'`).")
    fingerprint = describe_job(job)
    files = job.files
    if not check_folder(files.folder, fingerprint):
        with locked(files.folder):
            new_rows, seconds = go_on(job, fingerprint, engine, workers, address, progress)
    else:
        new_rows, seconds = 0, 0.0
        report(progress, files, files.num_rows, 0)
    files.remove_reject_parts()
    return Summary(files.folder, **read_totals(files.folder), new_rows=new_rows, seconds=seconds)


def go_on(
    job: Job,
    fingerprint: Mapping[str, Any],
    engine: Engine,
    workers: int,
    address: str | None,
    progress: Report | None,
) -> tuple[int, float]:
    """Do what is left of a job whose folder is locked; return the rows of new shards, and the seconds it took."""
    files = job.files
    if check_folder(files.folder, fingerprint):  # again: another process may have had the lock until now
        return 0, 0.0
    files.remove_unfinished()
    start = {"format": FORMAT, "finished": False, "rows": files.num_rows, "shards": files.count}
    write_json(files.folder / FILE, {**start, "fingerprint": fingerprint})
    done = run_shards(job, engine, workers, address, progress)
    finish(files, start, fingerprint)
    return done


def run_shards(
    job: Job, engine: Engine, workers: int, address: str | None, progress: Report | None
) -> tuple[int, float]:
    """Annotate the shards that are not written; return the rows that they hold, and the seconds it took."""
    files = job.files
    pending = files.unfinished()
    left = sum(stop - start for start, stop in map(files.bounds, pending))
    found, finished = files.num_rows - left, 0
    report(progress, files, found, finished)
    started = time.perf_counter()
    for rows in _engine(job, pending, engine, workers, address):
        finished += rows
        report(progress, files, found, finished)
    return finished, time.perf_counter() - started


def _engine(job: Job, pending: list[int], engine: Engine, workers: int, address: str | None) -> Iterator[int]:
    if not pending:
        return iter(())
    if engine == "ray":
        from .ray_engine import run_on_ray

        return run_on_ray(job, pending, workers, address)
    from .local_engine import run_here, run_in_processes

    return run_here(job, pending) if workers == 1 else run_in_processes(job, pending, workers)


def report(progress: Report | None, files: ShardFiles, found: int, finished: int) -> None:
    """Tell how far a job is, if anyone listens."""
    if progress is not None:
        progress(Progress(found, finished, files.num_rows))


def finish(files: ShardFiles, start: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> None:
    """Join what was left out, and note that the job is finished, with the counts of each shard."""
    files.join_rejects()
    shards = [{"file": files.path(number).name, **files.counts(number)} for number in range(files.count)]
    write_json(files.folder / FILE, {**start, "finished": True, "fingerprint": fingerprint, "written": shards})


def read_totals(folder: Path) -> dict[str, int]:
    """Return the counts of all shards of a finished job together."""
    shards = (read_manifest(folder) or {})["written"]
    return {name: sum(shard[name] for shard in shards) for name in ("rows", "rejected", "entities", "distinct")}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of an output folder.

    Raises:
        FileExistsError: if another process works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            lock_file(file)
        except BlockingIOError as error:
            raise FileExistsError(
                f"Output '{folder}' is being written by another process; wait for it, or choose a new folder."
            ) from error
        yield

"""One worker's model at work: the rows of a shard in, its table with entities out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from hf_mner.data.images import load_rgb_image
from hf_mner.data.schema import Entity
from hf_mner.knowledge.base import KnowledgeSource, SourceError, source_name, sources_read
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.processing_base import has_words
from hf_mner.models.base.recognition import recognize_entities
from hf_mner.pipelines.multimodal_ner import BAD_POST, MultimodalNerPipeline, Post, to_entity

from .columns import Columns, read_knowledge
from .entity_column import make_column, output_schema
from .parts import Part, Reject
from .settings import Settings

logger = logging.getLogger(__name__)

IMAGE_CHUNK = 64  # posts whose images are in memory at once, and as many that are being decoded


class Task(NamedTuple):
    """A distinct post of a shard: its place in the table, and what is read of it."""

    place: int
    post: Post


class Annotated(NamedTuple):
    """A shard that is done: its table with entities, the rows left out, and counts."""

    table: pa.Table
    rejects: list[Reject]
    counts: dict[str, int]


class Annotator:
    """Finds the entities of a shard's posts.

    Posts that are alike (words, knowledge, and image where one is read) are read once. All posts of a shard go through
    each stage of the model together, in batches of similar length; where images are read, `IMAGE_CHUNK` posts do, and
    the next images are decoded meanwhile.

    Args:
        pipe: with the model.
        sources: of knowledge, asked for what the rows lack.
        columns: of the tables.
        settings: of the job.
        folder: relative paths of images count from it.
    """

    def __init__(
        self,
        pipe: MultimodalNerPipeline,
        sources: Sequence[KnowledgeSource],
        columns: Columns,
        settings: Settings,
        folder: Path | None = None,
    ):
        self.pipe, self.columns, self.settings, self.folder = pipe, columns, settings, folder
        self.sources, idle = sources_read(sources, pipe.processor.knowledge_parts())
        for source in idle:
            logger.warning("%s is not asked: %s does not read it.", source_name(source), type(pipe.model).__name__)
        self.needs_images = columns.image is not None and (
            "image" in pipe.model.input_modalities
            or any("image" in getattr(source, "reads", ("image",)) for source in self.sources)
        )

    def annotate(self, part: Part) -> Annotated:
        """Return the rows with their entities.

        Raises:
            ValueError: under `on_error="raise"`, naming the first bad row.
            SourceError: if a source of knowledge cannot work.
        """
        bad = {reject.row: reject for reject in part.rejects}
        if bad:
            self._refuse(next(iter(bad.values())))
        tasks, owners = self._distinct(part, bad)
        found = self._find(tasks, part, bad)
        bad.update(self._copies(owners, part, bad))
        places = [place for place, row in enumerate(part.rows) if row not in bad]
        kept = part.table.select(self.columns.kept).take(pa.array(places, type=pa.int64()))
        entities = [found[owners[place]] for place in places]
        names = [*self.columns.kept, self.columns.entities]
        table = pa.table([*kept.columns, make_column(entities)], names=names)
        schema = output_schema(part.table.schema, self.columns.kept, self.columns.entities)
        counts = {
            "rows": len(places),
            "rejected": len(bad),
            "entities": sum(map(len, entities)),
            "distinct": len(tasks),
        }
        return Annotated(table.cast(schema), [bad[row] for row in sorted(bad)], counts)

    def _refuse(self, reject: Reject) -> None:
        """Stop at a bad row unless those are skipped."""
        if self.settings.on_error == "raise":
            name = f"Row {reject.row}" + (f" (id {reject.id})" if reject.id is not None else "")
            raise ValueError(f"{name}: {reject.reason}")

    def _distinct(self, part: Part, bad: dict[int, Reject]) -> tuple[list[Task], list[int]]:
        """Return the posts that differ, and for each place of the table that of the post it is like."""
        tasks: list[Task] = []
        first: dict[Any, int] = {}
        owners: list[int] = []
        for place, row in enumerate(self._records(part)):
            image = self._image(part, place)
            try:
                post = self._read_post(row)
            except BAD_POST as error:
                owners.append(place)
                self._reject(bad, part, place, error)
                continue
            owners.append(first.setdefault(content_key(post, image), place))
            if owners[-1] == place:
                tasks.append(Task(place, post))
        return tasks, owners

    def _records(self, part: Part) -> list[dict[str, Any]]:
        columns = self.columns
        names = [columns.text, columns.tokens, columns.id, columns.knowledge, *columns.parts.values()]
        return part.table.select(list(dict.fromkeys(name for name in names if name is not None))).to_pylist()

    def _image(self, part: Part, place: int) -> Any:
        """Return a row's image as the table has it, with its path from the folder of the input."""
        if not self.needs_images:
            return None
        image = part.table.column(self.columns.image)[place].as_py()
        if isinstance(image, Mapping) and image.get("bytes") is None:
            image = image.get("path")
        if isinstance(image, str) and self.folder is not None and "://" not in image:
            return str(self.folder / image)
        return image

    def _read_post(self, row: Mapping[str, Any]) -> Post:
        columns = self.columns
        name = columns.tokens if columns.text is None else columns.text
        value = row[name] if name is not None else None
        if value is None:
            raise ValueError(f"Column {name!r} is null; expected {'a text' if columns.text else 'words'}.")
        fields = {"text" if columns.text else "tokens": value, "knowledge": read_knowledge(row, columns)}
        return self.pipe.preprocess(fields)

    def _reject(self, bad: dict[int, Reject], part: Part, place: int, error: Exception) -> None:
        """Note a bad row, or stop at it."""
        name = part.table.column(self.columns.id)[place].as_py() if self.columns.id is not None else None
        reject = Reject(part.rows[place], None if name is None else str(name), str(error))
        self._refuse(reject)
        bad[reject.row] = reject

    def _copies(self, owners: Sequence[int], part: Part, bad: Mapping[int, Reject]) -> dict[int, Reject]:
        """Return the rows that are like a bad one, with its reason."""
        found = {}
        for place, owner in enumerate(owners):
            if part.rows[owner] in bad and part.rows[place] not in bad:
                name = part.table.column(self.columns.id)[place].as_py() if self.columns.id is not None else None
                reason = bad[part.rows[owner]].reason
                found[part.rows[place]] = Reject(part.rows[place], None if name is None else str(name), reason)
        return found

    def _find(self, tasks: Sequence[Task], part: Part, bad: dict[int, Reject]) -> dict[int, list[Entity]]:
        """Return the entities of each distinct post by its place."""
        readable = [task for task in tasks if has_words(task.post.example["tokens"])]
        found: dict[int, list[Entity]] = {task.place: [] for task in tasks}
        cache = EncodingCache()
        for chunk in self._chunks(readable, part, bad):
            found.update(self._recognize(chunk, part, bad, cache))
        return found

    def _chunks(self, tasks: Sequence[Task], part: Part, bad: dict[int, Reject]) -> Iterator[list[Task]]:
        """Yield tasks that are read together, with their images where those are read."""
        if not self.needs_images:
            yield list(tasks)
            return
        ordered = sorted(tasks, key=lambda task: -len(task.post.example["tokens"]))
        parts = [ordered[start : start + IMAGE_CHUNK] for start in range(0, len(ordered), IMAGE_CHUNK)]
        with ThreadPoolExecutor(self.settings.image_threads) as pool:
            ahead: list[list[Future]] = []
            for number in range(len(parts) + 1):
                if number < len(parts):
                    ahead.append([pool.submit(self._decode, task, part) for task in parts[number]])
                if number:
                    yield list(self._decoded(parts[number - 1], ahead[number - 1], part, bad))
                    ahead[number - 1] = []  # so that its images can go

    def _decode(self, task: Task, part: Part) -> Task:
        source = self._image(part, task.place)
        if source is None:
            return task
        image = load_rgb_image(source, max_pixels=self.settings.max_pixels)
        example: Any = {**task.post.example, "image": image, "image_size": list(image.size)}
        return task._replace(post=task.post._replace(example=example))

    def _decoded(
        self, tasks: Sequence[Task], futures: Sequence[Future], part: Part, bad: dict[int, Reject]
    ) -> Iterator[Task]:
        for task, future in zip(tasks, futures, strict=True):
            try:
                yield future.result()
            except BAD_POST as error:
                self._reject(bad, part, task.place, error)

    def _recognize(
        self, tasks: Sequence[Task], part: Part, bad: dict[int, Reject], cache: EncodingCache
    ) -> dict[int, list[Entity]]:
        """Return the entities of tasks; of some that fail together, the halves are tried alone."""
        if not tasks:
            return {}
        try:
            return self._run(tasks, cache)
        except SourceError:  # no post is to blame
            raise
        except BAD_POST as error:
            if len(tasks) == 1:
                self._reject(bad, part, tasks[0].place, error)
                return {}
            half = len(tasks) // 2
            return {
                **self._recognize(tasks[:half], part, bad, cache),
                **self._recognize(tasks[half:], part, bad, cache),
            }

    def _run(self, tasks: Sequence[Task], cache: EncodingCache) -> dict[int, list[Entity]]:
        with self.pipe.device_placement():
            examples = recognize_entities(
                self.pipe.model,
                self.pipe.processor,
                [task.post.example for task in tasks],
                sources=self.sources,
                threshold=self.settings.threshold,
                batch_size=self.settings.batch_size,
                batch_tokens=self.settings.batch_tokens,
                cache=cache,
            )
        return {
            task.place: sorted(
                (to_entity(task.post, entity) for entity in example["entities"]), key=lambda entity: entity["start"]
            )
            for task, example in zip(tasks, examples, strict=True)
        }


def content_key(post: Post, image: Any) -> bytes:
    """Return a digest of what a model reads of a post: its text and words, its knowledge, and its image."""
    words = [word.text for word in post.words]
    digest = xxhash.xxh3_128(json.dumps([post.text, words, post.example["knowledge"]], sort_keys=True).encode())
    if image is not None:
        content = image.get("bytes") if isinstance(image, Mapping) else image
        digest.update(b"bytes" + content if isinstance(content, bytes) else b"path" + str(content).encode())
    return digest.digest()

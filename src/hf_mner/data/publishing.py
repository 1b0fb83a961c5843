"""Write a data set as Parquet files with embedded images and a dataset card, as `datasets.load_dataset` reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .counting import count_dataset
from .readers import OTHER_FACTS, find_facts

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULT = "default"  # the name of a data set's only configuration
ROWS_PER_FILE = 2_000  # at some 60 KB an image, about 120 MB
EMBED_BATCH = 100
_COUNTED = {
    "sentences": "sentences",
    "tokens": "tokens",
    "images": "images",
    "captions": "captions",
    "auxiliary": "auxiliary texts",
    "entities": "entities",
    "strict_entities": "of these starting with `B-`",
    "groundable": "groundable entities",
    "boxes": "boxes",
}


def write_parquet_dataset(dataset: Mapping[str, Dataset], output: str | os.PathLike[str], name: str) -> Path:
    """Write `data/<split>-*.parquet` and `README.md`; `datasets.load_dataset(output)` reads them back.

    Image files are embedded as they are (`Dataset.to_parquet` would store their paths only), so the folder needs
    nothing else; no path of this machine is written.

    Args:
        dataset: splits of `MnerExample` rows.
        output: a folder that does not exist or is empty.
        name: as in `load_mner_dataset`; decides what the card says on licence and provenance.

    Returns:
        The folder.

    Raises:
        FileExistsError: if the folder holds something; old files would be read along with the new ones.
    """
    return write_parquet_configurations({DEFAULT: dataset}, output, name)


def write_parquet_configurations(
    configurations: Mapping[str, Mapping[str, Dataset]],
    output: str | os.PathLike[str],
    name: str,
    repo_id: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write several readings of a data set into one folder; `datasets.load_dataset(output, NAME)` reads one back.

    Args:
        configurations: splits of `MnerExample` rows for each name; the first is read where none is named.
        output: as in `write_parquet_dataset`, and so is the rest.
        name: of the data set.
        repo_id: where it is published; the card's title and code.
        licence: licence identifier, for data that is not one of the public sets.

    Raises:
        FileExistsError: if the folder holds something.
    """
    folder = Path(output)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"Output folder '{folder}' is not empty; choose a new one, or empty it first.")
    for configuration, dataset in configurations.items():
        files = folder / _folder_name(configuration)
        files.mkdir(parents=True, exist_ok=True)
        for split, rows in dataset.items():
            _write_split(rows, split, files)
    (folder / "README.md").write_text(render_dataset_card(configurations, name, repo_id, licence), encoding="utf-8")
    return folder


def render_dataset_card(
    configurations: Mapping[str, Mapping[str, Dataset]],
    name: str,
    repo_id: str | None = None,
    licence: str | None = None,
) -> str:
    """Return the dataset card: YAML front matter, provenance, licence, counts and types, all from the data itself."""
    import yaml

    source = find_facts(name)
    title = repo_id.rpartition("/")[2] if repo_id else name
    said = f"The texts and images are under {licence}." if licence else "None was stated."
    usage = f'```python\nfrom datasets import load_dataset\n\nload_dataset("{repo_id}")\n```\n'
    metadata: dict[str, Any] = {
        "language": [source.language] if source else None,
        "license": source.license if source else licence or "unknown",
        "license_name": "reuters-rcv1-research-use" if source and source.license == "other" else None,
        "task_categories": ["token-classification"],
        "tags": ["named-entity-recognition", "multimodal", "hf-mner"],
        "pretty_name": title,
        "configs": _list_data_files(configurations),
    }
    front = yaml.safe_dump({key: value for key, value in metadata.items() if value is not None}, sort_keys=False)
    tags = "BIO tags made for this copy" if name in OTHER_FACTS else "the published BIO tags"
    provenance = source.provenance if source else "A user's own folder of BIO files."
    types = source.types if source else ()
    return "\n".join(
        [
            f"---\n{front}---\n\n# {title}\n",
            f"{provenance} Written with `hf_mner`; rows are its `MnerExample`s.\n",
            f"**Licence.** {source.license_text if source else said}\n",
            *([usage] if repo_id else []),
            *(_render_configuration(key, dataset, types) for key, dataset in configurations.items()),
            f"## Columns\n\n`ner_tags` are {tags}; `entities` is their conlleval reading, `start` and"
            " `end` index tokens (end exclusive), `boxes` are `[xmin, ymin, xmax, ymax]` in pixels, `[]` = not in the"
            " image. `image` is null where the file was not at hand.\n",
        ]
    )


def _render_configuration(name: str, dataset: Mapping[str, Dataset], published: tuple[str, ...]) -> str:
    counts = count_dataset(dataset)
    of = "" if name == DEFAULT else f" of `{name}`"
    return (
        f"## Counts{of}\n\n{_render_counts(counts)}\n\n"
        f"## Types{of}\n\n{_render_types(counts)}\n\n{_render_mapping(published, counts)}"
    )


def _folder_name(configuration: str) -> str:
    return "data" if configuration == DEFAULT else configuration


def _list_data_files(configurations: Mapping[str, Mapping[str, Dataset]]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    for name, dataset in configurations.items():
        folder = _folder_name(name)
        files = [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in dataset]
        is_first_of_several = not listed and len(configurations) > 1
        listed.append({"config_name": name, **({"default": True} if is_first_of_several else {}), "data_files": files})
    return listed


def _write_split(rows: Dataset, split: str, folder: Path) -> None:
    count = max(1, -(-len(rows) // ROWS_PER_FILE))
    for number in range(count):
        shard = embed_images(rows.shard(num_shards=count, index=number, contiguous=True))
        shard.to_parquet(folder / f"{split}-{number:05d}-of-{count:05d}.parquet")


def embed_images(rows: Dataset) -> Dataset:
    """Return the rows with the bytes of their image files inside and only the files' names as paths."""
    from datasets.table import embed_table_storage

    arrow = rows.with_format("arrow").map(
        embed_table_storage, batched=True, batch_size=EMBED_BATCH, keep_in_memory=True, load_from_cache_file=False
    )
    return arrow.with_format(None)


def _render_counts(counts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[title, *(f"{split[key]:,}" for split in counts.values())] for key, title in _COUNTED.items()]
    return _render_table(["", *counts], rows)


def _render_types(counts: Mapping[str, Mapping[str, Any]]) -> str:
    types = list(next(iter(counts.values()))["types"])
    rows = [[name, *(f"{split['types'][name]:,}" for split in counts.values())] for name in types]
    return _render_table(["entities of type", *counts], rows)


def _render_mapping(published: tuple[str, ...], counts: Mapping[str, Mapping[str, Any]]) -> str:
    types = next(iter(counts.values()))["types"]
    if "OTHER" in published and "MISC" in types:
        return "The fourth class is published as `OTHER` and called `MISC` here.\n"
    return "Type names are as published.\n"


def _render_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

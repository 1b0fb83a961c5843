"""Examples that commands read: a data set by name, a folder of BIO files, or a file of posts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .options import check_file
from .predict import OnError, read_posts

if TYPE_CHECKING:
    from hf_mner.data.schema import MnerExample


def read_examples(
    data: str,
    data_dir: Path | None,
    splits: list[str] | None = None,
    joined: list[str] | None = None,
    granularity: Literal["coarse", "fine"] = "coarse",
    on_error: OnError = "raise",
) -> list[MnerExample]:
    """Return examples with their images not yet decoded.

    Args:
        data: a name that `load_mner_dataset` knows, a folder as its `folder` describes, or a `.jsonl` file of posts as
            `hf-mner predict --input` reads it.
        data_dir: folder of the public data sets.
        splits: of a data set; None = all.
        joined: published knowledge that is joined; None = none.
        granularity: types of `twitter_fmnerg`.
        on_error: what a bad row does.

    Raises:
        FileNotFoundError: if the file of posts is missing.
        ValueError: if there is no such data, or `splits` or `joined` are given for posts, or name what is not there.
    """
    if data.endswith(".jsonl"):
        if splits or joined:
            raise ValueError(
                f"'{data}' is a file of posts, which has no splits and joins no knowledge; leave them out."
            )
        check_file(Path(data), "DATA", "the name of a data set, a folder of BIO files, or a .jsonl of posts")
        return [make_example(post) for post in read_posts([], [], data, on_error)]
    from datasets import Image

    from hf_mner.data.loaders import load_mner_dataset
    from hf_mner.data.readers import DATASET_NAMES

    if data not in DATASET_NAMES and not Path(data).is_dir():
        raise ValueError(
            f"Data set {data!r} is not known; choose one of {', '.join(DATASET_NAMES)}, or give a folder of BIO"
            " files of your own, or a .jsonl of posts."
        )
    name, folder = ("folder", Path(data)) if Path(data).is_dir() else (data, data_dir)
    dataset = load_mner_dataset(name, folder, granularity=granularity, knowledge=joined or [], on_error=on_error)
    if unknown := sorted(set(splits or ()) - set(dataset)):
        raise ValueError(f"{name} has no split {unknown[0]!r}; it has {', '.join(dataset)}.")
    return [
        row
        for split in splits or dataset
        for row in dataset[split].cast_column("image", Image(decode=False)).to_list()
    ]


def make_example(post: dict[str, Any]) -> MnerExample:
    """Return a post as an example.

    Raises:
        ValueError: if it has neither text nor tokens.
    """
    from hf_mner.data.alignment import split_words

    if post.get("tokens") is None and not isinstance(post.get("text"), str):
        raise ValueError(f"Post {post.get('id')!r} has neither `text` nor `tokens`; give one of them.")
    tokens = post.get("tokens") or [word.text for word in split_words(post["text"])]
    image = post.get("image")
    kept: Any = {name: post[name] for name in ("entities", "knowledge") if post.get(name) is not None}
    return {
        "id": str(post["id"]),
        "tokens": tokens,
        "image": {"bytes": None, "path": image} if isinstance(image, str) else image,
        **kept,
    }

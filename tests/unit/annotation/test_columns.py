"""Columns, settings, manifests and the files of shards."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image, load_dataset
from tiny import tiny_image

from hf_mner.annotation.columns import find_columns, read_knowledge
from hf_mner.annotation.entity_column import ENTITIES, make_column, output_schema
from hf_mner.annotation.manifest import check_folder, find_differences, write_json
from hf_mner.annotation.parts import Reject
from hf_mner.annotation.settings import Settings
from hf_mner.annotation.shard_files import ShardFiles

SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "tokens", "image", "blip")])


def test_the_usual_names():
    columns = find_columns(SCHEMA)
    assert (columns.text, columns.tokens, columns.image, columns.id) == ("text", None, "image", "id")
    assert columns.kept == SCHEMA.names
    assert find_columns(pa.schema([("tokens", pa.string())])).tokens == "tokens"
    assert find_columns(SCHEMA, tokens="tokens").text is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "tweet"}, "`text_column` is 'tweet'; the input has the columns id, text"),
        ({"text": "text", "tokens": "tokens"}, "are both given"),
        ({"image": "photo"}, "`image_column` is 'photo'"),
        ({"kept": ["x"]}, "`columns` is 'x'"),
        ({"parts": {"caption": "x"}}, r"`knowledge_columns\['caption'\]` is 'x'"),
        ({"parts": {"captoin": "blip"}}, "'captoin', which nothing reads; known parts: caption"),
        ({"entities": "text"}, "The input has a column 'text', and so would the output"),
    ],
)
def test_columns_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_columns(SCHEMA, **arguments)


def test_a_collection_without_posts():
    with pytest.raises(ValueError, match="neither `text` nor `tokens`"):
        find_columns(pa.schema([("body", pa.string())]))


def test_knowledge_of_a_row():
    columns = find_columns(SCHEMA, parts={"caption": "blip"})
    assert read_knowledge({"blip": "a man"}, columns) == {"caption": "a man"}
    assert read_knowledge({"blip": None}, columns) is None


@pytest.mark.parametrize(
    "given",
    [
        {"shard_size": 0},
        {"batch_tokens": 1},
        {"threads": 0},
        {"threshold": 2},
        {"precision": "int4"},
        {"on_error": "ignore"},
    ],
)
def test_settings_that_mean_nothing(given):
    with pytest.raises(ValueError, match=f"`{next(iter(given))}"):
        Settings(**given)


def test_images_stay_images_for_datasets(tmp_path):
    dataset = Dataset.from_list([{"text": "a", "image": tiny_image()}]).cast_column("image", Image())
    schema = output_schema(dataset.features.arrow_schema, ["text", "image"], "entities")
    table = dataset.with_format("arrow")[:].append_column("entities", make_column([[]])).cast(schema)
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "c"))["train"]
    assert row["image"].size == tiny_image().size
    assert row["entities"] == []
    assert output_schema(SCHEMA, ["id"], "found") == pa.schema([("id", pa.string()), ("found", ENTITIES)])


def test_differences_in_words():
    old = {"input": {"files": [{"name": "a", "bytes": 1}]}, "settings": {"shard_size": 5}, "sources": []}
    new = {"input": {"files": [{"name": "a", "bytes": 2}]}, "settings": {"shard_size": 6}, "sources": ["x"]}
    assert list(find_differences(old, new)) == [
        "`input.files[0].bytes` was 1 and is 2",
        "`settings.shard_size` was 5 and is 6",
        "`sources` was [] and is ['x']",
    ]
    assert list(find_differences(old, old)) == []


def test_a_folder_of_something_else(tmp_path):
    assert not check_folder(tmp_path / "new", {})
    (tmp_path / "letter.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"is not empty, and has no manifest\.json"):
        check_folder(tmp_path, {})
    write_json(tmp_path / "manifest.json", {"format": 1, "finished": True, "fingerprint": {"a": 1}})
    assert check_folder(tmp_path, {"a": 1})
    with pytest.raises(ValueError, match=r"shards of another job: `a` was 1 and is 2\. Choose a new folder"):
        check_folder(tmp_path, {"a": 2})
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        check_folder(tmp_path, {"a": 1})


def test_shards_appear_whole_and_after_what_they_left_out(tmp_path, monkeypatch):
    files = ShardFiles(tmp_path, 25, 10)
    assert (files.count, files.bounds(2), files.unfinished()) == (3, (20, 25), [0, 1, 2])
    table = pa.table({"text": ["a"]})

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", stop)
        with pytest.raises(KeyboardInterrupt):
            files.write(1, table, [Reject(10, "x", "bad")], {"rows": 1})
    assert files.unfinished() == [0, 1, 2]
    assert files.rejects_path(1).is_file(), "what was left out is written first"
    for number in (2, 0, 1):
        files.write(number, table, [Reject(10 * number, "x", "bad")] if number else [], {"rows": number})
    assert files.unfinished() == []
    assert files.counts(2) == {"rows": 2}
    (tmp_path / "data" / ".x.1.unfinished").write_text("")
    files.remove_unfinished()
    assert len(list((tmp_path / "data").iterdir())) == 3
    assert files.join_rejects() == 2
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [reject["row"] for reject in rejects] == [10, 20]
    files.remove_reject_parts()
    assert not (tmp_path / "rejects").exists()

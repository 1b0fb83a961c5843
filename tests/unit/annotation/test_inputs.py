"""Collections: any part can be read, in any order, and gives the rows that are there."""

from __future__ import annotations

import gzip
import json
import pickle
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from hf_mner.annotation import open_collection
from hf_mner.annotation.parts import Collection

ROWS = [{"id": f"r{number}", "text": f"text {number}", "likes": number % 7 or None} for number in range(1_307)]


def write_parquet(folder, sizes=(5, 0, 1_000, 302), row_group=101):
    start = 0
    for number, size in enumerate(sizes):
        table = pa.Table.from_pylist(ROWS[start : start + size], schema=pa.Table.from_pylist(ROWS).schema)
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=row_group)
        start += size
    return folder


def write_lines(path):
    content = "\n\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in ROWS)
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as stream:
        stream.write(content)
    return path


def make(kind, folder):
    if kind == "parquet":
        return write_parquet(folder)
    if kind == "one row group":
        return write_parquet(folder, (1_307,), 10_000)
    if kind in ("posts.jsonl", "posts.jsonl.gz"):
        return write_lines(folder / kind)
    dataset = Dataset.from_list(ROWS)
    if kind == "saved":
        dataset.save_to_disk(str(folder / "saved"))
        return folder / "saved"
    if kind == "shuffled":
        return Dataset.from_list(ROWS[::-1]).select(range(len(ROWS))[::-1])
    return dataset


KINDS = ("parquet", "one row group", "posts.jsonl", "posts.jsonl.gz", "dataset", "shuffled", "saved")


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_what_it_should_be(tmp_path, kind):
    collection = open_collection(make(kind, tmp_path))
    assert collection.num_rows == len(ROWS)
    draw = random.Random(0)
    bounds = [(start, min(start + 250, len(ROWS))) for start in range(0, len(ROWS), 250)]
    for _ in range(12):
        start = draw.randrange(len(ROWS))
        bounds.append((start, draw.randint(start, len(ROWS))))
    for start, stop in bounds:
        check(collection, start, stop)
    check(pickle.loads(pickle.dumps(collection)), 700, 900)


def check(collection: Collection, start: int, stop: int) -> None:
    part = collection.read(start, stop)
    assert part.rows == list(range(start, stop))
    assert part.table.to_pylist() == ROWS[start:stop]
    assert part.table.schema.equals(collection.schema)
    assert part.rejects == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_changes_with_the_content(tmp_path, kind):
    given = make(kind, tmp_path)
    first = open_collection(given).describe()
    assert open_collection(given).describe() == first
    json.dumps(first)
    if kind == "posts.jsonl":
        given.write_text(given.read_text().replace("text 7", "text 8", 1))
        assert open_collection(given).describe() != first


def test_rows_of_a_data_set_are_known_by_content():
    one, other = Dataset.from_list(ROWS), Dataset.from_list(ROWS[::-1]).select(range(len(ROWS))[::-1])
    assert open_collection(one).describe() == open_collection(other).describe()


def test_types_of_json_lines_are_found_over_the_whole_file(tmp_path):
    records = [{"text": "a"}] * 1_000 + [{"text": "b", "n": 1}] * 1_000 + [{"text": "c", "n": 1.5, "k": {"x": []}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    collection = open_collection(tmp_path / "a.jsonl")
    assert collection.schema.field("n").type == pa.float64()
    assert collection.read(0, 2).table.to_pylist()[0] == {"text": "a", "n": None, "k": None}
    assert collection.read(2_000, 2_001).table.to_pylist() == [{"text": "c", "n": 1.5, "k": {"x": []}}]
    (tmp_path / "b.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "a", "n": "one"}')
    with pytest.raises(ValueError, match=r"b\.jsonl: the values of 'n' are of types that one column cannot hold"):
        open_collection(tmp_path / "b.jsonl")


def test_a_line_that_is_no_object_is_a_reject(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n[1]\n{"text": \n{"text": "b"}\n')
    collection = open_collection(tmp_path / "a.jsonl")
    part = collection.read(0, 4)
    assert part.rows == [0, 3]
    assert [reject.row for reject in part.rejects] == [1, 2]
    assert "line 3 holds list" in part.rejects[0].reason
    assert "line 4 is not JSON" in part.rejects[1].reason
    assert collection.problem == part.rejects[0].reason


def test_folders_patterns_and_splits(tmp_path):
    write_parquet(tmp_path)
    assert open_collection(tmp_path).num_rows == 1_307
    assert open_collection(str(tmp_path / "[02].parquet")).num_rows == 1_005
    assert open_collection([tmp_path / "2.parquet", tmp_path / "0.parquet"]).read(0, 1).table["id"][0].as_py() == "r5"
    splits = DatasetDict({"train": Dataset.from_list(ROWS[:3]), "test": Dataset.from_list(ROWS[:2])})
    splits.save_to_disk(str(tmp_path / "saved"))
    assert open_collection(tmp_path / "saved", "test").num_rows == 2
    with pytest.raises(ValueError, match="`split` is None; saved has train, test"):
        open_collection(tmp_path / "saved")


def test_what_is_no_input_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.parquet' does not exist"):
        open_collection(tmp_path / "no.parquet")
    with pytest.raises(FileNotFoundError, match="names no file"):
        open_collection(str(tmp_path / "*.parquet"))
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(ValueError, match=r"neither `\.parquet` nor `\.jsonl`"):
        open_collection(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="holds no Parquet or JSON lines"):
        open_collection(tmp_path)
    (tmp_path / "a.parquet").write_text("x")
    with pytest.raises(ValueError, match=r"a\.parquet' is no Parquet file"):
        open_collection(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="has no rows"):
        open_collection(tmp_path / "a.jsonl")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"2\.parquet' has the columns text \(int64\), and .* text \(string\)"):
        open_collection([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    with pytest.raises(ValueError, match="The input is a int"):
        open_collection(5)

"""The knowledge store in one process: keys, values, versions, and the source that keeps its answers there."""

import io
import pickle
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from hf_mner.knowledge import add_knowledge, knowledge_map
from hf_mner.knowledge.store import (
    KnowledgeStore,
    Progress,
    Stored,
    describe_source,
    example_keys,
    make_record,
    pictures,
)

IDENTITY = {"source": "Echo", "model": "m", "revision": "1", "prompt": "p", "settings": "{}"}
BOX = [0.1, 1e-7, 17.25, 1 / 3]


class Echo:
    """A source that counts what it is asked."""

    column, needs_entities = "caption", False

    def __init__(self, reads=("tokens",), answer=lambda example: " ".join(example["tokens"]), **identity):
        self.identity, self.reads, self.answer, self.asked = {**IDENTITY, **identity}, reads, answer, []

    def __call__(self, examples):
        self.asked += [example.get("id") for example in examples]
        return [self.answer(example) for example in examples]


@pytest.fixture
def store(tmp_path):
    with KnowledgeStore(tmp_path / "knowledge.sqlite") as store:
        yield store


def example(number=0, **fields):
    return {"id": str(number), "tokens": ["word", str(number)], **fields}


def picture(colour=(10, 20, 30)):
    image = Image.new("RGB", (6, 4), colour)
    image.putpixel((1, 2), (200, 0, 7))
    return image


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def key(store, row, reads=("tokens",), column="caption", **identity):
    record = make_record(column, {**IDENTITY, **identity}, reads)
    return example_keys(store, record, [row])[0]


# --------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("field", IDENTITY)
def test_every_field_of_the_identity_is_in_the_key(store, field):
    assert key(store, example()) != key(store, example(), **{field: "other"})


def test_a_key_depends_on_what_is_read_and_on_nothing_else(store):
    row = example(entities=[{"start": 0, "end": 1, "type": "PER"}], knowledge={"caption": "a man"})
    assert key(store, row) == key(store, {**row, "id": "9", "entities": [], "knowledge": None, "ner_tags": [0, 0]})
    assert key(store, row) != key(store, {**row, "tokens": ["word 0"]})
    assert key(store, row) != key(store, row, column="auxiliary")
    assert key(store, row) != key(store, row, ("tokens", "caption"))
    assert key(store, row, ("tokens", "caption")) == key(store, row, ("caption", "tokens"))
    assert key(store, row, ["caption"]) != key(store, {**row, "knowledge": {"caption": "a dog"}}, ["caption"])


def test_entities_count_by_their_places(store):
    rows = [
        example(entities=[{"start": 0, "end": end, "type": kind}])
        for end, kind in ((1, "PER"), (1, "LOC"), (2, "LOC"))
    ]
    first, second, third = (key(store, row, ["entities"]) for row in rows)
    assert first == second != third
    assert key(store, example(entities=[]), ["entities"]) != key(store, example(), ["entities"])


def test_a_picture_has_one_key_however_it_is_given(store, tmp_path):
    image = picture()
    path = tmp_path / "picture.png"
    path.write_bytes(png(image))
    with Image.open(path) as lazy:
        given = [image, lazy, {"bytes": png(image), "path": None}, {"bytes": None, "path": str(path)}, str(path)]
        given += [{"bytes": png(image), "path": "elsewhere.png"}, image.convert("RGBA")]
        keys = {key(store, {"image": form}, ["image"]) for form in given}
    assert len(keys) == 1
    assert keys != {key(store, {"image": picture((0, 0, 0))}, ["image"])}
    assert keys != {key(store, {"image": None}, ["image"])}
    assert key(store, {"image": None}, ["image"]) == key(store, {}, ["image"])


def test_two_shapes_of_the_same_pixels_differ(store):
    wide, tall = Image.new("RGB", (6, 4)), Image.new("RGB", (4, 6))
    assert key(store, {"image": wide}, ["image"]) != key(store, {"image": tall}, ["image"])


def test_a_file_is_decoded_once(store, monkeypatch):
    decoded = []
    original = pictures.load_rgb_image
    monkeypatch.setattr(pictures, "load_rgb_image", lambda image: decoded.append(1) or original(image))
    rows = [{"image": {"bytes": png(picture((shade, 0, 0))), "path": None}} for shade in (1, 2, 1)]
    record = make_record("caption", IDENTITY, ["image"])
    first = example_keys(store, record, rows)
    assert len(decoded) == 2
    assert example_keys(KnowledgeStore(store.path), record, rows) == first
    assert len(decoded) == 2


def test_a_key_survives_a_data_set(store):
    datasets = pytest.importorskip("datasets")
    from hf_mner.data.schema import mner_features

    features = mner_features(["PER"])
    knowledge = {"objects": [{"label": "head", "score": 0.1, "box": [0, 1 / 3, 5, 6]}], "caption": "a"}
    row = {**example(knowledge=knowledge), "entities": [{"start": 0, "end": 1, "type": "PER", "boxes": []}]}
    full = {**dict.fromkeys(features), **row, "knowledge": {**dict.fromkeys(features["knowledge"]), **knowledge}}
    full["knowledge"]["objects"] = [{"caption": None, "similarity": None, **item} for item in knowledge["objects"]]
    (back,) = datasets.Dataset.from_list([full], features=features)
    reads = ("tokens", "entities", "objects", "caption")
    assert back["knowledge"]["objects"] != row["knowledge"]["objects"]  # 32-bit floats
    assert key(store, back, reads) == key(store, row, reads)


def test_a_picture_that_cannot_be_decoded_is_named_with_its_example(store):
    with pytest.raises(ValueError, match=r"Example '7': Image .* cannot be decoded"):
        key(store, {"id": "7", "image": {"bytes": b"no image", "path": None}}, ["image"])
    with pytest.raises(FileNotFoundError, match="Example '7'"):
        key(store, {"id": "7", "image": {"bytes": None, "path": "absent.png"}}, ["image"])


# ------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    [
        "a man \U0001f600 \ud800",
        "",
        None,
        [],
        0.1,
        [{"label": "head", "score": 1 / 3, "box": BOX, "caption": None}],
        [[0.5, -0.25], []],
    ],
)
def test_a_value_comes_back_equal(store, value):
    record = make_record("caption", IDENTITY, ["tokens"])
    assert store.put_many(record, {b"k" * 32: value}) == 1
    with KnowledgeStore(store.path) as again:
        assert again.get_many([b"k" * 32, b"absent"]) == {b"k" * 32: value}
    assert store.put_many(record, {b"k" * 32: "another"}) == 0
    assert store.get_many([b"k" * 32]) == {b"k" * 32: value}


def test_many_values_come_back(store):
    values = {bytes([number // 256, number % 256]) * 16: number for number in range(2000)}
    store.put_many(make_record("similarity", IDENTITY, ["tokens"]), values)
    assert store.get_many(reversed(values)) == values


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes", object()])
def test_a_value_that_no_part_can_be_is_refused_and_nothing_is_written(store, value):
    source = Echo(answer=lambda _: value)
    with pytest.raises(
        ValueError, match=r"Echo \(column 'caption'\) gave a value that cannot be used. .*expected a text"
    ):
        Stored(source, store)([example()])
    assert store.sources() == []


def test_a_value_that_json_cannot_hold_is_refused_and_nothing_is_written(store):
    source = Echo(answer=lambda _: [{"label": "head", "box": [0, 0, 5, 5], "score": float("nan")}])
    source.column = "objects"
    with pytest.raises(ValueError, match=r"Echo \(column 'objects'\) gave .* cannot hold .*Python's own types"):
        Stored(source, store)([example()])
    assert store.sources() == []


def test_sources_lists_what_there_is(store):
    Stored(Echo(), store)([example(number) for number in range(3)])
    Stored(Echo(model="other", answer=lambda _: "é"), store)([example()])
    first, second = store.sources()
    assert first.source.identity == IDENTITY
    assert (first.items, first.bytes) == (3, 3 * len('"word 0"'))
    assert second.source.identity["model"] == "other"
    assert second.source.reads == ("tokens",)
    assert first.oldest <= first.newest <= second.oldest


def test_a_store_takes_over_what_it_lacks(store, tmp_path):
    rows = [example(number) for number in range(4)]
    Stored(Echo(), store)(rows[:2])
    with KnowledgeStore(tmp_path / "other.sqlite") as other:
        Stored(Echo(), other)(rows[1:])
        Stored(Echo(model="other"), other)(rows)
        assert store.merge(other.path) == 2 + 4
        assert store.merge(other.path) == 0
    source = Echo()
    Stored(source, store)(rows)
    assert source.asked == []


# ------------------------------------------------------------------------------------------------------------- Stored


def test_only_what_is_lacking_is_asked_and_once(store):
    source = Echo()
    rows = [example(1), {**example(1), "id": "same words"}, example(2)]
    expected = ["word 1", "word 1", "word 2"]
    assert Stored(source, store)(rows) == expected
    assert source.asked == ["1", "2"]
    assert Stored(source, store)([*rows, example(3)]) == [*expected, "word 3"]
    assert source.asked == ["1", "2", "3"]
    assert Stored(Echo(revision="2"), store, compute=False)(rows) == [None] * 3


def test_the_source_is_asked_in_batches_and_progress_is_told(store):
    sizes, steps = [], []
    source = Echo()
    stored = Stored(source, store, batch_size=4, on_progress=steps.append)
    source.answer = lambda row: row["id"]
    call = source.__call__
    stored.source = lambda rows: sizes.append(len(rows)) or call(rows)
    stored([example(number) for number in range(10)])
    assert sizes == [4, 4, 2]
    assert steps == [Progress(0, 0, 10), Progress(0, 4, 10), Progress(0, 8, 10), Progress(0, 10, 10)]
    steps.clear()
    stored([example(number) for number in range(12)])
    assert steps == [Progress(10, 0, 12), Progress(10, 2, 12)]


def test_none_is_an_answer(store):
    source = Echo(reads=("image",), answer=lambda row: None)
    assert Stored(source, store)([example(1), example(2)]) == [None, None]
    assert Stored(source, store)([example(3)]) == [None]
    assert source.asked == ["1"]  # without an image, all are alike


def test_answers_do_not_share_what_can_be_changed(store):
    source = Echo(answer=lambda _: [{"label": "head", "box": [0, 0, 5, 5]}])
    source.column = "objects"
    one, other = Stored(source, store)([example(), example()])
    one[0]["label"] = "changed"
    assert other == [{"label": "head", "box": [0, 0, 5, 5]}]


def test_what_was_finished_before_an_error_stays(store):
    def answer(row):
        if row["id"] == "5":
            raise RuntimeError("out of memory")
        return row["id"]

    source = Echo(answer=answer)
    rows = [example(number) for number in range(8)]
    with pytest.raises(RuntimeError, match="out of memory"):
        Stored(source, store, batch_size=2)(rows)
    source.answer, source.asked = lambda row: row["id"], []
    assert Stored(source, store, batch_size=2)(rows) == [str(number) for number in range(8)]
    assert source.asked == ["4", "5", "6", "7"]


def test_a_wrong_number_of_values_is_refused(store):
    stored = Stored(Echo(), store)
    stored.source = lambda rows: ["one"]
    with pytest.raises(ValueError, match=r"Echo \(column 'caption'\) returned 1 values for 2 examples"):
        stored([example(1), example(2)])


def test_stored_stands_in_for_its_source(store):
    class Regions(Echo):
        column = "objects"

        def lacks(self, row):
            return any(item.get("caption") is None for item in row["knowledge"].get("objects") or ())

    source = Regions(("objects",), lambda row: [{**item, "caption": "a hat"} for item in row["knowledge"]["objects"]])
    stored = Stored(source, store)
    rows = [example(knowledge={"objects": [{"label": "head", "box": BOX}]}), example(1)]
    for asked in (1, 1):
        filled = add_knowledge(rows, [stored])
        assert filled[0]["knowledge"]["objects"] == [{"label": "head", "box": BOX, "caption": "a hat"}]
        assert filled[0]["knowledge"]["sources"][0] == {
            "part": "objects",
            **{k: IDENTITY[k] for k in IDENTITY if k != "settings"},
        }
        assert "objects" not in filled[1]["knowledge"]
        assert len(source.asked) == asked
    assert Stored(Echo(), store).lacks is None


def test_a_data_set_gets_its_column_without_computing(store):
    datasets = pytest.importorskip("datasets")
    Stored(Echo(), store)([example(1)])
    (held,) = store.sources()
    rows = datasets.Dataset.from_list([example(1), example(2)])
    mapped = rows.map(knowledge_map([Stored(held.source, store, compute=False)]), batched=True, num_proc=2)
    assert [row["knowledge"]["caption"] for row in mapped] == ["word 1", None]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"identity": None}, r"Echo \(column 'caption'\) has `identity=None`.*cannot tell"),
        ({"reads": None}, r"Echo \(column 'caption'\) has `reads=None`"),
        ({"reads": "image"}, "`reads='image'`"),
        ({"reads": ("token",)}, r"`reads` is token; expected names from image, tokens.*not \['token'\]"),
        (
            {"identity": {"source": "Echo"}},
            "`identity` is {'source': 'Echo'}; expected a text for each of source, model",
        ),
    ],
)
def test_a_source_that_does_not_say_what_decides_is_refused(store, fields, message):
    source = Echo()
    vars(source).update(fields)
    with pytest.raises(ValueError, match=message):
        Stored(source, store)


def test_a_record_computes_nothing(store):
    with pytest.raises(ValueError, match="give `compute=False`, or the source"):
        Stored(describe_source(Echo()), store)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        Stored(Echo(), store, batch_size=0)


# -------------------------------------------------------------------------------------------------------------- files


def test_a_store_is_pickled_as_its_path(store):
    Stored(Echo(), store)([example()])
    again = pickle.loads(pickle.dumps(store))
    assert again.sources() == store.sources()


def test_a_closed_store_opens_again(store):
    Stored(Echo(), store)([example()])
    store.close()
    assert len(store.sources()) == 1


def test_another_version_is_refused(store):
    store.close()
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ValueError, match=r"format version 99; this hf_mner reads version 1\. Export it"):
        KnowledgeStore(store.path)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 1000)
    with pytest.raises(ValueError, match="it is damaged or no knowledge store"):
        KnowledgeStore(text)
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE other (x)").connection.close()
    with pytest.raises(ValueError, match="is an SQLite file but no knowledge store"):
        KnowledgeStore(tmp_path / "other.sqlite")
    with pytest.raises(ValueError, match=r"is a folder; a knowledge store is a file, such as .*knowledge.sqlite'"):
        KnowledgeStore(tmp_path)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(ValueError, match='is the index of an encyclopedia, .* ask it with `--source "encyclopedia: '):
        KnowledgeStore(tmp_path, create=False)
    with pytest.raises(FileNotFoundError, match="does not exist; `hf-mner knowledge build`"):
        KnowledgeStore(tmp_path / "absent.sqlite", create=False)
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_damaged_file_is_told(store):
    Stored(Echo(answer=lambda row: row["id"] * 500), store)([example(number) for number in range(300)])
    store.check()
    store.close()
    content = bytearray(store.path.read_bytes())
    content[8192:] = bytes(len(content) - 8192)  # header and schema stay
    store.path.write_bytes(content)
    with (
        pytest.raises(ValueError, match=r"damaged or no knowledge store\. Name another file"),
        KnowledgeStore(store.path) as again,
    ):
        again.check()


def test_a_full_disk_is_told_and_loses_nothing(store):
    with store.reading() as connection:
        connection.execute("PRAGMA max_page_count=30")
    rows = [example(number) for number in range(100)]
    with pytest.raises(OSError, match="cannot be used: database or disk is full; check that the disk has room"):
        Stored(Echo(answer=lambda row: row["id"] * 1000), store)(rows)
    store.close()
    held = store.sources()[0].items
    assert 0 < held < 100
    assert held % 8 == 0  # whole batches
    store.check()


def test_threads_take_turns(store):
    source = Echo()
    rows = [example(number) for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: Stored(source, store, batch_size=3)(rows), range(4)))
    assert answers == [[f"word {number}" for number in range(50)]] * 4
    assert sorted(source.asked, key=int) == [row["id"] for row in rows]

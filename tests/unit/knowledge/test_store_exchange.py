"""Export from a store and import into one."""

import json
import pickle

import pytest
from PIL import Image

from hf_mner.knowledge import add_knowledge
from hf_mner.knowledge.store import (
    Imported,
    KnowledgeStore,
    Stored,
    describe_source,
    export_rows,
    fill_store,
    find_source,
    import_column,
    import_rows,
    make_record,
    read_rows,
    write_rows,
)
from hf_mner.knowledge.store.building import Answers, describe_rivals

IDENTITY = {"source": "Echo", "model": "m", "revision": "1", "prompt": "", "settings": "{}"}
CAPTION = make_record("caption", IDENTITY, ["tokens"])
OF_IMAGE = make_record("caption", {**IDENTITY, "source": "BLIP-2"}, ["image"])


class Objects:
    column, needs_entities, identity, reads = "objects", False, {**IDENTITY, "source": "Objects"}, ("tokens",)

    def __call__(self, rows):
        return [[{"label": row["id"], "box": [0.1, 1 / 3, 2.0, 3.0]}] if row["id"] != "2" else None for row in rows]


def example(number, **fields):
    return {"id": str(number), "tokens": ["word", str(number)], **fields}


class Captions(Objects):
    """Completes what `Objects` found."""

    identity, reads = {**IDENTITY, "source": "Captions"}, ("tokens", "objects")

    def lacks(self, row):
        return any(item.get("caption") is None for item in row["knowledge"].get("objects") or ())

    def __call__(self, rows):
        return [[{**item, "caption": "a hat"} for item in row["knowledge"]["objects"]] for row in rows]


class Summary(Objects):
    """Reads what `Captions` wrote."""

    column, identity, reads = "auxiliary", {**IDENTITY, "source": "Summary"}, ("objects",)

    def __call__(self, rows):
        return [str(row["knowledge"].get("objects")) for row in rows]


@pytest.fixture
def store(tmp_path):
    with KnowledgeStore(tmp_path / "knowledge.sqlite") as store:
        yield store


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_exported_can_be_imported(store, tmp_path, suffix):
    examples = [example(number) for number in range(4)]
    Stored(Objects(), store)(examples[:3])
    path = tmp_path / "new" / f"objects.{suffix}"
    assert write_rows(export_rows(store, find_source(store, "Objects"), examples), path) == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    rows = read_rows(path)
    assert rows[0] == {
        "id": "0",
        "part": "objects",
        "value": [{"label": "0", "box": [0.1, 1 / 3, 2.0, 3.0]}],
        **Objects.identity,
        "reads": ["tokens"],
        "needs_entities": False,
    }
    with KnowledgeStore(tmp_path / "other.sqlite") as other:
        assert import_rows(other, rows, examples) == Imported(2, 0, {}, 0)
        assert import_rows(other, rows, examples) == Imported(0, 2, {}, 0)
        assert other.sources()[0].source == store.sources()[0].source
        stored = Stored(Objects(), other, compute=False)
        assert stored(examples) == [rows[0]["value"], rows[1]["value"], None, None]


def test_what_reads_other_knowledge_is_exported_by_itself(store):
    examples = [example(number) for number in range(3)]
    sources = [Objects(), Captions(), Summary()]
    filled = fill_store([Stored(source, store) for source in sources], examples)
    assert filled == add_knowledge(examples, sources)
    for name, part in (("Captions", "objects"), ("Summary", "auxiliary")):
        values = {row["id"]: row["value"] for row in export_rows(store, find_source(store, name), examples)}
        expected = {row["id"]: row["knowledge"].get(part) for row in filled}
        assert values == {identifier: value for identifier, value in expected.items() if value is not None}


def test_records_read_back_what_their_sources_filled_in(store):
    examples = [example(number) for number in range(4)]
    sources = [Objects(), Captions(), Summary()]
    filled = fill_store([Stored(source, store) for source in sources], examples)
    assert filled[0]["knowledge"]["objects"][0]["caption"] == "a hat"
    held = [Stored(items.source, store, compute=False) for items in store.sources()]
    assert add_knowledge(examples, held) == filled
    assert add_knowledge(filled, held) == filled
    assert add_knowledge(examples, held, overwrite=True) == filled
    assert [row["knowledge"] for row in add_knowledge(examples, pickle.loads(pickle.dumps(held)))] == [
        row["knowledge"] for row in filled
    ]


@pytest.mark.parametrize("captions", [Captions(), describe_source(Captions())])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_store_cannot_complete_stays_as_it_is(store, captions, overwrite):
    rows = add_knowledge([example(number) for number in range(3)], [Objects()])
    read = add_knowledge(rows, [Stored(captions, store, compute=False)], overwrite)
    assert [row["knowledge"].get("objects") for row in read] == [row["knowledge"].get("objects") for row in rows]
    if not overwrite:
        assert read == rows


def test_a_data_set_is_exported(store):
    datasets = pytest.importorskip("datasets")
    examples = [example(number, image=Image.new("RGB", (2, 2), (number, 0, 0))) for number in range(3)]
    store_of_images = make_record("caption", IDENTITY, ["image", "tokens"])
    import_column(store, store_of_images, [{**row, "knowledge": {"caption": row["id"]}} for row in examples])
    rows = datasets.Dataset.from_list([{**row, "knowledge": {"caption": None}} for row in examples])
    assert [row["value"] for row in export_rows(store, store_of_images, rows)] == ["0", "1", "2"]


def test_published_captions_get_an_identity(store):
    image = Image.new("RGB", (4, 4))
    rows = [
        example(1, image=image, knowledge={"caption": "a man"}),
        example(2, image=image.copy(), knowledge={"caption": "the same image, said otherwise"}),
        example(3, image=None, knowledge={"caption": "an image that is not here"}),
        example(4, image=image, knowledge=None),
    ]
    assert import_column(store, OF_IMAGE, rows) == Imported(1, 1, {"image": 1}, 0)
    assert Stored(OF_IMAGE, store, compute=False)(rows) == ["a man", "a man", None, "a man"]
    with pytest.raises(ValueError, match="Nothing was imported: 1 left out because their image is missing"):
        import_column(store, OF_IMAGE, rows[2:3])


@pytest.mark.parametrize(
    ("reads", "lacking", "remedy"),
    [
        (["tokens", "caption"], {"knowledge": {"caption": None, "similarity": 0.5}}, "join captions"),
        (["entities"], {"knowledge": {"similarity": 0.5}}, "give posts with `entities`"),
        (["ocr", "tokens"], {"knowledge": {"similarity": 0.5}}, "give posts with `knowledge.ocr`"),
    ],
)
def test_values_whose_post_lacks_what_was_read_are_left_out(store, reads, lacking, remedy):
    record = make_record("similarity", {**IDENTITY, "source": "Similarity"}, reads)
    full = example(1, knowledge={"caption": "a man", "ocr": "", "similarity": 0.25}, entities=[])
    imported = import_column(store, record, [full, example(2, **lacking), example(3, knowledge=None)])
    (part,) = set(reads) - {"tokens"}
    assert imported == Imported(1, 0, {part: 1}, 0)
    assert f"1 left out because their {part} is missing" in imported.describe_left_out()
    assert remedy in imported.describe_left_out()
    assert Stored(record, store, compute=False)([full, example(2)]) == [0.25, None]
    assert [row["id"] for row in export_rows(store, record, [full, example(2, **lacking)])] == ["1"]


def test_values_of_a_part_that_nobody_reads_are_refused(store):
    message = "`part` is 'captoin'; expected one of caption, auxiliary, .*object_similarities. Did you mean 'caption'"
    with pytest.raises(ValueError, match=message):
        import_rows(store, [{"id": "1", "value": "a"}], [example(1)], make_record("captoin", IDENTITY, ["tokens"]))
    assert not store.sources()


def test_similarities_of_entities_are_imported(store):
    record = make_record("object_similarities", IDENTITY, ["entities", "tokens"], needs_entities=True)
    entities = [{"start": 0, "end": 1, "type": "PER", "object_similarities": [0.5, 0.25]}]
    assert import_column(store, record, [example(1, entities=entities), example(2, entities=[])]).new == 1
    bare = example(1, entities=[{"start": 0, "end": 1, "type": "LOC"}])
    assert Stored(record, store, compute=False)([bare]) == [[[0.5, 0.25]]]


def test_a_file_of_ids_and_values(store, tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"id": "1", "value": "a man"}\n\n{"id": "9", "value": "nobody"}\n')
    rows = read_rows(path)
    assert import_rows(store, rows, [example(1)], CAPTION) == Imported(1, 0, {}, 1)
    with pytest.raises(ValueError, match="row of id '1' does not say where it is from, it lacks part, source"):
        import_rows(store, rows, [example(1)])
    with pytest.raises(ValueError, match="Two rows have the id '1'"):
        import_rows(store, [rows[0], rows[0]], [example(1)], CAPTION)
    with pytest.raises(ValueError, match="Nothing was imported: none left out, 2 of ids"):
        import_rows(store, rows, [example(5)], CAPTION)


@pytest.mark.parametrize("line", ['{"id": "1"}', "[1]", '"text"'])
def test_other_lines_are_refused(tmp_path, line):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"id": "0", "value": 1}) + "\n" + line)
    with pytest.raises(ValueError, match=r"captions.jsonl, line 2 holds .*; expected an object with `id` and `value`"):
        read_rows(path)
    with pytest.raises(ValueError, match=r"ends in '.csv'; expected one of .jsonl, .parquet"):
        write_rows([], tmp_path / "captions.csv")


def test_sources_are_named_in_several_ways(store):
    with pytest.raises(ValueError, match="there is none, the store is empty"):
        find_source(store, "Echo")
    store.put_many(CAPTION, {b"1": "a"})
    other = make_record("caption", {**IDENTITY, "model": "n", "revision": "2"}, ["tokens"])
    store.put_many(other, {b"2": "a"})
    assert find_source(store, "2") == find_source(store, "n") == other
    with pytest.raises(
        ValueError,
        match=r"'Echo' fits 2 .* by its number: 1 = Echo \(column 'caption'\), m, 1, reads tokens; 2",
    ):
        find_source(store, "Echo")


def test_a_source_is_named_as_the_registry_names_it(store):
    for kind, column in (("CaptionSimilarity", "similarity"), ("ClipSimilarity", "similarity"), ("Echo", "caption")):
        store.put_many(make_record(column, {**IDENTITY, "source": kind}, ["tokens"]), {kind.encode(): 0.5})
    assert find_source(store, "caption_similarity").identity["source"] == "CaptionSimilarity"
    with pytest.raises(ValueError, match="'similarity' fits 2 of those") as raised:
        find_source(store, "similarity")
    assert "Echo" not in str(raised.value)  # only what fits is listed
    with pytest.raises(ValueError, match="fits 0 of those .*1 = CaptionSimilarity.*3 = Echo"):
        find_source(store, "captions")


def test_a_store_is_not_merged_into_itself(store, tmp_path):
    (tmp_path / "link.sqlite").symlink_to(store.path)
    for other in (store.path, tmp_path / "link.sqlite"):
        with pytest.raises(ValueError, match="is the store that it would be merged into; name another one"):
            store.merge(other)


def test_posts_that_got_an_answer_are_told(store):
    told = []
    rows = [example(number, image=None) for number in range(3)]
    fill_store([Stored(Objects(), store)], rows, tell=lambda *given: told.append(given))
    assert told == [("Objects (column 'objects')", Answers(3, 2, {}))]
    summary = Summary()
    summary.identity, summary.reads = {**IDENTITY, "source": "Silent"}, ("image", "objects")
    summary.__class__ = type("Silent", (Summary,), {"__call__": lambda _, rows: [None] * len(rows)})
    fill_store([Stored(summary, store)], rows, tell=lambda *given: told.append(given))
    assert told[1][1] == Answers(3, 0, {"image": 3, "objects": 3})


def test_sources_of_one_part_are_rivals_unless_one_completes_the_other(store):
    assert describe_rivals([Objects(), Captions(), Stored(Captions(), store), Summary()]) == []
    (warning,) = describe_rivals([Stored(Objects(), store), Summary(), Objects()])
    assert warning.startswith("Objects (m) and Objects (m) both fill 'objects': the second is asked only about posts")

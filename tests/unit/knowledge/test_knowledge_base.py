"""How the values of sources get into examples."""

import pytest

from hf_mner.knowledge import SourceError, SourceSetupError, add_knowledge, entity_mentions, knowledge_map
from hf_mner.knowledge.base import example_name

BOX = [0, 0, 5, 6]
ENTRY = {"title": "A", "text": "", "rule": "exact", "source": ""}


class Caption:
    column = "caption"
    needs_entities = False

    def __init__(self, word="new"):
        self.word, self.calls = word, []

    def __call__(self, examples):
        self.calls.append([example["id"] for example in examples])
        return [f"{self.word} {example['id']}" for example in examples]


class Echo:
    """Reads what another source wrote."""

    column = "auxiliary"
    needs_entities = False

    def __call__(self, examples):
        return [example["knowledge"]["caption"].upper() for example in examples]


class Mentions:
    column = "encyclopedia"
    needs_entities = True

    def __call__(self, examples):
        return [[{**ENTRY, "mention": name} for name in entity_mentions(row)] for row in examples]


def examples():
    return [
        {"id": "1", "tokens": ["a", "b"], "entities": [{"start": 0, "end": 2, "type": "PER", "boxes": []}]},
        {"id": "2", "tokens": ["c"], "entities": [], "knowledge": {"caption": "old", "similarity": 0.5}},
        {"id": "3", "tokens": ["d"], "entities": [], "knowledge": {"caption": None}},
        {"id": "4", "tokens": ["e"], "entities": [], "knowledge": None},
    ]


def test_values_are_added_and_the_input_stays():
    rows = examples()
    filled = add_knowledge(rows, [Caption(), Mentions()])
    assert rows == examples()
    assert [row["knowledge"]["caption"] for row in filled] == ["new 1", "old", "new 3", "new 4"]
    assert filled[0]["knowledge"]["encyclopedia"][0]["mention"] == "a b"
    assert filled[1]["knowledge"]["similarity"] == 0.5


def test_a_source_sees_only_what_lacks_its_value():
    caption = Caption()
    filled = add_knowledge(examples(), [caption])
    assert caption.calls == [["1", "3", "4"]]
    add_knowledge(filled, [caption])
    assert len(caption.calls) == 1  # nothing left to do, so it is not even called


def test_found_nothing_is_a_value():
    row = {"id": "1", "tokens": ["a"], "entities": [{"start": 0, "end": 1}], "knowledge": {"encyclopedia": []}}
    assert add_knowledge([row], [Mentions()])[0]["knowledge"]["encyclopedia"] == []


def test_overwrite_replaces():
    filled = add_knowledge(examples(), [Caption("newer")], overwrite=True)
    assert [row["knowledge"]["caption"] for row in filled] == ["newer 1", "newer 2", "newer 3", "newer 4"]


def test_a_later_source_reads_an_earlier_one():
    assert add_knowledge(examples(), [Caption(), Echo()])[0]["knowledge"]["auxiliary"] == "NEW 1"


def test_missing_entities_are_named_with_source_and_example():
    row = {"id": "7", "tokens": ["a"]}
    with pytest.raises(
        ValueError, match=r"Mentions \(column 'encyclopedia'\).*Example '7' has no `entities`.*span detector"
    ):
        add_knowledge([row], [Mentions()])
    assert add_knowledge([row], [Caption()])[0]["knowledge"] == {"caption": "new 7"}


def test_errors_of_a_source_name_it():
    class Broken(Caption):
        def __call__(self, examples):
            raise ValueError("no such image")

    class Short(Caption):
        def __call__(self, examples):
            return ["one"]

    with pytest.raises(ValueError, match=r"Broken \(column 'caption'\): no such image"):
        add_knowledge(examples(), [Broken()])
    with pytest.raises(ValueError, match=r"Short \(column 'caption'\) returned 1 values for 3 examples"):
        add_knowledge(examples(), [Short()])


class Giving:
    needs_entities = False

    def __init__(self, value, column="caption", identity=None):
        self.value, self.column, self.identity = value, column, identity

    def __call__(self, examples):
        return [self.value for _ in examples]


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("caption", 3, r"`knowledge\['caption'\]` is 3; expected a text or None"),
        ("ocr", ["a"], r"`knowledge\['ocr'\]` is \['a'\]; expected a text"),
        ("similarity", 2.0, r"is 2.0; expected a number in \[-1, 1\]"),
        ("objects", [{"label": "head"}], r"Object 'head'"),
        ("encyclopedia", [{"mention": "a"}], "expected `mention`, `title` and `text`"),
        ("object_similarities", [], r"`object_similarities` is \[\]; expected a list for each of the 1 entities"),
        ("object_similarities", [["high"]], "one number for each object"),
        ("object_similarities", 0.5, "expected a list for each"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_where_it_comes_from(column, value, text):
    with pytest.raises(ValueError, match=rf"Giving \(column '{column}'\) gave a value .* Example '1': .*{text}"):
        add_knowledge(examples()[:1], [Giving(value, column)])


def test_a_source_that_nothing_could_read_is_refused():
    row = examples()[:1]
    for column in ("captoin", "sources"):
        for make in (lambda source: add_knowledge(row, [source]), lambda source: knowledge_map([source])):
            with pytest.raises(ValueError, match=f"Giving fills the column '{column}', which nothing.*caption, aux"):
                make(Giving("a", column))
    with pytest.raises(ValueError, match="has the `identity` {'source': 'Giving'}; expected .* source, model, rev"):
        add_knowledge(row, [Giving("a", identity={"source": "Giving"})])
    for other in (Caption, "ocr"):
        with pytest.raises(ValueError, match="is no knowledge source; expected an object with `column`"):
            add_knowledge(row, [other])


def test_values_must_come_as_a_list():
    class Generating(Caption):
        def __call__(self, examples):
            return (example["id"] for example in examples)

    with pytest.raises(
        ValueError, match=r"Generating \(column 'caption'\) returned a generator; it must return a list"
    ):
        add_knowledge(examples(), [Generating()])


def test_a_broken_source_is_told_from_a_bad_post():
    class Broken(Caption):
        def __call__(self, examples):
            raise SourceSetupError("the model is not there")

    with pytest.raises(SourceError, match=r"^Knowledge source Broken \(column 'caption'\): the model is not there$"):
        add_knowledge(examples(), [Broken()])


def test_examples_without_an_id_are_called_by_their_first_words():
    assert example_name({"id": "7", "tokens": ["a"]}) == "Example '7'"
    assert example_name({"tokens": ["a", "b"]}) == "Example 'a b' (without id)"
    assert example_name({"tokens": list("abcdefg")}) == "Example 'a b c d e ...' (without id)"


def test_map_wants_batches():
    datasets = pytest.importorskip("datasets")
    for row in ({"id": "1", "tokens": ["a"]}, {"tokens": ["a"]}, {"id": "1", "tokens": []}):
        with pytest.raises(ValueError, match="got a single example; it expects a batch. Give `batched=True`"):
            datasets.Dataset.from_list([row]).map(knowledge_map([Known()]))


def test_map_gives_what_add_knowledge_gives_and_keeps_the_features():
    datasets = pytest.importorskip("datasets")
    from hf_mner.data.schema import mner_features

    features = mner_features(["PER"])
    rows = [{**dict.fromkeys(features), "ner_tags": [0] * len(row["tokens"]), **row} for row in examples()]
    empty = dict.fromkeys(features["knowledge"])
    rows = [{**row, "knowledge": {**empty, **(row["knowledge"] or {})}} for row in rows]
    mapped = datasets.Dataset.from_list(rows, features=features).map(
        knowledge_map([Caption(), Mentions()]), batched=True, batch_size=3
    )
    assert mapped.features == features
    assert mapped.to_list() == add_knowledge(rows, [Caption(), Mentions()])


def identity(source, model="m"):
    return {"source": source, "model": model, "revision": "1", "prompt": "", "settings": "{}"}


class Known(Caption):
    identity = identity("Known")


class Regions:
    """Completes what a detector wrote."""

    column, needs_entities, identity = "objects", False, identity("Regions")

    def lacks(self, example):
        return any(item.get("caption") is None for item in example["knowledge"].get("objects") or ())

    def __call__(self, examples):
        return [[{**item, "caption": "a hat"} for item in row["knowledge"]["objects"]] for row in examples]


class Similarities:
    column, needs_entities = "object_similarities", True

    def __call__(self, examples):
        return [[[0.5] for _ in row["entities"]] for row in examples]


def test_what_a_source_filled_in_is_noted_once():
    first, second, *_ = add_knowledge(examples(), [Known()])
    assert first["knowledge"]["sources"] == [
        {"part": "caption", "source": "Known", "model": "m", "revision": "1", "prompt": ""}
    ]
    assert "sources" not in second["knowledge"]  # its caption came with the data
    assert len(add_knowledge([first], [Known()], overwrite=True)[0]["knowledge"]["sources"]) == 1


def test_a_source_may_complete_a_column():
    row = {"id": "1", "tokens": ["a"], "knowledge": {"objects": [{"label": "head", "box": BOX, "caption": None}]}}
    other = {"id": "2", "tokens": ["a"], "knowledge": {"objects": [{"label": "head", "box": BOX, "caption": "old"}]}}
    filled = add_knowledge([row, other, {"id": "3", "tokens": ["b"]}], [Regions()])
    assert [[item["caption"] for item in row["knowledge"].get("objects", [])] for row in filled] == [
        ["a hat"],
        ["old"],
        [],
    ]
    assert row["knowledge"]["objects"][0]["caption"] is None


def test_similarities_of_objects_belong_to_the_entities():
    datasets = pytest.importorskip("datasets")
    rows = examples()[:2]
    filled = add_knowledge(rows, [Similarities()])
    assert filled[0]["entities"][0]["object_similarities"] == [0.5]
    assert "object_similarities" not in rows[0]["entities"][0]
    mapped = datasets.Dataset.from_list(rows[:1]).map(knowledge_map([Similarities()]), batched=True)
    assert mapped[0]["entities"][0]["object_similarities"] == [0.5]


def test_who_replaces_a_part_is_noted_alone():
    class Other(Known):
        identity = identity("Other")

    (row, *_) = add_knowledge(examples(), [Known()])
    (row,) = add_knowledge([row], [Other("newer")], overwrite=True)
    assert (row["knowledge"]["caption"], [note["source"] for note in row["knowledge"]["sources"]]) == (
        "newer 1",
        ["Other"],
    )


def test_to_know_nothing_replaces_nothing():
    class Silent(Known):
        def __call__(self, examples):
            return [None] * len(examples)

    (row, *_) = add_knowledge(examples(), [Known()])
    assert add_knowledge([row], [Silent()], overwrite=True)[0]["knowledge"] == row["knowledge"]


def test_idle_sources_are_told_from_those_that_are_read():
    from hf_mner.knowledge.base import sources_read

    class Objects:
        column, needs_entities, reads = "objects", False, ("image",)

    class Weighed(Similarities):
        reads = ("image", "entities", "objects")

    class FromCaption(Echo):
        reads = ("caption",)

    caption, objects, weighed, mentions = Known(), Objects(), Weighed(), Mentions()
    caption.reads = ()
    assert sources_read([objects, weighed, caption], {"objects"}) == ([objects, weighed], [caption])
    assert sources_read([caption, objects], {"encyclopedia"}) == ([], [caption, objects])
    derived = FromCaption()
    assert sources_read([caption, objects, derived], {"auxiliary"}) == ([caption, derived], [objects])
    assert sources_read([caption, mentions], {"encyclopedia"}) == ([caption, mentions], []), "it may read anything"

"""spaCy: documents from posts and back, and the component."""

from __future__ import annotations

import pytest
from random_posts import random_posts, without_image
from tiny import tiny_image

import hf_mner
from hf_mner.interchange import from_doc, read_docs, to_doc, write_docs

spacy = pytest.importorskip("spacy", reason='needs spaCy: pip install "hf-mner[spacy]"')


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_flat", [True, False])
def test_a_round_trip_changes_nothing(tmp_path, seed, is_flat):
    posts = [without_image(post) for post in random_posts(seed, is_flat=is_flat)]
    for post in posts:
        post.pop("image_size", None)
        doc = to_doc(post)
        assert doc.text == post["text"]
        assert from_doc(doc) == post
        if is_flat:
            assert [(ent.start_char, ent.end_char) for ent in doc.ents] == [
                (entity["start"], entity["end"]) for entity in post["entities"]
            ]
    assert write_docs(posts, tmp_path / "a.spacy") == len(posts)
    assert list(read_docs(tmp_path / "a.spacy")) == posts
    with pytest.raises(FileExistsError, match="is there; choose a new file"):
        write_docs(posts, tmp_path / "a.spacy")


def test_overlaps_are_spans_and_the_best_are_entities():
    text = "New York Times"
    entities = [
        {"entity_group": "LOC", "word": "New York", "start": 0, "end": 8, "score": 0.6, "boxes": []},
        {"entity_group": "ORG", "word": text, "start": 0, "end": 14, "score": 0.9, "boxes": []},
        {"entity_group": "MISC", "word": text, "start": 0, "end": 14, "score": 0.1, "boxes": []},
    ]
    doc = to_doc({"id": "a", "text": text, "entities": entities})
    assert [ent.label_ for ent in doc.ents] == ["ORG"]
    assert [span.label_ for span in doc.spans["hf_mner"]] == ["LOC", "ORG", "MISC"]
    assert from_doc(doc)["entities"] == entities, "two labels on the same words keep their own scores"


def test_boxes_image_and_id(post):
    doc = to_doc(post)
    assert doc.ents[0]._.boxes == post["entities"][0]["boxes"]
    assert doc.ents[0]._.score == 0.75
    assert doc.ents[1]._.boxes == []
    assert doc._.image is post["image"]
    assert from_doc(doc)["id"] == "kerr"


def test_entities_inside_of_words_are_an_error():
    entity = {"entity_group": "ORG", "word": "NBA", "start": 1, "end": 4, "boxes": []}
    with pytest.raises(ValueError, match="Post 'a': 'NBA' at characters 1-4 does not begin and end with a word"):
        to_doc({"id": "a", "text": "#NBAFinals", "entities": [entity]})
    doc = to_doc({"id": "a", "text": "#NBAFinals", "entities": [entity]}, cut_words=True)
    assert ([token.text for token in doc], [ent.text for ent in doc.ents]) == (["#", "NBA", "Finals"], ["NBA"])


def test_documents_of_other_pipelines():
    doc = spacy.blank("en")("in Oakland today")
    doc.ents = [doc.char_span(3, 10, label="GPE")]
    assert from_doc(doc)["entities"] == [
        {"entity_group": "GPE", "word": "Oakland", "start": 3, "end": 10, "boxes": []}
    ]


@pytest.fixture(scope="module")
def nlp(scanner_folder):
    nlp = spacy.blank("en")
    nlp.add_pipe("hf_mner", config={"model": str(scanner_folder), "batch_size": 2})
    return nlp


TEXTS = ["Steve Kerr coaches the Warriors in Oakland", "", "The NBA and Adidas sign O'Brien", "so tired 😀\ntoday"]


def test_the_component_finds_what_the_pipeline_finds(nlp, scanner_folder):
    knowledge = {"objects": [{"label": "person", "box": [0, 0, 4, 8]}]}
    docs = []
    for text in TEXTS:
        doc = nlp.make_doc(text)
        doc._.image = tiny_image()
        doc.user_data["knowledge"] = knowledge
        docs.append(doc)
    inputs = [{"text": text, "image": tiny_image(), "knowledge": knowledge} for text in TEXTS]
    expected = hf_mner.pipeline(model=str(scanner_folder))(inputs, batch_size=2)
    found = [from_doc(doc)["entities"] for doc in nlp.pipe(docs, batch_size=2)]
    assert any(entity["boxes"] for entities in expected for entity in entities)
    for entities, others in zip(found, expected, strict=True):
        assert [{**entity, "score": None, "boxes": None} for entity in entities] == [
            {**entity, "score": None, "boxes": None} for entity in others
        ]
    assert [ent.text for ent in nlp(TEXTS[0]).ents]


@pytest.mark.parametrize("threshold", [7, -0.1])
def test_a_bad_threshold_is_refused_where_it_is_given(threshold):
    with pytest.raises(ValueError, match="`threshold` must be between 0 and 1, got"):
        spacy.blank("en").add_pipe("hf_mner", config={"model": "none", "threshold": threshold})


def test_images_may_be_user_data(nlp):
    doc = nlp.make_doc(TEXTS[0])
    doc.user_data["image"] = "no-such-file.png"
    with pytest.raises((ValueError, FileNotFoundError), match="no-such-file"):
        nlp(doc)


def test_entities_inside_of_spacy_tokens_get_the_token_and_keep_their_characters():
    from hf_mner.interchange.spacy_docs import set_entities

    doc = spacy.blank("en")("the NBAFinals")
    entity = {"entity_group": "ORG", "word": "NBA", "start": 4, "end": 7, "score": 0.5, "boxes": []}
    assert set_entities(doc, [entity]) == []
    assert [ent.text for ent in doc.ents] == ["NBAFinals"]
    assert from_doc(doc)["entities"] == [entity]

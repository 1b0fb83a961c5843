"""Captions and similarities of regions by tiny models: which pixels are asked about, and where answers go."""

import pytest
from test_captions import folder, loaded  # noqa: F401  fixtures
from test_similarity import clip, picture  # noqa: F401  a fixture

from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import ImageCaptioner, KnowledgeSource, add_knowledge
from hf_mner.knowledge.crops import crop_box, region_crops
from hf_mner.knowledge.image_text_models import rgb_image
from hf_mner.knowledge.regions import RegionCaptioner, RegionSimilarity

torch = pytest.importorskip("torch")

# A batch multiplies matrices of another shape than one region does; float32 differs by about 1e-7 there.
ROUNDING = 1e-5


def thing(box, caption=None):
    return {"label": "thing", "score": 0.5, "box": box, "caption": caption, "similarity": None}


def post(seed, boxes, spans=((0, 1),), size=(40, 30)):
    """Return an example with an image (None for a negative seed) and objects (None for boxes of None)."""
    objects = None if boxes is None else [thing(box) for box in boxes]
    return {
        "id": str(seed),
        "tokens": ["cat", "mat", "dog"],
        "image": None if seed < 0 else picture(seed, size),
        "entities": [{"start": start, "end": end, "type": "PER", "boxes": []} for start, end in spans],
        "knowledge": {"objects": objects},
    }


def posts():
    return [
        post(1, [[0, 0, 20, 30], [10, 10, 40, 30]], spans=[(0, 1), (1, 3)]),
        post(-1, [[0, 0, 5, 5]]),
        post(2, [], spans=[(0, 1), (2, 3)]),
        post(3, None),
        post(4, [[5, 5, 6, 6]], spans=[]),
        post(5, [[0.5, 0.5, 12.2, 20.9]], spans=[(0, 2)], size=(25, 50)),
    ]


def captions_of(examples):
    return [None if objects is None else [item["caption"] for item in objects] for objects in examples]


def test_crops_enclose_their_box():
    assert crop_box([10.4, 5, 20.2, 15], (100, 100), 0) == (10, 5, 21, 15)
    assert crop_box([10, 20, 30, 60], (100, 100), 0.1) == (8, 16, 32, 64)
    assert crop_box([0, 0, 100, 100], (100, 100), 0.1) == (0, 0, 100, 100)
    assert crop_box([99.9, 0, 100, 0.01], (100, 100), 0) == (99, 0, 100, 1)
    assert crop_box([120, 0, 130, 10], (100, 100), 0) == (99, 0, 100, 10), "at least a pixel, whatever the box"


def test_every_object_gets_the_caption_of_its_region(loaded):  # noqa: F811
    source = RegionCaptioner(*loaded, margin=0.0, max_new_tokens=5)
    found = source(posts())
    assert captions_of(found)[1:4] == [[None], [], None], "nothing to be seen, nothing there, nothing looked for"
    for example, objects in zip(posts(), found, strict=True):
        check_knowledge({"objects": objects})
        if example["image"] is not None and objects:
            crops = [{"image": crop} for crop in region_crops(example, 0.0)]
            alone = [ImageCaptioner(*loaded, max_new_tokens=5)([crop])[0] for crop in crops]
            assert [item["caption"] for item in objects] == alone
            assert [item["box"] for item in objects] == [item["box"] for item in example["knowledge"]["objects"]]


def test_a_batch_gives_what_its_posts_give_one_by_one(loaded):  # noqa: F811
    single = [RegionCaptioner(*loaded, batch_size=1, max_new_tokens=5)([example])[0] for example in posts()]
    assert RegionCaptioner(*loaded, batch_size=3, max_new_tokens=5)(posts()) == single


def test_regions_with_equal_pixels_are_described_once(loaded, monkeypatch):  # noqa: F811
    source = RegionCaptioner(*loaded, max_new_tokens=3)
    seen, describe = [], source._describe
    monkeypatch.setattr(source, "_describe", lambda images: seen.extend(images) or describe(images))
    source([post(1, [[0, 0, 20, 30], [0, 0, 20, 30], [20, 0, 40, 30]]), post(1, [[20, 0, 40, 30]])])
    assert len(seen) == 2


def test_an_example_waits_as_long_as_an_object_has_no_caption(loaded):  # noqa: F811
    source = RegionCaptioner(*loaded, max_new_tokens=3)
    assert isinstance(source, KnowledgeSource)
    assert source.reads == ("image", "objects")
    rows = posts()
    assert [source.lacks(row) for row in rows] == [True, False, False, False, True, True]
    assert not source.lacks({"tokens": ["a"]})
    filled = add_knowledge(rows, [source])
    assert not any(source.lacks(row) for row in filled)
    assert filled[1]["knowledge"] == rows[1]["knowledge"]
    assert rows[0]["knowledge"]["objects"][0]["caption"] is None, "the input is not changed"
    assert filled[0]["knowledge"]["sources"][0]["source"] == "RegionCaptioner"


def test_similarities_are_the_cosines_that_the_model_gives(clip):  # noqa: F811
    model, processor = clip
    (values,) = RegionSimilarity(*clip)(posts()[:1])
    example = posts()[0]
    crops = [rgb_image(example).crop(box) for box in ((0, 0, 20, 30), (10, 10, 40, 30))]
    texts = ["a photo of cat", "a photo of mat dog"]
    inputs = processor(text=texts, images=crops, return_tensors="pt", padding=True, truncation=True, max_length=12)
    with torch.no_grad():
        outputs = model(**inputs)
    assert values == pytest.approx((outputs.text_embeds @ outputs.image_embeds.T).numpy(), abs=ROUNDING)
    assert len({round(value, 3) for row in values for value in row}) == 4


def test_similarities_have_a_row_for_each_entity(clip):  # noqa: F811
    found = RegionSimilarity(*clip)(posts())
    shapes = [None if values is None else [len(row) for row in values] for values in found]
    assert shapes == [[2, 2], None, [0, 0], None, [], [1]]
    single = [RegionSimilarity(*clip, batch_size=1)([example])[0] for example in posts()]
    for one, other in zip(found, single, strict=True):
        for left, right in zip(one or (), other or (), strict=True):
            assert left == pytest.approx(right, abs=ROUNDING)
            assert all(type(value) is float and -1 <= value <= 1 for value in left)


def test_similarities_belong_to_entities(clip):  # noqa: F811
    source = RegionSimilarity(*clip)
    assert isinstance(source, KnowledgeSource)
    assert (source.column, source.needs_entities) == ("object_similarities", True)
    filled = add_knowledge(posts(), [source])
    assert [len(entity["object_similarities"]) for entity in filled[0]["entities"]] == [2, 2]
    assert "object_similarities" not in filled[1]["entities"][0]


def test_the_words_around_an_entity_are_a_choice(clip):  # noqa: F811
    rows = posts()[:1]
    bare = RegionSimilarity(*clip, template="{entity}")
    assert bare(rows) != RegionSimilarity(*clip)(rows)
    assert bare.identity["prompt"] != RegionSimilarity(*clip).identity["prompt"] != ""
    braces = {**rows[0], "tokens": ["{x}", "mat", "dog"]}
    assert RegionSimilarity(*clip)([braces])[0] is not None, "braces in a tweet are no template"


def test_nothing_is_loaded_without_regions():
    rows = [post(-1, [[0, 0, 5, 5]]), post(2, []), post(3, None)]
    assert RegionSimilarity("no/such-model")(rows) == [None, [[]], None]
    assert captions_of(RegionCaptioner("no/such-model")(rows)) == [[None], [], None]


def test_margins_count(clip, loaded):  # noqa: F811
    example = post(1, [[10, 10, 20, 20]])
    assert [crop.size for crop in region_crops(example, 0.1)] == [(12, 12)]
    for kind, parts in ((RegionCaptioner, loaded), (RegionSimilarity, clip)):
        assert kind(*parts, margin=0.2).identity != kind(*parts, margin=0.3).identity


def test_errors_say_what_to_do(clip, loaded):  # noqa: F811
    with pytest.raises(ValueError, match="`template='a photo'` has no `{entity}`; expected a text such as"):
        RegionSimilarity(*clip, template="a photo")
    for kind in (RegionCaptioner, RegionSimilarity):
        with pytest.raises(ValueError, match=r"`margin` must be in \[0, 1\], got -1"):
            kind(margin=-1)
        with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
            kind(batch_size=0)
    wrong = {**post(1, [[0, 0, 5, 5]]), "image": 3}
    with pytest.raises(ValueError, match=r"Example '1' has an image of type int.*cast_column"):
        RegionCaptioner(*loaded)([wrong])

"""HamLearning's model: formulas of the paper, images with any number of objects, images computed once, ablations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny import (
    OBJECT_LABELS,
    TYPES,
    detected,
    noisy_image,
    tiny_encoder_folder,
    tiny_examples,
    tiny_ham_learning,
    tiny_ham_learning_config,
    tiny_ham_learning_processor,
    tiny_resnet_config,
    with_images,
)

from hf_mner import HamLearningForTokenClassification, pipeline, recognize_entities
from hf_mner.data.labels import bio_labels
from hf_mner.layers.regions import pool_regions
from hf_mner.layers.relations import relation_graph
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import run_rows
from hf_mner.models.base.vision import feature_maps
from hf_mner.models.ham_learning.modeling_ham_learning import (
    FusionGate,
    InterModality,
    Relevance,
    SemanticView,
    SpatialView,
    in_fractions,
    node_places,
)

WORDS = ["Steve", "Kerr", "lands", "in", "Oakland"]
SIZE = (12, 8)  # of images whose sides tell across from down
# float32 sums in another order, through a dozen layers: 3e-5 measured on logits up to 8; padding that is read gives 1.
CLOSE = {"rtol": 0, "atol": 2e-4}


def labels_of(config=None) -> dict[str, int]:
    return (config or tiny_ham_learning_config()).label2id


def objects(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Objects anywhere in an image of `SIZE`, some of an unknown class."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=generator).sort(dim=1).values * torch.tensor(SIZE)
    names = [*OBJECT_LABELS, "unicorn"]
    return [detected(names[number % 5], box, None) for number, box in enumerate(corners.flatten(1).tolist())]


def post(count: int | None, seed: int = 0, words: list[str] | None = None) -> dict[str, Any]:
    """A text whose image has `count` objects; `None` = no image."""
    example = {"id": f"{count}-{seed}", "tokens": words or WORDS, "entities": []}
    if count is not None:
        example |= {"image": noisy_image(seed, SIZE), "knowledge": {"objects": objects(count, seed)}}
    return example


def mixed_posts() -> list[dict[str, Any]]:
    """Texts of several lengths without an image, and with images of 0, 1, 3 and 50 objects."""
    return [
        post(3, 1),
        post(None, words=[*WORDS, "with", "Anna", "and", "O'Brien"]),
        post(0, 2, words=["Berlin"]),
        post(50, 3),
        post(1, 4, words=["so", "tired"]),
    ]


def batch_of(*posts: dict[str, Any], **options: Any) -> dict[str, torch.Tensor]:
    return dict(tiny_ham_learning_processor(**options)(list(posts)))


def graph_of(model, batch):
    names = ("pixel_values", "image_features", "image_sizes", "object_boxes", "object_labels", "object_mask")
    return model.image_graph(*(batch.get(name) for name in (*names, "object_features")))


@torch.no_grad()
def logits_of(model, *posts: dict[str, Any], **options: Any) -> torch.Tensor:
    """The scores of a batch, `b n c`."""
    return model(**batch_of(*posts, **options)).logits


def count_images(model) -> list[int]:
    """Count how many images the image encoder sees."""
    seen: list[int] = []
    model.vision_model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


# ----------------------------------------------------------------------------------------------- image and objects


def test_nodes_are_the_image_and_its_objects():
    """Eq. 2 and 3, one object after the other."""
    model, batch = tiny_ham_learning(), batch_of(post(3, 1), post(2, 2))
    graph = graph_of(model, batch)
    fine, coarse = feature_maps(model.vision_model, batch["pixel_values"])
    assert (fine.shape[-1], coarse.shape[-1]) == (64 // 16, 64 // 32)
    boxes = in_fractions(batch["object_boxes"], batch["image_sizes"])
    for image, count in enumerate((3, 2)):
        expected = [model.image_projection(coarse[image].mean((1, 2)))]
        for i in range(count):
            pooled = pool_regions(fine[image : image + 1], boxes[image, i].view(1, 1, 4))[0, 0]
            label = model.label_embedding.weight[batch["object_labels"][image, i]]
            expected.append(model.object_projection(pooled) + model.label_projection(label))
        torch.testing.assert_close(graph.nodes[image, : count + 1], torch.stack(expected), **CLOSE)
    assert graph.mask.tolist() == [[True] * 4, [True, True, True, False]]
    assert model.label_projection.bias is None


def test_relations_are_those_of_the_boxes_in_pixels():
    posts = [post(9, 1), post(4, 2)]
    graph = graph_of(tiny_ham_learning(), batch_of(*posts))
    for image, example in enumerate(posts):
        boxes = torch.tensor([[item["box"] for item in example["knowledge"]["objects"]]])
        expected = relation_graph(boxes, torch.ones(boxes.shape[:2]), torch.tensor([SIZE]))[0]
        assert torch.equal(graph.relations[image, : len(expected), : len(expected)], expected)
        assert not graph.relations[image, len(expected) :].any()


def test_places_are_centre_height_and_width():
    (places,) = node_places(torch.tensor([[[0.0, 0.5, 0.5, 0.75], [0.2, 0.0, 1.0, 1.0]]]))
    expected = [[0.5, 0.5, 1.0, 1.0], [0.25, 0.625, 0.25, 0.5], [0.6, 0.5, 1.0, 0.8]]
    torch.testing.assert_close(places, torch.tensor(expected))


def test_the_spatial_view_starts_with_the_place_of_each_node():
    """`[x, y, h, w, v]`."""
    model, batch = tiny_ham_learning(), batch_of(post(3, 1))
    graph, read = graph_of(model, batch), []
    boxes = in_fractions(batch["object_boxes"], batch["image_sizes"])
    view = model.image_views["spatial"]
    view.layers[0].register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    assert view(graph).shape == (1, 4, 32 + 4)
    assert torch.equal(read[0], torch.cat([node_places(boxes), graph.nodes], dim=-1))


def test_the_semantic_view_is_a_vit_that_knows_no_place_and_the_spatial_view_knows_it():
    model, batch = tiny_ham_learning(), batch_of(post(3, 1))
    graph = graph_of(model, batch)
    semantic, spatial = model.image_views.values()
    assert isinstance(semantic, SemanticView)
    assert isinstance(spatial, SpatialView)
    expected = graph.nodes
    for layer in semantic.layers:
        assert layer.is_prenorm
        expected = layer(expected, graph.mask)
    assert torch.equal(semantic(graph), semantic.norm(expected))
    before = semantic(graph), spatial(graph)
    graph.places, graph.relations = graph.places.flip(1), torch.zeros_like(graph.relations)
    assert torch.equal(semantic(graph), before[0])
    assert not torch.allclose(spatial(graph), before[1])


# ------------------------------------------------------------------------------------------------------- relevance


def test_relevance_is_the_printed_formula():
    """Eq. 8 and 9, one pair after the other."""
    torch.manual_seed(0)
    relevance, sentence, image = Relevance(6, 10), torch.randn(4, 6), torch.randn(4, 10)
    expected = []
    inner, of_text, of_image = relevance.affinity / 60**0.5, relevance.text / 6**0.5, relevance.image / 10**0.5
    for h, v in zip(sentence, image, strict=True):
        affinity = torch.tanh(h @ inner @ v)
        expected.append(torch.tanh(of_text @ h + of_image @ v * affinity))
    torch.testing.assert_close(relevance(sentence, image), torch.stack(expected), rtol=0, atol=1e-6)


def test_relevance_starts_with_a_gradient():
    torch.manual_seed(0)
    relevance = Relevance(256, 260)
    scores = relevance(torch.randn(64, 256), torch.randn(64, 260))
    assert 0.2 < scores.abs().mean() < 0.9, "a tanh at its ends learns nothing"


def test_relevance_is_not_saturated_by_its_first_steps():
    """Adam moves every parameter by the learning rate, all of them in the direction that one batch asks for."""
    torch.manual_seed(0)
    relevance, sentence, image = Relevance(256, 260), torch.randn(64, 256), torch.randn(64, 260)
    optimizer = torch.optim.Adam(relevance.parameters(), lr=3e-4)
    for _ in range(20):
        optimizer.zero_grad()
        (-relevance(sentence, image)).mean().backward()
        optimizer.step()
    assert relevance(sentence, image).abs().mean() < 0.95, "with the matrices as parameters it is 1.0 here"


@pytest.mark.parametrize("view", ["semantic", "spatial"])
@pytest.mark.parametrize("has_relevance", [True, False])
def test_local_global_features_join_each_object_with_the_image(view, has_relevance):
    """Eq. 10; without relevance measuring M = 1."""
    model = tiny_ham_learning(has_relevance=has_relevance)
    module = model.image_views[view]
    nodes, sentence = torch.randn(2, 4, 32 + 4 * (view == "spatial")), torch.randn(2, 32)
    seen, score = module.relate(nodes, sentence)
    weight = module.relevance(sentence, nodes[:, 0]) if has_relevance else torch.ones(2)
    assert (score is None) != has_relevance
    for text in range(2):
        for i in range(3):
            joined = torch.cat([weight[text] * nodes[text, 0], nodes[text, 1 + i]])
            torch.testing.assert_close(seen[text, i], module.local_global(joined), **CLOSE)


def test_relevance_is_told_for_each_view_and_image():
    model = tiny_ham_learning()
    output = model(**batch_of(*mixed_posts()))
    assert output.relevance.shape == (5, 2)
    assert (output.relevance[[0, 2, 3, 4]].abs() < 1).all()
    assert output.relevance[[0, 2, 3, 4]].all()
    assert not output.relevance[1].any(), "no image"
    assert model(**batch_of(post(None))).relevance is None
    assert model.train()(**batch_of(*mixed_posts())).relevance is None
    assert tiny_ham_learning(has_relevance=False)(**batch_of(post(1))).relevance is None


# ----------------------------------------------------------------------------------------------- text and image


def test_the_gate_is_the_printed_formula():
    """Eq. 13 and 14."""
    torch.manual_seed(0)
    gate, semantic, spatial = FusionGate(6), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
    matrices = gate.semantic.weight, gate.spatial.weight, gate.output.weight
    assert len(list(gate.parameters())) == len(matrices), "no bias"
    first, second, last = (weight.T for weight in matrices)
    share = torch.sigmoid(semantic @ first + spatial @ second) @ last
    expected = share * semantic + (1 - share) * spatial
    torch.testing.assert_close(gate(semantic, spatial), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_iterations", [1, 2, 3])
def test_text_and_image_read_what_the_iteration_before_left(num_iterations):
    """Eq. 15 and the text below it."""
    torch.manual_seed(0)
    module = InterModality(tiny_ham_learning_config(num_iterations=num_iterations)).eval()
    text, first, second = torch.randn(2, 5, 32), torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    is_word, can_see = torch.tensor([[1, 1, 1, 1, 0], [1] * 5]).bool(), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    result = module(text, [first, second], is_word, can_see)
    in_turn, early, late = text, first, second
    for left in reversed(range(num_iterations)):
        before, text = text, module.text_reads(text, can_see, module.gate(first, second))
        in_turn = module.text_reads(in_turn, can_see, module.gate(early, late))
        if left:
            first, second = (
                read(v, is_word, before) for read, v in zip(module.views_read, (first, second), strict=True)
            )
            early, late = (read(v, is_word, in_turn) for read, v in zip(module.views_read, (early, late), strict=True))
    assert len(module.views_read) == (2 if num_iterations > 1 else 0), "nobody reads what the last iteration leaves"
    torch.testing.assert_close(result, text, **CLOSE)
    assert torch.allclose(result, in_turn, atol=1e-3) == (num_iterations == 1), "one after the other is another model"


def test_the_forward_runs_the_equations_in_their_order():
    model, example = tiny_ham_learning(num_text_layers=2), post(3, 1)
    batch = batch_of(example)
    states = model.text_model(batch["input_ids"]).last_hidden_state[0]
    places = [(batch["word_index"][0] == word).nonzero().flatten() for word in range(len(WORDS))]
    assert max(map(len, places)) > 1, "a word of several sub-words"
    words = torch.stack([states[0], *(states[place].sum(0) for place in places)]).unsqueeze(0)  # Eq. 1, with [CLS]
    for layer in model.text_layers:
        words = layer(words, torch.ones(words.shape[:2]))
    graph, seen, scores = graph_of(model, batch), [], []
    for view in model.image_views.values():  # Eq. 4 to 7
        nodes = view(graph)
        scores.append(view.relevance(words[:, 0], nodes[:, 0]))  # Eq. 8 and 9
        image = (scores[-1] * nodes[:, 0]).unsqueeze(1).expand_as(nodes[:, 1:])
        seen.append(view.local_global(torch.cat([image, nodes[:, 1:]], dim=-1)))  # Eq. 10 and 11
    text = model.transformation(words[:, 1:])  # Eq. 12
    text = model.interaction(text, seen, torch.ones(1, len(WORDS)).bool(), torch.ones(1, 3).bool())  # Eq. 13 to 15
    output = model(**batch)
    torch.testing.assert_close(output.logits, model.classifier(text), **CLOSE)
    torch.testing.assert_close(output.relevance, torch.stack(scores, dim=-1), **CLOSE)


def test_the_loss_is_that_of_the_tags():
    """Eq. 16 and 17: the mean over the texts of what the CRF says about each."""
    model, processor = tiny_ham_learning(), tiny_ham_learning_processor()
    examples = with_images(tiny_examples())
    together = model(**processor(examples, label2id=labels_of())).loss
    alone = [model(**processor([example], label2id=labels_of())).loss for example in examples]
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-5, atol=0)


# --------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("views", [["semantic"], ["spatial"], ["semantic", "spatial"]])
@pytest.mark.parametrize("max_objects", [15, 50])
def test_a_batch_gives_what_its_texts_give_alone(views, max_objects):
    """Padding of texts, objects and images does not matter."""
    model, posts = tiny_ham_learning(views=views), mixed_posts()
    batch = batch_of(*posts, max_objects=max_objects)
    assert batch["object_mask"].sum(1).tolist() == [3, 1, max_objects, 1]
    assert batch["image_index"].tolist() == [0, -1, 1, 2, 3]
    together = model(**batch)
    for row, example in enumerate(posts):
        alone = model(**batch_of(example, max_objects=max_objects))
        count = len(example["tokens"])
        torch.testing.assert_close(together.logits[row, :count], alone.logits[0], **CLOSE)
        assert torch.equal(together.tags[row, :count], alone.tags[0])
        assert (together.tags[row, count:] == -1).all()


def test_a_text_without_an_image_is_read_by_itself():
    model, bare = tiny_ham_learning(), post(None)
    together = model(**batch_of(post(50, 3), bare, max_objects=50)).logits[1]
    alone = model(**batch_of(bare))
    torch.testing.assert_close(together, alone.logits[0], **CLOSE)
    words = model.text_model(**{k: v for k, v in batch_of(bare).items() if k in ("input_ids", "attention_mask")})
    assert torch.isfinite(words.last_hidden_state).all()
    assert not torch.allclose(logits_of(model, post(1)), alone.logits, atol=1e-2), "an image is read"


def test_an_image_without_objects_has_one_itself():
    model = tiny_ham_learning()
    nothing = [post(0, 2), {**post(0, 2), "knowledge": None}, {**post(0, 2), "knowledge": {"objects": None}}]
    for example in nothing:
        graph = graph_of(model, batch_of(example))
        assert graph.relations.tolist() == [[[0, 1], [2, 0]]], "the image is one node, and one object inside"
        torch.testing.assert_close(graph.places[0, 1], graph.places[0, 0])
    itself = {**post(0, 2), "knowledge": {"objects": [detected("unicorn", [0, 0, *SIZE], None)]}}
    unknown = batch_of(itself)
    whole = {**unknown, "object_labels": torch.ones_like(unknown["object_labels"])}
    torch.testing.assert_close(logits_of(model, nothing[0]), model(**whole).logits, **CLOSE)
    assert not torch.allclose(logits_of(model, itself), model(**whole).logits, atol=1e-3), "a class of its own"


def test_objects_have_no_order():
    model, example = tiny_ham_learning(), post(9, 1)
    expected = model(**batch_of(example))
    for shift in range(1, 9, 3):
        turned = example["knowledge"]["objects"][shift:] + example["knowledge"]["objects"][:shift]
        output = model(**batch_of({**example, "knowledge": {"objects": turned}}))
        torch.testing.assert_close(output.logits, expected.logits, **CLOSE)
        assert torch.equal(output.tags, expected.tags)


@pytest.mark.parametrize("change", ["label", "box", "count", "image"])
def test_what_an_image_holds_is_read(change):
    example = post(3, 1)
    first, *rest = example["knowledge"]["objects"]
    other = {
        "label": {**example, "knowledge": {"objects": [{**first, "label": "tower"}, *rest]}},
        "box": {**example, "knowledge": {"objects": [{**first, "box": [0, 0, 2, 3]}, *rest]}},
        "count": {**example, "knowledge": {"objects": rest}},
        "image": {**example, "image": noisy_image(99, SIZE)},
    }[change]
    model = tiny_ham_learning()
    assert (logits_of(model, example) - logits_of(model, other)).abs().max() > 1e-3


def test_a_text_in_windows_sees_its_image_in_each():
    model, processor = tiny_ham_learning(), tiny_ham_learning_processor(max_length=40)
    example = post(3, 1, words=WORDS * 8)
    rows = processor.rows([example])
    assert len(rows) > 1
    batch = processor.pad(rows)
    assert batch["image_index"].tolist() == [0] * len(rows)
    output = model(**batch)
    assert len(output.relevance.unique(dim=0)) > 1, "each window is a text, with a relevance of its own"


# ------------------------------------------------------------------------------------------------ once for each image


def test_encoded_images_give_what_pixels_give():
    model, processor = tiny_ham_learning(), tiny_ham_learning_processor()
    rows = processor.rows(mixed_posts())
    shared = processor.pad(model.encode_shared(rows, processor, 2, EncodingCache()))
    assert "pixel_values" not in shared
    assert shared["image_features"].shape == (4, 16)
    assert shared["object_features"].shape == (4, 15, 16)
    one, other = model(**processor.pad(rows)), model(**shared)
    for name in ("logits", "tag_probabilities", "relevance"):
        torch.testing.assert_close(one[name], other[name], **CLOSE)
    assert "image_features" not in rows[0], "the rows stay as they are"


def test_an_image_is_encoded_once_whatever_the_batches():
    model, processor = tiny_ham_learning(), tiny_ham_learning_processor()
    seen, cache = count_images(model), EncodingCache()
    posts = [post(2, seed % 2, words=["Kerr"] * (seed + 1)) for seed in range(6)]
    for _ in range(2):
        run_rows(model, processor, processor.rows(posts), 2, cache)
    assert sum(seen) == 2
    assert cache.num_bytes == 2 * 4 * (16 + 2 * 16), "the mean of the image, and of two objects"


@pytest.mark.parametrize("is_training", [False, True])
def test_texts_of_one_image_share_it_in_a_batch(is_training):
    model = tiny_ham_learning(is_vision_frozen=False).train(is_training)
    seen = count_images(model)
    model(**batch_of(*(post(2, seed % 3, words=["Kerr"] * (seed + 1)) for seed in range(7))))
    assert seen == [3]


def test_one_image_with_other_objects_is_another():
    model, processor = tiny_ham_learning(), tiny_ham_learning_processor()
    posts = [{**post(count, 1), "image": noisy_image(0, SIZE)} for count in (2, 3)]
    rows = model.encode_shared(processor.rows(posts), processor, 2, EncodingCache())
    assert [len(row["object_features"]) for row in rows] == [2, 3]
    batch = processor.pad(rows)
    assert batch["image_index"].tolist() == [0, 1]
    for row, example in enumerate(posts):
        torch.testing.assert_close(model(**batch).logits[row], logits_of(model, example)[0], **CLOSE)


def with_features(example: dict[str, Any], width: int) -> dict[str, Any]:
    """Give each object what a detector says of it."""
    found = example["knowledge"]["objects"]
    told = [{**item, "feature": [0.1 * number + i for i in range(width)]} for number, item in enumerate(found)]
    return {**example, "knowledge": {"objects": told}}


def test_features_of_a_detector_stand_in_the_place_of_pooled_ones():
    model = tiny_ham_learning(object_feature_size=5)
    processor = tiny_ham_learning_processor(object_feature_size=5)
    assert model.object_projection.in_features == 5
    posts = [with_features(post(3, 1), 5), post(None), post(0, 2), with_features(post(2, 3), 5)]
    rows = processor.rows(posts)
    batch = processor.pad(rows)
    graph = graph_of(model, batch)
    given = torch.tensor(posts[0]["knowledge"]["objects"][2]["feature"])
    label = model.label_embedding.weight[batch["object_labels"][0, 2]]
    expected = model.object_projection(given) + model.label_projection(label)
    torch.testing.assert_close(graph.nodes[0, 3], expected, **CLOSE)
    shared = processor.pad(model.encode_shared(rows, processor, 2, EncodingCache()))
    torch.testing.assert_close(model(**shared).logits, model(**batch).logits, **CLOSE)
    changed = {**posts[0], "knowledge": {"objects": [dict(o) for o in posts[0]["knowledge"]["objects"]]}}
    changed["knowledge"]["objects"][0]["feature"] = [3.0] * 5
    one, other = (model(**processor([example])).logits for example in (posts[0], changed))
    assert not torch.allclose(one, other, atol=1e-2)


# ------------------------------------------------------------------------------------------------- image encoder


def test_a_frozen_image_encoder_learns_nothing():
    model = tiny_ham_learning().train()
    assert not model.vision_model.training
    before = {name: value.clone() for name, value in model.vision_model.state_dict().items()}
    batch = tiny_ham_learning_processor()(with_images(tiny_examples()), label2id=labels_of())
    model(**batch).loss.backward()
    assert all(parameter.grad is None for parameter in model.vision_model.parameters())
    assert not any(parameter.requires_grad for parameter in model.vision_model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.vision_model.state_dict().items())
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith("vision_model"))


def test_a_loaded_image_encoder_is_as_frozen(tmp_path):
    tiny_ham_learning().save_pretrained(tmp_path)
    model = HamLearningForTokenClassification.from_pretrained(tmp_path).train()
    assert not any(parameter.requires_grad for parameter in model.vision_model.parameters())
    assert not model.vision_model.training


def test_an_image_encoder_that_is_not_frozen_learns():
    model = tiny_ham_learning(is_vision_frozen=False).train()
    assert model.vision_model.training
    batch = tiny_ham_learning_processor()(with_images(tiny_examples()), label2id=labels_of())
    model(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in model.vision_model.parameters())


# ------------------------------------------------------------------------------------------------ ablations, variants


def test_the_text_variant_has_no_image_encoder():
    model = tiny_ham_learning(modality="text")
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert parts == {"text_model", "text_layers", "transformation", "classifier", "crf"}
    assert model.input_modalities == ("text",)
    seeing, blind = post(3, 1), post(None)
    assert torch.equal(logits_of(model, seeing), logits_of(model, blind)), "an image changes nothing"
    rows = tiny_ham_learning_processor().rows([seeing])
    assert model.encode_shared(rows, tiny_ham_learning_processor(), 2, EncodingCache()) is rows


@pytest.mark.parametrize(("view", "width"), [("semantic", 32), ("spatial", 36)])
def test_one_view_has_no_gate(view, width):
    """The rows "w/o RGCN" and "w/o ViT" of Table 2."""
    model = tiny_ham_learning(views=[view])
    assert list(model.image_views) == [view]
    assert model.interaction.gate is None
    assert len(model.interaction.views_read) == 1
    assert model.image_views[view].local_global.in_features == 2 * width
    output = model(**batch_of(post(3, 1)))
    assert output.relevance.shape == (1, 1)


def test_views_have_one_order():
    one, other = tiny_ham_learning(views=["spatial", "semantic"]), tiny_ham_learning()
    assert one.config.views == ["semantic", "spatial"]
    assert torch.equal(logits_of(one, post(3, 1)), logits_of(other, post(3, 1)))


@pytest.mark.parametrize("option", ["num_iterations", "has_relevance", "num_semantic_layers", "num_spatial_layers"])
def test_switches_change_what_is_read(option):
    one, other = tiny_ham_learning(), tiny_ham_learning()
    other.load_state_dict(one.state_dict())
    if option == "num_iterations":
        other.interaction.num_iterations = 1
    elif option == "has_relevance":
        for view in other.image_views.values():
            view.relevance = None
    else:
        view = other.image_views[option.split("_")[1]]
        view.layers = view.layers[:1]
    assert not torch.allclose(logits_of(one, post(3, 1)), logits_of(other, post(3, 1)), atol=1e-3)


def test_no_layers_are_a_model_too():
    model = tiny_ham_learning(num_text_layers=0, num_semantic_layers=0, num_spatial_layers=0, num_iterations=1)
    assert torch.isfinite(logits_of(model, *mixed_posts())).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_reads_images(dtype):
    model = tiny_ham_learning().to(dtype)
    assert torch.isfinite(logits_of(model, *mixed_posts())).all()


def test_autocast_trains():
    model = tiny_ham_learning(is_vision_frozen=False).train()
    batch = tiny_ham_learning_processor()(with_images(tiny_examples()), label2id=labels_of())
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["label_embedding", "gate", "relevance"])
def test_new_layers_start_wide_enough(name):
    """transformers would draw all weights with a deviation of 0.02."""
    torch.manual_seed(0)
    model = HamLearningForTokenClassification(tiny_ham_learning_config())
    weight = {
        "label_embedding": lambda: model.label_projection.weight,
        "gate": lambda: model.interaction.gate.semantic.weight,
        "relevance": lambda: model.image_views["semantic"].relevance.text,
    }[name]()
    assert weight.std() > 0.1


# --------------------------------------------------------------------------------------------------- use, and errors


def test_the_pipeline_reads_an_image():
    pipe = pipeline("multimodal-ner", model=tiny_ham_learning(), processor=tiny_ham_learning_processor())
    found = pipe({"text": "Steve Kerr lands in Oakland with Anna", "image": noisy_image(0, (30, 20))})
    assert found
    assert all(entity["boxes"] == [] for entity in found), "it gives no boxes"


def test_entities_tell_which_objects_were_read():
    example = {**post(3, 1), "tokens": ["Steve", "Kerr", "coaches", "the", "Warriors", "in", "Oakland", "."]}
    (found,) = recognize_entities(tiny_ham_learning(), tiny_ham_learning_processor(max_objects=2), [example])
    assert found["entities"]
    for entity in found["entities"]:
        assert entity["shown"] == {"objects": example["knowledge"]["objects"][:2]}


def test_backbones_are_read_from_folders(tmp_path):
    tiny_encoder_folder(tmp_path / "text")
    build = HamLearningForTokenClassification.from_backbones
    fields = {"id2label": dict(enumerate(bio_labels(TYPES))), "num_attention_heads": 2, "image_size": 64}
    model = build(str(tmp_path / "text"), tiny_resnet_config(), **fields)
    assert model.config.vision_config.out_indices == [3, 4]
    text = build(str(tmp_path / "text"), modality="text", **fields)
    assert torch.equal(text.text_model.embeddings.word_embeddings.weight, model.get_input_embeddings().weight)
    with pytest.raises(ValueError, match="`vision='resnet'` is not read with `modality='text'`; leave it out"):
        build(str(tmp_path / "text"), "resnet", modality="text", **fields)
    with pytest.raises(ValueError, match="`modality='text_image'` needs an image encoder; pass `vision=`"):
        build(str(tmp_path / "text"), **fields)
    with pytest.raises(TypeError, match="`HamLearningConfig` has no field 'view'; its own fields are .*views"):
        build(str(tmp_path / "text"), tiny_resnet_config(), view=["semantic"], **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"views": []}, r"`views=\[\]` looks at no image; choose from semantic, spatial, or `modality='text'`"),
        ({"views": ["global"]}, "Field 'views' with value .'global'. .*'semantic', 'spatial'"),
        ({"object_labels": ["cup", "person", "cup"]}, "`object_labels` holds 'cup' more than once; give each class"),
        ({"num_iterations": 0}, "`num_iterations` must be 1 or more, got 0"),
        ({"num_spatial_layers": -1}, "`num_spatial_layers` must be 0 or more, got -1"),
        ({"label_embedding_size": 0}, "`label_embedding_size` must be 1 or more, got 0"),
        ({"image_size": 100}, "`image_size=100` must be a multiple of 32"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=f"(?s){message}"):
        tiny_ham_learning_config(**fields)


def test_heads_share_the_width():
    message = "`num_attention_heads=3` cannot share the text encoder's width of 32; choose a divisor of it"
    with pytest.raises(ValueError, match=message):
        tiny_ham_learning(num_attention_heads=3)


def test_labels_are_bio_tags():
    config = tiny_ham_learning_config()
    config.id2label = {0: "PER", 1: "LOC"}
    with pytest.raises(ValueError, match="`id2label`: .*Use `dict\\(enumerate\\(bio_labels\\(types\\)\\)\\)`"):
        HamLearningForTokenClassification(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 32}, "The processor has `image_size=32` and the model 64; give both the same"),
        ({"object_feature_size": 5}, "The processor has `object_feature_size=5` and the model 0"),
        ({"object_labels": ["cup"]}, r"The processor has `object_labels=\['cup'\]` and the model \['person', 'ball'"),
    ],
)
def test_processor_and_model_read_images_alike(options, message):
    processor = tiny_ham_learning_processor(**options)
    with pytest.raises(ValueError, match=message):
        recognize_entities(tiny_ham_learning(), processor, [{"tokens": WORDS}])


@pytest.mark.parametrize("name", ["image_sizes", "object_boxes", "object_labels", "object_mask"])
def test_images_come_with_their_objects(name):
    batch = batch_of(post(2))
    del batch[name]
    with pytest.raises(ValueError, match="Images were given without their sizes or objects; pass all that `processor"):
        tiny_ham_learning()(**batch)


def test_an_index_comes_with_images():
    batch = batch_of(post(2))
    del batch["pixel_values"]
    with pytest.raises(ValueError, match="`image_index` was given without images; pass `pixel_values`, or"):
        tiny_ham_learning()(**batch)


def test_features_have_the_models_width():
    batch = {**batch_of(post(2)), "object_features": torch.zeros(1, 2, 5)}
    with pytest.raises(ValueError, match="`object_features` has 5 numbers for each, expected 16; encode"):
        tiny_ham_learning()(**batch)


@pytest.mark.parametrize("is_encoded", [False, True])
def test_images_without_an_index_are_refused(is_encoded):
    model, processor = tiny_ham_learning(), tiny_ham_learning_processor()
    rows = processor.rows([post(2)])
    batch = processor.pad(model.encode_shared(rows, processor, 1, EncodingCache()) if is_encoded else rows)
    del batch["image_index"]
    with pytest.raises(ValueError, match="Images were given without `image_index`; pass all that `processor.pad`"):
        model(**batch)
    assert torch.isfinite(tiny_ham_learning(modality="text")(**batch).logits).all(), "no image is read there"

"""MNER-QG's models: formulas of the paper, images computed once, ablations, and the grounding alone."""

import pytest
import torch
from tiny import (
    TYPES,
    noisy_image,
    tiny_examples,
    tiny_mner_qg,
    tiny_mner_qg_config,
    tiny_mner_qg_processor,
    tiny_resnet_config,
    with_images,
)
from torch.nn import functional as F

from hf_mner import MnerQgConfig, pipeline
from hf_mner.evaluation import evaluate_model
from hf_mner.layers.spans import span_targets
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import recognize_entities, run_rows

LABEL2ID = {name: index for index, name in enumerate(TYPES)}
GROUNDING = "MnerQgForVisualGrounding"


def labelled_batch(processor=None, examples=None):
    processor = processor or tiny_mner_qg_processor()
    return processor(examples or with_images(tiny_examples()), "recognition", LABEL2ID)


def count_images(model):
    """Count how many images the image encoder sees."""
    seen = []
    model.vision_model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


# ------------------------------------------------------------------------------------------------------- the network


def test_match_scores_are_those_of_the_printed_layer():
    model = tiny_mner_qg()
    start, end = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    pairs = torch.cat([start.unsqueeze(2).expand(-1, -1, 3, -1), end.unsqueeze(1).expand(-1, 3, -1, -1)], dim=-1)
    expected = model.match_classifier(pairs).squeeze(-1)  # Eq. 5
    assert torch.allclose(model.match(start, end), expected, atol=1e-5)


def test_one_key_makes_the_attention_of_equation_2_its_value():
    layer = tiny_mner_qg().start_existence
    words, existence = torch.randn(2, 5, 32), torch.randn(2, 32)
    queries, keys = words @ torch.randn(32, 32), existence @ torch.randn(32, 32)  # any Q_s and K_g
    weights = (queries @ keys.unsqueeze(-1) / 32**0.5).softmax(-1)  # b n 1
    expected = layer.norm(words + weights * layer.value(existence).unsqueeze(1))
    assert torch.allclose(layer(words, existence), expected, atol=1e-6)


def test_words_read_three_scales_and_the_mean_is_taken():
    model = tiny_mner_qg()
    words = torch.randn(8, 3, 32)  # two texts of four queries
    maps = [torch.randn(2, 32, side, side) for side in (8, 4, 2)]
    read = model.read_image(words, maps, torch.tensor([1, -1]))
    for query in range(4):
        parts = [
            attend(words[query : query + 1], states[1:].flatten(2).transpose(1, 2))
            for attend, states in zip(model.image_attention, maps, strict=True)
        ]
        assert torch.allclose(read[query, :, :32], torch.stack(parts).mean(0)[0], atol=1e-5)
    assert torch.equal(read[:, :, 32:], words)
    assert not read[4:, :, :32].any(), "no image, nothing read"


def test_the_losses_are_weighed_as_printed():
    batch = labelled_batch()
    terms = {}
    for name, weights in {"ed": (1, 0), "esp": (0, 1), "both": (1, 2)}.items():
        model = tiny_mner_qg(existence_weight=weights[0], span_weight=weights[1], grounding_weight=0)
        terms[name] = model(**batch).loss.item()
    assert terms["both"] == pytest.approx(terms["ed"] + 2 * terms["esp"], rel=1e-5)


def test_existence_and_start_losses_are_cross_entropies():
    model, batch = tiny_mner_qg(existence_weight=1, span_weight=0, grounding_weight=0), labelled_batch()
    output = model(**batch)
    target = span_targets(batch["labels"], 4).exists.float()
    expected = F.binary_cross_entropy_with_logits(output.existence_logits, target)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_span_loss_is_start_end_and_match():
    """Worked out from the scores: cross-entropies over real words, and over pairs of gold starts and ends."""
    model, batch = tiny_mner_qg(existence_weight=0, span_weight=1, grounding_weight=0), labelled_batch()
    output = model(**batch, return_match_logits=True)
    targets, real = span_targets(batch["labels"], 4), batch["labels"] != -100
    start, end = output.logits.unbind(-1)  # b n q
    expected = F.binary_cross_entropy_with_logits(start[real], targets.start[real].float())
    expected += F.binary_cross_entropy_with_logits(end[real], targets.end[real].float())
    errors = []
    for text, first, last, kind in torch.ones_like(output.match_logits).nonzero().tolist():
        if targets.start[text, first, kind] and targets.end[text, last, kind] and first <= last:
            place = (text, first, last, kind)
            errors.append(F.binary_cross_entropy_with_logits(output.match_logits[place], targets.match[place].float()))
    assert len(errors) > targets.match.sum(), "a start and the end of another entity are a wrong pair"
    expected += torch.stack(errors).mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("balance", ["fixed", "dynamic"])
def test_the_joint_loss_adds_the_balanced_grounding(balance):
    batch = labelled_batch()
    alone, model, heavier = (tiny_mner_qg(balance=balance, grounding_weight=weight) for weight in (1, 1, 3))
    alone.balanced_grounding_loss = lambda text_loss, *_: 0 * text_loss
    text = alone(**batch).loss.item()
    added, tripled = (each(**batch).loss.item() - text for each in (model, heavier))
    assert added > 0
    assert tripled == pytest.approx(3 * added, rel=1e-3)
    if balance == "dynamic":
        assert added == pytest.approx(text, rel=1e-3), "both losses of one size"


def test_existence_reads_starts_and_ends():
    batch = labelled_batch()
    for name in ("start_labels", "end_labels"):
        model, changed = tiny_mner_qg(), tiny_mner_qg()
        torch.nn.init.normal_(getattr(changed, name).norm.weight)
        assert not torch.allclose(model(**batch).existence_logits, changed(**batch).existence_logits), name


def test_starts_are_dropped_out_in_training():
    model = tiny_mner_qg(classifier_dropout=0.5).train()
    seen = []
    model.start_classifier.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(**labelled_batch())
    assert 0.3 < (seen[0] == 0).float().mean() < 0.7


def test_two_types_in_two_places_are_told_apart():
    """The joint model learns which query belongs to which box."""
    torch.manual_seed(0)
    model, processor = tiny_mner_qg(classifier_dropout=0.0, balance="fixed"), tiny_mner_qg_processor()
    boxes = {"PER": [0.0, 0.0, 4.0, 8.0], "LOC": [4.0, 4.0, 8.0, 8.0]}
    entities = [{"start": i, "end": i + 1, "type": k, "boxes": [b]} for i, (k, b) in enumerate(boxes.items())]
    example = {"tokens": ["Kerr", "Oakland"], "entities": entities, "image": noisy_image(3), "image_size": [8, 8]}
    batch = processor([example], "recognition", LABEL2ID)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    (found,) = recognize_entities(model, processor, [example])
    answers = {item["type"]: item for item in found["query_boxes"]}
    for name, box in boxes.items():
        assert answers[name]["box"] == pytest.approx(box, abs=1)
        assert answers[name]["score"] > 0.5
    assert all(item["score"] < 0.3 for name, item in answers.items() if name not in boxes), "absent types"


def test_normalised_features_are_another_model():
    batch = tiny_mner_qg_processor()(with_images(tiny_examples()), "grounding", LABEL2ID)
    one, other = (tiny_mner_qg(GROUNDING, has_normalized_features=switch)(**batch).logits for switch in (False, True))
    assert not torch.allclose(one, other)


def test_a_text_without_labels_counts_for_no_task():
    batch = labelled_batch()
    model = tiny_mner_qg(balance="fixed")
    silent = {**batch, "labels": batch["labels"].clone()}
    silent["labels"][0] = -100
    examples = with_images(tiny_examples())[1:]
    assert model(**silent).loss.item() == pytest.approx(
        model(**labelled_batch(examples=examples)).loss.item(), rel=1e-3
    )


def test_boxes_are_not_rounded_to_half_precision():
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = tiny_mner_qg()(**labelled_batch())
    assert output.boxes.dtype == output.box_scores.dtype == torch.float32


def test_scores_do_not_depend_on_the_order_of_the_texts():
    model, processor = tiny_mner_qg(), tiny_mner_qg_processor()
    examples = with_images(tiny_examples())
    one, other = (model(**processor(part, "recognition")) for part in (examples, examples[::-1]))
    for name in ("tags", "boxes", "existence_logits"):
        width = min(one[name].shape[1], other[name].shape[1])
        assert torch.allclose(one[name][:, :width].float(), other[name].flip(0)[:, :width].float(), atol=1e-5), name


# ------------------------------------------------------------------------------------------------- once for each image


@pytest.mark.parametrize("is_training", [False, True])
def test_the_queries_of_all_types_share_one_encoding_of_the_image(is_training):
    model = tiny_mner_qg().train(is_training)
    seen = count_images(model)
    examples = [
        {"tokens": ["Kerr", str(number)], "image": noisy_image(number % 3), "entities": []} for number in range(7)
    ]
    model(**labelled_batch(examples=examples))
    assert seen == [3], "seven texts, four queries each, three images"


def test_an_image_is_encoded_once_whatever_the_batches():
    model, processor = tiny_mner_qg(), tiny_mner_qg_processor()
    seen, cache = count_images(model), EncodingCache()
    examples = [{"tokens": ["Kerr"] * (number + 1), "image": noisy_image(number % 2)} for number in range(6)]
    for _ in range(2):
        run_rows(model, processor, processor.rows(examples, "recognition"), 2, cache)
    assert sum(seen) == 2


@pytest.mark.parametrize("head", ["MnerQgForMultimodalNer", GROUNDING])
def test_encoded_images_give_what_pixels_give(head):
    model, processor = tiny_mner_qg(head), tiny_mner_qg_processor()
    stage = model.stages[0]
    rows = processor.rows(with_images(tiny_examples()), stage)
    shared = model.encode_shared(rows, processor, 2, EncodingCache())
    one, other = model(**processor.pad(rows)), model(**processor.pad(shared))
    assert "pixel_values" not in processor.pad(shared)
    for name, value in one.items():
        assert torch.allclose(value.float(), other[name].float(), atol=1e-5), name


# ------------------------------------------------------------------------------------------------ ablations, variants


def test_the_text_variant_has_no_image_encoder():
    model = tiny_mner_qg(modality="text")
    assert not hasattr(model, "vision_model")
    assert model.input_modalities == ("text",)
    batch = labelled_batch()
    output = model(**batch)
    assert output.boxes is None
    changed = labelled_batch(examples=[{**e, "image": None} for e in tiny_examples()])
    assert torch.equal(output.logits, model(**changed).logits), "an image changes nothing"


def test_without_grounding_loss_the_image_is_read_and_there_are_no_boxes():
    model = tiny_mner_qg(grounding_weight=0)
    assert not hasattr(model, "grounding")
    batch = labelled_batch()
    blind = {name: value for name, value in batch.items() if name not in ("pixel_values", "image_index")}
    assert model(**batch).boxes is None
    assert not torch.allclose(model(**batch).logits, model(**blind).logits)


def test_the_grounding_loss_reaches_words_and_image():
    model = tiny_mner_qg(existence_weight=0, span_weight=0, balance="fixed")
    model(**labelled_batch()).loss.backward()
    assert model.text_projection.weight.grad.abs().sum() > 0
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.vision_model.parameters())
    assert model.start_classifier.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("object_loss", ["bce", "cross_entropy"])
@pytest.mark.parametrize(
    "options", [{}, {"has_coordinates": True, "has_normalized_features": True}, {"has_feature_pyramid": True}]
)
def test_switches_of_the_grounding_work(object_loss, options):
    for head in ("MnerQgForMultimodalNer", GROUNDING):
        model = tiny_mner_qg(head, object_loss=object_loss, **options)
        stage = model.stages[0]
        processor = tiny_mner_qg_processor()
        batch = processor(with_images(tiny_examples()), stage, LABEL2ID)
        output = model(**batch)
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert ((output.box_scores >= 0) & (output.box_scores <= 1)).all()


def test_frozen_encoders_stay_as_they_are():
    model = tiny_mner_qg(GROUNDING, is_vision_frozen=True, is_text_frozen=True).train()
    assert not model.vision_model.training
    assert not model.text_model.training
    batch = tiny_mner_qg_processor()(with_images(tiny_examples()), "grounding", LABEL2ID)
    model(**batch).loss.backward()
    with_gradient = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert not {"vision_model", "text_model"} & with_gradient
    assert {"text_projection", "map_projections", "grounding", "query_pooling"} <= with_gradient


def test_grounding_alone_can_be_overfitted():
    model, processor = tiny_mner_qg(GROUNDING, classifier_dropout=0.0).train(), tiny_mner_qg_processor()
    examples = with_images(tiny_examples())
    batch = processor(examples, "grounding", LABEL2ID)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    scores = evaluate_model(model.eval(), processor, [e for e in examples if e["id"] in ("kerr", "paris")])
    assert scores["grounding"]["accu@0.5"] == 1
    assert scores["grounding"]["support"] == 2


def test_labels_without_a_box_give_the_grounding_no_loss():
    model = tiny_mner_qg(GROUNDING)
    batch = tiny_mner_qg_processor()(with_images(tiny_examples()), "grounding", LABEL2ID)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    assert model(**batch).loss == 0


# --------------------------------------------------------------------------------------------------- use, and errors


def test_the_pipeline_gives_entities_with_boxes():
    pipe = pipeline("multimodal-ner", model=tiny_mner_qg(), processor=tiny_mner_qg_processor())
    found = pipe({"text": "Steve Kerr lands in Oakland with Anna", "image": noisy_image(0, (30, 20))})
    assert found
    for entity in found:
        (box,) = entity["boxes"]
        assert 0 <= box["box"]["xmin"] < box["box"]["xmax"] <= 30
        assert 0 <= box["box"]["ymin"] < box["box"]["ymax"] <= 20
    assert all(entity["boxes"] == [] for entity in pipe("Steve Kerr lands in Oakland with Anna"))


def test_the_pipeline_grounds_a_phrase():
    pipe = pipeline("multimodal-ner", model=tiny_mner_qg(GROUNDING), processor=tiny_mner_qg_processor())
    (found,) = pipe({"text": "a tall tower", "image": noisy_image(0, (30, 20))})
    assert (found["word"], found["entity_group"], len(found["boxes"])) == ("a tall tower", "phrase", 1)


def test_grounding_is_scored_by_query_whatever_was_found():
    model, processor = tiny_mner_qg(), tiny_mner_qg_processor()
    examples = with_images(tiny_examples())
    scores = evaluate_model(model, processor, examples)
    assert scores["grounding"]["support"] == 3, "PER of kerr, LOC of paris, and PER of oscars, which has no image"
    assert "entities" in scores
    assert "grounded" in scores
    for options in ({"modality": "text"}, {"grounding_weight": 0}):
        assert "grounding" not in evaluate_model(tiny_mner_qg(**options), processor, examples), options
    assert evaluate_model(tiny_mner_qg(GROUNDING), processor, examples)["stages"] == {}, "it finds no spans"


def test_a_given_entity_keeps_its_words_when_it_is_grounded():
    model, processor = tiny_mner_qg(GROUNDING), tiny_mner_qg_processor()
    given = with_images(tiny_examples())
    found = recognize_entities(model, processor, given)
    for example, answer in zip(given, found, strict=True):
        assert [e["start"] for e in answer["entities"]] == [e["start"] for e in example["entities"]]
        has_boxes = [bool(entity["boxes"]) for entity in answer["entities"]]
        assert all(has_boxes) if example.get("image") else not any(has_boxes)


def test_what_does_not_fit_is_refused():
    model = tiny_mner_qg()
    odd = tiny_mner_qg_processor(types=TYPES[:3])([{"tokens": ["a"]}], "recognition")
    with pytest.raises(ValueError, match="3 inputs cannot be 4 queries for each text"):
        model(**odd)
    with pytest.raises(ValueError, match="needs an image encoder; pass `vision=`"):
        type(model)(MnerQgConfig(text_config=tiny_mner_qg_config().text_config))
    with pytest.raises(ValueError, match="grounds; give it `modality='text_image'`"):
        tiny_mner_qg(GROUNDING, modality="text")
    blind = tiny_mner_qg_processor()(with_images(tiny_examples()), "grounding")
    del blind["pixel_values"]
    with pytest.raises(ValueError, match="Grounding needs an image"):
        tiny_mner_qg(GROUNDING)(**blind)
    lost = {name: value for name, value in labelled_batch().items() if name != "image_index"}
    with pytest.raises(ValueError, match="Images were given without `image_index`"):
        model(**lost)
    with pytest.raises(ValueError, match="gives 1 feature maps, expected those of strides 8, 16, 32"):
        tiny_mner_qg(vision_config=tiny_resnet_config())
    larger = tiny_mner_qg_processor(image_size=96)
    with pytest.raises(ValueError, match="`image_size=96` and the model 64; give both the same"):
        recognize_entities(model, larger, with_images(tiny_examples()))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", 100, "must be a multiple of 32"),
        ("hidden_size", 30, "`hidden_size=30` cannot be cut into `num_attention_heads=8`"),
        ("anchors", [[1, 2]], "expected nine pairs"),
        ("anchors", [[0, 2]] * 9, "expected nine pairs"),
        ("span_weight", -1, "`span_weight` must be 0 or more"),
        ("classifier_dropout", 1.0, "must be in"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(field, value, message):
    with pytest.raises(Exception, match="validation") as caught:
        MnerQgConfig(**{field: value})
    assert message.split("`")[-1] in str(caught.value.__cause__ or caught.value)

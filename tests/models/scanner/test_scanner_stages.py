"""Both stages of SCANNER around their networks: windows, joined checkpoints, frozen layers, grounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import CLASSES, KINDS, tiny_encoder_folder, tiny_examples, tiny_processor, tiny_scanner, tiny_scanner_config
from transformers import AutoModel

from hf_mner.models.base.backbones import encoder_layers
from hf_mner.models.base.recognition import run_rows
from hf_mner.models.scanner.configuration_scanner import ScannerConfig
from hf_mner.models.scanner.modeling_scanner import (
    ScannerForEntityRecognition,
    ScannerForMultimodalNer,
    ScannerForSpanDetection,
)
from hf_mner.models.scanner.processing_scanner import decode_candidates

ID2LABEL = dict(enumerate(CLASSES))


# ---------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("classifier_dropout", 1.0, r"`classifier_dropout` must be in \[0, 1\), got 1.0"),
        ("classifier_dropout", -0.1, r"`classifier_dropout` must be in \[0, 1\), got -0.1"),
        ("grounding_weight", -1, "`grounding_weight` must be 0 or more .*got -1"),
        ("num_shared_layers", -2, "`num_shared_layers` must be None or 0 or more, got -2"),
        ("num_shared_layers", 1.5, "num_shared_layers.*1.5.*int"),
        ("grounding_weight", None, "grounding_weight"),
        ("classifier_dropout", "much", "classifier_dropout"),
    ],
)
def test_config_refuses(field, value, message):
    with pytest.raises(Exception, match=f"(?s){message}"):
        tiny_scanner_config(**{field: value})


def test_recognition_stage_has_the_encoder_of_stage_2_alone():
    config, other = tiny_scanner_config("bert"), tiny_scanner_config("roberta")
    joined = ScannerConfig(
        text_config=config.text_config, recognition_text_config=other.text_config, id2label=ID2LABEL
    )
    stage = joined.recognition_stage()
    assert stage.text_config.model_type == "roberta"
    assert stage.recognition_text_config is None
    assert stage.id2label == ID2LABEL
    assert joined.text_config.model_type == "bert", "the joined configuration stays as it was"
    assert config.recognition_stage().text_config.model_type == "bert"


def test_stages_may_have_different_encoders():
    detection = tiny_scanner("ScannerForSpanDetection", "bert")
    recognition = tiny_scanner("ScannerForEntityRecognition", "roberta")
    model = ScannerForMultimodalNer.from_stages(detection, recognition)
    assert [encoder.config.model_type for encoder in model.text_encoders()] == ["bert", "roberta"]


# --------------------------------------------------------------------------------------------------- pretrained parts


@pytest.mark.parametrize("head", ["ScannerForSpanDetection", "ScannerForEntityRecognition", "ScannerForMultimodalNer"])
@pytest.mark.parametrize("kind", KINDS)
def test_from_backbones_takes_the_pretrained_weights(kind, head, tmp_path):
    folder = tiny_encoder_folder(tmp_path, kind)
    source = AutoModel.from_pretrained(folder)
    vocab_size = len(tiny_processor(kind).tokenizer)
    assert vocab_size == source.config.vocab_size + 1, "with [obj]"
    classes = {
        "ScannerForSpanDetection": ScannerForSpanDetection,
        "ScannerForEntityRecognition": ScannerForEntityRecognition,
        "ScannerForMultimodalNer": ScannerForMultimodalNer,
    }
    model = classes[head].from_backbones(str(folder), vocab_size=vocab_size, id2label=ID2LABEL)
    assert model.config.num_labels == len(CLASSES)
    pretrained = source.state_dict()
    for encoder in model.text_encoders():
        assert encoder.config.vocab_size == vocab_size
        for name, value in encoder.state_dict().items():
            assert torch.equal(value[: len(pretrained[name])] if value.ndim else value, pretrained[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_layers_are_found(kind):
    assert len(encoder_layers(tiny_scanner("ScannerForSpanDetection", kind).text_model)) == 2


def test_encoder_with_unknown_layers_is_refused():
    with pytest.raises(ValueError, match="`Linear` keeps its layers under no known name.*num_shared_layers=None"):
        encoder_layers(torch.nn.Linear(2, 2))


# ------------------------------------------------------------------------------------------------------------ windows


def windowed_candidates(table: np.ndarray, detection_max_length: int, spoiled: int = 0) -> list[dict]:
    """Decode stage 1 as if a model gave each word its row of `table`; `spoiled` words at inner edges get noise."""
    processor = tiny_processor("bert", detection_max_length=detection_max_length)
    examples = [{"tokens": ["x"] * len(table)}]
    rows = processor.rows(examples, "detection")
    outputs = []
    for row in rows:
        _, first, end = row["origin"]
        logits = np.concatenate([table[first:end], np.full((3, 3), 99.0)])  # padding of the batch follows
        if first:
            logits[:spoiled] = [0.0, 0.0, 50.0]
        if end < len(table):
            logits[end - first - spoiled : end - first] = [0.0, 50.0, 0.0]
        outputs.append({"logits": logits})
    (found,) = processor.candidates(outputs, rows, examples)
    assert len(rows) > 1 or len(table) <= detection_max_length - 2
    return found


@pytest.mark.parametrize("length", [1, 30, 31, 38, 39, 200])
@pytest.mark.parametrize("detection_max_length", [20, 40])
def test_windows_give_what_the_whole_text_gives(length, detection_max_length):
    table = np.random.default_rng(length).normal(size=(length, 3)) * 3
    assert windowed_candidates(table, detection_max_length) == decode_candidates(table)


def test_words_at_inner_edges_are_read_from_the_window_that_sees_more():
    """Neighbouring windows share 16 words, so 7 bad words at each edge are never needed."""
    for seed in range(10):
        table = np.random.default_rng(seed).normal(size=(150, 3)) * 3
        assert windowed_candidates(table, 40, spoiled=7) == decode_candidates(table)


def test_entity_on_a_window_edge_stays_whole():
    for start in range(100):
        table = np.tile([5.0, 0.0, 0.0], (103, 1))
        table[start], table[start + 1 : start + 3] = [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]
        (span,) = windowed_candidates(table, 40)
        assert (span["start"], span["end"]) == (start, start + 3)


def test_candidate_score_is_the_mean_probability_of_its_words():
    table = np.log(np.array([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]))
    assert decode_candidates(table) == [{"start": 0, "end": 2, "score": pytest.approx(0.7)}]


def test_long_text_is_read_to_its_end():
    """A model that reads the whole text in one window proposes entities to the end; so does one with small windows."""
    model = tiny_scanner("ScannerForSpanDetection")
    tokens = [word for _ in range(8) for example in tiny_examples() for word in example["tokens"]]
    for length in (300, 64):
        processor = tiny_processor("bert", detection_max_length=length)
        rows = processor.rows([{"tokens": tokens}], "detection")
        (found,) = processor.candidates(run_rows(model, processor, rows, 4), rows, [{"tokens": tokens}])
        assert max(span["end"] for span in found) > len(tokens) - 40
        assert all(0 <= span["start"] < span["end"] <= len(tokens) for span in found)
        assert all(one["end"] <= other["start"] for one, other in zip(found, found[1:], strict=False))


# ------------------------------------------------------------------------------------------------------------- stages


def stage_outputs(model: torch.nn.Module, stage: str) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return dict(model(**tiny_processor()(tiny_examples(), stage)))


@pytest.mark.parametrize("shared", [None, 0, 1, 2])
def test_joined_model_gives_what_its_stages_give(shared, tmp_path):
    detection = tiny_scanner("ScannerForSpanDetection")
    recognition = ScannerForEntityRecognition.from_span_detection(
        detection, shared or 0, id2label=ID2LABEL, grounding_weight=1.0
    ).eval()
    with torch.no_grad():  # as training would: all that is not frozen moves
        for parameter in recognition.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        if shared is None:
            recognition.text_model.embeddings.word_embeddings.weight.add_(0.1)
    joined = ScannerForMultimodalNer.from_stages(detection, recognition, num_shared_layers=shared).eval()
    joined.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.config.num_shared_layers == shared
    assert loaded.config.grounding_weight == 1.0
    for model in (joined, loaded):
        for stage, alone in (("detection", detection), ("recognition", recognition)):
            for name, value in stage_outputs(alone, stage).items():
                assert torch.equal(stage_outputs(model, stage)[name], value), (stage, name)


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_shared_parameters_are_one_tensor_after_loading(kind, shared, tmp_path):
    detection = tiny_scanner("ScannerForSpanDetection", kind)
    recognition = ScannerForEntityRecognition.from_span_detection(detection, shared, id2label=ID2LABEL)
    joined = ScannerForMultimodalNer.from_stages(detection, recognition, num_shared_layers=shared)
    joined.save_pretrained(tmp_path)
    for model in (joined, AutoModel.from_pretrained(tmp_path)):
        one, other = (dict(encoder.named_parameters()) for encoder in model.text_encoders())
        for name in one:
            is_lower = name.startswith("embeddings.") or any(f"layer.{number}." in name for number in range(shared))
            assert (one[name] is other[name]) == is_lower, name


def test_sharing_makes_the_file_smaller(tmp_path):
    detection = tiny_scanner("ScannerForSpanDetection")
    recognition = ScannerForEntityRecognition.from_span_detection(detection, 2, id2label=ID2LABEL)
    sizes = []
    for shared in (None, 1, 2):
        joined = ScannerForMultimodalNer.from_stages(detection, recognition, num_shared_layers=shared)
        joined.save_pretrained(tmp_path / str(shared))
        sizes.append((tmp_path / str(shared) / "model.safetensors").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2] > 0.5 * sizes[0]


def test_layers_that_differ_cannot_be_shared():
    detection = tiny_scanner("ScannerForSpanDetection")
    recognition = tiny_scanner("ScannerForEntityRecognition", seed=5)
    with pytest.raises(ValueError, match="num_shared_layers=1.*embeddings.* differ; train stage 2 from stage 1"):
        ScannerForMultimodalNer.from_stages(detection, recognition, num_shared_layers=1)


def test_more_layers_than_there_are_cannot_be_shared():
    detection = tiny_scanner("ScannerForSpanDetection")
    with pytest.raises(ValueError, match="num_shared_layers=3.*the encoder has 2 layers; share fewer"):
        ScannerForEntityRecognition.from_span_detection(detection, 3, id2label=ID2LABEL)
    with pytest.raises(ValueError, match="num_shared_layers=3.*the encoder has 2 layers; share fewer"):
        ScannerForMultimodalNer.from_stages(
            detection, tiny_scanner("ScannerForEntityRecognition"), num_shared_layers=3
        )


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_from_span_detection_freezes_embeddings_and_lower_layers(kind, frozen):
    detection = tiny_scanner("ScannerForSpanDetection", kind)
    model = ScannerForEntityRecognition.from_span_detection(detection, frozen, id2label=ID2LABEL)
    prefixes = ("text_model.embeddings.", *(f"text_model.encoder.layer.{number}." for number in range(frozen)))
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith(prefixes)), name
    for name, value in model.text_model.state_dict().items():
        assert torch.equal(value, detection.text_model.state_dict()[name]), name
    assert model.config.id2label == ID2LABEL
    assert all(parameter.requires_grad for parameter in detection.parameters()), "stage 1 stays as it was"


@pytest.mark.parametrize("shared", [None, 1])
def test_both_stages_get_room_for_new_tokens(shared, tmp_path):
    detection = tiny_scanner("ScannerForSpanDetection")
    recognition = ScannerForEntityRecognition.from_span_detection(detection, 1, id2label=ID2LABEL)
    model = ScannerForMultimodalNer.from_stages(detection, recognition, num_shared_layers=shared)
    before = stage_outputs(model.eval(), "detection")["logits"]
    size = model.get_input_embeddings().num_embeddings + 3
    model.resize_token_embeddings(size)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert [encoder.get_input_embeddings().num_embeddings for encoder in loaded.text_encoders()] == [size, size]
    assert torch.equal(stage_outputs(loaded, "detection")["logits"], before)


@pytest.mark.parametrize("head", ["ScannerForSpanDetection", "ScannerForMultimodalNer"])
def test_class_names_follow_the_logits(head):
    model = tiny_scanner(head)
    stage = "detection" if head == "ScannerForSpanDetection" else "recognition"
    assert len(model.class_names) == stage_outputs(model, stage)["logits"].shape[-1]


def test_joined_forward_wants_one_stage():
    model, processor = tiny_scanner(), tiny_processor()
    words, prompts = processor(tiny_examples(), "detection"), processor(tiny_examples(), "recognition")
    with pytest.raises(ValueError, match="Pass either `first_subword_index` .*or `mask_token_index`"):
        model(words["input_ids"], words["attention_mask"])
    with pytest.raises(ValueError, match="Pass either `first_subword_index` .*or `mask_token_index`"):
        model(**prompts, first_subword_index=words["first_subword_index"])


# ---------------------------------------------------------------------------------------------------------- grounding


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_loss_is_equation_3(weight):
    model = tiny_scanner("ScannerForEntityRecognition", grounding_weight=weight)
    batch = tiny_processor()(tiny_examples(), "recognition", model.config.label2id)
    outputs = model(**batch)
    typing = torch.nn.functional.cross_entropy(outputs.logits, batch["labels"])
    assert outputs.grounding_loss > 0.1
    assert torch.allclose(outputs.loss, typing + weight * outputs.grounding_loss)


def test_prompts_without_objects_have_no_grounding_loss():
    model = tiny_scanner("ScannerForEntityRecognition", grounding_weight=1.0)
    outputs = model(**tiny_processor()([tiny_examples()[3]], "recognition", model.config.label2id))
    assert outputs.overlap_logits is None
    assert outputs.grounding_loss is None
    assert outputs.loss > 0


def grounded(overlap_logits: list[float], **kwargs) -> list[dict]:
    """The boxes of "Steve Kerr", whose prompt shows person, cup, ball; two columns of padding follow the scores."""
    processor = tiny_processor(**{"grounding_threshold": 0.5, **kwargs})
    examples = tiny_examples()[:1]
    rows = processor.rows(examples, "recognition")[:1]
    output = {"logits": np.array([9.0, 0, 0, 0, 0]), "overlap_logits": np.array([*overlap_logits, 99.0, 99.0])}
    (example,) = processor.post_process_entities([output], rows, examples, "recognition", ID2LABEL)
    (entity,) = example["entities"]
    return entity["boxes"]


PERSON, CUP, BALL = [0.0, 0.0, 4.0, 7.0], [1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 7.0, 7.0]


@pytest.mark.parametrize(("best", "box"), [(0, PERSON), (1, CUP), (2, BALL)])
def test_best_object_gives_its_box_in_pixels(best, box):
    logits = [0.5, 0.5, 0.5]
    logits[best] = 2.0
    assert grounded(logits) == [{"box": box, "score": pytest.approx(1 / (1 + np.exp(-2.0)))}]


def test_objects_of_the_detectors_order_give_their_own_box():
    assert grounded([0.0, 0.0, 3.0], sort_objects=False)[0]["box"] == CUP


@pytest.mark.parametrize(
    ("logits", "threshold", "count"),
    [
        ([-0.1, -1.0, -2.0], 0.5, 0),
        ([0.0, -1.0, -2.0], 0.5, 1),  # a score at the threshold reaches it
        ([-0.1, -1.0, -2.0], 0.4, 1),
        ([9.0, 9.0, 9.0], None, 0),
    ],
)
def test_box_needs_the_threshold(logits, threshold, count):
    assert len(grounded(logits, grounding_threshold=threshold)) == count


def test_overlap_scores_do_not_depend_on_other_objects_of_the_batch():
    model, processor = tiny_scanner("ScannerForEntityRecognition"), tiny_processor()
    rows = processor.rows(tiny_examples(), "recognition")
    outputs = run_rows(model, processor, rows, 32)
    (alone,) = run_rows(model, processor, rows[3:4], 1)
    assert len(rows[3]["object_token_index"]) == 2
    assert np.allclose(outputs[3]["overlap_logits"][:2], alone["overlap_logits"], atol=2e-5)


# ----------------------------------------------------------------------------------------------------------- decoding


def typed(logits: list[float], threshold: float = 0.0) -> list[dict]:
    processor, examples = tiny_processor(), tiny_examples()[3:4]
    rows = processor.rows(examples, "recognition")
    outputs = [{"logits": np.array(logits)} for _ in rows]
    (example,) = processor.post_process_entities(outputs, rows, examples, "recognition", ID2LABEL, threshold)
    return example["entities"]


def test_non_entities_are_left_out():
    assert typed([0.0, 0.0, 0.0, 0.0, 1.0]) == []
    assert [entity["type"] for entity in typed([0.0, 0.0, 1.0, 0.0, 0.9])] == ["ORG"] * 3


def test_threshold_leaves_out_lower_scores():
    logits = np.log([0.6, 0.1, 0.1, 0.1, 0.1]).tolist()
    assert len(typed(logits, 0.59)) == 3
    assert typed(logits, 0.61) == []
    assert typed(logits)[0]["score"] == pytest.approx(0.6)

"""MMAVK's network: Eq. 5-10 by hand, the four fusions, the prefix, what is encoded once, loading and training."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import (
    KINDS,
    SIZE,
    TYPES,
    tiny_encoder_config,
    tiny_encoder_folder,
    tiny_examples,
    tiny_image,
    tiny_mmavk,
    tiny_mmavk_config,
    tiny_mmavk_processor,
    tiny_processor,
    tiny_resnet_config,
)
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForTokenClassification,
    DebertaV2Config,
    DistilBertConfig,
    ViTConfig,
)
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

import hf_mner
from hf_mner import evaluate_model, recognize_entities
from hf_mner.data.labels import bio_labels
from hf_mner.layers.pooling import gather_tokens
from hf_mner.layers.prefix import Prefix, prefix_attention
from hf_mner.models.base.modeling_base import EncodingCache
from hf_mner.models.base.recognition import run_rows
from hf_mner.models.mmavk.configuration_mmavk import FUSIONS, MmavkConfig
from hf_mner.models.mmavk.modeling_mmavk import MmavkForTokenClassification

WITH_KNOWLEDGE = ("word_level", "concat", "prefix")
LABELS = {"id2label": dict(enumerate(bio_labels(TYPES)))}
COLORS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]
# Scores of the tiny models reach 40, where float32 has steps of 4e-6; sums in another order were up to 3e-5 apart
# (measured). Knowledge that is read moves them by more than 0.1.
CLOSE = 1e-4


def processor_of(fusion: str, kind: str = "bert", **kwargs: Any):
    images = ConvNextImageProcessorPil(size={"shortest_edge": 32})
    return tiny_mmavk_processor(kind, fusion=fusion, image_processor=images, **kwargs)


def post(similarity: float | None = None, color=COLORS[0], auxiliary: str | None = "The image shows a coach") -> dict:
    """One post that has what every fusion reads: an auxiliary text and an image."""
    return {
        "id": "kerr",
        "tokens": ["Steve", "Kerr", "coaches", "the", "Warriors"],
        "entities": [{"start": 0, "end": 2, "type": "PER"}],
        "image": color and tiny_image(color),
        "knowledge": {"auxiliary": auxiliary, "similarity": similarity},
    }


def bare(example: dict) -> dict:
    return {**example, "image": None, "knowledge": None}


def posts() -> list[dict]:
    """The tiny examples with images; two share the image and the auxiliary text, one has neither."""
    examples = tiny_examples()
    for number, example in enumerate(examples):
        example["image"] = tiny_image(COLORS[number % 3])
        if example["knowledge"]:
            example["knowledge"] = {"auxiliary": f"text number {number % 3}"}
    examples[2]["image"] = None
    return examples


@torch.no_grad()
def logits(model, fusion: str, examples: list[dict], kind: str = "bert", **kwargs: Any) -> torch.Tensor:
    return model(**processor_of(fusion, kind, **kwargs)(examples)).logits


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


# ------------------------------------------------------------------------------------------------------ the equations


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_word_level_fusion_is_equations_5_to_10(kind):
    model, processor = tiny_mmavk(kind=kind), processor_of("word_level", kind)
    examples = [e for e in tiny_examples() if (e["knowledge"] or {}).get("auxiliary")] + [post()]
    matrix = torch.cat([model.fusion.word.weight, model.fusion.knowledge.weight], dim=1)  # W: d 2d
    for row in processor.rows(examples):
        states = model.text_model(torch.tensor([row["input_ids"]])).last_hidden_state[0]
        before, after = processor.frame
        framed = torch.tensor([[*before, *row["knowledge_ids"], *after]])  # Eq. 6
        h_cls = model.text_model(framed).last_hidden_state[0, 0]  # Eq. 7
        h_aux = torch.tanh(model.knowledge_projection(h_cls))  # Eq. 8
        expected = []
        for position in row["first_subword_index"]:  # Eq. 5
            fused = matrix @ torch.cat([states[position], h_aux]) + model.fusion.word.bias  # Eq. 9
            expected.append(model.classifier(fused))
        assert apart(model(**processor.pad([row])).logits[0], torch.stack(expected)) < CLOSE


@pytest.mark.parametrize("fusion", ["concat", "none"])
@torch.no_grad()
def test_other_text_fusions_are_one_pass_of_the_encoder(fusion):
    model, batch = tiny_mmavk(fusion=fusion), processor_of(fusion)([post()])
    segments = {"token_type_ids": batch["token_type_ids"]} if fusion == "concat" else {}
    states = model.text_model(batch["input_ids"], batch["attention_mask"], **segments).last_hidden_state
    expected = model.classifier(gather_tokens(states, batch["first_subword_index"]))
    assert torch.equal(model(**batch).logits, expected)


def test_loss_is_the_mean_negative_log_likelihood():
    model, processor = tiny_mmavk(), processor_of("word_level")
    rows = processor.rows(tiny_examples(), label2id=model.config.label2id)
    single = [model(**processor.pad([row])).loss.item() for row in rows]
    together = model(**processor.pad(rows)).loss.item()
    assert together == pytest.approx(sum(single) / len(single), rel=1e-5)


def test_unlabelled_rows_do_not_count():
    model, processor = tiny_mmavk(), processor_of("word_level")
    rows = processor.rows(tiny_examples()[:2], label2id=model.config.label2id)
    alone = model(**processor.pad(rows[:1])).loss.item()
    rows[1]["labels"] = [-100] * len(rows[1]["labels"])
    assert model(**processor.pad(rows)).loss.item() == pytest.approx(alone, rel=1e-5)


# ---------------------------------------------------------------------------------------------------- the filter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", WITH_KNOWLEDGE)
def test_an_unlike_image_gives_what_the_text_alone_gives(fusion, kind):
    model = tiny_mmavk(kind=kind, fusion=fusion)
    alone = logits(model, fusion, [bare(post())], kind)
    assert apart(logits(model, fusion, [post(0.29)], kind), alone) < CLOSE
    mixed = logits(model, fusion, [post(0.29), post(0.5)], kind)
    assert apart(mixed[:1], alone) < CLOSE
    assert apart(mixed[1:], alone) > 0.1


@pytest.mark.parametrize("fusion", WITH_KNOWLEDGE)
@pytest.mark.parametrize("similarity", [None, 0.3, 1.0])
def test_knowledge_counts_from_the_threshold_on_and_where_similarity_is_unknown(fusion, similarity):
    model = tiny_mmavk(fusion=fusion)
    assert apart(logits(model, fusion, [post(similarity)]), logits(model, fusion, [bare(post())])) > 0.1
    assert apart(logits(model, fusion, [post(similarity)]), logits(model, fusion, [post(0.5)])) == 0


@pytest.mark.parametrize("fusion", WITH_KNOWLEDGE)
def test_a_threshold_of_minus_1_filters_nothing(fusion):
    model = tiny_mmavk(fusion=fusion, similarity_threshold=-1)
    assert apart(logits(model, fusion, [post(-1.0)]), logits(model, fusion, [post()])) == 0


@pytest.mark.parametrize("fusion", ["word_level", "concat"])
def test_examples_with_and_without_knowledge_share_a_batch(fusion):
    model = tiny_mmavk(fusion=fusion)
    for example, row in zip(posts(), logits(model, fusion, posts()), strict=True):
        alone = logits(model, fusion, [example])[0]
        assert apart(row[: len(alone)], alone) < CLOSE, example["id"]


def test_word_level_weight_scales_the_knowledge():
    model = tiny_mmavk(low_similarity_weight=0.5)
    batch = processor_of("word_level")([post(0.1)])
    seen: list[torch.Tensor] = []
    model.fusion.knowledge.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(**batch)
        model(**{**batch, "similarity": torch.tensor([0.3])})
    assert torch.equal(seen[0], 0.5 * seen[1])
    low, high, alone = (logits(model, "word_level", [e]) for e in (post(0.1), post(0.9), bare(post())))
    assert apart(low, (high + alone) / 2) < CLOSE, "the fusion is linear in h_aux"


@pytest.mark.parametrize("fusion", ["concat", "prefix"])
def test_fusions_that_cannot_weigh_refuse_a_half(fusion):
    with pytest.raises(Exception, match=rf"(?s)fusion='{fusion}'. cannot weigh .*0.5.; use 0 or 1"):
        tiny_mmavk_config(fusion=fusion, low_similarity_weight=0.5)
    model = tiny_mmavk(fusion=fusion, low_similarity_weight=1)
    assert apart(logits(model, fusion, [post(0.1)]), logits(model, fusion, [post(0.9)])) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"similarity_threshold": 35}, "is a cosine, from -1 .*got 35.*the paper uses 0.35"),
        ({"low_similarity_weight": -0.1}, r"must be in \[0, 1\] .*got -0.1"),
        ({"classifier_dropout": 1.0}, r"`classifier_dropout` must be in \[0, 1\), got 1.0"),
        ({"fusion": "gate"}, "fusion.*gate"),
        ({"vision_feature_layers": []}, r"`vision_feature_layers=\[\]` .*leave no prefix; give at least one layer"),
        ({"prefix_hidden_size": 0}, "`prefix_hidden_size=0` leave no prefix"),
    ],
)
def test_config_refuses(fields, message):
    with pytest.raises(Exception, match=f"(?s){message}"):
        MmavkConfig(**LABELS, **fields)


def test_text_alone_costs_nothing_extra():
    """`none` has the parameters of the encoder, the classifier and the CRF, and its rows nothing but the words."""
    model, processor = tiny_mmavk(fusion="none"), processor_of("none")
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"text_model", "classifier", "crf"}
    assert set(processor([post()])) == {"input_ids", "attention_mask", "first_subword_index", "similarity"}
    assert processor.rows([post()])[0]["knowledge_ids"] == ()
    calls = []
    model.text_model.register_forward_hook(lambda *_: calls.append(1))
    recognize_entities(model, processor, [post()])
    assert len(calls) == 1


# ------------------------------------------------------------------------------------------------------ the prefix


def prefix_model(**kwargs: Any):
    return tiny_mmavk(fusion="prefix", **kwargs)


def test_images_and_crops_change_the_scores():
    model, example = prefix_model(), post()
    assert apart(logits(model, "prefix", [example]), logits(model, "prefix", [post(color=COLORS[1])])) > 1e-3
    example["image"].paste((0, 0, 255), (0, 0, 4, 4))
    example["knowledge"]["objects"] = [{"label": "x", "score": 0.9, "box": [0.0, 0.0, 4.0, 4.0]}]
    assert apart(logits(model, "prefix", [example]), logits(model, "prefix", [example], max_regions=0)) > 1e-3


@torch.no_grad()
def test_prefix_reaches_every_layer(monkeypatch):
    model, batch = prefix_model(), processor_of("prefix")([post()])
    whole, build = model(**batch).logits, model.prefix.forward
    for layer in range(SIZE["num_hidden_layers"]):

        def without(*args, layer=layer):
            prefix = build(*args)
            prefix.keys[layer], prefix.values[layer] = 0, 0
            return prefix

        monkeypatch.setattr(model.prefix, "forward", without)
        assert apart(model(**batch).logits, whole) > 1e-3, layer


@torch.no_grad()
def test_prefix_attention_is_attention_over_prefix_and_words():
    torch.manual_seed(0)
    b, h, t, p, e = 2, 2, 5, 3, 4
    query, key, value = (torch.randn(b, h, t, e) for _ in range(3))
    prefix = Prefix(torch.randn(2, b, p, h * e), torch.randn(2, b, p, h * e), torch.tensor([[1, 1, 1], [1, 0, 0]]) > 0)
    words = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]) > 0
    module = torch.nn.Module()
    module.layer_idx = 1
    mask = words[:, None, None, :].expand(b, 1, t, t)
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    for given in (mask, additive):
        found, _ = prefix_attention(module, query, key, value, given, prefix=prefix, scaling=e**-0.5, dropout=0.0)
        for row in range(b):
            for head in range(h):
                part = slice(head * e, (head + 1) * e)
                keys = torch.cat([prefix.keys[1, row, prefix.mask[row], part], key[row, head, words[row]]])
                values = torch.cat([prefix.values[1, row, prefix.mask[row], part], value[row, head, words[row]]])
                expected = torch.softmax(query[row, head] @ keys.T * e**-0.5, dim=-1) @ values
                assert torch.allclose(found[row, :, head], expected, atol=1e-6)
    every, _ = prefix_attention(module, query, key, value, None, prefix=prefix, scaling=e**-0.5, dropout=0.0)
    full = torch.ones_like(mask)
    assert torch.equal(
        every, prefix_attention(module, query, key, value, full, prefix=prefix, scaling=e**-0.5, dropout=0.0)[0]
    )


@torch.no_grad()
def test_gates_mix_the_blocks():
    model = prefix_model()
    features, blocks = torch.randn(1, 2, 4, model.prefix.encoder[0].in_features), model.prefix.num_blocks
    prefix = model.prefix(features, torch.tensor([[1, 0]]), torch.tensor([0, -1, 0]), torch.tensor([1.0, 1.0, 0.0]))
    assert prefix.mask.tolist() == [[True] * 4 + [False] * 4, [False] * 8, [False] * 8]
    encoded = model.prefix.encoder(features[0, 0])  # p g2d
    for layer, gate in enumerate(model.prefix.gates):
        share = torch.softmax(torch.nn.functional.leaky_relu(gate(encoded.mean(0))), dim=-1)
        mixed = sum(share[block] * part for block, part in enumerate(encoded.chunk(blocks, dim=-1)))
        keys, values = mixed.chunk(2, dim=-1)
        assert torch.allclose(prefix.keys[layer, 0, :4], keys, atol=1e-5)
        assert torch.allclose(prefix.values[layer, 0, :4], values, atol=1e-5)


@pytest.mark.parametrize("is_reentrant", [None, False])
def test_gradient_checkpointing_keeps_the_prefix(is_reentrant):
    gradients = []
    for switch in (False, True):
        model = prefix_model(classifier_dropout=0.0)
        if switch:
            options = {} if is_reentrant is None else {"use_reentrant": is_reentrant}
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options or None)
        model.train()
        torch.manual_seed(1)
        model(**processor_of("prefix")([post()], label2id=model.config.label2id)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, value in gradients[0].items():
        assert torch.allclose(value, gradients[1][name], atol=1e-6), name
    assert gradients[1]["prefix.encoder.0.weight"].abs().max() > 1e-3


def test_eager_attention_does_not_lose_the_prefix(tmp_path):
    model = prefix_model()
    expected = logits(model, "prefix", [post()])
    model.set_attn_implementation("eager")
    assert apart(logits(model, "prefix", [post()]), expected) == 0
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    assert apart(logits(loaded, "prefix", [post()]), expected) == 0


@pytest.mark.parametrize(
    "config",
    [
        DebertaV2Config(vocab_size=50, **SIZE),
        AlbertConfig(vocab_size=50, embedding_size=16, **SIZE),
        DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    ],
    ids=lambda config: config.model_type,
)
def test_encoders_whose_attention_takes_no_prefix_are_refused(config):
    with pytest.raises(ValueError, match="Model` has an attention that takes no prefix; use an encoder such as BERT"):
        MmavkForTokenClassification(
            MmavkConfig(text_config=config, vision_config=tiny_resnet_config(), fusion="prefix", **LABELS)
        )


def test_the_vision_encoder_is_frozen(tmp_path):
    model = prefix_model()
    model.save_pretrained(tmp_path)
    for one in (model, AutoModel.from_pretrained(tmp_path)):
        one.train()
        assert one.training
        assert not any(module.training for module in one.vision_model.modules())
        assert not any(parameter.requires_grad for parameter in one.vision_model.parameters())
        before = copy.deepcopy(one.vision_model.state_dict())
        one(**processor_of("prefix")([post()], label2id=one.config.label2id)).loss.backward()
        assert all(torch.equal(value, before[name]) for name, value in one.vision_model.state_dict().items())


# ------------------------------------------------------------------------------------------------ training, precision


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_reach_every_trainable_parameter(fusion):
    model = tiny_mmavk(fusion=fusion)
    model(**processor_of(fusion)(posts(), label2id=model.config.label2id)).loss.backward()
    # A key's bias shifts all scores of a query alike, unless a prefix without that bias is read beside the words.
    unread = {name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert all(name.endswith("key.bias") for name in unread), unread


@pytest.mark.parametrize("fusion", FUSIONS)
def test_half_precision_runs(fusion):
    model, processor = tiny_mmavk(fusion=fusion), processor_of(fusion)
    wide = logits(model, fusion, [post()])
    narrow = logits(model.bfloat16(), fusion, [post()])
    assert narrow.dtype == torch.bfloat16
    assert apart(narrow.float(), wide) < 0.2 * float(wide.abs().max()), "bfloat16 has 8 bits"
    assert all(
        0 <= e["score"] <= 1 for example in recognize_entities(model, processor, posts()) for e in spans(example)
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_autocast_trains(fusion):
    model = tiny_mmavk(fusion=fusion).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**processor_of(fusion)(posts(), label2id=model.config.label2id)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def spans(example: dict) -> list[dict]:
    return example["entities"]


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize("seed", range(3))
def test_decoded_tags_are_valid_bio(seed):
    examples, id2label = tiny_examples(), LABELS["id2label"]
    tags = {}
    for is_constrained in (True, False):
        model = tiny_mmavk(seed=seed, is_constrained=is_constrained)
        batch = processor_of("word_level")(examples)
        with torch.no_grad():
            output = model(**batch)
        assert torch.equal(output.tags < 0, batch["first_subword_index"] < 0)
        assert ((output.tag_probabilities == 0) | (output.tags >= 0)).all()
        tags[is_constrained] = [[id2label[i] for i in row.tolist() if i >= 0] for row in output.tags]
    assert all(is_bio(row) for row in tags[True])
    assert not all(is_bio(row) for row in tags[False]), "else this test says nothing"


def is_bio(tags: list[str]) -> bool:
    pairs = zip(["O", *tags], tags, strict=False)
    return all(tag[0] != "I" or (before[0] != "O" and before[2:] == tag[2:]) for before, tag in pairs)


def test_training_does_not_decode():
    model = tiny_mmavk().train()
    output = model(**processor_of("word_level")([post()], label2id=model.config.label2id))
    assert output.tags is None
    assert output.tag_probabilities is None


# ---------------------------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize("model_fusion", FUSIONS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_processor_of_another_fusion_is_refused(model_fusion, fusion):
    if model_fusion == fusion:
        return
    model, processor = tiny_mmavk(fusion=model_fusion), processor_of(fusion)
    message = (
        f"inputs are for `fusion='{fusion}'`, the model has `fusion='{model_fusion}'`; give the processor the same"
    )
    with pytest.raises(ValueError, match=message):
        recognize_entities(model, processor, [post()])
    if fusion != "none":
        with pytest.raises(ValueError, match=message):
            model(**processor([post()]))


@pytest.mark.parametrize(
    ("fusion", "name", "left_out"),
    [
        ("word_level", "knowledge_input_ids", "knowledge_attention_mask"),
        ("word_level", "knowledge_input_ids", "knowledge_index"),
        ("prefix", "pixel_values", "image_mask"),
        ("prefix", "pixel_values", "knowledge_index"),
    ],
)
def test_incomplete_inputs_are_refused(fusion, name, left_out):
    batch = processor_of(fusion)([post()])
    batch.pop(left_out)
    with pytest.raises(ValueError, match=f"`{name}` was given without `{left_out}`; pass all"):
        tiny_mmavk(fusion=fusion)(**batch)


# ------------------------------------------------------------------------------------------------- building, loading


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Saved tiny encoders: one that reads text, one that sees."""
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(3)
    AutoModel.from_config(tiny_resnet_config()).save_pretrained(folder / "vision")
    return {"text": tiny_encoder_folder(folder / "text"), "vision": folder / "vision"}


def from_folders(folders: dict[str, Path], fusion: str, **kwargs: Any) -> MmavkForTokenClassification:
    vision = str(folders["vision"]) if fusion == "prefix" else None
    return MmavkForTokenClassification.from_backbones(str(folders["text"]), vision, fusion=fusion, **LABELS, **kwargs)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_model_from_backbones_has_their_weights(folders, fusion):
    model = from_folders(folders, fusion)
    text = AutoModel.from_pretrained(folders["text"], add_pooling_layer=False).state_dict()
    assert all(torch.equal(value, text[name]) for name, value in model.text_model.state_dict().items())
    assert model.config.label2id == {tag: index for index, tag in LABELS["id2label"].items()}
    assert model.entity_types == TYPES
    if fusion == "prefix":
        vision = AutoModel.from_pretrained(folders["vision"]).state_dict()
        assert all(torch.equal(value, vision[name]) for name, value in model.vision_model.state_dict().items())
        assert model.config.vision_config.name_or_path == str(folders["vision"])
        assert model.input_modalities == ("text", "image")
    else:
        assert not hasattr(model, "vision_model")
        assert model.input_modalities == ("text",)


def test_fusion_starts_with_the_pretrained_words(folders):
    fusion = from_folders(folders, "word_level").fusion
    assert torch.equal(fusion.word.weight, torch.eye(SIZE["hidden_size"]))
    assert not fusion.word.bias.any()
    assert 0 < fusion.knowledge.weight.abs().max() < 0.2


def test_vision_encoder_is_needed_by_the_prefix_alone(folders):
    with pytest.raises(ValueError, match="fusion='prefix'. needs an image encoder; pass `vision=`"):
        MmavkForTokenClassification.from_backbones(str(folders["text"]), fusion="prefix", **LABELS)
    with pytest.raises(ValueError, match="vision=.*is not read by `fusion='concat'`; leave it out, or use"):
        MmavkForTokenClassification.from_backbones(
            str(folders["text"]), str(folders["vision"]), fusion="concat", **LABELS
        )


@pytest.mark.parametrize(
    ("vision", "fields", "message"),
    [
        (tiny_resnet_config(), {"vision_feature_layers": [-1, 9]}, "holds 9, and `ResNetModel` has 5 .* from -5 to 4"),
        (
            ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32),
            {},
            "`ViTModel` gives no feature maps .* use an image encoder such as ResNet",
        ),
    ],
    ids=["absent layer", "no feature maps"],
)
def test_vision_encoders_without_the_feature_maps_are_refused(vision, fields, message):
    text = tiny_encoder_config("bert", 50)
    config = MmavkConfig(text_config=text, vision_config=vision, fusion="prefix", **LABELS, **fields)
    with pytest.raises(ValueError, match=message):
        MmavkForTokenClassification(config)


def test_labels_that_are_no_tags_are_refused_at_once():
    config = MmavkConfig(text_config=tiny_encoder_config("bert", 50), id2label={0: "O", 1: "PER"})
    with pytest.raises(ValueError, match=r"`id2label`: Tag 'PER' is not a BIO tag.*Use `dict\(enumerate\(bio_labels"):
        MmavkForTokenClassification(config)


def test_prefix_may_read_other_layers(folders):
    model = from_folders(folders, "prefix", vision_feature_layers=[-1], prefix_hidden_size=7)
    assert (model.prefix.num_blocks, model.prefix.encoder[0].out_features) == (1, 7)
    assert model.prefix.encoder[0].in_features == 16, "the channels of the last stage"
    assert logits(model, "prefix", [post()]).shape == (1, 5, 9)


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForTokenClassification])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_loaded_model_is_the_saved_one(fusion, auto_class, tmp_path):
    model = tiny_mmavk(fusion=fusion)
    torch.nn.init.normal_(model.crf.transitions)  # the start values are in [-0.1, 0.1)
    if fusion == "prefix":  # what batch normalisation has seen is no parameter
        model.vision_model.embedder.embedder.normalization.running_mean.uniform_()
    model.save_pretrained(tmp_path)
    loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    values = loaded.state_dict()
    assert values.keys() == model.state_dict().keys()
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert apart(logits(loaded, fusion, posts()), logits(model, fusion, posts())) == 0


def test_what_a_checkpoint_lacks_starts_as_in_a_new_model(tmp_path):
    tiny_mmavk().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    lacking = {"fusion.word.weight", "crf.transitions", "crf.start_transitions"}
    kept = {name: value for name, value in state.items() if name not in lacking}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == lacking
    assert torch.equal(model.fusion.word.weight, torch.eye(SIZE["hidden_size"]))
    for values in (model.crf.transitions, model.crf.start_transitions):
        assert 0 < values.abs().max() <= 0.1
    assert torch.equal(model.fusion.knowledge.weight, state["fusion.knowledge.weight"])
    assert torch.equal(model.crf.end_transitions, state["crf.end_transitions"])


# ------------------------------------------------------------------------------------------- once for each image


class Spy:
    """Counts what a model encodes beside the words."""

    def __init__(self, model: MmavkForTokenClassification, monkeypatch):
        self.rows: list[int] = []
        for name in ("encode_knowledge", "encode_images"):
            monkeypatch.setattr(model, name, self.watch(getattr(model, name)))

    def watch(self, encode):
        def watched(*args, **kwargs):
            self.rows.append(len([*args, *kwargs.values()][0]))
            return encode(*args, **kwargs)

        return watched


@pytest.mark.parametrize("fusion", ["word_level", "prefix"])
def test_each_text_or_image_is_encoded_once_in_a_call(fusion, monkeypatch):
    model, processor = tiny_mmavk(fusion=fusion), processor_of(fusion)
    spy, examples = Spy(model, monkeypatch), posts() * 3
    found = recognize_entities(model, processor, examples, batch_size=2)
    assert sum(spy.rows) == 3
    if fusion == "word_level":
        assert spy.rows == [2, 1], "`batch_size` texts at a time"
    rows = processor.rows(examples)
    monkeypatch.setattr(model, "encode_shared", lambda rows, *_: rows)
    uncached = processor.post_process_entities(
        run_rows(model, processor, rows, 2), rows, examples, "recognition", model.config.id2label
    )
    assert any(example["entities"] for example in found)
    for one, other in zip(found, uncached, strict=True):
        for left, right in zip(one["entities"], other["entities"], strict=True):
            assert left.pop("score") == pytest.approx(right.pop("score"), abs=CLOSE)
            assert left == right


@pytest.mark.parametrize("fusion", ["word_level", "prefix"])
def test_each_text_or_image_is_encoded_once_in_an_evaluation(fusion, monkeypatch):
    monkeypatch.setattr("hf_mner.evaluation.CHUNK", 2)
    model, processor = tiny_mmavk(fusion=fusion), processor_of(fusion)
    spy = Spy(model, monkeypatch)
    evaluate_model(model, processor, posts() * 2, batch_size=2)
    assert sum(spy.rows) == 3


@pytest.mark.parametrize("fusion", ["word_level", "prefix"])
def test_each_text_or_image_is_encoded_once_in_a_pipeline_call(fusion, monkeypatch, tmp_path):
    tiny_mmavk(fusion=fusion).save_pretrained(tmp_path)
    processor_of(fusion).save_pretrained(tmp_path)
    pipe = hf_mner.pipeline("multimodal-ner", model=str(tmp_path))
    spy = Spy(pipe.model, monkeypatch)
    inputs = [{"tokens": e["tokens"], "image": e["image"], "knowledge": e["knowledge"]} for e in posts()]
    for calls in (1, 2):
        pipe(inputs, batch_size=2)
        assert sum(spy.rows) == 3 * calls, "nothing outlives a call: the weights may have changed"


@pytest.mark.parametrize("fusion", ["word_level", "prefix"])
@pytest.mark.parametrize("limit", [0, 1])
def test_a_small_cache_changes_nothing(fusion, limit):
    model, processor = tiny_mmavk(fusion=fusion), processor_of(fusion)
    whole = EncodingCache()
    expected = recognize_entities(model, processor, posts(), cache=whole)
    cache = EncodingCache(max_bytes=limit * next(iter(whole.values())).nbytes)
    for _ in range(2):
        assert recognize_entities(model, processor, posts(), cache=cache) == expected
        assert len(cache) == limit


def test_cache_drops_the_oldest():
    cache = EncodingCache(max_bytes=8)
    for key in "abcc":
        cache[key] = torch.zeros(1)
    assert list(cache) == ["b", "c"]
    assert cache.num_bytes == 8


def test_pictures_of_one_index_and_two_palettes_are_two():
    """Palette images of the same indices are not the same picture."""
    one, other = (tiny_image(color).quantize() for color in COLORS[:2])
    assert one.tobytes() == other.tobytes(), "else this test says nothing"
    model, processor = prefix_model(), processor_of("prefix")
    batch = processor([{**post(), "image": image} for image in (one, other)])
    assert batch["knowledge_index"].tolist() == [0, 1]
    with torch.no_grad():
        assert apart(*model(**batch).logits) > 1e-3


def test_the_processor_of_another_system_is_refused():
    wanted = "`ScannerProcessor` does not fit `MmavkForTokenClassification`; give the model its own processor"
    with pytest.raises(ValueError, match=wanted):
        recognize_entities(tiny_mmavk().eval(), tiny_processor(), tiny_examples())

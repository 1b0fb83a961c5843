import pytest
import torch
from tiny import (
    tiny_encoder_folder,
    tiny_examples,
    tiny_ham_learning_processor,
    tiny_mmavk_processor,
    tiny_mner_qg_processor,
    tiny_processor,
)

from hf_mner import (
    HamLearningForTokenClassification,
    MmavkForTokenClassification,
    MnerQgForMultimodalNer,
    ScannerForEntityRecognition,
    ScannerForSpanDetection,
)
from hf_mner.data import bio_labels
from hf_mner.models.base.adapters import add_lora, has_lora, is_other, merge_lora, save_adapter
from hf_mner.models.base.recognition import run_rows

TYPES = ["PER", "LOC", "ORG", "MISC"]
TAGS = dict(enumerate(bio_labels(TYPES)))
SYSTEMS = {
    "scanner, stage 1": (ScannerForSpanDetection, tiny_processor, dict(enumerate(TYPES)), {}, "detection"),
    "scanner, stage 2": (
        ScannerForEntityRecognition,
        tiny_processor,
        dict(enumerate([*TYPES, "non-entity"])),
        {},
        "recognition",
    ),
    "mmavk": (MmavkForTokenClassification, tiny_mmavk_processor, TAGS, {"fusion": "word_level"}, "recognition"),
    "mner_qg": (
        MnerQgForMultimodalNer,
        lambda: tiny_mner_qg_processor(),
        dict(enumerate(TYPES)),
        {"modality": "text", "hidden_size": 16},
        "recognition",
    ),
    "ham_learning": (
        HamLearningForTokenClassification,
        tiny_ham_learning_processor,
        TAGS,
        {"modality": "text", "num_attention_heads": 2},
        "recognition",
    ),
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(tiny_encoder_folder(tmp_path_factory.mktemp("backbone")))


def build(system, backbone):
    model_class, make_processor, id2label, fields, stage = SYSTEMS[system]
    torch.manual_seed(0)
    labels = {"id2label": id2label, "label2id": {name: number for number, name in id2label.items()}}
    if model_class in (MnerQgForMultimodalNer, HamLearningForTokenClassification):
        model = model_class.from_backbones(backbone, None, **labels, **fields)
    else:
        model = model_class.from_backbones(backbone, **labels, **fields)
    return model, make_processor(), stage


def scores(model, processor, stage):
    rows = processor.rows(tiny_examples(), stage)
    return torch.cat(
        [torch.as_tensor(output["logits"]).flatten() for output in run_rows(model.eval(), processor, rows, 4)]
    )


def disturb(model):
    """Train, as it were: adapters start as nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("system", SYSTEMS)
def test_adapters_are_saved_loaded_and_merged(system, backbone, tmp_path):
    model, processor, stage = build(system, backbone)
    before = scores(model, processor, stage)
    trained, total = add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["query", "value"])
    assert has_lora(model)
    assert trained < total
    torch.testing.assert_close(scores(model, processor, stage), before, msg="adapters start as nothing")
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (is_other(name) or "lora_" in name), name
    disturb(model)
    adapted = scores(model, processor, stage)
    assert not torch.allclose(adapted, before)
    save_adapter(model, tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    # Merged weights are sums that were rounded once more: differences near 1e-6 on scores near 1.
    torch.testing.assert_close(scores(loaded, processor, stage), adapted, rtol=1e-4, atol=1e-4)
    merge_lora(model)
    assert not has_lora(model)
    assert not any("lora" in name for name in model.state_dict())
    torch.testing.assert_close(scores(model, processor, stage), adapted, rtol=1e-4, atol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_peft_reads_the_adapter(backbone, tmp_path):
    from peft import PeftModel

    model, processor, stage = build("mmavk", backbone)
    add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["query"])
    disturb(model)
    save_adapter(model, tmp_path)
    base, _, _ = build("mmavk", backbone)
    base.load_state_dict({name: value for name, value in model.state_dict().items() if is_other(name)}, strict=False)
    read = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(scores(read.base_model.model, processor, stage), scores(model, processor, stage))


def test_encoder_is_not_saved(backbone, tmp_path):
    from safetensors.torch import load_file

    model, _, _ = build("mmavk", backbone)
    add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["all-linear"])
    save_adapter(model, tmp_path)
    names = set(load_file(tmp_path / "model.adapter.safetensors"))
    assert names
    assert not any("text_model" in name for name in names)


def test_unknown_layers_are_refused(backbone):
    model, _, _ = build("mmavk", backbone)
    with pytest.raises(
        ValueError, match=r"`targets=\['q_proj'\]` names no linear layer .* choose of dense, key, query, value"
    ):
        add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["q_proj"])

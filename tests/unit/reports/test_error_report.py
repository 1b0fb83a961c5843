"""The error report: what it gathers, and that its page is whole, safe and readable by keyboard and without scripts."""

import json
import re
from html.parser import HTMLParser

import pytest

from hf_mner.evaluation import grounded_of, spans_of
from hf_mner.metrics import score_grounded_entities, score_seen_unseen, score_spans
from hf_mner.reports import build_error_report, prediction_lines, render_error_report
from hf_mner.reports.html_parts import reliability_diagram
from hf_mner.reports.marked_text import layers_of, marked_lines

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "path", "rect"}


def gold(start, end, entity_type, *boxes):
    return {"start": start, "end": end, "type": entity_type, "boxes": list(boxes)}


def predicted(start, end, entity_type, score, *boxes, shown=None):
    found = gold(start, end, entity_type, *({"box": box, "score": 0.5} for box in boxes))
    return {**found, "score": score, "shown": shown or {}}


EXAMPLES = [
    {"id": "a", "tokens": ["Steve", "Kerr", "in", "Oakland"], "entities": [gold(0, 2, "PER", [0, 0, 9, 9])]},
    {"id": 'b"<i>', "tokens": [EVIL, "&", "Paris", "$x"], "entities": [gold(2, 3, "LOC")]},
    {"id": "c", "tokens": ["Anna"], "entities": [gold(0, 1, "PER")]},
]
KNOWLEDGE = {
    "caption": f"a man {EVIL}",
    "objects": [{"label": "ball", "score": 0.25, "caption": "orange", "box": [0, 0, 1, 1]}],
    "encyclopedia": [{"mention": "Paris", "title": "Paris", "text": "a city"}],
}
FOUND = [
    {**EXAMPLES[0], "entities": [predicted(0, 2, "PER", 0.9, [5, 5, 9, 9]), predicted(3, 4, "LOC", 0.8)]},
    {**EXAMPLES[1], "entities": [predicted(0, 1, EVIL, 1.0000001), predicted(2, 3, "ORG", 0.95, shown=KNOWLEDGE)]},
    {**EXAMPLES[2], "entities": []},
]
NAMES = ["a.jpg", f"{EVIL}.png", None]


def scores_of(has_boxes=True):
    spans = [[*map(spans_of, side)] for side in (FOUND, EXAMPLES)]
    tokens = [example["tokens"] for example in EXAMPLES]
    scores = {"entities": score_spans(*spans), "seen_unseen": score_seen_unseen(*spans, tokens, {"Steve Kerr"})}
    if has_boxes:
        references = [example["entities"] for example in EXAMPLES]
        scores["grounded"] = score_grounded_entities([*map(grounded_of, FOUND)], references)
    return scores


def report(**options):
    settings = {"scores": scores_of(), "facts": {"model": EVIL, "dataset": "d"}, "image_names": NAMES, **options}
    return build_error_report(FOUND, EXAMPLES, **settings)


class Page(HTMLParser):
    """Collects the tags, and checks that they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def text(self):
        return " ".join(" ".join(self.words).split())

    def named(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


def test_kinds_confusion_and_the_order_of_mistakes():
    made = report()
    kinds = {kind: count for kind, count in made.kinds.items() if count}
    assert kinds == {"type": 1, "spurious": 2, "missed": 1, "wrong_box": 1}
    assert made.confusion["LOC", "ORG"] == made.confusion["PER", "PER"] == made.confusion["PER", None] == 1
    assert [mistake.finding.kind for mistake in made.mistakes] == ["spurious", "type", "wrong_box", "spurious"]
    assert [mistake.image_name for mistake in made.mistakes] == [NAMES[1], NAMES[1], "a.jpg", "a.jpg"]
    assert sum(part.size for part in made.bins) == 4
    few = report(max_mistakes=1)
    assert (len(few.mistakes), few.num_wrong) == (1, 4)


def test_boxes_are_judged_only_where_they_were_scored():
    made = report(scores=scores_of(has_boxes=False))
    assert "wrong_box" not in made.kinds
    assert made.kinds["right"] == 1
    assert "wrong box" not in Page(render_error_report(made)).text()


def test_the_page_is_whole_and_shows_everything():
    page = Page(render_error_report(report()))
    text = page.text()
    for part in (
        "4 of 4 wrong predictions",
        "wrong box 1 20.00",
        "Paris [ORG], score 0.950",
        "Paris [LOC]",
        "Steve Kerr [PER], score 0.900, box 5 5 9 9",
        "a.jpg",
        "ball 0.25 (orange)",
        "Paris: Paris: a city",
        "Expected calibration error",
        "unseen LOC",
        "none (missed)",
        "no knowledge for this entity",
    ):
        assert part in text, part
    marks = [attributes["class"] for attributes in page.named("mark")]
    assert [marks.count(name) for name in ("gold", "gold current")] == [2, 2]
    assert [marks.count(name) for name in ("predicted", "predicted current")] == [4, 4]
    assert "overall" not in text
    assert text.count(EVIL) > 5, "what looks like a tag is text"


def test_nothing_is_loaded_and_nothing_runs():
    made = render_error_report(report())
    page = Page(made)
    assert not page.named("script", "link", "img", "iframe", "object", "form", "i")
    assert "http://" not in made.replace("http-equiv", "")
    assert "https://" not in made
    assert "url(" not in made
    assert not [
        name for attributes in page.named(*{tag for tag, _ in page.tags}) for name in attributes if name[:2] == "on"
    ]


def test_the_page_is_read_by_keyboard_and_by_screen_readers():
    page = Page(render_error_report(report()))
    assert page.named("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {attributes["href"].removeprefix("#") for attributes in page.named("a")} <= set(ids)
    assert all("scope" in attributes for attributes in page.named("th"))
    assert len(page.named("caption")) == len(page.named("table"))
    assert page.named("summary")
    regions = [attributes for attributes in page.named("div") if attributes.get("class") == "scroll"]
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    assert page.named("svg")[0]["aria-label"]
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in zip(headings, headings[1:], strict=False))


def test_no_texts_give_a_page_too():
    scores = {"entities": score_spans([], [])}
    page = Page(render_error_report(build_error_report([], [], scores, {})))
    assert "0 of 0 wrong predictions" in page.text()


def test_scores_without_entities_are_refused():
    with pytest.raises(ValueError, match="have no `entities`, only stages; a report needs a model that finds typed"):
        report(scores={"stages": {}})
    with pytest.raises(ValueError, match="`predictions` has 3 texts but `references` has 2"):
        build_error_report(FOUND, EXAMPLES[:2], scores_of(), {})


def test_entities_that_overlap_are_marked_on_lines_of_their_own():
    entities = [gold(0, 2, "PER"), gold(1, 3, "LOC"), gold(2, 4, "ORG")]
    assert layers_of(entities) == [[entities[0], entities[2]], [entities[1]]]
    first, second = marked_lines(["a", "b", "c", "d"], entities, "gold")
    assert first.count("<mark") == 2
    assert "a <mark" in second
    assert second.endswith("d</p>")
    (plain,) = marked_lines(["a", "<b>"], [], "gold")
    assert plain.endswith("</span> a &lt;b&gt;</p>")


def test_the_diagram_has_a_bar_for_each_bin_that_holds_something():
    drawn = reliability_diagram(report().bins)
    assert drawn.count("<rect") == 3
    assert "1 predictions, 100.00 % right" in drawn, "the box does not count"
    assert "2 predictions, 0.00 % right" in drawn


def test_predictions_are_lines_of_json():
    lines = [json.loads(line) for line in prediction_lines(FOUND, EXAMPLES, NAMES)]
    assert [line["image"] for line in lines] == NAMES
    assert lines[0]["gold"] == EXAMPLES[0]["entities"]
    assert lines[0]["entities"][1] == {"start": 3, "end": 4, "type": "LOC", "score": 0.8, "boxes": []}
    assert lines[2] == {"id": "c", "image": None, "tokens": ["Anna"], "gold": [gold(0, 1, "PER")], "entities": []}
    assert json.loads(next(prediction_lines(FOUND, EXAMPLES)))["image"] is None

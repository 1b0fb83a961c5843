"""Rationales of language models and image knowledge over chat endpoints: prompts, chosen examples, answers, stores."""

import base64
import hashlib
import io
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import tiny
from chat_server import RATIONALE, ChatServer, answer, failure, in_turn
from PIL import Image

from hf_mner.data.knowledge_files import read_chatgpt_records
from hf_mner.knowledge import EndpointAuxiliary, LlmRationales, add_knowledge, load_prompt
from hf_mner.knowledge import endpoint as endpoint_module
from hf_mner.knowledge.annotated_samples import WordSimilarity, make_sample, nearest, read_samples
from hf_mner.knowledge.base import KnowledgeSource
from hf_mner.knowledge.endpoint_errors import BudgetReached, EndpointError
from hf_mner.knowledge.rationales import PACKAGED_EXAMPLES, QUESTION, Rationale, parse_rationale, show_post
from hf_mner.knowledge.registry import open_sources, read_images
from hf_mner.knowledge.store import KnowledgeStore, Stored

SAMPLES = [
    {"text": "rain in Quuxville", "caption": "a wet street", "answer": "Named entities: 1. Quuxville (city)"},
    {"text": "Zaphod sings", "caption": "a man on a stage", "answer": "Named entities: 1. Zaphod (person)"},
    {"tokens": ["nothing", "here"], "answer": "Named entities: None."},
]


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that would have been waited; nothing is."""
    waited = []
    monkeypatch.setattr(endpoint_module, "pause", lambda seconds, _: waited.append(seconds))
    return waited


@pytest.fixture
def store(tmp_path):
    with KnowledgeStore(tmp_path / "knowledge.sqlite") as store:
        yield store


def rationales(server, examples=SAMPLES, **settings):
    return LlmRationales("tiny", server.base_url, examples=examples, **settings)


def post(text, caption=None, **fields):
    return {"id": text, "tokens": text.split(), "knowledge": {"caption": caption}, **fields}


def posts(count):
    return [post(f"post {number} of Zaphod", f"picture {number}") for number in range(count)]


def posted(request):
    """The text of the post that a request asks about."""
    return re.findall(r"^Text: (.*)$", request.content, re.MULTILINE)[-1]


def shown(request):
    """The texts of the annotated posts in a request."""
    return re.findall(r"^Text: (.*)$", request.content, re.MULTILINE)[:-1]


def own(request):
    """An answer that tells which post it is about."""
    return answer(f"Named entities: None. Reasoning: about {posted(request)}.")


# The prompt


def test_the_prompt_is_instruction_examples_and_post(server):
    rationales(server, num_examples=2)([post("Zaphod in the rain", "a street")])
    assert server.requests[0].body["messages"] == [
        {
            "role": "user",
            "content": f"""{load_prompt("pgim")}

Text: Zaphod sings
Image: a man on a stage
{QUESTION}
Answer: Named entities: 1. Zaphod (person)

Text: rain in Quuxville
Image: a wet street
{QUESTION}
Answer: Named entities: 1. Quuxville (city)

Text: Zaphod in the rain
Image: a street
{QUESTION}
Answer:""",
        }
    ]


@pytest.mark.parametrize("knowledge", [{}, {"caption": None}, {"caption": "  "}, None])
def test_without_a_caption_there_is_no_line_for_the_image(server, knowledge):
    row = {"id": "1", "tokens": ["Zaphod", "sings", "."]}
    rationales(server, num_examples=0)([row if knowledge == {} else {**row, "knowledge": knowledge}])
    assert server.requests[0].content == f"{load_prompt('pgim')}\n\nText: Zaphod sings .\n{QUESTION}\nAnswer:"


def test_an_example_without_a_caption_has_no_line_for_it():
    assert show_post("a", "", "b") == f"Text: a\n{QUESTION}\nAnswer: b"


def test_the_instruction_names_the_shape_that_is_checked():
    assert "Named entities: 1. <name> (<kind>) 2. <name> (<kind>) Reasoning:" in load_prompt("pgim")
    assert parse_rationale("Named entities: None. Reasoning: <explanation>") == Rationale((), "explanation>")


# The annotated posts


def test_the_most_similar_come_last_and_equal_ones_in_their_order(server):
    rows = [post("it will rain"), post("Zaphod !"), post("42"), post("ZAPHOD", "a wet street in the rain")]
    rationales(server, num_examples=2, concurrency=1)(rows)
    assert [shown(request) for request in server.requests] == [
        ["Zaphod sings", "rain in Quuxville"],
        ["rain in Quuxville", "Zaphod sings"],
        ["Zaphod sings", "rain in Quuxville"],  # nothing in common with any: the first two, the first one last
        ["Zaphod sings", "rain in Quuxville"],
    ]


def test_a_post_is_never_its_own_example(server):
    rationales(server, num_examples=9)([post("Zaphod sings", "another picture")])
    assert sorted(shown(server.requests[0])) == ["nothing here", "rain in Quuxville"]


def test_the_choice_is_deterministic_and_does_not_depend_on_the_other_posts(server):
    rows = posts(6)
    together = rationales(server, examples=None)._choose([(" ".join(row["tokens"]), "") for row in rows])
    apart = [rationales(server, examples=None)._choose([(" ".join(row["tokens"]), "")])[0] for row in rows]
    assert together == apart
    assert all(len(each) == 5 for each in together)


def test_rare_words_count_more_and_a_text_is_most_like_itself():
    texts = ["the rain in the street", "the man on the stage", "the Zaphod"]
    similarity = WordSimilarity(texts)
    assert [max(range(3), key=similarity(text).__getitem__) for text in texts] == [0, 1, 2]
    assert similarity("Zaphod")[2] > similarity("the")[2] > 0
    assert similarity(texts[0])[0] == pytest.approx(1)
    assert similarity("unknown words") == [0, 0, 0]
    assert WordSimilarity([""])("") == [0]


def test_the_nearest_are_counted():
    assert nearest([0.1, 0.9, 0.5], 2) == [2, 1]
    assert nearest([0.1, 0.9, 0.5], 2, excluded=[1]) == [0, 2]
    assert nearest([0.5, 0.5, 0.5], 2) == [1, 0]
    assert nearest([0.5], 3) == [0]


def test_an_encoder_can_choose(server, tmp_path):
    encoder = tiny.tiny_encoder_folder(tmp_path / "encoder")
    source = rationales(server, encoder=str(encoder), num_examples=1)
    source([post("rain in Quuxville", "a wet street !")])
    source([post("Zaphod sings it", "a man on a stage")])
    assert len(shown(server.requests[0])) == 1
    settings = json.loads(source.identity["settings"])
    assert settings["encoder"] == "encoder"
    assert len(settings["encoder_revision"]) == 12
    (similarities,) = source._embedded_similarities([source._texts[1]])
    assert max(range(3), key=similarities.__getitem__) == 1
    assert similarities[1] == pytest.approx(1, abs=1e-5)  # the cosine with itself, in 32-bit floats


def test_the_packaged_examples_are_well_formed():
    samples = read_samples(PACKAGED_EXAMPLES)
    assert len(samples) == 8
    for sample in samples:
        rationale = parse_rationale(sample.answer)
        assert sample.caption
        assert rationale is not None
        for entity in rationale.entities:
            assert entity.partition(" (")[0] in sample.text, f"{entity!r} is not in {sample.text!r}"
    assert sum(parse_rationale(sample.answer) == Rationale((), sample.answer.partition(": ")[2].partition(": ")[2])
               for sample in samples) == 1  # fmt: skip


@pytest.mark.parametrize("name", ["own.jsonl", "own.yaml"])
def test_examples_can_be_a_file_here_or_in_the_data_folder(server, tmp_path, monkeypatch, name):
    lines = [json.dumps(sample) for sample in SAMPLES]
    (tmp_path / name).write_text("\n".join(lines) if name == "own.jsonl" else f"[{', '.join(lines)}]")
    for folder, examples in ((None, tmp_path / name), (tmp_path, name)):
        monkeypatch.setenv("HF_MNER_DATA", str(folder or ""))
        source = rationales(server, examples=str(examples))
        assert source._samples == rationales(server)._samples
        assert source.identity == rationales(server).identity


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"text": "a"}, r"`examples`, entry 1: {'text': 'a'.*is no annotated post; expected"),
        ({"answer": "a"}, "is no annotated post"),
        ({"text": "a", "answer": " "}, "is no annotated post"),
        ({"text": "a", "answer": "b", "label": "c"}, "is no annotated post"),
        ({"text": "a", "answer": "b", "tokens": ["a"]}, "is no annotated post"),
        ({"text": 3, "answer": "b"}, "is no annotated post"),
        ("text", "is no annotated post"),
    ],
)
def test_examples_are_checked(server, record, text):
    with pytest.raises(ValueError, match=text):
        rationales(server, examples=[record])


def test_files_of_examples_are_checked(server, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('\n{"text": "a"}\n')
    with pytest.raises(ValueError, match=r"own.jsonl, line 2: .* is no annotated post"):
        rationales(server, examples=str(path))
    path.write_text("\n")
    with pytest.raises(ValueError, match="own.jsonl holds no annotated post"):
        rationales(server, examples=str(path))
    path.with_suffix(".yaml").write_text("text: a")
    with pytest.raises(ValueError, match="own.yaml holds no list of annotated posts"):
        rationales(server, examples=str(path.with_suffix(".yaml")))
    with pytest.raises(FileNotFoundError, match="nowhere.jsonl"):
        rationales(server, examples="nowhere.jsonl")


def test_a_sample_is_kept_in_single_spaces():
    assert make_sample({"text": " a\nb ", "answer": "c\n d"}, "here") == ("a b", "", "c d")


# Answers


@pytest.mark.parametrize(
    ("text", "entities", "reasoning"),
    [
        (RATIONALE, ("Zaphod (person)", "Quuxville (location/city)"), "Zaphod lives in Quuxville."),
        ("Named entities:1. A (b)2. C (d)Reasoning:Since.", ("A (b)", "C (d)"), "Since."),
        ("Named entities: None. Reasoning: no names", (), "no names"),
        ("Named entity: A (b) Reasoning: one", ("A (b)",), "one"),
        ("**Named Entities:**\n1. A, b\n2. C, d\n\n**Reasoning:** because", ("A, b", "C, d"), "because"),
        ("Named entities: 1. Area 12. 2. B12 (robot) Reasoning: 4. x", ("Area 12.", "B12 (robot)"), "4. x"),
        ("Possible named entities: 1. A (b) Reasoning: maybe", ("A (b)",), "maybe"),
    ],
)  # fmt: skip
def test_answers_are_parsed(text, entities, reasoning):
    assert parse_rationale(text) == Rationale(entities, reasoning)


@pytest.mark.parametrize(
    "text",
    ["", "I am sorry.", "Named entities: 1. A (b)", "Reasoning: yes", "Named entities: 1. A Reasoning:",
     "Named entities: Reasoning: x", "There are no named entities. Reasoning: none."],
)  # fmt: skip
def test_answers_of_another_shape_are_not(text):
    assert parse_rationale(text) is None


@pytest.mark.skipif(not os.environ.get("HF_MNER_DATA"), reason="needs HF_MNER_DATA")
def test_the_answers_of_chatgpt_have_the_shape(record_property):
    """Of 23,073 published answers 98.5 % have it; the others name no explanation, or say that there is no entity."""
    folder = Path(os.environ["HF_MNER_DATA"], "knowledge", "chatgpt")
    files = [path for path in sorted(folder.glob("*/*.txt")) if path.stem != "labels"]
    if not files:
        pytest.skip("needs the ChatGPT knowledge")
    texts = [record.text for path in files for record in read_chatgpt_records(path) if record.text]
    parsed = [rationale for text in texts if (rationale := parse_rationale(text))]
    share = len(parsed) / len(texts)
    record_property("share", share)
    assert share > 0.98
    assert sum(bool(rationale.entities) for rationale in parsed) / len(parsed) > 0.97


def test_answers_come_in_order_in_single_spaces(server):
    server.script = lambda request: answer(f"Named entities: None.\n\nReasoning:  about {posted(request)}.\n")
    assert rationales(server)(posts(5)) == [
        f"Named entities: None. Reasoning: about post {number} of Zaphod." for number in range(5)
    ]
    assert rationales(server)([]) == []


def test_equal_posts_are_asked_about_once(server):
    server.script = own
    texts = rationales(server)([*posts(2), *posts(2), post("post 0 of Zaphod", "another picture")])
    assert len(server.requests) == 3
    assert texts[:2] == texts[2:4]


@pytest.mark.parametrize("malformed", [answer(""), answer(None), answer("I cannot."), answer("Named entities: 1. A")])
def test_malformed_answers_are_asked_for_again(server, malformed):
    server.script = in_turn([malformed, malformed])
    source = rationales(server)
    assert source(posts(1)) == [RATIONALE]
    assert len(server.requests) == 3
    assert source.endpoint.spent.requests == 3
    assert source.endpoint.failures == {"malformed answer": 2}


def test_what_stays_malformed_is_an_error_that_names_the_post(server):
    server.script = lambda request: answer("I cannot.") if posted(request).startswith("post 1") else own(request)
    said = r"'tiny' gave 3 malformed answers for example 'post 1 of Zaphod', the last one 'I cannot.'; .*='none'"
    with pytest.raises(EndpointError, match=said):
        rationales(server)(posts(3))
    assert len(server.requests) == 3 + 2


def test_what_stays_malformed_can_be_none_and_is_kept(server, store):
    server.script = lambda request: answer("I cannot.")
    source = Stored(rationales(server, on_malformed="none", max_malformed=0), store)
    assert source(posts(2)) == [None, None]
    assert Stored(rationales(server), store)(posts(2)) == [None, None]
    assert len(server.requests) == 2


def test_a_cut_off_answer_is_used_and_said_once(server, caplog):
    server.script = lambda request: answer(RATIONALE, finish_reason="length")
    source = rationales(server, max_tokens=9)
    assert source(posts(3)) == [RATIONALE] * 3
    assert [record.getMessage() for record in caplog.records if "cut off" in record.getMessage()] == [
        "LlmRationales: an answer was cut off at `max_tokens=9` and is used as it is (said once)."
    ]
    assert source.endpoint.failures == {"cut off": 3}


# As a source


def test_as_a_knowledge_source(server):
    source = rationales(server)
    assert isinstance(source, KnowledgeSource)
    (row,) = add_knowledge([{"id": "1", "tokens": ["Zaphod"]}], [source])
    assert row["knowledge"]["auxiliary"] == RATIONALE
    (note,) = row["knowledge"]["sources"]
    assert (note["part"], note["source"], note["model"]) == ("auxiliary", "LlmRationales", "tiny")
    assert note["revision"] == server.base_url.split("/")[2]


def test_the_identity_changes_with_what_decides_the_answers(server):
    base = rationales(server).identity
    assert len(base["prompt"]) == 12
    assert json.loads(base["settings"]) == {
        "encoder": "", "encoder_revision": "", "max_tokens": 512, "num_examples": 5, "temperature": 0.0
    }  # fmt: skip
    changed = [
        LlmRationales("other", server.base_url, examples=SAMPLES),
        LlmRationales("tiny", "http://localhost:8000/v1", examples=SAMPLES),
        rationales(server, examples=SAMPLES[:2]),
        rationales(server, num_examples=2),
        rationales(server, temperature=1),
        rationales(server, max_tokens=9),
    ]
    assert len({str(source.identity) for source in changed} | {str(base)}) == len(changed) + 1
    same = rationales(server, timeout_s=1, max_requests=1, concurrency=1, on_malformed="none", max_attempts=1)
    assert same.identity == base


def test_the_prompt_version_is_that_of_instruction_and_examples(server, monkeypatch):
    from hf_mner.knowledge import rationales as module

    source, before = rationales(server), rationales(server).identity["prompt"]
    assert before == hashlib.sha256(source._prompt_text().encode()).hexdigest()[:12]
    for part in (load_prompt("pgim")[:40], QUESTION, SAMPLES[0]["text"], SAMPLES[1]["caption"], SAMPLES[2]["answer"]):
        assert part in source._prompt_text()
    monkeypatch.setattr(module, "QUESTION", "Who?")
    assert rationales(server).identity["prompt"] != before


def test_it_can_be_pickled(server):
    source = rationales(server)
    source(posts(1))
    copy = pickle.loads(pickle.dumps(source))
    assert copy.identity == source.identity
    assert copy(posts(1)) == [RATIONALE]


def test_recipes_can_name_both_sources(server):
    first, second = open_sources(
        [
            {"rationales": {"model": "tiny", "base_url": server.base_url, "max_requests": 9, "num_examples": 2}},
            {"endpoint_auxiliary": {"model": "tiny", "base_url": server.base_url, "temperature": None}},
        ]
    )
    assert isinstance(first, LlmRationales)
    assert isinstance(second, EndpointAuxiliary)
    assert (first.endpoint.max_requests, second.endpoint.temperature) == (9, None)
    assert open_sources([{"rationales": "gpt-4o-mini"}])[0].identity["revision"] == ""
    assert not read_images([{"rationales": "gpt-4o-mini"}])
    assert read_images([{"endpoint_auxiliary": "gpt-4o-mini"}])
    with pytest.raises(
        ValueError, match="Source 'rationales' has no setting 'api_key'; it has model, base_url, key_va"
    ):
        open_sources([{"rationales": {"model": "tiny", "api_key": "sk-1"}}])


def test_settings_are_checked(server):
    with pytest.raises(ValueError, match="`num_examples` must be at least 0, got -1"):
        rationales(server, num_examples=-1)
    with pytest.raises(ValueError, match="`max_malformed` must be at least 0, got -1"):
        rationales(server, max_malformed=-1)
    with pytest.raises(ValueError, match="`on_malformed='skip'` is not known; choose 'raise' or 'none'"):
        rationales(server, on_malformed="skip")


# With a store


def test_with_a_store_nothing_is_asked_twice_after_the_budget_ended(server, store):
    server.script = own
    for _ in range(3):
        source = Stored(rationales(server, max_requests=10), store, batch_size=4)
        with pytest.raises(BudgetReached, match="Spent so far: 8 requests"):  # two batches of four fit into ten
            source(posts(30))
    texts = Stored(rationales(server, max_requests=10), store, batch_size=4)(posts(30))
    assert texts == [f"Named entities: None. Reasoning: about post {number} of Zaphod." for number in range(30)]
    asked = [posted(request) for request in server.requests]
    assert len(asked) == len(set(asked)) == 30


def test_a_failure_loses_at_most_the_batch(server, store):
    server.script = lambda request: failure(400) if posted(request).startswith("post 6 ") else own(request)
    with pytest.raises(EndpointError, match="400"):
        Stored(rationales(server), store, batch_size=4)(posts(12))
    before = [posted(request) for request in server.requests]
    assert 5 <= len(before) <= 8
    server.script = own
    assert None not in Stored(rationales(server), store, batch_size=4)(posts(12))
    again = [posted(request) for request in server.requests[len(before) :]]
    assert not {f"post {number} of Zaphod" for number in range(4)} & set(again), "a finished batch was asked again"
    assert len(again) == 8


def test_a_batch_of_one_loses_nothing(server, store):
    server.script = lambda request: failure(400) if posted(request).startswith("post 6 ") else own(request)
    with pytest.raises(EndpointError, match="400"):
        Stored(rationales(server), store, batch_size=1)(posts(12))
    server.script = own
    Stored(rationales(server), store, batch_size=1)(posts(12))
    assert len(server.requests) == 12 + 1


# Image knowledge


def picture(seed=1, size=(40, 30), mode="RGB"):
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.putpixel((0, 0), (seed, 2, 3))
    return image.convert(mode)


def sent_image(request):
    (image,) = [part for part in request.content if part["type"] == "image_url"]
    scheme, _, data = image["image_url"]["url"].partition(",")
    assert scheme == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_an_image_is_sent_with_the_prompt_and_without_the_post(server):
    server.script = in_turn([answer("  Zaphod\n on a stage ")])
    source = EndpointAuxiliary("tiny", server.base_url)
    rows = [{"id": "1", "tokens": ["Quuxville"], "image": picture(mode="RGBA")}, {"id": "2", "tokens": ["x"]}]
    assert source(rows) == ["Zaphod on a stage", None]
    (request,) = server.requests
    assert request.content[1:] == [{"type": "text", "text": load_prompt("mmavk")}]
    assert "Quuxville" not in json.dumps(request.body)
    assert (sent_image(request).format, sent_image(request).size) == ("JPEG", (40, 30))


def test_large_images_are_scaled_down(server):
    EndpointAuxiliary("tiny", server.base_url, max_side_pixels=100)([{"image": picture(size=(400, 200))}])
    assert sent_image(server.requests[0]).size == (100, 50)
    EndpointAuxiliary("tiny", server.base_url)([{"image": picture(size=(1000, 2048))}])
    assert sent_image(server.requests[1]).size == (500, 1024)


def test_equal_images_are_asked_about_once(server):
    server.script = lambda request: answer(f"corner {sent_image(request).size}")
    rows = [{"image": picture(size=(40 + number % 2, 30))} for number in range(6)]
    assert EndpointAuxiliary("tiny", server.base_url)(rows) == ["corner (40, 30)", "corner (41, 30)"] * 3
    assert len(server.requests) == 2


def test_empty_answers_are_malformed(server):
    server.script = in_turn([answer(" ")])
    source = EndpointAuxiliary("tiny", server.base_url, prompt="Who?")
    assert source([{"image": picture()}]) == [RATIONALE]
    server.script = lambda request: answer("")
    with pytest.raises(EndpointError, match="3 malformed answers for an image of 40 x 30 pixels"):
        source([{"image": picture()}])
    none = EndpointAuxiliary("tiny", server.base_url, on_malformed="none", max_malformed=0)
    assert none([{"image": picture()}]) == [None]


def test_the_identity_of_image_knowledge(server):
    base = EndpointAuxiliary("tiny", server.base_url)
    assert base.identity["prompt"] == hashlib.sha256(load_prompt("mmavk").encode()).hexdigest()[:12]
    assert json.loads(base.identity["settings"]) == {
        "jpeg_quality": 90, "max_side_pixels": 1024, "max_tokens": 512, "temperature": 0.0
    }  # fmt: skip
    assert base.reads == ("image",)
    assert EndpointAuxiliary("tiny", server.base_url, prompt="Who?").identity != base.identity
    with pytest.raises(ValueError, match="`prompt` is ' '; expected a question"):
        EndpointAuxiliary("tiny", server.base_url, prompt=" ")
    with pytest.raises(ValueError, match="`max_side_pixels` must be at least 1, got 0"):
        EndpointAuxiliary("tiny", server.base_url, max_side_pixels=0)

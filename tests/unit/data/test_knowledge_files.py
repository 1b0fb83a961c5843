from __future__ import annotations

import pytest

from hf_mner.data.knowledge_columns import check_knowledge_names
from hf_mner.data.knowledge_files import read_blip2_captions, read_chatgpt_records, read_mplug_owl_descriptions


def test_captions_and_the_empty_one(write_file):
    path = write_file("c.txt", "O_1.jpg :a man :b\n71406.jpg :\n")
    assert read_blip2_captions(path) == {"O_1": "a man :b", "71406": None}
    with pytest.raises(ValueError, match="line 1: 'x' is no caption; expected '<id>.jpg :<caption>'"):
        read_blip2_captions(write_file("d.txt", "x\n"))


def test_chatgpt_text_follows_the_end_mark(write_file):
    path = write_file("c.txt", "a\tO\r\nb\tB-PER\r\n<EOS>\tX\r\nNamed\tX\r\nentities:\tX\r\n\r\n\r\nc\tO\r\n")
    first, second = read_chatgpt_records(path)
    assert (first.tokens, first.text) == (["a", "b"], "Named entities:")
    assert (second.tokens, second.text) == (["c"], None)
    with pytest.raises(ValueError, match="line 2: knowledge word 'b' is tagged 'O'; expected 'X'"):
        read_chatgpt_records(write_file("d.txt", "<EOS>\tX\nb\tO\n"))
    with pytest.raises(ValueError, match=r"line 1: \['a'\] has 1 column"):
        read_chatgpt_records(write_file("e.txt", "a\n"))


def test_descriptions_may_span_lines(write_file):
    path = write_file("m.txt", "imgid:1###One.\n\nTwo.\nimgid:O_2###\nimgid:3###Three\n")
    assert read_mplug_owl_descriptions(path) == {"1": "One.\n\nTwo.", "O_2": None, "3": "Three"}
    with pytest.raises(ValueError, match="starts with 'One'; expected 'imgid:"):
        read_mplug_owl_descriptions(write_file("n.txt", "One"))
    with pytest.raises(ValueError, match="not UTF-8 at byte 0"):
        read_mplug_owl_descriptions(write_file("o.txt", b"\xff"))


def test_knowledge_names_are_checked():
    known = {"blip2_captions": 1, "chatgpt": 1, "mplug_owl_captions": 1}
    assert check_knowledge_names("x", known, ["blip2_captions", "chatgpt"]) == ["blip2_captions", "chatgpt"]
    assert check_knowledge_names("x", known, []) == []
    with pytest.raises(ValueError, match="chatgpt and mplug_owl_captions both fill `knowledge.auxiliary`"):
        check_knowledge_names("x", known, ["chatgpt", "mplug_owl_captions"])
    with pytest.raises(ValueError, match="'chatgpt' is not published for 'wnut17'; what there is: none"):
        check_knowledge_names("wnut17", {}, ["chatgpt"])
    with pytest.raises(ValueError, match=r"give 'auto' or a list such as \['chatgpt'\]"):
        check_knowledge_names("x", known, "chatgpt")

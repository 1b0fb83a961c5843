from __future__ import annotations

import pytest

from hf_mner.data.bio_files import BioFormat, iob1_to_bio, iterate_bio_blocks, parse_bio_block
from hf_mner.data.labels import decode_bio

TAB, SPACE = BioFormat(), BioFormat(separator=" ")


def read(path, bio_format=TAB, types=None):
    sentences = [parse_bio_block(block, bio_format, types) for block in iterate_bio_blocks(path)]
    return [sentence for sentence in sentences if sentence is not None]


def test_columns_are_split_at_the_tab_alone(write_file):
    path = write_file("a.txt", "IMGID:7\n\u00a0\tO\nNew York\tB-LOC\n\u2028\tO\n")
    assert read(path)[0].tokens == ["\u00a0", "New York", "\u2028"]


def test_sentences_end_at_blank_lines_tabs_and_image_ids(write_file):
    path = write_file("a.txt", "a\tO\n\t\nb\tO\r\n\r\n\n\nIMGID:1\nc\tO\nIMGID:2\nd\tO")
    found = read(path)
    assert [sentence.tokens for sentence in found] == [["a"], ["b"], ["c"], ["d"]]
    assert [sentence.image_id for sentence in found] == [None, None, "1", "2"]
    assert [sentence.position for sentence in found] == [0, 1, 2, 3]


def test_byte_order_mark_is_no_part_of_the_first_line(write_file):
    assert read(write_file("a.txt", b"\xef\xbb\xbfIMGID:1\nc\tO\n"))[0].image_id == "1"


def test_characters_with_a_space_separator(write_file):
    path = write_file("a.txt", "IMGID:新1\n《 O\n风 B-ARTWORK\n竹 I-ARTWORK\n")
    (sentence,) = read(path, SPACE, ["ARTWORK"])
    assert (sentence.image_id, sentence.tokens) == ("新1", ["《", "风", "竹"])


def test_stray_inside_tags_stay_and_have_two_readings(write_file):
    (sentence,) = read(write_file("a.txt", "a\tI-PER\nb\tO\nc\tB-LOC\nd\tI-ORG\n"))
    assert sentence.tags == ["I-PER", "O", "B-LOC", "I-ORG"]
    assert decode_bio(sentence.tags) == [(0, 1, "PER"), (2, 3, "LOC"), (3, 4, "ORG")]
    assert decode_bio(sentence.tags, "strict") == [(2, 3, "LOC")]


def test_iob1_becomes_bio(write_file):
    tags = ["I-PER", "I-PER", "B-PER", "O", "I-ORG", "I-LOC", "B-LOC"]
    assert iob1_to_bio(tags) == ["B-PER", "I-PER", "B-PER", "O", "B-ORG", "B-LOC", "B-LOC"]
    conll = BioFormat(separator=" ", columns=4, tag_column=3, iob1=True, skipped_token="-DOCSTART-")
    path = write_file("a.txt", "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n")
    (sentence,) = read(path, conll)
    assert sentence.tags == ["B-ORG", "O"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb\n", r"line 2: 'b' has 1 filled column\(s\); expected 2"),
        ("a\tO\n\tB-PER\n", r"line 2: '\\tB-PER' has 1 filled column\(s\)"),
        ("a\tO\tO\n", r"has 3 filled column\(s\); expected 2"),
        ("a O\n", "its label after a tab"),
        ("a\tO\nb\tPER\n", "line 2: Tag 'PER' is not a BIO tag"),
        ("a\tE-PER\n", "expected 'O', 'B-<type>' or 'I-<type>'"),
        ("\n\na\tB-DOG\n", r"line 3: type 'DOG' of tag 'B-DOG' is not one of this data set's types \(PER, LOC\)"),
        ("IMGID:5\n\na\tO\n", "line 1: no tokens follow 'IMGID:5'"),
        (b"a\tO\n\xff\tO\n", "line 2: b'\\\\xff\\\\tO' is not UTF-8"),
    ],
)
def test_bad_lines_name_file_line_value_and_cure(write_file, content, message):
    path = write_file("bad.txt", content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path, TAB, ["PER", "LOC"])
    assert str(path) in str(caught.value)

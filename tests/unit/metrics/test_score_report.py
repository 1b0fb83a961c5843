"""The text table of scores."""

from hf_mner.metrics import format_scores, score_grounded_entities, score_grounding, score_seen_unseen, score_tags


def test_table_of_tags():
    table = format_scores(score_tags([["B-PER", "O", "B-ORG"]], [["B-PER", "O", "B-LOC"]]))
    assert table.split("\n") == [
        "     precision  recall      f1  support",
        "all      50.00   50.00   50.00        2",
        "LOC       0.00    0.00    0.00        1",
        "ORG       0.00    0.00    0.00        0",
        "PER     100.00  100.00  100.00        1",
    ]


def test_table_of_grounded_entities_has_a_row_for_each_sub_score():
    right = [[{"start": 0, "end": 1, "type": "PER", "boxes": []}]]
    lines = format_scores(score_grounded_entities(right, right)).split("\n")
    assert [line.split()[0] for line in lines[1:]] == ["all", "mner", "eeg"]
    assert lines[0].split() == ["precision", "recall", "f1", "tp", "fp", "fn"]


def test_parts_name_their_types():
    spans = [[(0, 1, "PER")]]
    table = format_scores(score_seen_unseen(spans, spans, [["Kerr"]], {"Kerr"}))
    assert "seen PER" in table
    assert "unseen " in table


def test_scores_without_f1_are_listed():
    table = format_scores(score_grounding([[0, 0, 1, 1], None], [[[0, 0, 1, 1]]] * 2))
    assert [line.split() for line in table.split("\n")] == [
        ["accu@0.5", "50.00"],
        ["accu@0.75", "50.00"],
        ["miou", "50.00"],
        ["support", "2"],
    ]

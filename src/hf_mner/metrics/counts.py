"""From counts of right, predicted and gold items to precision, recall and F1; one definition for every score."""

from __future__ import annotations

from collections.abc import Sized


def precision_recall_f1(true_positives: int, predicted: int, gold: int) -> dict[str, float]:
    """Return precision, recall and F1 as fractions; a quotient with nothing below the line counts as 0.

    Args:
        true_positives: how many items are right.
        predicted: how many were predicted.
        gold: how many there are.

    Returns:
        `{"precision", "recall", "f1"}`, each in [0, 1].
    """
    precision = true_positives / predicted if predicted else 0.0
    recall = true_positives / gold if gold else 0.0
    f1 = 2 * true_positives / (predicted + gold) if predicted + gold else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def check_same_length(predictions: Sized, references: Sized, unit: str) -> None:
    """Raise `ValueError` unless there is one prediction for each reference; `unit` names what is counted."""
    if len(predictions) != len(references):
        raise ValueError(
            f"`predictions` has {len(predictions)} {unit} but `references` has {len(references)};"
            f" give one prediction for each of the {unit}, in the same order (an empty list where nothing was found)."
        )

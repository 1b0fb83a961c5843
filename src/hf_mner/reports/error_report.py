"""An error report of one evaluated model: what is gathered for it, and the HTML page made of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

from hf_mner.evaluation import grounded_of
from hf_mner.metrics import (
    Finding,
    ScoreBin,
    classify_errors,
    confusion_table,
    count_kinds,
    expected_calibration_error,
    reliability,
)
from hf_mner.metrics.errors import GROUNDING_KINDS, KINDS, RIGHT, SPAN_AND_TYPE_RIGHT
from hf_mner.metrics.report import score_rows
from hf_mner.rendering.elements import definition_list, escape
from hf_mner.rendering.knowledge_words import describe_knowledge

from .html_parts import percent, reliability_diagram, table
from .marked_text import marked_lines

TEMPLATE = files("hf_mner.reports") / "error_report_template.html"
MAX_MISTAKES = 50
KIND_NAMES = {
    RIGHT: "right",
    "boundary": "boundary error",
    "type": "type error",
    "boundary_and_type": "boundary and type error",
    "spurious": "spurious",
    "missed": "missed",
    "wrong_box": "wrong box",
    "box_for_ungroundable": "box for an ungroundable entity",
    "no_box": "no box for a groundable entity",
}
SCORE_PARTS = {
    "entities": "Entities: span and type",
    "seen_unseen": "Entities whose words are, and are not, an entity of the training data",
    "grounded": "Entities with boxes",
}


class Mistake(NamedTuple):
    """A wrong prediction with what it was made from.

    Args:
        finding: the prediction and the gold entity that it was meant for.
        example: the gold example; `id`, `tokens` and `entities` are shown.
        predicted: all entities that were found in the text.
        image_name: file name of the image; None where there is none.
    """

    finding: Finding
    example: Mapping[str, Any]
    predicted: Sequence[Mapping[str, Any]]
    image_name: str | None


class ErrorReport(NamedTuple):
    """What the page says.

    Args:
        facts: model, data and knowledge in words.
        scores: as `hf_mner.evaluation.score_found` returns them.
        kinds: number of findings of each kind.
        confusion: see `confusion_table`.
        bins: see `reliability`; right are span and type.
        mistakes: wrong predictions, those of the highest scores first.
        num_wrong: how many wrong predictions there are, also those that are not among `mistakes`.
    """

    facts: Mapping[str, str]
    scores: Mapping[str, Any]
    kinds: Mapping[str, int]
    confusion: Mapping[tuple[str | None, str | None], int]
    bins: Sequence[ScoreBin]
    mistakes: Sequence[Mistake]
    num_wrong: int


def build_error_report(
    found: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Any],
    facts: Mapping[str, str],
    image_names: Sequence[str | None] | None = None,
    max_mistakes: int = MAX_MISTAKES,
) -> ErrorReport:
    """Gather what is wrong with a model's entities.

    Args:
        found: copies of the examples with what the model found in its last stage, as `recognize_entities` returns
            them.
        examples: the gold.
        scores: of that, from `hf_mner.evaluation.score_found`. Boxes are judged where it judged them.
        facts: what the head of the page says of model and data.
        image_names: file name of each text's image; None where it has none.
        max_mistakes: wrong predictions that are shown.

    Raises:
        ValueError: if `scores` are of a model that finds no typed entities, or the number of texts differs.
    """
    if "entities" not in scores:
        raise ValueError(
            f"`scores` have no `entities`, only {', '.join(scores)}; a report needs a model that finds typed entities,"
            " not one stage of it."
        )
    names = image_names or [None] * len(examples)
    is_grounded = "grounded" in scores
    predicted = [grounded_of(answer) for answer in found]
    findings = classify_errors(predicted, [example["entities"] for example in examples], is_grounded)
    judged = [finding for finding in findings if finding.predicted is not None]
    wrong = sorted((finding for finding in judged if finding.kind != RIGHT), key=lambda one: -score_of(one))
    return ErrorReport(
        facts=facts,
        scores=scores,
        kinds=count_kinds(findings, is_grounded),
        confusion=confusion_table(findings),
        bins=reliability(
            [score_of(finding) for finding in judged], [finding.kind in SPAN_AND_TYPE_RIGHT for finding in judged]
        ),
        mistakes=[
            Mistake(finding, examples[finding.text], predicted[finding.text], names[finding.text])
            for finding in wrong[:max_mistakes]
        ],
        num_wrong=len(wrong),
    )


def score_of(finding: Finding) -> float:
    """Return the score of a finding's prediction, at most 1 (sums of float32 probabilities can exceed it a little)."""
    return min(float(finding.predicted["score"]), 1.0) if finding.predicted else 0.0


def render_error_report(report: ErrorReport) -> str:
    """Return the report as one HTML page that needs no other file, no network and no script."""
    title = f"Errors of {report.facts.get('model', 'a model')} on {report.facts.get('dataset', 'a data set')}"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        facts=definition_list(report.facts),
        scores="\n".join(
            scores_table(caption, report.scores[part])
            for part, caption in SCORE_PARTS.items()
            if part in report.scores
        ),
        kinds=kinds_table(report.kinds),
        confusion=confusion_html(report.confusion),
        error=percent(expected_calibration_error(report.bins)),
        diagram=reliability_diagram(report.bins),
        bins=bins_table(report.bins),
        num_shown=len(report.mistakes),
        num_wrong=report.num_wrong,
        mistakes="\n".join(mistake_html(number, one) for number, one in enumerate(report.mistakes, start=1)),
    )


def scores_table(caption: str, scores: Mapping[str, Any]) -> str:
    """Return precision, recall, F1 and number of gold entities of the whole and of every part."""
    rows = [
        [
            name or "all",
            *(percent(row[key]) for key in ("precision", "recall", "f1")),
            row["support"] if "support" in row else row["tp"] + row["fn"],
        ]
        for name, row in score_rows(scores)
        if not name.startswith("overall")  # of seen and unseen together: the first table
    ]
    return table(caption, ["", "precision", "recall", "F1", "gold entities"], rows)


def kinds_table(kinds: Mapping[str, int]) -> str:
    """Return the number of findings of each kind, and their shares of all that is wrong."""
    wrong = sum(count for kind, count in kinds.items() if kind != RIGHT)
    described = {**KINDS, **GROUNDING_KINDS}
    rows = [
        [KIND_NAMES[kind], count, "" if kind == RIGHT else percent(count / max(wrong, 1)), described[kind]]
        for kind, count in kinds.items()
    ]
    return table("Kinds of errors", ["kind", "number", "share of errors, %", "meaning"], rows)


def confusion_html(confusion: Mapping[tuple[str | None, str | None], int]) -> str:
    """Return gold types in rows and predicted types in columns; the last of each is for what has no partner."""
    types: list[str | None] = [*sorted({name for pair in confusion for name in pair if name is not None})]
    rows = [
        [
            name if name is not None else "none (spurious)",
            *(confusion.get((name, other), 0) for other in [*types, None]),
        ]
        for name in [*types, None]
    ]
    rows[-1][-1] = ""
    return table("Types: gold in rows, predicted in columns", ["gold", *types, "none (missed)"], rows)


def bins_table(bins: Sequence[ScoreBin]) -> str:
    """Return the bins that hold predictions."""
    rows = [
        [f"{part.lower:.1f} to {part.upper:.1f}", part.size, percent(part.mean_score), percent(part.accuracy)]
        for part in bins
        if part.size
    ]
    return table("Predictions by score", ["score", "predictions", "mean score, %", "right, %"], rows)


def mistake_html(number: int, mistake: Mistake) -> str:
    """Return one wrong prediction: what, in which text, beside which gold, made from which knowledge."""
    kind, predicted, gold = mistake.finding[1:]
    tokens = mistake.example["tokens"]
    parts = [f'<article id="mistake-{number}">', f"<h3>{number}. {escape(KIND_NAMES[kind])}</h3>"]
    facts = {"predicted": describe_entity(predicted, tokens), "gold": describe_entity(gold, tokens)}
    parts.append(definition_list({name: text for name, text in facts.items() if text}))
    parts += marked_lines(tokens, mistake.example["entities"], "gold", gold)
    parts += marked_lines(tokens, mistake.predicted, "predicted", predicted)
    origin = {"text": str(mistake.example.get("id")), "image": mistake.image_name or "none"}
    parts.append(definition_list(origin))
    shown = (predicted or {}).get("shown") or {}
    if shown:
        texts = {part: describe_knowledge(value) for part, value in shown.items()}
        parts.append(
            f"<details><summary>Knowledge that the model was shown for mistake {number}</summary>"
            f"{definition_list(texts)}</details>"
        )
    else:
        parts.append('<p class="note">The model was shown no knowledge for this entity.</p>')
    return "\n".join([*parts, "</article>"])


def describe_entity(entity: Mapping[str, Any] | None, tokens: Sequence[str]) -> str:
    """Say which words, type, score and boxes an entity has; nothing for None."""
    if entity is None:
        return ""
    words = " ".join(tokens[entity["start"] : entity["end"]])
    score = f", score {entity['score']:.3f}" if "score" in entity else ""
    boxes = "; ".join(" ".join(f"{edge:.0f}" for edge in box) for box in entity.get("boxes") or ())
    return f"{words} [{entity['type']}]{score}" + (f", box {boxes}" if boxes else "")

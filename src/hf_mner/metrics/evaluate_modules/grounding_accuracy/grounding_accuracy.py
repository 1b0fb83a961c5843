"""`evaluate` wrapper of `hf_mner.metrics.score_grounding`: Accu@0.5, Accu@0.75 and mean IoU."""

import datasets
import evaluate

from hf_mner.metrics import score_grounding

DESCRIPTION = "Visual grounding: share of queries whose box has an IoU above 0.5 and 0.75, and the mean IoU."
CITATION = "Yang et al. 2019, A Fast and Accurate One-Stage Approach to Visual Grounding (ICCV)."


class GroundingAccuracy(evaluate.Metric):
    """Grounding accuracy; see `hf_mner.metrics.score_grounding`. Here "no box" is None or an empty list."""

    def _info(self):
        box = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=score_grounding.__doc__,
            features=datasets.Features({"predictions": box, "references": datasets.List(box)}),
        )

    def _compute(self, predictions, references):
        return score_grounding([box or None for box in predictions], references)

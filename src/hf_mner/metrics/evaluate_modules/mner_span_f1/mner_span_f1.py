"""`evaluate` wrapper of `hf_mner.metrics.score_tags`: entity precision, recall and F1 of BIO tags."""

import datasets
import evaluate

from hf_mner.metrics import score_tags

DESCRIPTION = "Entity precision, recall and F1 of BIO tags in the conlleval reading, overall and per type."
CITATION = "Tjong Kim Sang and Buchholz 2000, Introduction to the CoNLL-2000 shared task (conlleval)."


class MnerSpanF1(evaluate.Metric):
    """Entity F1 from tag sequences; see `hf_mner.metrics.score_tags`."""

    def _info(self):
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=score_tags.__doc__,
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references, reading="conlleval"):
        return score_tags(predictions, references, reading=reading)

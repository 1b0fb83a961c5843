"""`evaluate` wrapper of `hf_mner.metrics.score_grounded_entities`: F1 of entities with their image regions."""

import datasets
import evaluate

from hf_mner.metrics import score_grounded_entities

DESCRIPTION = "Grounded entity F1 (span + type + region) with the sub-scores MNER and EEG, as the GMNER scorer."
CITATION = "Yu et al. 2023, Grounded Multimodal Named Entity Recognition on Social Media (ACL)."


class GmnerF1(evaluate.Metric):
    """Grounded entity F1; see `hf_mner.metrics.score_grounded_entities`."""

    def _info(self):
        box = datasets.List(datasets.Value("float64"))  # double, so that an IoU at the threshold stays there
        entity = {
            "start": datasets.Value("int64"),
            "end": datasets.Value("int64"),
            "type": datasets.Value("string"),
            "boxes": datasets.List(box),
        }
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=score_grounded_entities.__doc__,
            features=datasets.Features({"predictions": datasets.List(entity), "references": datasets.List(entity)}),
        )

    def _compute(self, predictions, references, iou_threshold=0.5, inclusive=False):
        return score_grounded_entities(predictions, references, iou_threshold=iou_threshold, inclusive=inclusive)

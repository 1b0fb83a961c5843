"""Write the tables of `docs/results.md` and `README.md` from the files in `results/`; no number there is typed.

    python -m benchmarks.render_results          rewrite the tables
    python -m benchmarks.render_results --check  exit with 1 if a table is not what the files say

A table stands between `<!-- table NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.annotation_tables import ANNOTATION_TABLES
from benchmarks.demo_tables import DEMO_TABLES
from benchmarks.knowledge_tables import KNOWLEDGE_TABLES
from benchmarks.speed_tables import SPEED_TABLES
from benchmarks.tables import ROOT, read, table
from benchmarks.training_tables import TRAINING_TABLES

DOCUMENTS = (ROOT / "docs" / "results.md", ROOT / "README.md")

MINI = "scanner/twitter2017-mini"
ARMS = {
    "text-no-distillation": "no knowledge",
    "captions-encyclopedia-rules": "captions + encyclopedia, all rules of look-up (the recipe as it is)",
    "captions-encyclopedia-no-distillation": "captions + encyclopedia, titles and aliases alone",
    "text": "no knowledge; TYT in stage 2 too",
    "captions-encyclopedia": "captions + encyclopedia, titles and aliases alone; TYT in stage 2 too",
    "text-shared": "no knowledge; TYT in stage 2 too; 3 layers shared",
    "captions-encyclopedia-shared": "captions + encyclopedia, titles and aliases; TYT in stage 2 too; 3 layers shared",
}
DEFAULT = {"captions-encyclopedia": "captions + encyclopedia", "none": "none (text alone)"}


def percents(scores: dict[str, Any]) -> list[str]:
    """Return precision, recall and F1 times 100."""
    return [f"{100 * scores[name]:.2f}" for name in ("precision", "recall", "f1")]


def stage1() -> str:
    """Span F1 of stage 1 with and without Trust Your Teacher."""
    names = {"detection-none": "no distillation (the teacher)", "detection-tyt": "Trust Your Teacher"}
    rows = [[label, *percents(read(f"{MINI}/{name}")["stages"]["detection"])] for name, label in names.items()]
    return table(["stage 1, test", "precision", "recall", "span F1"], rows)


def validation() -> str:
    """What chose the recipe's stage 2."""
    names = {
        "validation-no-distillation": "no distillation in stage 2",
        "validation-tyt": "Trust Your Teacher in stage 2",
    }
    rows = [[label, *percents(read(f"{MINI}/{name}")["entities"])] for name, label in names.items()]
    return table(["both stages, captions + encyclopedia, validation", "precision", "recall", "F1"], rows)


def entity_row(name: str, label: str) -> list[str]:
    """One line of a table of entity scores."""
    scores = read(name)
    parts = [f"{100 * scores['seen_unseen'][part]['f1']:.2f}" for part in ("seen", "unseen")]
    return [label, *percents(scores["entities"]), *parts]


def two_stages() -> str:
    """Entity F1 of the arms on Twitter-2017."""
    rows = [entity_row(f"{MINI}/{name}", label) for name, label in ARMS.items()]
    return table(["both stages, test", "precision", "recall", "F1", "seen F1", "unseen F1"], rows)


def default() -> str:
    """Entity F1 of the embedded checkpoint, by the knowledge it is given."""
    rows = [entity_row(f"scanner/default/{name}", label) for name, label in DEFAULT.items()]
    return table(["embedded default, knowledge", "precision", "recall", "F1", "seen F1", "unseen F1"], rows)


def types() -> str:
    """F1 by type of the embedded checkpoint."""
    scores = {label: read(f"scanner/default/{name}")["entities"]["per_type"] for name, label in DEFAULT.items()}
    names = ("PER", "LOC", "ORG", "MISC")
    rows = [[label, *(f"{100 * per_type[name]['f1']:.2f}" for name in names)] for label, per_type in scores.items()]
    return table(["embedded default, knowledge", *names], rows)


def throughput() -> str:
    """Two stages against the bare encoders."""
    measured = read("scanner/throughput")
    row = [
        f"{measured['tweets']} tweets, batch {measured['batch_size']}, {measured['threads']} thread",
        f"{measured['encoders_alone_s']:.2f} s",
        f"{measured['two_stages_s']:.2f} s",
        f"{measured['ratio']:.2f}",
        f"{measured['tweets_per_s']:.0f}",
    ]
    return table(["", "encoders alone", "two stages", "ratio", "tweets/s"], [row])


def consistency() -> str:
    """Entities after loading again and with other batch sizes."""
    rows = [
        [name, str(row["tweets"]), str(row["differing_tweets"]), f"{row['largest_score_difference']:.1e}"]
        for name, row in read("scanner/consistency").items()
    ]
    return table(["", "tweets", "tweets with other entities", "largest difference of a score"], rows)


def compact() -> str:
    """The embedded checkpoint against the run that it was made from."""
    names = {
        f"{MINI}/captions-encyclopedia-no-distillation": "single precision",
        "scanner/default/captions-encyclopedia": "8 bits",
    }
    rows = [[label, *percents(read(name)["entities"])] for name, label in names.items()]
    return table(["stored in", "precision", "recall", "F1"], rows)


def knowledge_use() -> str:
    """Type accuracy on gold spans by what stage 2 is shown."""
    measured = read("scanner/knowledge_use")
    groups = list(next(iter(measured.values())))
    header = ["shown", *(f"{group} ({measured['nothing'][group]['mentions']} mentions)" for group in groups)]
    rows = [[name, *(f"{100 * row[group]['accuracy']:.2f}" for group in groups)] for name, row in measured.items()]
    return table(header, rows)


def times() -> str:
    """Training time of each stage, from the logs that `hf-mner train` keeps."""
    names = {
        "log-detection-teacher": "stage 1, teacher",
        "log-detection": "stage 1",
        "log-recognition": "stage 2",
        "log-recognition-text": "stage 2 without knowledge",
    }
    logs = {label: read(f"{MINI}/{name}")[-1] for name, label in names.items()}
    rows = [[label, f"{log['epoch']:.0f}", f"{log['train_runtime'] / 60:.0f}"] for label, log in logs.items()]
    return table(["", "epochs", "minutes"], rows)


FUSIONS = {
    "none": "none (T-only)",
    "concat": "concat (Con., T+T)",
    "word_level": "word_level (MMAVK)",
    "prefix": "prefix (T+I)",
}


def sweep_rows(name: str, label: str = "{}") -> list[list[str]]:
    """One line for each run of a sweep over fusions."""
    return [
        [label.format(FUSIONS[run["settings"]["fusion"]]), *percents(run), f"{run['train_seconds'] / 60:.0f}"]
        for run in read(f"mmavk/{name}")["runs"]
    ]


def mmavk_fusions() -> str:
    """Table 4 rerun on Twitter-2017, with two kinds of knowledge."""
    rows = [
        *sweep_rows("twitter2017-fusions", "ChatGPT's text: {}"),
        *sweep_rows("twitter2017-captions", "BLIP-2 caption: {}"),
    ]
    return table(["knowledge: fusion (seed 42)", "precision", "recall", "F1", "minutes"], rows)


def mmavk_seeds() -> str:
    """Three seeds of text alone and of the best arm."""
    rows = [
        [
            FUSIONS[row["settings"]["fusion"]],
            str(row["seeds"]),
            *percents(row)[:2],
            f"{100 * row['f1']:.2f} ± {100 * row['f1_deviation']:.2f}",
        ]
        for row in read("mmavk/twitter2017-seeds")["summary"]
    ]
    return table(["fusion, ChatGPT's text", "seeds", "precision", "recall", "F1"], rows)


def mmavk_gmner() -> str:
    """Fusions on Twitter-GMNER with what a multimodal LLM said of the image alone."""
    return table(["fusion", "precision", "recall", "span + type F1", "minutes"], sweep_rows("twitter_gmner-fusions"))


def mmavk_prefix() -> str:
    """The prefix where images exist."""
    return table(["fusion", "precision", "recall", "F1", "minutes"], sweep_rows("cp_mner-prefix"))


def mmavk_thresholds() -> str:
    """Figure 4 with a stand-in for the similarity."""
    rows = [
        [f"{run['settings']['similarity_threshold']:g}", *percents(run)]
        for run in read("mmavk/twitter2017-thresholds")["runs"]
    ]
    return table(["similarity_threshold", "precision", "recall", "F1"], rows)


def crf() -> str:
    """The CRF's times beside those of pytorch-crf."""
    rows = [
        [
            name,
            *(
                f"{case[part]['ours_ms']:.1f} / {case[part]['pytorch_crf_ms']:.1f} = 1 : {case[part]['ratio']:.1f}"
                for part in ("loss", "decode")
            ),
        ]
        for name, case in read("crf/speed")["cases"].items()
    ]
    return table(["batch 32", "loss, forward and backward, ms", "decode, ms"], rows)


def crf_errors() -> str:
    """Largest differences at length 128 and 9 tags."""
    case = read("crf/speed")["cases"]["length 128"]
    names = {
        "ours_from_pytorch_crf": "ours from pytorch-crf, both float32",
        "ours_from_float64": "ours from float64",
        "pytorch_crf_from_float64": "pytorch-crf from float64",
    }
    parts = ("log_likelihood", "emissions", "transitions")
    rows = [[label, *(f"{case[name][part]:.1e}" for part in parts)] for name, label in names.items()]
    return table(["largest difference", "log-likelihood", "gradient of emissions", "gradient of transitions"], rows)


def mmavk_speed() -> str:
    """A training step and reading, beside the bare encoder."""
    measured = read("mmavk/speed")
    train, infer = measured["training"], measured["inference"]
    return table(
        ["", "bare encoder", "MMAVK", "ratio"],
        [
            [
                "update of 16 tweets: encoder + linear layer; `none`",
                f"{train['bare_step_ms']:.0f} ms",
                f"{train['none_step_ms']:.0f} ms",
                f"{train['ratio']:.2f}",
            ],
            [
                f"{infer['tweets']} tweets, batch {infer['batch_size']}: forward; `word_level`, knowledge cached",
                f"{infer['bare_tweets_per_second']:.0f} tweets/s",
                f"{infer['word_level_tweets_per_second']:.0f} tweets/s",
                f"{infer['ratio']:.2f}",
            ],
        ],
    )


PLANTED = {
    "joint": "MNER-QG",
    "no-grounding": "without QG loss",
    "no-existence": "without ED loss",
    "neither": "without both",
    "text": "MNER-QG-Text",
}


def mner_qg_planted() -> str:
    """The joint model on the planted signal."""
    rows = []
    for name, label in PLANTED.items():
        scores = read(f"mner_qg/planted/{name}")
        rows.append([label, *percents(scores["entities"]), *grounding_percents(scores)])
    chance = read("mner_qg/planted-curves")["chance_f1_test"]
    rows.append(["chance: names found, each given the most frequent type", *[f"{100 * chance:.2f}"] * 3, *"---"])
    return table(["planted signal, test", "precision", "recall", "F1", "Accu@0.5", "Accu@0.75", "mIoU"], rows)


def grounding_percents(scores: dict[str, Any]) -> list[str]:
    """Return Accu@0.5, Accu@0.75 and mIoU times 100, dashes for a model without boxes."""
    found = scores.get("grounding")
    return [f"{100 * found[name]:.2f}" if found else "-" for name in ("accu@0.5", "accu@0.75", "miou")]


def mner_qg_grounding() -> str:
    """Grounding alone: pictures and photographs learned by heart, and other photographs."""
    names = {
        "hundred-overfit": "planted signal, 100 training posts, scored on themselves",
        "yolo-grounding-train": "COCO, the 96 training photographs",
        "yolo-grounding": "COCO, 32 other photographs",
    }
    rows = []
    for name, label in names.items():
        scores = read(f"mner_qg/{name}")
        rows.append([label, str(scores["grounding"]["support"]), *grounding_percents(scores)])
    return table(["grounding alone", "queries", "Accu@0.5", "Accu@0.75", "mIoU"], rows)


def mner_qg_text() -> str:
    """MNER-QG-Text on Twitter-2017."""
    rows = [entity_row("mner_qg/twitter2017-text", "MNER-QG-Text, recipe as it is")]
    return table(["Twitter-2017, test", "precision", "recall", "F1", "seen F1", "unseen F1"], rows)


def mner_qg_speed() -> str:
    """Cost beside the bare encoder, by the number of types."""
    rows = []
    for row in read("mner_qg/speed")["rows"]:
        ratios = [row.get(f"{arm}_training_ratio") for arm in ARMS_QG]
        rows.append(
            [
                str(row["types"]),
                *(f"{row[f'{name}_ms']:.1f}" for name in ("bare", "text", "whole", "unshared")),
                *(f"{row[f'{arm}_ratio']:.1f}" for arm in ARMS_QG),
                *("-" if ratio is None else f"{ratio:.1f}" for ratio in ratios),
                f"{row['images_encoded']} / {row['texts']}",
            ]
        )
    header = ["types", "bare ms", "text ms", "whole ms", "whole, image again for each query, ms"]
    header += ["text / bare", "whole / bare", "training: text / bare", "training: whole / bare", "images / texts"]
    return table(header, rows)


ARMS_QG = ("text", "whole")
ARMS_HAM = {"text": "text alone", "encoded": "images encoded before", "whole": "with pixels"}


HAM_ARMS = {
    "symbol/whole": "symbols decide: HamLearning",
    "symbol/text": "symbols decide: text alone",
    "relation/whole": "relations decide: HamLearning",
    "relation/no-rgcn": "relations decide: without R-GCN",
    "relation/no-vit": "relations decide: without ViT",
}


def ham_planted() -> str:
    """HamLearning on the two planted sets."""
    rows = []
    for name, label in HAM_ARMS.items():
        rows.append([label, *percents(read(f"ham_learning/{name}")["entities"])])
    return table(["planted sets, test", "precision", "recall", "F1"], rows)


RELEVANCE_RUNS = {
    "relevance": ("no key symbol; matrices as parameters", "informative", "uninformative"),
    "relevance-misleading-matrices": ("misleading; matrices as parameters", "relevant", "irrelevant"),
    "relevance-misleading": ("misleading; parameters of size 1", "relevant", "irrelevant"),
}


def ham_relevance() -> str:
    """Does the relevance tell pictures that belong to their post from others?"""
    rows = []
    for file, (others, *sides) in RELEVANCE_RUNS.items():
        for view, found in read(f"ham_learning/{file}")["views"].items():
            means = [f"{found[f'mean_{side}']:.3f}" for side in sides]
            rows.append([f"{others}; {view} view", f"{found['auc']:.3f}", *means])
    return table(["half of the pictures", "AUC of M", "mean M, the other half", "mean M, that half"], rows)


def ham_text() -> str:
    """HamLearning without images on Twitter-2017."""
    rows = [entity_row("ham_learning/twitter2017-text", "HamLearning, text alone, recipe as it is")]
    return table(["Twitter-2017, test", "precision", "recall", "F1", "seen F1", "unseen F1"], rows)


CP_MNER_RATES = {
    "images-42-head-1e-3": ("5e-4", "1e-3"),
    "images-42-head-3e-4": ("5e-4", "3e-4"),
    "images-42-lr-3e-4": ("3e-4", "3e-4"),
    "images-42-head-1e-4": ("3e-4", "1e-4"),
}


def ham_cp_mner() -> str:
    """HamLearning on CP-MNER with images: which learning rates."""
    rows = []
    for name, rates in CP_MNER_RATES.items():
        scores = read(f"ham_learning/cp_mner/{name}")
        rows.append([*rates, f"{100 * scores['validation_f1']:.2f}", *percents(scores["entities"])])
    header = ["rate of the encoder", "of the other parts", "validation F1", "precision", "recall", "test F1"]
    return table(header, rows)


def ham_speed() -> str:
    """Cost of HamLearning beside the bare encoder, by the number of objects."""
    rows = []
    for row in read("ham_learning/speed")["rows"]:
        cells = [ARMS_HAM[row["arm"]], str(row["objects"] or "-")]
        for part in ("", "training_"):
            cells += [f"{row[f'bare_{part}ms']:.1f}", f"{row[f'{part}ms']:.1f}", f"{row[f'{part}ratio']:.2f}"]
        rows.append(cells)
    header = ["", "objects", "bare ms", "ms", "ratio", "training: bare ms", "training: ms", "training: ratio"]
    return table(header, rows)


def ham_graph() -> str:
    """Cost of the relation graphs of a batch."""
    measured = read("ham_learning/speed")
    rows = [
        [
            f"{measured['batch_size']} images, {row['objects']} objects each",
            f"{row['graph_ms']:.1f}",
            *(f"{100 * row[name]:.2f} %" for name in ("graph_share", "graph_training_share")),
        ]
        for row in measured["rows"]
        if "graph_ms" in row
    ]
    return table(["relation graphs of a batch", "ms", "share of reading", "share of a training step"], rows)


def fresh_clone() -> str:
    """What a new user waits for."""
    return table(["", "measured"], [[name, f"{value:g}"] for name, value in read("fresh_clone").items()])


TABLES: dict[str, Callable[[], str]] = {
    "stage1": stage1,
    "two_stages": two_stages,
    "validation": validation,
    "default": default,
    "types": types,
    "throughput": throughput,
    "knowledge_use": knowledge_use,
    "times": times,
    "consistency": consistency,
    "fresh_clone": fresh_clone,
    "compact": compact,
    "mmavk_fusions": mmavk_fusions,
    "mmavk_seeds": mmavk_seeds,
    "mmavk_gmner": mmavk_gmner,
    "mmavk_prefix": mmavk_prefix,
    "mmavk_thresholds": mmavk_thresholds,
    "mmavk_speed": mmavk_speed,
    "mner_qg_planted": mner_qg_planted,
    "mner_qg_grounding": mner_qg_grounding,
    "mner_qg_text": mner_qg_text,
    "mner_qg_speed": mner_qg_speed,
    "ham_planted": ham_planted,
    "ham_relevance": ham_relevance,
    "ham_text": ham_text,
    "ham_cp_mner": ham_cp_mner,
    "ham_speed": ham_speed,
    "ham_graph": ham_graph,
    "crf": crf,
    "crf_errors": crf_errors,
    **DEMO_TABLES,
    **ANNOTATION_TABLES,
    **KNOWLEDGE_TABLES,
    **SPEED_TABLES,
    **TRAINING_TABLES,
}


def render(text: str) -> str:
    """Return a document with its tables written anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if pattern.search(text):
            try:
                rendered = make()
            except FileNotFoundError as error:  # so a table whose file was lost is stale
                rendered = f"Not measured yet: `{Path(error.filename).relative_to(ROOT)}`."
            text = pattern.sub(lambda match, body=rendered: f"{match[1]}{body}\n{match[2]}", text)
    return text


def main() -> int:
    """Rewrite or check the documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if (rendered := render(text)) != text:
            stale.append(path.name)
            if not options.check:
                path.write_text(rendered, encoding="utf-8")
    print(f"{'stale' if options.check else 'rewritten'}: {', '.join(stale) or 'none'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

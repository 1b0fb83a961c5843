"""The tables of `docs/results.md` about knowledge: encyclopedia, store, image sources, endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.tables import read, table

SETS = {"twitter2017": "Twitter-2017", "twitter2015": "Twitter-2015", "twitter_gmner": "Twitter-GMNER"}


def coverage() -> str:
    """Share of gold mentions that are found, and how often the obvious type contradicts the gold type."""
    measured = read("knowledge/coverage")["sets"]
    labels = {
        "all sources alike, whole names": "every record trusted; titles and aliases as they stand, normalised",
        "all sources alike, all rules": "every record trusted; all rules",
        "trusted, whole names": "default trust; titles and aliases as they stand, normalised",
        "trusted, all rules": "default trust; all rules (the default)",
    }
    rows = []
    for arm, label in labels.items():
        shares = [f"{measured[name][arm]['found']:.1%}" for name in SETS]
        rows.append([label, *shares, *(f"{measured[name][arm]['misleading']:.1%}" for name in SETS)])
    return table(["", *SETS.values(), *(f"misleading, {name}" for name in SETS.values())], rows)


def coverage_rules() -> str:
    """Share of gold mentions by rule."""
    measured = read("knowledge/coverage")["sets"]
    by_set = {name: measured[name]["trusted, all rules"]["rules"] for name in SETS}
    rules = dict.fromkeys(rule for name in SETS for rule in by_set[name])
    rows = [[rule, *(f"{by_set[name].get(rule, {'share': 0})['share']:.2%}" for name in SETS)] for rule in rules]
    return table(["rule", *SETS.values()], rows)


def coverage_precision() -> str:
    """How many of the judged matches are right."""
    judged = read("knowledge/coverage")["non_exact"]
    rows = [[rule, str(row["judged"]), str(row["right"]), str(row["found"])] for rule, row in judged["rules"].items()]
    total = [str(sum(row[key] for row in judged["rules"].values())) for key in ("judged", "right", "found")]
    return table(["rule", "judged", "right", "found in the sets"], [*rows, ["all", *total]])


def encyclopedia_speed() -> str:
    """Look-ups a second, and what an index costs."""
    measured = read("knowledge/encyclopedia_speed")
    paper = measured["paper_sentences_per_s"]
    rows = [
        [
            f"{row['articles']:,} articles",
            f"{row['first_per_s']:,.0f} ({row['first_per_s'] / paper:.0f}x)",
            f"{row['again_per_s']:,.0f} ({row['again_per_s'] / paper:.0f}x)",
            f"{row['open_ms']:.1f} ms",
            f"{row['private_mb']:.0f} MB",
            f"{row['shared_mb']:,.0f} MB",
            f"{row['build_s']:.0f} s",
            f"{row['build_mb']:.0f} MB",
            f"{row['disk_mb']:,.0f} MB",
        ]
        for row in measured["indexes"]
    ]
    bm25 = measured["bm25"]["sentences_per_s"]
    rows.append(["BM25 over the real records", f"{bm25:.1f} ({bm25 / paper:.2f}x)", *["-"] * 7])
    header = ["", "at first sight", "again", "open", "own memory", "pages of files", "build", "its memory", "disk"]
    return table([*header], rows)


def encyclopedia_backends() -> str:
    """Look-ups of a million names."""
    measured = read("knowledge/encyclopedia_backends")
    rows = []
    for kind, label in (("exact", ""), ("fuzzy", ", one edit away")):
        for name, row in measured[kind].items():
            numbers = [f"{row['microseconds']:.1f} us", f"{row['build_s']:.1f} s", f"{row['disk_mb']:.0f} MB"]
            rows.append([f"{name}{label}", *numbers])
    return table([f"{measured['names']:,} names", "a look-up", "build", "disk"], rows)


def store_backends() -> str:
    """Writing and reading of what a store could be made of."""
    measured = read("knowledge/store_backends")
    keys = ("put_8_ms", "put_100_ms", "open_ms", "get_one_us", "get_in_hundreds_us", "bytes_per_item")
    header = ["", "put 8, ms", "put 100, ms", "open, ms", "get 1, us", "get 1 of 100, us", "bytes for an item"]
    return table(header, [[name, *(f"{arm[key]:,.1f}" for key in keys)] for name, arm in measured["arms"].items()])


def store_kills() -> str:
    """What kills cost a store."""
    measured = read("knowledge/store_kills")
    chain = measured["chain"]
    kills = [*measured["apart"], *chain["kills"]]
    rows = [
        ["kills", str(len(kills))],
        ["stores that were damaged", str(sum(kill["integrity"] != "ok" for kill in kills))],
        ["items in a batch", str(measured["batch_size"])],
        ["most items that a kill lost", str(max(kill["lost"] for kill in kills))],
        ["kills that lost any", str(sum(kill["lost"] > 0 for kill in kills))],
        [
            f"calls for {measured['items']} items after {len(chain['kills'])} kills in a row",
            str(chain["computed_in_all"]),
        ],
    ]
    return table(["store", "measured"], rows)


def encyclopedia_kills() -> str:
    """What kills cost the build of an index."""
    measured = read("knowledge/encyclopedia_kills")
    apart, chain = measured["apart"], measured["chain"]
    kills = [*apart, *chain["kills"]]
    steps = {"batch": "while reading", "references": "at redirects", "names": "while merging", "near": "at the end"}
    rows = [
        ["kills", str(len(kills))],
        *([f"kills {label}", str(measured["kills_by_step"].get(step, 0))] for step, label in steps.items()),
        ["indexes that were damaged, or gave other answers", str(sum(not run["is_equal"] for run in (*apart, chain)))],
        ["most pieces of work that a kill lost", str(max(kill["lost"] for kill in kills))],
        [
            f"pieces done again after {len(chain['kills'])} kills in a row, of {sum(measured['pieces'].values())}",
            str(chain["pieces_done_again"]),
        ],
    ]
    return table(["build of an index", "measured"], rows)


def detection() -> str:
    """Recall and precision of the detectors on the COCO photographs."""
    measured = read("knowledge/image_sources")
    yolox, deeplab = measured["yolox_nano"], measured["deeplabv3_mobilenet_v2"]
    cases = {f"YOLOX-nano, threshold {name}": yolox[f"threshold_{name}"] for name in ("0.1", "0.3", "0.5")}
    cases["DeepLabV3, areas as boxes, 20 classes"] = deeplab["voc_classes"]
    cases["the same, classes that stand once in a photograph"] = deeplab["voc_classes_one_of_a_kind"]
    rows = []
    for label, case in cases.items():
        shares = [case["recall"], case["recall_any_label"], case.get("precision")]
        rows.append([label, str(case["gold_boxes"]), *("-" if share is None else f"{share:.1%}" for share in shares)])
    return table(["128 photographs", "gold boxes", "recall", "recall, any label", "precision"], rows)


def writing() -> str:
    """What OCR finds."""
    measured = read("knowledge/image_sources")["ocr"]
    labels = {"coco": "COCO photographs", "photos": "other photographs", "tweets": "images of tweets"}
    rows = [
        [
            label,
            *(str(measured[name][key]) for key in ("images", "with_writing", "with_two_characters")),
            f"{measured[name]['seconds_per_image']:.2f} s",
        ]
        for name, label in labels.items()
    ]
    return table(["", "images", "with writing", "of two characters or more", "an image"], rows)


def llm_endpoint() -> str:
    """What failures and an exhausted budget cost."""
    measured = read("knowledge/llm_endpoint")
    failures, resume = measured["failures"], measured["resume"]
    rows = [
        ["posts", str(measured["posts"])],
        *([f"answers that failed: {name}", str(count)] for name, count in failures["failures"].items()),
        ["requests", str(failures["requests"])],
        ["right answers in the end", str(failures["right_answers"])],
        [
            f"runs until all is answered, with a budget of {resume['budget_requests']} requests each",
            str(len(resume["runs"])),
        ],
        ["posts of finished batches that were asked again", str(resume["posts_of_finished_batches_asked_again"])],
        ["posts of broken batches that were asked again", str(resume["posts_of_broken_batches_asked_again"])],
        ["right answers after these runs", str(resume["right_answers"])],
    ]
    return table(["a server that fails on purpose", "measured"], rows)


KNOWLEDGE_TABLES: dict[str, Callable[[], Any]] = {
    "coverage": coverage,
    "coverage_rules": coverage_rules,
    "coverage_precision": coverage_precision,
    "encyclopedia_speed": encyclopedia_speed,
    "encyclopedia_backends": encyclopedia_backends,
    "store_backends": store_backends,
    "store_kills": store_kills,
    "encyclopedia_kills": encyclopedia_kills,
    "detection": detection,
    "writing": writing,
    "llm_endpoint": llm_endpoint,
}

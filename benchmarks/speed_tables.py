"""The tables of `docs/results.md` on speed: throughput, fewer bits, and the cost of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import tables
from benchmarks.tables import read, table

SYSTEM_NAMES = {"scanner": "SCANNER", "mmavk": "MMAVK", "mner_qg": "MNER-QG", "ham_learning": "HamLearning"}
SIZE_NAMES = {"minilm": "MiniLM", "base": "BERT-base"}


def throughput() -> str:
    """Each system against its bare encoder."""
    rows = [
        [name, f"{one['encoder_tweets_per_s']:.0f}", f"{one['tweets_per_s']:.0f}", f"{one['share']:.2f}"]
        for name, one in read("annotation/throughput")["systems"].items()
    ]
    return table(["reading", "bare encoder, tweets/s", "system, tweets/s", "encoder's share of the time"], rows)


def throughput_pipeline() -> str:
    """MMAVK's pipeline against the one of transformers."""
    arms = read("annotation/throughput")["MMAVK, none, against the token-classification pipeline"]
    rows = [
        [name, f"{one['transformers_tweets_per_s']:.0f}", f"{one['tweets_per_s']:.0f}", f"{one['ratio']:.2f}"]
        for name, one in arms.items()
    ]
    header = ["`multimodal-ner`, MMAVK `none`", "`token-classification`, float32, tweets/s", "ours, tweets/s", "times"]
    return table(header, rows)


def precision() -> str:
    """The embedded default with fewer bits."""
    arms = read("inference/precision")["arms"]
    whole = arms["float32"]["f1"]
    rows = [
        [
            name,
            f"{one['cpu_ms_per_tweet']:.1f}",
            f"{one['speed_up']:.2f}",
            f"{100 * one['f1']:.2f}",
            f"{100 * (one['f1'] - whole):+.2f}",
        ]
        for name, one in arms.items()
    ]
    return table(["embedded SCANNER", "CPU ms per tweet", "speed-up", "test F1", "difference"], rows)


def steps() -> str:
    """What each system costs for each tweet."""
    return table(
        ["system, encoder", "training", "reading", "of it rows", "encoder", "heads, decoding"],
        [step_row(read(f"speed/{path.stem}")) for path in sorted((tables.RESULTS / "speed").glob("step-*.json"))],
    )


def step_row(one: dict[str, Any]) -> list[str]:
    """One system with one size of encoder; CPU milliseconds for each tweet."""
    parts = one["reading"]["parts"]
    numbers = [one["training"]["cpu_ms_per_tweet"], one["reading"]["cpu_ms_per_tweet"]]
    numbers += [parts["rows_ms"], parts["encoder_ms"], parts["heads_and_decoding_ms"]]
    return [f"{SYSTEM_NAMES[one['system']]}, {SIZE_NAMES[one['encoder_size']]}", *(f"{n:.1f}" for n in numbers)]


SPEED_TABLES: dict[str, Callable[[], str]] = {
    "speed_systems": throughput,
    "speed_pipeline": throughput_pipeline,
    "speed_precision": precision,
    "speed_steps": steps,
}

"""How many gold mentions of Twitter-2017 the encyclopedia finds, by rule and source, and how often the type misleads.

The "obvious type" of a record is its source's (a geonames record is a place) or a keyword's of its text; a hit is
misleading where that type is known and differs from the gold type. Run:

    python benchmarks/encyclopedia_coverage.py --data-dir $HF_MNER_DATA [--show 50]
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from pathlib import Path

from hf_mner.data.labels import decode_bio
from hf_mner.knowledge import Encyclopedia, EncyclopediaMatch
from hf_mner.knowledge.encyclopedia import MINOR_SOURCES

Mention = tuple[str, str, str]  # mention, type, tweet

SOURCE_TYPES = {
    "geonames": "LOC",
    "pantheon": "PER",
    "random-items/persons": "PER",
    "random-items/companies": "ORG",
    "random-items/products": "MISC",
    "random-items/cars": "MISC",
    "random-items/cities": "LOC",
    "random-items/lakes": "LOC",
    "random-items/countries": "LOC",
    "random-items/buildings": "LOC",
}
KEYWORDS = {
    "MISC": "film|movie|album|song|television series|tv series|sitcom|novel|video game|award|franchise|cup|festival",
    "ORG": "band|team|club|company|corporation|university|college|league|association|network|label|party|brand"
    "|agency|organi[sz]ation|channel|newspaper|airline",
    "PER": "actor|actress|singer|rapper|player|politician|musician|businessman|businessperson|writer|president of"
    "|wrestler|coach|model|comedian|driver|director|born|songwriter|footballer",
    "LOC": "city|town|capital|state|country|county|province|region|island|village|river|republic|district|borough"
    "|continent|municipality|seat",
}


def read_mentions(path: Path) -> list[Mention]:
    """Return the gold mentions of a Twitter file, in order, with type and tweet."""
    mentions = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in block.split("\n") if "\t" in line]
        words, tags = [row[0] for row in rows], [row[1].strip() for row in rows]
        mentions += [(" ".join(words[a:b]), entity_type, " ".join(words)) for a, b, entity_type in decode_bio(tags)]
    return mentions


def obvious_type(match: EncyclopediaMatch) -> str | None:
    """Return the type that a reader takes from the record: its source's, or that of the first keyword in its text."""
    if match.source in SOURCE_TYPES:
        return SOURCE_TYPES[match.source]
    found = [
        (hit.start(), name)
        for name, words in KEYWORDS.items()
        if (hit := re.search(rf"\b({words})s?\b", match.text, re.IGNORECASE))
    ]
    return min(found)[1] if found else None


def summarise(mentions: list[Mention], matches: list[EncyclopediaMatch | None]) -> list[str]:
    """Return the lines of the report: coverage, then for each rule and source its share and its misleading types."""
    hits = [(gold, match) for (_, gold, _), match in zip(mentions, matches, strict=True) if match]
    lines = [f"coverage {len(hits) / len(mentions):6.1%}  ({len(hits)} of {len(mentions)} mentions)"]
    for label, keys in {
        "all": lambda _: "all",
        "rule": lambda match: match.rule,
        "source": lambda match: match.source,
        "rule, source": lambda match: f"{match.rule}, {match.source}",
    }.items():
        found = Counter(keys(match) for _, match in hits)
        typed = Counter(keys(match) for _, match in hits if obvious_type(match))
        wrong = Counter(keys(match) for gold, match in hits if obvious_type(match) not in (None, gold))
        lines += [
            f"  {label:12s} {key:32s} {count / len(mentions):6.1%} of mentions,"
            f" type known {typed[key]:5d}, misleading {wrong[key] / max(typed[key], 1):6.1%}"
            for key, count in found.most_common()
        ]
    return lines


def main() -> None:
    """Load the encyclopedia, look up every mention, print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--no-context", action="store_true", help="look up mentions without their tweet")
    parser.add_argument("--all-alike", action="store_true", help="trust minor sources like all others")
    parser.add_argument("--show", type=int, default=0, help="print this many random hits")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    records = arguments.data_dir / "wikipedia" / "entities.jsonl.gz"
    encyclopedia = Encyclopedia.from_files(records, minor_sources=() if arguments.all_alike else MINOR_SOURCES)
    print(f"loaded {len(encyclopedia)} records in {time.perf_counter() - begin:.2f} s")
    for split in ("train", "test"):
        mentions = read_mentions(arguments.data_dir / "twitter2017" / f"{split}.txt")
        contexts = None if arguments.no_context else [tweet for _, _, tweet in mentions]
        begin = time.perf_counter()
        matches = encyclopedia.lookup_detailed([mention for mention, _, _ in mentions], contexts)
        print(f"{split}: {1e6 * (time.perf_counter() - begin) / len(mentions):.0f} microseconds per mention")
        print("\n".join(summarise(mentions, matches)))
        hits = [(gold, match) for (_, gold, _), match in zip(mentions, matches, strict=True) if match]
        for gold, match in random.Random(0).sample(hits, min(arguments.show, len(hits))):
            print(f"    {gold:4s} {match.mention} -> {match.title} [{match.rule}, {match.source}] {match.text[:90]}")


if __name__ == "__main__":
    main()

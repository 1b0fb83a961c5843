"""How many gold mentions of the test sets the encyclopedia finds, by rule, and how often what it finds is right.

    python -m benchmarks.encyclopedia_coverage --data-dir $HF_MNER_DATA --output results/knowledge/coverage.json

Two readings of each set. "All sources alike" trusts every record: what an exact match of normalised titles and aliases
alone finds, and what all rules find. "Trusted" is the default, which leaves out records that name a surname's town.

Whether a match is right is seen in two ways:
- its "obvious type" (its source's, as a geonames record is a place, or a keyword's of its text) may contradict the
  gold type, for all mentions;
- a person judged a sample of those that are no exact titles (`benchmarks/encyclopedia_judgements.jsonl`), against the
  tweet. `--sample` prints what is not judged yet.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from hashlib import sha1
from pathlib import Path
from typing import Any

from benchmarks.timing import report
from hf_mner.data.labels import decode_bio
from hf_mner.knowledge.encyclopedia import MINOR_SOURCES, RULES, Encyclopedia, EncyclopediaMatch

Mention = tuple[str, str, str]  # mention, type, tweet

TEST_FILES = {
    "twitter2017": "twitter2017/test.txt",
    "twitter2015": "twitter2015/test.txt",
    "twitter_gmner": "twitter_gmner/txt/test.txt",
}
JUDGEMENTS = Path(__file__).parent / "encyclopedia_judgements.jsonl"
SAMPLED_RULES = {"fuzzy": 10, "abbreviation": 10, "redirect": 10, "short": 25, "hashtag": 25}
SAMPLE_SIZE = 100  # what is left goes to aliases
WHOLE_NAMES = ("exact", "normalised", "alias")

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


def look_up(encyclopedia: Encyclopedia, mentions: list[Mention]) -> list[EncyclopediaMatch | None]:
    """Look mentions up, each with its tweet."""
    return encyclopedia.lookup_detailed([mention for mention, _, _ in mentions], [tweet for _, _, tweet in mentions])


def summarise(mentions: list[Mention], matches: list[EncyclopediaMatch | None]) -> dict[str, Any]:
    """Return the share of mentions that was found, in all and by rule, and where the obvious type misleads."""
    hits = [
        (gold.replace("OTHER", "MISC"), match) for (_, gold, _), match in zip(mentions, matches, strict=True) if match
    ]
    typed = Counter(match.rule for _, match in hits if obvious_type(match))
    wrong = Counter(match.rule for gold, match in hits if obvious_type(match) not in (None, gold))
    counts = Counter(match.rule for _, match in hits)
    rules = {
        rule: {"share": counts[rule] / len(mentions), "typed": typed[rule], "misleading": wrong[rule]}
        for rule in RULES
        if counts[rule]
    }
    misleading = sum(wrong.values()) / max(sum(typed.values()), 1)
    return {"mentions": len(mentions), "found": len(hits) / len(mentions), "misleading": misleading, "rules": rules}


def sample(found: dict[str, list[tuple[Mention, EncyclopediaMatch]]]) -> list[dict[str, str]]:
    """Return distinct matches that are no exact titles, some of each rule, in an order by hash that keeps."""
    distinct: dict[tuple[str, str], dict[str, str]] = {}
    for name, pairs in found.items():
        for (mention, gold, tweet), match in pairs:
            row = {"set": name, "mention": mention, "gold": gold, "title": match.title, "rule": match.rule}
            distinct.setdefault((mention.casefold(), match.title), {**row, "tweet": tweet, "text": match.text})
    rows = sorted(distinct.values(), key=lambda row: sha1(f"{row['mention']}\0{row['title']}".encode()).digest())
    by_rule = {rule: [row for row in rows if row["rule"] == rule][:size] for rule, size in SAMPLED_RULES.items()}
    chosen = [row for own in by_rule.values() for row in own]
    return [*chosen, *[row for row in rows if row["rule"] == "alias"][: SAMPLE_SIZE - len(chosen)]]


def judged() -> dict[tuple[str, str], bool]:
    """Return what a person judged: whether a title is what a mention means."""
    if not JUDGEMENTS.is_file():
        return {}
    rows = [json.loads(line) for line in JUDGEMENTS.read_text(encoding="utf-8").splitlines()]
    return {(row["mention"], row["title"]): row["is_right"] for row in rows}


def precision(rows: list[dict[str, str]], counts: Counter[str]) -> dict[str, Any]:
    """Return the share of right matches by rule, and over all rules, each weighing what it finds."""
    verdicts = judged()
    by_rule = {}
    for rule in (*SAMPLED_RULES, "alias"):
        known = [
            verdicts[key]
            for row in rows
            if row["rule"] == rule and (key := (row["mention"], row["title"])) in verdicts
        ]
        if known:
            by_rule[rule] = {"judged": len(known), "right": sum(known), "found": counts[rule]}
    found = sum(row["found"] for row in by_rule.values())
    right = sum(row["found"] * row["right"] / row["judged"] for row in by_rule.values())
    judged_rows = sum(row["judged"] for row in by_rule.values())
    return {"judged": judged_rows, "precision": right / found if found else None, "rules": by_rule}


def write_document(path: Path, result: dict[str, Any]) -> None:
    """Write the judged matches as a page; the tweets themselves are not repeated."""
    rows = [json.loads(line) for line in JUDGEMENTS.read_text(encoding="utf-8").splitlines()]
    lines = [
        "# Matches of the encyclopedia that are no exact titles",
        "",
        f"{len(rows)} of the distinct matches in the test sets that were found by another rule than the title itself,",
        "judged against their tweets by the developers: is the article what the mention means? Written by",
        "`python -m benchmarks.encyclopedia_coverage --data-dir DATA --document docs/encyclopedia_matches.md` from",
        "`benchmarks/encyclopedia_judgements.jsonl`; each rule weighs what it finds in the three sets. The rules",
        "were chosen on the training splits, but two of them (codes of two letters, misspellings) were made stricter",
        "after a first sample of these test sets, so that the figure is a little too good.",
        "",
        f"Precision, weighted: **{result['precision']:.1%}**.",
        "",
        "| rule | judged | right | found in the sets |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {rule} | {row['judged']} | {row['right']} | {row['found']} |" for rule, row in result["rules"].items()),
        "",
        "| rule | set | mention (gold type) | article | right |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {row['rule']} | {row['set']} | {row['mention']} ({row['gold']}) | {row['title']}"
            f" | {'yes' if row['is_right'] else '**no**'} |"
            for row in rows
        ),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Look up every gold mention of the test sets and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--sample", action="store_true", help="print matches that nobody judged yet")
    parser.add_argument("--document", type=Path, help="Markdown file for the judged matches")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    records = arguments.data_dir / "wikipedia" / "entities.jsonl.gz"
    arms = {
        "all sources alike, whole names": Encyclopedia.from_files(records, minor_sources=(), rules=WHOLE_NAMES),
        "all sources alike, all rules": Encyclopedia.from_files(records, minor_sources=()),
        "trusted, whole names": Encyclopedia.from_files(records, minor_sources=MINOR_SOURCES, rules=WHOLE_NAMES),
        "trusted, all rules": Encyclopedia.from_files(records, minor_sources=MINOR_SOURCES),
    }
    result: dict[str, Any] = {"sets": {}}
    found, counts = {}, Counter()
    for name, file in TEST_FILES.items():
        mentions = read_mentions(arguments.data_dir / file)
        matches = {arm: look_up(encyclopedia, mentions) for arm, encyclopedia in arms.items()}
        result["sets"][name] = {arm: summarise(mentions, own) for arm, own in matches.items()}
        pairs = [(m, hit) for m, hit in zip(mentions, matches["trusted, all rules"], strict=True) if hit]
        found[name] = [(m, hit) for m, hit in pairs if hit.rule not in ("exact", "normalised")]
        counts += Counter(hit.rule for _, hit in found[name])
    rows = sample(found)
    result["non_exact"] = precision(rows, counts)
    if arguments.sample:
        for row in rows:
            if (row["mention"], row["title"]) not in judged():
                print(json.dumps(row, ensure_ascii=False))
        return
    if arguments.document:
        write_document(arguments.document, result["non_exact"])
    report(result, arguments.output)


if __name__ == "__main__":
    main()

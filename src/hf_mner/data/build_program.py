"""The command line that the programs in `datasets_scripts/` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .loaders import load_mner_dataset
from .publishing import write_parquet_dataset
from .readers import DATA_VARIABLE


def run_build_program(name: str, description: str | None, arguments: Sequence[str] | None = None) -> Path:
    """Read a data set as published and write it as Parquet with a card.

    Args:
        name: as in `load_mner_dataset`.
        description: the program's help text.
        arguments: command line without the program's name; None = `sys.argv`.

    Returns:
        The folder written.
    """
    options = make_build_parser(name, description).parse_args(arguments)
    dataset = load_mner_dataset(
        name,
        options.data_dir,
        granularity=getattr(options, "granularity", "coarse"),
        unify_types=not options.published_types,
        knowledge=options.knowledge if options.knowledge is not None else "auto",
        image_dir=options.image_dir,
        on_error=options.on_error,
    )
    return write_parquet_dataset(dataset, options.output, name)


def make_build_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the options of one build program; only FMNERG's has `--granularity`."""
    parser = argparse.ArgumentParser(prog=f"build_{name}.py", description=description)
    if name == "folder":
        parser.add_argument("--data-dir", required=True, help="your folder: train.txt, images/, boxes.jsonl ...")
    else:
        parser.add_argument("--data-dir", help=f"folder that holds all published sets (default: ${DATA_VARIABLE})")
    parser.add_argument("--output", required=True, help="new or empty folder for the Parquet files and the card")
    parser.add_argument("--image-dir", help="folder of <id>.jpg files (default: searched below --data-dir)")
    parser.add_argument("--knowledge", nargs="*", help="sources to join, e.g. blip2_captions (default: all found)")
    parser.add_argument("--published-types", action="store_true", help="keep OTHER instead of MISC")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="what a bad row does")
    if name == "twitter_fmnerg":
        parser.add_argument("--granularity", choices=("coarse", "fine"), default="coarse", help="8 or 51 types")
    return parser

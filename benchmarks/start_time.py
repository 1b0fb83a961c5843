"""How long a cold process takes: to its first entity with the embedded model, and for its imports.

    python -m benchmarks.start_time --output results/demo/start_time.json

Every number is the median over fresh processes; the programs take turns, so that a busy machine slows all alike. The
files are in the page cache, as after a first run. Seconds count from the first import, without Python's own start.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.timing import report

TEXT = "Steve Kerr and the Warriors land in Oakland"
PROGRAMS = {
    "transformers": "import transformers",
    "hf_mner": "import hf_mner",
    "transformers, then hf_mner": "import transformers, hf_mner",
    "hf_mner, then transformers": "import hf_mner, transformers",
    "first entity": f"import hf_mner; found = hf_mner.pipeline()({TEXT!r}); assert found",
}
FRAME = "import time; started = time.perf_counter(); {}; print('SECONDS', time.perf_counter() - started)"


def seconds_of(program: str) -> float:
    """Run a program in a fresh process and return the seconds that it measured."""
    command = [sys.executable, "-c", FRAME.format(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.rpartition("SECONDS ")[2])


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    for program in PROGRAMS.values():  # compiles what is not compiled, and fills the page cache
        seconds_of(program)
    turns = [{name: seconds_of(program) for name, program in PROGRAMS.items()} for _ in range(options.repeats)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in PROGRAMS}
    added = {
        name: statistics.median(turn[name] - turn["transformers"] for turn in turns)
        for name in PROGRAMS
        if "then" in name
    }
    report({"repeats": options.repeats, "seconds": medians, "added_to_transformers_s": added}, options.output)


if __name__ == "__main__":
    main()

"""`kill -9` while stage 1 of a recipe is trained, at random moments: what is lost, and whether the weights are equal.

    python -m benchmarks.training_kills --data-dir DATA --output results/training/kills.json

One run whose processes are all killed, until a last one completes it, against a run without kills; dropout is on. The
moments are random numbers of updates and parts of an update, so some fall into saving. The program fails if a weight
of the student or of its teacher differs in one bit, or if a kill loses more updates than lie between two savings.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks.timing import report
from benchmarks.training_runs import add_options, command, prepare, start, updates


def run_to_its_end(folder: Path, run: str, save_steps: int) -> float:
    """Train without a kill; return the seconds."""
    started = time.perf_counter()
    process = start(command(folder, run, "--save-steps", str(save_steps)))
    _, told = process.communicate()
    assert process.returncode == 0, told
    return time.perf_counter() - started


def run_to_a_kill(folder: Path, run: str, save_steps: int, new_updates: int, wait_s: float) -> bool:
    """Train until so many updates were made and seconds have passed; tell whether the kill came before the end."""
    before = len(updates(folder, run))
    process = start(command(folder, run, "--save-steps", str(save_steps)))
    while process.poll() is None and len(updates(folder, run)) < before + new_updates:
        time.sleep(0.005)
    time.sleep(wait_s)
    process.kill()
    _, told = process.communicate()
    assert process.returncode in (0, -9), told
    return process.returncode == -9


def largest_difference(one: Path, other: Path) -> tuple[int, float]:
    """Return the number of files of weights that are not bit-equal, and the largest difference of two weights."""
    unequal, largest = 0, 0.0
    for path in sorted(one.glob("*/model.safetensors")):
        expected, found = load_file(path), load_file(other / path.relative_to(one))
        assert expected.keys() == found.keys()
        apart = max(float((found[name] - value).abs().max()) for name, value in expected.items())
        unequal += not all(found[name].equal(value) for name, value in expected.items())
        largest = max(largest, apart)
    return unequal, largest


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train without kills, then with them."""
    generator = random.Random(options.seed)
    changed = prepare(options, folder, epochs=options.epochs)
    whole_s = run_to_its_end(folder, "whole", options.save_steps)
    total = len(updates(folder, "whole"))
    kills: list[dict[str, Any]] = []
    while len(kills) < options.kills:
        before = updates(folder, "killed")
        remaining = total - len({line[:2] for line in before})
        most = max(1, min(2 * total // options.kills, remaining - 1))
        place = generator.randint(1, most), generator.uniform(0, options.update_s)
        if not run_to_a_kill(folder, "killed", options.save_steps, *place):
            break  # the end came before
        made = updates(folder, "killed")[len(before) :]
        kills.append({"updates": len(made), "model": made[-1][0], "number": made[-1][1], "wait_s": round(place[1], 3)})
    last_s = run_to_its_end(folder, "killed", options.save_steps)
    made = [line[:2] for line in updates(folder, "killed")]
    end = 0
    for kill in kills:  # what this process made and a later one made again
        start_of, end = end, end + kill["updates"]
        kill["lost"] = len(set(made[start_of:end]) & set(made[end:]))
    losses = {tuple(line[:2]): line[3] for line in updates(folder, "whole")}
    again = {tuple(line[:2]): line[3] for line in updates(folder, "killed")}
    unequal, largest = largest_difference(folder / "whole", folder / "killed")
    lost = [kill["lost"] for kill in kills]
    result = {
        "set": changed,
        "updates": total,
        "kills": len(kills),
        "updates_lost_at_most_by_a_kill": max(lost),
        "updates_lost": sum(lost),
        "updates_made": len(made),
        "unequal_files_of_weights": unequal,
        "largest_weight_difference": largest,
        "largest_loss_difference": max(abs(again[key] - loss) for key, loss in losses.items()),
        "whole_s": round(whole_s, 1),
        "last_process_s": round(last_s, 1),
        "each_kill": kills,
    }
    assert unequal == 0, result
    assert max(lost) <= options.save_steps, result
    return result


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--save-steps", type=int, default=5)
    parser.add_argument("--update-s", type=float, default=0.5, help="kills wait up to so long after an update")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    named = {name: getattr(options, name) for name in ("tweets", "save_steps", "seed")}
    report({"recipe": options.recipe.as_posix(), **named, **result}, options.output)


if __name__ == "__main__":
    main()

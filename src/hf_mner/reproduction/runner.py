"""The runs of a plan, one after another or several at once; what is finished is skipped, what was killed goes on."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_mner.data.counting import label_file_hash
from hf_mner.training.fitting import is_finished, write_whole
from hf_mner.training.run import recipe_values
from hf_mner.training.scanner import NON_ENTITIES

from .plan import Plan, Run
from .worker import DETECTION, drop_weights, execute, scores_file

logger = logging.getLogger(__name__)

POLL_S = 0.2
LOG = "log.txt"


class RunsFailed(ChildProcessError):
    """Some runs ended with an error; the others are done."""


def run_plan(
    plan: Plan,
    output: Path,
    data_dir: str | Path | None = None,
    store: str | Path | None = None,
    jobs: int = 1,
    keeps_weights: bool = True,
    tell: Callable[[str], None] = print,
) -> None:
    """Do what is left of a plan.

    Args:
        plan: see `plan_table`.
        output: receives a folder for each run, which all tables share.
        data_dir: see `load_mner_dataset`.
        store: knowledge store of all runs.
        jobs: runs at once, each in a process of its own with its log in `OUTPUT/RUN.log.txt`. 1 runs in this process.
        keeps_weights: False removes the weights of a scored run; those of SCANNER's stage 1 stay.
        tell: is told what begins and ends.

    Raises:
        RunsFailed: after all others are done, if runs failed; it names their logs. With one job, the run's own error.
    """
    job_of = {key: make_job(run, plan, output, data_dir, store, keeps_weights) for key, run in plan.runs.items()}
    for job in job_of.values():
        check_labels(job)
    left = {key: run for key, run in plan.runs.items() if not is_done(job_of[key])}
    for key in set(job_of) - set(left):
        if job_of[key]["kind"] == "whole" and not keeps_weights:
            drop_weights(output / key)
    tell(f"{len(plan.runs)} runs, {len(plan.runs) - len(left)} of them finished")
    if jobs == 1:
        for number, key in enumerate(left, 1):  # in an order in which none comes before what it needs
            tell(f"[{number}/{len(left)}] {key}")
            execute(job_of[key])
        return
    failed = run_parallel(left, job_of, jobs, tell)
    if failed:
        logs = ", ".join(str(output / f"{key}.{LOG}") for key in failed)
        raise RunsFailed(f"{len(failed)} of {len(left)} runs failed or lack what they need; see {logs}.")


def run_parallel(
    left: Mapping[str, Run], job_of: Mapping[str, Mapping[str, Any]], jobs: int, tell: Callable[[str], None]
) -> list[str]:
    """Run several processes at once and return the keys of those that failed, or that need one that failed."""
    waiting, failed = dict(left), list[str]()
    running: dict[str, subprocess.Popen] = {}
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    try:
        while waiting or running:
            for key, run in list(waiting.items()):
                needed = set(run.needs.values())
                if needed & set(failed):
                    failed.append(key)
                    waiting.pop(key)
                elif len(running) < jobs and not needed & (set(waiting) | set(running)):
                    waiting.pop(key)
                    running[key] = start(job_of[key])
                    tell(f"begins: {key} ({len(running)} running, {len(waiting)} waiting)")
            for key, process in list(running.items()):
                if process.poll() is not None:
                    running.pop(key)
                    failed += [key] if process.returncode else []
                    tell(f"{'FAILED' if process.returncode else 'done'}: {key}")
            time.sleep(POLL_S)
    finally:  # an interrupted command leaves no run behind
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def start(job: Mapping[str, Any]) -> subprocess.Popen:
    """Start a run in a process of its own."""
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f".{folder.name}.job.json"
    write_whole(file, json.dumps(job))
    with (folder.parent / f"{folder.name}.{LOG}").open("a") as log:
        command = [sys.executable, "-m", "hf_mner.reproduction.worker", str(file)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "TQDM_DISABLE": "1"})


def make_job(run: Run, plan: Plan, output: Path, data_dir: Any, store: Any, keeps_weights: bool) -> dict[str, Any]:
    """Describe a run for `worker.execute`."""
    needs = {part: str(output / key) for part, key in run.needs.items()}
    values = recipe_values(run.recipe)
    teacher = run.needs.get("teacher")
    if run.kind == "whole" and "detection" in run.needs:
        teacher = plan.runs[run.needs["detection"]].needs.get("teacher")
    if teacher is not None:
        values["detection"]["teacher"] = str((output / teacher / DETECTION).resolve())
    pairs = {(cell.evaluate_on, cell.split) for cell in plan.cells if cell.run == run.key}
    return {
        "kind": run.kind,
        "recipe": values,
        "folder": str(output / run.key),
        "needs": needs,
        "evaluate": sorted(pairs),
        "data_dir": None if data_dir is None else str(data_dir),
        "store": None if store is None else str(store),
        "keeps_weights": keeps_weights,
    }


def check_labels(job: Mapping[str, Any]) -> None:
    """Refuse scores that were made on other label files than those of the data folder."""
    for dataset, split in job["evaluate"]:
        file = scores_file(Path(job["folder"]), dataset, split)
        if not file.is_file():
            continue
        known = json.loads(file.read_text(encoding="utf-8"))["label_files_sha256"]
        if known != (now := label_hash(dataset, job["data_dir"])):
            raise ValueError(
                f"{file} was scored on label files with the hash {known}, and those of {dataset} have {now} now;"
                " choose another `--output`, or the data folder of that run."
            )


@lru_cache
def label_hash(dataset: str, data_dir: str | None) -> str:
    """Return the hash of a data set's label files."""
    return label_file_hash(dataset, data_dir)


def is_done(job: Mapping[str, Any]) -> bool:
    """Tell whether a run has all that its plan wants of it."""
    folder = Path(job["folder"])
    if job["kind"] == "non_entities":
        return (folder / NON_ENTITIES).is_file()
    scored = all(scores_file(folder, *pair).is_file() for pair in job["evaluate"])
    return scored and (job["kind"] == "whole" or is_finished(folder / DETECTION))

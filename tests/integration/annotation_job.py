"""A job that tests kill: shards take a while, and the arguments are JSON."""

from __future__ import annotations

import json
import sys
import time

from hf_mner.annotation import annotate, workers

_work = workers.ShardWorker.work


def work_slowly(worker: workers.ShardWorker, number: int) -> int:
    time.sleep(0.2)
    return _work(worker, number)


workers.ShardWorker.work = work_slowly  # also in processes of the local engine, which import this file

if __name__ == "__main__":
    annotate(**json.loads(sys.argv[1]))

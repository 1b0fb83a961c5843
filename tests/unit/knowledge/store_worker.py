"""A process that fills a knowledge store: `store_worker.py STORE LOG ITEMS BATCH_SIZE SECONDS`.

Every item that is computed is a line in the log, written before its batch is computed.
"""

import os
import sys
import time

from hf_mner.knowledge.store import KnowledgeStore, Stored


class LoggedEcho:
    """Same identity and answers as `Echo` of the tests."""

    column, needs_entities, reads = "caption", False, ("tokens",)
    identity = {"source": "Echo", "model": "", "revision": "", "prompt": "", "settings": "{}"}

    def __init__(self, log, seconds):
        self.log, self.seconds = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), seconds

    def __call__(self, rows):
        os.write(self.log, "".join(f"{row['id']}\n" for row in rows).encode())
        time.sleep(self.seconds)
        return [f"answer {row['id']}" for row in rows]


def main():
    path, log, items, batch_size, seconds = sys.argv[1:]
    rows = [{"id": str(number), "tokens": ["word", str(number)]} for number in range(int(items))]
    with KnowledgeStore(path) as store:
        Stored(LoggedEcho(log, float(seconds)), store, int(batch_size))(rows)


if __name__ == "__main__":
    main()

"""A process that builds an index: `index_worker.py FILE FOLDER LOG BATCH_SIZE RANGE_ROWS SECONDS`.

Each batch, range of redirects and range of names is a line in the log, written before the work, which takes SECONDS.
"""

import os
import sys
import time

from hf_mner.knowledge.encyclopedia import build


def log_calls(log, seconds):
    """Write a line for each piece of work."""
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(*words):
        os.write(stream, (" ".join(map(str, words)) + "\n").encode())

    read_batch, read_range, grouped = build.IndexBuild._read_batch, build.IndexBuild._range, build.grouped

    def logged_batch(self, batch):
        write("batch", *(article.title.replace(" ", "_") for article in batch))
        time.sleep(seconds)
        read_batch(self, batch)

    def logged_range(self, what, part, runs):
        if what == "references":
            write("join", part)
            time.sleep(seconds)
        return read_range(self, what, part, runs)

    def logged_groups(entries):
        write("merge", int(entries["name"][0]) if len(entries) else "nothing")
        time.sleep(seconds)
        return grouped(entries)

    build.IndexBuild._read_batch, build.IndexBuild._range, build.grouped = logged_batch, logged_range, logged_groups


def main():
    file, folder, log, batch_size, range_rows, seconds = sys.argv[1:]
    build.RANGE_ROWS = int(range_rows)
    os.fsync = lambda _: None  # a kill loses nothing that the system holds
    log_calls(log, float(seconds))
    build.build_index([file], folder, batch_size=int(batch_size))


if __name__ == "__main__":
    main()

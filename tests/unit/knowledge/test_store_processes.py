"""The knowledge store among several processes, and after `kill -9`."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from hf_mner.knowledge.store import KnowledgeStore, Progress, Stored, describe_source, example_keys, filling, processes
from hf_mner.knowledge.store.filling import Filling
from hf_mner.knowledge.store.processes import ProcessMark, find_birth, is_stopped, mark_process

WORKER = Path(__file__).with_name("store_worker.py")
BATCH = 4

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


class Echo:
    column, needs_entities, reads = "caption", False, ("tokens",)
    identity = {"source": "Echo", "model": "", "revision": "", "prompt": "", "settings": "{}"}

    def __init__(self):
        self.asked = []

    def __call__(self, rows):
        self.asked += [row["id"] for row in rows]
        return [f"answer {row['id']}" for row in rows]


def example(number):
    return {"id": str(number), "tokens": ["word", str(number)]}


def start(store, log, items, seconds=0.0, **options):
    arguments = [str(value) for value in (store, log, items, BATCH, seconds)]
    return subprocess.Popen([sys.executable, str(WORKER), *arguments], **options)


def asked(log):
    """Return how often each item was computed; a kill may cut the last line."""
    return Counter(log.read_text().split()) if log.exists() else Counter()


def finished(path):
    if not path.exists():
        return 0
    with KnowledgeStore(path) as store:
        return sum(held.items for held in store.sources())


def wait_for(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def claim_and_die(store, rows):
    """Fork a process that claims the rows and is killed."""
    if (child := os.fork()) == 0:
        Filling(store, describe_source(Echo())).__enter__().claim(example_keys(store, describe_source(Echo()), rows))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return child


@pytest.fixture
def store(tmp_path):
    with KnowledgeStore(tmp_path / "knowledge.sqlite") as store:
        yield store


def test_two_processes_compute_everything_once(tmp_path):
    path, log = tmp_path / "knowledge.sqlite", tmp_path / "log"
    workers = [start(path, log, 60, 0.01) for _ in range(2)]  # they also make the file at the same time
    assert [worker.wait(60) for worker in workers] == [0, 0]
    counts = asked(log)
    assert set(counts.values()) == {1}
    assert len(counts) == finished(path) == 60


@pytest.mark.parametrize("moment", [0.05, 0.35, 0.65])
def test_a_killed_run_loses_at_most_the_batch_in_flight(tmp_path, moment):
    path, log = tmp_path / "knowledge.sqlite", tmp_path / "log"
    items = 80
    worker = start(path, log, items, 0.05)
    wait_for(lambda: sum(asked(log).values()) >= moment * items)
    time.sleep(random.random() * 0.05)
    worker.kill()
    worker.wait()
    with KnowledgeStore(path) as store:
        store.check()
        keys = example_keys(store, describe_source(Echo()), [example(number) for number in range(items)])
        before = {str(number) for number, key in enumerate(keys) if store.get_many([key])}
    lost = set(asked(log)) - before
    assert len(lost) <= BATCH
    resumed = start(path, log, items, stderr=subprocess.PIPE, text=True)
    _, told = resumed.communicate(timeout=60)
    assert resumed.returncode == 0
    counts = asked(log)
    assert len(counts) == finished(path) == items
    assert {item for item, count in counts.items() if count > 1} == lost
    assert f"a run that was stopped (process {worker.pid} on " in told
    assert f"{len(before)} items of earlier runs are kept" in told


def test_a_resumed_run_says_what_was_in_flight(store, caplog):
    Stored(Echo(), store)([example(number) for number in range(5)])
    child = claim_and_die(store, [example(number) for number in range(5, 8)])
    source = Echo()
    with caplog.at_level(logging.WARNING):
        Stored(source, store)([example(number) for number in range(9)])
    (message,) = caplog.messages
    assert message.startswith(f"Echo (column 'caption'): a run that was stopped (process {child} on ")
    assert "had a batch of 3 items in flight; they are computed again" in message
    assert message.endswith("5 items of earlier runs are kept.")
    assert source.asked == ["5", "6", "7", "8"]
    caplog.clear()
    Stored(source, store)([example(10)])
    assert not caplog.messages


def test_what_another_process_computes_is_waited_for(store, tmp_path):
    log = tmp_path / "log"
    worker = start(store.path, log, BATCH, 1.0)
    wait_for(lambda: asked(log))
    source, steps = Echo(), []
    answers = Stored(source, store, BATCH, on_progress=steps.append)([example(number) for number in range(2 * BATCH)])
    assert answers == [f"answer {number}" for number in range(2 * BATCH)]
    assert source.asked == [str(number) for number in range(BATCH, 2 * BATCH)]
    assert steps[-1] == Progress(0, 2 * BATCH, 2 * BATCH, by_others=BATCH)
    assert worker.wait(10) == 0


def test_what_a_process_leaves_that_dies_meanwhile_is_taken_over(store, tmp_path, monkeypatch):
    log = tmp_path / "log"
    worker = start(store.path, log, BATCH, 60.0)
    wait_for(lambda: asked(log))
    free, polls = Filling.free_stopped, []

    def kill_first(self):
        polls.append(1)
        if len(polls) == 2:  # the first look is before the first batch
            worker.kill()
            worker.wait()
        return free(self)

    monkeypatch.setattr(Filling, "free_stopped", kill_first)
    source = Echo()
    Stored(source, store)([example(number) for number in range(BATCH)])
    assert source.asked == [str(number) for number in range(BATCH)]


def test_a_process_that_cannot_be_seen_has_a_lease(store, monkeypatch, caplog):
    record, row = describe_source(Echo()), example(1)
    (key,) = example_keys(store, record, [row])
    elsewhere = mark_process()._replace(host="elsewhere")
    monkeypatch.setattr(filling, "mark_process", lambda: elsewhere)
    other = Filling(store, record).__enter__()
    assert other.claim([key]) == ([key], [])
    monkeypatch.undo()
    with Filling(store, record) as own:
        assert own.claim([key]) == ([], [key])
        own.lease_s = -1.0
        own.free_stopped()
        assert own.claim([key]) == ([key], [])
        own.finish({key: "own"})
    assert "on elsewhere" in caplog.text
    other.finish({key: "late"})  # it was only slow: nothing breaks, and the first answer stays
    other.__exit__()
    assert store.get_many([key]) == {key: "own"}


def test_claims_that_are_not_finished_are_free_in_the_end(store):
    record = describe_source(Echo())
    (key,) = example_keys(store, record, [example(1)])
    with Filling(store, record) as one:
        one.claim([key])
    with Filling(store, record) as other:
        assert other.claim([key]) == ([key], [])


def test_a_store_is_used_after_a_fork(store):
    Stored(Echo(), store)([example(1)])
    if (child := os.fork()) == 0:
        answers = Stored(Echo(), store)([example(1), example(2)])
        os._exit(0 if answers == ["answer 1", "answer 2"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    source = Echo()
    assert Stored(source, store)([example(2)]) == ["answer 2"]
    assert not source.asked
    store.check()


@pytest.mark.parametrize("act", [lambda store: Stored(Echo(), store)([example(1), example(2)]), KnowledgeStore.close])
def test_a_fork_while_another_thread_holds_the_store(store, act):
    Stored(Echo(), store)([example(1)])
    inside, done = threading.Event(), threading.Event()

    def hold():
        with store.reading():
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert inside.wait(60)
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # ends a child that waits for a thread it has not
            try:
                act(store)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join()
    assert Stored(Echo(), store)([example(1)]) == ["answer 1"]
    store.check()


def test_a_fork_waits_until_no_thread_is_inside_the_file(store):
    inside, left = threading.Event(), threading.Event()

    def use():
        with store.reading():
            inside.set()
            time.sleep(0.2)
            left.set()

    thread = threading.Thread(target=use)
    thread.start()
    assert inside.wait(60)
    if (child := os.fork()) == 0:
        os._exit(0 if left.is_set() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert store.sources() == []


def test_a_process_is_told_from_a_later_one_with_its_number():
    own = mark_process()
    assert not is_stopped(own, seen=0.0)
    assert is_stopped(own._replace(birth="1"), seen=time.time())
    assert is_stopped(ProcessMark("elsewhere", "", own.pid, own.birth), seen=time.time() - processes.LEASE_S - 1)
    assert not is_stopped(ProcessMark("elsewhere", "", own.pid, own.birth), seen=time.time())


def test_a_zombie_is_not_running():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert find_birth(child.pid)
    child.kill()
    wait_for(lambda: find_birth(child.pid) is None)  # not collected yet
    child.wait()
    assert find_birth(child.pid) is None

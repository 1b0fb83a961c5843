"""`hf-mner annotate` and `hf_mner.annotate`: order, kills, rejects, engines, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from typer.testing import CliRunner

import hf_mner
from hf_mner.annotation import annotate
from hf_mner.annotation import jobs as jobs_module
from hf_mner.cli.main import app

TEXTS = ["Steve Kerr coaches the Warriors in Oakland", "so tired 😀\ntoday", "The NBA and Adidas sign O'Brien", ""]
ROWS = [{"id": f"post-{number}", "text": f"{TEXTS[number % 4]} {number}"} for number in range(103)]
JOB = Path(__file__).parent / "annotation_job.py"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(folder: Path) -> list[dict]:
    return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "data").iterdir())).to_pylist()


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("posts") / "posts.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=17)
    return path


@pytest.fixture(scope="module")
def arguments(posts, scanner_folder) -> dict:
    return {"data": str(posts), "model": str(scanner_folder), "shard_size": 10}


@pytest.fixture(scope="module")
def expected(arguments, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("expected") / "out"
    annotate(output=folder, **arguments)
    return folder


def test_the_output_has_the_rows_in_order_with_what_the_pipeline_finds(expected, scanner_folder):
    rows = read(expected)
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    found = hf_mner.pipeline(model=str(scanner_folder))([row["text"] for row in ROWS], batch_size=32)
    spans = [[(e["entity_group"], e["word"], e["start"], e["end"]) for e in entities] for entities in found]
    assert [[(e["entity_group"], e["word"], e["start"], e["end"]) for e in row["entities"]] for row in rows] == spans
    assert len(list((expected / "data").iterdir())) == 11


def test_datasets_reads_the_folder(expected, tmp_path):
    dataset = load_dataset(str(expected), cache_dir=str(tmp_path))["train"]
    assert dataset["id"] == [row["id"] for row in ROWS]
    assert dataset.column_names == ["id", "text", "entities"]


def test_the_size_of_shards_changes_no_entity(arguments, expected, tmp_path):
    for size in (1_000, 7):
        annotate(output=tmp_path / str(size), **{**arguments, "shard_size": size})
        for one, other in zip(read(tmp_path / str(size)), read(expected), strict=True):
            assert [{**entity, "score": None} for entity in one["entities"]] == [
                {**entity, "score": None} for entity in other["entities"]
            ]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "dataset", "two files"])
def test_every_kind_of_input_gives_the_same_rows(arguments, expected, tmp_path, kind):
    lines = "\n".join(json.dumps(row) for row in ROWS)
    data = tmp_path / f"posts.{kind}"
    if kind == "jsonl":
        data.write_text(lines)
    elif kind == "jsonl.gz":
        data.write_bytes(gzip.compress(lines.encode()))
    elif kind == "dataset":
        data = Dataset.from_list(ROWS)
    else:
        data = tmp_path / "posts"
        data.mkdir()
        for name, part in (("a", ROWS[:33]), ("b", ROWS[33:])):
            pq.write_table(pa.Table.from_pylist(part), data / f"{name}.parquet")
    annotate(output=tmp_path / "out", **{**arguments, "data": data})
    assert read(tmp_path / "out") == read(expected)


def test_processes_write_the_same_bytes(arguments, expected, tmp_path):
    reports = []
    summary = annotate(output=tmp_path / "out", workers=2, progress=reports.append, **arguments)
    assert digests(tmp_path / "out") == digests(expected)
    assert (reports[0].finished, reports[-1].finished) == (0, len(ROWS))
    assert summary.rows == summary.new_rows == len(ROWS)


def test_a_finished_job_computes_nothing(arguments, expected, monkeypatch):
    monkeypatch.setattr(jobs_module, "run_shards", lambda *_: pytest.fail("computed"))
    before = digests(expected)
    summary = annotate(output=expected, **arguments)
    assert (summary.rows, summary.new_rows) == (len(ROWS), 0)
    assert digests(expected) == before


def test_another_job_is_refused(arguments, expected, tmp_path):
    for change, message in [
        ({"shard_size": 11}, "`settings.shard_size` was 10 and is 11"),
        ({"threshold": 0.5}, "`settings.threshold` was 0.0 and is 0.5"),
        ({"columns": ["id"]}, "`columns.kept` was"),
        ({"model": None}, r"`model\.name` was .* and is 'scanner-twitter2017-mini'"),
    ]:
        with pytest.raises(ValueError, match=f"shards of another job: .*{message}"):
            annotate(output=expected, **{**arguments, **change})
    other = tmp_path / "posts.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS[::-1]), other)
    with pytest.raises(ValueError, match=r"`input\.files\[0\]"):
        annotate(output=expected, **{**arguments, "data": other})


def start_job(arguments: dict) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(JOB), json.dumps(arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_shards(folder: Path, count: int, job: subprocess.Popen, timeout_s: float = 240) -> None:
    limit = time.monotonic() + timeout_s
    while len(list(folder.glob("data/train-*.parquet"))) < count:
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < limit, "no shards in time"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_goes_on(arguments, expected, tmp_path, workers):
    out = tmp_path / "out"
    job = start_job({**arguments, "output": str(out), "workers": workers})
    wait_for_shards(out, 3, job)
    with pytest.raises(FileExistsError, match="is being written by another process"):
        annotate(output=out, **arguments)
    children = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == [], "workers end with the one that started them"
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("data/train-*.parquet")}
    assert 3 <= len(done) < 11
    assert not json.loads((out / "manifest.json").read_text())["finished"]
    (out / "data" / ".train-00009-of-00011.parquet.1.unfinished").write_bytes(b"half")
    summary = annotate(output=out, **arguments)
    assert summary.new_rows == len(ROWS) - sum(10 if "00010-of" not in name else 3 for name in done)
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("data/train-*.parquet")}
    assert {name: kept[name] for name in done} == done, "finished shards are not written again"
    assert digests(out) == digests(expected)


def test_a_killed_worker_is_told_and_the_job_goes_on(arguments, expected, tmp_path):
    out = tmp_path / "out"
    job = start_job({**arguments, "output": str(out), "workers": 2})
    wait_for_shards(out, 2, job)
    worker = next(child for child in psutil.Process(job.pid).children() if "spawn_main" in " ".join(child.cmdline()))
    os.kill(worker.pid, signal.SIGKILL)
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 1
    assert "run the same command again to go on" in output
    annotate(output=out, **arguments)
    assert digests(out) == digests(expected)


# ------------------------------------------------------------------------------------------------------------- rejects


@pytest.fixture(scope="module")
def bad_posts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bad") / "posts.jsonl"
    lines = [json.dumps(row) for row in ROWS[:30]]
    lines[4] = json.dumps({"id": "no-text"})
    lines[17] = '{"id": "cut off'
    path.write_text("\n".join(lines))
    return path


def test_bad_rows_are_left_out_and_reported(arguments, bad_posts, tmp_path):
    with pytest.raises(ValueError, match=r"posts\.jsonl, line 18 is not JSON"):
        annotate(output=tmp_path / "a", **{**arguments, "data": bad_posts})
    summary = annotate(output=tmp_path / "a", on_error="skip", **{**arguments, "data": bad_posts})
    assert (summary.rows, summary.rejected) == (28, 2)
    rejects = [json.loads(line) for line in (tmp_path / "a" / "rejects.jsonl").read_text().splitlines()]
    assert [(reject["row"], reject["id"]) for reject in rejects] == [(4, "no-text"), (17, None)]
    assert "Column 'text' is null" in rejects[0]["reason"]
    assert [row["id"] for row in read(tmp_path / "a")] == [
        row["id"] for number, row in enumerate(ROWS[:30]) if number not in (4, 17)
    ]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [".lock", "data", "manifest.json", "rejects.jsonl"]


def test_a_job_that_stopped_at_a_bad_row_goes_on_with_skip(arguments, tmp_path):
    rows = [dict(row) for row in ROWS[:30]]
    rows[25]["text"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "posts.parquet")
    arguments = {**arguments, "data": tmp_path / "posts.parquet", "output": tmp_path / "out"}
    with pytest.raises(ValueError, match=r"Row 25 \(id post-25\): Column 'text' is null"):
        annotate(**arguments)
    summary = annotate(on_error="skip", **arguments)
    assert (summary.new_rows, summary.rows, summary.rejected) == (10, 29, 1)


# -------------------------------------------------------------------------------------------------------- command line


def run(*arguments):
    return CliRunner().invoke(app, ["annotate", *map(str, arguments)])


def test_the_command(posts, expected, scanner_folder, tmp_path):
    out = tmp_path / "out"
    result = run(posts, out, "--model", scanner_folder, "--shard-size", 10)
    assert result.exit_code == 0, result.output
    assert f"103 rows with {sum(len(row['entities']) for row in read(expected))} entities -> {out}" in result.stdout
    assert "annotate: 103 of 103 items" in result.stderr
    assert digests(out) == digests(expected)


def test_knowledge_by_column_and_by_source(scanner_folder, tmp_path):
    rows = [{"tweet": "Steve Kerr coaches", "blip": "a man", "likes": 3}] * 3
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "posts.parquet")
    articles = tmp_path / "articles.jsonl"
    articles.write_text(json.dumps({"title": "Steve Kerr", "text": "a coach"}))
    options = ["--text-column", "tweet", "--knowledge-column", "caption=blip", "--column", "likes"]
    options += [
        "--source",
        f"encyclopedia: {articles}",
        "--store",
        tmp_path / "store.sqlite",
        "--model",
        scanner_folder,
    ]
    result = run(tmp_path / "posts.parquet", tmp_path / "out", *options)
    assert result.exit_code == 0, (result.output, result.exception)
    found = read(tmp_path / "out")
    assert [set(row) for row in found] == [{"likes", "entities"}] * 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["fingerprint"]["sources"][0]["source"] == "Encyclopedia"
    assert manifest["written"][0]["distinct"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--knowledge-column", "caption"], "write PART=COLUMN"),
        (["--address", "auto"], "add `engine='ray'`"),
        (["--text-column", "tweet"], "`text_column` is 'tweet'; the input has the columns id, text"),
        (["--device", "cuda:99"], "`device='cuda:99'` is not here: PyTorch sees"),
        (["--device", "gpu"], "`device='gpu'` is no device; expected one such as 'cpu' or 'cuda:0'"),
        (["--entities-column", "id"], "The input has a column 'id', and so would the output"),
    ],
)
def test_errors_of_the_command(posts, tmp_path, options, message):
    result = run(posts, tmp_path / "out", *options)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_two_processes_do_not_write_one_folder(arguments, tmp_path):
    told = pytest.raises(FileExistsError, match="is being written by another process; wait for it, or choose")
    with jobs_module.locked(tmp_path / "out"), told:
        annotate(output=tmp_path / "out", **arguments)
    with jobs_module.locked(tmp_path / "out"):
        assert (tmp_path / "out" / ".lock").is_file(), "the file stays, for others may have it open"
    annotate(output=tmp_path / "out", **arguments)


def test_a_job_that_another_process_finished_meanwhile_is_left_as_it_is(arguments, expected, tmp_path, monkeypatch):
    shutil.copytree(expected, tmp_path / "out")
    answers = iter([False, True])  # before the lock, and under it
    monkeypatch.setattr(jobs_module, "check_folder", lambda *_: next(answers))
    monkeypatch.setattr(jobs_module, "run_shards", None)
    assert annotate(output=tmp_path / "out", **arguments).new_rows == 0
    assert digests(tmp_path / "out") == digests(expected)


def test_without_locks_of_the_system_a_job_goes_on_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with jobs_module.locked(tmp_path / "out"):
        pass
    assert "has no locks for files; take care that no other process" in caplog.text


def test_arguments_that_nothing_reads(posts, tmp_path):
    with pytest.raises(TypeError, match="`annotate` has no argument 'shardsize'; its settings are shard_size"):
        annotate(posts, tmp_path / "out", shardsize=5)
    with pytest.raises(ValueError, match="choose 'local' or 'ray'"):
        annotate(posts, tmp_path / "out", engine="spark")
    with pytest.raises(ValueError, match="lies in the input"):
        annotate(posts.parent, posts.parent / "out")


# ----------------------------------------------------------------------------------------------------------------- Ray


@pytest.fixture
def ray_is_here():
    pytest.importorskip("ray.data", reason='needs Ray: pip install "hf-mner[ray]"')


def shard_actors(process: psutil.Process) -> list[psutil.Process]:
    return [
        child for child in process.children(recursive=True) if any("ShardActor" in part for part in child.cmdline())
    ]


@pytest.mark.usefixtures("ray_is_here")
def test_ray_writes_the_same_bytes(arguments, expected, tmp_path):
    annotate(output=tmp_path / "out", engine="ray", workers=2, **arguments)
    assert digests(tmp_path / "out") == digests(expected)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_here")
def test_ray_writes_the_same_bytes_whatever_is_killed(arguments, expected, tmp_path):
    out = tmp_path / "out"
    arguments = {**arguments, "output": str(out), "engine": "ray", "workers": 1}
    job = start_job(arguments)
    wait_for_shards(out, 1, job)
    workers = shard_actors(psutil.Process(job.pid))
    job.kill()
    job.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == [], "actors end with the one that started the cluster"
    done = len(list(out.glob("data/train-*.parquet")))
    assert done < 11
    job = start_job(arguments)
    wait_for_shards(out, done + 1, job)
    (actor,) = shard_actors(psutil.Process(job.pid))
    os.kill(actor.pid, signal.SIGKILL)
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 0, output
    assert digests(out) == digests(expected)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_is_here")
def test_a_machine_of_a_cluster_dies(arguments, expected, tmp_path):
    """Three machines (raylets here) with a core each; of the two that have a worker, one goes, and the third helps."""
    from ray.cluster_utils import Cluster

    out = tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        machines = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        address = cluster.address
        job = start_job({**arguments, "output": str(out), "engine": "ray", "workers": 2, "address": address})
        wait_for_shards(out, 2, job)
        raylets = {machine: machine.all_processes["raylet"][0].process.pid for machine in machines}
        busy = next(machine for machine, pid in raylets.items() if shard_actors(psutil.Process(pid)))
        cluster.remove_node(busy, allow_graceful=False)
        assert len(list(out.glob("data/train-*.parquet"))) < 11, "it dies before the job ends"
        output, _ = job.communicate(timeout=300)
        assert job.returncode == 0, output
    finally:
        cluster.shutdown()
    assert digests(out) == digests(expected)


@pytest.mark.usefixtures("ray_is_here")
def test_a_bad_row_comes_back_from_an_actor_in_words(scanner_folder, tmp_path):
    from hf_mner.annotation.columns import find_columns
    from hf_mner.annotation.dataset_rows import DatasetRows
    from hf_mner.annotation.ray_engine import ShardActor
    from hf_mner.annotation.settings import Settings
    from hf_mner.annotation.shard_files import ShardFiles
    from hf_mner.annotation.workers import Job

    rows = DatasetRows(Dataset.from_list([*ROWS[:15], {"id": "bad", "text": None}]), "posts")
    files = ShardFiles(tmp_path / "out", rows.num_rows, 10)
    job = Job(rows, find_columns(rows.schema), files, Settings(shard_size=10), str(scanner_folder))
    answer = ShardActor(job, os.getcwd())({"shard": [0, 1]})
    assert answer["rows"] == [10, 0]
    assert answer["error"] == ["", "Row 15 (id bad): Column 'text' is null; expected a text."]
    assert files.unfinished() == [1]


def test_ray_that_is_missing_is_said(arguments, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "hf-mner\[ray\]"'):
        annotate(output=tmp_path / "out", engine="ray", **arguments)

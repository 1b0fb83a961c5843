"""Building and opening an index: redirects, batches and ranges, kills, processes, and folders of other things."""

import json
import multiprocessing
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import lmdb
import numpy as np
import pytest
from datasets import Dataset

from hf_mner.knowledge import Encyclopedia, knowledge_map
from hf_mner.knowledge.encyclopedia import Article, EncyclopediaIndex, IndexSettings, build, build_index
from hf_mner.knowledge.encyclopedia.index import DIRECTORY_FILE, MAX_POSTINGS, NEAR_FILE

WORKER = Path(__file__).with_name("index_worker.py")


def make_articles(count=60, seed=0):
    """Return articles with shared words, some of one name; redirects before, behind and to nothing; and meanings."""
    generator = random.Random(seed)
    words = ["Alda", "Berin", "Corvan", "Dunmore", "Elster", "Farrow", "Gorland", "Hastings"]
    made = []
    for number in range(count):
        title = " ".join(generator.sample(words, 2)) + ("" if number % 3 else f" ({generator.choice(words)} {number})")
        text = (
            f"{title} is a {generator.choice(['city', 'team', 'film'])} of {' '.join(generator.choices(words, k=6))}."
        )
        made.append(Article(title, aliases=(f"Alias {number}",), text=text, weight=generator.randrange(100)))
        made.append(Article(f"Way {number}", redirect=generator.choice([title, "Nothing at all", f"Alias {number}"])))
    generator.shuffle(made)
    titles = tuple(article.title for article in made[:10])
    return [*made, Article("All Of Them", meanings=titles)]


ARTICLES = make_articles()
NAMES = [article.title for article in ARTICLES] + [f"#Way{number}" for number in range(60)] + ["alda", "Hastings"]


def contents(folder):
    """Return all that look-ups read: articles, names, and the arrays of misspelt names."""
    opened = EncyclopediaIndex(folder)
    found = []
    with opened._environment.begin() as transaction:
        for database in (opened._articles, opened._names):
            found.append(dict(transaction.cursor(database)))
    return *found, opened._near.tolist(), opened._directory.tolist()


def find(folder, *mentions, context=""):
    entries = Encyclopedia(folder).lookup(mentions, [context] * len(mentions))
    return [entry and (entry["title"], entry["rule"]) for entry in entries]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def without_sync():
    """Do not wait for the disk: a kill loses nothing that the system holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        real = lmdb.open
        patch.setattr(lmdb, "open", lambda *arguments, **options: real(*arguments, **{**options, "sync": False}))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The index of all articles, built in one go."""
    return build_index(ARTICLES, tmp_path_factory.mktemp("whole") / "index")


@pytest.fixture(scope="module")
def whole_contents(whole):
    return contents(whole)


@pytest.fixture
def lines(tmp_path):
    records = [{"title": article.title, "text": article.text} for article in ARTICLES if not article.redirect]
    return write_lines(tmp_path / "a.jsonl", records)


# --------------------------------------------------------------------------------------------------------- redirects
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_redirects_lead_to_titles_wherever_they_stand(tmp_path, order):
    given = [
        Article("Mercury (planet)", text="Mercury is a planet."),
        Article("Planet M", redirect="Mercury (planet)"),
        Article("Lost", redirect="Nothing"),  # leads nowhere
        Article("Twice", redirect="Planet M"),  # only one step is made, as MediaWiki itself does
        Article("Merc (disambiguation)", redirect="mercury (PLANET)"),  # titles are compared normalised
    ]
    folder = build_index([given[place] for place in order], tmp_path / "index")
    found = find(folder, "Planet M", "#PlanetM", "planet m", "Lost", "Twice")
    assert found == [("Mercury (planet)", "redirect"), ("Mercury (planet)", "hashtag")] + [
        ("Mercury (planet)", "redirect"),
        None,
        None,
    ]
    assert len(EncyclopediaIndex(folder)) == 1


def test_redirects_lead_to_titles_of_other_files(tmp_path):
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">'
    page = "<page><title>Merc</title><ns>0</ns><redirect title='Mercury'/><revision><text/></revision></page>"
    dump = tmp_path / "a.xml"
    dump.write_text(f"{head}{page}</mediawiki>", encoding="utf-8")
    table = tmp_path / "b.tsv"
    table.write_text("Mercury\t\tA planet.\n", encoding="utf-8")
    for number, files in enumerate([[dump, table], [table, dump]]):
        assert find(build_index(files, tmp_path / f"index-{number}"), "Merc") == [("Mercury", "redirect")]


def test_a_redirect_to_a_title_of_two_articles_leads_to_the_better_known(tmp_path):
    given = [
        Article("Nike", text="A goddess.", weight=1),
        Article("Just Do It", redirect="Nike"),
        Article("NIKE", text="A company.", weight=2),
    ]
    assert find(build_index(given, tmp_path / "index"), "Just Do It") == [("NIKE", "redirect")]


def test_meanings_are_ranked_by_context_and_a_title_comes_first(tmp_path):
    given = [
        Article("Mercury", meanings=("Mercury (planet)", "Freddie Mercury", "Nothing")),
        Article("Mercury (planet)", text="Mercury is a planet near the Sun.", weight=5),
        Article("Freddie Mercury", text="Freddie Mercury was a singer of Queen.", weight=9),
    ]
    folder = build_index(given, tmp_path / "index")
    assert find(folder, "Mercury") == [("Mercury (planet)", "alias")]  # its title without parenthesis
    assert find(folder, "Mercury", context="the singer") == [("Freddie Mercury", "redirect")]
    assert find(folder, "Mercury", context="a planet") == [("Mercury (planet)", "alias")]


# ------------------------------------------------------------------------------------- batches, ranges, odd articles
@pytest.mark.parametrize(("batch_size", "range_rows"), [(1, 300), (3, 20), (3, 10**6), (1000, 20)])
def test_an_index_does_not_depend_on_batches_and_ranges(
    tmp_path, monkeypatch, whole, whole_contents, batch_size, range_rows
):
    monkeypatch.setattr(build, "RANGE_ROWS", range_rows)
    parts = build_index(ARTICLES, tmp_path / "parts", batch_size=batch_size)
    assert contents(parts) == whole_contents
    found = find(parts, *NAMES)
    assert found == find(whole, *NAMES)
    assert {rule for _, rule in filter(None, found)} >= {"exact", "redirect", "hashtag"}


def test_there_are_many_ranges_in_these_tests():
    assert build.range_bounds(4) == [0, 1 << 62, 1 << 63, 3 << 62, 1 << 64]
    assert [build.num_ranges(rows) for rows in (0, 1, 10**6, 10**6 + 1, 10**12)] == [1, 1, 1, 2, build.MAX_RANGES]


@pytest.mark.parametrize("bound", [0, 1, 5, 6, 2**63, 2**64 - 1, 2**64])
def test_place_of(bound):
    hashes = [0, 1, 5, 5, 2**63, 2**64 - 1]
    rows = np.zeros(len(hashes), build.ENTRY)
    rows["name"] = hashes
    for array in (rows, np.array(hashes, np.uint64)):
        assert build.place_of(array, bound) == sum(number < bound for number in hashes)


def test_of_many_articles_of_one_name_the_best_known_are_kept(tmp_path):
    given = [
        Article(f"Smith ({number})", text=f"Smith is word{number}x.", weight=number)
        for number in range(MAX_POSTINGS + 20)
    ]
    random.Random(0).shuffle(given)
    folder = build_index(given, tmp_path / "index", batch_size=5)
    assert find(folder, "Smith") == [(f"Smith ({MAX_POSTINGS + 19})", "alias")]
    assert find(folder, "Smith (3)") == [("Smith (3)", "exact")]
    with EncyclopediaIndex(folder).reading() as reader:
        assert len(reader.postings("smith")) == MAX_POSTINGS * 5


def test_a_name_that_an_article_has_twice_is_kept_once(tmp_path):
    given = Article("Ohio", aliases=("OHIO", "ohio!", "Ohio"), redirects=("ohio",), text="Ohio, called Ohio.")
    folder = build_index([given, Article("Way", redirect="Ohio"), Article("Way", redirect="Ohio")], tmp_path / "index")
    with EncyclopediaIndex(folder).reading() as reader:
        assert len(reader.postings("ohio")) == len(reader.postings("way")) == 5


def test_odd_titles(tmp_path):
    long = "Long " * 10_000
    titles = [long.strip(), "!!!", "\U0001f600", "a\0b", "(", "Łódź", "C++", "x" * 2000, "\ud83d", "(x)"]
    folder = build_index([Article(title, text="A text.", weight=1) for title in titles], tmp_path / "index")
    assert len(EncyclopediaIndex(folder)) == len(titles)
    found = find(folder, *titles)
    single, broken = None, None  # one character finds nothing
    wanted = [long.strip(), "!!!", single, "a b", single, "Łódź", "C++", "x" * 2000, broken, "(x)"]
    assert [match and match[0] for match in found] == wanted


def test_duplicates_and_nothing(tmp_path):
    folder = build_index([Article("Ohio", text="A state.")] * 3, tmp_path / "index")
    assert (len(EncyclopediaIndex(folder)), find(folder, "Ohio")) == (3, [("Ohio", "exact")])
    empty = build_index([write_lines(tmp_path / "empty.jsonl", [])], tmp_path / "empty")
    assert (len(EncyclopediaIndex(empty)), find(empty, "Ohio", "Justin Beiber", "#OhioState")) == (0, [None] * 3)
    only = build_index([Article("Way", redirect="Ohio")], tmp_path / "only")
    assert find(only, "Way") == [None]
    with pytest.raises(ValueError, match="`files` is empty; give one file of articles at least"):
        Encyclopedia.from_files([])


@pytest.mark.parametrize("qid", ["Q²", "Q", "X", "Q99999999999999999999", "Q-1", "٣٤"])
def test_odd_numbers_of_wikidata(tmp_path, qid):
    assert find(build_index([Article("Ohio", qid=qid)], tmp_path / "index"), "Ohio") == [("Ohio", "exact")]


def test_no_longer_text_is_promised_than_is_read(tmp_path):
    given = [Article("Ohio", text="Ohio is. " * 1000)]
    with pytest.raises(ValueError, match="`max_text_chars` must be at most 1200, got 1201; no more of a text is read"):
        IndexSettings(max_text_chars=1201)
    (entry,) = Encyclopedia(build_index(given, tmp_path / "index", IndexSettings(1200))).lookup(["Ohio"])
    assert 1190 < len(entry["text"]) <= 1200


def test_progress_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "RANGE_ROWS", 100)
    told = []
    build_index(ARTICLES, tmp_path / "index", batch_size=50, progress=lambda *step: told.append(step))
    reading = [(done, total) for step, done, total in told if step == "reading"]
    assert reading == sorted(reading, key=lambda item: item[0])
    assert reading[-1] == (60, None)
    merging = [(done, total) for step, done, total in told if step == "merging"]
    assert merging == [(part + 1, len(merging)) for part in range(len(merging))]
    assert len(merging) > 3


# --------------------------------------------------------------------------------------------- folders and formats
def damage_format(folder):
    with lmdb.open(str(folder), max_dbs=3) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True, db=meta) as transaction:
            transaction.put(b"meta", json.dumps({"format": 99, "digest": "x"}).encode())


def other_database(folder):
    (folder / "data.mdb").unlink()
    with lmdb.open(str(folder), max_dbs=3) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"a", b"b")


def cut(name, part):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * part)])

    return damage


def overwrite(folder):
    (folder / "data.mdb").write_bytes(b"nothing" * 10_000)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (damage_format, ValueError, "has format 99, this version reads 1; remove the folder and build it again"),
        (other_database, ValueError, "data.mdb is no encyclopedia .*; remove the folder and build it again"),
        (overwrite, ValueError, "data.mdb is no whole LMDB file .*; remove the folder and build it again"),
        (cut("data.mdb", 0.6), ValueError, "data.mdb is cut off; copy it whole, or remove the folder"),
        (cut("data.mdb", 0.0), FileNotFoundError, "holds no encyclopedia index; build one"),
        (cut(NEAR_FILE, 0.5), ValueError, f"{NEAR_FILE} is cut off or damaged .*; remove the folder"),
        (cut(DIRECTORY_FILE, 0.0), ValueError, f"{DIRECTORY_FILE} is cut off or damaged .*; remove the folder"),
        (lambda folder: (folder / NEAR_FILE).unlink(), FileNotFoundError, f"lacks {NEAR_FILE}; copy it whole"),
        (lambda folder: (folder / DIRECTORY_FILE).unlink(), FileNotFoundError, f"lacks {DIRECTORY_FILE}; copy it"),
        (lambda folder: (folder / "data.mdb").unlink(), FileNotFoundError, "holds no encyclopedia index; build one"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, damage, error, message):
    given = [Article(f"Title {number}", text="Some text. " * 20) for number in range(200)]
    folder = build_index(given, tmp_path / "index")
    damage(folder)
    with pytest.raises(error, match=message):
        Encyclopedia(folder)
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match="exists and is no index that can be used; choose another folder or remove"):
        build_index(given, folder)
    assert sorted(folder.iterdir()) == before
    shutil.rmtree(folder)
    assert find(build_index(given, folder), "Title 7") == [("Title 7", "exact")]


def test_a_folder_of_other_things_stays_as_it_is(tmp_path, lines):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="mine exists and is no index that can be used; choose another folder"):
        build_index([lines], folder)
    with pytest.raises(ValueError, match=r"thesis.txt exists and is no index"):
        build_index([lines], folder / "thesis.txt")
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "mine"]


def test_the_index_of_other_files_or_settings_stays_as_it_is(tmp_path, lines):
    folder = build_index([lines], tmp_path / "index")
    whole = contents(folder)
    for files, settings in [([lines], IndexSettings(max_text_chars=5)), (ARTICLES, IndexSettings())]:
        with pytest.raises(ValueError, match="index holds the index of other files or settings; choose another"):
            build_index(files, folder, settings)
    assert contents(folder) == whole


def test_an_empty_folder_is_filled_and_nothing_else_is_left(tmp_path, lines):
    (tmp_path / "index").mkdir()
    folder = build_index([lines], tmp_path / "index")
    assert find(folder, "Nothing at all") == [None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "index"]  # no lock, nothing half built


def test_a_finished_index_is_used_where_nothing_can_be_written(tmp_path, lines, monkeypatch):
    folder = build_index([lines], tmp_path / "index")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(build, "FileLock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    assert build_index([lines], folder) == folder
    assert len(Encyclopedia(folder)) == len(Encyclopedia(folder))


def test_from_files_finds_its_index_again_without_reading(tmp_path, lines, monkeypatch):
    calls = []
    read = build.read_articles
    monkeypatch.setattr(build, "read_articles", lambda *arguments: calls.append(arguments) or read(*arguments))
    cache = tmp_path / "cache"

    def open_it(**options):
        return Encyclopedia.from_files(lines, cache_dir=cache, **options)

    first = open_it()
    assert len(calls) == 1
    assert open_it().identity == first.identity
    assert len(calls) == 1
    assert open_it(max_text_chars=10).identity != first.identity
    assert open_it(minor_sources=()).identity != first.identity
    assert open_it(rules=["exact"]).identity != first.identity  # no other index
    assert (len(calls), len(list(cache.iterdir()))) == (3, 3)
    write_lines(lines, [{"title": "Utah"}])
    assert open_it().lookup(["Utah"])[0]["title"] == "Utah"
    assert len(calls) == 4
    moved = lines.rename(tmp_path / "b.jsonl")
    assert Encyclopedia.from_files([moved], cache_dir=cache).lookup(["Utah"])
    assert len(Encyclopedia.from_files(first._index.folder)) == len(first)  # a folder is an index


def test_an_index_that_was_replaced_is_not_mixed_with_the_old_one(tmp_path):
    folder = build_index([Article("Ohio", text="A state.")], tmp_path / "index")
    old = Encyclopedia(folder)
    packed = pickle.dumps(old)
    assert Encyclopedia(folder)._index._environment is old._index._environment  # LMDB wants a file open once
    shutil.rmtree(folder)
    build_index([Article("Utah", text="A state.")], folder)
    new = Encyclopedia(folder)
    assert new.lookup(["Utah", "Ohio"])[1] is None
    assert new.lookup(["Utah"])[0]["title"] == "Utah"
    assert old.lookup(["Ohio"])[0]["title"] == "Ohio"
    with pytest.raises(ValueError, match="holds another index than when this one was pickled; open it anew"):
        pickle.loads(packed)


# --------------------------------------------------------------------------------------------------------- processes
def look_up(encyclopedia, mentions, queue):
    """Answer in another process."""
    queue.put(encyclopedia.lookup(mentions))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_gets_an_encyclopedia(whole, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    encyclopedia = Encyclopedia(whole)
    expected = encyclopedia.lookup(NAMES)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    workers = [
        context.Process(target=look_up, args=(encyclopedia, NAMES, queue))
        for _ in range(1 if method == "spawn" else 2)
    ]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=60) for _ in workers] == [expected] * len(workers)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    assert encyclopedia.lookup(NAMES) == expected


def test_a_dataset_is_mapped_by_processes_and_found_in_the_cache(tmp_path, whole):
    encyclopedia = Encyclopedia(whole)
    titles = [article.title.split() for article in ARTICLES if not article.redirect]
    rows = {"tokens": titles, "entities": [[{"start": 0, "end": len(title)}] for title in titles]}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "rows")

    def mapped(num_proc):
        given = Dataset.load_from_disk(tmp_path / "rows")
        return given.map(knowledge_map([encyclopedia]), batched=True, batch_size=7, num_proc=num_proc)

    one = mapped(None)
    expected = [[entry and entry["title"] for entry in encyclopedia.lookup([" ".join(title)])] for title in titles]
    found = [[entry["title"] for entry in row["encyclopedia"]] or [None] for row in one["knowledge"]]
    assert found == expected
    encyclopedia.lookup(["what was asked meanwhile changes no fingerprint"])
    again = mapped(None)
    assert again.cache_files == one.cache_files
    assert one._fingerprint == again._fingerprint
    assert pickle.dumps(encyclopedia) == pickle.dumps(Encyclopedia(whole))
    assert list(mapped(2)["knowledge"]) == list(one["knowledge"])


def start(lines, folder, log, batch_size=4, range_rows=40, seconds=0.0):
    arguments = [str(value) for value in (lines, folder, log, batch_size, range_rows, seconds)]
    return subprocess.Popen([sys.executable, str(WORKER), *arguments], stderr=subprocess.PIPE, text=True)


def logged(log):
    """Return how often each piece of work was begun; a kill may cut the last line."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def test_of_two_processes_one_builds(tmp_path, lines):
    folder, log = tmp_path / "index", tmp_path / "log"
    workers = [start(lines, folder, log, seconds=0.01) for _ in range(2)]
    assert [worker.communicate(timeout=60)[1] for worker in workers] == ["", ""]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert set(logged(log).values()) == {1}
    assert contents(folder) == contents(build_index([lines], tmp_path / "other"))


def test_killed_builds_repeat_one_piece_of_work_at_most(tmp_path, lines):
    """Kill one build while it reads, merges and ends; see `benchmarks/encyclopedia_kills.py` for more."""
    folder, log = tmp_path / "index", tmp_path / "log"
    pieces = -(-61 // 4)
    told = ""
    for begun in (pieces // 2, pieces + 2, pieces + 8):
        worker = start(lines, folder, log, seconds=0.03)
        deadline = time.monotonic() + 60
        while sum(logged(log).values()) < begun and worker.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(random.random() * 0.03)
        worker.kill()
        told = worker.communicate()[1]
        assert not folder.exists()
    last = start(lines, folder, log)
    told = last.communicate(timeout=60)[1]
    assert last.returncode == 0
    assert "index.building: going on with a build that was stopped: 61 articles were read, " in told
    again = logged(log).total() - len(logged(log))
    assert again <= 3  # one for each kill
    assert contents(folder) == contents(build_index([lines], tmp_path / "other"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "index", "log", "other"]


# ------------------------------------------------------------------------------- a build that stops at a given place
class StoppedError(BaseException):
    """As a kill, this is caught nowhere."""


def stop_at(monkeypatch, module, name, call, is_done):
    """Let a call of a function be the last thing that happens, or what is not done any more."""
    real, calls = getattr(module, name), []

    def stopping(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call and not is_done:
            raise StoppedError
        result = real(*arguments, **options)
        if len(calls) == call:
            raise StoppedError
        return result

    monkeypatch.setattr(module, name, stopping)


FEW = make_articles(12)  # 25 articles in 5 batches, 15 runs; 3 ranges of redirects and of names; 2 arrays


@pytest.fixture(scope="module")
def few_contents(tmp_path_factory):
    return contents(build_index(FEW, tmp_path_factory.mktemp("few") / "index"))


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        *[(os, "replace", call) for call in (1, 3, 15, 16, 19, 20, 21)],
        *[(build.IndexBuild, "_commit", call) for call in (1, 2, 6, 7, 8, 9, 11, 12)],
        *[(build.IndexBuild, name, 1) for name in ("_merge_near", "finish", "_join_references", "__exit__")],
        *[(build, name, 1) for name in ("file_bytes", "open_environment", "is_built")],
        (shutil, "rmtree", 1),
    ],
)
def test_a_stopped_build_goes_on(tmp_path, monkeypatch, few_contents, module, name, call, is_done):
    monkeypatch.setattr(build, "RANGE_ROWS", 60)
    folder, building = tmp_path / "index", tmp_path / "index.building"
    with monkeypatch.context() as patch:
        stop_at(patch, module, name, call, is_done)
        with pytest.raises(StoppedError):
            build_index(FEW, folder, batch_size=6)
    state = {"runs": 5} if folder.exists() else {}
    if building.exists():
        with lmdb.open(str(building), max_dbs=3) as environment, environment.begin() as transaction:
            meta = environment.open_db(b"meta", transaction, create=False) if transaction.stat()["entries"] else None
            state = json.loads(transaction.get(b"meta", b"{}", meta)) if meta else {}
    batches = []
    read = build.IndexBuild._read_batch
    monkeypatch.setattr(
        build.IndexBuild, "_read_batch", lambda self, batch: batches.append(batch) or read(self, batch)
    )
    build_index(FEW, folder, batch_size=6)
    assert len(batches) == 5 - state.get("runs", 0)
    assert contents(folder) == few_contents
    assert {path.name for path in folder.iterdir()} == {"data.mdb", "lock.mdb", NEAR_FILE, DIRECTORY_FILE}
    assert not building.exists()


def test_a_kill_while_the_runs_are_removed(tmp_path, monkeypatch, whole_contents):
    folder = tmp_path / "index"

    def remove_some(runs):
        for path in sorted(Path(runs).iterdir())[:4]:
            path.unlink()
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(build.shutil, "rmtree", remove_some)
        with pytest.raises(StoppedError):
            build_index(ARTICLES, folder, batch_size=13)
    monkeypatch.setattr(build.IndexBuild, "_read_batch", None)  # nothing is read
    monkeypatch.setattr(build, "grouped", None)  # nor merged again
    build_index(ARTICLES, folder, batch_size=13)
    monkeypatch.undo()
    assert contents(folder) == whole_contents


@pytest.mark.parametrize("call", [1, 5, 30])
def test_a_full_disk_is_told_and_the_build_goes_on_later(tmp_path, monkeypatch, whole_contents, call):
    folder = tmp_path / "index"
    fsync, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(build.os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            build_index(ARTICLES, folder, batch_size=13)
    assert contents(build_index(ARTICLES, folder)) == whole_contents


def test_another_number_of_ranges_does_not_matter_to_a_build_that_goes_on(tmp_path, monkeypatch, whole_contents):
    """Say, another version of this package merges more rows at once."""
    monkeypatch.setattr(build, "RANGE_ROWS", 50)
    with monkeypatch.context() as patch:
        stop_at(patch, build, "grouped", 6, is_done=False)
        with pytest.raises(StoppedError):
            build_index(ARTICLES, tmp_path / "index", batch_size=13)
    monkeypatch.setattr(build, "RANGE_ROWS", 80)
    folder = build_index(ARTICLES, tmp_path / "index", batch_size=50)
    assert contents(folder) == whole_contents


def test_the_begun_index_of_other_files_is_kept(tmp_path, lines):
    broken = tmp_path / "broken.jsonl"
    broken.write_text(lines.read_text() + "{broken", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken.jsonl, line 62: not JSON") as held:
        build_index([broken], tmp_path / "index", batch_size=10)
    broken.write_text(lines.read_text(), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"index.building holds the begun index .* \(60 articles were read\); .* remove it"
    ):
        build_index([broken], tmp_path / "index")  # while the traceback holds what the first build had open
    assert held.value.args
    shutil.rmtree(tmp_path / "index.building")
    folder = build_index([broken], tmp_path / "index")
    assert contents(folder) == contents(build_index([lines], tmp_path / "other"))


def test_a_damaged_begun_index_says_what_to_do(tmp_path, lines):
    building = tmp_path / "index.building"
    building.mkdir()
    (building / "data.mdb").write_bytes(b"nothing" * 10_000)
    with pytest.raises(ValueError, match=r"index.building/data.mdb is no whole LMDB file .*; remove the folder and"):
        build_index([lines], tmp_path / "index")

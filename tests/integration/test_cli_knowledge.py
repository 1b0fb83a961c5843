"""`hf-mner knowledge`: build, inspect, export, import and merge, with sources that need no model."""

import json
import re
import sys

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from hf_mner.cli import knowledge, main, options
from hf_mner.cli.examples import read_examples
from hf_mner.cli.progress import format_seconds, progress_line, result_line
from hf_mner.knowledge import registry
from hf_mner.knowledge.store import KnowledgeStore, Progress
from hf_mner.knowledge.store.building import Answers

IDENTITY = {"source": "Shade", "model": "m", "revision": "1", "prompt": "", "settings": "{}"}


class Shade:
    """Says what the first pixel of the image is."""

    column, needs_entities, identity, reads = "caption", False, IDENTITY, ("image",)

    def __init__(self):
        self.asked = []

    def __call__(self, examples):
        from hf_mner.knowledge.image_text_models import rgb_image

        self.asked += [example["id"] for example in examples]
        return [
            f"shade {rgb_image(example).getpixel((0, 0))[0]}" if example["image"] else None for example in examples
        ]


class Echo:
    """Reads what `Shade` wrote."""

    column, needs_entities, reads = "auxiliary", False, ("tokens", "caption")
    identity = {**IDENTITY, "source": "Echo"}

    def __call__(self, examples):
        return [f"{example['tokens'][0]}: {example['knowledge']['caption']}" for example in examples]


@pytest.fixture
def posts(tmp_path):
    """Write posts of three kinds: with an image, with the same image, without one."""
    Image.new("RGB", (3, 3), (7, 0, 0)).save(tmp_path / "seven.png")
    lines = [
        {"id": "a", "text": "Hello there", "image": "seven.png"},
        {"id": "b", "tokens": ["Bye"], "image": "seven.png"},
        {"id": "c", "text": "No image"},
    ]
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def shade(monkeypatch):
    """Register both sources of this file; `plain` is one that is not kept."""
    source = Shade()
    made = {"shade": source, "echo": Echo(), "plain": source}
    for name in made:
        entry = registry.SourceEntry(name, "main", is_stored=name != "plain")
        monkeypatch.setitem(registry.SOURCES, name, entry)
    monkeypatch.setattr(registry, "maker", lambda entry: lambda: made[entry.place])
    return source


@pytest.fixture
def run(tmp_path):
    def invoke(command, *arguments):
        done = CliRunner().invoke(
            main.app, ["knowledge", command, str(tmp_path / "new" / "k.sqlite"), *map(str, arguments)]
        )
        if done.exception:
            raise done.exception
        return done

    return invoke


def test_build_goes_on_where_it_was_and_inspect_tells(run, posts, shade):
    done = run("build", posts, "--source", "shade", "--source", "echo")
    assert shade.asked == ["a", "c"]
    first, second = done.stdout.splitlines()
    assert first.startswith(
        "Shade (column 'caption'): 3 posts, 2 answered, 1 not (1 without image); 2 distinct items, 0 found in the"
        " store, 2 new, in 0:0"
    )
    assert second.startswith("Echo (column 'auxiliary'): 3 posts, 3 answered; 3 distinct items, 0 found in the store")
    assert "Shade (column 'caption'): 2 of 2 items" in done.stderr
    assert "2 distinct items, 2 found in the store, 0 new" in run("build", posts, "--source", "shade").stdout
    assert len(shade.asked) == 2
    shades, echoes = json.loads(run("inspect").stdout)
    assert {"number": 1, "part": "caption", **IDENTITY, "reads": ["image"], "items": 2}.items() <= shades.items()
    assert shades["oldest"] <= shades["newest"]
    assert echoes["items"] == 3


def test_a_file_names_sources(tmp_path, run, posts, shade):
    (tmp_path / "recipe.yaml").write_text("dataset: twitter2017\nsources: [shade]\n")
    run("build", posts, "--sources", tmp_path / "recipe.yaml", "--source", "echo")
    assert len(json.loads(run("inspect").stdout)) == 2
    before = list((tmp_path / "new").iterdir())
    (tmp_path / "recipe.yaml").write_text("dataset: twitter2017\n")
    with pytest.raises(ValueError, match=r"recipe.yaml holds no list of sources; give a list, or .* `sources`"):
        run("build", posts, "--sources", tmp_path / "recipe.yaml")
    with pytest.raises(ValueError, match="No source is named; give `--source` or `--sources FILE`"):
        run("build", posts)
    with pytest.raises(ValueError, match="'shades' names no knowledge source"):
        run("build", posts, "--source", "shades")
    with pytest.raises(ValueError, match="Data set 'twiter' is not known"):
        run("build", "twiter", "--source", "shade")
    assert list((tmp_path / "new").iterdir()) == before  # no store is made, or opened, for a mistake


def test_what_is_not_kept_is_asked_for_what_others_read(run, posts, shade):
    done = run("build", posts, "--source", "plain", "--source", "echo")
    assert done.stdout.startswith("Echo (column 'auxiliary'): 3 posts, 3 answered; 3 distinct items, 0 found")
    assert "plain: only asked for what other sources read, not kept" in done.stderr
    (held,) = json.loads(run("inspect").stdout)
    assert held["source"] == "Echo"
    with pytest.raises(
        ValueError, match="names plain alone, which reads files on disk and needs no store; ask it dir"
    ):
        run("build", posts, "--source", "plain")
    assert json.loads(run("inspect").stdout) == [held]


def test_an_unreadable_image_stops_or_is_skipped(tmp_path, run, posts, shade):
    (tmp_path / "seven.png").write_bytes(b"no image")
    posts.write_text(posts.read_text() + '\n{"id": "d", "text": "gone", "image": "absent.png"}')
    with pytest.raises(ValueError, match="Example 'a': Image .*seven.png cannot be decoded"):
        run("build", posts, "--source", "shade")
    done = run("build", posts, "--source", "shade", "--on-error", "skip")
    assert shade.asked == ["c"]
    assert "skipped: Example 'a'" in done.stderr
    assert re.search("skipped: Example 'd': image '.*absent.png' does not exist; correct its path.", done.stderr)
    assert "3 of 4 posts skipped." in done.stderr


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_exported_is_imported_elsewhere(tmp_path, run, posts, shade, suffix):
    run("build", posts, "--source", "shade")
    values = tmp_path / f"captions.{suffix}"
    assert "2 of 3 posts, from Shade" in run("export", posts, values, "--source", "caption").stdout
    (tmp_path / "new" / "k.sqlite").rename(tmp_path / "first.sqlite")
    done = run("import", posts, "--values", values)
    assert "1 new items, 1 held already, none left out, 0 of ids" in done.stdout
    assert "k.sqlite: 1 new items from" in run("merge", tmp_path / "first.sqlite").stdout  # what is said of no image
    run("build", posts, "--source", "shade")
    assert shade.asked == ["a", "c"]


def test_published_knowledge_is_imported(tmp_path, run, shade):
    image = tmp_path / "one.png"
    Image.new("RGB", (3, 3)).save(image)
    post = {"id": "a", "text": "Hello", "image": "one.png", "knowledge": {"caption": "published"}}
    (tmp_path / "posts.jsonl").write_text(json.dumps(post))
    given = ["--part", "caption", "--source", "Shade", "--model", "m", "--revision", "1"]
    with pytest.raises(ValueError, match="not known without --reads; give it, too"):
        run("import", tmp_path / "posts.jsonl", *given)
    with pytest.raises(ValueError, match="give --part, --source, --reads"):
        run("import", tmp_path / "posts.jsonl")
    run("import", tmp_path / "posts.jsonl", *given, "--reads", "image")
    del post["knowledge"]
    (tmp_path / "posts.jsonl").write_text(json.dumps(post))
    assert "1 distinct items, 1 found" in run("build", tmp_path / "posts.jsonl", "--source", "shade").stdout
    assert not shade.asked


def test_errors_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hf-mner", "knowledge", "inspect", str(tmp_path / "absent.sqlite")])
    with pytest.raises(SystemExit):
        main.run()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hf-mner: Knowledge store '")
    assert "does not exist" in line


def test_a_source_that_finds_nothing_is_told(tmp_path, run, shade):
    posts = tmp_path / "posts.jsonl"
    posts.write_text("".join(json.dumps({"id": str(number), "text": "No image"}) + "\n" for number in range(4)))
    (line,) = run("build", posts, "--source", "shade").stdout.splitlines()
    assert "4 posts, 0 answered, 4 not (4 without image); 1 distinct items" in line
    assert line.endswith("No post has what it reads (image): put the images in place.")


def test_the_result_line_tells_who_computed():
    line = result_line("Shade", Progress(10, 20, 30, 5), Answers(40, 40, {}), 65.0)
    counts = "40 posts, 40 answered; 30 distinct items, 10 found in the store, 15 new, 5 by other processes"
    assert line == f"Shade: {counts}, in 1:05."


def test_two_sources_of_one_part_are_warned_of(run, posts, shade, monkeypatch):
    assert "warning" not in run("build", posts, "--source", "shade", "--source", "echo").stderr
    done = run("build", posts, "--source", "shade", "--source", "plain")
    assert "warning: Shade (m) and Shade (m) both fill 'caption': the second is asked only" in done.stderr


def test_similarities_are_not_imported_for_posts_without_captions(tmp_path, run, posts):
    values = tmp_path / "similarities.jsonl"
    values.write_text('{"id": "a", "value": 0.5}\n{"id": "c", "value": 0.25}\n')
    given = ("--values", values, "--part", "similarity", "--source", "S", "--reads", "caption", "--reads", "tokens")
    with pytest.raises(ValueError, match="Nothing was imported: 2 left out because their caption is missing \\(join"):
        run("import", posts, *given)
    first, *others = map(json.loads, posts.read_text().splitlines())
    posts.write_text("\n".join(map(json.dumps, [{**first, "knowledge": {"caption": "a man"}}, *others])))
    done = run("import", posts, *given)
    assert "1 new items, 0 held already, 1 left out because their caption is missing (join captions" in done.stdout
    run("export", posts, tmp_path / "out.jsonl", "--source", "similarity")
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (row["id"], row["value"]) == ("a", 0.5)


def test_settings_are_kept_in_one_order(run, tmp_path):
    post = {"id": "a", "text": "Hello", "knowledge": {"caption": "published"}}
    (tmp_path / "posts.jsonl").write_text(json.dumps(post))
    given = ("--part", "caption", "--source", "Shade", "--reads", "tokens", "--settings", '{"b": 1, "a": 2}')
    run("import", tmp_path / "posts.jsonl", *given)
    assert json.loads(run("inspect").stdout)[0]["settings"] == '{"a": 2, "b": 1}'


IMPORT = ["import", "k.sqlite", "posts.jsonl", "--source", "S", "--reads", "tokens", "--part"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([*IMPORT, "captoin"], "`--part` is 'captoin'; expected one of caption, auxiliary, ocr,"),
        ([*IMPORT, "caption", "--settings", "{bad"], "`--settings` is '{bad', which is not JSON"),
        ([*IMPORT, "caption", "--settings", "3"], "`--settings` is '3'; expected a JSON object"),
        (
            [*IMPORT, "caption", "--values", "no.jsonl"],
            "`--values` is 'no.jsonl', which does not exist; expected a .jso",
        ),
        ([*IMPORT, "caption", "--values", "mine"], "`--values` is 'mine', which is a folder; expected a .jsonl"),
        (["build", "k.sqlite", "posts.jsonl", "--source", "{ocr"], "`--source {ocr` is not YAML"),
        (["build", "k.sqlite", "posts.jsonl", "--sources", "own.tsv"], "`--sources own.tsv` is not YAML"),
        (
            ["build", "k.sqlite", "posts.jsonl", "--sources", "no.yaml"],
            "`--sources` is 'no.yaml', which does not exist",
        ),
        (
            ["build", "k.sqlite", "posts.jsonl", "--sources", "mine"],
            "`--sources` is 'mine', which is a folder; expected",
        ),
        (
            ["build", "k.sqlite", "no.jsonl", "--source", "shade"],
            "`DATA` is 'no.jsonl', which does not exist; expected",
        ),
        (
            ["build", "k.sqlite", "own.tsv", "--source", "shade"],
            "or give a folder of BIO files of your own, or a .jsonl",
        ),
        (["build", "mine", "posts.jsonl", "--source", "shade"], "'mine' is a folder; a knowledge store is a file"),
        (["build", "k.sqlite", "posts.jsonl", "--source", "missing"], "`pip install hf-mner[missing]`"),
        (["inspect", "mine"], "'mine' is a folder; a knowledge store is a file"),
    ],
)
def test_mistakes_with_a_store_are_one_line(tmp_path, posts, shade, monkeypatch, capsys, given, message):
    def miss():
        raise ImportError("`Missing` needs nothing; `pip install hf-mner[missing]`.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.SOURCES, "missing", registry.SourceEntry("missing", "main"))
    maker = registry.maker
    monkeypatch.setattr(registry, "maker", lambda entry: miss if entry.place == "missing" else maker(entry))
    (tmp_path / "own.tsv").write_text("a\tb: [\n")
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(sys, "argv", ["hf-mner", "knowledge", *given])
    with pytest.raises(SystemExit, match="1"):
        main.run()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hf-mner: ")
    assert message in line
    assert not (tmp_path / "k.sqlite").exists()


def test_an_import_that_is_a_bug_keeps_its_traceback(monkeypatch):
    def fail():
        raise ImportError("cannot import name 'x' from 'y'")

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(ImportError, match="cannot import name"):
        main.run()


def test_what_is_stopped_from_the_keyboard_says_how_it_goes_on(tmp_path, posts, shade, articles, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Shade, "__call__", stop)
    monkeypatch.setattr("hf_mner.knowledge.encyclopedia.build_index", stop)
    for given in (["build", "k.sqlite", posts, "--source", "shade"], ["index", articles, "--output", "index"]):
        monkeypatch.chdir(tmp_path)
        done = CliRunner().invoke(main.app, ["knowledge", *map(str, given)])
        assert done.exit_code == 130
        assert done.stderr.strip().endswith("stopped; run the same command again to go on")
    with pytest.raises(typer.Exit), options.open_store(tmp_path / "k.sqlite"):
        stop()
    with pytest.raises(KeyboardInterrupt), options.open_store(None):  # nothing is kept
        stop()


def test_a_folder_and_its_splits_are_read(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(f"{name} O\nParis B-LOC\n")
    assert [row["tokens"][0] for row in read_examples(str(tmp_path), None)] == ["train", "test"]
    (row,) = read_examples(str(tmp_path), None, ["test"])
    assert row["tokens"] == ["test", "Paris"]
    with pytest.raises(ValueError, match="folder has no split 'dev'; it has train, test"):
        read_examples(str(tmp_path), None, ["dev"])
    with pytest.raises(ValueError, match="is a file of posts, which has no splits"):
        read_examples("posts.jsonl", None, ["test"])


def test_progress_tells_rate_and_rest():
    assert progress_line("Shade", Progress(10, 0, 100), 5.0) == "Shade: 10 of 100 items"
    assert progress_line("Shade", Progress(10, 20, 100), 5.0) == "Shade: 30 of 100 items, 4.0 items/s, 0:18 left"
    assert [format_seconds(seconds) for seconds in (7.4, 65, 3725)] == ["0:07", "1:05", "1:02:05"]


def test_a_table_is_printed_for_readers(tmp_path, shade, posts, run, capsys):
    run("build", posts, "--source", "shade")
    with KnowledgeStore(tmp_path / "new" / "k.sqlite") as store:
        knowledge.print_table([knowledge.describe(1, held) for held in store.sources()])
    assert "Shade" in capsys.readouterr().out


@pytest.fixture
def articles(tmp_path):
    path = tmp_path / "articles.jsonl"
    rows = [
        {"title": "Chicago Cubs", "aliases": ["Cubs"], "text": "The Chicago Cubs are a baseball team."},
        {"title": "Cubs", "text": "Cubs is a town in Ohio.", "source": "tiny"},
        *({"title": f"Town {number}", "text": f"Town {number} is a town."} for number in range(50)),
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def invoke(*arguments):
    done = CliRunner().invoke(main.app, ["knowledge", *map(str, arguments)])
    if done.exception:
        raise done.exception
    return done


def test_an_index_is_built_once_and_asked(tmp_path, articles):
    folder = tmp_path / "new" / "encyclopedia"
    done = invoke("index", articles, "--output", folder, "--minor-source", "tiny")
    assert done.stdout.strip().endswith("encyclopedia: 52 articles.")
    assert "reading articles" in done.stderr
    assert "merging ranges of names" in done.stderr
    assert [path.name for path in folder.parent.iterdir()] == ["encyclopedia"]
    again = invoke("index", articles, "--output", folder, "--minor-source", "tiny")
    assert again.stdout.strip().endswith("encyclopedia: 52 articles, is finished already.")
    assert "reading" not in again.stderr
    asked = invoke("lookup", "cubs", "#ChicagoCubs", "nobody", "--encyclopedia", folder)
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [(entry["mention"], entry["title"], entry.get("rule")) for entry in found] == [
        ("cubs", "Chicago Cubs", "alias"),
        ("#ChicagoCubs", "Chicago Cubs", "hashtag"),
        ("nobody", None, None),
    ]


def test_files_of_articles_are_asked_directly_and_context_decides(articles):
    asked = ("lookup", "Cubs", "--encyclopedia", articles)
    (plain,), (inside,) = (
        [json.loads(line)["title"] for line in invoke(*asked, *more).stdout.splitlines()]
        for more in ((), ("--context", "the baseball team Cubs"))
    )
    assert (plain, inside) == ("Cubs", "Chicago Cubs")


def test_a_build_that_was_stopped_goes_on_and_says_so(tmp_path, articles, monkeypatch, caplog):
    from hf_mner.knowledge.encyclopedia import MINOR_SOURCES, IndexSettings, build, build_index

    class StoppedError(BaseException):
        pass

    def stop(step, done, _):
        if done > 15:
            raise StoppedError(step)

    with pytest.raises(StoppedError, match="reading"):
        build_index([articles], tmp_path / "index", IndexSettings(300, MINOR_SOURCES), batch_size=10, progress=stop)
    read, seen = build.read_articles, []
    monkeypatch.setattr(build, "read_articles", lambda path, skip: seen.append(skip) or read(path, skip))
    done = invoke("index", articles, "--output", tmp_path / "index")
    assert done.stdout.strip().endswith("index: 52 articles.")
    assert seen == [20]
    (message,) = caplog.messages
    assert message.endswith(
        "index.building: going on with a build that was stopped: 20 articles were read, 0 ranges merged."
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["index", "absent.parquet", "--output", "new"], "absent.parquet does not exist; give one of .jsonl"),
        (["index", "articles.csv", "--output", "new"], "articles.csv ends in none of .jsonl"),
        (["index", "articles.jsonl.gz", "--output", "new"], "articles.jsonl.gz is cut off or damaged"),
        (["index", "articles.jsonl", "--output", "mine"], "mine exists and is no index that can be used"),
        (["lookup", "Cubs", "--encyclopedia", "mine"], "mine holds no encyclopedia index; build one: `hf-mner"),
        (["lookup", "Cubs", "--encyclopedia", "absent.tsv"], "absent.tsv does not exist"),
    ],
)
def test_mistakes_with_an_encyclopedia_are_one_line(tmp_path, articles, monkeypatch, capsys, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "articles.csv").touch()
    (tmp_path / "articles.jsonl.gz").write_bytes(articles.read_bytes())  # not packed
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    monkeypatch.setattr(sys, "argv", ["hf-mner", "knowledge", *given])
    with pytest.raises(SystemExit):
        main.run()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("hf-mner: ")
    assert message in line
    assert not (tmp_path / "new").exists()

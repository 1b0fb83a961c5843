"""Models and data sets through a stand-in Hub, read back by other processes: the same entities, the same rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import constants
from stand_in_hub import TOKEN, StandInHub, stand_in_hub
from tiny import TINY_SYSTEMS, save_tiny, tiny_examples, tiny_image
from typer.testing import CliRunner

import hf_mner
from hf_mner.cli import main
from hf_mner.data import load_mner_dataset
from hf_mner.hub.compact import write_compact_checkpoint
from hf_mner.hub.local_paths import publishable_recipe
from hf_mner.hub.repository import write_model_repository
from hf_mner.hub.training_cost import training_cost
from hf_mner.inference.onnx_export import export_onnx
from hf_mner.knowledge.model_identity import model_revision

WRONG_TOKEN = "hf_aSecretThatNobodyMayRead"
READ = """
import json, sys
posts = json.loads(sys.argv[2])
for post in posts:
    post["image"] = (post["image"] or None) and __import__("PIL.Image").Image.new("RGB", (8, 8), (10, 200, 30))
print(json.dumps(pipe(posts)))
"""
NOT_IMPORTED = """
from transformers import pipeline
pipe = pipeline("multimodal-ner", model=__import__("sys").argv[1], trust_remote_code=True)
"""
IMPORTED = """
import hf_mner, sys, transformers
pipe = transformers.pipeline("multimodal-ner", model=sys.argv[1])
assert not [name for name in sys.modules if "stub" in name and "mner" in name]
"""
NOT_INSTALLED = """
import sys

class Hidden:
    def find_spec(self, name, *args):
        if name.partition(".")[0] == "hf_mner":
            raise ModuleNotFoundError("No module named 'hf_mner'", name="hf_mner")

sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture(scope="module")
def hub():
    with stand_in_hub() as server:
        yield server
        assert server.unknown == [], server.unknown


@pytest.fixture(scope="module", params=TINY_SYSTEMS)
def run(request, tmp_path_factory) -> Path:
    """A trained run of each system, as `hf-mner train` leaves it."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    save_tiny(request.param, folder)
    recipe = {"system": request.param, "dataset": "twitter2017", "backbone": str(folder / "encoder"), "seed": 3}
    recipe |= {"fusion": "word_level"} if request.param == "mmavk" else {}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    stage = folder / "detection" if request.param == "scanner" else folder
    stage.mkdir(exist_ok=True)
    cost = {"seconds": 90.0, "is_resumed": False, "device": "cpu", "processes": 1}
    (stage / "cost.json").write_text(json.dumps(cost))
    (folder / "log.json").write_text("[]")
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    score = {"precision": 0.8023, "recall": 0.8223, "f1": 0.8123, "support": 7}
    values = {"model": str(tmp_path_factory.getbasetemp()), "dataset": "twitter2017", "split": "test"}
    values |= {"knowledge": [], "label_files_sha256": "abc", "entities": {**score, "per_type": {"PER": score}}}
    file = tmp_path_factory.mktemp("results") / "scores.json"
    file.write_text(json.dumps(values))
    return file


def posts() -> list[dict]:
    """Texts with and without image and knowledge, as JSON."""
    return [
        {"text": " ".join(one["tokens"]), "image": bool(one.get("image_size")), "knowledge": one["knowledge"]}
        for one in tiny_examples()
    ]


def expected(folder: Path) -> list:
    """Return the entities that the model gives before it is published."""
    inputs = [{**post, "image": tiny_image() if post["image"] else None} for post in posts()]
    return hf_mner.pipeline(model=str(folder))(inputs)


def execute(code: str, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)


def command(*arguments: str) -> SimpleNamespace:
    """Run `hf-mner` in this process."""
    outcome = CliRunner().invoke(main.app, list(arguments))
    return SimpleNamespace(returncode=outcome.exit_code, stdout=outcome.stdout, error=outcome.exception)


@contextmanager
def logged_in(hub: StandInHub, token: str | None = TOKEN) -> Iterator[None]:
    """Let this process take the stand-in for the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", token) if token else patch.delenv("HF_TOKEN", raising=False)
        yield


def push(hub: StandInHub, *arguments: str, token: str | None = TOKEN) -> SimpleNamespace:
    with logged_in(hub, token):
        return command("push", *arguments)


@pytest.fixture(scope="module")
def pushed(hub, run, results) -> str:
    """Push the run of a system; the name of its repository."""
    name = f"me/{run.parent.name}"
    done = push(hub, str(run), name, "--results", str(results), "--license", "mit")
    assert done.returncode == 0, done.error
    assert done.stdout.strip().splitlines()[-1].startswith(f"{hub.url}/{name}/commit/")
    assert TOKEN not in done.stdout
    return name


def test_what_is_pushed_gives_the_same_entities_elsewhere(hub, run, pushed, tmp_path):
    before = json.dumps(expected(run))
    for code in (NOT_IMPORTED, IMPORTED):
        read = execute(code + READ, hub.environment(tmp_path), pushed, json.dumps(posts()))
        assert read.returncode == 0, read.stderr
        assert json.loads(read.stdout) == json.loads(before)


def test_a_repository_says_what_it_holds_and_no_path_of_this_machine(hub, run, pushed):
    name, files = pushed, hub.files(pushed)
    assert {"README.md", "config.json", "hf_mner_stub.py", "knowledge.json", "model.safetensors"} <= files.keys()
    assert {"processor_config.json", "recipe.yaml", "results/scores.json", "tokenizer.json"} <= files.keys()
    assert "log.json" not in files
    assert not [path for path, content in files.items() if str(run.parent).encode() in content]
    assert json.loads(files["results/scores.json"])["model"] == name
    assert json.loads(files["cost.json"])["seconds"] == 90.0
    _, front, body = files["README.md"].decode().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["pipeline_tag"] == "token-classification"
    assert card["library_name"] == "hf_mner"
    metrics = card["model-index"][0]["results"][0]["metrics"]
    assert {metric["name"].split(",")[0]: metric["value"] for metric in metrics} == {
        "entity F1": 81.23,
        "entity precision": 80.23,
        "entity recall": 82.23,
        "PER F1": 81.23,
    }
    assert f'pipeline("multimodal-ner", model="{name}")' in body
    assert f'pipeline("multimodal-ner", model="{name}", trust_remote_code=True)' in body
    assert "That took 1.5 minutes on cpu." in body


@pytest.mark.parametrize("auto_class", ["AutoConfig", "AutoModel", "AutoModelForTokenClassification", "AutoProcessor"])
def test_each_auto_class_opens_a_repository_first(hub, auto_class, tmp_path, scanner_folder, results):
    name = "me/auto"
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    if ("model", name) not in hub.repositories:
        assert push(hub, str(tmp_path / "run"), name, "--results", str(results)).returncode == 0
    code = f"""
from transformers import {auto_class}
opened = {auto_class}.from_pretrained("{name}", trust_remote_code=True)
opened.save_pretrained("{tmp_path}/copy")
print(type(opened).__module__)
"""
    read = execute(code, hub.environment(tmp_path))
    assert read.stdout.startswith("hf_mner.models.scanner"), read.stderr
    saved = "".join(file.read_text() for file in (tmp_path / "copy").glob("*.json"))
    assert "auto_map" not in saved
    assert "custom_pipelines" not in saved
    assert not list((tmp_path / "copy").glob("*.py"))


def copy_run(model: Path, run: Path) -> None:
    for file in model.iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    recipe = {"system": "scanner", "dataset": "twitter2017", "backbone": "tiny", "seed": 3}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def test_without_the_package_the_error_says_what_to_install(hub, scanner_folder, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    assert push(hub, str(tmp_path / "run"), "me/alone").returncode == 0
    for opener in ("AutoModel", "AutoProcessor"):
        code = f"from transformers import {opener}; {opener}.from_pretrained('me/alone', trust_remote_code=True)"
        read = execute(NOT_INSTALLED + code, hub.environment(tmp_path))
        assert read.returncode == 1
        assert "This model needs the package hf-mner, which is not installed: pip install hf-mner" in read.stderr


@pytest.mark.parametrize("write", [write_compact_checkpoint, export_onnx])
def test_checkpoints_of_other_kinds_are_read_from_the_hub(hub, scanner_folder, tmp_path, write):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    small = write(tmp_path / "run", tmp_path / "small")
    name = f"me/{write.__name__}"
    assert push(hub, str(small), name).returncode == 0
    assert "model.safetensors" not in hub.files(name)
    read = execute(IMPORTED + READ, hub.environment(tmp_path / "other"), name, json.dumps(posts()))
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == json.loads(json.dumps(expected(small)))


def test_push_to_hub_of_a_pipeline_is_enough_to_load_it(hub, scanner_folder, tmp_path):
    code = f"import hf_mner; hf_mner.pipeline(model='{scanner_folder}').push_to_hub('me/pushed')"
    done = execute(code, hub.environment(tmp_path))
    assert done.returncode == 0, done.stderr
    read = execute(NOT_IMPORTED + READ, hub.environment(tmp_path), "me/pushed", json.dumps(posts()))
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == json.loads(json.dumps(expected(scanner_folder)))


def test_a_private_repository_is_for_those_who_are_let_in(hub, scanner_folder, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    assert push(hub, str(tmp_path / "run"), "me/secret", "--private").returncode == 0
    for number, token in enumerate((None, WRONG_TOKEN)):
        home = tmp_path / f"stranger-{number}"
        read = execute(IMPORTED + READ, hub.environment(home, token), "me/secret", json.dumps(posts()))
        assert read.returncode != 0
        assert "me/secret" in read.stderr
        assert WRONG_TOKEN not in read.stdout + read.stderr + written_below(home)
    read = execute(IMPORTED + READ, hub.environment(tmp_path / "owner"), "me/secret", json.dumps(posts()))
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize(("token", "said"), [(None, "log in"), (WRONG_TOKEN, "Invalid credentials")])
def test_who_may_not_write_is_told_what_to_do(hub, scanner_folder, tmp_path, token, said):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    code = "from hf_mner.cli.main import run; run()"
    env = hub.environment(tmp_path / "home", token) | {"HF_DEBUG": "1"}  # the most that the libraries ever log
    done = execute(code, env, "push", str(tmp_path / "run"), "me/refused")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("hf-mner: Cannot write to 'me/refused'")
    assert said in done.stderr
    assert "`hf auth login`, or set HF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert WRONG_TOKEN not in done.stdout + done.stderr + written_below(tmp_path / "home")
    assert ("model", "me/refused") not in hub.repositories


def written_below(folder: Path) -> str:
    """Return all that a process wrote into its folder of caches."""
    return "".join(file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file())


def test_pushing_again_leaves_nothing_of_the_first_push_and_all_of_others(hub, scanner_folder, results, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    assert push(hub, str(tmp_path / "run"), "me/twice", "--results", str(results)).returncode == 0
    repository = hub.repositories["model", "me/twice"]
    repository.commit({**hub.files("me/twice"), "LICENSE": b"mine", "notes/mine.txt": b"mine"})
    assert push(hub, str(tmp_path / "run"), "me/twice").returncode == 0
    assert "results/scores.json" not in hub.files("me/twice")
    assert {"LICENSE", "notes/mine.txt"} <= hub.files("me/twice").keys()
    assert "No scores were given with this model." in hub.files("me/twice")["README.md"].decode()


def test_what_would_be_published_can_be_looked_at(scanner_folder, results, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    arguments = ["push", str(tmp_path / "run"), "me/dry", "--results", str(results), "--output", str(tmp_path / "out")]
    done = command(*arguments, "--co2", "3.5", "--co2-source", "a meter")
    assert done.returncode == 0, done.error
    card = (tmp_path / "out" / "README.md").read_text()
    assert "It emitted 3.5 g of CO2 equivalents (a meter)." in card
    assert yaml.safe_load(card.split("---\n")[1])["co2_eq_emissions"] == {"emissions": 3.5, "source": "a meter"}
    alone = ["card", str(tmp_path / "run"), str(tmp_path / "card.md"), "--results", str(results), "--repo", "me/dry"]
    assert command(*alone, "--co2", "3.5", "--co2-source", "a meter").returncode == 0
    assert (tmp_path / "card.md").read_text() == card
    assert "is not empty; choose a new folder" in str(command(*arguments).error)
    assert "Give `--co2` and `--co2-source` together" in str(command(*arguments, "--co2", "3").error)


def test_a_folder_that_is_no_checkpoint_is_refused(scanner_folder, results, tmp_path):
    with pytest.raises(FileNotFoundError, match="lacks recipe.yaml; give the folder of a finished `hf-mner train`"):
        write_model_repository(scanner_folder, tmp_path / "out", "me/x")
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    with pytest.raises(FileExistsError, match="another results file is called scores.json; rename one"):
        write_model_repository(tmp_path / "run", tmp_path / "out", "me/x", [results, results])
    config = tmp_path / "run" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "bert"}))
    with pytest.raises(ValueError, match="`model_type` 'bert'; expected one of scanner"):
        write_model_repository(tmp_path / "run", tmp_path / "second", "me/x")


def test_a_name_that_is_none_is_refused_before_anything_is_written(hub, scanner_folder):
    done = push(hub, str(scanner_folder), "no/such/name")
    assert isinstance(done.error, ValueError)
    assert "no/such/name" in str(done.error)
    assert "'mine' has no owner; write OWNER/NAME, such as me/mine" in str(
        push(hub, str(scanner_folder), "mine").error
    )
    assert ("model", "me/mine") not in hub.repositories


def test_a_branch_that_is_not_there_is_named(hub, scanner_folder, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    done = push(hub, str(tmp_path / "run"), "me/branches", "--revision", "dev")
    assert "`--revision dev` is no branch of 'me/branches'; make it first" in str(done.error)


def test_scores_of_another_model_are_refused(scanner_folder, results, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    row = json.loads(results.read_text())
    for name, changed in (("revision", {"model_revision": "other"}), ("stages", {"stages": {"grounding": {}}})):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({**row, **changed}))
        with pytest.raises(ValueError, match="holds scores of another model"):
            write_model_repository(tmp_path / "run", tmp_path / "out", "me/x", [file])
    own = tmp_path / "own.json"
    own.write_text(json.dumps({**row, "model_revision": model_revision(str(tmp_path / "run")), "stages": {}}))
    write_model_repository(tmp_path / "run", tmp_path / "out", "me/x", [own])


def test_no_results_file_leaves_no_folder(scanner_folder, tmp_path):
    (tmp_path / "run").mkdir()
    copy_run(scanner_folder, tmp_path / "run")
    (tmp_path / "bad.json").write_text("no JSON")
    with pytest.raises(ValueError, match=r"bad.json is not JSON"):
        write_model_repository(tmp_path / "run", tmp_path / "out", "me/x", [tmp_path / "bad.json"])
    assert not (tmp_path / "out").exists()


def test_a_published_recipe_leads_nowhere():
    endpoint = {
        "endpoint_auxiliary": {"model": "m", "base_url": "https://user:sk-SECRET@llm.example/v1?key=sk-SECRET"}
    }
    recipe = {
        "sources": ["captions: /home/alice/secret/blip2", endpoint],
        "backbone": "file:///home/alice/encoder",
        "knowledge": ("../../home/alice/knowledge.jsonl", "blip2_captions"),
        "text_kwargs": {"/home/alice/x": "C:\\Users\\alice\\y"},
    }
    assert publishable_recipe(recipe) == {
        "sources": [
            {"captions": {"model": "blip2"}},
            {"endpoint_auxiliary": {"model": "m", "base_url": "https://llm.example/v1"}},
        ],
        "backbone": "encoder",
        "knowledge": ["knowledge.jsonl", "blip2_captions"],
        "text_kwargs": {"x": "y"},
    }


def test_a_backbone_in_a_folder_nearby_is_published_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "encoder").mkdir(parents=True)
    recipe = {"backbone": "runs/encoder", "vision_backbone": "microsoft/resnet-18"}
    assert publishable_recipe(recipe) == {"backbone": "encoder", "vision_backbone": "microsoft/resnet-18"}


def test_the_time_of_stages_is_added_up(tmp_path):
    for stage, is_resumed in (("detection", False), ("recognition", True), ("recognition/checkpoints/c-1", True)):
        (tmp_path / stage).mkdir(parents=True)
        cost = {"seconds": 60.0, "is_resumed": is_resumed, "device": "cpu", "processes": 2}
        (tmp_path / stage / "cost.json").write_text(json.dumps(cost))
    assert training_cost(tmp_path) == {"seconds": 120.0, "is_resumed": True, "device": "cpu", "processes": 2}


READ_ROWS = """
import json, sys
from datasets import load_dataset
for name in sys.argv[2:] or [None]:
    rows = load_dataset(sys.argv[1], name)["train"]
    first = rows[0]
    picture = first["image"] and [first["image"].size, list(first["image"].getpixel((3, 3)))]
    print(json.dumps([len(rows), first["tokens"], first["entities"], picture]))
"""


def test_a_data_set_comes_back_with_its_images(hub, tmp_path):
    (tmp_path / "posts" / "images").mkdir(parents=True)
    (tmp_path / "posts" / "train.txt").write_text("IMGID:1\nParis\tB-LOC\nshines\tO\n\nIMGID:2\nhi\tO\n")
    tiny_image().save(tmp_path / "posts" / "images" / "1.png")
    options = ["--data-dir", str(tmp_path / "posts"), "--private", "--license", "cc-by-4.0"]
    with logged_in(hub):
        done = command("data", "push", "folder", "me/posts", *options)
    assert done.returncode == 0, done.error
    files = hub.files("me/posts", "dataset")
    card = files["README.md"].decode()
    assert "# posts" in card
    assert "under cc-by-4.0" in card
    assert 'load_dataset("me/posts")' in card
    assert set(files) == {"README.md", "data/train-00000-of-00001.parquet"}
    assert not [path for path, content in files.items() if str(tmp_path).encode() in content]
    read = execute(READ_ROWS, hub.environment(tmp_path), "me/posts")
    assert read.returncode == 0, read.stderr
    rows = load_mner_dataset("folder", tmp_path / "posts")["train"]
    assert json.loads(read.stdout) == [
        len(rows),
        rows[0]["tokens"],
        rows[0]["entities"],
        [list(rows[0]["image"].size), list(rows[0]["image"].getpixel((3, 3)))],
    ]
    assert execute(READ_ROWS, hub.environment(tmp_path / "b", None), "me/posts").returncode != 0

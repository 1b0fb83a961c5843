"""What keeps the repository honest: numbers from files, options that are read, documents that run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hf_mner

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "hf_mner"
CHECKPOINT = SOURCE / "checkpoints" / "scanner-twitter2017-mini"
CARD = ROOT / "model_cards" / "scanner-twitter2017-mini.md"


def run_python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )


def test_tables_of_the_documents_are_what_the_results_files_say():
    done = run_python("-m", "benchmarks.render_results", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_of_the_tables_can_fail(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import render_results

    forged = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    forged.write_text(re.sub(r"\d\d\.\d\d \|", "99.99 |", text, count=1), encoding="utf-8")
    monkeypatch.setattr(render_results, "DOCUMENTS", (forged,))
    monkeypatch.setattr(sys, "argv", ["render_results.py", "--check"])
    assert render_results.main() == 1


def test_the_card_is_what_its_results_files_say():
    from hf_mner.hub.model_card import render_model_card

    results = [ROOT / "results" / "scanner" / "default" / f"{name}.json" for name in ("captions-encyclopedia", "none")]
    assert CARD.read_text(encoding="utf-8") == render_model_card(CHECKPOINT, results)


def test_the_embedded_checkpoint_fits_its_limit_and_names_its_recipe():
    size = sum(path.stat().st_size for path in CHECKPOINT.rglob("*") if path.is_file())
    assert size <= 60_000_000, f"{size} bytes; the package promises at most 60 MB"
    from hf_mner.training.recipes import load_recipe

    published = ROOT / "recipes" / "scanner" / "twitter2017-mini.yaml"
    assert load_recipe(CHECKPOINT / "recipe.yaml") == load_recipe(published)


@pytest.mark.parametrize("model_type", sorted({**hf_mner.auto.SYSTEMS, **hf_mner.auto.BACKBONES}))
def test_every_field_of_a_configuration_is_read(model_type):
    tables = {**hf_mner.auto.SYSTEMS, **hf_mner.auto.BACKBONES}
    config = getattr(hf_mner, tables[model_type].config)
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if "configuration" not in path.name
    )
    own = set(config.__annotations__) - {"tie_word_embeddings"}  # transformers reads that one
    assert own, "the configuration declares no field"
    unread = [name for name in own if not re.search(rf"config\.{name}\b", code)]
    assert not unread, f"fields that nothing reads: {unread}"


@pytest.mark.parametrize(
    "name", ["MultimodalNerPipeline", "ScannerForMultimodalNer", "ScannerProcessor", "ScannerConfig"]
)
def test_public_names_can_be_the_first_import(name):
    done = run_python("-c", f"from hf_mner import {name}; print({name}.__name__)")
    assert done.stdout.strip() == name, done.stderr


def test_every_public_name_is_there_and_documented():
    undocumented = [name for name in hf_mner.PUBLIC if not (getattr(hf_mner, name).__doc__ or "").strip()]
    assert not undocumented
    with pytest.raises(AttributeError, match="has no attribute 'Piepline'"):
        hf_mner.Piepline  # noqa: B018


def test_the_command_line_helps_quickly_because_it_imports_nothing_heavy():
    code = """
import sys, hf_mner.cli.main
print(sorted({"torch", "transformers", "datasets", "numpy"} & {name.partition(".")[0] for name in sys.modules}))
"""
    assert run_python("-c", code).stdout.strip() == "[]"


def test_the_first_code_of_the_readme_runs_and_shows_what_it_says():
    blocks = re.findall(r"```python\n(.*?)```\n(?:\n```json\n(.*?)```)?", (ROOT / "README.md").read_text(), re.DOTALL)
    code, shown = blocks[0]
    last = code.strip().splitlines()[-1]
    done = run_python("-c", code.replace(last, f"import json\nprint('JSON', json.dumps({last}))"))
    assert done.returncode == 0, done.stderr
    entities = json.loads(done.stdout.partition("JSON ")[2])
    expected = json.loads(shown)
    for entity, printed in zip(entities, expected, strict=True):
        assert entity.pop("score") == pytest.approx(printed.pop("score"), abs=0.005)  # the README rounds
        assert entity == printed


def test_no_tracked_file_names_a_folder_of_one_machine():
    done = subprocess.run(
        ["git", "grep", "-nIE", r"/(home|root|Users)/[a-zA-Z.]", "--", ".", ":!tests"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert not done.stdout, done.stdout

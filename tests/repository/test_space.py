"""The Space's files: its card parses, and its versions are those that the package is tested with."""

import re
import runpy
import tomllib
from pathlib import Path

from huggingface_hub import SpaceCard

import hf_mner

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "spaces" / "mner_demo"


def pinned(package):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (version,) = [line.partition("==")[2] for line in lines if line.startswith(f"{package}==")]
    return version


def test_the_card_says_what_runs():
    card = SpaceCard((SPACE / "README.md").read_text(encoding="utf-8"), ignore_metadata_errors=False).data
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert card.sdk == "gradio"
    assert card.sdk_version == pinned("gradio")
    assert project["requires-python"] == f">={card.python_version}"
    assert card.license == project["license"].lower()
    assert (SPACE / card.app_file).is_file()
    assert card.title


def test_it_installs_this_version_of_the_package():
    (line,) = (SPACE / "requirements.txt").read_text(encoding="utf-8").split()
    assert line == f"hf-mner[demo]=={hf_mner.__version__}"


def test_pillow_is_one_that_gradio_takes():
    assert int(re.match(r"\d+", pinned("pillow"))[0]) < 13


def test_the_app_builds_the_demo_with_the_models_of_its_variable(monkeypatch, scanner_folder):
    monkeypatch.setenv("HF_MNER_DEMO_MODELS", f"scanner={scanner_folder}")
    demo = runpy.run_path(str(SPACE / "app.py"))["demo"]
    assert list(demo.get_api_info()["named_endpoints"]) == ["/recognize"]

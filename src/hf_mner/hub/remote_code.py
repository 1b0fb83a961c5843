"""What lets a published checkpoint open in a process that has installed this package and not imported it.

The repository holds no code of the systems: one file imports them from the package, and the configuration files name
that file. Where the package is imported, its own classes are used and the file is not even fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_mner.auto import SYSTEMS, System

MODULE = "hf_mner_stub"
PIPELINE = "MultimodalNerPipeline"
AUTO_MODELS = ("AutoModel", "AutoModelForTokenClassification")
TASK_ENTRY = {"multimodal-ner": {"impl": f"{MODULE}.{PIPELINE}", "pt": [AUTO_MODELS[1]], "type": "multimodal"}}
TEMPLATE = '''"""Opens this checkpoint with the package hf-mner; there is no other code in this repository."""

try:
    from hf_mner import {names}
except ModuleNotFoundError as error:
    if error.name != "hf_mner":
        raise
    raise ImportError("This model needs the package hf-mner, which is not installed: pip install hf-mner") from error

__all__ = [{quoted}]
'''


class PublishesRemoteCode:
    """Mixed into models, processors and pipelines: `push_to_hub` uploads the file that opens them, too.

    Departure from transformers, which uploads the files of classes: ours import each other across folders, and a
    repository is flat. The hook is a private name of transformers 5.23.
    """

    def _upload_modified_files(self, working_dir: str, *args: Any, **kwargs: Any) -> Any:
        add_remote_code(Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)  # type: ignore[misc]


def add_remote_code(folder: Path) -> None:
    """Add the file that opens a checkpoint, and its names to `config.json` and `processor_config.json`.

    Args:
        folder: a checkpoint of one of the systems, with its processor or one of the two alone; the files are changed.

    Raises:
        ValueError: if the checkpoint is of no system.
    """
    config, processor = (read_json(folder / name) for name in ("config.json", "processor_config.json"))
    system = system_of(folder, config, processor)
    names = [system.config, *system.models, system.processor, PIPELINE]
    stub = TEMPLATE.format(names=", ".join(names), quoted=", ".join(f'"{name}"' for name in names))
    (folder / f"{MODULE}.py").write_text(stub, encoding="utf-8")
    if config:
        model = config["architectures"][0]
        config["auto_map"] = {"AutoConfig": f"{MODULE}.{system.config}"}
        config["auto_map"] |= dict.fromkeys(AUTO_MODELS, f"{MODULE}.{model}")
        write_json(folder / "config.json", {**config, "custom_pipelines": TASK_ENTRY})
    if processor:
        auto_map = {"AutoProcessor": f"{MODULE}.{system.processor}"}
        write_json(folder / "processor_config.json", {**processor, "auto_map": auto_map})


def system_of(folder: Path, config: dict[str, Any], processor: dict[str, Any]) -> System:
    """Find the system of a checkpoint by its configuration, without one by its processor."""
    for model_type, system in SYSTEMS.items():
        is_named = processor.get("processor_class") == system.processor
        if config.get("model_type") == model_type or (not config and is_named):
            return system
    raise ValueError(
        f"{folder} holds a checkpoint of `model_type` {config.get('model_type')!r}; expected one of"
        f" {', '.join(SYSTEMS)}. Give the folder of a finished `hf-mner train` or `hf-mner compact`."
    )


def read_json(file: Path) -> dict[str, Any]:
    """Read a configuration file; empty where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def write_json(file: Path, values: Any) -> None:
    """Write a configuration file as transformers does."""
    file.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")

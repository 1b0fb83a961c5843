"""`hf-mner train`: a recipe in, a checkpoint with its scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DataDir, Settings, StoreFile, open_store


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see recipes/.")],
    output: Annotated[Path, typer.Option(help="Folder of the run; a run that was stopped goes on there.")],
    data_dir: DataDir = None,
    settings: Settings = None,
    store: StoreFile = None,
    has_evaluation: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Score a split after.")] = True,
    split: Annotated[str, typer.Option(help="The split that is scored.")] = "test",
    accumulation: Annotated[int, typer.Option(min=1, help="Micro-batches of an update: less memory.")] = 1,
    has_gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute activations twice: less memory.")
    ] = False,
    save_steps: Annotated[
        int | None, typer.Option(min=1, help="Save the state every so many updates, not at the end of epochs.")
    ] = None,
    tracker: Annotated[
        list[str] | None, typer.Option(help="Log to tensorboard, trackio, wandb, ... (may be repeated).")
    ] = None,
    is_sharded: Annotated[bool, typer.Option("--fsdp", help="Cut the model among the GPUs (torchrun).")] = False,
) -> None:
    """Train a system as a recipe says, then score it (`OUTPUT/results.json`; `results-validation.json`).

    `torchrun --nproc-per-node 2 -m hf_mner.cli.main train ...` trains with two processes; the rows of an update are
    those of the recipe all the same.
    """
    import logging

    from transformers.utils import logging as transformers_logging

    from hf_mner.training.options import RunOptions, is_main_process, leave_processes
    from hf_mner.training.recipes import load_recipe
    from hf_mner.training.run import train_from_recipe

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("hf_mner").setLevel(logging.INFO if is_main_process() else logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # of loading and saving; training keeps its own
    parsed = load_recipe(recipe, dict(map(parse_setting, settings or [])))
    options = RunOptions(accumulation, has_gradient_checkpointing, save_steps, tuple(tracker or ()), is_sharded)
    with open_store(store) as kept:
        train_from_recipe(parsed, output, data_dir, store=kept, options=options)
    leave_processes()
    if not is_main_process():
        return
    typer.echo(f"Checkpoint: {output}")
    if has_evaluation:
        from .evaluate import evaluate

        file = results_file(output, split)
        evaluate(model=str(output), dataset=parsed.dataset, split=split, data_dir=data_dir, store=store, output=file)


def results_file(run: Path, split: str) -> Path:
    """Return where the scores of a run lie."""
    return run / ("results.json" if split == "test" else f"results-{split}.json")


def parse_setting(setting: str) -> tuple[str, object]:
    """Split `key=value`; the value is read as YAML."""
    import yaml

    key, equals, value = setting.partition("=")
    if not equals:
        raise ValueError(f"`{setting}` has no value; write KEY=VALUE, for example --set recognition.epochs=2.")
    return key, yaml.safe_load(value)

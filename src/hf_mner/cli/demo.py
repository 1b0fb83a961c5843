"""`hf-mner demo`: the demo for browsers and programs, served from this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataDir, SourceNames, SourcesFile, StoreFile, open_store, read_source_specs


def demo(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=CHECKPOINT: a further model of the picker, a folder or Hub name (may be repeated).",
            show_default=False,
        ),
    ] = None,
    source: SourceNames = None,
    sources: SourcesFile = None,
    store: StoreFile = None,
    data_dir: DataDir = None,
    queue_size: Annotated[int, typer.Option(min=1, help="Requests that wait; one more is refused.")] = 64,
    max_characters: Annotated[int, typer.Option(min=1, help="Of a text.")] = 5_000,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of an image.")] = 16_000_000,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of an image's file.")] = 10_000_000,
) -> None:
    """Serve the demo for browsers, with the endpoint `/recognize` for programs; Ctrl-C stops it.

    Models are also read from the variable HF_MNER_DEMO_MODELS (NAME=CHECKPOINT, separated by commas).
    """
    import os

    from hf_mner.demo.interface import build_demo, import_gradio, launch_demo
    from hf_mner.demo.models import VARIABLE, parse_models, parse_variable
    from hf_mner.demo.requests import Limits

    import_gradio()  # first, for without it nothing else is worth the wait
    models = {**parse_variable(os.environ.get(VARIABLE, "")), **parse_models(model or [])}
    limits = Limits(max_characters, max_pixels, max_bytes, queue_size)
    specs = read_source_specs(source or [], sources)
    from hf_mner.knowledge.registry import open_sources

    with open_store(store) as kept:
        page = build_demo(models, sources=open_sources(specs, data_dir, kept), limits=limits)
        _, url, _ = launch_demo(page, host, port, limits, quiet=True, prevent_thread_lock=True)
        typer.echo(f"Demo: {url}")
        page.block_thread()

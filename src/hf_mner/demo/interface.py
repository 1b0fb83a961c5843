"""The demo for browsers and programs: a page of Gradio, and its endpoint `/recognize`."""

# No `from __future__ import annotations`: Gradio describes the endpoint by its types, and reads none that are strings.

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hf_mner.data.schema import Entity
from hf_mner.hub.model_card import SYSTEM_NAMES
from hf_mner.rendering.rendered_posts import render

from .models import DEFAULT, VARIABLE, DemoModels
from .posts import demo_posts
from .requests import DemoPost, Limits, describe_reading, find_entities, read_post

if TYPE_CHECKING:
    import gradio

    from hf_mner.knowledge.base import KnowledgeSource

ARGUMENTS = ("text", "image", "caption", "model", "threshold", "knowledge")  # of `/recognize`
TITLE = "Multimodal named entity recognition"
INTRODUCTION = """# {title}

Write a post, add its image if it has one, and see the entities in it. A box in the image has the number and the colour
of the words that it belongs to; a model that grounds nothing gives no boxes.

The embedded SCANNER reads no pixels. To it an image counts through **what is known about it**: write what the image
shows into the field for the caption. It was trained on English tweets, and it is wrong now and then.

An image has at most {megabytes:g} MB and {megapixels:g} megapixels, a text {characters:,} characters. Images are
deleted within {minutes} minutes.
"""
KEEP_UPLOADS_S = 600  # uploaded images are deleted when they are this old; as often it is looked for them
SESSIONS = 20  # visitors whose last request Gradio keeps; it may hold an image, and every call by HTTP is a visitor


def import_gradio() -> Any:
    """Return the module `gradio`.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The demo is a page of Gradio, which is missing: pip install "hf-mner[demo]"') from error
    return gradio


def build_demo(
    models: Mapping[str, str] | None = None,
    *,
    sources: Sequence["KnowledgeSource"] = (),
    limits: Limits | None = None,
) -> "gradio.Blocks":
    """Build the demo; `launch_demo` serves it.

    Args:
        models: folder or Hub name of further models by their names in the picker; the embedded SCANNER is the first.
        sources: asked for the knowledge that a visitor does not give, see `hf_mner.open_sources`.
        limits: of what visitors may send.

    Raises:
        ImportError: without gradio.
        ValueError: if a model is of no system of the package.
    """
    gr = import_gradio()
    limits = limits or Limits()
    offered = DemoModels(models)
    offered.open(DEFAULT)  # so that the first visitor does not wait for it

    def answer(
        text: Any, image: Any, caption: Any, model: Any, threshold: Any, knowledge: Any
    ) -> tuple[DemoPost, list[Entity], str]:
        with visible_errors():
            offered.check(model)
            post = read_post(text, image, caption, knowledge, limits, gr.utils.get_upload_folder())
            pipe = offered.open(model)
            return post, find_entities(pipe, post, threshold, sources), describe_reading(pipe, post, bool(sources))

    def draw(*fields: Any) -> tuple[str, list[Entity]]:
        post, entities, reading = answer(*fields)
        return f"{render(entities, post.text, post.image, jupyter=False)}<p>{html.escape(reading)}</p>", entities

    # One thread for all that is large: with Gradio's forty, the heap that glibc has for each grows for long.
    worker = ThreadPoolExecutor(1, "recognition")

    def show(*fields: Any) -> tuple[str, list[Entity]]:
        return worker.submit(draw, *fields).result()

    def recognize(
        text: str | None = None,
        image: dict[str, Any] | str | None = None,
        caption: str | None = None,
        model: str = DEFAULT,
        threshold: float = 0.0,
        knowledge: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Find the entities of a post.

        Args:
            text: the post; without it, the answer says that it is missing.
            image: an uploaded file, or `data:image/png;base64,...`.
            caption: what the image shows.
            model: a name of the picker.
            threshold: entities with a lower score are left out.
            knowledge: other knowledge, such as `{"auxiliary": "..."}`.

        Returns:
            `[{"entity_group", "score", "word", "start", "end", "boxes", "knowledge"}]`.
        """
        _, entities, _ = worker.submit(answer, text, image, caption, model, threshold, knowledge).result()
        return [dict(entity) for entity in entities]

    in_turn = {"concurrency_limit": 1, "concurrency_id": "recognition"}  # a tokenizer is for one thread at a time
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEEP_UPLOADS_S, KEEP_UPLOADS_S)) as demo:
        gr.Markdown(introduction(limits))
        with gr.Row():
            with gr.Column():
                inputs, button = add_inputs(gr, offered, limits)
            with gr.Column():
                gr.Markdown("## Entities")
                page = gr.HTML("<p>Nothing was asked yet.</p>", elem_id="entities", padding=True)
                with gr.Accordion("The same as JSON", open=False):
                    found = gr.JSON(label="Entities")
        gr.Examples(example_rows(), inputs[:3], label="Examples", api_visibility="private")
        outputs = [page, found]
        gr.on(
            [button.click, inputs[0].submit],
            show,
            inputs,
            outputs,
            preprocess=False,  # so that a bad image is refused in our words
            api_visibility="private",
            **in_turn,
        )
        gr.api(recognize, api_name="recognize", **in_turn)
    demo.queue(max_size=limits.queue_size, default_concurrency_limit=1, api_open=False)
    return demo


def introduction(limits: Limits) -> str:
    """Return what a visitor reads first."""
    return INTRODUCTION.format(
        title=TITLE,
        megabytes=limits.file_bytes / 1e6,
        megapixels=limits.image_pixels / 1e6,
        characters=limits.text_characters,
        minutes=2 * KEEP_UPLOADS_S // 60,
    )


def add_inputs(gr: Any, offered: DemoModels, limits: Limits) -> tuple[list[Any], Any]:
    """Add the fields that a visitor fills in, and the button; return the fields in the order of `recognize`."""
    text = gr.Textbox(
        label="Post",
        lines=3,
        max_length=limits.text_characters + 1,  # one more, so that a text that is too long is refused and not cut
        info="Shift and Enter find the entities, as the button does.",
    )
    image = gr.Image(
        label="Image",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=260,
    )
    caption = gr.Textbox(
        label="Caption: what the image shows", info="The embedded SCANNER reads this, not the pixels."
    )
    model = gr.Dropdown(offered.choices(), value=DEFAULT, label="Model")
    gr.Markdown(describe_missing(offered))
    with gr.Accordion("More", open=False):
        threshold = gr.Slider(0, 1, value=0, step=0.01, label="Leave out entities with a lower score")
        knowledge = gr.Textbox(
            label="Other knowledge, as JSON",
            lines=2,
            info='For example {"auxiliary": "..."}; parts: auxiliary, ocr, objects, encyclopedia, similarity.',
        )
    button = gr.Button("Find entities", variant="primary")
    return [text, image, caption, model, threshold, knowledge], button


def example_rows() -> list[list[str | None]]:
    """Return text, image and caption of the demo's posts."""
    return [
        [post["text"], post.get("image"), (post.get("knowledge") or {}).get("caption", "")] for post in demo_posts()
    ]


def describe_missing(offered: DemoModels) -> str:
    """Say which systems have no checkpoint here, and how they get one; nothing where all have."""
    missing = offered.missing()
    if not missing:
        return ""
    names = ", ".join(SYSTEM_NAMES[system] for system in missing)
    return (
        f"No checkpoint was given for {names}, so this demo cannot show them. `hf-mner demo --model"
        f" {missing[0]}=CHECKPOINT`, or the variable `{VARIABLE}={missing[0]}=CHECKPOINT`, gives one."
    )


@contextmanager
def visible_errors() -> Iterator[None]:
    """Let what a visitor can mend be a message on the page, and in the answer of the endpoint."""
    from hf_mner.pipelines.multimodal_ner import BAD_POST

    gr = import_gradio()
    try:
        yield
    except BAD_POST as error:
        raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error


def launch_demo(
    demo: "gradio.Blocks",
    host: str | None = None,
    port: int | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> tuple[Any, str, str]:
    """Serve the demo; nothing is shared, and nothing is fetched or sent elsewhere.

    Args:
        demo: from `build_demo`.
        host: the address to listen on; None = what Gradio's variables say, else this machine alone.
        port: None = a free one from 7860.
        limits: the same as for `build_demo`.
        options: others of `gradio.Blocks.launch`.

    Returns:
        What `gradio.Blocks.launch` does.
    """
    gr = import_gradio()
    return demo.launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        app_kwargs={"exception_handlers": {TypeError: refuse_unknown}},
        enable_monitoring=False,
        max_file_size=(limits or Limits()).file_bytes,
        state_session_capacity=SESSIONS,
        footer_links=["api"],
        theme=make_theme(gr),
        **options,
    )


def refuse_unknown(request: Any, error: Exception) -> Any:
    """Answer a request with an argument that `/recognize` does not have, where Gradio has a plain status 500."""
    from fastapi.responses import JSONResponse

    found = re.match(r"Parameter `(.*)` is not a valid key-word argument", str(error), re.DOTALL)
    if found is None or not request.url.path.rstrip("/").endswith("/recognize"):
        raise error
    name = found[1] if len(found[1]) < 50 else f"{found[1][:50]}..."
    message = f"`{name}` is no argument of /recognize; expected {', '.join(ARGUMENTS)}. Correct its name."
    return JSONResponse({"error": message}, status_code=422)


def make_theme(gr: Any) -> Any:
    """Return Gradio's theme with fonts that are not fetched, and with greys and a button of more contrast."""
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    grey = dict.fromkeys(
        ("body_text_color_subdued", "block_label_text_color", "block_title_text_color", "input_placeholder_color"),
        "*neutral_600",
    )
    dark = {f"{name}_dark": "*neutral_300" for name in grey}
    return theme.set(**grey, **dark, button_primary_background_fill="*primary_700")

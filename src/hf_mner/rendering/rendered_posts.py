"""`hf_mner.render`: posts with what was found in them, as HTML for a file, a page or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from reprlib import repr as short_repr
from string import Template
from typing import TYPE_CHECKING, Any

from hf_mner.data.images import load_rgb_image

from .boxed_image import boxed_image
from .elements import definition_list, escape
from .knowledge_words import describe_shown
from .marked_characters import mark_characters
from .numbered_entities import NumberedEntity, number_entities

if TYPE_CHECKING:
    from PIL import Image

FOLDER = files("hf_mner.rendering")
TITLE = "Named entities"


def render(
    entities: Sequence[Any],
    text: str | Sequence[str],
    image: Any = None,
    *,
    page: bool = False,
    jupyter: bool | None = None,
    colors: Mapping[str, str] | None = None,
    types: Sequence[str] | None = None,
    title: str = TITLE,
) -> str | None:
    """Show what was found in a post, or in many: its text with marks, its image with boxes, and the knowledge used.

    The numbers and colours of the boxes are those of the marks. All that comes from outside is escaped.

    Args:
        entities: of one post as `pipeline("multimodal-ner")` returns them, or a list of such lists. Only
            `entity_group`, `start` and `end` are needed; `score`, `boxes` and `knowledge` are shown where they are.
        text: the text that the offsets count in, or as many texts.
        image: its image (whatever the pipeline takes, addresses excepted), or as many images; None = no image.
        page: return a whole page and not a piece of one.
        jupyter: True shows the result in a notebook and returns None, False never does; None finds out.
        colors: colours of types, `{"PER": "#56b4e9"}`; the others keep theirs.
        types: show the entities of these types alone; None = all.
        title: of the page.

    Returns:
        HTML that needs no other file, no network and no script; None where a notebook has shown it.

    Raises:
        FileNotFoundError: if there is no such image.
        ValueError: if an argument is of another kind, numbers of posts differ, or an entity leaves its text or image.
    """
    if isinstance(types, str):
        raise ValueError(f"`types` is {types!r}; expected a list of types, for example `types=[{types!r}]`.")
    posts = pair_posts(entities, text, image)
    bodies = [render_post(found, one, open_image(picture), colors, types) for found, one, picture in posts]
    style = (FOLDER / "style.html").read_text(encoding="utf-8")
    html = f'{style}<div class="hf-mner">\n' + "\n".join(bodies) + "\n</div>"
    if page:
        template = (FOLDER / "page.html").read_text(encoding="utf-8")
        html = Template(template).substitute(title=escape(title), body=html)
    if jupyter or (jupyter is None and is_in_notebook()):
        show_in_notebook(html)
        return None
    return html


def pair_posts(entities: Sequence[Any], text: str | Sequence[str], image: Any) -> list[tuple[Any, str, Any]]:
    """Return entities, text and image of each post.

    Raises:
        ValueError: if one is of another kind, the numbers of them differ, or entities of several posts are given for
            one text.
    """
    check_kinds(entities, text)
    if isinstance(text, str):
        if any(isinstance(entity, list | tuple) for entity in entities):
            raise ValueError("`entities` holds lists, and `text` is one text; pass the list of this text's entities.")
        return [(entities, text, image)]
    images = list(image) if isinstance(image, list | tuple) else [image] * len(text)
    if image is not None and not isinstance(image, list | tuple):
        raise ValueError(f"`image` is one image for {len(text)} texts; pass as many, with `None` for no image.")
    if not len(entities) == len(text) == len(images):
        raise ValueError(
            f"Got {len(entities)} lists of entities, {len(text)} texts and {len(images)} images; pass as many of each."
        )
    return list(zip(entities, text, images, strict=True))


def check_kinds(entities: Any, text: Any) -> None:
    """Refuse entities that are no list, and a text that is neither one nor a list of them.

    Raises:
        ValueError: naming the argument.
    """
    if not is_list(entities):
        raise ValueError(
            f"`entities` is {short_repr(entities)}; expected a list as `pipeline('multimodal-ner')` returns it. Pass"
            " `[]` for none."
        )
    if isinstance(text, str):
        return
    if not is_list(text) or not all(isinstance(one, str) for one in text):
        raise ValueError(
            f"`text` is {short_repr(text)}; expected the text that the entities were found in, or a list of texts."
            " Pass what the pipeline was given."
        )
    for place, own in enumerate(entities):
        if not is_list(own):
            raise ValueError(
                f"`entities` of text number {place} (counted from 0) is {short_repr(own)}; expected a list. Pass `[]`"
                " for none."
            )


def is_list(value: Any) -> bool:
    """Tell whether this is a list, a tuple, an array or the like."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def open_image(image: Any) -> Image.Image | None:
    """Open a post's image, None without one.

    Raises:
        FileNotFoundError: naming the file that is not there.
        ValueError: if it cannot be read.
    """
    if image is None:
        return None
    try:
        return load_rgb_image(image)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"`image` is '{error.filename or image}', which does not exist; expected an image file. Correct its path,"
            " or pass None for no image."
        ) from error


def render_post(
    entities: Sequence[Mapping[str, Any]],
    text: str,
    image: Image.Image | None,
    colors: Mapping[str, str] | None,
    types: Sequence[str] | None,
) -> str:
    """Return one post as a piece of HTML; see `render`."""
    numbered = number_entities(entities, text, image.size if image else None, colors, types)
    parts = [f'<p class="hf-mner-text" dir="auto">{mark_characters(text, numbered)}</p>']
    if image is not None:
        parts.append(boxed_image(image, numbered))
    if not numbered:
        parts.append('<p class="hf-mner-note">No entities.</p>')
    if panels := [knowledge_html(entity) for entity in numbered if entity.knowledge]:
        parts += ['<p class="hf-mner-note">Knowledge that each decision saw:</p>', *panels]
    return '<div class="hf-mner-post">\n' + "\n".join(parts) + "\n</div>"


def knowledge_html(entity: NumberedEntity) -> str:
    """Return what an entity's model was shown, folded away below the entity's name."""
    name = escape(f"{entity.number} {entity.type} {entity.words}")
    shown = definition_list(describe_shown(entity.knowledge))
    return f'<details class="hf-mner-knowledge"><summary>{name}</summary>{shown}</details>'


def is_in_notebook() -> bool:
    """Tell whether this runs in a kernel of Jupyter; IPython in a terminal is none."""
    if sys.modules.get("IPython") is None:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and shell.has_trait("kernel")


def show_in_notebook(html: str) -> None:
    """Show HTML below the cell that runs.

    Raises:
        ImportError: without IPython.
    """
    try:
        from IPython.display import HTML, display
    except ImportError as error:
        raise ImportError(
            "`jupyter=True` shows the result in a notebook, which needs IPython: pip install ipython. Without it use"
            " `jupyter=False`, which returns the HTML."
        ) from error
    display(HTML(html))

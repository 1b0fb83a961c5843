"""`python -m hf_mner.demo`: read a few posts, one of them with a photograph, with the embedded model."""

from __future__ import annotations

from hf_mner.cli.options import open_pipeline
from hf_mner.cli.predict import print_table

from .posts import demo_posts


def main() -> None:
    """Print the entities of the demo's posts, and what the model was shown beside the text."""
    posts = demo_posts()
    pipe = open_pipeline(None)
    for post, entities in zip(posts, pipe(posts, batch_size=len(posts), return_knowledge=True), strict=True):
        print_table(post, entities)


if __name__ == "__main__":
    main()

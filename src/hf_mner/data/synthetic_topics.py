"""Topics of planted posts: words that say, only if compared with the picture, whether it belongs to the post."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .synthetic_random import StableRandom
from .synthetic_shapes import DISTRACTORS
from .synthetic_texts import Post

TOPIC_MARK = "#"


def pick_topic(random: StableRandom, kinds: Sequence[str], drawn: Collection[str], is_relevant: bool) -> str:
    """Return a kind of shape that the picture shows, or, of an irrelevant picture, one that it does not show.

    Args:
        random: decides between the kinds.
        kinds: of shapes that can be a topic; some are drawn and some are not.
        drawn: the shapes of the picture.
        is_relevant: whether the picture belongs to the post.
    """
    return random.pick([kind for kind in kinds if (kind in drawn) == is_relevant])


def add_topic(post: Post, topic: str) -> Post:
    """Return the post with its topic as the last two words: `# hexagon`."""
    return post._replace(tokens=[*post.tokens, TOPIC_MARK, topic])


def read_topic(tokens: Sequence[str]) -> str | None:
    """Return the topic that `add_topic` wrote, `None` where there is none."""
    *_, mark, topic = ("", "", *tokens)
    return topic if mark == TOPIC_MARK and topic in DISTRACTORS else None

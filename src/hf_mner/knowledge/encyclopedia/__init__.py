"""An encyclopedia on disk: built from dumps or records, opened at once, asked for many mentions at a time."""

from .articles import Article, read_articles
from .build import Progress, build_index
from .index import EncyclopediaIndex
from .indexed_articles import IndexSettings
from .names import normalise_title, split_hashtag
from .readings import RULES, EncyclopediaMatch
from .source import MINOR_SOURCES, Encyclopedia, default_cache_dir

__all__ = [
    "MINOR_SOURCES",
    "RULES",
    "Article",
    "Encyclopedia",
    "EncyclopediaIndex",
    "EncyclopediaMatch",
    "IndexSettings",
    "Progress",
    "build_index",
    "default_cache_dir",
    "normalise_title",
    "read_articles",
    "split_hashtag",
]

"""Posts with their entities in the formats of other programs: Label Studio, spaCy, CoNLL, COCO and JSON lines.

Whatever the format, a post is an `AnnotatedPost`: its text, its image, and its entities in characters, as the pipeline
gives them. `from_example` and `to_example` lead to the package's own examples and back.
"""

from .coco import make_coco, read_coco, write_coco
from .conll import read_conll_folder, write_conll_folder
from .jsonl import read_jsonl, write_jsonl
from .label_studio import make_config, make_task, write_label_studio
from .label_studio_reading import read_label_studio, read_tasks
from .posts import AnnotatedPost, from_example, to_example
from .spacy_docs import from_doc, read_docs, to_doc, write_docs

__all__ = [
    "AnnotatedPost",
    "from_doc",
    "from_example",
    "make_coco",
    "make_config",
    "make_task",
    "read_coco",
    "read_conll_folder",
    "read_docs",
    "read_jsonl",
    "read_label_studio",
    "read_tasks",
    "to_doc",
    "to_example",
    "write_coco",
    "write_conll_folder",
    "write_docs",
    "write_jsonl",
    "write_label_studio",
]

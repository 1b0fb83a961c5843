"""A store of knowledge on disk: what a source once said of an example is never computed again.

    with KnowledgeStore("knowledge.sqlite") as store:
        captions = Stored(ImageCaptioner("Salesforce/blip2-opt-2.7b"), store)
        examples = add_knowledge(examples, [captions])

One SQLite file. An item's key is a digest of the content that the source read and of everything that decides its
answer (see `keys`), so ids, file names and the order of a data set do not matter. `Stored` fills it. Several processes
may use a file at the same time if they run on one machine. Machines that share a network disk each fill a store of
their own, because SQLite's write-ahead log needs shared memory; `KnowledgeStore.merge` joins them.
"""

from .building import fill_store
from .exports import export_rows, find_source
from .imports import Imported, import_column, import_rows
from .keys import example_keys
from .knowledge_store import KnowledgeStore, StoredItems
from .records import SourceRecord, describe_source, make_record
from .row_files import read_rows, write_rows
from .stored import Progress, Stored

__all__ = [
    "Imported",
    "KnowledgeStore",
    "Progress",
    "SourceRecord",
    "Stored",
    "StoredItems",
    "describe_source",
    "example_keys",
    "export_rows",
    "fill_store",
    "find_source",
    "import_column",
    "import_rows",
    "make_record",
    "read_rows",
    "write_rows",
]

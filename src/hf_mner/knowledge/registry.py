"""Knowledge sources by name: how recipes, the command line and files of sources list them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from hf_mner.data.readers import DATA_VARIABLE

from .base import KnowledgeSource

if TYPE_CHECKING:
    from .store import KnowledgeStore

NOT_SETTINGS = ("processor", "tokenizer", "cache_dir", "progress")  # objects, which no file can hold


class SourceEntry(NamedTuple):
    """How a source is made.

    Attributes:
        place: module and class.
        main: the setting that a plain value gives: `captions: Salesforce/blip2-opt-2.7b`.
        factory: the class method that makes it; `""` = the class itself.
        has_files: the main setting names files, relative to the data folder.
        is_stored: its answers are worth keeping in a store; look-ups in local files are not.
    """

    place: str
    main: str
    factory: str = ""
    has_files: bool = False
    is_stored: bool = True


SOURCES: dict[str, SourceEntry] = {
    "encyclopedia": SourceEntry("encyclopedia:Encyclopedia", "files", "from_files", has_files=True, is_stored=False),
    "captions": SourceEntry("captions:ImageCaptioner", "model"),
    "auxiliary": SourceEntry("auxiliary:AuxiliaryKnowledge", "model"),
    "rationales": SourceEntry("rationales:LlmRationales", "model"),
    "endpoint_auxiliary": SourceEntry("endpoint_auxiliary:EndpointAuxiliary", "model"),
    "ocr": SourceEntry("ocr:OcrText", "min_score"),
    "objects": SourceEntry("objects:ObjectDetector", "model"),
    "onnx_objects": SourceEntry("onnx_detectors:OnnxDetector", "path", has_files=True),
    "vinvl_objects": SourceEntry("vinvl:VinvlObjects", "path", has_files=True, is_stored=False),
    "segments": SourceEntry("segments:SegmentationObjects", "model"),
    "image_labels": SourceEntry("classification:ImageClassifier", "model"),
    "region_captions": SourceEntry("regions:RegionCaptioner", "model"),
    "region_similarity": SourceEntry("regions:RegionSimilarity", "model"),
    "clip_similarity": SourceEntry("similarity:ClipSimilarity", "model"),
    "caption_similarity": SourceEntry("similarity:CaptionSimilarity", "model"),
}


def open_sources(
    specs: Iterable[Any], data_dir: str | Path | None = None, store: KnowledgeStore | None = None
) -> list[KnowledgeSource]:
    """Make the sources that a list names, in its order; models are loaded when they are needed.

    Example:
        `open_sources(["ocr", {"captions": "Salesforce/blip2-opt-2.7b"}, {"encyclopedia": {"files": "wiki.jsonl"}}])`

    Args:
        specs: each a name of `SOURCES`; a mapping from the name to its main setting; or to a mapping of settings, the
            arguments of its class.
        data_dir: where files are looked for that are named relatively, see `load_mner_dataset`.
        store: keeps what the sources find, see `Stored`.

    Raises:
        ValueError: for a name or a setting that nothing reads.
        FileNotFoundError: if a file is missing.
    """
    from .store import Stored

    sources: list[KnowledgeSource] = []
    for name, settings in parse_specs(specs):
        entry = SOURCES[name]
        if entry.has_files and entry.main in settings:
            settings = {**settings, entry.main: resolve(settings[entry.main], data_dir)}
        source = maker(entry)(**settings)
        sources.append(Stored(source, store) if store is not None and entry.is_stored else source)
    return sources


def parse_specs(specs: Iterable[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and settings of a list of sources, checked, without making any.

    Raises:
        ValueError: see `open_sources`.
    """
    if isinstance(specs, str | Mapping) or not isinstance(specs, Iterable):
        raise ValueError(f"`sources` is {specs!r}; expected a list, such as ['ocr', {{'captions': 'MODEL'}}].")
    return [parse_spec(spec) for spec in specs]


def parse_spec(spec: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the settings of one source.

    Raises:
        ValueError: see `open_sources`.
    """
    if isinstance(spec, str) and ":" in spec:
        spec = parse_yaml(spec, repr(spec), "a name, or 'captions: MODEL' as on the command line")
    name, given = next(iter(spec.items())) if isinstance(spec, Mapping) and len(spec) == 1 else (spec, None)
    if not isinstance(name, str) or name not in SOURCES:
        meant = get_close_matches(str(name), SOURCES, n=1)
        hint = f" Did you mean {meant[0]!r}?" if meant else ""
        raise ValueError(f"{spec!r} names no knowledge source; choose of {', '.join(SOURCES)}.{hint}")
    entry = SOURCES[name]
    settings = dict(given) if isinstance(given, Mapping) else {} if given is None else {entry.main: given}
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(maker(entry)).parameters.items()
        if key not in NOT_SETTINGS
    }
    if unknown := sorted(set(settings) - set(parameters)):
        raise ValueError(f"Source {name!r} has no setting {unknown[0]!r}; it has {', '.join(parameters)}.")
    needed = [key for key, parameter in parameters.items() if parameter.default is inspect.Parameter.empty]
    if missing := [key for key in needed if key not in settings]:
        raise ValueError(f"Source {name!r} needs `{missing[0]}`: {{{name}: {{{missing[0]}: ...}}}}.")
    return name, settings


def read_specs(names: Sequence[str] = (), file: str | Path | None = None) -> list[Any]:
    """Return the sources of a command: those of the file first, then those of its options.

    Args:
        names: each a name, or `name: value`, or `{name: {setting: value}}`, as in YAML.
        file: YAML with a list of sources, or with such a list under `sources`, as recipes have it.

    Raises:
        ValueError: if one is not YAML, the file holds no such list, or a name or setting is unknown.
    """
    specs: Any = []
    if file is not None:
        wanted = "a list of sources, such as '- captions: MODEL', or a recipe with `sources`"
        content = parse_yaml(Path(file).read_bytes(), f"`--sources {file}`", wanted)
        specs = content.get("sources") if isinstance(content, Mapping) else content
        if not isinstance(specs, list):
            raise ValueError(f"{file} holds no list of sources; give a list, or a mapping with the key `sources`.")
    wanted = "a name such as 'ocr', 'captions: MODEL' or '{captions: {model: MODEL}}'"
    specs = [*specs, *(parse_yaml(name, f"`--source {name}`", wanted) for name in names)]
    parse_specs(specs)
    return specs


def parse_yaml(text: str | bytes, given: str, wanted: str) -> Any:
    """Return what a text says in YAML.

    Args:
        text: the text, or the bytes of a file.
        given: how it is called in the error's text.
        wanted: what was expected.

    Raises:
        ValueError: if it is not YAML.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{given} is not YAML ({' '.join(str(error).split())}); expected {wanted}.") from error


def read_images(specs: Sequence[Any]) -> bool:
    """Tell whether one of the named sources opens images."""
    return any("image" in getattr(source_class(SOURCES[name]), "reads", ()) for name, _ in parse_specs(specs))


def describe_spec(spec: Any) -> str:
    """Return how cards and results call a source: its name, and its file or model where one is named."""
    name, settings = parse_spec(spec)
    main = settings.get(SOURCES[name].main)
    if main is None:
        return name
    files = [main] if isinstance(main, str) else list(main) if isinstance(main, Sequence) else [str(main)]
    return f"{name} ({', '.join(Path(file).name if SOURCES[name].has_files else str(file) for file in files)})"


def source_class(entry: SourceEntry) -> Any:
    """Import the class of a source."""
    module, _, name = entry.place.partition(":")
    return getattr(import_module(f"hf_mner.knowledge.{module}"), name)


def maker(entry: SourceEntry) -> Callable[..., KnowledgeSource]:
    """Return what makes a source: its class, or a class method."""
    found = source_class(entry)
    return getattr(found, entry.factory) if entry.factory else found


def resolve(files: Any, data_dir: str | Path | None) -> Any:
    """Return files as they are where they exist, else from the data folder.

    Raises:
        FileNotFoundError: if they are in neither.
    """
    if not isinstance(files, str | Path | list | tuple):
        raise ValueError(f"{files!r} is no file; give a path, or a list of paths.")
    if not isinstance(files, str | Path):
        return [resolve(file, data_dir) for file in files]
    if Path(files).exists() or Path(f"{files}.building").exists():
        return files
    folder = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE)
    path = Path(folder or "") / files
    if not folder or not path.exists():
        there = f"nor as '{path}'" if folder else f"and no data folder is given (`--data-dir`, {DATA_VARIABLE})"
        raise FileNotFoundError(f"{str(files)!r} does not exist here {there}; correct the path.")
    return path

"""Objects that VinVL or another bottom-up detector found before, read from `.npz` files or one `.tsv` file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_mner.data.schema import MnerExample, ObjectKnowledge
from hf_mner.knowledge.base import SourceIdentity
from hf_mner.knowledge.detections import as_objects
from hf_mner.knowledge.model_identity import DIGITS
from hf_mner.knowledge.model_source import check_positive
from hf_mner.knowledge.source_pickles import PickledUnopened
from hf_mner.knowledge.vinvl_files import index_npz, index_tsv, read_tsv_row, read_vinvl

if TYPE_CHECKING:
    from hf_mner.knowledge.vinvl_files import TsvPlace, VinvlDetections

logger = logging.getLogger(__name__)

Labels = Literal["objects", "attributes"]


class VinvlObjects(PickledUnopened):
    """A knowledge source: the objects that a detector found before, looked up by the example's `id`.

    A file's boxes are in pixels of the image that the detector saw. They are scaled to the example's `image_size`
    where that is known and of another size. An id without detections gives None; they are counted in one warning.

    As its values depend on the example's id, and looking them up is cheap, a store does not take it.

    Args:
        path: a folder of files `<id>.npz` or `<id>.jpg.npz`, see `read_vinvl`; or a `.tsv` file, see `read_tsv_row`.
        labels: `"objects"`: the class alone ("microphone"); `"attributes"`: the attribute before it ("black
            microphone").
        max_objects: how many are kept of an image, best first; 18 is the most that SCANNER reads (Table 10).
        features: also give each object its `feature`, the detector's vector (VinVL: 2048 numbers), as HamLearning
            reads it. They stay in memory, some 64 kB an object.

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if `path` holds no detections, `labels` is not known, or `max_objects` is below 1.

    Source: Zhang et al. 2021, VinVL (https://arxiv.org/abs/2101.00529), the detector of SCANNER and ITA; Anderson et
        al. 2018, bottom-up attention (https://arxiv.org/abs/1707.07998), for the `.tsv` format.
    """

    column = "objects"
    reads = ("id",)
    needs_entities = False
    before_use: ClassVar[Mapping[str, Any]] = {"_has_warned": False}
    digest = "_digest"

    def __init__(self, path: str | Path, labels: Labels = "objects", max_objects: int = 18, features: bool = False):
        check_positive(max_objects=max_objects)
        if labels not in ("objects", "attributes"):
            raise ValueError(f"`labels={labels!r}` is not known; choose one of objects, attributes.")
        self.path, self.labels, self.max_objects, self.features = Path(path), labels, max_objects, features
        self._places: dict[str, Path | TsvPlace] = index_detections(self.path)
        self._has_warned = False

    @property
    def identity(self) -> SourceIdentity:
        """Say what decides the answers; names and sizes of the files stand for their contents."""
        settings = {"labels": self.labels, "max_objects": self.max_objects, "features": self.features}
        return {
            "source": type(self).__name__,
            "model": self.path.resolve().name,
            "revision": self._digest,
            "prompt": "",
            "settings": json.dumps(settings, sort_keys=True),
        }

    @cached_property
    def _digest(self) -> str:
        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.npz"))
        listing = "\n".join(f"{file.name} {file.stat().st_size}" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()[:DIGITS]

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[ObjectKnowledge] | None]:
        """Return the objects of each example, `[]` where nothing was found, None where nothing was looked for.

        Raises:
            ValueError: see `read_objects`.
        """
        self._warn_once([str(example.get("id")) for example in examples])
        return [self._objects(example) for example in examples]

    def _objects(self, example: MnerExample) -> list[ObjectKnowledge] | None:
        place = self._places.get(str(example.get("id")))
        if place is None:
            return None
        return read_objects(place, example.get("image_size"), self.labels, self.max_objects, self.features)

    def _warn_once(self, ids: list[str]) -> None:
        missing = [name for name in ids if name not in self._places]
        if missing and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%d of %d examples have no detections in %s, e.g. %r; their objects stay None. Files are named by the"
                " example's `id`.",
                len(missing),
                len(ids),
                self.path,
                missing[0],
            )


def read_objects(
    place: Path | TsvPlace,
    image_size: Sequence[int] | None,
    labels: Labels = "objects",
    max_objects: int = 18,
    features: bool = False,
) -> list[ObjectKnowledge]:
    """Read the objects of one image, best first.

    Args:
        place: an `.npz` file, or a row of a `.tsv` file.
        image_size: `(width, height)` in pixels to which boxes are scaled; None leaves them in pixels of the image that
            the detector saw.
        labels: as of `VinvlObjects`.
        max_objects: how many are kept.
        features: as of `VinvlObjects`.

    Raises:
        ValueError: if the file is not in the format, see `read_vinvl`, or has no features where they are wanted.
    """
    found = read_vinvl(place, features) if isinstance(place, Path) else read_tsv_row(place, features)
    if features:
        check_features(found, place)
    boxes, size = found.boxes, found.image_size
    if image_size is not None:
        width, height = image_size
        boxes, size = boxes * ([width / size[0], height / size[1]] * 2), (width, height)
    names = found.labels if labels == "objects" else found.attribute_labels
    return as_objects(boxes, found.scores, names, size, max_objects, found.features)


def check_features(found: VinvlDetections, place: Path | TsvPlace) -> None:
    """Refuse objects without features.

    Raises:
        ValueError: naming the file, and what to do.
    """
    if found.features is None and len(found.boxes):
        where = place if isinstance(place, Path) else f"{place.path}, byte {place.offset},"
        raise ValueError(
            f"{where} holds no features of its {len(found.boxes)} objects; `features=True` expects `box_features` in"
            " an .npz file, `feature` of every object in a .tsv file. Write it with them, or leave `features` out."
        )


def index_detections(path: Path) -> dict[str, Path | TsvPlace]:
    """Map the id of each image to where its detections are.

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if it holds no detections.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"`path={str(path)!r}` does not exist; give a folder of `.npz` files or a `.tsv` file."
        )
    places: dict[str, Path | TsvPlace] = {**(index_npz(path) if path.is_dir() else index_tsv(path))}
    if not places:
        raise ValueError(
            f"`path={str(path)!r}` holds no detections; expected files `<id>.jpg.npz`, or rows of a `.tsv` file. Give"
            " the folder that holds them directly."
        )
    return places

"""Objects in images by detectors in ONNX files (YOLOX), with onnxruntime alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_mner.data.schema import MnerExample, ObjectKnowledge
from hf_mner.knowledge.base import SourceIdentity, SourceSetupError
from hf_mner.knowledge.coco_classes import COCO_CLASSES
from hf_mner.knowledge.detections import as_objects, copied, suppress_doubles
from hf_mner.knowledge.image_text_models import once_per_image
from hf_mner.knowledge.model_identity import file_digest
from hf_mner.knowledge.model_source import check_fraction, check_installed, check_positive
from hf_mner.knowledge.source_pickles import PickledUnopened
from hf_mner.knowledge.yolox import decode_yolox, letterbox

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
DECODERS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]] = {"yolox": decode_yolox}


class OnnxDetector(PickledUnopened):
    """A knowledge source: what a detector in an ONNX file sees in each example's image, and where.

    Boxes are in pixels of the upright image. The file is opened at the first image; images go through it one by one,
    since exported detectors have a fixed batch. Images with the same pixels are looked at once in a call. It computes
    on the CPU with as many threads as torch has, and they sleep when they wait.

    Args:
        path: an ONNX file with one image as input, `1 3 h w` (`h` and `w` fixed).
        label_names: the classes in the order of the outputs; None = those in the file's metadata under `names`, else
            the 80 of COCO.
        format: how the outputs are read. `"yolox"`: `1 r 5+c` as exported by YOLOX's `export_onnx.py`, the boxes not
            yet decoded.
        threshold: detections with a score of at most this are left out.
        iou_threshold: of two boxes of a class that overlap more, the better one is kept.
        max_objects: how many are kept of an image, best first; 18 is the most that SCANNER reads (Table 10).

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: without onnxruntime; `pip install hf-mner[onnx]`.
        ValueError: if `format` is not known, `max_objects` is below 1, or a threshold is not in [0, 1].

    Source: Ge et al. 2021, YOLOX (https://arxiv.org/abs/2107.08430), and its released ONNX demo.
    """

    column = "objects"
    needs_entities = False
    reads = ("image",)
    before_use: ClassVar[Mapping[str, Any]] = {"_session": None, "_input_size": None}
    digest = "_file_digest"

    def __init__(
        self,
        path: str | Path,
        label_names: Sequence[str] | None = None,
        format: Literal["yolox"] = "yolox",
        threshold: float = 0.3,
        iou_threshold: float = 0.5,
        max_objects: int = 18,
    ):
        check_positive(max_objects=max_objects)
        check_fraction(threshold=threshold, iou_threshold=iou_threshold)
        if format not in DECODERS:
            raise ValueError(f"`format={format!r}` is not known; choose one of {', '.join(DECODERS)}.")
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"`path={str(path)!r}` is not a file; give an ONNX file such as `yolox_nano.onnx`."
            )
        check_installed("`OnnxDetector`", "onnx", ["onnxruntime"])
        self.path, self.format = Path(path), format
        self.label_names = None if label_names is None else tuple(label_names)
        self.threshold, self.iou_threshold, self.max_objects = threshold, iou_threshold, max_objects
        self._session: Any = None
        self._input_size: Any = None  # width, height

    @property
    def identity(self) -> SourceIdentity:
        """Say what decides the answers; the file is read as bytes for it, not opened as a model."""
        names = None if self.label_names is None else hashlib.sha256("\n".join(self.label_names).encode()).hexdigest()
        settings = {
            "format": self.format,
            "threshold": self.threshold,
            "iou_threshold": self.iou_threshold,
            "max_objects": self.max_objects,
            "label_names": names,
        }
        return {
            "source": type(self).__name__,
            "model": self.path.name,
            "revision": self._file_digest,
            "prompt": "",
            "settings": json.dumps(settings, sort_keys=True),
        }

    @cached_property
    def _file_digest(self) -> str:
        return file_digest(self.path)

    def __call__(self, examples: Sequence[MnerExample]) -> list[list[ObjectKnowledge] | None]:
        """Return the objects of each example's image, `[]` where nothing is seen, None without an image.

        Raises:
            ValueError: if an image is of another type or cannot be decoded, see `rgb_image`, or the file's inputs or
                outputs are not those of `format`.
        """
        found = once_per_image(examples, 1, lambda images: [self._detect(image) for image in images])
        return [copied(objects) for objects in found]

    def _detect(self, image: Image.Image) -> list[ObjectKnowledge]:
        self._load()
        pixels, scale = letterbox(image, self._input_size)
        (output,) = self._session.run(None, {self._session.get_inputs()[0].name: pixels})[:1]
        boxes, scores, classes = DECODERS[self.format](output[0], self._input_size)
        names = self._names(output.shape[-1] - 5)
        candidates = scores > self.threshold
        boxes, scores, classes = boxes[candidates] / scale, scores[candidates], classes[candidates]
        kept = suppress_doubles(boxes, scores, classes, self.iou_threshold)
        labels = [names[index] for index in classes[kept].tolist()]
        return as_objects(boxes[kept], scores[kept], labels, image.size, self.max_objects)

    def _names(self, num_classes: int) -> Sequence[str]:
        names = self.label_names or metadata_names(self._session.get_modelmeta().custom_metadata_map) or COCO_CLASSES
        if len(names) != num_classes:
            raise SourceSetupError(
                f"The detector {self.path.name} has {num_classes} classes, and {len(names)} names are known; give"
                " `label_names=[...]`, in the order of its outputs."
            )
        return names

    def _load(self) -> None:
        if self._session is None:
            session = open_session(self.path)
            shape = session.get_inputs()[0].shape
            if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) for side in shape[2:]):
                raise SourceSetupError(
                    f"The input of {self.path.name} is {shape}; expected 1 x 3 x height x width, the last two fixed"
                    " numbers. Export the detector again, without dynamic axes."
                )
            self._session, self._input_size = session, (shape[3], shape[2])


def open_session(path: Path) -> Any:
    """Open an ONNX file on the CPU, with as many threads as torch has; they sleep when they wait.

    Raises:
        SourceSetupError: if the file holds no model, or one that this onnxruntime cannot run.
    """
    import onnxruntime
    import torch
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    unusable = (
        *(errors.InvalidProtobuf, errors.InvalidArgument, errors.InvalidGraph),
        *(errors.NotImplemented, errors.Fail, errors.RuntimeException),
    )
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except unusable as error:
        said = str(error).splitlines()[0][:300]
        raise SourceSetupError(
            f"`path={str(path)!r}` ({path.stat().st_size:,} bytes) cannot be opened as an ONNX model: {said} Expected"
            " a detector that was exported to ONNX, such as `yolox_nano.onnx`; fetch or export the file again."
        ) from error


def metadata_names(metadata: dict[str, str]) -> list[str] | None:
    """Return the classes that an ONNX file's metadata lists under `names` as JSON (a list), None without."""
    return json.loads(metadata["names"]) if "names" in metadata else None

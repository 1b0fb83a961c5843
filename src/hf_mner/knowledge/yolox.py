"""What goes into a YOLOX detector, and what its outputs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

STRIDES = (8, 16, 32)  # pixels between the cells of the three grids
GREY = 114  # of the parts of the input that the image does not cover


def letterbox(image: Image.Image, input_size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Return an image as YOLOX reads it: shrunk or enlarged into the upper left corner, the rest grey.

    Args:
        image: RGB.
        input_size: `(width, height)` in pixels.

    Returns:
        pixels: `1 3 h w`, float32 in [0, 255], blue, green, red.
        scale: pixels of the input for one of the image.
    """
    import numpy as np
    from PIL import Image

    scale = min(input_size[0] / image.width, input_size[1] / image.height)
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    canvas = np.full((input_size[1], input_size[0], 3), GREY, dtype=np.float32)  # h w 3
    canvas[: size[1], : size[0]] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))[:, :, ::-1]
    return canvas.transpose(2, 0, 1)[None], scale


def decode_yolox(output: np.ndarray, input_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes, scores and classes that YOLOX's outputs stand for.

    Args:
        output: `r 5+c`: the centre and the logarithmic size in units of the cell's stride, how sure it is of an
            object, and of each class. The cells are those of the grids with stride 8, 16 and 32, row by row.
        input_size: `(width, height)` in pixels.

    Returns:
        boxes: `r 4`, `[xmin, ymin, xmax, ymax]` in pixels of the input.
        scores: `r`, of the object times that of its best class.
        classes: `r`, indices of the best classes.

    Raises:
        ValueError: if `r` is not the number of cells.
    """
    import numpy as np

    cells, strides = [], []
    for stride in STRIDES:
        columns, rows = np.meshgrid(np.arange(input_size[0] // stride), np.arange(input_size[1] // stride))
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))  # g 2
        strides.append(np.full((columns.size, 1), stride))
    grid, pixels = np.concatenate(cells), np.concatenate(strides)  # r 2, r 1
    if output.ndim != 2 or len(output) != len(grid) or output.shape[1] < 6:
        raise ValueError(
            f"The detector's output is {tuple(output.shape)}; `format='yolox'` expects {len(grid)} x (5 + classes) for"
            f" an input of {input_size[0]} x {input_size[1]}. Export with YOLOX's `export_onnx.py`, without"
            " `--decode_in_inference`."
        )
    centres, halves = (output[:, :2] + grid) * pixels, np.exp(output[:, 2:4]) * pixels / 2
    scores = output[:, 4:5] * output[:, 5:]  # r c
    return np.concatenate([centres - halves, centres + halves], axis=1), scores.max(axis=1), scores.argmax(axis=1)

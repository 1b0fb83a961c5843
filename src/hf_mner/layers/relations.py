"""The spatial relation graph of an image and its objects: which pairs have an edge, and with what label."""

from __future__ import annotations

import torch
from torch import Tensor

RELATIONS = ("none", "inside", "cover", "overlap", *(f"class{number}" for number in range(1, 9)))  # 0 = no edge
NONE, INSIDE, COVER, OVERLAP, CLASS1 = range(5)
MIN_OVERLAP = 0.5  # an IoU above it is "overlap"


def relation_graph(boxes: Tensor, mask: Tensor, image_size: Tensor) -> Tensor:
    """Label the edges between the nodes of each image: the image itself (a super-node) and its objects.

    The first rule that holds labels the edge from object i to object j:

    1. "inside": i includes j completely; edges of the two boxes may coincide. Of identical boxes each includes the
       other, so that both edges are "inside".
    2. "cover": i is included by j.
    3. "overlap": their IoU is above 0.5.
    4. "class1" to "class8": their centres are closer than half the image's diagonal. With the angle from the positive
       x axis to the vector from i's centre to j's, "class c" is [45 (c - 1), 45 c) degrees. As y points down, the
       classes run clockwise on the screen. Equal centres have the angle 0, hence "class1".
    5. No edge, also at exactly half the diagonal.

    The image includes all objects, wherever their boxes are: it is "inside" to them, and they are "cover" to it.

    Args:
        boxes: `k n 4`, the n objects of each of k images: corners (xmin, ymin, xmax, ymax) in pixels. Numbers of any
            type are computed with in float32.
        mask: `k n`, 1 for a real object, 0 for padding, whose boxes may be any numbers.
        image_size: `k 2`, width and height in pixels.

    Returns:
        `k (n+1) (n+1)`, long: entry [i, j] is the label of the edge from node i to node j, an index into `RELATIONS`.
        Node 0 is the image, node 1 + m is object m. Padding and the diagonal have no edge (0).

    Source: HamLearning, section 3.1.2 ("Spatial Encoding") and appendix A.1; the eleven relations are those of Yao et
        al. 2018 (https://arxiv.org/abs/1809.07041). The paper leaves open identical boxes, equal centres, the
        direction of y, the ends of the classes, and the distance that is exactly half.
    """
    boxes, size, is_real = boxes.float(), image_size.float(), mask.bool()
    batch, count = is_real.shape
    includes = find_inclusions(boxes)  # k n n
    centres = boxes[..., :2] + boxes[..., 2:]  # k n 2, doubled: sums of whole pixels are exact
    shifts = centres.unsqueeze(1) - centres.unsqueeze(2)  # k n n 2, doubled, from i to j
    is_near = shifts.square().sum(-1) < size.square().sum(-1)[:, None, None]  # twice the distance below the diagonal

    labels = torch.where(is_near, CLASS1 + find_octants(shifts), NONE)  # k n n; the last rule first
    labels = labels.masked_fill(pairwise_iou(boxes) > MIN_OVERLAP, OVERLAP)
    labels = labels.masked_fill(includes.transpose(1, 2), COVER).masked_fill(includes, INSIDE)
    itself = torch.eye(count, dtype=torch.bool, device=boxes.device)
    is_pair = is_real.unsqueeze(2) & is_real.unsqueeze(1) & ~itself

    graph = torch.zeros(batch, count + 1, count + 1, dtype=torch.long, device=boxes.device)
    graph[:, 0, 1:], graph[:, 1:, 0] = is_real * INSIDE, is_real * COVER
    graph[:, 1:, 1:] = labels.masked_fill(~is_pair, NONE)
    return graph


def find_inclusions(boxes_xyxy: Tensor) -> Tensor:
    """Tell for all pairs of boxes (`k n 4`) whether box i includes box j, edges included: `k n n`, bool."""
    lower, upper = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    starts_before = (lower.unsqueeze(2) <= lower.unsqueeze(1)).all(-1)  # k n n
    return starts_before & (upper.unsqueeze(2) >= upper.unsqueeze(1)).all(-1)


def pairwise_iou(boxes_xyxy: Tensor) -> Tensor:
    """Return the intersection over union of all pairs of boxes: `hf_mner.metrics.box_iou` on tensors.

    Args:
        boxes_xyxy: `k n 4`, corners, of one unit in x and y.

    Returns:
        `k n n`, in [0, 1]; 0 where both boxes have no area.
    """
    lower, upper = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    first = torch.maximum(lower.unsqueeze(2), lower.unsqueeze(1))  # k n n 2
    last = torch.minimum(upper.unsqueeze(2), upper.unsqueeze(1))
    shared = (last - first).clamp(min=0).prod(-1)  # k n n
    areas = (upper - lower).clamp(min=0).prod(-1)  # k n
    union = areas.unsqueeze(2) + areas.unsqueeze(1) - shared
    return torch.where(union > 0, shared / union.masked_fill(union <= 0, 1), 0)


def find_octants(shifts: Tensor) -> Tensor:
    """Return the eighth of the circle in which each vector points.

    Signs and comparisons decide, as the arc tangent of a multiple of 45 degrees is not exact.

    Args:
        shifts: `... 2`, x and y.

    Returns:
        `...`, long, 0 to 7: octant o is [45 o, 45 (o + 1)) degrees from the positive x axis towards the positive y
        axis; 0 for the zero vector.
    """
    x, y = shifts.unbind(-1)
    has_half_turn = (y < 0) | ((y == 0) & (x < 0))
    x, y = torch.where(has_half_turn, -x, x), torch.where(has_half_turn, -y, y)  # now in [0, 180)
    has_quarter_turn = (x <= 0) & (y > 0)
    x, y = torch.where(has_quarter_turn, y, x), torch.where(has_quarter_turn, -x, y)  # now in [0, 90)
    has_eighth_turn = (y >= x) & (y > 0)
    return 4 * has_half_turn.long() + 2 * has_quarter_turn.long() + has_eighth_turn.long()

"""A graph convolution whose weights depend on the relation between two nodes, with a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from .relations import RELATIONS
from .starts import OwnStart, Projection


class GatedRelationalConvolution(nn.Module, OwnStart):
    """One layer of the modified R-GCN: each node gathers its neighbours, and a gate says how much of that it takes.

    `v_i' = ReLU(sum_j W_r(i,j) v_j + b)`, `v_i <- v_i + sigmoid(W_gcn [v_i'; v_i]) v_i'`, the gate one number for each
    component.

    There is a weight for each relation of the ordered pair (i, j), so label and direction both decide: "inside" from i
    to j is "cover" from j to i, a class seen from j is the opposite class, and "overlap" is the same both ways. Other
    weights for the edges from j to i could express nothing more.

    Args:
        width: of the nodes' states.
        num_relations: number of relations; relation 0 is no edge.

    Source: HamLearning, Eq. 5-7; Schlichtkrull et al. 2018 (R-GCN).
    """

    def __init__(self, width: int, num_relations: int = len(RELATIONS)):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_relations - 1, width, width))
        self.bias = nn.Parameter(torch.empty(width))
        self.gate = Projection(2 * width, width)
        self.draw_weights()

    def draw_weights(self) -> None:
        """Draw each relation's weights as Glorot and Bengio do for a linear layer; the bias is 0."""
        bound = (3 / self.weight.shape[-1]) ** 0.5
        init.uniform_(self.weight, -bound, bound)
        init.zeros_(self.bias)

    def forward(self, nodes: Tensor, relations: Tensor) -> Tensor:
        """Update all nodes.

        Args:
            nodes: `k n d`.
            relations: `k n n`, long; entry [i, j] is the relation from node i to node j, 0 = no edge.

        Returns:
            `k n d`.
        """
        kinds = torch.arange(1, len(self.weight) + 1, device=relations.device)
        edges = (relations.unsqueeze(1) == kinds[:, None, None]).to(nodes.dtype)  # k r n n
        # The neighbours of each relation are added up before they are transformed: fewer products than the other way.
        gathered = edges @ nodes.unsqueeze(1)  # k r n d
        messages = torch.einsum("krnd,rde->kne", gathered, self.weight)
        news = F.relu(messages + self.bias)
        gate = self.gate(torch.cat([news, nodes], dim=-1)).sigmoid()
        return nodes + gate * news

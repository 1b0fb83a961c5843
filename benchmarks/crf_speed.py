"""The CRF of this package against pytorch-crf, in one process.

    python -m benchmarks.crf_speed --output results/crf/speed.json

Times are medians; both arms alternate. The loss is timed with its backward pass to emissions and transitions. Errors
are the largest absolute differences from pytorch-crf in float64, for ours and for pytorch-crf in float32. Needs
`pip install pytorch-crf`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
import torchcrf
from torch import Tensor, nn

from benchmarks.timing import compare, report
from hf_mner.layers.crf import LinearChainCrf

CASES = {
    "length 128": {"length": 128, "num_tags": 9, "has_padding": False},
    "length 128, random lengths": {"length": 128, "num_tags": 9, "has_padding": True},
    "length 32": {"length": 32, "num_tags": 9, "has_padding": False},
    "length 32, random lengths": {"length": 32, "num_tags": 9, "has_padding": True},
    "length 128, 103 tags": {"length": 128, "num_tags": 103, "has_padding": False},
    # Scores beyond what plain weights can hold: the logarithmic pass.
    "length 128, scores of a hundred": {"length": 128, "num_tags": 9, "has_padding": False, "scale": 50.0},
}


class Case:
    """One input, and both layers with the same weights."""

    def __init__(self, batch_size: int, length: int, num_tags: int, has_padding: bool, scale: float = 2.0):
        torch.manual_seed(0)
        self.ours = LinearChainCrf(num_tags)
        nn.init.normal_(self.ours.transitions)  # as spread as trained ones
        self.theirs = torchcrf.CRF(num_tags, batch_first=True)
        self.theirs.load_state_dict(self.ours.state_dict())
        self.emissions = torch.randn(batch_size, length, num_tags) * scale
        self.tags = torch.randint(num_tags, (batch_size, length))
        lengths = torch.randint(1, length + 1, (batch_size,)) if has_padding else torch.full((batch_size,), length)
        self.mask = torch.arange(length) < lengths[:, None]

    def loss(self, layer: nn.Module, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Return the log-likelihoods, and the gradients of their sum by the emissions and by each parameter."""
        emissions = self.emissions.to(dtype).requires_grad_()
        options = {} if isinstance(layer, LinearChainCrf) else {"reduction": "none"}
        values = layer(emissions, self.tags, self.mask, **options)
        parameters = [layer.start_transitions, layer.transitions, layer.end_transitions]
        return [values.detach(), *torch.autograd.grad(values.sum(), [emissions, *parameters])]

    @torch.no_grad()
    def decode(self, layer: nn.Module) -> Tensor | list[list[int]]:
        """Return the best paths in the form of each layer."""
        best = layer.decode(self.emissions, self.mask)
        return best.tags if isinstance(layer, LinearChainCrf) else best

    def errors(self) -> dict:
        """Compare both layers with float64, and their best paths with each other."""
        exact = self.loss(copy.deepcopy(self.theirs).double(), torch.float64)
        ours, theirs = self.loss(self.ours), self.loss(self.theirs)
        names = ["log_likelihood", "emissions", "start_transitions", "transitions", "end_transitions"]
        paths = [row[row >= 0].tolist() for row in self.decode(self.ours)]
        return {
            "largest_log_likelihood": float(exact[0].abs().max()),
            "ours_from_float64": dict(zip(names, map(difference, ours, exact), strict=True)),
            "pytorch_crf_from_float64": dict(zip(names, map(difference, theirs, exact), strict=True)),
            "ours_from_pytorch_crf": dict(zip(names, map(difference, ours, theirs), strict=True)),
            "same_best_paths": paths == self.decode(self.theirs),
        }


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest absolute difference."""
    return float((one.double() - other.double()).abs().max())


def times(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> dict[str, float]:
    """Time both by turns."""
    mine, other, ratio = compare(ours, theirs, repeats)
    return {"ours_ms": round(1e3 * mine, 3), "pytorch_crf_ms": round(1e3 * other, 3), "ratio": round(ratio, 2)}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    cases = {}
    for name, sizes in CASES.items():
        case = Case(options.batch_size, **sizes)
        cases[name] = {
            **sizes,
            "loss": times(lambda c=case: c.loss(c.ours), lambda c=case: c.loss(c.theirs), options.repeats),
            "decode": times(lambda c=case: c.decode(c.ours), lambda c=case: c.decode(c.theirs), options.repeats),
            **case.errors(),
        }
    result = {
        "batch_size": options.batch_size,
        "threads": options.threads,
        "repeats": options.repeats,
        "torch": torch.__version__,
        "pytorch_crf": torchcrf.__version__,
        "cases": cases,
    }
    report(result, options.output)


if __name__ == "__main__":
    main()

"""Muon (Jordan et al. 2024): momentum with orthogonalized matrix updates. nano's vision encoder is trained with it."""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic that drives all singular values toward 1."""
ITERATIONS = 5
"""Newton-Schulz iterations per update."""
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Muon for matrices, batched over matrices of one shape and in their own precision.

    torch.optim.Muon updates one matrix at a time in bf16, which costs a CPU as much as the rest of the step. Apart from this
    the two are the same, including the defaults; a test compares them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        """Create the optimizer; every parameter must be a matrix."""
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # closures are never used here
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                rate = group["lr"] * math.sqrt(max(1, shape[0] / shape[1]))
                for parameter, update in zip(parameters, orthogonalize(self._momenta(parameters)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _momenta(self, parameters: list[nn.Parameter]) -> Tensor:
        """Update the momenta and return those with Nesterov's look-ahead: (parameters, rows, columns)."""
        out = []
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(gradient, 1 - MOMENTUM)
            out.append(gradient.lerp(momentum, MOMENTUM))
        return torch.stack(out)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Approximate the nearest matrices with orthonormal rows or columns by Newton-Schulz iterations.

    Shape: (..., rows, columns) -> (..., rows, columns).
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = x.mT if tall else x
    return out

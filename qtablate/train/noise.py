"""The gradient noise scale, from the micro-batch gradients that accumulation has anyway.

McCandlish et al. 2018 (arXiv 1812.06162, appendix A.1): where B samples have the mean gradient G and each sample's gradient
scatters around it with covariance C, a batch's squared gradient norm is |G|^2 + tr(C) / B on average. Two sizes of batch, here
the micro-batches and their window, tell both; tr(C) / |G|^2 is the batch from which a larger one gains little. Token-normalised
losses weight a micro-batch by its supervised tokens, so tokens stand for the sizes: a sum over t tokens has the mean t G and
a variance in proportion to t.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LARGEST = 500_000_000
"""Trained parameters up to which it is measured: a second copy of their gradients is kept meanwhile."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Unbiased estimates from one window; either may be negative by chance. Average each over windows before dividing."""

    signal: float
    """|G|^2, of the mean gradient a token."""
    variance: float
    """tr(C) of one token's gradient: noise / signal is a number of supervised tokens."""


def estimate(micro: Sequence[tuple[int, float]], window: float) -> Noise | None:
    """From (supervised tokens, squared norm of the summed gradient) of each micro-batch and the squared norm of their sum.

    Solves E sum |g_i|^2 = sum t_i^2 |G|^2 + T S and E |sum g_i|^2 = T^2 |G|^2 + T S. None for fewer than two micro-batches.
    """
    if len(micro) < 2:
        return None
    tokens, squares = sum(t for t, _ in micro), sum(t * t for t, _ in micro)
    parts = math.fsum(square for _, square in micro)
    signal = (window - parts) / (tokens**2 - squares)
    return Noise(signal, (parts - squares * signal) / tokens)


class NoiseMeter:
    """Takes each micro-batch's own gradient as what it added to `.grad`. Made anew for each window; holds a copy of the
    gradients until its end."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._before: dict[int, Tensor] = {}
        self._seen: list[tuple[int, Tensor]] = []
        self._tokens = 0
        self.seconds = 0.0
        """That it took."""

    def look(self, tokens: int, of: int) -> None:
        """After a backward pass of a loss that is divided by the `of` tokens of the whole window."""
        began = time.perf_counter()
        self._tokens = of
        square = torch.zeros((), dtype=torch.float64)
        for number, parameter in enumerate(self._parameters):
            if parameter.grad is None:
                continue
            added = parameter.grad - self._before[number] if number in self._before else parameter.grad
            square = square.to(added.device) + added.double().square().sum()
            self._before[number] = parameter.grad.detach().clone()
        self._seen.append((tokens, square))
        self.seconds += time.perf_counter() - began

    def told(self, norm: float, scale: float) -> Noise | None:
        """`norm` of the window's gradient, unscaled; `scale` of the losses that were seen."""
        micro = [(tokens, float(square) * (self._tokens / scale) ** 2) for tokens, square in self._seen]
        if not math.isfinite(norm + sum(square for _, square in micro)):
            return None
        return estimate(micro, (norm * self._tokens) ** 2)

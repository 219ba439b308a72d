"""The gradient noise scale, from the micro-batch gradients that accumulation has anyway.

McCandlish et al. 2018 (arXiv 1812.06162, appendix A.1): where B samples have the mean gradient G and each sample's gradient
scatters around it with covariance C, a batch's squared gradient norm is |G|^2 + tr(C) / B on average. Two batch sizes, here
those of the micro-batches and of their window, determine both terms; tr(C) / |G|^2 is the gradient noise scale. A
token-normalized loss weights a micro-batch by its supervised tokens, so tokens are the unit of size: a sum over t tokens has
the mean t G and a variance in proportion to t.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MAX_PARAMETERS = 500_000_000
"""Trained parameters up to which the noise is measured: that keeps a second copy of their gradients."""


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """Unbiased estimates from one window; either may be negative by chance. Average each over windows before dividing."""

    signal: float
    """|G|^2, of the mean gradient per token."""
    variance: float
    """tr(C) of one token's gradient: variance / signal is a number of supervised tokens."""


def estimate_noise(micro_batches: Sequence[tuple[int, float]], window: float) -> NoiseEstimate | None:
    """Solve for signal and variance; None for fewer than two micro-batches.

    E sum |g_i|^2 = sum t_i^2 |G|^2 + T S and E |sum g_i|^2 = T^2 |G|^2 + T S, where T is the sum of t_i and S the variance.

    Args:
        micro_batches: (supervised tokens t_i, squared norm of the summed gradient g_i) of each.
        window: squared norm of the sum of all g_i.
    """
    if len(micro_batches) < 2:
        return None
    tokens, squares = sum(t for t, _ in micro_batches), sum(t * t for t, _ in micro_batches)
    norms = math.fsum(norm for _, norm in micro_batches)
    signal = (window - norms) / (tokens**2 - squares)
    return NoiseEstimate(signal, (norms - squares * signal) / tokens)


class NoiseMeter:
    """Measures each micro-batch's own gradient as the change of `.grad`.

    Made anew for each window; holds a copy of the gradients until its end.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._before: dict[int, Tensor] = {}
        self._measured: list[tuple[int, Tensor]] = []
        self._window_tokens = 0
        self.seconds = 0.0
        """Time that measuring took."""

    def observe(self, tokens: int, window_tokens: int) -> None:
        """Measure a micro-batch, after its backward pass.

        Args:
            tokens: its supervised tokens.
            window_tokens: those of the whole window, which its loss was divided by.
        """
        began = time.perf_counter()
        self._window_tokens = window_tokens
        square = torch.zeros((), dtype=torch.float64)
        for number, parameter in enumerate(self._parameters):
            if parameter.grad is None:
                continue
            added = parameter.grad - self._before[number] if number in self._before else parameter.grad
            square = square.to(added.device) + added.double().square().sum()
            self._before[number] = parameter.grad.detach().clone()
        self._measured.append((tokens, square))
        self.seconds += time.perf_counter() - began

    def estimate(self, norm: float, scale: float) -> NoiseEstimate | None:
        """Return the window's estimate; None where a gradient is not finite.

        Args:
            norm: of the window's gradient, unscaled.
            scale: what the losses were multiplied by (fp16).
        """
        micro_batches = [(tokens, float(square) * (self._window_tokens / scale) ** 2) for tokens, square in self._measured]
        if not math.isfinite(norm + sum(square for _, square in micro_batches)):
            return None
        return estimate_noise(micro_batches, (norm * self._window_tokens) ** 2)

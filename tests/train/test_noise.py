"""The gradient noise scale: right on average where gradients are drawn with a known mean and variance."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from qtablate.train.accumulate import NO_SCALING, AccumulationRules, accumulate
from qtablate.train.noise import NoiseMeter, estimate_noise

WIDTH, SIGNAL, VARIANCE = 50, 0.3, 7.0


def draws(windows: int, tokens: tuple[int, ...], seed: int = 1):
    """Sums over t tokens: mean t G with |G|^2 = SIGNAL, variance (trace) t VARIANCE."""
    random = np.random.default_rng(seed)
    mean = np.full(WIDTH, math.sqrt(SIGNAL / WIDTH))
    for _ in range(windows):
        yield [t * mean + math.sqrt(t * VARIANCE / WIDTH) * random.standard_normal(WIDTH) for t in tokens]


@pytest.mark.parametrize("tokens", [(5, 5), (1, 3, 20, 4), (40, 2, 9, 9, 9, 9, 9, 30)])
def test_signal_and_variance_are_found_on_average(tokens):
    found = [
        estimate_noise([(t, float(g @ g)) for t, g in zip(tokens, sums, strict=True)], float(sum(sums) @ sum(sums)))
        for sums in draws(4000, tokens)
    ]
    for mine, true in (([one.signal for one in found], SIGNAL), ([one.variance for one in found], VARIANCE)):
        assert abs(np.mean(mine) - true) < 4 * np.std(mine) / math.sqrt(len(mine))
        assert np.std(mine) / math.sqrt(len(mine)) < 0.1 * true  # so that being off by half would show


def test_taking_all_micro_batches_for_equally_large_is_wrong_on_ragged_ones():
    """The negative control: the formula for sizes B and A B, without weights."""
    tokens = (1, 3, 20, 4)
    found = [estimate_noise([(7, float(g @ g)) for g in sums], float(sum(sums) @ sum(sums))) for sums in draws(4000, tokens)]
    values = [one.signal for one in found]
    assert abs(np.mean(values) - SIGNAL) > 4 * np.std(values) / math.sqrt(len(values))


def test_one_micro_batch_tells_nothing():
    assert estimate_noise([(5, 1.0)], 1.0) is None


class Part:
    def __init__(self, rows: torch.Tensor, tokens: int) -> None:
        self.rows, self.supervised_tokens = rows, tokens


@pytest.mark.parametrize("scale", [None, 2.0**10])
def test_the_meter_sees_each_micro_batchs_own_gradient(scale):
    weight, never = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))
    parts = [Part(torch.randn(4, generator=torch.Generator().manual_seed(n)) + 1, n + 1) for n in range(3)]
    scaler = torch.amp.GradScaler("cpu", init_scale=scale) if scale else NO_SCALING
    optimizer = torch.optim.SGD([weight], lr=1.0)
    gradient = accumulate(
        parts,
        lambda part: (weight * part.rows).sum(),
        [weight, never],
        AccumulationRules(),
        scaler=scaler,
        optimizer=optimizer,
        meter=NoiseMeter([weight, never]),
    )
    rows = [part.rows.double() for part in parts]
    wanted = estimate_noise([(n + 1, float(one @ one)) for n, one in enumerate(rows)], float(sum(rows) @ sum(rows)))
    assert gradient.noise.signal == pytest.approx(wanted.signal, rel=1e-5)
    assert gradient.noise.variance == pytest.approx(wanted.variance, rel=1e-5)

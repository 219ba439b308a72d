"""The gradient noise scale of a condition, from the windows of its train.csv (McCandlish et al. 2018, arXiv 1812.06162)."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.statistics.ratio import ratio_interval

Windows = NDArray[np.float64]
"""(windows, 2): grad_signal and grad_noise of consecutive steps of one run."""
QUARTERS = tuple(f"noise_scale_q{number}" for number in (1, 2, 3, 4))
COLUMNS = ("noise_scale", "noise_scale_ci_low", "noise_scale_ci_high", "noise_blocks", *QUARTERS)
UNKNOWN_FACTOR = 10
"""A noise scale is unknown where its interval is wider than this factor either way."""
LARGEST_SHARE = 1 / 3
"""Share of one window in the sum over all windows, above which nothing is told of the noise scale."""
FEWEST_WINDOWS = 15
"""Windows of all seeds below which nothing is told of the noise scale."""
TAIL = 3
"""Largest windows that each end of the interval allows for beyond the windows that were seen."""


def noise_scale(runs: Sequence[Windows]) -> dict[str, float | None]:
    """Estimate the gradient noise scale of some windows, in samples, with a 95 % interval.

    The noise scale is the mean variance of a sample's gradient over the mean squared gradient. The interval is Fieller's,
    over blocks of consecutive steps: neighboring steps are alike. Three blocks of each run, five where there are one or two
    runs. Each end is then moved outward by TAIL times the share of the largest window in its sum: where gradients have heavy
    tails, the error of a sum is of the size of its largest term, and a variance between blocks misses it.

    Nothing is told where fewer than FEWEST_WINDOWS measured it, and where one of them has more than LARGEST_SHARE of the sum.
    The scale is missing where the mean signal or noise is not positive (either is an unbiased
    estimate that may be negative). The upper end is missing where the interval has none: the signal may be zero. How often the
    interval covers is measured by tests/benchmarks/noise_scale.py.

    Args:
        runs: windows of each seed, those without a measurement left out.
    """
    found: dict[str, float | None] = dict.fromkeys(COLUMNS[:3], None)
    known = [run for run in runs if len(run)]
    per_run = 5 if len(known) < 3 else 3
    blocks = [block.sum(axis=0) for run in known for block in np.array_split(run, min(per_run, len(run)))]
    found["noise_blocks"] = len(blocks)
    if sum(map(len, known)) < FEWEST_WINDOWS:
        return found
    sizes = np.abs(np.concatenate(known))
    signal_share, noise_share = sizes.max(axis=0) / np.maximum(sizes.sum(axis=0), np.finfo(float).tiny)
    if max(signal_share, noise_share) > LARGEST_SHARE:
        return found
    signal, noise = np.array(blocks).T
    low, high = ratio_interval(noise, signal, 0.95)
    if signal.sum() > 0 and noise.sum() > 0:
        found["noise_scale"] = float(noise.sum() / signal.sum())
    found["noise_scale_ci_low"] = low / (1 + TAIL * float(signal_share))
    found["noise_scale_ci_high"] = high * (1 + TAIL * float(noise_share)) if math.isfinite(high) else None
    return found


def noise_course(runs: Sequence[Windows]) -> dict[str, float | None]:
    """Return the noise scale over each quarter of the windows; missing where it is unknown.

    Args:
        runs: windows of each seed from the first step on, those without a measurement left out.
    """
    quarters = zip(*(np.array_split(run, len(QUARTERS)) for run in runs), strict=True)
    found = [noise_scale(quarter) for quarter in quarters] or [{}] * len(QUARTERS)
    return {name: one["noise_scale"] if is_known(one) else None for name, one in zip(QUARTERS, found, strict=True)}


def is_known(figures: dict[str, float | None]) -> bool:
    """Whether a noise scale is known to within UNKNOWN_FACTOR either way, by its interval."""
    scale, low, high = (figures.get(name) for name in COLUMNS[:3])
    return not (pd.isna(scale) or pd.isna(low) or pd.isna(high)) and high <= UNKNOWN_FACTOR**2 * low


def windows_of(run: pd.DataFrame) -> Windows:
    """Return the windows of a train.csv that measured their noise."""
    both = [run[name].to_numpy(np.float64) for name in ("grad_signal", "grad_noise")]
    measured = ~np.isnan(both).any(axis=0)
    return np.stack([values[measured] for values in both]).T

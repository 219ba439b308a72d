"""Measures how often the interval of the gradient noise scale covers a known one, beside that of a block jackknife.

    python tests/benchmarks/noise_scale.py [--runs 1000] [--out FILE]

Gradients of samples are drawn with a known mean and covariance; a window's signal and noise are estimated from its
micro-batches as in qtablate/train/noise.py. The designs differ in the true scale, the tails of a sample's gradient (Student's t
with few degrees of freedom, lognormal), bursts (windows whose noise is lognormal), autocorrelation of the true signal and
noise over steps, and the numbers of steps, micro-batches and seeds. Counted over the simulated conditions for which an
interval is shown: how often it covers the truth, with the standard error of that share. The jackknife is the interval that the
report had before: of the logarithm of the ratio, over five blocks of each run. The width is the median of the square root of
upper over lower end: infinite where most intervals have no upper end, nan where none is shown.

The last designs are outside of what the interval is made for, and it covers too rarely there: a squared norm that hardly has a
mean, rare bursts in few steps, a signal that wanders for as long as a run takes.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from qtablate.report.noise_scale import Windows, noise_scale

Floats = NDArray[np.float64]
WIDTH = 32
"""Dimensions of the gradient. Its covariance falls with one over the rank."""


@dataclass(frozen=True, slots=True)
class Design:
    """How gradients are drawn."""

    name: str
    scale: float = 100.0
    """True noise scale, in samples."""
    steps: int = 75
    seeds: int = 3
    micro_batches: int = 4
    micro_batch_size: int = 8
    dof: float = math.inf
    """Of the t distribution of a sample's gradient; infinite: normal."""
    lognormal: float = 0.0
    """Standard deviation of the logarithm of the variance of a sample's gradient."""
    bursts: float = 0.0
    """Standard deviation of the logarithm of a window's noise estimate, beside its chance."""
    autocorrelation: float = 0.0
    """Of the logarithms of the true signal and noise, from step to step."""
    spread: float = 0.0
    """Standard deviation of these logarithms."""


DESIGNS = (
    Design("usual"),
    Design("scale 2", scale=2),
    Design("scale 10", scale=10),
    Design("scale 1,000", scale=1000),
    Design("scale 1,000, 2 micro-batches of 2", scale=1000, micro_batches=2, micro_batch_size=2),
    Design("t, 5 dof", dof=5),
    Design("t, 3 dof", dof=3),
    Design("t, 3 dof, scale 4", dof=3, scale=4),
    Design("t, 3 dof, scale 30, 1 seed", dof=3, scale=30, seeds=1),
    Design("t, 3 dof, scale 4, 5 seeds, 150 steps", dof=3, scale=4, seeds=5, steps=150),
    Design("lognormal 2, scale 4", lognormal=2, scale=4),
    Design("lognormal 2, scale 4, 18 steps, 1 seed", lognormal=2, scale=4, steps=18, seeds=1),
    Design("bursts 1", bursts=1),
    Design("bursts 1.5, scale 4", bursts=1.5, scale=4),
    Design("autocorrelation .5", autocorrelation=0.5, spread=0.3),
    Design("autocorrelation .8", autocorrelation=0.8, spread=0.6),
    Design("autocorrelation .8, 1 seed", autocorrelation=0.8, spread=0.6, seeds=1),
    Design("signal and noise vary by a factor of 3", spread=1.1),
    Design("10 steps", steps=10),
    Design("5 steps", steps=5),
    Design("5 steps, 2 micro-batches", steps=5, micro_batches=2),
    Design("5 steps, 2 micro-batches, 1 seed", steps=5, micro_batches=2, seeds=1),
    Design("18 steps, 1 seed", steps=18, seeds=1),
    Design("2 micro-batches", micro_batches=2),
    Design("1 seed", seeds=1),
    Design("2 seeds", seeds=2),
    Design("5 seeds", seeds=5),
)
OUTSIDE = (
    Design("t, 2.5 dof, scale 4", dof=2.5, scale=4),
    Design("bursts 2, scale 4, 18 steps, 1 seed", bursts=2, scale=4, steps=18, seeds=1),
    Design("autocorrelation .95", autocorrelation=0.95, spread=0.6),
)


def draw(design: Design, random: np.random.Generator) -> list[Windows]:
    """Draw the windows of one condition: (steps, 2) signal and noise of each seed."""
    shape = (design.seeds, design.steps)
    size, parts = design.micro_batch_size, design.micro_batches
    signal = np.exp(_course(design, random))
    variance = design.scale * np.exp(_course(design, random))
    weights = np.ones((*shape, parts, size))  # of each sample's variance, 1 on average
    if math.isfinite(design.dof):
        weights *= (design.dof - 2) / random.chisquare(design.dof, weights.shape)
    if design.lognormal:
        weights *= np.exp(design.lognormal * random.standard_normal(weights.shape) - design.lognormal**2 / 2)
    spectrum = 1 / np.arange(1, WIDTH + 1)
    deviation = np.sqrt(weights.mean(-1, keepdims=True) / size * variance[..., None, None] * spectrum / spectrum.sum())
    gradients = np.sqrt(signal[..., None, None] / WIDTH) + deviation * random.standard_normal((*shape, parts, WIDTH))
    norms, window = (gradients**2).sum((-1, -2)), (gradients.sum(-2) ** 2).sum(-1)
    found = (window - norms) / (parts**2 - parts)
    noise = (norms / parts - found) * size
    noise *= np.exp(design.bursts * random.standard_normal(shape) - design.bursts**2 / 2)
    return list(np.stack([found, noise], axis=-1))


def _course(design: Design, random: np.random.Generator) -> Floats:
    """Draw logarithms of a positive quantity over the steps, (seeds, steps): autoregressive, the quantity is 1 on average."""
    values = random.standard_normal((design.seeds, design.steps))
    for step in range(1, design.steps):
        kept = math.sqrt(1 - design.autocorrelation**2) * values[:, step]
        values[:, step] = design.autocorrelation * values[:, step - 1] + kept
    return design.spread * values - design.spread**2 / 2


def jackknife(runs: list[Windows]) -> tuple[float, float] | None:
    """The interval that the report had before; None where a mean is not positive."""
    sums = np.array([block.sum(axis=0) for run in runs for block in np.array_split(run, min(5, len(run)))])
    total, left_out = sums.sum(axis=0), sums.sum(axis=0) - sums
    if (total <= 0).any() or (left_out <= 0).any():
        return None
    logs, count = np.log(left_out[:, 1] / left_out[:, 0]), len(sums)
    reach = stats.t.ppf(0.975, count - 1) * math.sqrt((count - 1) / count * float(((logs - logs.mean()) ** 2).sum()))
    middle = math.log(total[1] / total[0])
    return math.exp(max(middle - reach, -300)), math.exp(min(middle + reach, 300))


def fieller(runs: list[Windows]) -> tuple[float, float] | None:
    """The interval that the report has now; None where it shows nothing."""
    found = noise_scale(runs)
    low, high = found["noise_scale_ci_low"], found["noise_scale_ci_high"]
    return None if not low else (low, math.inf if high is None else high)


METHODS = {"jackknife": jackknife, "report": fieller}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often an interval covers, in the simulated conditions for which one is shown."""

    shown: int
    covered: int
    width: float

    @property
    def share(self) -> float:
        """Share of the shown intervals that cover; nan without any."""
        return self.covered / self.shown if self.shown else math.nan

    @property
    def stderr(self) -> float:
        """Standard error of that share."""
        return math.sqrt(self.share * (1 - self.share) / self.shown) if self.shown else math.nan


def coverage(design: Design, runs: int, seed: int = 1) -> dict[str, Coverage]:
    """Simulate a design; return the coverage of each method."""
    random = np.random.default_rng(seed)
    drawn = [draw(design, random) for _ in range(runs)]
    out = {}
    for name, method in METHODS.items():
        ends = [one for one in map(method, drawn) if one]
        widths = [math.sqrt(high / low) for low, high in ends]
        covered = sum(low <= design.scale <= high for low, high in ends)
        out[name] = Coverage(len(ends), covered, float(np.median(widths)) if ends else math.nan)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="simulated conditions a design")
    parser.add_argument("--out", type=Path, help="also write the table here, as Markdown")
    arguments = parser.parse_args()
    lines = [
        f"| design ({arguments.runs} conditions each) | " + " | ".join(f"{m} covers | shown | width" for m in METHODS) + " |"
    ]
    lines.append("| --- |" + " ---: |" * 3 * len(METHODS))
    print(*lines, sep="\n")
    for design in (*DESIGNS, *OUTSIDE):
        texts = [design.name + (" (outside)" if design in OUTSIDE else "")]
        for one in coverage(design, arguments.runs).values():
            texts += [f"{one.share:.3f} ±{one.stderr:.3f}", f"{one.shown}", f"{one.width:.2f}"]
        lines.append("| " + " | ".join(texts) + " |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

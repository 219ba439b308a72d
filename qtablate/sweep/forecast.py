"""What the cells of a sweep will take, estimated from a few conditions that were probed.

A micro-batch of B samples with V visual tokens from F frames each takes a + b B + c B V + d B F seconds, and megabytes by other
coefficients; an item of the benchmark takes e + f V seconds. The coefficients are fitted to the probes by least squares, none
below zero. This module starts no process and knows no torch.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qtablate.axes import AXES, BATCH_SIZE, HEADLINE, Condition
from qtablate.cell.jobs import Probed
from qtablate.durations import format_duration

PROBES = 6
"""Conditions that are probed at most."""
SECONDS = 60.0
"""After which no further probe is begun; one that runs is let finish."""
MEASURED, FITTED, NEAREST = "measured", "fitted", "nearest"
_Matrix = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Load:
    """What the time and the memory of a micro-batch depend on."""

    visual_tokens: int
    """Of each sample."""
    micro_batch_size: int
    mixing: str
    """Which media a micro-batch holds."""
    frames: int = 8
    """Per clip."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one cell of a condition takes."""

    step_seconds: float
    cell_seconds: float
    """Training and evaluation together."""
    peak_memory_mb: float
    trainable_params: int | None
    """None where it was neither counted nor follows from what was counted."""
    samples: int
    """That it trains on: as planned, or as the supervised tokens of the probes' samples make it."""
    measured: bool
    """Whether a micro-batch of its kind was timed."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known before the cells run."""

    estimates: Mapping[Condition, Estimate] = field(default_factory=dict)
    frozen_params: int | None = None
    probes: int = 0
    """That were timed."""
    fitted: bool = False
    """Whether some estimates are of a function that was fitted to the probes."""
    nearest: bool = False
    """Whether some are the nearest probe's, since too few were timed for a fit."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why, by the condition's name, for each probe that failed."""
    not_begun: int = 0
    """Probes that the limit on their time left out."""

    def method(self) -> str:
        """How the figures of conditions that were not probed are estimated."""
        ways = ["a + b x samples + c x samples x visual tokens + d x samples x frames for a micro-batch, fitted"] * self.fitted
        ways += ["seconds a sample, and memory, of the nearest one"] * self.nearest
        return f"~: not measured, but estimated from {self.probes} probe{'s' * (self.probes != 1)}: {', or '.join(ways)}"

    def warnings(self) -> list[str]:
        """A sentence for each probe that failed, and one where time ran out."""
        lines = [
            f"The probe of {name} failed: {why.rstrip('.')}. Its cells run all the same; if one fails, it fails alone."
            for name, why in self.failed.items()
        ]
        if self.not_begun:
            total = self.not_begun + self.probes + len(self.failed)
            lines.append(
                f"Probing took more than {format_duration(SECONDS)}: {self.not_begun} of {total} probes were left out."
            )
        return lines


def probe_order(loads: Mapping[Condition, Load]) -> list[Condition]:
    """The conditions to probe, at most PROBES, the most informative first.

    First the corners of visual tokens and micro-batch size, the smallest of both before all others; then the smallest condition
    that has a level of another axis that none so far has; then those that lie farthest from all chosen ones. Of conditions with
    equal loads the one whose extra tokens learn at the most usual rate stands for all.
    """
    ordered = sorted(loads, key=lambda one: abs(math.log(one.extra_lr)))
    places = {condition: _place(loads[condition], list(loads.values())) for condition in ordered}
    chosen: list[Condition] = []
    for corner in ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)):
        nearest = min(ordered, key=lambda one: math.dist(places[one], corner), default=None)
        if nearest is not None and loads[nearest] not in [loads[one] for one in chosen]:
            chosen.append(nearest)
    for axis in (axis for axis in AXES if axis not in (*HEADLINE, BATCH_SIZE)):
        for condition in sorted(ordered, key=lambda one: sum(places[one])):
            if getattr(condition, axis.column) not in {axis.placeholder, *(getattr(one, axis.column) for one in chosen)}:
                chosen.append(condition)
    rest = [one for one in ordered if loads[one] not in [loads[other] for other in chosen]]
    while rest and len(chosen) < PROBES:
        chosen.append(max(rest, key=lambda one: min(math.dist(places[one], places[other]) for other in chosen)))
        rest = [one for one in rest if loads[one] != loads[chosen[-1]]]
    return chosen[:PROBES]


def _place(load: Load, loads: Sequence[Load]) -> tuple[float, float]:
    """Visual tokens and micro-batch size, each between 0 for the smallest and 1 for the largest."""
    out = []
    for name in ("visual_tokens", "micro_batch_size"):
        values = [getattr(one, name) for one in loads]
        span = max(values) - min(values)
        out.append((getattr(load, name) - min(values)) / span if span else 0.0)
    return out[0], out[1]


def forecast(
    loads: Mapping[Condition, Load],
    probed: Mapping[Condition, Probed],
    samples: Mapping[Condition, int | None],
    supervised_tokens: int,
    n_items: int,
    failed: Mapping[Condition, str],
    names: Mapping[Condition, str],
    not_begun: int = 0,
) -> Forecast:
    """Estimate every condition but those whose own probe failed.

    Args:
        loads: of every condition that has cells to run.
        probed: what was measured, of some of them.
        samples: that a cell trains on; None where it trains on so many `supervised_tokens` instead.
        n_items: that a cell is evaluated on.
        failed: why, for the conditions whose probe failed.
        names: of the conditions.
        not_begun: probes that were planned and left out.
    """
    lost = {names[condition]: why for condition, why in failed.items()}
    if not probed:
        return Forecast(failed=lost, not_begun=not_begun)
    by_load: dict[Load, list[Probed]] = {}
    for condition, one in probed.items():
        by_load.setdefault(loads[condition], []).append(one)
    per_sample = _mean([one.tokens_per_sample for one in probed.values()])
    trainable = {one.extra_num_query_tokens: found.trainable_params for one, found in probed.items()}
    estimates, ways = {}, set()
    for condition, load in loads.items():
        if condition in failed:
            continue
        (micro, an_item, memory), how = _costs(load, by_load)
        ways.add(how)
        wanted = samples[condition] or math.ceil(supervised_tokens / max(per_sample, 1))
        estimates[condition] = Estimate(
            micro * condition.accumulate_grad_batches,
            micro * wanted / condition.micro_batch_size + an_item * n_items,
            memory,
            _trainable(condition.extra_num_query_tokens, trainable),
            wanted,
            how == MEASURED,
        )
    frozen = next(iter(probed.values())).frozen_params
    return Forecast(estimates, frozen, len(probed), FITTED in ways, NEAREST in ways, lost, not_begun)


def _costs(load: Load, by_load: Mapping[Load, Sequence[Probed]]) -> tuple[tuple[float, float, float], str]:
    """(seconds of a micro-batch, seconds of an item, megabytes), and how they are known: MEASURED where such a load was probed;
    else FITTED where the probes determine it; else those of the NEAREST probe, its seconds as many a sample."""
    if load in by_load:
        return _measured(by_load[load]), MEASURED
    there = list(by_load)
    measured = np.array([_measured(by_load[one]) for one in there])
    rows, wanted = np.array([_terms(one) for one in there]), np.array(_terms(load))
    if np.linalg.matrix_rank(np.vstack([rows, wanted])) > np.linalg.matrix_rank(rows):
        places = {one: _place(one, [*there, load]) for one in (*there, load)}
        near = min(there, key=lambda one: math.dist(places[one], places[load]))
        micro, an_item, memory = _measured(by_load[near])
        return (micro * load.micro_batch_size / near.micro_batch_size, an_item, memory), NEAREST
    items = np.array([(1.0, float(one.visual_tokens)) for one in there])
    return (
        _fit(rows, measured[:, 0], wanted),
        _fit(items, measured[:, 1], np.array([1.0, load.visual_tokens])),
        _fit(rows, measured[:, 2], wanted),
    ), FITTED


def _terms(load: Load) -> tuple[float, ...]:
    size = float(load.micro_batch_size)
    return 1.0, size, size * load.visual_tokens, size * load.frames


def _fit(rows: _Matrix, values: _Matrix, wanted: _Matrix) -> float:
    """The value at `wanted` of a linear function fitted to `values` at `rows`, no coefficient below zero."""
    from scipy.optimize import nnls

    scale = np.maximum(rows.max(axis=0), 1.0)
    coefficients, _ = nnls(rows / scale, values)
    return float(wanted / scale @ coefficients)


def _measured(probes: Sequence[Probed]) -> tuple[float, float, float]:
    return (
        _mean([one.micro_seconds for one in probes]),
        _mean([one.item_seconds for one in probes]),
        _mean([one.peak_memory_mb for one in probes]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _trainable(tokens: int, counted: Mapping[int, int]) -> int | None:
    """Trained parameters at so many extra tokens: each token adds one row of the same width. None where this does not follow
    from what was counted."""
    if tokens in counted:
        return counted[tokens]
    if len(counted) < 2:
        return None
    (least, at_least), (most, at_most) = min(counted.items()), max(counted.items())
    width, rest = divmod(at_most - at_least, most - least)
    if rest or any(n != at_least + width * (one - least) for one, n in counted.items()):
        return None
    return at_least + width * (tokens - least)


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds until the last of these cells is finished, begun in this order, each by the worker that is free first."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)

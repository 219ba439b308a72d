"""The free correctness gate: conditions that differ only in how one effective batch is split must coincide.

Same seed, same samples, same effective batch: only the arithmetic is split, so the loss curves agree to rounding and
the answers agree but for near-ties (accumulation.md, "hold effective batch").
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtablate.axes import SPLIT
from qtablate.report.frames import AXES
from qtablate.store import Store

LOSS_TOLERANCE = 1e-4  # relative, at every step
NEAR_TIE = 0.01  # nats between the two best options
EARLY = 0.1
"""Share of the steps that are the first ones, and three at least: dividing by micro-batches instead of tokens shows at the
second step, by 2e-3 in results/accumulation, where rounding alone is 1e-7."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two finished cells that must coincide."""

    levels: Mapping[Any, Any]
    """Of the first, by axis."""
    seed: int
    split: tuple[int, int]
    """accumulate_grad_batches of the two."""
    steps: int
    early_difference: float
    """Largest relative difference of the loss at the first steps: another rule shows there, before rounding has grown."""
    loss_difference: float
    """At any step."""
    answers: int
    answers_differing: int
    near_ties: int
    """Of the differing ones, how many were near-ties in the first cell."""
    dropout: bool
    """Random masks depend on the split: the two cannot coincide, and that they do not says nothing."""

    @property
    def passed(self) -> bool:
        return self.loss_difference <= LOSS_TOLERANCE and self.answers_differing == self.near_ties

    @property
    def drifted(self) -> bool:
        """One run at first, apart later: rounding that a training without stability makes grow, no other arithmetic."""
        return not self.passed and self.early_difference <= LOSS_TOLERANCE


def pairs(store: Store, cells: pd.DataFrame) -> list[Pair]:
    """Every pair of finished cells of one seed that share all but the split of their effective batch and break no rule."""
    right = (cells["mixing"] == "mixed") & (cells["incorrect"] == "")
    done = cells[(cells["status"] == "ok") & right]
    out = []
    same = [*(axis for axis in AXES if axis not in SPLIT), "effective_batch_size", "seed"]
    for _, group in done.groupby(same, sort=False):
        first, *others = group.to_dict("records")
        out += [_compare(store, first, other) for other in others]
    return out


def _compare(store: Store, one: dict[Hashable, Any], two: dict[Hashable, Any]) -> Pair:
    keys = [str(cell["key"]) for cell in (one, two)]
    losses = [pd.read_csv(store.cell_file(key, "train.csv"))["loss"].to_numpy() for key in keys]
    a, b = (pd.read_csv(store.cell_file(key, "answers.csv")).query("control == 'full'").set_index("item") for key in keys)
    differing = a.index[a["predicted"] != b["predicted"].reindex(a.index)]
    ties = sum(_margin(str(scores)) < NEAR_TIE for scores in a.loc[differing, "scores"])
    apart = np.abs(losses[1] - losses[0]) / losses[0]
    first = max(3, math.ceil(EARLY * len(apart)))
    return Pair(
        one,
        int(one["seed"]),
        (int(one["accumulate_grad_batches"]), int(two["accumulate_grad_batches"])),
        len(apart),
        float(np.nanmax(apart[:first])),
        float(np.nanmax(apart)),
        len(a),
        len(differing),
        int(ties),
        bool(one["dropout"]),
    )


def _margin(scores: str) -> float:
    """Between the two best; endless where there are no scores, as with generated answers."""
    if ";" not in scores:
        return math.inf
    best, second = sorted(map(float, scores.split(";")), reverse=True)[:2]
    return best - second

"""Check that conditions which split one effective batch in different ways give the same run: a correctness test for free.

With the same seed, samples and effective batch only the arithmetic is split, so that the losses agree to rounding, and the
answers agree but for near-ties (train/accumulate.py).
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtablate.axes import SPLIT
from qtablate.report.cell_answers import read_cell_answers
from qtablate.report.folder import AXES
from qtablate.report.identical_runs import LOSS_TOLERANCE
from qtablate.report.rows import Row, records_of
from qtablate.report.steps import read_losses
from qtablate.statistics.estimate import Floats
from qtablate.store import Store

NEAR_TIE = 0.01
"""Difference of the scores of the two best options, in nats, below which rounding may decide between them."""
EARLY = 0.1
"""Share of the steps that count as early, three steps at least. Dividing by micro-batches instead of tokens shows within the
first three, by 1.7e-3 or more in results/accumulation, where rounding alone is 1e-7."""


@dataclass(frozen=True, slots=True)
class SplitPair:
    """Two finished cells that must coincide."""

    levels: Row
    """Of the first cell, by axis."""
    seed: int
    split: tuple[int, int]
    """accumulate_grad_batches of the two cells."""
    steps: int
    early_difference: float
    """Largest relative difference of the losses at the early steps. Other arithmetic shows there, before rounding has grown."""
    loss_difference: float
    """Largest relative difference of the losses at any step."""
    answers: int
    answers_differing: int
    near_ties: int
    """Number of the differing answers that were near-ties in the first cell."""
    dropout: bool
    """Whether training drew random masks. They depend on the split, so that the two cells cannot coincide."""

    @property
    def passed(self) -> bool:
        """Whether the two cells coincide."""
        return self.loss_difference <= LOSS_TOLERANCE and self.answers_differing == self.near_ties

    @property
    def drifted(self) -> bool:
        """Whether the cells coincide early and differ later: the same arithmetic, rounding amplified by unstable training."""
        return not self.passed and self.early_difference <= LOSS_TOLERANCE


def split_pairs(store: Store, cells: pd.DataFrame) -> list[SplitPair]:
    """Compare the finished cells of one seed that differ only in the split of their effective batch and break no rule.

    Args:
        store: the results folder.
        cells: its frame of cells.
    """
    done = cells[(cells["status"] == "ok") & (cells["mixing"] == "mixed") & (cells["incorrect"] == "")]
    same = [*(axis for axis in AXES if axis not in SPLIT), "effective_batch_size", "seed"]
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in records_of(done):
        groups.setdefault(tuple(row[name] for name in same), []).append(row)
    return [_compare(store, first, other) for first, *others in groups.values() for other in others]


def _compare(store: Store, first: Row, second: Row) -> SplitPair:
    """Compare two cells, given by their rows of the frame of cells."""
    keys = [str(cell["key"]) for cell in (first, second)]
    losses = [read_losses(store, key) for key in keys]
    a, b = (read_cell_answers(store, key) for key in keys)
    places = b.places(a.items)
    differing = np.flatnonzero((places < 0) | (a.predicted != b.predicted[places]))
    difference = np.abs(losses[1] - losses[0]) / losses[0]
    difference[np.isnan(losses[0]) != np.isnan(losses[1])] = math.inf  # a step that one cell took and the other did not
    early = max(3, math.ceil(EARLY * len(difference)))
    return SplitPair(
        levels=first,
        seed=int(first["seed"]),
        split=(int(first["accumulate_grad_batches"]), int(second["accumulate_grad_batches"])),
        steps=len(difference),
        early_difference=float(np.nanmax(difference[:early])),
        loss_difference=float(np.nanmax(difference)),
        answers=len(a.items),
        answers_differing=len(differing),
        near_ties=int((_score_gaps(a.scores[differing]) < NEAR_TIE).sum()),
        dropout=bool(first["dropout"]),
    )


def _score_gaps(scores: Floats) -> Floats:
    """Return the difference of the two best options' scores in nats; infinite without scores, as for generated answers."""
    if scores.shape[1] < 2:
        return np.full(len(scores), math.inf)
    best = np.sort(scores, axis=1)
    gaps: Floats = best[:, -1] - best[:, -2]
    return gaps

"""Simulated grids of answers with known effects, for studies of what the report claims: designs, and answers drawn by item.

An answer is correct with a probability that is the item's own, plus the condition's effect, plus what the clip does to this
condition, plus what the seed does to this run. In a share COMMON of the answers all conditions of a seed are decided by the
same random number. Nothing leaves the range from 0 to 1, so that the difference of two conditions is exactly that of their
effects.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.axes import Condition as Levels
from qtablate.report.answers import Answers, Condition, axes_of
from qtablate.report.contrasts import Contrast, baselines, contrasts
from qtablate.statistics.estimate import Floats

MARGIN = 0.02
"""The report's default."""
COMMON = 0.7
AXES = axes_of("micro-batch")
SUMMARY = Path(__file__).parents[2] / "results/reference/nano-world/summary.csv"
"""The README's own sweep."""


@dataclass(frozen=True, slots=True)
class Design:
    """What is simulated. Accuracies, effects and standard deviations are shares: .01 is a point."""

    name: str
    seed_sds: tuple[tuple[float, ...], ...]
    """Standard deviation of a run's accuracy by its seed, (tokens, accumulations)."""
    seeds: int = 3
    items: int = 2000
    effects: tuple[tuple[float, ...], ...] = ()
    """Of each condition, (tokens, accumulations); none where empty."""
    accuracy: float = 0.5
    spread: float = 0.15
    """Accuracies of items lie as far around the mean."""
    clip_sd: float = 0.06
    """Of what a clip does to a condition."""
    largest_clip: int = 12
    """Items of a clip: from 1 to this, all equally often."""
    large_clips: int = 0
    """Number of clips that hold half of the items."""
    shared_sd: float = 0.0
    """Standard deviation of what a seed does to all conditions of one group."""
    groups: tuple[int, ...] = ()
    """The group of each condition; of its accumulation where empty."""
    missing: str = ""
    """Cells that have not finished: `third of last seed`, a third of its cells at random; `half of last condition`."""

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Extra tokens and accumulation of each condition: 0, 32, 64 ... and 1, 4 ..."""
        return [(32 * row, 1 + 3 * column) for row in range(len(self.seed_sds)) for column in range(len(self.seed_sds[0]))]

    @property
    def conditions(self) -> list[Condition]:
        return [astuple(Levels(tokens, accum, 8, "mixed", "normal" if tokens else "none")) for tokens, accum in self.levels]

    @property
    def true_effects(self) -> Floats:
        """Effect of each condition."""
        return np.array(self.effects or np.zeros_like(self.seed_sds), np.float64).ravel()

    @property
    def seed_covariance(self) -> Floats:
        """Covariance of the accuracies of all conditions over seeds, (conditions, conditions)."""
        groups = self._groups
        return np.diag(np.square(np.ravel(self.seed_sds))) + self.shared_sd**2 * (groups[:, None] == groups)

    @property
    def _groups(self) -> NDArray[np.int64]:
        return np.array(self.groups or [accum for _, accum in self.levels], np.int64)

    def with_effects(self, effects: Floats) -> "Design":
        """Return the design with other effects, one a condition, around 0 or as far below as keeps probabilities within 1."""
        centered = effects - (effects.max() + effects.min()) / 2
        noise = self.spread + self.clip_sd * 3**0.5 + 3 * (np.max(self.seed_sds) + self.shared_sd)
        shifted = centered - max(0.0, self.accuracy + noise + float(centered.max()) - 1)
        return replace(self, effects=tuple(map(tuple, shifted.reshape(np.shape(self.seed_sds)).tolist())))

    def at_the_margin(self) -> "Design":
        """Return the design with every level of both axes at the margin from its baseline, up or down, and no interactions."""
        step = {
            tokens: MARGIN * (-1) ** place for place, (tokens, _) in enumerate(self.levels[:: len(self.seed_sds[0])]) if place
        }
        return self.with_effects(np.array([step.get(tokens, 0.0) + MARGIN * (accum > 1) for tokens, accum in self.levels]))


def sizes_of_clips(design: Design, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw the number of each item's clip, in order."""
    large = design.items // 2 // max(design.large_clips, 1) * design.large_clips
    sizes = random.integers(1, design.largest_clip + 1, design.items)
    small = np.repeat(np.arange(design.items), sizes)[: design.items - large]
    first = np.repeat(np.arange(design.large_clips), large // max(design.large_clips, 1))
    return np.concatenate([first, design.large_clips + small])


def draw(design: Design, random: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """Draw the answers of a grid.

    Returns:
        (conditions, seeds, items), 1 where correct; and the clip of each item.

    Raises:
        ValueError: a probability is not within 0 and 1.
    """
    clips = sizes_of_clips(design, random)
    shape = (len(design.levels), design.seeds, design.items)
    of_item = design.accuracy + random.uniform(-design.spread, design.spread, design.items)
    of_clip = design.clip_sd * 3**0.5 * random.uniform(-1, 1, (shape[0], int(clips[-1]) + 1))[:, clips]
    deviations = random.normal(size=(2, *shape[:2])).clip(-3, 3)
    of_group = design.shared_sd * deviations[1][np.unique(design._groups, return_inverse=True)[1]]
    of_run = np.ravel(design.seed_sds)[:, None] * deviations[0] + of_group + design.true_effects[:, None]
    probability = (of_item + of_clip)[:, None, :] + of_run[:, :, None]
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(f"{design.name}: probabilities from {probability.min():.2f} to {probability.max():.2f}")
    own, common = random.random(shape, np.float32), random.random(shape[1:], np.float32)
    draws = np.where(own < COMMON, common, (own - COMMON) / (1 - COMMON))
    return (draws < probability).astype(np.float64), clips


def finished(design: Design, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which cells have finished, (conditions, seeds)."""
    done = np.ones((len(design.levels), design.seeds), np.bool_)
    if design.missing == "third of last seed":
        done[random.choice(len(done), len(done) // 3, replace=False), -1] = False
    elif design.missing == "half of last condition":
        done[-1, design.seeds // 2 :] = False
    elif design.missing:
        raise ValueError(f"unknown '{design.missing}'")
    return done


def answers_of(design: Design, correct: Floats, clips: NDArray[np.int64], done: NDArray[np.bool_]) -> Answers:
    """Return drawn answers as the report reads them from a folder."""
    cells = {
        (condition, seed + 1): correct[row, seed]
        for row, condition in enumerate(design.conditions)
        for seed in np.flatnonzero(done[row]).tolist()
    }
    names = np.zeros(len(clips), np.str_)
    return Answers(AXES, cells, clips, names, names)


def contrasts_of(design: Design) -> list[Contrast]:
    """List the contrasts of the report of a design, with the default baselines."""
    nothing = np.zeros((len(design.levels), design.seeds, 1))
    answers = answers_of(design, nothing, np.zeros(1, np.int64), np.ones(nothing.shape[:2], np.bool_))
    return contrasts(answers, baselines(answers, {}))


def weights_of(design: Design, wanted: Sequence[Contrast]) -> Floats:
    """Return the weights of contrasts, (contrasts, conditions)."""
    return np.array([[contrast.weights.get(condition, 0.0) for condition in design.conditions] for contrast in wanted])


def _grid(first: Sequence[float], *others: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Return standard deviations given in points, by tokens and accumulation, as shares."""
    return tuple(tuple(value / 100 for value in row) for row in (first, *others))


def _readme_design() -> Design:
    """Return the design with the README's accuracies and standard deviations."""
    summary = pd.read_csv(SUMMARY).sort_values(["extra_num_query_tokens", "accumulate_grad_batches"])
    accuracy = summary["accuracy"].to_numpy(np.float64)
    sds = summary["accuracy_seed_sd"].to_numpy(np.float64)
    design = Design("the README's", tuple(map(tuple, sds.reshape(3, 2).tolist())), accuracy=float(accuracy.mean()))
    return design.with_effects(accuracy)


README = _readme_design()
_BY_ACCUM = _grid(*[(3.5, 0.3)] * 3)
_NEAR_ONE = Design(
    "equal .1, accuracy 98, 300 items", _grid(*[(0.1, 0.1)] * 3), items=300, accuracy=0.98, spread=0.01, clip_sd=0.003
)
DESIGNS = (
    *(Design(f"equal 1, {seeds} seeds", _grid(*[(1, 1)] * 3), seeds) for seeds in (2, 3, 5, 10)),
    Design("equal .3", _grid(*[(0.3, 0.3)] * 3)),
    Design("equal 3", _grid(*[(3, 3)] * 3)),
    *(Design(f"3.5 and .3 by accumulation, {seeds} seeds", _BY_ACCUM, seeds) for seeds in (2, 3, 5, 10)),
    Design(".3, 1, 3.5 by tokens", _grid((0.3, 0.3), (1, 1), (3.5, 3.5))),
    Design("one of six 3.5, others .3", _grid((0.3, 0.3), (3.5, 0.3), (0.3, 0.3))),
    Design("one of six 3.5, others 1", _grid((1, 1), (3.5, 1), (1, 1))),
    replace(README, name="the README's, no effects", effects=()),
    README,
    Design("2 shared by an accumulation, own .5", _grid(*[(0.5, 0.5)] * 3), shared_sd=0.02),
    Design("equal 1, 300 items, half in 4 clips", _grid(*[(1, 1)] * 3), items=300, large_clips=4, clip_sd=0.1),
    _NEAR_ONE,
    replace(_NEAR_ONE, name="equal .1, accuracy 98, 300 clips of 1 item", largest_clip=1),
    Design("equal 1, third of seed 3 missing", _grid(*[(1, 1)] * 3), missing="third of last seed"),
    Design("equal 1, 4 seeds, one condition 2", _grid(*[(1, 1)] * 3), 4, missing="half of last condition"),
    Design("equal 1, two conditions", _grid((1,), (1,))),
    Design("one of twelve 3.5, others .3", _grid((0.3, 0.3), (3.5, 0.3), *[(0.3, 0.3)] * 4)),
)

"""Compare two results folders condition by condition: other models, benchmarks, settings or versions.

Where both scored the same items, the difference is taken item by item and seed by seed; elsewhere the two are independent.
A condition's uncertainty is that of its own seeds.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtablate.axes import depends_on_reference_batch, effective_batch_size
from qtablate.errors import QtablateError
from qtablate.records import SweepFile
from qtablate.report.answers import Answers, Condition, read_answers
from qtablate.report.effects import ESTIMATE_COLUMNS, estimate_columns
from qtablate.report.folder import AXES, read_complete_sweep
from qtablate.report.frames import cell_frame
from qtablate.report.rows import Row, records_of
from qtablate.report.verdicts import IDENTICAL, NOT_COMPARABLE, adjusted, judge
from qtablate.statistics.estimate import Estimate, Floats, estimate
from qtablate.statistics.sequential import error_share
from qtablate.store import Store

COLUMNS = (
    *AXES,
    "effective_batch_size",
    "accuracy_first",
    "accuracy_second",
    *ESTIMATE_COLUMNS,
    "paired",
    "seeds_first",
    "seeds_second",
    "seeds",
    "n_items",
    "n_clusters",
    "uncertainty",
)
_COMPARED_PARTS: dict[str, Callable[[SweepFile], Mapping[str, Any]]] = {
    "data": lambda sweep: sweep.config.data.model_dump(),
    "settings": lambda sweep: dataclasses.asdict(sweep.settings),
    "fingerprints": lambda sweep: dataclasses.asdict(sweep.fingerprints),
    "versions": lambda sweep: sweep.versions,
}
"""Parts of sweep.json that are compared."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results folders, compared."""

    first: str
    """Name of the first folder; its path where both have one name."""
    second: str
    frame: pd.DataFrame
    """A row per condition that both have finished: second minus first."""
    differing: tuple[str, ...]
    """Settings that differ, such as `settings.samples: 4800 -> 960`."""
    only: tuple[int, int]
    """Number of conditions that only the first has, and only the second."""
    budgets: tuple[str, str]
    """Budget of a cell of each, as text. Where they differ nothing is comparable."""
    same_items: bool
    """Whether both scored the same items, so that differences are taken item by item."""
    same_results: bool
    """Whether both are one folder, or hold the same cells with the same answers: no verdict is given."""
    estimates: tuple[Estimate, ...]
    """The difference of each row of `frame`."""


def compare(first: Store, second: Store, margin: float) -> Comparison:
    """Compare two folders.

    Args:
        first: one folder.
        second: the other; differences are second minus first.
        margin: difference of accuracies, as a share, below which the two are equivalent.

    Raises:
        StoreError: a folder is not a sweep's, or its cells are gone.
        QtablateError: no condition is finished in both.
    """
    stores = (first, second)
    sweeps = [read_complete_sweep(store) for store in stores]
    sizes = [sweep.config.grid.batch_size_is for sweep in sweeps]
    if sizes[0] != sizes[1]:
        raise QtablateError(
            f"--batch-size is the {sizes[0]} in {first.root} and the {sizes[1]} in {second.root}: their conditions are not the "
            "same ones"
        )
    cells = [cell_frame(store) for store in stores]
    answers = [read_answers(store, frame, sweep) for store, frame, sweep in zip(stores, cells, sweeps, strict=True)]
    common = [condition for condition in answers[0].conditions if condition in answers[1].conditions]
    if not common:
        raise QtablateError(f"{first.root} and {second.root} have no finished condition in common")
    same_items = sweeps[0].fingerprints.benchmark == sweeps[1].fingerprints.benchmark
    same_items = same_items and list(answers[0].items) == list(answers[1].items)
    seeds = [_common_seeds(answers, condition) if same_items else [] for condition in common]
    estimates = [_difference(answers, *pair) for pair in zip(common, seeds, strict=True)]
    rows = [_row(answers, *each, margin) for each in zip(common, estimates, map(bool, seeds), strict=True)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    identical = np.array([same_items and _identical(answers, condition) for condition in common], dtype=np.bool_)
    family = [[[row] for row in np.flatnonzero(~identical).tolist()]]
    frame["p_holm"], frame["p_tost"] = adjusted(frame["p"], family), adjusted(frame["p_tost"], family)
    judge(frame)
    frame.loc[identical, "verdict"] = IDENTICAL
    keys = [set(each.loc[each["status"] == "ok", "key"]) for each in cells]
    same_results = bool(identical.all()) and (first.root.resolve() == second.root.resolve() or keys[0] == keys[1])
    if same_results:
        frame[["ci_low", "ci_high", "p", "p_holm", "p_tost"]] = math.nan
    _mark_not_comparable(frame, sweeps)
    return Comparison(
        *_folder_names(stores),
        frame,
        _differing(*sweeps),
        (len(answers[0].conditions) - len(common), len(answers[1].conditions) - len(common)),
        (sweeps[0].settings.budget_in_words, sweeps[1].settings.budget_in_words),
        same_items,
        same_results,
        tuple(estimates),
    )


def _mark_not_comparable(frame: pd.DataFrame, sweeps: Sequence[SweepFile]) -> None:
    """Take back the verdicts of conditions with different budgets or scaled learning rates, in place."""
    batches = [sweep.reference_batch for sweep in sweeps]
    other_budget = sweeps[0].settings.budget_in_words != sweeps[1].settings.budget_in_words
    scaled = np.array([depends_on_reference_batch(row) for row in records_of(frame)], dtype=np.bool_)
    rows = scaled & (batches[0] != batches[1]) | other_budget
    frame.loc[rows, ["p_holm", "p_tost", "ci_low", "ci_high"]] = math.nan
    frame.loc[rows, "verdict"] = NOT_COMPARABLE


def _folder_names(stores: Sequence[Store]) -> tuple[str, str]:
    """Return the names of two folders, or their paths where both have one name."""
    first, second = (store.root.resolve().name for store in stores)
    return (str(stores[0].root), str(stores[1].root)) if first == second else (first, second)


def _correct(answers: Answers, condition: Condition, seeds: list[int]) -> Floats:
    """Return which answers are correct: (items, seeds)."""
    return np.stack([answers.correct[condition, seed] for seed in seeds], axis=1)


def _common_seeds(answers: Sequence[Answers], condition: Condition) -> list[int]:
    """Return the seeds with which both folders have finished a condition."""
    first, second = (each.seeds_of(condition) for each in answers)
    return [seed for seed in first if seed in second]


def _paired_difference(answers: Sequence[Answers], condition: Condition, seeds: list[int]) -> Estimate:
    """Estimate the difference item by item and seed by seed."""
    first, second = (_correct(each, condition, seeds) for each in answers)
    return estimate(second - first, answers[0].clips)


def _identical(answers: Sequence[Answers], condition: Condition) -> bool:
    """Whether the same seeds have the same items correct. Both folders scored the same items."""
    first, second = (each.seeds_of(condition) for each in answers)
    if sorted(first) != sorted(second):
        return False
    return bool((_correct(answers[0], condition, first) == _correct(answers[1], condition, first)).all())


def _unpaired_difference(answers: Sequence[Answers], condition: Condition) -> Estimate:
    """Estimate the difference of two independent means (Welch), each with its own variance between seeds.

    What all conditions of a seed share does not cancel between two folders, and many conditions tell no more of it than one:
    nothing is pooled.
    """
    first, second = (estimate(_correct(each, condition, each.seeds_of(condition)), each.clips, weights=1.0) for each in answers)
    total, below = 0.0, 0.0
    for arm in (first, second):
        total += arm.stderr**2
        below += arm.stderr**4 / arm.dof if arm.stderr else 0.0
    return Estimate(
        second.value - first.value,
        math.sqrt(total),
        total**2 / below if below else first.dof,
        min(first.seeds, second.seeds),
        min(first.items, second.items),
        min(first.clips, second.clips),
        first.components and second.components,
        min(first.seed_dof, second.seed_dof),
    )


def _difference(answers: Sequence[Answers], condition: Condition, common: list[int]) -> Estimate:
    """Estimate the difference of a condition that both folders have finished.

    Args:
        answers: of both folders.
        condition: finished in both.
        common: the seeds to pair by; where empty, each folder's mean is over its own seeds.
    """
    found = _paired_difference(answers, condition, common) if common else _unpaired_difference(answers, condition)
    shares = [error_share(len(each.seeds_of(condition)), len(each.planned_seeds)) for each in answers if each.planned_seeds]
    return dataclasses.replace(found, error_share=min(shares, default=1.0))


def _row(answers: Sequence[Answers], condition: Condition, value: Estimate, paired: bool, margin: float) -> Row:
    """Return a condition's row.

    Args:
        answers: of both folders.
        condition: finished in both.
        value: the difference.
        paired: whether it is taken item by item and seed by seed.
        margin: as a share.
    """
    first, second = (float(_correct(each, condition, each.seeds_of(condition)).mean()) for each in answers)
    levels = answers[0].levels(condition)
    return {
        **{axis: levels.get(axis) for axis in AXES},
        "effective_batch_size": effective_batch_size(levels),
        "accuracy_first": first,
        "accuracy_second": second,
        **estimate_columns(value, margin),
        "paired": paired,
        "seeds": value.seeds,
        "seeds_first": len(answers[0].seeds_of(condition)),
        "seeds_second": len(answers[1].seeds_of(condition)),
    }


def _differing(first: SweepFile, second: SweepFile) -> tuple[str, ...]:
    """List the settings that differ between two sweeps."""
    scaled = any(sweep.config.grid.depends_on_reference_batch for sweep in (first, second))
    batches = (first.reference_batch, second.reference_batch)
    lines = [f"reference_batch: {batches[0]} -> {batches[1]}"] if scaled and batches[0] != batches[1] else []
    for part, values_of in _COMPARED_PARTS.items():
        one, two = values_of(first), values_of(second)
        names = [name for name in dict.fromkeys((*one, *two)) if one.get(name) != two.get(name)]
        lines += [f"{part}.{name}: {one.get(name)} -> {two.get(name)}" for name in names]
    return tuple(lines)

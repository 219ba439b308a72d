"""The confirmation of a sweep: the recommended condition against the baseline, with seeds that took no part in the choice.

Of many conditions the one that scored best was partly lucky, so that its accuracy at selection is too high. The same two
conditions with fresh seeds say what is left of the difference (`qtablate sweep --confirm`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from qtablate.axes import Level
from qtablate.records import SweepFile
from qtablate.report.answers import Answers, Condition, axes_of, read_answers
from qtablate.report.contrasts import baseline_condition, baselines
from qtablate.report.csv_files import write_table
from qtablate.report.effects import estimate_columns
from qtablate.report.folder import AXES
from qtablate.report.frames import cell_frame
from qtablate.report.recommendation import mean_accuracy
from qtablate.report.rows import Row, records_of
from qtablate.statistics.estimate import estimate
from qtablate.store import Store

RECOMMENDED, BASELINE = "recommended", "baseline"
"""Roles of the two conditions."""
RECOMMENDED_IS = "the condition of the highest mean accuracy among those that break no rule of accumulation"
"""What `conditions_to_confirm` recommends, in words."""
_DIFFERENCE_COLUMNS = ("difference", "stderr", "ci_low", "ci_high", "dof", "p", "uncertainty")
COLUMNS = (
    "role",
    *AXES,
    "effective_batch_size",
    "accuracy_at_selection",
    "seeds_at_selection",
    "accuracy",
    "difference_at_selection",
    *_DIFFERENCE_COLUMNS,
    "seeds",
    "seeds_wanted",
    "fresh_seeds",
    "n_items",
    "n_clusters",
    "keys",
)


def conditions_to_confirm(answers: Answers, base: Mapping[str, Level]) -> tuple[Condition, Condition] | None:
    """Choose the recommended condition and the condition that has all axes at their baseline levels.

    Args:
        answers: of the finished cells of the grid.
        base: baseline level by axis.

    Returns:
        None where there are not two such conditions; `why_nothing_to_confirm` says why.
    """
    candidates = [condition for condition in answers.conditions if not answers.is_incorrect(condition)]
    baseline = baseline_condition(answers, base)
    if not candidates or baseline is None:
        return None
    recommended = max(candidates, key=lambda condition: mean_accuracy(answers, condition))
    return (recommended, baseline) if recommended != baseline else None


def why_nothing_to_confirm(answers: Answers, base: Mapping[str, Level]) -> str:
    """Say why `conditions_to_confirm` finds no two conditions."""
    if len(answers.conditions) < 2:
        return "fewer than two conditions are finished"
    if all(map(answers.is_incorrect, answers.conditions)):
        return "every finished condition breaks a rule of accumulation"
    if baseline_condition(answers, base):
        return "the recommended condition is the baseline itself"
    return "no finished condition has all axes at their baseline levels"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the finished cells of a grid tell to confirm."""

    pair: tuple[Condition, Condition] | None
    """The recommended and the baseline condition; None where there is nothing to confirm."""
    axes: tuple[str, ...]
    """Names of the axes, in the order of a condition's levels."""
    why_none: str = ""
    """Why there is nothing to confirm."""


def choose(store: Store, sweep: SweepFile) -> Choice:
    """Choose what to confirm from the finished cells of a grid, whatever sweep.json on the disk says.

    Args:
        store: the results folder.
        sweep: the sweep.json whose cells are the grid.
    """
    answers = read_answers(store, cell_frame(store, sweep.cells), sweep)
    base = baselines(answers, {})
    pair = conditions_to_confirm(answers, base)
    return Choice(pair, answers.axes, "" if pair else why_nothing_to_confirm(answers, base))


def confirmation_frame(store: Store, sweep: SweepFile, grid: Answers | None = None) -> pd.DataFrame:
    """Return a row for the recommended and one for the baseline condition; without rows where nothing is confirmed.

    The difference is taken item by item and seed by seed, over the fresh seeds that have finished both conditions. It stands in
    the row of the recommended condition.

    Args:
        store: the results folder.
        sweep: its sweep.json.
        grid: the answers of the finished cells of the grid, which made the choice; None: they are read.
    """
    planned = sweep.confirmation
    if not planned:
        return pd.DataFrame(columns=list(COLUMNS))
    grid = grid or read_answers(store, cell_frame(store, sweep.cells), sweep)
    cells = cell_frame(store, planned)
    fresh = read_answers(store, cells, sweep)
    names = axes_of(sweep.config.grid.batch_size_is)
    rows = records_of(cells)
    pair = list(dict.fromkeys(tuple(row[axis] for axis in names) for row in rows))
    seeds = [seed for seed in dict.fromkeys(cell.seed for cell in planned) if all((one, seed) in fresh.correct for one in pair)]
    out = []
    for role, condition in zip((RECOMMENDED, BASELINE), pair, strict=True):
        own = [row for row in rows if tuple(row[axis] for axis in names) == condition]
        at_selection = grid.seeds_of(condition)
        row: Row = {"role": role, **{axis: own[0][axis] for axis in AXES}}
        row |= {
            "effective_batch_size": own[0]["effective_batch_size"],
            "accuracy_at_selection": mean_accuracy(grid, condition) if at_selection else np.nan,
            "seeds_at_selection": len(at_selection),
            "accuracy": np.mean([fresh.correct[condition, seed].mean() for seed in seeds]) if seeds else np.nan,
            "seeds": len(seeds),
            "seeds_wanted": len({cell.seed for cell in planned}),
            "fresh_seeds": " ".join(map(str, seeds)),
            "keys": " ".join(str(one["key"]) for one in own if one["status"] == "ok"),
            "uncertainty": "",
        }
        out.append(row)
    recommended, baseline = out
    recommended["difference_at_selection"] = recommended["accuracy_at_selection"] - baseline["accuracy_at_selection"]
    recommended |= _difference(fresh, (pair[0], pair[1]), seeds)
    for row in out:
        row |= {"n_items": len(fresh.items), "n_clusters": len(set(fresh.clips.tolist()))} if seeds else {}
    return pd.DataFrame(out, columns=list(COLUMNS))


def _difference(fresh: Answers, pair: tuple[Condition, Condition], seeds: Sequence[int]) -> Row:
    """Estimate the first minus the second condition over these seeds, with the variance between these seeds alone."""
    if not seeds:
        return {}
    columns = [fresh.correct[pair[0], seed] - fresh.correct[pair[1], seed] for seed in seeds]
    value = estimate(np.stack(columns, axis=1), fresh.clips)  # (items, seeds)
    estimated = estimate_columns(value, margin=0.0)  # no verdict is given: what depends on the margin is left out
    return {name: estimated[name] for name in _DIFFERENCE_COLUMNS}


def write_confirmation(store: Store, frame: pd.DataFrame) -> list[Path]:
    """Write confirmation.csv and return its path. One of an earlier choice is replaced, by a table without rows if need be."""
    if frame.empty and not store.table_file("confirmation.csv").exists():
        return []
    return [write_table(store, "confirmation", frame)]

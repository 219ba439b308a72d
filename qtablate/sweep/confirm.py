"""Which cells confirm a sweep. They are known when its grid is finished: of a plan that has run, the recommended and the
baseline condition with seeds that took no part in the choice. Before that, their number and time are."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress

from qtablate.axes import Condition
from qtablate.durations import format_duration
from qtablate.errors import StoreError
from qtablate.grid import Cell, condition_names
from qtablate.records import PlannedCell
from qtablate.report.confirmation import choose
from qtablate.report.folder import finished_before
from qtablate.store import Store
from qtablate.sweep.confirmation import CONDITIONS, Confirmation, fresh_seeds
from qtablate.sweep.forecast import Forecast, makespan
from qtablate.sweep.plan import SweepPlan
from qtablate.sweep.write import sweep_file


def recorded_confirmation(store: Store) -> tuple[PlannedCell, ...]:
    """Return the cells of the confirmation that sweep.json names; none where it cannot be read."""
    with suppress(StoreError):
        return store.read_sweep().confirmation
    return ()


def with_confirmation(plan: SweepPlan, recorded: Sequence[PlannedCell], ended: bool = False) -> SweepPlan:
    """Return the plan with the cells that confirm it, as far as its finished cells tell.

    Cells that an earlier sweep recorded stay as long as the finished cells make the same choice, none of their settings and
    data has changed, and the grid has not taken their seeds. Of these, those that were finished once and are not any more run
    again, asked for or not, as cells of the grid do.

    Args:
        plan: the plan.
        recorded: cells of the confirmation that sweep.json named when the sweep began.
        ended: whether every cell of the grid has been tried; the choice is made without those that failed.
    """
    asked = plan.config.run.confirm
    if not asked and not recorded:
        return dataclasses.replace(plan, confirmation=Confirmation())
    choice = choose(plan.store, sweep_file(plan))
    unfinished = len(plan.unfinished())
    known = ended or not unfinished
    if choice.pair is None:
        remark = f"--confirm: nothing to confirm, {choice.why_none}." if asked and known else ""
        return dataclasses.replace(plan, confirmation=Confirmation(remark=remark))
    cell_of = {_levels(cell.condition, choice.axes): cell for cell in reversed(plan.cells)}
    pair = [cell_of[one] for one in choice.pair]
    seeds = fresh_seeds(plan.config.grid, asked) if known else ()
    kept = _valid_seeds(pair, recorded, plan.config.grid.seeds)
    cells = tuple(dataclasses.replace(cell, seed=seed) for seed in sorted({*seeds, *kept}) for cell in pair)
    finished = finished_before(plan.store)
    wanted = frozenset(cell.key for cell in cells if cell.seed in seeds or cell.key in finished)
    remark = _remark(plan, [cell.condition for cell in pair], seeds, unfinished) if seeds else ""
    return dataclasses.replace(plan, confirmation=Confirmation(cells, wanted, remark))


def _levels(condition: Condition, axes: Sequence[str]) -> tuple[object, ...]:
    """The levels of a condition in the order of the report's axes."""
    return tuple(getattr(condition, axis) for axis in axes)


def _valid_seeds(pair: Sequence[Cell], recorded: Sequence[PlannedCell], seeds_of_grid: Sequence[int]) -> list[int]:
    """Return the recorded seeds of this pair, with these settings and data, that the grid has not taken since."""
    keys = {one.key for one in recorded}
    return [
        seed
        for seed in dict.fromkeys(one.seed for one in recorded)
        if seed not in seeds_of_grid and keys.issuperset(dataclasses.replace(cell, seed=seed).key for cell in pair)
    ]


def _remark(plan: SweepPlan, pair: Sequence[Condition], seeds: Sequence[int], unfinished: int) -> str:
    names = condition_names(plan.conditions())
    recommended, baseline = (names[condition] for condition in pair)
    missing = f"; missing from the choice: {unfinished} of {len(plan.cells)} cells of the grid" if unfinished else ""
    return f"--confirm: {recommended} (recommended) against {baseline} (baseline) with fresh {_span(seeds)}{missing}."


def _span(seeds: Sequence[int]) -> str:
    """`seed 4`, `seeds 4 and 5`, `seeds 4 to 6`."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"seeds {seeds[0]} {'and' if len(seeds) == 2 else 'to'} {seeds[-1]}"


def describe_confirmation(plan: SweepPlan, expected: Forecast) -> str:
    """Say how many cells --confirm adds to a plan, and how long they take at most; empty where it adds none.

    Which two conditions they are of is known only when the grid is finished: until then they count as two of the slowest one.
    """
    asked = plan.config.run.confirm
    if not asked or len(plan.conditions()) < CONDITIONS:
        return ""
    if not plan.unfinished():
        to_run = plan.confirmation_to_run()
        if not to_run:
            return ""
        count, slowest = len(to_run), _slowest(plan, expected, {cell.condition for cell in to_run})
    else:
        count, slowest = CONDITIONS * asked, _slowest(plan, expected, set(plan.conditions()))
    seeds = fresh_seeds(plan.config.grid, asked)
    text = f"then {count} cells of the confirmation (--confirm: {CONDITIONS} conditions, fresh {_span(seeds)})"
    return text + (f", at most about {format_duration(makespan([slowest] * count, plan.workers))}" if slowest else "")


def _slowest(plan: SweepPlan, expected: Forecast, conditions: set[Condition]) -> float | None:
    """Seconds of a cell of the slowest of these conditions, as estimated, or as its finished cells took; None where no time is
    known."""
    seconds = [expected.estimates[one].cell_seconds for one in conditions if one in expected.estimates]
    for cell in plan.cells:
        if cell.condition in conditions and cell.condition not in expected.estimates:
            record = plan.store.read_record(cell.key)
            figures = record.figures if record and record.status == "ok" else None
            parts = ("train_seconds", "eval_seconds", "control_seconds", "diagnose_seconds")
            seconds += [sum(figures[part] for part in parts)] if figures else []
    return max(seconds, default=None)

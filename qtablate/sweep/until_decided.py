"""The rounds of a sweep that adds seeds one by one (--until-decided): what is run before each look, and what no look needs."""

import dataclasses

from qtablate.errors import ConfigError, StoreError
from qtablate.grid import Cell
from qtablate.report.answers import Answers, Condition, read_answers
from qtablate.report.contrasts import baselines
from qtablate.report.frames import cell_frame
from qtablate.report.results import MARGIN
from qtablate.report.until_decided import seeds_enough
from qtablate.statistics.sequential import FIRST_LOOK, looks
from qtablate.sweep.plan import SweepPlan
from qtablate.sweep.selection import has_failed
from qtablate.sweep.write import sweep_file


def rounds(plan: SweepPlan) -> list[tuple[int, ...]]:
    """Return the seeds that are run before each look, with those of earlier looks; all at once without the rule."""
    seeds = plan.config.grid.seeds
    return [seeds[:count] for count in looks(len(seeds))] if plan.config.run.until_decided else [seeds]


def with_decided(plan: SweepPlan) -> SweepPlan:
    """Return the plan without the cells that need not run, as far as its finished cells tell.

    Nothing but these is asked, so that a sweep that was killed decides as it would have done. A cell that has failed is
    missing from its comparisons, and no look waits for it.
    """
    plan = dataclasses.replace(plan, not_needed=frozenset())
    if not plan.config.run.until_decided:
        return plan
    tried = {cell for cell in plan.cells if plan.store.finished(cell.key) or has_failed(cell, plan.store)}
    place = {seed: number for number, seed in enumerate(plan.config.grid.seeds)}
    answers: Answers | None = None
    enough: dict[Condition, int] = {}
    for look in looks(len(place))[:-1]:
        if any(cell not in tried for cell in _needed(plan, answers, enough) if place[cell.seed] < look):
            break
        if answers is None:
            sweep = sweep_file(plan)
            answers = read_answers(plan.store, cell_frame(plan.store, sweep.cells), sweep)
        if not answers.correct:
            break
        enough = seeds_enough(answers, baselines(answers, {}), MARGIN, look)
    needed = set(_needed(plan, answers, enough))
    left_out = frozenset(cell.key for cell in plan.cells if cell not in needed and not plan.store.finished(cell.key))
    return dataclasses.replace(plan, not_needed=left_out)


def _needed(plan: SweepPlan, answers: Answers | None, enough: dict[Condition, int]) -> list[Cell]:
    """Return the cells that looks so far have not found to be needless."""
    if answers is None:
        return plan.cells
    place = {seed: number for number, seed in enumerate(plan.config.grid.seeds)}
    levels = {cell.condition: tuple(_level(cell, axis) for axis in answers.axes) for cell in plan.cells}
    return [cell for cell in plan.cells if place[cell.seed] < enough.get(levels[cell.condition], len(place))]


def _level(cell: Cell, axis: str) -> int | float | str:
    level: int | float | str = getattr(cell.condition, axis)
    return level


def validate_seeds(plan: SweepPlan) -> None:
    """Check that the looks of a folder are those that it began with. Raises ConfigError.

    Each look has its share of the error by the number of planned seeds: more of them, planned after looking, would spend it
    twice.
    """
    if not plan.config.run.until_decided:
        return
    try:
        before = plan.store.read_sweep()
    except StoreError:
        return
    seeds = before.planned_seeds
    same = {cell.key for cell in before.cells} & {cell.key for cell in plan.cells}
    finished = {cell.seed for cell in before.cells if cell.key in same and plan.store.finished(cell.key)}
    if seeds and seeds != plan.config.grid.seeds and len(finished) >= FIRST_LOOK:
        raise ConfigError(
            f"--until-decided: {plan.store.root} began with --seeds {','.join(map(str, seeds))} and has been looked at, each "
            "look with its share of the error by that number; keep these --seeds, or use another --out"
        )

"""Run a sweep from a configuration to its results. The command line, the tests and the examples all call `run_sweep`.

This module never imports torch: processes that need it are started by the executor.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qtablate.config import SweepConfig
from qtablate.errors import QtablateError
from qtablate.execute.events import Event
from qtablate.grid import Cell, cell_names
from qtablate.interrupts import Stopped
from qtablate.model.cache import limit_bytes, prune
from qtablate.records import PlannedCell
from qtablate.sweep.confirm import recorded_confirmation, with_confirmation
from qtablate.sweep.events import OnEvent, SweepEvent
from qtablate.sweep.executors import executor_of
from qtablate.sweep.joined import joined
from qtablate.sweep.plan import SweepPlan, make_plan
from qtablate.sweep.selection import has_failed
from qtablate.sweep.tracking import tracked
from qtablate.sweep.until_decided import rounds, validate_seeds, with_decided
from qtablate.sweep.write import write_sweep_file

if TYPE_CHECKING:
    from qtablate.report.results import Results


def run_sweep(config: SweepConfig, on_event: OnEvent | None = None) -> "Results":
    """Plan a sweep, compute features, train and score every cell that is not finished, confirm what they recommend where the
    configuration says so (`run.confirm`), and write all tables.

    A cell that fails is recorded as failed and stops no other, up to `run.max_failures`: see the column `status` of
    `Results.cells`. The same call tries it again, unless `run.retry_failed` is false, and leaves finished cells as they are.

    Args:
        config: what to run; `SweepConfig()` is the default sweep of the command line.
        on_event: called with each SweepEvent as it happens, in this thread.

    Returns:
        The results folder as pandas frames.

    Raises:
        ConfigError, DataError, ModelError: the configuration cannot be run, or a source cannot be used.
        StoreError: the results folder cannot be written, or a sweep of other settings runs in it.
    """
    from qtablate.report.results import load

    plan = make_plan(config)
    with joined(plan.store, config):
        run_plan(plan, on_event)
    return load(plan.store.root)


def run_plan(plan: SweepPlan, on_event: OnEvent | None = None) -> SweepPlan:
    """Run a plan in its folder, which the caller has `joined`. The plan as it was run is returned: which clips cannot be
    decoded is known only on the way."""
    recorded = recorded_confirmation(plan.store)
    validate_seeds(plan)
    plan = with_confirmation(with_decided(plan), recorded)
    with tracked(plan, on_event) as notify:
        return _run_plan(plan, recorded, notify)


def _run_plan(plan: SweepPlan, recorded: Sequence[PlannedCell], notify: OnEvent) -> SweepPlan:
    write_sweep_file(plan)
    if not plan.to_run() and not plan.confirmation_to_run():
        _notify_skipped(plan, notify)
        return plan
    try:
        _compute_features(plan, notify)
        plan.check_invalid_share()
        plan = with_confirmation(with_decided(plan.rekeyed()), recorded)
        for files in plan.feature_files():
            files.mark_used()
        failures = Failures(plan.config.run.max_failures)
        for number, seeds in enumerate(rounds(plan)):
            if number:
                plan = with_decided(plan)
                write_sweep_file(plan)  # so that a report made meanwhile knows which cells are not needed
            _run_cells(plan, [cell for cell in plan.to_run() if cell.seed in seeds], "cells", notify, failures)
        plan = with_confirmation(plan, recorded, ended=all(has_failed(cell, plan.store) for cell in plan.unfinished()))
        _notify_skipped(plan, notify)
        if plan.confirmation_to_run():
            write_sweep_file(plan)  # before they run, so that a sweep that is killed now shows those that had finished
            _run_cells(plan, plan.confirmation_to_run(), "confirmation", notify, failures)
    except (Stopped, KeyboardInterrupt):  # the command line's, and a script's or a notebook's
        write_sweep_file(plan)
        raise
    write_sweep_file(plan)
    return plan


def _compute_features(plan: SweepPlan, notify: OnEvent) -> None:
    """Compute what is missing, after making room for it: what no sweep used for long goes first, nothing of this one."""
    jobs = plan.feature_jobs()
    if not jobs:
        return
    own = [stem for files in plan.feature_files() for stem, _ in files.chunks]
    prune(next(iter(plan.feature_files())).folder, limit_bytes(), own)
    failures: list[Event] = []
    notify(SweepEvent("features", "begun", plan, jobs={key: key for key, _ in jobs}))
    with closing(executor_of(plan).run_features(jobs)) as events:
        for event in events:
            failures += [event] if event.kind == "failed" else []
            notify(SweepEvent("features", "job", plan, event))
    notify(SweepEvent("features", "ended", plan))
    if failures:
        raise QtablateError(f"{failures[0].key} failed: {failures[0].error}\n{failures[0].traceback}")


def _notify_skipped(plan: SweepPlan, notify: OnEvent) -> None:
    if plan.confirmation.remark and not plan.confirmation.cells:
        notify(SweepEvent("confirmation", "skipped", plan, text=plan.confirmation.remark))


@dataclass
class Failures:
    """Cells of one run that have failed, and how many are allowed."""

    most: int | None
    """None: any number."""
    count: int = 0

    def too_many(self) -> bool:
        """Whether no more cells may be started (--max-failures)."""
        return self.most is not None and self.count >= self.most


def _run_cells(
    plan: SweepPlan, to_run: Sequence[Cell], stage: Literal["cells", "confirmation"], notify: OnEvent, failures: Failures
) -> None:
    """Run cells that are not finished. Those that run when too many have failed are finished, and no more are started."""
    cells = {cell.key: cell for cell in to_run}
    if not cells or failures.too_many():
        return
    text = plan.confirmation.remark if stage == "confirmation" else ""
    notify(SweepEvent(stage, "begun", plan, jobs=cell_names(list(cells.values())), text=text))
    jobs = [(key, plan.cell_job(cell)) for key, cell in cells.items()]
    with closing(executor_of(plan).run_cells(jobs, lambda: not failures.too_many())) as events:
        for event in events:
            failures.count += event.kind == "failed"
            notify(SweepEvent(stage, "job", plan, event))
    notify(SweepEvent(stage, "ended", plan))

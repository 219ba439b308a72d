"""Write sweep.json and the tables of a sweep."""

import dataclasses
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from qtablate.config import SweepConfig
from qtablate.errors import StoreError
from qtablate.grid import RECORD_SCHEMA, Cell, Fingerprints, reference_batch
from qtablate.model.directory import base_scores
from qtablate.records import Host, LeftOut, PlannedCell, SweepFile
from qtablate.report.confirmation import confirmation_frame, write_confirmation
from qtablate.report.folder import validate_overwrite
from qtablate.report.frames import write_tables
from qtablate.versions import versions

if TYPE_CHECKING:
    from qtablate.sweep.plan import SweepPlan


def write_sweep_file(plan: "SweepPlan") -> None:
    """Write sweep.json, then every table that the cells on disk allow. Raises StoreError where that would replace the only
    trace of other finished cells, or cannot be written."""
    store, sweep = plan.store, sweep_file(plan)
    validate_overwrite(store, {cell.key for cell in sweep.all_cells})
    store.write_sweep(sweep)
    if write_tables(store):
        write_confirmation(store, confirmation_frame(store, sweep))


def sweep_file(plan: "SweepPlan") -> SweepFile:
    """Return what sweep.json says of a plan."""
    own = next((cell for cell in plan.cells if cell.condition.frames == plan.model_frames), plan.cells[0])
    prints = own.fingerprints
    problems, items = _left_out(plan, prints)
    return SweepFile(
        schema=RECORD_SCHEMA,
        config=_lasting(plan.config),
        settings=plan.settings,
        reference_batch=reference_batch(plan.config.grid),
        fingerprints=prints,
        num_query_tokens=plan.model_config["num_query_tokens"],
        base_accuracy=base_scores(plan.config.data.model, prints.benchmark),
        items=items,
        cells=_planned(plan.cells),
        confirmation=_planned(plan.confirmation.cells),
        not_needed=tuple(cell.key for cell in plan.cells if cell.key in plan.not_needed),
        problems=problems,
        versions=versions(),
        host=Host(platform.machine(), os.cpu_count() or 1, platform.python_version(), plan.config.run.processes_per_cell),
    )


def _lasting(config: SweepConfig) -> SweepConfig:
    """A configuration without the settings of a single run, which say nothing of the results."""
    of_one_run = {"only": "", "retry_failed": None, "max_failures": None}
    return config.model_copy(update={"run": config.run.model_copy(update=of_one_run)})


def _planned(cells: Iterable[Cell]) -> tuple[PlannedCell, ...]:
    return tuple(PlannedCell(cell.key, cell.seed, dataclasses.asdict(cell.condition)) for cell in cells)


def _left_out(plan: "SweepPlan", prints: Fingerprints) -> tuple[tuple[LeftOut, ...], int]:
    """Everything that is left out of the score, and how many items remain.

    Which clips cannot be decoded is known from the cached features. Where that cache was deleted after the cells were run, an
    earlier sweep.json of the same data and model still says it.
    """
    if plan.chunks_missing():
        with suppress(StoreError):
            before = plan.store.read_sweep()
            if before.fingerprints == prints:
                return before.problems, before.items
    items = plan.undecodable_items()
    of_items = [LeftOut("item", **dataclasses.asdict(one)) for one in (*plan.contents.item_problems, *items)]
    clips = (*plan.contents.sample_problems, *plan.undecodable_training_clips())
    of_samples = [LeftOut("sample", **dataclasses.asdict(one)) for one in clips]
    return (*of_items, *of_samples), plan.contents.n_items - len(items)

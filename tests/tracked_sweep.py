"""Sweeps of a few cells that are finished without training, with trackers; and a tracker that keeps what it is told."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from finished_cells import finish
from settings import SETTINGS, config

from qtablate.axes import Condition
from qtablate.cell.outputs import TRAIN_COLUMNS
from qtablate.execute.events import Event
from qtablate.grid import Cell, Fingerprints
from qtablate.records import of_cell
from qtablate.store import Store
from qtablate.sweep.events import OnEvent, SweepEvent
from qtablate.sweep.plan import Contents, SweepPlan
from qtablate.sweep.tracking import tracked
from qtablate.track import TRACKERS, Kind
from qtablate.track.protocol import CellRun

ACCURACIES: Mapping[int, float | None] = {0: 0.5, 4: 0.7}
GRID = tuple(Condition(tokens, 1, 8, "mixed", "normal" if tokens else "none") for tokens in ACCURACIES)


class FakeTracker:
    """Keeps runs by id."""

    runs: dict[str, CellRun]
    written: list[str]
    closed = 0
    act: Callable[[], None] | None = None
    """Called in place of the first run."""
    url = ""

    def __init__(self, store: Store) -> None:
        pass

    def holds(self, run: CellRun) -> bool:
        return run.id in self.runs

    def log_cell(self, run: CellRun) -> None:
        if act := type(self).act:
            act()
        self.runs[run.id] = run
        self.written.append(run.name)

    def close(self) -> None:
        type(self).closed += 1


def fake(patch: pytest.MonkeyPatch, name: str = "tensorboard") -> type[FakeTracker]:
    """Put a fresh fake in the place of a tracker."""
    made = type("Fake", (FakeTracker,), {"runs": {}, "written": []})
    patch.setattr(f"tracked_sweep.{name}", made, raising=False)
    patch.setitem(TRACKERS, name, Kind(f"tracked_sweep:{name}", "json"))
    return made


def raise_error(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def planned(root: Path, track: Sequence[str], conditions: Sequence[Condition] = GRID, seeds: Sequence[int] = (1,)) -> SweepPlan:
    """A plan without sources."""
    cells = [Cell(one, seed, 1, SETTINGS, Fingerprints("m", "t", "b")) for seed in seeds for one in conditions]
    contents = Contents({}, 0, [], [], Counter())
    return SweepPlan(config(track=track, out=root), SETTINGS, Store(root), cells, {}, contents, {"num_frames": 4}, 1)


def finish_with_steps(cell: Cell, root: Path, steps: int = 5) -> None:
    """Finish a cell whose loss at step n is 1 / n."""
    store = Store(root)
    finish(store, cell, 0.7)
    empty = dict.fromkeys(TRAIN_COLUMNS)
    rows = [empty | {"step": n, "samples_seen": 8 * n, "loss": 1 / n, "lr": 1e-3, "seconds": 2.0} for n in range(1, steps + 1)]
    store.write_rows(store.cell_file(cell.key, "train.csv"), rows, TRAIN_COLUMNS)
    record = store.read_record(cell.key)
    assert record
    store.write_record(dataclasses.replace(record, files=store.checksums(cell.key)))


def sweep(
    root: Path,
    *track: str,
    accuracies: Mapping[int, float | None] = ACCURACIES,
    on_event: OnEvent | None = None,
    **grid: Sequence[Condition] | Sequence[int],
) -> SweepPlan:
    """Run a plan as `run_plan` does: every cell that is not finished gets the accuracy of its extra tokens; None fails it."""
    plan = planned(root, track, **grid)
    with tracked(plan, on_event) as notify:
        to_run = plan.to_run()
        if not to_run:
            return plan
        plan = dataclasses.replace(plan)
        notify(SweepEvent("features", "begun", plan, jobs={"clips": "clips"}))
        notify(SweepEvent("features", "job", plan, Event("clips", "done")))
        notify(SweepEvent("features", "ended", plan))
        notify(SweepEvent("cells", "begun", plan, jobs={cell.key: cell.key for cell in to_run}))
        for cell in to_run:
            notify(SweepEvent("cells", "job", plan, Event(cell.key, "started")))
            accuracy = accuracies[cell.condition.extra_num_query_tokens]
            if accuracy is None:
                plan.store.write_record(of_cell(cell, "failed", error="out of memory"))
            else:
                finish(plan.store, cell, accuracy)
            notify(SweepEvent("cells", "job", plan, Event(cell.key, "failed" if accuracy is None else "done")))
        notify(SweepEvent("cells", "ended", plan))
    return plan

"""Cells that are finished without training, for tests of what a sweep does with them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from settings import SETTINGS, sweep_file

from qtablate.axes import Condition
from qtablate.cell.outputs import TRAIN_COLUMNS
from qtablate.execute.events import Event
from qtablate.grid import Cell, CellSettings, Fingerprints
from qtablate.records import Figures, PlannedCell, TaskScore, of_cell
from qtablate.statistics.clustered import ClusteredMean
from qtablate.store import Store

ITEMS = 60


def answer_row(control: str, item: str, task: str, cluster: str, good: bool) -> dict[str, Any]:
    """A row of answers.csv: the first of four options is correct, and chosen or not."""
    return {
        "control": control,
        "item": item,
        "task": task,
        "cluster": cluster,
        "gold": 0,
        "predicted": int(not good),
        "predicted_per_token": int(not good),
        "correct": int(good),
        "correct_per_token": int(good),
        "options": 4,
        "scores": "-1;-2",
        "tokens": "1;1",
    }


def finish(store: Store, cell: Cell, accuracy: float) -> None:
    """Write the files of a cell whose answers are correct with this probability; common random numbers by seed and item."""
    right = np.random.default_rng(cell.seed).uniform(size=ITEMS) < accuracy
    rows = [
        answer_row(control, f"item-{n:03d}", "ab"[n % 2], f"clip-{n // 2}", good)
        for control, answers in (("full", right), ("blind", np.arange(ITEMS) % 4 == 0))
        for n, good in enumerate(answers)
    ]
    store.write_rows(store.cell_file(cell.key, "answers.csv"), rows, tuple(rows[0]))
    step = dict.fromkeys(TRAIN_COLUMNS) | {"step": 1, "loss": 0.5}
    store.write_rows(store.cell_file(cell.key, "train.csv"), [step], TRAIN_COLUMNS)
    value, blind = ClusteredMean(float(right.mean()), 0.02, ITEMS), ClusteredMean(0.25, 0.02, ITEMS)
    figures = Figures(
        steps=8,
        samples_seen=64,
        supervised_tokens=1000,
        skipped_windows=0,
        overflows=0,
        peak_learning_rate=1e-3,
        truncated_samples=0,
        dropout=False,
        train_loss=0.5,
        accuracy=value,
        accuracy_macro=value.value,
        accuracy_per_token=value,
        controls={"blind": blind},
        visual_gain=ClusteredMean(0.1, 0.02, ITEMS),
        temporal_gain=ClusteredMean(None, None, 0),
        chance=0.25,
        tasks=tuple(TaskScore(task, value, value, {"blind": blind}, 0.25) for task in "ab"),
        visual_tokens=2 + cell.condition.extra_num_query_tokens,
        trainable_params=10,
        frozen_params=10,
        extra_query_tokens="",
        query_diversity=None,
        train_seconds=10.0,
        eval_seconds=1.0,
        control_seconds=1.0,
        diagnose_seconds=0.0,
        peak_memory_mb=500.0,
    )
    store.write_record(dataclasses.replace(of_cell(cell, "ok", figures), files=store.checksums(cell.key)))


class Finisher:
    """Stands for `run_jobs`: finishes every cell at the accuracy that a function says; None fails it."""

    def __init__(self, accuracy: Callable[[Cell], float | None]) -> None:
        self.accuracy = accuracy
        self.ran: list[tuple[int, int]] = []
        """(extra tokens, seed) of every cell that was run, in their order."""

    def __call__(self, function: str, jobs: Sequence[tuple[str, Any]], *_: object, **__: object) -> Iterator[Event]:
        for key, job in jobs:
            yield Event(key, "started")
            if function.endswith("run_cell"):
                self.ran.append((job.cell.condition.extra_num_query_tokens, job.cell.seed))
                accuracy = self.accuracy(job.cell)
                if accuracy is None:
                    yield Event(key, "failed", error="out of memory")
                    continue
                finish(Store(job.store), job.cell, accuracy)
            yield Event(key, "done")


def finished_folder(
    root: Path,
    accuracies: Mapping[int, float],
    seeds: Sequence[int] = (1, 2, 3),
    conditions: Sequence[Condition] = (),
    unfinished: Sequence[tuple[int, int]] = (),
    failed: Sequence[tuple[int, int]] = (),
    benchmark: str = "b",
    settings: CellSettings = SETTINGS,
    **changes: Any,
) -> Store:
    """A sweep without a plan or training: every cell has the accuracy of its extra tokens.

    Args:
        root: its folder.
        accuracies: by extra tokens.
        seeds: of every condition.
        conditions: those of the sweep; empty: one for each number of extra tokens.
        unfinished, failed: (extra tokens, seed) of cells that are not finished.
        benchmark: the fingerprint of the items.
        settings: what the cells share.
        changes: of sweep.json.
    """
    store = Store(root)
    cells = [
        Cell(condition, seed, 1, settings, Fingerprints("m", "t", benchmark))
        for condition in conditions or [Condition(n, 1, 8, "mixed", "normal" if n else "none") for n in accuracies]
        for seed in seeds
    ]
    for cell in cells:
        tokens = cell.condition.extra_num_query_tokens
        if (tokens, cell.seed) in failed:
            store.write_record(of_cell(cell, "failed", error="out of memory"))
        elif (tokens, cell.seed) not in unfinished:
            finish(store, cell, accuracies[tokens])
    planned = [PlannedCell(cell.key, cell.seed, dataclasses.asdict(cell.condition)) for cell in cells]
    store.write_sweep(sweep_file(planned, benchmark, ITEMS, settings=settings, **changes))
    return store


def rewrite(store: Store, **figures: Any) -> None:
    """Change figures of every finished cell, as if it had measured them."""
    for key in sorted(path.name for path in store.root.glob("cells/*")):
        record = store.read_record(key)
        if record and record.figures:
            store.write_record(dataclasses.replace(record, figures=record.figures | figures))

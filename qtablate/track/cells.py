"""Read a cell's files as a run of a tracker."""

import csv
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress

from qtablate.axes import HEADLINE, incorrect_levels, levels_of, varying_axes
from qtablate.config import DataConfig
from qtablate.grid import Cell, condition_names
from qtablate.records import Record
from qtablate.store import Store
from qtablate.track.protocol import CellRun, Value


@dataclasses.dataclass(frozen=True)
class Naming:
    """How the cells of a sweep are called, and what they share."""

    groups: Mapping[str, str]
    """The name of its condition, by cell."""
    axes: tuple[str, ...]
    """Columns of the axes that vary, and of those that every table shows."""
    data: DataConfig

    @classmethod
    def of(cls, cells: Sequence[Cell], data: DataConfig) -> "Naming":
        """Return the names of these cells."""
        names = condition_names([cell.condition for cell in cells])
        varying = varying_axes(levels_of([cell.condition for cell in cells]))
        axes = [axis.column for axis in dict.fromkeys([*HEADLINE, *varying])]
        return cls({cell.key: names[cell.condition] for cell in cells}, tuple(axes), data)


def read_cell_run(store: Store, cell: Cell, naming: Naming) -> CellRun | None:
    """Return the run of a cell; None where it is neither finished nor failed."""
    state = store.state(cell.key)
    record = state.record
    if record is None or state.status not in ("ok", "failed"):
        return None
    group = naming.groups[cell.key]
    condition = dataclasses.asdict(cell.condition)
    given = {"model": naming.data.model, "bench": naming.data.bench, "train": naming.data.train}
    prints = {f"fingerprint_{name}": value for name, value in dataclasses.asdict(cell.fingerprints).items()}
    shared = {**given, **dataclasses.asdict(cell.settings), **prints}
    config = {
        **condition,
        "effective_batch_size": cell.condition.effective_batch_size,
        "incorrect": incorrect_levels(condition),
        "seed": cell.seed,
        "cell": cell.key,
        **{name: _plain(value) for name, value in shared.items() if value is not None and name not in condition},
    }
    content = json.dumps([dataclasses.asdict(record), group, sorted(naming.axes)], sort_keys=True)
    sweep = store.root.resolve().name
    return CellRun(
        id=f"{slug(sweep)}-{cell.key}",
        key=cell.key,
        name=f"{group}, seed {cell.seed}",
        group=group,
        sweep=sweep,
        seed=cell.seed,
        levels={name: condition[name] for name in naming.axes},
        config=config,
        figures=_figures(record),
        tasks={task["task"]: task["accuracy"]["value"] for task in (record.figures or {}).get("tasks", ())},
        steps=_steps(store, cell.key),
        ended=store.cell_file(cell.key, "record.json").stat().st_mtime,
        digest=hashlib.sha256(content.encode()).hexdigest()[:16],
        error=(record.error or "failed") if state.status == "failed" else "",
    )


def slug(text: str) -> str:
    """Return text as part of a file's name or an id: letters, digits, `_`, `.`, `+` and `-`."""
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-") or "sweep"


def _plain(value: object) -> Value:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _figures(record: Record) -> dict[str, float]:
    """Return the numbers of a finished cell, by the columns of cells.csv."""
    figures = record.figures or {}
    found: dict[str, float | None] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping) and "value" in value:
            found |= {name: value["value"], f"{name}_stderr": value["stderr"]}
        elif isinstance(value, (int, float)):
            found[name] = float(value)
    found |= {f"{control}_accuracy": score["value"] for control, score in figures.get("controls", {}).items()}
    if figures:
        found["n_items"] = figures["accuracy"]["n"]
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _steps(store: Store, key: str) -> tuple[Mapping[str, float], ...]:
    """Return the rows of train.csv, which a cell that failed early has not."""
    try:
        with store.cell_file(key, "train.csv").open(newline="") as file:
            rows = [{name: text for name, text in row.items() if text} for row in csv.DictReader(file)]
    except OSError:
        return ()
    steps = []
    for row in rows:
        with suppress(ValueError):
            steps.append({name: float(text) for name, text in row.items()})
    return tuple(row for row in steps if "step" in row)

"""The report of a results folder, from files alone: sheets for the terminal, CSV and Markdown for the disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qtablate.analyse import contrasts, cost, frames, gate, held, plots, tables
from qtablate.analyse.sheet import Sheet
from qtablate.files import write_text
from qtablate.store import Store

MARGIN = 0.02
"""Differences below this share are of no importance unless the user says otherwise."""
AT = "7b"


@dataclass(frozen=True, slots=True)
class Report:
    sheets: tuple[Sheet, ...]
    files: tuple[Path, ...]


def report(store: Store, baseline: Mapping[str, str] = MappingProxyType({}), margin: float = MARGIN, at: str = AT) -> Report:
    """Read a folder, write its tables, and return what to show. `baseline` names levels of axes, `margin` is a share, `at`
    the language model that costs are told for. Raises StoreError when the folder is no sweep's, and QtablateError for a
    baseline or a model that is not there."""
    model = cost.decoder(at)
    sweep = frames.checked(store)
    cells = frames.cells(store)
    answers = contrasts.read(store, cells, sweep["grid"]["hold"])
    differences = contrasts.table(answers, contrasts.contrasts(answers, contrasts.baselines(answers, baseline)), margin)
    files = [*frames.write_tables(store), frames.write_table(store, "contrasts", differences)]
    tokens = held.table(store, cells, margin)
    if held.diagnosed(store, cells):
        files += [frames.write_table(store, "tokens", tokens), frames.write_table(store, "held", held.parts(store, cells))]
    task_table = frames.tasks(store)
    conditions = frames.summary(store, cells)
    costs = cost.costs(conditions, answers, model, margin)
    files.append(frames.write_table(store, "cost", costs))
    sheets = [tables.summary_sheet(conditions)]
    supported, controls = tables.contrast_sheet(differences), tables.control_sheet(conditions)
    sheets += [s for s in (supported, controls, tables.held_sheet(tokens, margin)) if s]
    priced = tables.cost_sheet(costs, cost.TEXT, cost.advice(costs, margin))
    sheets += [priced] if priced else []
    if len(task_table):
        sheets.append(tables.task_sheet(task_table, sweep.get("base") or {}))
    by_task, coincide = tables.task_contrast_sheet(differences), tables.gate_sheet(gate.pairs(store, cells))
    sheets += [s for s in (by_task, coincide, tables.failure_sheet(cells), tables.problem_sheet(sweep["problems"])) if s]
    files += plots.look_pictures(store, cells)
    path = store.table_file("report.md")
    write_text(path, _markdown(store.root.name, sweep, sheets))
    return Report(tuple(sheets), (*files, path))


def _markdown(name: str, sweep: dict[str, Any], sheets: list[Sheet]) -> str:
    recipe, sources = sweep["recipe"], sweep["sources"]
    lines = [
        f"# qtablate: {name}",
        "",
        f"Model `{sources['model']}`, benchmark `{sources['bench']}` ({sweep['items']} items), training `{sources['train']}`; "
        f"{recipe['samples']} samples a cell, {100 * recipe['image_share']:g} % images; hold {sweep['grid']['hold']}; "
        f"peak learning rate {recipe['learning_rate']:g}; language model "
        f"{'trained' if recipe['train_language_model'] else 'frozen'}.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in sweep["versions"].items()) + ".",
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(sheet.markdown() for sheet in sheets) + "\n"

"""The report of a results folder, from files alone: sheets for the terminal, CSV and Markdown for the disk. Nothing is written
where the cells behind the tables are gone: what would replace them has less behind it."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from qtablate.report import batch_split_check, cost, frames, plots, scorer_agreement, tables, token_ablation, training
from qtablate.report.results import AT, MARGIN, Results
from qtablate.store import Store
from qtablate.table import Table


@dataclass(frozen=True, slots=True)
class Report:
    tables: tuple[Table, ...]
    files: tuple[Path, ...]
    """What was written."""
    remark: str = ""
    """Why nothing was written."""


def report(store: Store, baseline: Mapping[str, str] = MappingProxyType({}), margin: float = MARGIN, at: str = AT) -> Report:
    """Read a folder, write its tables, and return what to show. `baseline` names levels of axes, `margin` is a share, `at`
    the language model that costs are told for. Raises StoreError when the folder is no sweep's, and QtablateError for a
    baseline or a model that is not there."""
    found = Results(store.root, baseline, margin, at)
    lost = Counter(one["subject"].rpartition("-")[0] for one in found.sweep["problems"] if one.get("of", "item") == "item")
    mvbench = found.sweep["sources"]["bench"].startswith("mvbench:")
    made = [
        tables.summary_table(found.summary, f"{frames.budget(found.sweep)} a cell"),
        training.sheet(found.training),
        tables.contrast_table(found.contrasts),
        tables.control_table(found.summary),
        tables.scorer_table(found.scorer_agreement),
        tables.diagnostics_table(found.query_diagnostics, margin),
        tables.cost_table(found.cost, cost.TEXT, cost.advice(found.cost, found.summary, margin)),
        tables.task_table(found.tasks, found.sweep.get("base") or {}, lost) if len(found.tasks) else None,
        tables.published_table(found.tasks) if mvbench else None,
        tables.task_contrast_table(found.contrasts),
        None if found.tables_only else tables.batch_split_table(batch_split_check.pairs(store, found.cells), found.cells),
        tables.software_table(found.cells),
        tables.failure_table(found.cells),
        tables.left_out_table([*found.sweep["problems"], *found.unscored]),
    ]
    shown = tuple(table for table in made if table)
    if found.tables_only:
        remark = f"Shown from the tables of {store.root} as they were written: {found.tables_only}. Nothing was written."
        return Report(shown, (), remark)
    if not os.access(store.root, os.W_OK):
        return Report(shown, (), f"Not written: no permission to write in {store.root}.")
    return Report(shown, _write(store, found, shown))


def _write(store: Store, found: Results, shown: Sequence[Table]) -> tuple[Path, ...]:
    """All tables as CSV, the pictures, and report.md. Raises StoreError."""
    written = ["cells", "tasks", "summary", "training", "contrasts", "cost"]
    if token_ablation.diagnosed(store, found.cells):
        written += ["query_diagnostics", "token_ablation"]
    if scorer_agreement.kept(store, found.cells):
        written.append("scorer_agreement")
    files = [frames.write_table(store, name, getattr(found, name)) for name in written]
    files += plots.look_pictures(store, found.cells)
    path = store.table_file("report.md")
    store.write_file(path, _markdown(store.root.name, found, shown))
    return (*files, path)


def _markdown(name: str, found: Results, shown: Sequence[Table]) -> str:
    sweep = found.sweep
    recipe, sources = sweep["recipe"], sweep["sources"]
    lines = [
        f"# qtablate: {name}",
        "",
        f"Model `{sources['model']}`, benchmark `{sources['bench']}` ({sweep['items']} items), training `{sources['train']}`; "
        f"held: {frames.budget(sweep)} a cell, {100 * recipe['image_share']:g} % images; hold {sweep['grid']['hold']}; "
        f"peak learning rate {recipe['learning_rate']:g}; language model "
        f"{'trained' if recipe['train_language_model'] else 'frozen'}.",
        "",
        *(f"Made by {one}." for one in dict.fromkeys(tables.made_by(found.cells))),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.markdown() for table in shown) + "\n"

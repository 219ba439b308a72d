"""The report of a results folder, from files alone: tables for the terminal, CSV and Markdown for the disk.

Nothing is written where the cells behind the tables are gone: what would replace the tables has fewer cells behind it.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from qtablate.report import scorer_agreement, tables, token_ablation
from qtablate.report.batch_split_check import split_pairs
from qtablate.report.confirmation import write_confirmation
from qtablate.report.cost import TEXT_TOKENS
from qtablate.report.csv_files import write_table
from qtablate.report.headline import Headline
from qtablate.report.plots import draw_plots
from qtablate.report.results import COST_MODEL, MARGIN, Results
from qtablate.store import Store
from qtablate.table import Table


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows and has written."""

    headline: Headline
    """The first lines."""
    tables: tuple[Table, ...]
    files: tuple[Path, ...]
    """The files that were written."""
    remark: str = ""
    """Why nothing was written."""


def report(
    store: Store,
    baseline: Mapping[str, str] = MappingProxyType({}),
    margin: float = MARGIN,
    cost_model: str = COST_MODEL,
) -> Report:
    """Read a folder, write its tables, and return what to show.

    Args:
        store: the results folder.
        baseline: levels that others are compared with, by option.
        margin: difference of accuracies, as a share, below which conditions are equivalent.
        cost_model: the language model whose costs are computed.

    Raises:
        StoreError: the folder is no sweep's.
        QtablateError: a baseline or a language model that is not there.
    """
    results = Results(store.root, baseline, margin, cost_model)
    shown = _tables(results, margin)
    if results.tables_only:
        remark = f"Shown from the tables of {store.root} as they were written: {results.tables_only}. Nothing was written."
        return Report(results.headline, shown, (), remark)
    if not os.access(store.root, os.W_OK):
        return Report(results.headline, shown, (), f"Nothing was written: no permission to write in {store.root}.")
    return Report(results.headline, shown, _write(results, shown))


def _tables(results: Results, margin: float) -> tuple[Table, ...]:
    """Make the tables of a report; those that would be empty are left out."""
    sweep = results.sweep
    left_out = Counter(problem.subject.rpartition("-")[0] for problem in sweep.problems if problem.of == "item")
    made = [
        tables.summary_table(results.summary, f"{sweep.settings.budget_in_words} per cell"),
        tables.training_table(results.training),
        tables.contrast_table(results.contrasts),
        tables.likelihood_table(results.contrasts),
        tables.secondary_contrast_table(results.contrasts),
        tables.control_table(results.summary),
        tables.scorer_table(results.scorer_agreement),
        tables.diagnostics_table(results.query_diagnostics, margin),
        tables.cost_table(results.cost, TEXT_TOKENS),
        tables.confirmation_table(results.confirmation, results.cells),
        tables.task_table(results.tasks, sweep.base_accuracy, left_out) if len(results.tasks) else None,
        tables.published_table(results.tasks) if sweep.config.data.bench.startswith("mvbench:") else None,
        tables.task_contrast_table(results.contrasts),
        None if results.tables_only else tables.batch_split_table(split_pairs(results.store, results.cells), results.cells),
        tables.software_table(results.all_cells),
        tables.failure_table(results.all_cells),
        tables.left_out_table([*sweep.problems, *results.unscored]),
    ]
    return tuple(table for table in made if table)


def _write(results: Results, shown: Sequence[Table]) -> tuple[Path, ...]:
    """Write all tables as CSV, the plots, and report.md. Raises StoreError."""
    store = results.store
    names = ["cells", "tasks", "summary", "training", "contrasts", "cost"]
    if token_ablation.diagnosed_cells(store, results.cells):
        names += ["query_diagnostics", "token_ablation"]
    if scorer_agreement.scored_cells(store, results.cells):
        names.append("scorer_agreement")
    files = [write_table(store, name, getattr(results, name)) for name in names]
    files += write_confirmation(store, results.confirmation)
    files += [path for plot in draw_plots(results) for path in (plot.path_png, plot.path_svg)]
    path = store.table_file("report.md")
    store.write_file(path, _markdown(results, shown))
    return (*files, path)


def _markdown(results: Results, shown: Sequence[Table]) -> str:
    """Return the text of report.md."""
    sweep = results.sweep
    settings, data = sweep.settings, sweep.config.data
    lines = [
        f"# qtablate: {results.store.root.name}",
        "",
        *(line + "\n" for line in results.headline.lines),
        f"Model `{data.model}`, benchmark `{data.bench}` ({sweep.items} items), training `{data.train}`; "
        f"budget: {settings.budget_in_words} per cell, {100 * settings.image_ratio:g} % images; fixed: "
        f"{sweep.config.grid.batch_size_is}; peak learning rate {settings.learning_rate:g}; language model "
        f"{'trained' if settings.train_language_model else 'frozen'}.",
        "",
        *(f"Made by {software}." for software in dict.fromkeys(tables.software_of(results.cells))),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.markdown() for table in shown) + "\n"

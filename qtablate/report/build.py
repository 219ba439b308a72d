"""The report of a results folder, from files alone: what to show, and the tables, plots and texts on the disk.

Nothing is written where the cells behind the tables are gone: what would replace the tables has fewer cells behind it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from qtablate.environment import switch
from qtablate.report import formats, scorer_agreement, token_ablation
from qtablate.report.confirmation import write_confirmation
from qtablate.report.csv_files import write_table
from qtablate.report.headline import Headline
from qtablate.report.page.page import write_page
from qtablate.report.plots import draw_plots
from qtablate.report.results import COST_MODEL, MARGIN, Results
from qtablate.report.sections import WHOLE, tables_of
from qtablate.store import Store
from qtablate.table import Table

FIGURES = "QTABLATE_FIGURES"
"""Environment variable that turns plots and report.html off."""


@dataclass(frozen=True, slots=True)
class Report:
    """A results folder, and what was written of it."""

    results: Results
    files: tuple[Path, ...]
    """The files that were written."""
    remark: str = ""
    """Why nothing was written."""

    @property
    def headline(self) -> Headline:
        """The answer, what was compared, and warnings."""
        return self.results.headline

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables that apply."""
        return tables_of(self.results)


def report(
    store: Store,
    baseline: Mapping[str, str] = MappingProxyType({}),
    margin: float = MARGIN,
    cost_model: str = COST_MODEL,
    figures: bool = True,
    run_custom: bool = False,
) -> Report:
    """Read a folder and write its tables, plots and texts.

    Args:
        store: the results folder.
        baseline: levels that others are compared with, by option.
        margin: difference of accuracies, as a share, below which conditions are equivalent.
        cost_model: the language model whose costs are computed.
        figures: whether to draw the plots and write report.html, too, which takes some seconds.
        run_custom: whether a benchmark that is a Python file may be run, to show its items in report.html.

    Raises:
        StoreError: the folder is no sweep's.
        QtablateError: a baseline or a language model that is not there, or QTABLATE_FIGURES is neither on nor off.
    """
    figures = figures and switch(FIGURES, True)
    results = Results(store.root, baseline, margin, cost_model)
    if results.tables_only:
        why = f"Shown from the tables of {store.root} as they were written: {results.tables_only}. Nothing was written."
        return Report(results, (), why)
    if not os.access(store.root, os.W_OK):
        return Report(results, (), f"Nothing was written: no permission to write in {store.root}.")
    return Report(results, _write(results, figures, run_custom))


def _write(results: Results, figures: bool, run_custom: bool) -> tuple[Path, ...]:
    """Write all tables as CSV, the plots, report.md and report.html. Raises StoreError."""
    store = results.store
    names = ["cells", "tasks", "summary", "training", "contrasts", "cost", "items"]
    if token_ablation.diagnosed_cells(store, results.cells):
        names += ["query_diagnostics", "token_ablation"]
    if scorer_agreement.scored_cells(store, results.cells):
        names.append("scorer_agreement")
    files = [write_table(store, name, getattr(results, name)) for name in names]
    files += write_confirmation(store, results.confirmation)
    path = store.table_file("report.md")
    store.write_file(path, formats.markdown(results, WHOLE))
    files.append(path)
    if figures:
        plots = draw_plots(results)
        files += [path for plot in plots for path in (plot.path_png, plot.path_svg)]
        files.append(write_page(results, plots, run_custom))
    return tuple(files)

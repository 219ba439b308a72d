"""The sections of a report: what each answers, its tables, and the frame of its figures.

A new table is one function in tables/ and one line here.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from qtablate.axes import ACCUMULATION, TOKENS
from qtablate.report import tables
from qtablate.report.cost import TEXT_TOKENS
from qtablate.report.results import Results
from qtablate.table import Table


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report."""

    name: str
    """By which it is asked for on the command line."""
    title: str
    question: str
    """What it answers."""
    tables: Callable[[Results], Sequence[Table | None]]
    """Those that do not apply are None."""
    frame: Callable[[Results], pd.DataFrame]
    """Its figures, for CSV and JSON."""
    excerpt: bool = False
    """Whether its tables are a part of another section's, so that a whole report leaves it out."""


def _conditions(results: Results) -> Sequence[Table | None]:
    return [
        tables.summary_table(results.summary, f"{results.sweep.settings.budget_in_words} per cell"),
        tables.confirmation_table(results.confirmation, results.cells),
        tables.software_table(results.all_cells),
        tables.failure_table(results.all_cells),
    ]


def _contrasts(results: Results) -> Sequence[Table | None]:
    return _contrast_tables(results.contrasts)


def _contrast_tables(contrasts: pd.DataFrame) -> Sequence[Table | None]:
    return [
        tables.contrast_table(contrasts),
        tables.likelihood_table(contrasts),
        tables.secondary_contrast_table(contrasts),
    ]


def _of_axis(results: Results, column: str) -> pd.DataFrame:
    """Return the contrasts of an axis, and its interactions."""
    contrasts = results.contrasts
    return contrasts[(contrasts["axis"] == column) | (contrasts["other_axis"] == column)]


def _tokens(results: Results) -> Sequence[Table | None]:
    diagnostics = tables.diagnostics_table(results.query_diagnostics, results.margin)
    return [*_contrast_tables(_of_axis(results, TOKENS.column)), diagnostics]


def _accumulation(results: Results) -> Sequence[Table | None]:
    return [*_contrast_tables(_of_axis(results, ACCUMULATION.column)), _split_check(results)]


def _split_check(results: Results) -> Table | None:
    return tables.batch_split_table(results.split_pairs, results.cells)


def _tasks(results: Results) -> Sequence[Table | None]:
    sweep = results.sweep
    left_out = Counter(problem.subject.rpartition("-")[0] for problem in sweep.problems if problem.of == "item")
    return [
        tables.task_table(results.tasks, sweep.base_accuracy, left_out) if len(results.tasks) else None,
        tables.published_table(results.tasks) if sweep.config.data.bench.startswith("mvbench:") else None,
        tables.task_contrast_table(results.contrasts),
    ]


def _controls(results: Results) -> Sequence[Table | None]:
    return [tables.control_table(results.summary), tables.scorer_table(results.scorer_agreement)]


def _training(results: Results) -> Sequence[Table | None]:
    return [
        tables.training_table(results.training),
        tables.diagnostics_table(results.query_diagnostics, results.margin),
        _split_check(results),
    ]


def _cost(results: Results) -> Sequence[Table | None]:
    return [tables.cost_table(results.cost, TEXT_TOKENS)]


def _items(results: Results) -> Sequence[Table | None]:
    return [tables.item_table(results.items), tables.left_out_table([*results.sweep.problems, *results.unscored])]


SECTIONS = (
    Section("conditions", "Conditions", "How accurate is each condition?", _conditions, lambda one: one.summary),
    Section("contrasts", "Contrasts", "Which differences do the data support?", _contrasts, lambda one: one.contrasts),
    Section(
        "tokens",
        "Extra query tokens",
        "What do extra query tokens give?",
        _tokens,
        lambda one: _of_axis(one, TOKENS.column),
        excerpt=True,
    ),
    Section(
        "accumulation",
        "Gradient accumulation",
        "What does gradient accumulation cost?",
        _accumulation,
        lambda one: _of_axis(one, ACCUMULATION.column),
        excerpt=True,
    ),
    Section("tasks", "Tasks", "On which tasks?", _tasks, lambda one: one.tasks),
    Section("controls", "Controls", "Does the model look at the clip?", _controls, lambda one: one.summary),
    Section("training", "Training", "How did the cells train?", _training, lambda one: one.training),
    Section("cost", "Cost", "What does a condition cost?", _cost, lambda one: one.cost),
    Section("items", "Items", "Which items do conditions answer?", _items, lambda one: one.items),
)
"""In the order of the report."""
BY_NAME = {section.name: section for section in SECTIONS}
WHOLE = tuple(section for section in SECTIONS if not section.excerpt)
"""The sections of a whole report."""


def tables_of(results: Results, sections: Sequence[Section] = WHOLE) -> tuple[Table, ...]:
    """Return the tables of these sections that apply."""
    return tuple(table for section in sections for table in section.tables(results) if table)

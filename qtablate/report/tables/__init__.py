"""The tables of the report: frames in, text out. A new table is one function here and one line in report/sections.py."""

from qtablate.report.tables.comparison import comparison_sentence, comparison_table
from qtablate.report.tables.confirmation import confirmation_table
from qtablate.report.tables.contrasts import (
    contrast_sentences,
    contrast_table,
    likelihood_table,
    secondary_contrast_table,
    task_contrast_table,
)
from qtablate.report.tables.costs import cost_table
from qtablate.report.tables.diagnostics import diagnostics_table
from qtablate.report.tables.items import item_table
from qtablate.report.tables.problems import failure_table, left_out_table, software_of, software_table
from qtablate.report.tables.scores import control_table, scorer_table
from qtablate.report.tables.splits import batch_split_table
from qtablate.report.tables.summary import summary_table
from qtablate.report.tables.tasks import published_table, task_table
from qtablate.report.tables.training import training_table

__all__ = [
    "batch_split_table",
    "comparison_sentence",
    "comparison_table",
    "confirmation_table",
    "contrast_sentences",
    "contrast_table",
    "control_table",
    "cost_table",
    "diagnostics_table",
    "failure_table",
    "item_table",
    "left_out_table",
    "likelihood_table",
    "published_table",
    "scorer_table",
    "secondary_contrast_table",
    "software_of",
    "software_table",
    "summary_table",
    "task_contrast_table",
    "task_table",
    "training_table",
]

"""A results folder in Python: tidy pandas frames that hold every number of the report."""

import html
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
from rich.console import Console

from qtablate.errors import StoreError
from qtablate.records import LeftOut, SweepFile
from qtablate.report import (
    confirmation,
    cost,
    effects,
    folder,
    frames,
    items,
    query_diagnostics,
    scorer_agreement,
    token_ablation,
    training,
)
from qtablate.report.answers import Answers, read_answers
from qtablate.report.batch_split_check import SplitPair, split_pairs
from qtablate.report.contrasts import baselines, contrasts
from qtablate.report.csv_files import read_table
from qtablate.report.decoders import read_decoder
from qtablate.report.first_screen import condition_table, first_screen
from qtablate.report.headline import Headline, headline
from qtablate.store import Store

MARGIN = 0.02
"""Default margin: differences of accuracies below this share do not matter."""
COST_MODEL = "7b"
"""Default language model of the costs, a key of decoders.DECODERS."""


class Results:
    """Frames of one results folder, each made when it is first read. Shares are shares, not percent; missing is missing.

    A folder whose cells are gone, as after a copy without cells/, is read from its CSV tables as they were written.
    """

    def __init__(self, root: Path | str, baseline: Mapping[str, str], margin: float, cost_model: str) -> None:
        """Open a results folder: see `load` for the arguments and errors."""
        self._decoder = read_decoder(cost_model)
        self.store = Store(Path(root))
        """Access to the files of the folder."""
        self.sweep: SweepFile = self.store.read_sweep()
        """sweep.json: the configuration, what it came to, fingerprints, versions, what was left out."""
        self._baseline = dict(baseline)
        self.margin = margin
        """Difference of accuracies, as a share, below which conditions are equivalent."""
        self.tables_only = folder.tables_only(self.store, self.sweep)
        """Why the frames are the CSV tables as they were written; empty where they are made from the cells' files."""
        if self.tables_only and (baseline or margin != MARGIN or cost_model != COST_MODEL):
            raise StoreError(
                f"{self.store.root} can only be read from its tables ({self.tables_only}), to which no other --baseline, "
                "--margin or --cost-model can be applied: leave them out, or run its sweep again"
            )

    def __repr__(self) -> str:
        """Return the first screen of the report as text of 80 columns."""
        console = Console(width=80, color_system=None, file=io.StringIO())
        with console.capture() as capture:
            console.print(*first_screen(self.headline, self.summary, self.cost, 80), sep="\n")
        return capture.get().rstrip()

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        table = condition_table(self.summary, self.cost, len(self.summary))
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in (self.headline.scope, *self.headline.warnings) if line)
        return f"<p><strong>{html.escape(self.headline.answer)}</strong></p>{table.html()}{lines}"

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row per cell of the grid, finished or not."""
        return self._frame("cells", frames.CELL_COLUMNS, lambda: self._records.cells)

    @cached_property
    def all_cells(self) -> pd.DataFrame:
        """`cells`, and a row per cell of the confirmation, as far as its files are there."""
        if self.tables_only or not self.sweep.confirmation:
            return self.cells
        return frames.cell_frame(self.store, self.sweep.all_cells, self.sweep.not_needed)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """A row per finished cell and task."""
        return self._frame("tasks", frames.TASK_COLUMNS, lambda: self._records.tasks)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per condition, over its finished seeds."""
        return self._frame("summary", frames.SUMMARY_COLUMNS, lambda: frames.summary_frame(self.store, self.cells))

    @cached_property
    def training(self) -> pd.DataFrame:
        """A row per condition: what it saw, its image ratio, gradient noise scale, cost in samples and extra tokens."""
        return self._frame(
            "training",
            training.COLUMNS,
            lambda: training.training_frame(self.store, self.cells, self.sweep.reference_batch),
        )

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row per finished cell, control and item. Raises StoreError where only tables are left."""
        return self._joined(self._finished, "answers.csv")

    @cached_property
    def train(self) -> pd.DataFrame:
        """A row per finished cell and optimizer step. Raises StoreError where only tables are left."""
        return self._joined(self._finished, "train.csv")

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """A row per contrast and task, the rows of `all` tasks first."""

        def make() -> pd.DataFrame:
            base = baselines(self.answer_arrays, self._baseline)
            return effects.contrast_frame(self.answer_arrays, contrasts(self.answer_arrays, base), self.margin)

        return self._frame("contrasts", effects.COLUMNS, make)

    @cached_property
    def confirmation(self) -> pd.DataFrame:
        """A row for the recommended and one for the baseline condition, with seeds that took no part in the choice."""
        return self._frame(
            "confirmation",
            confirmation.COLUMNS,
            lambda: confirmation.confirmation_frame(self.store, self.sweep, self.answer_arrays),
        )

    @cached_property
    def cost(self) -> pd.DataFrame:
        """A row per finished condition: its cost, and whether it is worth it."""
        return self._frame(
            "cost", cost.COLUMNS, lambda: cost.cost_frame(self.summary, self.answer_arrays, self._decoder, self.margin)
        )

    @cached_property
    def headline(self) -> Headline:
        """The answer in a sentence or two, what was compared, and warnings: the first lines of the report."""
        return headline(self.sweep, self.cells, self.summary, self.contrasts, self.cost, self.confirmation)

    @cached_property
    def query_diagnostics(self) -> pd.DataFrame:
        """A row per condition with extra tokens whose cells ran with --diagnose."""
        return self._frame(
            "query_diagnostics",
            query_diagnostics.COLUMNS,
            lambda: query_diagnostics.query_diagnostics_frame(self.store, self.cells, self.margin),
        )

    @cached_property
    def token_ablation(self) -> pd.DataFrame:
        """A row per condition and part of its visual tokens: accuracy without the others."""
        return self._frame(
            "token_ablation", token_ablation.COLUMNS, lambda: token_ablation.token_ablation_frame(self.store, self.cells)
        )

    @cached_property
    def scorer_agreement(self) -> pd.DataFrame:
        """A row per condition whose answers several scorers have read (--scorers)."""
        return self._frame(
            "scorer_agreement",
            scorer_agreement.COLUMNS,
            lambda: scorer_agreement.scorer_agreement_frame(self.store, self.cells),
        )

    @cached_property
    def items(self) -> pd.DataFrame:
        """A row per item that all finished cells have answered: its task, its group (right or wrong under all conditions, or
        not), and the share of seeds that answer it under each condition."""
        return self._frame("items", items.COLUMNS, lambda: items.item_frame(self.answer_arrays, self.cells))

    @cached_property
    def attention(self) -> pd.DataFrame:
        """A row per cell and visual token: attention to it, and its cross-attention to places of the frames.

        Raises StoreError where only tables are left.
        """
        return self._joined(token_ablation.diagnosed_cells(self.store, self.cells), "attention.csv")

    @cached_property
    def unscored(self) -> list[LeftOut]:
        """Items that the model of some finished cell could not score: subject, kind and detail of each, once."""
        return [] if self.tables_only else [LeftOut("item", **problem) for problem in self._records.unscored]

    @cached_property
    def _records(self) -> frames.CellFrames:
        return frames.read_cells(self.store, self.sweep.cells, self.sweep.not_needed)

    @cached_property
    def split_pairs(self) -> list[SplitPair]:
        """Pairs of finished cells that must coincide because only the split of their batch differs, compared."""
        return [] if self.tables_only else split_pairs(self.store, self.cells)

    @cached_property
    def answer_arrays(self) -> Answers:
        """Answers of all finished cells to the items that each of them has answered, as arrays by condition and seed."""
        return read_answers(self.store, self.cells, self.sweep)

    def _frame(self, name: str, columns: Sequence[str], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Make a frame from the cells' files; where these are gone, read it as it was written, empty where it was not."""
        return read_table(self.store, name, columns) if self.tables_only else make()

    def _joined(self, keys: list[str], name: str) -> pd.DataFrame:
        """Concatenate a file of every cell, with the columns that name the cell first."""
        if self.tables_only:
            raise StoreError(f"{self.store.root} has no {name} of its cells ({self.tables_only}): run its sweep again")
        if not keys:
            return pd.DataFrame()
        rows = pd.concat({key: pd.read_csv(self.store.cell_file(key, name)) for key in keys}, names=["key", "row"])
        names = self.cells[["key", "seed", *folder.AXES]]
        return names.merge(rows.reset_index("key").reset_index(drop=True), on="key")

    @property
    def _finished(self) -> list[str]:
        return [str(key) for key in self.cells.loc[self.cells["status"] == "ok", "key"]]


def load(
    folder: Path | str,
    baseline: Mapping[str, str] | None = None,
    margin: float = MARGIN,
    cost_model: str = COST_MODEL,
) -> Results:
    """Read a results folder.

    Args:
        folder: what `qtablate sweep --out` wrote, finished or not.
        baseline: levels that others are compared with, by option, such as {"tokens": "32"}.
        margin: the share below which a difference does not matter (the report's --margin is in percentage points).
        cost_model: the language model whose costs are computed (the report's --cost-model).

    Raises:
        StoreError: the folder is no sweep's; or only its tables are left, and another baseline, margin or model is asked for.
        QtablateError: an unknown language model; or, when contrasts are read, a baseline that is not there.
    """
    return Results(folder, baseline or {}, margin, cost_model)

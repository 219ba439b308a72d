"""A results folder in Python: tidy pandas frames, from which every number of the report can be reached."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from qtablate.errors import StoreError
from qtablate.report import contrasts, cost, frames, scorer_agreement, token_ablation, training
from qtablate.report.contrasts import Answers
from qtablate.store import Store

MARGIN = 0.02
"""Differences below this share are of no importance unless the user says otherwise."""
AT = "7b"


class Results:
    """Frames of one folder, each made when it is first asked for. Shares are shares, not percent; missing is missing.

    A folder whose cells are gone, as after a copy without cells/, is read from its CSV tables as they were written.
    """

    def __init__(self, folder: Path | str, baseline: Mapping[str, str], margin: float, at: str) -> None:
        self._model = cost.decoder(at)
        self.store = Store(Path(folder))
        self.sweep: dict[str, Any] = frames.read_sweep(self.store)
        """sweep.json: grid, recipe, sources, fingerprints, versions, what was left out."""
        self._baseline, self._margin = dict(baseline), margin
        self.tables_only = frames.tables_only(self.store, self.sweep)
        """Why the frames are the CSV tables as they were written; empty where they are made from the cells' files."""
        if self.tables_only and (baseline or margin != MARGIN or at != AT):
            raise StoreError(
                f"{self.store.root} can only be read from its tables ({self.tables_only}), to which no other --baseline, "
                "--margin or --at can be applied: leave them out, or run its sweep again"
            )

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a cell, finished or not."""
        return self._table("cells", frames.CELL_COLUMNS, lambda: frames.cells(self.store))

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """A row a finished cell and task."""
        return self._table("tasks", frames.TASK_COLUMNS, lambda: frames.tasks(self.store))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row a condition, over its finished seeds."""
        return self._table("summary", frames.SUMMARY_COLUMNS, lambda: frames.summary(self.store, self.cells))

    @cached_property
    def training(self) -> pd.DataFrame:
        """A row a condition: what it saw, the mix of its windows, its gradient noise scale, its extra tokens' state."""
        return self._table("training", training.COLUMNS, lambda: training.table(self.store, self.cells))

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row a finished cell, control and item. Raises StoreError where only tables are left."""
        return self._joined(self._finished, "answers.csv")

    @cached_property
    def train(self) -> pd.DataFrame:
        """A row a finished cell and optimizer step. Raises StoreError where only tables are left."""
        return self._joined(self._finished, "train.csv")

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """A row a contrast and task, `all` tasks first."""
        return self._table(
            "contrasts",
            contrasts.COLUMNS,
            lambda: contrasts.table(
                self._given, contrasts.contrasts(self._given, contrasts.baselines(self._given, self._baseline)), self._margin
            ),
        )

    @cached_property
    def cost(self) -> pd.DataFrame:
        """A row a finished condition."""
        return self._table("cost", cost.COLUMNS, lambda: cost.costs(self.summary, self._given, self._model, self._margin))

    @cached_property
    def query_diagnostics(self) -> pd.DataFrame:
        """A row a condition with extra tokens whose cells ran with --diagnose."""
        return self._table(
            "query_diagnostics", token_ablation.COLUMNS, lambda: token_ablation.table(self.store, self.cells, self._margin)
        )

    @cached_property
    def token_ablation(self) -> pd.DataFrame:
        """A row a condition and part of its visual tokens: accuracy without the rest."""
        return self._table("token_ablation", token_ablation.PART_COLUMNS, lambda: token_ablation.parts(self.store, self.cells))

    @cached_property
    def scorer_agreement(self) -> pd.DataFrame:
        """A row a condition whose answers were read in several ways (--scorers)."""
        return self._table("scorer_agreement", scorer_agreement.COLUMNS, lambda: scorer_agreement.table(self.store, self.cells))

    @cached_property
    def attention(self) -> pd.DataFrame:
        """A row a cell and visual token: attention to it, and where it looks. Raises StoreError where only tables are left."""
        return self._joined(token_ablation.diagnosed(self.store, self.cells), "attention.csv")

    @cached_property
    def unscored(self) -> list[dict[str, str]]:
        """Items that the model of some finished cell could not be asked: subject, kind and detail of each, once."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for key in [] if self.tables_only else self._finished:
            record = self.store.read_record(key)
            for one in (record.figures or {}).get("unscored", ()) if record else ():
                found.setdefault((one["subject"], one["kind"]), one)
        return list(found.values())

    @cached_property
    def _given(self) -> Answers:
        return contrasts.read(self.store, self.cells, self.sweep)

    def _table(self, name: str, columns: Sequence[str], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Made from the cells' files; where these are gone, as it was written, and empty where it is not there."""
        return frames.read_table(self.store, name, columns) if self.tables_only else make()

    def _joined(self, keys: list[str], name: str) -> pd.DataFrame:
        """A file of every cell, one below the other, behind what names the cell."""
        if self.tables_only:
            raise StoreError(f"{self.store.root} has no {name} of its cells ({self.tables_only}): run its sweep again")
        if not keys:
            return pd.DataFrame()
        whole = pd.concat({key: pd.read_csv(self.store.cell_file(key, name)) for key in keys}, names=["key", "row"])
        return self._names.merge(whole.reset_index("key").reset_index(drop=True), on="key")

    @property
    def _finished(self) -> list[str]:
        return [str(key) for key in self.cells.loc[self.cells["status"] == "ok", "key"]]

    @property
    def _names(self) -> pd.DataFrame:
        return self.cells[["key", "seed", *frames.AXES]]


def load(folder: Path | str, baseline: Mapping[str, str] | None = None, margin: float = MARGIN, at: str = AT) -> Results:
    """Read a results folder.

    Args:
        folder: what `qtablate sweep --out` wrote, finished or not.
        baseline: levels that others are compared with, such as {"tokens": "32"}.
        margin: the share below which a difference does not matter (the report's --margin is in points).
        at: the language model that costs are told for (the report's --at).

    Raises:
        StoreError: the folder is no sweep's; or only its tables are left, and another baseline, margin or model is asked for.
        QtablateError: an unknown language model; or, when contrasts are asked for, a baseline that is not there.
    """
    return Results(folder, baseline or {}, margin, at)

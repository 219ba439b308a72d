"""A results folder as a whole: what sweep.json says, and whether the files of its cells are still there."""

from collections.abc import Collection, Iterable

import pandas as pd

from qtablate import axes
from qtablate.errors import StoreError
from qtablate.grid import RECORD_SCHEMA
from qtablate.records import SweepFile
from qtablate.store import DAMAGED, Store

AXES = tuple(axis.column for axis in axes.AXES)
"""Names of the axes. Their levels name a condition."""
BUDGET_COLUMNS = {"samples": "samples_seen", "steps": "steps", "tokens": "supervised_tokens"}
"""The column of cells.csv that counts each kind of budget."""


def read_complete_sweep(store: Store) -> SweepFile:
    """Read sweep.json of a folder that still has the files of its finished cells.

    Raises:
        StoreError: another version wrote the folder, or files of finished cells are gone.
    """
    sweep = store.read_sweep()
    if why := tables_only(store, sweep):
        raise StoreError(f"{store.root} can only be read from its tables ({why}): run its sweep again")
    return sweep


def tables_only(store: Store, sweep: SweepFile) -> str:
    """Say why a folder can only be read from its tables; empty where the files of all its finished cells are there.

    Tables of more cells than are left must neither be replaced nor be mixed with what is left.
    """
    before = finished_before(store)
    if sweep.schema_version != RECORD_SCHEMA:
        return f"another version of qtablate wrote it: record schema {sweep.schema_version}, this one reads {RECORD_SCHEMA}"
    gone = missing_cells(store, before & {cell.key for cell in sweep.all_cells})
    return f"{len(gone)} of its {len(before)} finished cells are no longer under cells/ as they were" if gone else ""


def finished_before(store: Store) -> set[str]:
    """Return the keys of the cells that cells.csv calls finished, and of those behind confirmation.csv."""
    cells = _read_text_columns(store, "cells.csv", ["key", "status"])
    confirmed = _read_text_columns(store, "confirmation.csv", ["keys"])
    finished = set(cells.loc[cells["status"] == "ok", "key"])
    return finished.union(*(str(keys).split() for keys in confirmed["keys"].dropna()))


def _read_text_columns(store: Store, name: str, columns: list[str]) -> pd.DataFrame:
    """Read columns of a table as text; without rows where there is no such table."""
    try:
        return pd.read_csv(store.table_file(name), usecols=columns, dtype=str)
    except (OSError, ValueError):
        return pd.DataFrame(columns=columns)


def missing_cells(store: Store, keys: Iterable[str]) -> set[str]:
    """Return those of the once finished cells `keys` whose files are gone, or that now run again or have failed.

    A damaged cell counts as missing only where none of the cells is intact, as in a copy without answers.csv.
    """
    statuses = {key: "ok" if store.finished(key) else store.state(key).status for key in keys}
    missing = {key for key, status in statuses.items() if status not in ("ok", DAMAGED)}
    return missing if "ok" in statuses.values() else set(statuses)


def validate_overwrite(store: Store, keys: Collection[str]) -> None:
    """Check that a sweep of the cells `keys` replaces no table of other cells whose files are gone.

    Raises:
        StoreError: it would.
    """
    lost = {key for key in finished_before(store) - set(keys) if not store.finished(key)}
    if lost:
        raise StoreError(
            f"{store.root} holds tables of {len(lost)} finished cells that are no longer under cells/ or that this version "
            "cannot read, and that are not of this grid: this sweep would replace them. Use another --out, "
            "or move or delete that folder"
        )

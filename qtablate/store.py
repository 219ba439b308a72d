"""A results folder: every path, atomic writing, resume, loading. Nothing here knows torch.

sweep.json                  the grid, settings, fingerprints, versions, problems
cells/<key>/record.json     status and figures; written last, so `ok` means that the other files are whole
cells/<key>/train.csv       a row an optimizer step
cells/<key>/answers.csv     a row an item and control
cells.csv tasks.csv summary.csv report.md
"""

import csv
import dataclasses
import fcntl
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qtablate.errors import StoreError
from qtablate.files import write_text
from qtablate.records import Record


class Store:
    """One results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def sweep_file(self) -> Path:
        return self.root / "sweep.json"

    def cell_file(self, key: str, name: str) -> Path:
        return self.root / "cells" / key / name

    def table_file(self, name: str) -> Path:
        return self.root / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing. Raises StoreError when another sweep holds it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"--out {self.root}: no folder can be made there ({error.strerror}); name another") from None
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(f"another sweep is writing to {self.root}: wait for it, or use another --out") from None
            yield

    def write_sweep(self, sweep: Mapping[str, Any]) -> None:
        write_text(self.sweep_file, json.dumps(sweep, indent=1, sort_keys=True) + "\n")

    def read_sweep(self) -> dict[str, Any]:
        """sweep.json. Raises StoreError when the folder is not a sweep's."""
        try:
            sweep = json.loads(self.sweep_file.read_text())
            if not isinstance(sweep, dict) or "cells" not in sweep:
                raise ValueError("it holds no list of cells")
            return sweep
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{self.root} holds no sweep.json: name a folder that `qtablate sweep --out` wrote") from None
        except ValueError as error:
            raise StoreError(
                f"{self.sweep_file} cannot be read ({error}): run the sweep again, finished cells are kept"
            ) from None

    def write_record(self, record: Record) -> None:
        text = json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True)
        write_text(self.cell_file(record.key, "record.json"), text + "\n")

    def read_record(self, key: str) -> Record | None:
        """The record of a cell, or None where it was never started. A torn or foreign file counts as not started."""
        try:
            return Record(**json.loads(self.cell_file(key, "record.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def finished(self, key: str) -> bool:
        return self.read_finished(key) is not None

    def read_finished(self, key: str) -> Record | None:
        """The record of a cell that is finished and whose other files are there."""
        record = self.read_record(key)
        return record if record is not None and record.status == "ok" and self.whole(key) else None

    def whole(self, key: str) -> bool:
        """Whether the files that a finished cell's record rests on are there."""
        return all(self.cell_file(key, name).is_file() for name in ("train.csv", "answers.csv"))

    def busy(self) -> bool:
        """Whether a sweep is writing here now."""
        try:
            with (self.root / ".lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def write_rows(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """A CSV file; None is an empty field, floats keep ten digits."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _field(row[name]) for name in columns})
        write_text(path, buffer.getvalue())


def _field(value: Any) -> Any:
    if value is None or value != value:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else value


def newest(results: Path) -> Store:
    """The sweep that was written last under a folder. Raises StoreError when there is none."""
    found = sorted(results.glob("*/sweep.json"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise StoreError(f"no sweep under {results}/: run `qtablate sweep`, or name a results folder")
    return Store(found[-1].parent)

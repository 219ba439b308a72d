"""A results folder: every path, atomic writing, resume, loading. Nothing here knows torch.

sweep.json                  the configuration, settings, fingerprints, versions, problems
cells/<key>/record.json     status, figures and checksums; written last, so `ok` means that the other files are whole
cells/<key>/train.csv       a row per optimizer step
cells/<key>/answers.csv     a row per item and control
cells.csv tasks.csv summary.csv report.md
claims/                     who works here, and on which cell, as long as anybody does
plots/<name>.png .svg       plots; plots.json holds digests of the data that they show
"""

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qtablate.claims.claim import Claims
from qtablate.errors import StoreError
from qtablate.files import Signature, remove_leftovers, signature, write_bytes
from qtablate.grid import RECORD_SCHEMA
from qtablate.records import Record, SweepFile

DAMAGED = "damaged"
_INTACT: dict[Path, dict[str, Signature]] = {}
"""By folder: the files of finished cells that this process has found to be what was written, each with its signature. Planning,
running and reporting a sweep ask a dozen times, and reading and hashing thousands of cells takes seconds each time."""


@dataclass(frozen=True, slots=True)
class CellState:
    """What a folder holds of one cell."""

    status: str
    """`pending` (never started), `running`, `failed`, `ok`, or `damaged`: its files are not what was written."""
    record: Record | None = None
    damage: str = ""
    """Which file of a damaged cell is wrong, and how."""


class Store:
    """One results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def sweep_file(self) -> Path:
        """Path of sweep.json."""
        return self.root / "sweep.json"

    @property
    def claims(self) -> Claims:
        """Who works on which of its cells, and which sweeps run here."""
        return Claims(self.root / "claims")

    def cell_file(self, key: str, name: str) -> Path:
        """Path of a file of a cell."""
        return self.root / "cells" / key / name

    def table_file(self, name: str) -> Path:
        """Path of a table or the report."""
        return self.root / name

    def plot_file(self, name: str) -> Path:
        """Path of a file of the plots."""
        return self.root / "plots" / name

    def open(self) -> None:
        """Make the folder where there is none, and remove what killed processes have left half written in it. Raises StoreError
        where it cannot be made."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"--out {self.root}: no folder can be made there ({error.strerror}); name another") from None
        self.claims.tidy()
        for folder in (self.root, self.plot_file(""), self.claims.folder, *self.root.glob("cells/*/")):
            remove_leftovers(folder)

    def write_file(self, path: Path, content: str | bytes) -> None:
        """Replace a file of the folder, whole or not at all. Raises StoreError where it cannot be written."""
        try:
            write_bytes(path, content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise self.unwritable(path, error) from None

    def unwritable(self, path: Path, error: OSError) -> StoreError:
        """What to raise where a file of the folder cannot be written."""
        return StoreError(
            f"{path} cannot be written ({error.strerror}): make room or give write permission in {self.root}, or name another "
            "folder (--out); finished cells are kept"
        )

    def write_sweep(self, sweep: SweepFile) -> None:
        """Replace sweep.json. Raises StoreError where it cannot be written."""
        content = sweep.model_dump(mode="json", by_alias=True)
        self.write_file(self.sweep_file, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def read_sweep(self) -> SweepFile:
        """Read sweep.json. Raises StoreError when the folder is not a sweep's, or the file has another content."""
        schema: Any = None
        try:
            content = json.loads(self.sweep_file.read_text())
            schema = content.get("schema") if isinstance(content, dict) else None
            sweep = SweepFile.model_validate(content)
            if schema == RECORD_SCHEMA:
                sweep.validate_conditions()
            return sweep
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{self.root} holds no sweep.json: name a folder that `qtablate sweep --out` wrote") from None
        except ValidationError as error:
            if isinstance(schema, int) and schema != RECORD_SCHEMA:
                raise StoreError(
                    f"{self.sweep_file}: another version of qtablate wrote it (record schema {schema}, this one reads "
                    f"{RECORD_SCHEMA}): read it with that version, or run the sweep again into another folder (--out)"
                ) from None
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole file"
            raise StoreError(
                f"{self.sweep_file} cannot be read ({place}: {first['msg']}): run the sweep again, finished cells are kept"
            ) from None
        except (ValueError, OSError, RecursionError) as error:
            raise StoreError(
                f"{self.sweep_file} cannot be read ({error}): run the sweep again, finished cells are kept"
            ) from None

    def write_record(self, record: Record) -> None:
        """Replace record.json of a cell, with a checksum of its own."""
        content = dataclasses.asdict(record)
        text = json.dumps({**content, "sha256": _digest(content)}, indent=1, sort_keys=True)
        self.write_file(self.cell_file(record.key, "record.json"), text + "\n")

    def read_record(self, key: str) -> Record | None:
        """The record of a cell, or None where it was never started or its file is damaged (`state` tells which)."""
        try:
            return self._read_record(key)
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def _read_record(self, key: str) -> Record:
        content = json.loads(self.cell_file(key, "record.json").read_text())
        written = content.pop("sha256", None) if isinstance(content, dict) else None
        if not written or not (self._is_unchanged(key) or written == _digest(content)):
            raise ValueError("it is not what was written: its checksum differs")
        record = Record(**content)
        if record.key != key:
            raise ValueError(f"it is the record of cell {record.key}")
        return record

    def _unreadable(self, key: str, name: str, error: OSError) -> StoreError:
        return StoreError(
            f"{self.cell_file(key, name)} cannot be read now ({error.strerror}); the cell may be fine: mend what keeps it from "
            "being read, then run the same command again"
        )

    def state(self, key: str) -> CellState:
        """What is known of a cell; a finished one is `ok` only if every file behind it is what was written. Raises StoreError
        where the system refuses to read a file: that says nothing about the cell."""
        seen: dict[str, Signature | None] = {}
        try:
            seen["record.json"] = signature(self.cell_file(key, "record.json"))
            record = self._read_record(key)
        except (FileNotFoundError, NotADirectoryError):
            return CellState("pending")
        except (IsADirectoryError, ValueError, TypeError, RecursionError) as error:
            return CellState(DAMAGED, damage=f"record.json cannot be used: {error}")
        except OSError as error:
            raise self._unreadable(key, "record.json", error) from None
        if record.status != "ok":
            return CellState(record.status, record)
        if not record.figures or not record.files:
            return CellState(DAMAGED, damage="record.json has no figures, or names no files that they rest on")
        if self._is_unchanged(key):
            return CellState("ok", record)
        for name, digest in record.files.items():
            try:
                seen[name] = signature(self.cell_file(key, name))
                if self._sum(key, name) != digest:
                    return CellState(DAMAGED, damage=f"{name} is not what was written: its checksum differs")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                return CellState(DAMAGED, damage=f"{name} cannot be read ({error.strerror})")
            except OSError as error:
                raise self._unreadable(key, name, error) from None
        settled = {name: one for name, one in seen.items() if one}
        if len(settled) == len(seen):
            _INTACT[self.cell_file(key, "")] = settled
        return CellState("ok", record)

    def _is_unchanged(self, key: str) -> bool:
        """Whether this process has found a cell to be finished and intact, and none of its files has been touched since."""
        try:
            known = _INTACT.get(self.cell_file(key, ""), {})
            return bool(known) and all(signature(self.cell_file(key, name)) == one for name, one in known.items())
        except OSError:
            return False

    def discard_damaged(self, key: str) -> None:
        """Empty the folder of a cell whose files are damaged, so that it can be run again."""
        if self.state(key).status == DAMAGED:
            shutil.rmtree(self.cell_file(key, ""), ignore_errors=True)

    def checksums(self, key: str) -> dict[str, str]:
        """SHA-256 of every CSV file of a cell, by name."""
        return {path.name: self._sum(key, path.name) for path in sorted(self.cell_file(key, "").glob("*.csv"))}

    def _sum(self, key: str, name: str) -> str:
        return hashlib.sha256(self.cell_file(key, name).read_bytes()).hexdigest()

    def keys(self) -> list[str]:
        """Of every cell that has a folder here, whichever sweep it is of."""
        return sorted(path.parent.name for path in self.root.glob("cells/*/record.json"))

    def finished(self, key: str) -> bool:
        """Whether a cell is finished and its files are what was written."""
        return self._is_unchanged(key) or self.state(key).status == "ok"

    def read_finished(self, key: str) -> Record | None:
        """The record of a cell that is finished and whose other files are what was written."""
        state = self.state(key)
        return state.record if state.status == "ok" else None

    def busy(self) -> bool:
        """Whether a sweep, or a cell of one, runs here now, as far as can be told."""
        return any(holder.live for holder in self.claims.all().values())

    def running(self) -> set[str]:
        """Keys of the cells that run now, as far as can be told."""
        return {key for key, holder in self.claims.all().items() if holder.live}

    def write_rows(self, path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """A CSV file; None is an empty field, floats keep ten digits."""
        self.write_file(path, rows_text(rows, columns))


def rows_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the text of a CSV file; None is an empty field, floats keep ten digits."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _field(row[name]) for name in columns})
    return buffer.getvalue()


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a record's content, however its file is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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

"""Write the answers of a sweep as logs of Inspect AI (EvalLog, version 2), which `inspect view` shows: a JSON file per cell.

A sample is an item; each of its scores is one control, `full` the item as it is. The format is written by hand: Inspect AI need
not be installed.
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qtablate.axes import incorrect_levels
from qtablate.controls import CONTROLS, FULL
from qtablate.datatypes import Item
from qtablate.errors import ConfigError, StoreError
from qtablate.files import write_text
from qtablate.records import PlannedCell, Record
from qtablate.report.labels import condition_label, shown_axes
from qtablate.report.results import Results
from qtablate.report.scored_benchmark import scored_benchmark

_VERSION = 2
_CORRECT, _WRONG, _NO_ANSWER = "C", "I", "N"
_SECONDS = ("train_seconds", "eval_seconds", "control_seconds", "diagnose_seconds")
_LETTERS = 26
_ABOUT = {FULL: "the item as it is", **CONTROLS}

Answer = Mapping[str, str]
"""A row of answers.csv."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    logs: int
    left_out: int
    """Cells that have neither finished nor failed."""
    why_no_texts: str
    """Why the samples have no questions and options, where they have none."""


def write_inspect_logs(results: Results, folder: Path) -> Exported:
    """Write a log for each cell that has finished or failed, in place of an earlier one of the same cell.

    Args:
        results: the results folder.
        folder: where to write; it is made.

    Raises:
        StoreError: the folder has only its tables left, or no cell has finished or failed.
        ConfigError: a log cannot be written.
    """
    if results.tables_only:
        raise StoreError(f"{results.store.root} has no answers of its cells ({results.tables_only}): run its sweep again")
    logs = {}
    benchmark, why_none = scored_benchmark(results, run_custom=False)
    items = {item.id: item for item in benchmark.items} if benchmark else {}
    shown = shown_axes(results.all_cells)
    for cell in results.sweep.all_cells:
        state = results.store.state(cell.key)
        if state.record and state.status in ("ok", "failed"):
            name = f"{condition_label(cell.condition, shown)}, seed {cell.seed}"
            logs[cell.key] = _log(_Source(results, cell, state.record, name), items)
    if not logs:
        raise StoreError(f"{results.store.root}: no cell has finished or failed yet, so there is nothing to export")
    try:
        for key, log in logs.items():
            path = folder / _file_name(log, key)
            write_text(path, json.dumps(_plain(log), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
            for other in set(folder.glob(f"*_{key}.json")) - {path}:
                other.unlink()
    except OSError as error:
        raise ConfigError(
            f"--inspect: {folder} cannot be written ({error.strerror}): name a folder of yours, or one that can be made"
        ) from None
    return Exported(len(logs), len(results.sweep.all_cells) - len(logs), why_none)


@dataclass(frozen=True)
class _Source:
    """A cell, and what its log is made of."""

    results: Results
    cell: PlannedCell
    record: Record
    name: str
    """`extra tokens 4, accum 1, seed 1`."""

    @property
    def model(self) -> str:
        return f"{Path(self.results.sweep.config.data.model).name} ({self.name})"

    @property
    def ended(self) -> float:
        return self.results.store.cell_file(self.cell.key, "record.json").stat().st_mtime

    @property
    def began(self) -> float:
        figures = self.record.figures or {}
        return self.ended - float(sum(figures.get(name, 0.0) for name in _SECONDS))

    def answers(self) -> dict[str, dict[str, Answer]]:
        """Return the answers by item and control, in the order of the file."""
        found: dict[str, dict[str, Answer]] = {}
        with self.results.store.cell_file(self.cell.key, "answers.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["item"], {})[row["control"]] = row
        return found


def _log(source: _Source, items: Mapping[str, Item]) -> dict[str, Any]:
    """Return the log of a cell."""
    record = source.record
    log: dict[str, Any] = {"version": _VERSION, "status": "error" if record.status == "failed" else "success"}
    answers = {} if record.status == "failed" else source.answers()
    log["eval"] = _eval(source, answers)
    log["plan"] = {"name": "plan", "steps": [{"solver": source.results.sweep.settings.scorers[0], "params": {}}]}
    if record.status == "failed":
        trace = record.traceback
        log["error"] = {"message": record.error, "traceback": trace, "traceback_ansi": trace}
    else:
        log["results"] = _results(record, len(answers))
    log["stats"] = {"started_at": _time(source.began), "completed_at": _time(source.ended), "model_usage": {}}
    log["samples"] = [_sample(source.model, by_control, items.get(name)) for name, by_control in answers.items()]
    return log


def _eval(source: _Source, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was run."""
    sweep, cell, record = source.results.sweep, source.cell, source.record
    levels = {**cell.condition, "seed": cell.seed}
    prints = {name: getattr(sweep.fingerprints, name) for name in sweep.fingerprints.__slots__}
    return {
        "eval_id": cell.key,
        "run_id": cell.key,
        "created": _time(source.ended),
        "task": sweep.config.data.bench.partition(":")[0],
        "task_id": prints["benchmark"],
        "task_version": 0,
        "task_attribs": {},
        "task_args": levels,
        "task_args_passed": levels,
        "tags": [source.name.rpartition(", seed ")[0], *(["incorrect"] if incorrect_levels(cell.condition) else [])],
        "dataset": {
            "name": sweep.config.data.bench,
            "samples": len(answers),
            "sample_ids": list(answers),
            "shuffled": False,
        },
        "model": source.model,
        "model_args": {},
        "config": {"epochs": 1},
        "packages": dict(record.versions),
        "scorers": [{"name": control} for control in _controls(record)],
        "metadata": {
            "cell": cell.key,
            "incorrect": incorrect_levels(cell.condition),
            "settings": record.cell.get("settings", {}),
            "fingerprints": prints,
            "controls": {control: _ABOUT[control] for control in _controls(record)},
        },
    }


def _controls(record: Record) -> list[str]:
    return [FULL, *record.figures["controls"]] if record.figures else []


def _results(record: Record, count: int) -> dict[str, Any]:
    """Return the accuracies as the record has them, with standard errors over clips."""
    figures = record.figures or {}
    means = {FULL: figures["accuracy"], **figures["controls"]}
    scores = [
        {
            "name": control,
            "scorer": control,
            "scored_samples": mean["n"],
            "params": {},
            "metrics": {
                name: {"name": name, "value": value, "params": {} if name == "accuracy" else {"cluster": "cluster"}}
                for name, value in (("accuracy", mean["value"]), ("stderr", mean["stderr"]))
                if value is not None
            },
        }
        for control, mean in means.items()
    ]
    gains = {name: figures[name] for name in ("visual_gain", "temporal_gain")}
    metadata = {**gains, "chance": figures["chance"], "train_loss": figures["train_loss"]}
    return {"total_samples": count, "completed_samples": count, "scores": scores, "metadata": metadata}


def _sample(model: str, by_control: Mapping[str, Answer], item: Item | None) -> dict[str, Any]:
    """Return an item with its scores.

    Args:
        model: name of the model.
        by_control: its answers.
        item: its texts; None where the benchmark could not be opened.
    """
    first = by_control[FULL]
    options = list(item.options) if item else []
    question = item.question if item else f"{first['item']} (its question and options are in the benchmark alone)"
    listed = "\n".join(_option(number, options) for number in range(len(options)))
    chosen = _option(int(first["predicted"]), options) if _answered(first) else ""
    assistant = {"role": "assistant", "content": chosen, "model": model}
    return {
        "id": first["item"],
        "epoch": 1,
        "input": question,
        "choices": options or None,
        "target": _letter(int(first["gold"])),
        "messages": [{"role": "user", "content": f"{question}\n{listed}".strip(), "source": "input"}, assistant],
        "output": {"model": model, "choices": [{"message": assistant, "stop_reason": "stop"}], "completion": chosen},
        "scores": {control: _score(answer, options) for control, answer in by_control.items()},
        "metadata": {"task": first["task"], "cluster": first["cluster"], "clip": item.clip if item else first["cluster"]},
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def _score(answer: Answer, options: list[str]) -> dict[str, Any]:
    """Return what was answered under one control."""
    values = [float(text) for text in answer["scores"].split(";") if text]
    value = _CORRECT if answer["correct"] == "1" else _WRONG if _answered(answer) else _NO_ANSWER
    listed = ", ".join(f"{_option(number, options)}: {score:.4g}" for number, score in enumerate(values))
    return {
        "value": value,
        "answer": _letter(int(answer["predicted"])) if _answered(answer) else None,
        "explanation": f"Score of each option: {listed}" if len(values) > 1 else None,
        "metadata": {"scores": values, "correct_per_token": answer["correct_per_token"] == "1"},
    }


def _answered(answer: Answer) -> bool:
    return answer["predicted"] not in ("", "-1")


def _letter(option: int) -> str:
    """Return the name of an option as Inspect AI counts: A to Z, then 1, 2, 3."""
    return chr(ord("A") + option) if option < _LETTERS else str(option - _LETTERS + 1)


def _option(number: int, options: list[str]) -> str:
    return f"({_letter(number)}) {options[number]}" if number < len(options) else f"({_letter(number)})"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).isoformat()


def _file_name(log: Mapping[str, Any], key: str) -> str:
    """Return a name by which `inspect view` knows a log: time, task and id."""
    task = re.sub(r"[^A-Za-z0-9]+", "-", log["eval"]["task"])
    return f"{log['eval']['created'].replace(':', '-')}_{task}_{key}.json"


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: a number that is none is null."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Cells that run out of memory are tried again with their micro-batches in parts, and are marked."""

import csv
import importlib
import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from launch import here
from settings import config
from torch import nn

import qtablate
from qtablate.axes import Condition
from qtablate.cell.jobs import CellJob
from qtablate.cell.out_of_memory import dropout_refused
from qtablate.errors import QtablateError
from qtablate.execute.events import Again, Event, Progress
from qtablate.execute.local import run_jobs
from qtablate.grid import Cell
from qtablate.report.frames import cell_frame
from qtablate.sweep import executors
from qtablate.sweep.retries import RetryInParts

TRAINING, TRAINED, SCORING = Progress("train", 3, 9), Progress("train", 9, 9), Progress("evaluate", 1, 9)


def job(size: int, parts: int) -> CellJob:
    cell = Cell(Condition(0, 1, size, "mixed", "none"), 1, 1, None, None)
    return CellJob(cell, None, None, None, None, micro_batch_parts=parts)


@pytest.mark.parametrize(
    ("size", "parts", "retries", "processes", "last", "then", "said"),
    [
        (8, 1, 2, 1, TRAINING, 2, "out of memory; tried again with each micro-batch computed in 2 parts: the same gradient to"),
        (8, 1, 2, 1, None, 2, "tried again with each micro-batch computed in 2 parts"),  # in its first window
        (
            8,
            2,
            2,
            1,
            TRAINING,
            4,
            "out of memory, with micro-batches in 2 parts; tried again with each micro-batch computed in 4",
        ),
        (8, 4, 2, 1, TRAINING, None, "--oom-retries 2, with micro-batches in 4 parts"),
        (8, 4, 9, 1, TRAINING, 8, "computed in 8 parts"),
        (8, 8, 9, 1, TRAINING, None, "each sample was computed alone, with micro-batches in 8 parts"),
        (3, 2, 9, 1, TRAINING, 3, "computed in 3 parts"),  # no more parts than samples
        (8, 4, 9, 2, TRAINING, None, "each sample was computed alone"),  # of a share of four
        (1, 1, 2, 1, TRAINING, None, "each sample was computed alone"),
        (8, 1, 2, 1, TRAINED, None, "not in training, so that micro-batches in parts would not help"),
        (8, 1, 2, 1, SCORING, None, "not in training"),
    ],
)
def test_twice_as_many_parts_until_nothing_is_left_to_split(size, parts, retries, processes, last, then, said):
    failed = Event("key", "failed", last, error="MemoryError: ", out_of_memory=True)
    again = RetryInParts(retries, processes)(job(size, parts), failed)
    assert said in again.text
    assert (again.job and again.job.micro_batch_parts) == then
    assert again.job is None or again.job.cell == job(size, parts).cell


def test_it_travels_to_other_machines():
    assert pickle.loads(pickle.dumps(RetryInParts(2, 3))) == RetryInParts(2, 3)


def test_other_failures_and_none_at_all_where_none_is_wanted():
    assert RetryInParts(2, 1)(job(8, 1), Event("key", "failed", error="ValueError: no")) is None
    assert RetryInParts(0, 1)(job(8, 1), Event("key", "failed", out_of_memory=True)) is None


def test_a_model_with_dropout_is_not_tried_in_parts_and_the_failure_says_why():
    masked, plain = nn.Sequential(nn.Dropout(0.1)), nn.Sequential(nn.Dropout(0.0))
    refused = "it is not tried again with its micro-batches in parts, because the model has dropout"
    with pytest.raises(QtablateError, match=f"^OutOfMemoryError: 80 GiB; {refused}"), dropout_refused(masked, 1):
        raise torch.OutOfMemoryError("80 GiB")
    with pytest.raises(QtablateError, match=f"^out of memory: the process was killed; {refused}"), dropout_refused(masked, 2):
        pytest.fail("it has begun")
    with pytest.raises(ValueError, match="another"), dropout_refused(masked, 1):
        raise ValueError("another")
    with pytest.raises(torch.OutOfMemoryError), dropout_refused(plain, 2):
        raise torch.OutOfMemoryError("80 GiB")


MODULE = """
from qtablate.cell import run as cells
from qtablate.train import loop

whole = loop.loss_sum

def run_cell(job, report, rank_info=None):
    def limited(model, micro_batch):
        most = 4 if job.cell.condition.extra_num_query_tokens else 1
        if len(micro_batch.samples) > most:
            raise MemoryError(f"{len(micro_batch.samples)} samples")
        return whole(model, micro_batch)

    loop.loss_sum = limited
    try:
        cells.run_cell(job, report, rank_info)
    finally:
        loop.loss_sum = whole
"""
"""Memory for four samples at once, or for one where there are no extra tokens."""
SCARCE = "scarce_cells:run_cell"


def run_here(function, jobs, *_, retry=None, **__) -> Iterator[Event]:
    """In place of the executor: in this process, one after the other."""
    module, _, name = function.partition(":")
    for key, first in jobs:
        again = Again(first, "")
        while again and again.job:
            work = again.job
            yield Event(key, "started")
            try:
                result = getattr(importlib.import_module(module), name)(work, lambda _: None)
            except MemoryError as error:
                failed = Event(key, "failed", error=f"MemoryError: {error}", out_of_memory=True)
                again = retry(work, failed)
                tried = Event(key, "notice", text=again.text)
                yield tried if again.job else replace(failed, error=f"{failed.error} ({again.text})")
            else:
                yield Event(key, "done", result=result)
                break


@pytest.mark.parametrize("executor", [run_here, pytest.param(run_jobs, marks=pytest.mark.slow)])
def test_a_sweep_whose_cells_run_out_of_memory_is_the_same_sweep_and_says_so(tmp_path, monkeypatch, executor):
    def scarce(function, *args, **named):
        return executor(SCARCE if function.endswith(":run_cell") else function, *args, **named)

    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "scarce_cells.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    sweep = partial(config, tokens=(0, 4), samples=32, items_per_task=2, jobs=1)
    monkeypatch.setattr(executors, "run_jobs", executor)
    plenty = qtablate.run_sweep(sweep(tokens=(4,), out=tmp_path / "plenty"))
    notices: list[str] = []
    monkeypatch.setattr(executors, "run_jobs", scarce)
    found = qtablate.run_sweep(
        sweep(out=tmp_path / "scarce"), lambda one: notices.append(one.event.text) if one.event and one.event.text else None
    )
    lost, split = found.cells.to_dict("records")
    assert (lost["status"], split["status"]) == ("failed", "ok")
    assert lost["error"] == "MemoryError: 2 samples (--oom-retries 2, with micro-batches in 4 parts)"
    assert (split["micro_batch_parts"], plenty.cells["micro_batch_parts"].item()) == (2, 1)
    assert split["key"] == plenty.cells["key"].item()
    again = "tried again with each micro-batch computed in"
    said = [
        f"out of memory; {again} 2",
        f"out of memory, with micro-batches in 2 parts; {again} 4",
        f"out of memory; {again} 2",
    ]
    assert notices == [f"{one} parts: the same gradient to rounding" for one in said]
    for name in ("loss", "grad_norm", "lr", "samples_seen", "supervised_tokens"):
        assert list(found.train[name]) == pytest.approx(list(plenty.train[name]), rel=1e-4), name
    assert list(found.train["grad_norm"]) != list(plenty.train["grad_norm"])  # it was computed otherwise: rounding differs
    warning = "1 cell ran with micro-batches computed in 2 parts after running out of memory: the same gradients to rounding."
    assert warning in found.headline.warnings
    assert warning in " ".join(here("report", str(tmp_path / "scarce")).split())
    with (tmp_path / "scarce" / "cells.csv").open() as file:
        assert [row["micro_batch_parts"] for row in csv.DictReader(file)] == ["", "2"]
    store = plenty.store
    record = store.read_record(split["key"])
    del record.figures["micro_batch_parts"]  # as it was written before there was such a figure
    store.write_record(record)
    assert store.state(record.key).status == "ok"
    assert cell_frame(store)["micro_batch_parts"].item() == 1

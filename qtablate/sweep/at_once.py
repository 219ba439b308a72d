"""How many cells run at once with `--jobs auto`: as many as GPUs allow or, without any, cores and memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qtablate.config import SweepConfig
from qtablate.execute.resources import Resources, read_resources
from qtablate.grid import Cell, CellSettings
from qtablate.model.directory import count_parameters
from qtablate.store import Store

SHARED_MB = 300.0
"""MiB that a sweep's cells share at least, as forks of one process: what a running cell of nano has mapped less its share of it
(RSS less PSS, results/speed/whole.md)."""
OWN_MB = 600.0
"""MiB that a cell has of its own beside its weights, where none was measured: those of nano at micro-batches of 8, whose
peak_memory_mb (results/reference) is about SHARED_MB more. Larger models take more."""
_FROZEN_PARTS = ("vision", "vision_model")
_TRAINED_BYTES = 16  # of a parameter, with its gradient and AdamW's two moments, in fp32


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory in MiB that the processes of cells are expected to take."""

    each_mb: float
    """Of each process alone."""
    shared_mb: float = 0.0
    """That all of them share."""
    measured: bool = True
    """Whether a cell or a probe was measured; else it is an estimate that is rather too low."""


@dataclass(frozen=True, slots=True)
class AtOnce:
    """How many cells run at once."""

    cells: int
    limit: str
    """What allows no more of them, in words."""


def decide(
    config: SweepConfig, settings: CellSettings, store: Store, cells: Iterable[Cell], probed_mb: Sequence[float] = ()
) -> AtOnce:
    """Return how many cells run at once: as --jobs says or, where it is `auto`, as this machine allows now.

    Args:
        config: with what runs.
        settings: of its cells.
        store: its results folder, whose finished cells say what a cell takes.
        cells: of the sweep.
        probed_mb: peak memory of probes, which say it where no cell is finished.
    """
    run = config.run
    if run.jobs:
        return AtOnce(run.jobs, "--jobs")
    there = read_resources()
    if there.gpus:
        return cells_at_once(there, None, run.processes_per_cell, run.cells_per_gpu)
    records = (store.read_record(cell.key) for cell in cells)
    peaks = [one.figures["peak_memory_mb"] for one in records if one and one.status == "ok" and one.figures]
    parameters = count_parameters(config.data.model)
    need = memory_need(peaks or probed_mb, parameters, settings.train_language_model, settings.precision)
    return cells_at_once(there, need, run.processes_per_cell)


def memory_need(
    peaks_mb: Sequence[float], parameters: Mapping[str, int], train_language_model: bool, precision: str
) -> MemoryNeed:
    """Return what a process of a cell takes on a CPU, by the largest peak that was measured or, without any, by the weights.

    Args:
        peaks_mb: memory that processes of cells, or of probes, had mapped at most.
        parameters: numbers of parameters by part of the model.
        train_language_model: whether each cell trains one of its own, instead of sharing a frozen one.
        precision: of the frozen parts.
    """
    frozen = (*_FROZEN_PARTS, *(() if train_language_model else ("language_model",)))
    kept = sum(number for part, number in parameters.items() if part in frozen)
    shared = SHARED_MB + kept * (4 if precision == "fp32" else 2) / 2**20
    own = OWN_MB + (sum(parameters.values()) - kept) * _TRAINED_BYTES / 2**20
    # a peak without all that is shared, as one of another machine can be, says no less than a quarter of it
    each = max(max(peaks_mb) - shared, max(peaks_mb) / 4) if peaks_mb else own
    return MemoryNeed(each, shared, bool(peaks_mb))


def cells_at_once(
    there: Resources, need: MemoryNeed | None = None, processes_per_cell: int = 1, cells_per_gpu: int = 1
) -> AtOnce:
    """Return how many cells run at once, at least one, and what allows no more.

    GPUs alone decide where there are any: the machine's own memory then holds little but what all cells share, and how much
    of a GPU a cell takes is for the user to say.

    Args:
        there: cores, memory and GPUs.
        need: memory of a process; None: not known, so that it limits nothing.
        processes_per_cell: each of them with a GPU or a core.
        cells_per_gpu: cells that share a GPU.
    """
    if there.gpus:
        limit = _count(there.gpus, "GPU") + (f", {cells_per_gpu} cells on each" if cells_per_gpu > 1 else "")
        return AtOnce(max(1, there.gpus * cells_per_gpu // processes_per_cell), limit)
    cores, limit = there.cores, _count(there.cores, "core")
    if there.core_quota is not None and there.core_quota < cores:
        cores, limit = max(1, int(there.core_quota)), f"the cgroup's quota of {there.core_quota:g} cores"
    found = [AtOnce(max(1, cores // processes_per_cell), limit)]
    if need and there.memory_mb is not None:
        own = processes_per_cell * need.each_mb
        first = f"{'' if need.measured else '~'}{_gigabytes(need.shared_mb + own)}"
        shared = f", {_gigabytes(need.shared_mb)} of it shared by all" if need.shared_mb else ""
        limit = f"memory: {first} a cell{shared}, of {_gigabytes(there.memory_mb)}"
        found.append(AtOnce(max(1, int((there.memory_mb - need.shared_mb) / own)), limit))
    return min(found, key=lambda one: one.cells)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _gigabytes(mb: float) -> str:
    return f"{mb / 1024:.1f} GB"

"""Jobs whose processes share data from the start, for tests of templates (execute/worker.py)."""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np

from qtablate.execute.events import Progress
from qtablate.execute.worker import PRELOADED_DATA

held = np.zeros(0, np.uint8)
"""What the fork server has read: ones, as many MiB of them as its data says. Nothing here imports torch, to be quick."""
reader = 0
"""Process that read it."""

if PRELOADED_DATA in os.environ:
    held = np.ones(pickle.loads(Path(os.environ[PRELOADED_DATA]).read_bytes()) << 20, np.uint8)
    reader = os.getpid()


def describe(job: Path | None, report: Any) -> tuple[int, int, int]:
    """Return (sum of what is held, process that read it, fork server of this process), once the job's file is there."""
    report(Progress("train", 1, 1))
    while job and not job.exists():
        time.sleep(0.01)
    return int(held.sum()), reader, os.getppid()


def measure(job: tuple[Path, int], report: Any) -> tuple[float, float]:
    """Return (RSS, PSS) of this process in MiB, measured while as many processes run as the job says."""
    folder, processes = job
    assert int(held.sum()) == held.size  # every page is read
    _meet(folder, "running", processes)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    _meet(folder, "measured", processes)
    return kilobytes["Rss"] / 1024, kilobytes["Pss"] / 1024


def _meet(folder: Path, stage: str, processes: int) -> None:
    """Wait until as many processes are at this stage."""
    (folder / f"{stage} {os.getpid()}").touch()
    while len(list(folder.glob(f"{stage} *"))) < processes:
        time.sleep(0.01)

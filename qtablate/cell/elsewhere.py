"""Run a cell on a machine that does not see its results folder: its files are the result."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qtablate.cell.features import compute_features
from qtablate.cell.jobs import CellJob, FeatureJob
from qtablate.cell.run import run_cell
from qtablate.execute.events import Notice, Progress
from qtablate.model.cache import default_cache
from qtablate.store import Store


def run_cell_elsewhere(job: CellJob, report: Callable[[Progress | Notice], None]) -> dict[str, bytes]:
    """Run a cell in a temporary folder and return the content of its files by name.

    Visual features that this machine's cache lacks are computed first, so that model and data have to be here under the same
    names, and nothing else.
    """
    folder, condition, settings = default_cache() / "features", job.cell.condition, job.cell.settings
    training, benchmark = (replace(files, folder=folder) for files in (job.training, job.benchmark))
    for which, files in (("training", training), ("benchmark", benchmark)):
        if missing := tuple(files.missing()):
            compute_features(
                FeatureJob(job.data, files, missing, which, settings.samples, settings.image_ratio, condition.frames), report
            )
    with tempfile.TemporaryDirectory(prefix="qtablate-") as temporary:
        store = Store(Path(temporary))
        run_cell(replace(job, store=store.root, training=training, benchmark=benchmark, claim=None), report)
        return {path.name: path.read_bytes() for path in sorted(store.cell_file(job.cell.key, "").iterdir())}

"""Weights & Biases: a run per cell, grouped by condition. Offline, in wandb/ of the results folder, unless WANDB_MODE says
otherwise; `wandb sync` uploads such runs later.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from qtablate.store import Store
from qtablate.track.protocol import BY_SAMPLES, TRAIN, CellRun

_TAG = 64
"""Characters of a tag at most."""
_LOGIN_SECONDS = 30
"""That may pass until there is a key: nobody can type one while a sweep runs."""


class WandbTracker:
    """Runs of Weights & Biases."""

    def __init__(self, store: Store) -> None:
        self._root = store.root
        self._mode: Any = os.environ.get("WANDB_MODE") or "offline"
        self._url = ""

    @property
    def url(self) -> str:
        """Of the project; empty offline."""
        return self._url

    def _folders(self, run: CellRun) -> list[Path]:
        return list((self._root / "wandb").glob(f"offline-run-*-{run.id}"))

    def holds(self, run: CellRun) -> bool:
        """Whether the folder of an offline run is there."""
        return self._mode != "offline" or bool(self._folders(run))

    def log_cell(self, run: CellRun) -> None:
        """Write the run of a cell; an earlier one that is offline goes, one on the server gets its new figures."""
        if self._mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing leaves this machine unless the user says so
        import wandb

        earlier = self._folders(run)
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, login_timeout=_LOGIN_SECONDS
        )
        opened = wandb.init(
            id=run.id,
            name=run.name,
            group=run.group,
            project=os.environ.get("WANDB_PROJECT") or "qtablate",
            job_type="cell",
            tags=[run.sweep[:_TAG], *(["failed"] if run.failed else [])],
            config=dict(run.config),
            dir=self._root,
            mode=self._mode,
            resume=None if self._mode == "offline" else "allow",
            reinit="create_new",
            settings=settings,
        )
        opened.define_metric(BY_SAMPLES + "loss", step_metric=TRAIN + "samples_seen")
        for row in run.steps:
            figures = {TRAIN + name: value for name, value in row.items() if name != "step"}
            if "loss" in row:
                figures[BY_SAMPLES + "loss"] = row["loss"]
            opened.log(figures, step=int(row["step"]))
        opened.summary.update({**run.results(), **({"error": run.error} if run.failed else {})})
        if self._mode == "online":
            self._url = str(opened.project_url or "")
        opened.finish(exit_code=int(run.failed))
        for folder in earlier:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End wandb's own process, where one was started."""
        import wandb

        wandb.teardown()

"""MLflow: a run per cell, tagged with its condition, in an experiment per sweep. In mlflow.db of the results folder, unless
MLFLOW_TRACKING_URI names a server or another store.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from qtablate.store import Store
from qtablate.track.protocol import CellRun

DATABASE = "mlflow.db"
RUN_TAG, DIGEST_TAG = "qtablate.run", "qtablate.digest"
_BATCH = 1000
"""Metrics that one request may have."""
_PARAMETERS = 100
"""Parameters that one request may have."""
_LONGEST = 5000
"""Characters of a tag or a parameter."""


class MlflowTracker:
    """Runs of MLflow."""

    def __init__(self, store: Store) -> None:
        self._root = store.root.resolve()
        self._server = os.environ.get("MLFLOW_TRACKING_URI", "")
        self._opened: tuple[Any, str] | None = None

    @property
    def url(self) -> str:
        """Of the server or store that the environment names, without the password that may stand in it."""
        return re.sub(r"//[^/@]*@", "//", self._server)

    def holds(self, run: CellRun) -> bool:
        """Whether the database is there."""
        return bool(self._server) or (self._root / DATABASE).exists()

    def _open(self, sweep: str) -> tuple[Any, str]:
        """Return the client and the experiment of the sweep."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves this machine unless the user says so
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):  # which tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri=self._server or f"sqlite:///{self._root / DATABASE}")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or sweep
        found = client.get_experiment_by_name(name)
        if found:
            return client, found.experiment_id
        where = None if self._server else (self._root / "mlartifacts").as_uri()
        return client, client.create_experiment(name, artifact_location=where)

    def log_cell(self, run: CellRun) -> None:
        """Write the run of a cell; earlier ones with its id go."""
        from mlflow.entities import Metric, Param

        self._opened = self._opened or self._open(run.sweep)
        client, experiment = self._opened
        earlier = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run.id}'")
        tags = {RUN_TAG: run.id, DIGEST_TAG: run.digest, "condition": run.group, "cell": run.key, "sweep": run.sweep}
        if run.failed:
            tags["error"] = run.error[:_LONGEST]
        began = round(1000 * run.began)
        made = client.create_run(experiment, start_time=began, tags=tags, run_name=run.name).info.run_id
        parameters = [Param(name, str(value)[:_LONGEST]) for name, value in run.config.items()]
        metrics = [Metric(_name(name), value, round(1000 * time), step) for name, step, value, time in run.points()]
        last = int(run.steps[-1]["step"]) if run.steps else 0
        metrics += [Metric(_name(name), value, round(1000 * run.ended), last) for name, value in run.results().items()]
        for part in _parts(parameters, _PARAMETERS):
            client.log_batch(made, params=part)
        for part in _parts(metrics, _BATCH):
            client.log_batch(made, metrics=part)
        client.set_terminated(made, "FAILED" if run.failed else "FINISHED", end_time=round(1000 * run.ended))
        for old in earlier:
            client.delete_run(old.info.run_id)

    def close(self) -> None:
        """Nothing is left to write."""


def _name(text: str) -> str:
    """Return a metric's name in the letters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", text)


def _parts(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))

"""TensorBoard: an event file per cell under tensorboard/CONDITION/seed-N, and the table of conditions of its HParams page.

Written with TensorBoard's own record writer, from messages of its own: neither torch nor TensorFlow is imported. A file is
whole or absent, and named by the cell and the time of its record: what is there need not be written again.
"""

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from qtablate.store import Store
from qtablate.track.cells import slug
from qtablate.track.protocol import TASK, CellRun

FOLDER = "tensorboard"
FIGURES = "figures/"
"""What the names of a finished cell's figures begin with: the page shows a box for each part before a slash."""
_COMPARED = ("accuracy", "blind_accuracy", "visual_gain", "temporal_gain", "train_loss", "train_seconds", "peak_memory_mb")
"""Columns of the HParams table."""


class TensorBoardTracker:
    """Event files in the results folder."""

    url = ""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.root / FOLDER

    def _path(self, run: CellRun) -> Path:
        name = f"events.out.tfevents.{int(run.ended)}.{run.key}"
        return self._folder / slug(run.group) / f"seed-{run.seed}" / name

    def holds(self, run: CellRun) -> bool:
        """Whether its file is there."""
        return self._path(run).exists()

    def log_cell(self, run: CellRun) -> None:
        """Write the file of a cell; its earlier ones, and those of another cell in its folder, go."""
        path = self._path(run)
        self._store.write_file(self._folder / "events.out.tfevents.0.conditions", _file(_experiment(run)))
        self._store.write_file(path, _file(_events(run)))
        for other in [*self._folder.glob(f"*/*/events.out.tfevents.*.{run.key}"), *path.parent.glob("events.out.tfevents.*")]:
            if other != path:
                other.unlink(missing_ok=True)
                for folder in other.parents[:2]:
                    with suppress(OSError):  # it holds other files
                        folder.rmdir()

    def close(self) -> None:
        """Nothing is open."""


def _file(events: Iterator[Any]) -> bytes:
    """Return events as a file has them."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def _experiment(run: CellRun) -> Iterator[Any]:
    """Say which columns the HParams table has: a row per condition, the mean over its seeds."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams import summary_v2 as hparams

    columns = [hparams.HParam(name) for name in run.levels]
    metrics = [hparams.Metric(FIGURES + name, display_name=name) for name in _COMPARED]
    yield Event(wall_time=0, file_version="brain.Event:2")
    yield Event(wall_time=0, summary=hparams.hparams_config_pb(columns, metrics, time_created_secs=0))


def _events(run: CellRun) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
    from tensorboard.plugins.text.summary_v2 import text_pb

    def scalar(name: str, value: float) -> Summary:
        return Summary(value=[Summary.Value(tag=name, simple_value=value)])

    yield Event(wall_time=run.began, file_version="brain.Event:2")
    yield Event(wall_time=run.began, summary=summary_v2.hparams_pb(dict(run.levels), slug(run.group), run.began))
    yield Event(wall_time=run.began, summary=text_pb("cell", _table(run)))
    for name, step, value, time in run.points():
        yield Event(wall_time=time, step=step, summary=scalar(name, value))
    last = int(run.steps[-1]["step"]) if run.steps else 0
    for name, value in run.results().items():
        yield Event(wall_time=run.ended, step=last, summary=scalar(name if name.startswith(TASK) else FIGURES + name, value))
    if run.failed:
        yield Event(wall_time=run.ended, step=last, summary=text_pb("error", f"    {_indented(run.error)}"))
    status = api_pb2.STATUS_FAILURE if run.failed else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=run.ended)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    yield Event(wall_time=run.ended, summary=Summary(value=[value]))


def _table(run: CellRun) -> str:
    """Return what decided the cell as Markdown."""
    rows = {"name": run.name, "status": "failed" if run.failed else "ok", **run.config}
    return "\n".join(["| setting | value |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _indented(text: str) -> str:
    """Return text as Markdown shows it letter by letter: a block of code."""
    return "\n    ".join(text.splitlines())

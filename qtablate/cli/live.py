"""How a running sweep is shown: a live display in a terminal, with running means and failures; plain lines elsewhere."""

import math
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from qtablate.cli import console as consoles
from qtablate.cli.console import say
from qtablate.cli.plan import show_plan
from qtablate.cli.progress import ProgressDisplay
from qtablate.durations import format_duration

if TYPE_CHECKING:
    from qtablate.execute.events import Event
    from qtablate.records import Record
    from qtablate.sweep.events import SweepEvent
    from qtablate.sweep.plan import SweepPlan


class SweepDisplay:
    """Shows the events of a sweep as they come."""

    def __init__(self, screen: Console, plan: "SweepPlan") -> None:
        self.plan = plan
        """As the last event has it."""
        self.began = False
        """Whether there was anything to run."""
        self._shown = False
        self._screen = screen
        self._board: ProgressDisplay | None = None
        self._live: Live | None = None
        self._printed = 0.0

    def __call__(self, event: "SweepEvent") -> None:
        self.plan = event.plan
        if event.text:
            say(self._screen, event.text)
        if event.kind == "begun":
            self._begin(event)
        elif event.kind == "ended":
            self.close()
        elif event.event:
            self._show(event.event)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()
        self._live = None

    def _begin(self, event: "SweepEvent") -> None:
        from qtablate.sweep.forecast import Forecast

        self.began = True
        if event.stage == "cells" and not self._shown:
            self._shown = True  # of several rounds (--until-decided) once
            show_plan(self._screen, event.plan, Forecast())
        title, workers = {
            "features": ("Frozen visual features", event.plan.processes),
            "cells": ("Cells", event.plan.workers),
            "confirmation": ("Confirmation", event.plan.workers),
        }[event.stage]
        self._board = ProgressDisplay(title, event.jobs or {}, workers)
        if event.stage == "cells":
            self._note_finished(self._board)
        self._printed = -math.inf  # the first progress is shown at once
        if self._screen.is_terminal:
            self._live = Live(self._board.renderable(), console=self._screen, refresh_per_second=4, transient=True)
            self._live.start()

    def _note_finished(self, board: ProgressDisplay) -> None:
        """Tell the board which cells the conditions have, and what those have scored that are finished already."""
        from qtablate.grid import condition_names

        names = condition_names(self.plan.conditions())
        board.conditions = {cell.key: names[cell.condition] for cell in self.plan.cells}
        for cell in self.plan.cells:
            if cell.key not in board.labels and (record := self.plan.store.read_finished(cell.key)):
                board.note_accuracy(cell.key, _accuracy(record))

    def _show(self, event: "Event") -> None:
        board = self._board
        if board is None:
            return
        board.take(event)
        record = self.plan.store.read_record(event.key) if event.kind == "done" else None
        if record:
            board.note_accuracy(event.key, _accuracy(record))
        if self._live:
            self._live.update(board.renderable(), refresh=event.kind != "progress")
            if event.kind == "notice" or (event.kind in ("done", "failed") and event.key not in board.conditions):
                self._live.console.print(board.line(event, _outcome(record)))
        elif event.kind in ("done", "failed", "notice", "silent", "held"):
            self._screen.print(board.line(event, _outcome(record)), soft_wrap=True)
        elif event.kind == "progress" and time.monotonic() - self._printed > consoles.STATUS_SECONDS:
            self._printed = time.monotonic()
            for line in board.status_lines():
                self._screen.print(line, soft_wrap=True)


def _accuracy(record: "Record") -> float | None:
    return record.figures["accuracy"]["value"] if record.figures else None


def _outcome(record: "Record | None") -> str:
    """What a job came to; a job without a record, such as one that computes features, is just done."""
    if not record or not record.figures:
        return "done"
    figures = record.figures
    loss = "no supervised token" if figures["train_loss"] is None else f"loss {figures['train_loss']:.3f}"
    seconds = figures["train_seconds"] + figures["eval_seconds"] + figures["control_seconds"]
    return (
        f"accuracy {100 * figures['accuracy']['value']:.1f} %, blind {100 * figures['controls']['blind']['value']:.1f} %, "
        f"{loss}, {format_duration(seconds)}"
    )

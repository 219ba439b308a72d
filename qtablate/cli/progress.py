"""The state of running jobs, updated by their events, and how it is shown. The command line draws it."""

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from qtablate.durations import format_duration
from qtablate.execute.events import Event, Progress

_MOST_CONDITIONS, _MOST_ERRORS, _MOST_HELD, _MOST_RUNNING = 12, 3, 4, 16
"""That are shown at once: a terminal has few lines."""


@dataclass
class ProgressDisplay:
    """Counts of jobs and, for each running one, how far it is."""

    title: str
    labels: dict[str, str]
    """Name of every job, by key."""
    workers: int
    done: int = 0
    failed: int = 0
    began: float = field(default_factory=time.monotonic)
    running: dict[str, tuple[float, Progress | None]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    """Message for each running job that has not reported for long, by key."""
    held: dict[str, str] = field(default_factory=dict)
    """Who runs each job that another process runs, by key."""
    queued: dict[str, str] = field(default_factory=dict)
    """Where each job waits that a scheduler has, by key."""
    conditions: dict[str, str] = field(default_factory=dict)
    """Name of the condition of every cell of the sweep, by key; empty where the jobs are no cells of a grid."""
    accuracies: dict[str, list[float]] = field(default_factory=dict)
    """Accuracies of the finished cells of each condition."""
    errors: dict[str, str] = field(default_factory=dict)
    """First line of the error of each failed job, by key."""

    def take(self, event: Event) -> None:
        """Update the state by an event."""
        self.silent.pop(event.key, None)
        self.held.pop(event.key, None)
        self.queued.pop(event.key, None)
        if event.kind == "started":
            self.running[event.key] = (time.monotonic(), None)
        elif event.kind == "progress":
            self.running[event.key] = (self.running[event.key][0], event.progress)
        elif event.kind == "silent":
            self.silent[event.key] = event.text
        elif event.kind == "held":
            self.held[event.key] = event.text
        elif event.kind == "queued":
            self.queued[event.key] = event.text
            self.running.pop(event.key, None)
        elif event.kind in ("done", "failed"):
            self.running.pop(event.key, None)
            self.done += event.kind == "done"
            self.failed += event.kind == "failed"
            if event.kind == "failed":
                self.errors[event.key] = event.error.partition("\n")[0]

    def note_accuracy(self, key: str, accuracy: float | None) -> None:
        """Count what a finished cell scored toward the mean of its condition."""
        if accuracy is not None and key in self.conditions:
            self.accuracies.setdefault(self.conditions[key], []).append(accuracy)

    @property
    def over(self) -> int:
        """Jobs that have ended, done or failed."""
        return self.done + self.failed

    def left(self) -> float | None:
        """Seconds that the whole will still take, from what is done so far; None before anything is known."""
        share = self.over + sum(_share(progress) for _, progress in self.running.values())
        spent = time.monotonic() - self.began
        return spent * (len(self.labels) - share) / share if share > _LEAST_SHARE else None

    def renderable(self) -> RenderableType:
        """What a terminal shows of it."""
        head = Text(f"{self.title}: {self.over} of {len(self.labels)} done", style="bold")
        if self.failed:
            head.append(f", {self.failed} failed", style="red")
        if self.queued:
            head.append(f", {len(self.queued)} queued", style="default")
        head.append(f", {format_duration(time.monotonic() - self.began)} spent" + _about(self.left()), style="default")
        table = Table(box=None, show_header=False, padding=(0, 1), expand=False)
        for key, (began, progress) in list(self.running.items())[:_MOST_RUNNING]:
            table.add_row(
                self.labels[key],
                ProgressBar(total=1.0, completed=_share(progress), width=10),
                _words(progress, began),
                Text(self.silent.get(key, ""), style="yellow"),
            )
        if len(self.running) > _MOST_RUNNING:
            table.add_row(f"and {len(self.running) - _MOST_RUNNING} others", "", Text("running", style="dim"), "")
        for key, text in list(self.held.items())[:_MOST_HELD]:
            table.add_row(self.labels[key], "", Text(text, style="dim"), "")
        if len(self.held) > _MOST_HELD:
            table.add_row(f"and {len(self.held) - _MOST_HELD} others", "", Text("run by other processes", style="dim"), "")
        return Group(head, table, *self._so_far())

    def _so_far(self) -> list[RenderableType]:
        """Show the mean accuracy of each condition so far, and the errors of failed jobs."""
        parts: list[RenderableType] = []
        if self.accuracies:
            wanted = Counter(self.conditions.values())
            best = sorted(self.accuracies, key=lambda name: -_mean(self.accuracies[name]))
            shown = [name for name in wanted if name in best[:_MOST_CONDITIONS]]
            table = Table(box=None, padding=(0, 1), expand=False)
            for head, justify in (("so far", "left"), ("accuracy %", "right"), ("seed sd", "right"), ("seeds", "right")):
                table.add_column(head, justify=justify)  # type: ignore[arg-type]
            for name in shown:
                scores = self.accuracies[name]
                sd = f"{100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
                table.add_row(name, f"{100 * _mean(scores):.1f}", sd, f"{len(scores)}/{wanted[name]}")
            parts.append(table)
            if len(best) > len(shown):
                parts.append(Text(f"and {len(best) - len(shown)} less accurate conditions", style="dim"))
        errors = list(self.errors.items())
        parts += [Text(f"failed: {self.labels[key]}: {error}", style="red") for key, error in errors[-_MOST_ERRORS:]]
        if len(errors) > _MOST_ERRORS:
            parts.append(Text(f"and {len(errors) - _MOST_ERRORS} earlier failures", style="red"))
        return parts

    def line(self, event: Event, outcome: str = "") -> str:
        """One plain line for the end of a job, for a notice of it or for its silence."""
        if event.kind in ("notice", "held"):
            return f"{self.labels[event.key]}: {event.text}"
        if event.kind == "silent":
            return f"{self.labels[event.key]}: {event.text} ({_step(self.running[event.key][1])})"
        text = f"[{self.over}/{len(self.labels)}] {self.labels[event.key]}: "
        return text + (f"failed: {event.error}" if event.kind == "failed" else outcome or "done")

    def status_lines(self) -> list[str]:
        """Plain lines for the running jobs, and for those that wait in a queue."""
        lines = [f"  {self.labels[key]}: {_words(progress, began)}" for key, (began, progress) in self.running.items()]
        return [*lines, f"  {len(self.queued)} queued"] if self.queued else lines


_LEAST_SHARE = 0.02
"""Of a job or of all of them: before so much is done, the time left is not known well enough to be shown."""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _share(progress: Progress | None) -> float:
    return progress.share if progress else 0.0


def _step(progress: Progress | None) -> str:
    return str(progress) if progress else "starting"


def _words(progress: Progress | None, began: float) -> str:
    if progress is None:
        return _step(progress)
    loss = f", loss {progress.loss:.2f}" if progress.loss is not None else ""
    share, spent = _share(progress), time.monotonic() - began
    return f"{_step(progress)}{loss}" + _about(spent * (1 - share) / share if share > _LEAST_SHARE else None)


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f", {format_duration(seconds)} left"

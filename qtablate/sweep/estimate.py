"""Estimate what the cells of a plan take on this machine, from short probes of a few conditions."""

import time
from collections.abc import Callable, Generator
from contextlib import closing

from qtablate.axes import Condition
from qtablate.cell.jobs import Probed, ProbeJob
from qtablate.execute.events import Event
from qtablate.execute.local import run_jobs
from qtablate.grid import Cell, condition_names
from qtablate.model.directory import visual_tokens
from qtablate.sweep.forecast import SECONDS, Forecast, Load, forecast, probe_order
from qtablate.sweep.plan import SweepPlan

Events = Generator[Event, None, None]


def estimate(plan: SweepPlan, follow: Callable[[Events, int], Events] = lambda events, _: events) -> Forecast:
    """Estimate what a cell of each condition takes: a few conditions are probed, one at a time, and the others follow from
    these (forecast.py). A probe that fails is named in the forecast; it stops nothing.

    Args:
        follow: gives back the events of the probes, one by one, and may show them; its second argument is the number of probes.
    """
    cells: dict[Condition, Cell] = {}
    for cell in plan.to_run():
        cells.setdefault(cell.condition, cell)
    if not cells:
        return Forecast()
    loads = {
        one: Load(
            visual_tokens({**plan.model_config, "num_frames": one.frames}, one.extra_num_query_tokens),
            one.micro_batch_size,
            one.mixing,
            one.frames,
        )
        for one in cells
    }
    names = condition_names(list(cells))
    chosen = {names[condition]: condition for condition in probe_order(loads)}
    data, processes = plan.config.data, plan.config.run.processes_per_cell
    jobs = [(name, ProbeJob(cells[condition], data, processes)) for name, condition in chosen.items()]
    measured: dict[Condition, Probed] = {}
    failed: dict[Condition, str] = {}
    began: float | None = None
    with closing(run_jobs("qtablate.cell.probe:probe", jobs, 1)) as events, closing(follow(events, len(jobs))) as shown:
        for event in shown:
            if event.kind == "started" and began and time.monotonic() - began > SECONDS:
                break
            if event.kind != "started":  # the first process is there: importing torch is none of the probes' time
                began = began or time.monotonic()
            if event.kind == "failed":
                failed[chosen[event.key]] = event.error.partition("\n")[0].removeprefix("QtablateError: ")
            elif event.kind == "done":
                measured[chosen[event.key]] = event.result
    samples = {condition: cell.samples for condition, cell in cells.items()}
    not_begun = len(jobs) - len(measured) - len(failed)
    return forecast(loads, measured, samples, plan.settings.budget_size, plan.contents.n_items, failed, names, not_begun)

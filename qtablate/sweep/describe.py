"""What `--dry-run` shows: a table of the planned conditions, and every default that decides results, with its reason."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from qtablate.axes import AXES, BY_COLUMN, HEADLINE, TOKENS, incorrect_levels, levels_of, varying_axes
from qtablate.data.sources import trains_on_world_only
from qtablate.durations import format_duration
from qtablate.grid import Cell, json_text, reference_batch
from qtablate.model.directory import visual_tokens
from qtablate.model.query_resize import QueryResize
from qtablate.sweep.confirm import describe_confirmation
from qtablate.sweep.confirmation import CONDITIONS
from qtablate.sweep.forecast import Estimate, Forecast, makespan
from qtablate.sweep.plan import SweepPlan
from qtablate.table import Table
from qtablate.train.schedule import optimizer_steps

_USUALLY_SHOWN = ("mixing", "extra_init")


def plan_table(plan: SweepPlan, expected: Forecast) -> Table:
    """The plan: a row per condition."""
    to_run = Counter(cell.condition for cell in plan.to_run())
    rows, conditions = [], plan.conditions()
    fixed = (*HEADLINE, BY_COLUMN["micro_batch_size"])
    varied = [axis for axis in varying_axes(levels_of(conditions)) if axis not in fixed]
    others = [axis for axis in AXES if axis in varied or axis.column in _USUALLY_SHOWN]
    cell_of = {cell.condition: cell for cell in reversed(plan.cells)}
    for condition in conditions:
        cell, estimate = cell_of[condition], expected.estimates.get(condition)
        config = {**plan.model_config, "num_frames": condition.frames}
        rows.append(
            (
                str(condition.extra_num_query_tokens),
                str(visual_tokens(config, condition.extra_num_query_tokens)),
                str(condition.accumulate_grad_batches),
                str(condition.micro_batch_size),
                str(condition.effective_batch_size),
                *(axis.show(getattr(condition, axis.column)) for axis in others),
                f"{cell.learning_rate:.3g}",
                _steps(cell, estimate),
                str(to_run[condition]),
                *(_estimated(estimate) if expected.estimates else ()),
            )
        )
    columns = (
        "extra tokens",
        "visual",
        "accum",
        "micro-batch",
        "batch",
        *(axis.label for axis in others),
        "peak rate",
        "steps",
        "to run",
        *(("trainable", "MB", "s / step", "s / cell") if expected.estimates else ()),
    )
    labels = {axis.label for axis in varied}
    droppable = ("mixing", "extra init", "peak rate", "visual", "batch", "MB", "trainable")
    optional = tuple(name for name in droppable if name in columns and name not in labels)
    return Table(f"Plan of {plan.store.root}", columns, tuple(rows), _plan_note(plan, expected), optional=optional)


def _plan_note(plan: SweepPlan, expected: Forecast) -> str:
    to_run = plan.to_run()
    estimates = [expected.estimates.get(cell.condition) for cell in to_run]
    seconds = [estimate.cell_seconds for estimate in estimates if estimate]
    processes = plan.config.run.processes_per_cell
    note = "seconds per step and per cell; peak memory; " if expected.estimates else ""
    note += (
        f"{len(plan.cells)} cells, {len(to_run)} to run, "
        f"{_at_once(plan)}, each"
        + (f" by {processes} processes" if processes > 1 else "")
        + f" on {plan.settings.budget_in_words} and {plan.contents.n_items} items"
    )
    if seconds:
        unknown = len(to_run) - len(seconds)
        without = [f"the {unknown} whose probes failed"] * bool(unknown)
        without += ["the visual features that are computed before"] * bool(plan.chunks_missing())
        note += f"; about {format_duration(makespan(seconds, plan.workers))} in all"
        note += f", without {' and '.join(without)}" if without else ""
    confirmation = describe_confirmation(plan, expected)
    note += f"; {confirmation}" if confirmation else ""
    marked = any(not estimate.measured for estimate in expected.estimates.values())
    return f"{note}. {expected.method()}." if marked else f"{note}."


def _at_once(plan: SweepPlan) -> str:
    """How many cells run at once; on a cluster as --jobs says, or as its own scheduler does."""
    run = plan.config.run
    if run.executor == "local":
        return f"{plan.workers} at once ({plan.at_once.limit})"
    return f"{run.jobs} at once (--jobs)" if run.jobs else f"as many at once as {run.executor.capitalize()} starts"


def _steps(cell: Cell, estimate: Estimate | None) -> str:
    """Optimizer steps as planned; where the budget is supervised tokens, about as many as the probed samples suggest."""
    sizes = cell.condition.micro_batch_size, cell.condition.accumulate_grad_batches
    if cell.samples:
        return str(optimizer_steps(cell.samples, *sizes))
    return f"about {optimizer_steps(estimate.samples, *sizes)}" if estimate else ""


def _estimated(estimate: Estimate | None) -> tuple[str, ...]:
    """Parameters, memory and times of a condition; ~ marks what was not measured."""
    if estimate is None:
        return ("",) * 4
    mark = "" if estimate.measured else "~"
    return (
        "" if estimate.trainable_params is None else f"{estimate.trainable_params:,}",
        f"{mark}{estimate.peak_memory_mb:.0f}",
        f"{mark}{estimate.step_seconds:.3g}",
        f"{mark}{estimate.cell_seconds:.0f}",
    )


def explain_defaults(plan: SweepPlan, expected: Forecast) -> list[str]:
    """What decides results beside the axes, and why it is so, a sentence or two per line."""
    lines = [
        *_trained_parts(plan, expected),
        _optimizer(plan),
        *_budget(plan),
        *_batch_and_rate(plan),
        *_processes(plan),
        *_confirmation(plan),
        *_incorrect(plan),
        *_query_resize(plan),
        *_other_versions(plan),
    ]
    settings, grid = plan.settings, plan.config.grid
    if grid.conditions:
        lines.append(
            "The conditions are listed one by one: the report contrasts those that differ on one axis alone. Conditions that "
            "differ from all others on several axes at once are compared with the baseline as a whole."
        )
    if settings.precision != "fp32" or settings.gradient_checkpointing:
        again = " Activations are computed again in the backward pass." if settings.gradient_checkpointing else ""
        lines.append(f"Frozen parts and arithmetic are in {settings.precision}.{again}")
    if "zeros" in grid.all_levels(BY_COLUMN["extra_init"]) and any(grid.all_levels(TOKENS)):
        lines.append(
            "Warning: zero-initialized extra tokens are VideoChat2's choice, but they start as copies of one "
            "another and hardly diverge in a short run; --extra-init normal avoids that."
        )
    return lines


def _trained_parts(plan: SweepPlan, expected: Forecast) -> list[str]:
    settings, fresh = plan.settings, plan.model_config.get("fresh_parts") or []
    lora = f", a LoRA of rank {settings.lora_rank}" if settings.lora_rank else ""
    frozen = "" if settings.train_language_model else ", language model (--train-lm trains it, --lora an adapter)"
    count = f", {expected.frozen_params:,} parameters" if expected.frozen_params is not None else ""
    trained = ", language model" if settings.train_language_model else lora
    return [
        f"Frozen: vision encoder{frozen}{count}. Trained, in fp32: Q-Former, query tokens, projection{trained}.",
        f"Initialized from each cell's seed: {', '.join(fresh)}; an alignment-stage run, since queries that are added to a "
        "converged base are hardly taken up in a short run."
        if fresh
        else "All parts start from the model's files.",
    ]


def _optimizer(plan: SweepPlan) -> str:
    settings = plan.settings
    clipping = f"clipping at {settings.max_grad_norm:g}" if settings.max_grad_norm else "no clipping"
    return (
        f"AdamW, peak rate {settings.learning_rate:g}, warm-up over {100 * settings.warmup_ratio:g} % of the optimizer steps, "
        f"cosine to {settings.min_lr_ratio:g} of it, weight decay {settings.weight_decay:g} on matrices, {clipping}."
    )


def _budget(plan: SweepPlan) -> list[str]:
    settings, grid = plan.settings, plan.config.grid
    line = f"Budget: {settings.budget_in_words} per cell, {100 * settings.image_ratio:g} % of the samples images"
    if len(set(grid.all_levels(BY_COLUMN["accumulate_grad_batches"]))) > 1:
        line += f"; accumulation keeps the {grid.batch_size_is}, so "
        if grid.batch_size_is == "effective-batch":
            line += "only the arithmetic is split"
        else:
            line += "more of it means more samples" if settings.budget == "steps" else "more of it means fewer steps"
    lines = [f"{line}."]
    if settings.budget != "samples" and trains_on_world_only(plan.config.data):
        lines.append(f"The world draws {settings.samples} samples (--samples); cells that need more see them over again.")
    if settings.budget == "tokens":
        lines.append("How many samples hold so many supervised tokens follows from the texts, for every seed.")
    return lines


def _batch_and_rate(plan: SweepPlan) -> list[str]:
    grid = plan.config.grid
    lines = []
    if set(grid.all_levels(BY_COLUMN["lr_scaling"])) != {"none"}:
        lines.append(
            f"The learning rate is meant for an effective batch of {reference_batch(grid)} "
            "(--lr-reference-batch); --lr-scaling multiplies it by the ratio of the batches or its square root, or leaves it."
        )
    elif grid.batch_size_is == "micro-batch":
        sizes = {"accumulation": "accumulate_grad_batches", "the batch size": "micro_batch_size"}
        varied = [name for name, column in sizes.items() if len(set(grid.all_levels(BY_COLUMN[column]))) > 1]
        if varied:
            lines.append(
                "The learning rate is the same for every effective batch. A larger batch may want a higher one, so what these "
                f"cells say of {' and '.join(varied)} holds at this rate: --lr-scaling none,sqrt,linear compares."
            )
    if "scaled" in grid.all_levels(BY_COLUMN["adam_beta2"]):
        betas = {
            cell.condition.effective_batch_size: cell.betas[1] for cell in plan.cells if cell.condition.adam_beta2 == "scaled"
        }
        each = ", ".join(f"{beta:.6g} at {batch}" for batch, beta in sorted(betas.items()))
        lines.append(f"Scaled beta2 by effective batch (meant for {reference_batch(grid)}): {each or 'none differs'}.")
    return lines


def _processes(plan: SweepPlan) -> list[str]:
    """What several processes per cell mean for results, times and memory."""
    processes = plan.config.run.processes_per_cell
    if processes == 1:
        return []
    lines = [
        f"Each micro-batch is shared by {processes} processes (--processes-per-cell) that add up their "
        "gradients once per window: results are those of one process but for rounding and, where the model has "
        "dropout, its masks; the gradient's noise is not measured. Times and memory are of one process with "
        "its share, without what adding up takes."
    ]
    if plan.model_config.get("qformer_padded_left"):
        lines.append(
            "Warning: this model's visual tokens depend on what else is in a batch, so they depend on --processes-per-cell too."
        )
    return lines


def _confirmation(plan: SweepPlan) -> list[str]:
    """What --confirm does when the grid is finished, or what it compares where it is."""
    asked = plan.config.run.confirm
    if not asked or plan.confirmation.remark:
        return [plan.confirmation.remark] * bool(asked)
    if len(plan.conditions()) < CONDITIONS:
        return ["--confirm: nothing to confirm, the grid has one condition."]
    return [
        f"--confirm {asked}: when the grid is finished, the recommended and the baseline condition are trained and scored with "
        "fresh seeds, which take no part in the choice."
    ]


def _incorrect(plan: SweepPlan) -> list[str]:
    broken = dict.fromkeys(incorrect_levels(dataclasses.asdict(condition)) for condition in plan.conditions())
    named = ", ".join(filter(None, broken))
    if not named:
        return []
    return [f"Incorrect on purpose, to measure what it does: {named}. No result of these is advice."]


def _query_resize(plan: SweepPlan) -> list[str]:
    """What becomes of the extra query tokens in the model's files, where they have any."""
    stored = plan.model_config["extra_num_query_tokens"]
    if not stored:
        return []
    levels = dict.fromkeys(plan.config.grid.all_levels(TOKENS))
    each = [
        f"at {n}: {str(QueryResize(stored, n, 'as --extra-init says')).removeprefix('extra query tokens: ')}" for n in levels
    ]
    return [f"The model's files hold {stored} extra query tokens; {'; '.join(each)}."]


def _other_versions(plan: SweepPlan) -> list[str]:
    """What becomes of finished cells in the folder that differ from this sweep's in nothing but the packages' versions."""
    others = set(plan.store.keys()) - {cell.key for cell in plan.cells}
    mine = {_without_versions(dataclasses.asdict(cell)) for cell in plan.cells} if others else set()
    counts: Counter[str] = Counter()
    for key in others:
        record = plan.store.read_record(key)
        if record and record.status == "ok" and _without_versions(record.cell) in mine:
            counts[record.cell["fingerprints"]["software"]] += 1
    return [
        f"{number} finished cells of this grid were made with {versions}, and "
        f"{plan.cells[0].fingerprints.software} is installed: versions can change results, so they are kept in "
        "cells/, and run again under other keys. To reuse them, install those versions."
        for versions, number in counts.items()
    ]


def _without_versions(cell: Mapping[str, Any]) -> str:
    return json_text({**cell, "fingerprints": {**cell["fingerprints"], "software": ""}})

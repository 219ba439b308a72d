"""The table "What this grid can detect" of `--dry-run`, or the sentence that stands in its place."""

import math
from dataclasses import replace

from qtablate.axes import show_level
from qtablate.config import DataConfig
from qtablate.data.sources import is_world
from qtablate.report.contrasts import CORRECT_LEVELS, MAIN
from qtablate.report.labels import AXIS_LABELS
from qtablate.statistics.estimate import ALPHA, POWER
from qtablate.statistics.power import MOST_ITEMS, MOST_SEEDS, RANGE
from qtablate.statistics.sequential import error_share
from qtablate.sweep.detectable import Comparison, Detectable, Size, detectable, planned_answers, primary_comparisons
from qtablate.sweep.deviations import Deviations
from qtablate.sweep.plan import SweepPlan
from qtablate.table import Table, is_uninformative, points
from qtablate.world.benchmark import ITEMS_PER_TASK

TITLE = "What this grid can detect"


def detectable_table(plan: SweepPlan, deviations: Deviations | None, margin: float) -> Table | str:
    """Return a row per kind of primary contrast: what it detects, and how many seeds or items would detect the margin.

    Args:
        plan: what is planned.
        deviations: what is known of the differences between seeds and items; None: nothing.
        margin: the difference that should be detected, as a share.

    Returns:
        A sentence where nothing is compared or nothing is known.
    """
    comparisons = primary_comparisons(planned_answers(plan))
    if not comparisons:
        return f"{TITLE}: nothing, it compares no two runs; give an axis two levels, such as --tokens 0,32."
    if deviations is None:
        return (
            f"{TITLE} is not known: nothing says how much this model's accuracy on this benchmark varies between seeds. Name "
            "the results folder of an earlier sweep (--deviations DIR), or give the standard deviation between seeds of one "
            "condition in points (--seed-sd POINTS)."
        )
    size = Size(len(plan.config.grid.seeds), plan.contents.n_items, len(plan.contents.items_of_clip))
    if size.clips < 2:
        return f"{TITLE}: nothing, its {size.items} items share one clip; a difference has an uncertainty from two clips on."
    if plan.config.run.until_decided:  # what the last look finds, where all seeds are run
        comparisons = [replace(one, level=one.level * error_share(size.seeds, size.seeds)) for one in comparisons]
    found = detectable(comparisons, deviations, size, margin)
    wanted = f"{100 * margin:g}"
    columns = ("comparison", "at", "detects points", f"seeds for {wanted}", f"items for {wanted}")
    rows = [
        (
            _comparison_label(one),
            _fixed_levels_label(one),
            _effect_text(each),
            _seeds_text(each),
            _items_text(each, size, plan),
        )
        for one, each in zip(comparisons, found, strict=True)
    ]
    shown = len(columns) - (size.seeds == 1)  # no number of items makes up for a second seed
    note = _note(plan, deviations, comparisons, size, margin)
    if size.seeds > 1 and any(each.seeds is None and each.items is None for each in found):
        note += " Where neither is enough, more of both are needed."
    return Table(TITLE, columns[:shown], tuple(row[:shown] for row in rows), note, left=2)


def _comparison_label(comparison: Comparison) -> str:
    """Name what is compared: `extra tokens 32, 64 - 0`."""
    first = comparison.contrasts[0]
    levels = ", ".join(show_level(first.axis, contrast.level) for contrast in comparison.contrasts)
    return f"{AXIS_LABELS[first.axis]} {levels} - {show_level(first.axis, first.baseline)}"


def _fixed_levels_label(comparison: Comparison) -> str:
    """Name the levels of the other axes: `accum 4`, or `mean of accum 1+4`; correct levels of rules are not named."""
    first = comparison.contrasts[0]
    parts = [(axis, "+".join(show_level(axis, level) for level in levels)) for axis, levels in first.fixed_levels]
    named = [f"{AXIS_LABELS[axis]} {text}" for axis, text in parts if (axis, text) not in CORRECT_LEVELS.items()]
    return ("mean of " if first.kind == MAIN and named else "") + ", ".join(named)


def _effect_text(found: Detectable) -> str:
    """Format the smallest detectable difference with its range, in points."""
    if is_uninformative(found.effect):
        return "none"
    low, high = found.effect_low, found.effect_high
    if is_uninformative(low) or points(low, sign=False) == points(high, sign=False):
        return points(found.effect, sign=False)
    end = "more" if is_uninformative(high) else points(high, sign=False)
    return f"{points(found.effect, sign=False)} ({points(low, sign=False)} to {end})"


def _seeds_text(found: Detectable) -> str:
    """Format the number of seeds that detects the margin, with its range."""
    low, high = found.seeds_low, found.seeds_high
    if found.seeds is None:
        return f"not with up to {MOST_SEEDS}" + (f" ({low} or more)" if low else "")
    if low is None or low == high:
        return str(found.seeds)
    return f"{found.seeds} ({low} to {high or f'over {MOST_SEEDS}'})"


def _items_text(found: Detectable, size: Size, plan: SweepPlan) -> str:
    """Format the number of items that detects the margin, per task where that is how they are asked for."""
    if size.seeds == 1:
        return ""
    if found.items is None:
        return f"not with up to {MOST_ITEMS * size.items}"
    text, data, contents = str(found.items), plan.config.data, plan.contents
    usable = contents.entries - len(contents.item_problems)
    if not is_world(data.bench) and found.items > usable:
        return f"{text} (has {usable})"
    per_task = _items_per_task(data)
    return f"{text} ({math.ceil(per_task * found.items / size.items)} per task)" if per_task else text


def _items_per_task(data: DataConfig) -> int | None:
    """Return the planned number of items per task; None where all items of a folder are planned."""
    return data.items_per_task or (ITEMS_PER_TASK if is_world(data.bench) else None)


def _note(plan: SweepPlan, deviations: Deviations, comparisons: list[Comparison], size: Size, margin: float) -> str:
    """Say what the figures mean and what they rest on."""
    tests = sum(len(one.contrasts) for one in comparisons)
    last = ", of which the last look has half" if plan.config.run.until_decided else ""
    holm = f" ({ALPHA:g} / {tests} primary contrasts: Holm's adjustment while none is decided)" if tests > 1 else ""
    uncertain = not math.isnan(deviations.dof)
    seeds = f"{size.seeds} seeds" if size.seeds > 1 else "1 seed"
    parts = [
        f"Detects: the smallest true difference, in points, that {100 * POWER:g} % of all repetitions of this grid would find, "
        f"with {seeds}, {size.items} items of {size.clips} clips and {len(plan.conditions())} conditions, tested at "
        f"level {comparisons[0].level:.2g}{holm}{last}.",
        f"What would detect a difference of {100 * margin:g} (--margin): seeds at the planned items"
        + ("." if size.seeds == 1 else "; items, --items-per-task, at the planned seeds."),
        f"In brackets: range of {100 * RANGE:g} % confidence, since the deviations are known only roughly."
        if uncertain
        else "",
        f"Deviations: {_deviations_text(deviations, size)}",
    ]
    if size.seeds == 1:
        parts.append(
            "ONE SEED: a single seed cannot tell an effect from the difference that another seed makes. What it detects holds "
            "for the items only, as if every seed trained the same model, and no number of items changes that."
        )
    return " ".join(filter(None, parts))


def _deviations_text(deviations: Deviations, size: Size) -> str:
    if math.isnan(deviations.dof):
        return f"{deviations.source}."
    sd = points(math.sqrt(deviations.between_seeds(size.items) / 2), sign=False)
    return f"{sd} points between seeds of one condition at these items, measured in {deviations.source}."

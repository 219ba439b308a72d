"""Two results folders against each other: another model, benchmark, recipe or version, condition by condition.

Where both asked the same items, the difference is taken item by item and seed by seed; elsewhere the two are independent.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtablate.axes import effective
from qtablate.errors import QtablateError
from qtablate.report.contrasts import IDENTICAL, NOT_COMPARABLE, Answers, Condition, judge, measured, noise_of, read
from qtablate.report.frames import AXES, budget, cells, checked
from qtablate.statistics.estimate import Estimate, Floats, estimate
from qtablate.store import Store

COLUMNS = (
    *AXES,
    "effective_batch_size",
    "accuracy_first",
    "accuracy_second",
    "difference",
    "stderr",
    "ci_low",
    "ci_high",
    "dof",
    "p",
    "p_holm",
    "p_tost",
    "margin",
    "verdict",
    "paired",
    "seeds_first",
    "seeds_second",
    "seeds",
    "n_items",
    "n_clusters",
    "uncertainty",
)
_MADE_OF = ("sources", "recipe", "fingerprints", "versions")
"""Parts of sweep.json in which two sweeps may differ."""


@dataclass(frozen=True, slots=True)
class Comparison:
    first: str
    """Name of the folder that was named first; where both have one name, its path."""
    second: str
    table: pd.DataFrame
    """A row a condition that both have finished: second minus first."""
    differing: tuple[str, ...]
    """What differs between the two, such as `recipe.samples: 4800 -> 960`."""
    only: tuple[int, int]
    """How many conditions the first has alone, and the second."""
    budgets: tuple[str, str]
    """What each holds, in words. Where they differ nothing is comparable."""
    same_items: bool
    """Whether both asked the same items, so that differences are taken item by item."""
    same_results: bool
    """Whether both are one folder, or hold the same cells with the same answers: nothing is compared."""


def compare(first: Store, second: Store, margin: float) -> Comparison:
    """Raises StoreError for a folder that is no sweep's, QtablateError where no condition is finished in both."""
    sweeps = [checked(store) for store in (first, second)]
    if sweeps[0]["grid"]["hold"] != sweeps[1]["grid"]["hold"]:
        raise QtablateError(
            f"{first.root} holds the {sweeps[0]['grid']['hold']} and {second.root} the {sweeps[1]['grid']['hold']}: "
            "their conditions are not the same ones"
        )
    tables = [cells(store) for store in (first, second)]
    given = [read(store, table, sweep) for store, table, sweep in zip((first, second), tables, sweeps, strict=True)]
    both = [one for one in given[0].conditions if one in given[1].conditions]
    if not both:
        raise QtablateError(f"{first.root} and {second.root} have no finished condition in common")
    same = sweeps[0]["fingerprints"]["benchmark"] == sweeps[1]["fingerprints"]["benchmark"] and _aligned(*given)
    rows = [_row(given, one, _common(given, one) if same else [], margin) for one in both]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    judge(table, [list(table.index)])
    identical = np.array([same and _identical(given, one) for one in both], dtype=np.bool_)
    table.loc[identical, "verdict"] = IDENTICAL
    keys = [set(some.loc[some["status"] == "ok", "key"]) for some in tables]
    one_and_the_same = bool(identical.all()) and (first.root.resolve() == second.root.resolve() or keys[0] == keys[1])
    if one_and_the_same:
        table[["ci_low", "ci_high", "p", "p_holm", "p_tost"]] = math.nan
    budgets = (budget(sweeps[0]), budget(sweeps[1]))
    batches = [sweep["grid"]["lr_batch"] for sweep in sweeps]
    apart = (table["lr_scaling"] != "none") & (batches[0] != batches[1]) | (budgets[0] != budgets[1])
    table.loc[apart, ["p_holm", "p_tost", "ci_low", "ci_high"]] = math.nan
    table.loc[apart, "verdict"] = NOT_COMPARABLE
    alone = (len(given[0].conditions) - len(both), len(given[1].conditions) - len(both))
    names = [store.root.resolve().name for store in (first, second)]
    if names[0] == names[1]:
        names = [str(store.root) for store in (first, second)]
    return Comparison(names[0], names[1], table, _differing(*sweeps), alone, budgets, same, one_and_the_same)


def _aligned(one: Answers, two: Answers) -> bool:
    return list(one.items) == list(two.items)


def _answers(given: Answers, condition: Condition, seeds: list[int]) -> Floats:
    return np.stack([given.right[condition, seed] for seed in seeds], axis=1)


def _common(given: list[Answers], condition: Condition) -> list[int]:
    """Seeds with which both have finished a condition."""
    seeds = [one.seeds_of(condition) for one in given]
    return [seed for seed in seeds[0] if seed in seeds[1]]


def _paired(given: list[Answers], condition: Condition, seeds: list[int]) -> Estimate:
    """By item and by seed."""
    return estimate(_answers(given[1], condition, seeds) - _answers(given[0], condition, seeds), given[0].clips)


def _identical(given: list[Answers], condition: Condition) -> bool:
    """Whether the same seeds have the same items right. Both asked the same items."""
    seeds = [one.seeds_of(condition) for one in given]
    return sorted(seeds[0]) == sorted(seeds[1]) and bool(
        (_answers(given[0], condition, seeds[0]) == _answers(given[1], condition, seeds[0])).all()
    )


def _apart(given: list[Answers], condition: Condition) -> Estimate:
    """Of two independent means (Welch)."""
    arms = []
    for one in given:
        noise = noise_of(one, np.ones(len(one.clips), np.bool_))
        arms.append(estimate(_answers(one, condition, one.seeds_of(condition)), one.clips, noise, weights=1.0))
    variances = [arm.stderr**2 for arm in arms]
    whole = sum(variances)
    below = sum(v**2 / arm.dof for v, arm in zip(variances, arms, strict=True) if v)
    return Estimate(
        arms[1].value - arms[0].value,
        math.sqrt(whole),
        whole**2 / below if below else arms[0].dof,
        min(arm.seeds for arm in arms),
        min(arm.items for arm in arms),
        min(arm.clips for arm in arms),
        arms[0].components and arms[1].components,
    )


def _row(given: list[Answers], condition: Condition, common: list[int], margin: float) -> dict[str, Any]:
    """`common`: the seeds to pair by; without any, each side's mean over its own seeds."""
    value = _paired(given, condition, common) if common else _apart(given, condition)
    means = [float(_answers(one, condition, one.seeds_of(condition)).mean()) for one in given]
    named = dict(zip(given[0].axes, condition, strict=True))
    return {
        **{axis: named.get(axis) for axis in AXES},
        "effective_batch_size": effective(named),
        "accuracy_first": means[0],
        "accuracy_second": means[1],
        **measured(value, margin),
        "paired": bool(common),
        "seeds": value.seeds,
        "seeds_first": len(given[0].seeds_of(condition)),
        "seeds_second": len(given[1].seeds_of(condition)),
    }


def _differing(one: dict[str, Any], two: dict[str, Any]) -> tuple[str, ...]:
    scaled = any(set(sweep["grid"].get("lr_scaling", ())) - {"none"} for sweep in (one, two))
    batches = [sweep["grid"]["lr_batch"] for sweep in (one, two)]
    rate = (f"grid.lr_batch: {batches[0]} -> {batches[1]}",) if scaled and batches[0] != batches[1] else ()
    return rate + tuple(
        f"{part}.{name}: {one[part].get(name)} -> {two[part].get(name)}"
        for part in _MADE_OF
        for name in dict.fromkeys((*one[part], *two[part]))
        if one[part].get(name) != two[part].get(name)
    )

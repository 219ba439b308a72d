"""What the data support: every level of every axis against its baseline, pairs of axes, and all of it again a task.

A contrast is a weighted sum of conditions whose weights cancel, taken item by item and seed by seed over the seeds that
have finished all of them. Families for Holm's adjustment: the contrasts of one axis and kind, the interactions, and the
tasks of one contrast.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from qtablate import axes
from qtablate.errors import QtablateError
from qtablate.report.frames import AXES, HELD, answers
from qtablate.statistics.estimate import Estimate, Floats, SeedVariance, estimate, holm, pooled_seed_variance
from qtablate.statistics.power import minimum_detectable_effect, required_sizes
from qtablate.store import Store

SIMPLE, MAIN, INTERACTION = "simple", "main", "interaction"
"""Kinds: at one level of the other axes; averaged over their levels; how a difference itself differs."""
BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
NOT_COMPARABLE = "not comparable"
IDENTICAL = "identical"
"""Of two folders: not one answer differs in whether it is correct, at any seed."""
ITEMS_ONLY = "items only"
"""What an uncertainty holds where one seed cannot tell of others."""
SAME_BUDGET = 0.01
"""Share by which conditions may differ in what is held: a skipped window, a budget reached in the middle of a sample."""
ALL = "all"  # tasks
RIGHT = {axis.name: axis.known[0] for axis in axes.AXES if axis.incorrect}
"""The right level of every axis that has incorrect ones."""
COLUMNS = (
    "kind",
    "axis",
    "level",
    "baseline",
    "other_axis",
    "other_level",
    "other_baseline",
    "fixed_levels",
    "task",
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
    "mde",
    "seeds_needed",
    "items_needed",
    "seeds",
    "n_items",
    "n_clusters",
    "uncertainty",
    "incorrect",
)

Condition = tuple[Any, ...]
"""Levels in the order of the axes."""


@dataclass(frozen=True, slots=True)
class Contrast:
    kind: str
    axis: str
    level: Any
    baseline: Any
    weights: Mapping[Condition, float]
    at: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """The other axes that vary, each with the level, or the levels that are averaged."""
    other_axis: str = ""
    other_level: Any = None
    other_baseline: Any = None

    @property
    def family(self) -> tuple[str, str]:
        return (self.kind, self.axis if self.kind != INTERACTION else "")


@dataclass(frozen=True, slots=True)
class Answers:
    """Right and wrong of all finished cells."""

    axes: tuple[str, ...]
    right: Mapping[tuple[Condition, int], Floats]
    """(condition, seed) -> 1 and 0 an item."""
    clips: np.ndarray[Any, np.dtype[np.int64]]
    tasks: np.ndarray[Any, np.dtype[np.str_]]
    items: "np.ndarray[Any, np.dtype[np.str_]]"
    """Their names. Items that not every cell has answered are not among them."""
    lr_batch: int = 0
    """Effective batch that the learning rate is meant for."""
    held: Mapping[Condition, float] = field(default_factory=dict)
    """How much of the budget a condition's cells had, on average."""

    def named(self, condition: Condition) -> dict[str, Any]:
        return dict(zip(self.axes, condition, strict=True))

    def idle(self, condition: Condition) -> set[str]:
        """Axes that have no meaning in a condition, whatever stands there."""
        return axes.meaningless(self.named(condition), self.lr_batch)

    @property
    def conditions(self) -> list[Condition]:
        return list(dict.fromkeys(condition for condition, _ in self.right))

    def incorrect(self, condition: Condition) -> bool:
        """Whether it breaks a rule of accumulation."""
        return bool(axes.incorrect_levels(self.named(condition)))

    def run_of(self, condition: Condition) -> Condition:
        """The same for conditions that are one and the same run but for rounding: an effective batch that is split in two
        ways (report/batch_split_check.py)."""
        named = self.named(condition)
        if named["mixing"] != "mixed" or self.incorrect(condition):
            return condition
        split = {*axes.SPLIT, "effective_batch_size"}
        return (axes.effective(named), *(level for axis, level in named.items() if axis not in split))

    def seeds_of(self, condition: Condition) -> list[int]:
        return [seed for one, seed in self.right if one == condition]


def axes_of(hold: str) -> tuple[str, ...]:
    """The axes that may vary one at a time: where a batch is split, its parts follow from the accumulation."""
    return tuple("effective_batch_size" if hold == "effective-batch" and a == "micro_batch_size" else a for a in AXES)


def read(store: Store, cells: pd.DataFrame, sweep: Mapping[str, Any]) -> Answers:
    """Of the finished cells of a table. `sweep`: what sweep.json says."""
    named = axes_of(sweep["grid"]["hold"])
    done = cells[cells["status"] == "ok"]
    given = answers(store, list(done["key"]))
    if given.empty:
        return Answers(named, {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    given = given[given["control"] == "full"]
    table = given.pivot(index=["item", "cluster", "task"], columns="key", values="correct")
    whole = table.dropna().reindex(given["item"].unique(), level="item")  # in the order of the answers
    columns = {str(row["key"]): (tuple(row[axis] for axis in named), int(row["seed"])) for _, row in done.iterrows()}
    amounts: dict[Condition, list[float]] = {}
    for key, amount in zip(done["key"], done[HELD[sweep["recipe"]["budget"]]], strict=True):
        amounts.setdefault(columns[str(key)][0], []).append(float(amount))
    index = whole.index
    return Answers(
        named,
        {columns[str(key)]: whole[key].to_numpy(np.float64) for key in done["key"]},
        pd.factorize(index.get_level_values("cluster"))[0].astype(np.int64),
        index.get_level_values("task").to_numpy(dtype=np.str_),
        index.get_level_values("item").to_numpy(dtype=np.str_),
        sweep["grid"]["lr_batch"],
        {one: sum(some) / len(some) for one, some in amounts.items()},
    )


def baselines(given: Answers, asked: Mapping[str, str]) -> dict[str, Any]:
    """The level of each axis that others are compared with: what was asked for, else 0 extra tokens, no accumulation,
    the usual level of an axis of words, and the first of every other. Raises QtablateError for an axis or a level that is
    not there."""
    known = dict(zip((axis.option for axis in axes.AXES), given.axes, strict=True))
    for name in asked:
        if name not in known:
            raise QtablateError(f"--baseline: unknown axis '{name}'; known: {', '.join(known)}")
    asked = {known[name]: level for name, level in asked.items() if name in known}
    out = {}
    for place, axis in enumerate(given.axes):
        levels = list(dict.fromkeys(one[place] for one in given.conditions if axis not in given.idle(one)))
        if axis in asked:
            named = (
                [level for level in levels if f"{level:g}" == asked[axis]]
                if axis == "extra_lr"
                else [level for level in levels if str(level) == asked[axis]]
            )
            if not named:
                there = ", ".join(axes.told(axis, level) for level in levels)
                option = axes.AXES[place].option
                raise QtablateError(
                    f"--baseline {option}={asked[axis]}: no finished cell has it; "
                    + (f"there are {there}" if there else "there is none whose answers could be compared")
                )
            out[axis] = named[0]
        elif levels:
            usual = axes.AXES[place].known[:1]
            out[axis] = min(levels) if axis in AXES[:2] else usual[0] if usual and usual[0] in levels else levels[0]
    return out


def contrasts(given: Answers, base: Mapping[str, Any]) -> list[Contrast]:
    """All that the finished conditions allow. Those that break a rule are compared with those that keep it and all others, and
    in nothing else."""
    conditions, varying = given.conditions, _varying(given)
    out: list[Contrast] = []
    for place, axis in enumerate(given.axes):
        simple = []
        for one in conditions:
            if axis not in base or one[place] == base[axis] or axis in given.idle(one) or _breaks_another(given, one, axis):
                continue
            start = _moved(given, conditions, one, {axis: base[axis]}, base)
            if start:
                at = _rest(given, one, varying - {place})
                simple.append(Contrast(SIMPLE, axis, one[place], base[axis], {one: 1.0, start: -1.0}, at))
        out += simple
        for level in dict.fromkeys(one.level for one in simple):
            some = [one for one in simple if one.level == level]
            if len(some) > 1:
                out.append(Contrast(MAIN, axis, level, base[axis], _mean([one.weights for one in some]), _averaged(some)))
    return out + list(_interactions(given, conditions, base))


def _interactions(given: Answers, conditions: Sequence[Condition], base: Mapping[str, Any]) -> Iterator[Contrast]:
    varying = _varying(given)
    for (a, one), (b, two) in itertools.combinations([(n, axis) for n, axis in enumerate(given.axes) if axis in base], 2):
        for corner in conditions:
            idle = given.idle(corner)
            if corner[a] == base[one] or corner[b] == base[two] or {one, two} & idle or _breaks_another(given, corner, ""):
                continue
            others = [n for n, axis in enumerate(given.axes) if n not in (a, b) and axis in base and axis not in idle]
            if any(corner[n] != base[given.axes[n]] for n in others):
                continue  # the other axes rest at their baselines
            sides = [_moved(given, conditions, corner, move, base) for move in ({one: base[one]}, {two: base[two]})]
            start = _moved(given, conditions, corner, {one: base[one], two: base[two]}, base)
            if start and sides[0] and sides[1] and len({corner, start, *sides}) == 4:
                weights = {corner: 1.0, sides[0]: -1.0, sides[1]: -1.0, start: 1.0}
                at = _rest(given, corner, varying - {a, b})
                yield Contrast(INTERACTION, one, corner[a], base[one], weights, at, two, corner[b], base[two])


def _moved(
    given: Answers, conditions: Sequence[Condition], one: Condition, levels: Mapping[str, Any], base: Mapping[str, Any]
) -> Condition | None:
    """The condition that has these levels and is like this one otherwise, as far as the other axes then have a meaning; where
    an axis gains one (extra tokens have an initial value), it is at its baseline. None where there is no such condition, or it
    is this one again."""
    idle = given.idle(one)
    named: dict[str, Any] = {**given.named(one), **{axis: base[axis] for axis in idle if axis in base}, **levels}
    named = axes.settled(named, given.lr_batch)
    found = tuple(named[axis] for axis in given.axes)
    return found if found in conditions and found != one else None


def _varying(given: Answers) -> set[int]:
    """Places of the axes that have several levels where they have a meaning."""
    there = [{one[n] for one in given.conditions if axis not in given.idle(one)} for n, axis in enumerate(given.axes)]
    return {n for n, levels in enumerate(there) if len(levels) > 1}


def _rest(given: Answers, one: Condition, places: Iterable[int]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The levels of these axes, where they have a meaning."""
    idle = given.idle(one)
    return tuple((given.axes[n], (one[n],)) for n in sorted(places) if given.axes[n] not in idle)


def _breaks_another(given: Answers, one: Condition, axis: str) -> bool:
    """Whether a condition breaks another rule than the one that is compared: nobody is to be advised by that."""
    return bool(axes.incorrect_levels({name: level for name, level in given.named(one).items() if name != axis}))


def _mean(weights: Sequence[Mapping[Condition, float]]) -> dict[Condition, float]:
    out: dict[Condition, float] = {}
    for one in weights:
        for condition, weight in one.items():
            out[condition] = out.get(condition, 0.0) + weight / len(weights)
    return out


def _averaged(some: Sequence[Contrast]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    levels: dict[str, dict[Any, None]] = {}
    for axis, found in itertools.chain.from_iterable(one.at for one in some):
        levels.setdefault(axis, {}).update(dict.fromkeys(found))
    return tuple((axis, tuple(found)) for axis, found in levels.items())


def table(given: Answers, wanted: Sequence[Contrast], margin: float, tasks: bool = True) -> pd.DataFrame:
    """A row a contrast, over all items and then a task at a time. Differences are shares, as accuracies are."""
    found: list[tuple[Contrast, str, Estimate]] = []
    everything = np.ones(len(given.clips), dtype=np.bool_)
    for task in (ALL, *(dict.fromkeys(given.tasks.tolist()) if tasks else ())):
        which = everything if task == ALL else given.tasks == task
        sound, every = noise_of(given, which), noise_of(given, which, incorrect=True)
        found += [
            (one, task, _estimated(given, one, which, every if any(map(given.incorrect, one.weights)) else sound))
            for one in wanted
        ]
    rows = pd.DataFrame([_row(one, task, value, margin) for one, task, value in found], columns=list(COLUMNS))
    families: dict[Any, list[int]] = {}
    for number, (one, task, _) in enumerate(found):
        name = one.family if task == ALL else (id(one), "tasks")
        families.setdefault(name, []).append(number)
    apart = np.array([not _same_budget(given, one) for one, _, _ in found], dtype=np.bool_)
    rows.loc[apart, ["p", "p_tost", "ci_low", "ci_high"]] = math.nan
    judge(rows, families.values())
    rows.loc[apart, "verdict"] = NOT_COMPARABLE
    rows["mde"] = minimum_detectable_effect(rows["stderr"].to_numpy(np.float64), rows["dof"].to_numpy(np.float64))
    decided = [
        required_sizes(value, margin) if task == ALL and word == UNDECIDED else (None, None)
        for (_, task, value), word in zip(found, rows["verdict"], strict=True)
    ]
    rows["seeds_needed"], rows["items_needed"] = zip(*decided, strict=True) if decided else ((), ())
    return rows


def _same_budget(given: Answers, one: Contrast) -> bool:
    """Whether all conditions that are compared had as much of what is held."""
    amounts = [given.held[condition] for condition in one.weights if condition in given.held]
    return not amounts or max(amounts) - min(amounts) <= SAME_BUDGET * max(amounts)


def noise_of(given: Answers, which: "np.ndarray[Any, np.dtype[np.bool_]]", incorrect: bool = False) -> SeedVariance | None:
    """What differs from seed to seed on these items, pooled over the conditions, of those that are one run once. Those that
    break a rule may be more restless, and are left out unless they are asked for."""
    rows: dict[Condition, int] = {}
    conditions = [one for one in given.conditions if incorrect or not given.incorrect(one)] or given.conditions
    kept: dict[Condition, int] = {}
    for one in conditions:
        run = given.run_of(one)
        if run not in rows:
            rows[run] = kept[one] = len(rows)
    seeds = list(dict.fromkeys(seed for _, seed in given.right))
    accuracies = np.full((len(kept), len(seeds)), np.nan)
    for (condition, seed), right in given.right.items():
        if condition in kept:
            accuracies[kept[condition], seeds.index(seed)] = right[which].mean()
    return pooled_seed_variance(accuracies)


def _estimated(
    given: Answers, one: Contrast, which: "np.ndarray[Any, np.dtype[np.bool_]]", noise: SeedVariance | None
) -> Estimate:
    seeds = [s for s in given.seeds_of(next(iter(one.weights))) if all((c, s) in given.right for c in one.weights)]
    columns = [sum(weight * given.right[c, seed][which] for c, weight in one.weights.items()) for seed in seeds]
    difference = np.stack(columns, axis=1) if columns else np.zeros((int(which.sum()), 0))
    # conditions that are one run have their seed's part in common; where those cancel, what rounding did to them is left
    runs: dict[Condition, float] = {}
    for condition, weight in one.weights.items():
        run = given.run_of(condition)
        runs[run] = runs.get(run, 0.0) + weight
    squares = max(sum(w**2 for w in weights.values()) for weights in (one.weights, runs))
    return estimate(difference, given.clips[which], noise, squares)


def measured(value: Estimate, margin: float) -> dict[str, Any]:
    """A difference with its uncertainty, by the columns' names; `judge` adds what rests on its family."""
    low, high = value.interval()
    return {
        "difference": value.value,
        "stderr": value.stderr,
        "ci_low": low,
        "ci_high": high,
        "dof": value.dof,
        "p": value.p,
        "p_tost": value.p_tost(margin),
        "margin": margin,
        "n_items": value.items,
        "n_clusters": value.clips,
        "uncertainty": "" if math.isnan(value.stderr) else "items and seeds" if value.seed_dof else ITEMS_ONLY,
    }


def judge(rows: pd.DataFrame, families: Iterable[list[int]]) -> None:
    """Adjust the p of each family (Holm) and say the verdicts, in place."""
    for members in families:
        rows.loc[members, "p_holm"] = holm(list(rows.loc[members, "p"].astype(float)))
        rows.loc[members, "p_tost"] = holm(list(rows.loc[members, "p_tost"].astype(float)))
    judged = zip(rows["difference"], rows["p_holm"], rows["p_tost"], strict=True)
    rows["verdict"] = [verdict(*(float(one) for one in triple)) for triple in judged]


def _row(one: Contrast, task: str, value: Estimate, margin: float) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "axis": one.axis,
        "level": one.level,
        "baseline": one.baseline,
        "other_axis": one.other_axis,
        "other_level": one.other_level,
        "other_baseline": one.other_baseline,
        "task": task,
        "fixed_levels": "; ".join(f"{axis}={'+'.join(axes.told(axis, level) for level in levels)}" for axis, levels in one.at),
        **measured(value, margin),
        "seeds": value.seeds,
        "incorrect": one.axis in RIGHT and one.level != RIGHT[one.axis],
    }


def verdict(difference: float, p: float, p_tost: float) -> str:
    """In a word. What is surely smaller than the margin is equivalent, even where it is surely not nothing."""
    if math.isnan(p):
        return ""
    if p_tost < 0.05:
        return EQUIVALENT
    if p < 0.05:
        return BETTER if difference > 0 else WORSE
    return UNDECIDED

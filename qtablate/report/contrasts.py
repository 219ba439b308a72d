"""Which contrasts the finished conditions allow: every level of every axis against its baseline, and pairs of axes.

A contrast is a weighted sum of conditions whose weights add up to zero: a simple effect at one level of the other axes, a main
effect averaged over their levels, or an interaction of two axes. A listed condition that no such contrast reaches, because it
differs from all others on several axes at once, is compared with the baseline as a whole. effects.py estimates them.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qtablate import axes
from qtablate.axes import Level
from qtablate.errors import QtablateError
from qtablate.report.answers import Answers, Condition
from qtablate.report.labels import AXIS_LABELS, CONDITION

SIMPLE, MAIN, INTERACTION, WHOLE = "simple", "main", "interaction", "condition"
"""Kinds of contrasts."""
CORRECT_LEVELS = {axis.column: axis.names[0] for axis in axes.AXES if axis.incorrect}
"""The correct level of every axis that has incorrect ones."""


FixedLevels = tuple[tuple[str, tuple[Level, ...]], ...]
"""Axes, each with the level at which it is fixed or the levels that are averaged."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One comparison of conditions."""

    kind: str
    axis: str
    level: Level
    baseline: Level
    """The level of the axis that `level` is compared with."""
    weights: Mapping[Condition, float]
    fixed_levels: FixedLevels = ()
    """The other axes that vary."""
    other_axis: str = ""
    """The second axis of an interaction."""
    other_level: Level | None = None
    other_baseline: Level | None = None

    @property
    def family(self) -> tuple[str, str]:
        """The family of tests that Holm's adjustment counts it in: its axis and kind, or the interactions."""
        return (self.kind, self.axis if self.kind != INTERACTION else "")


def baselines(answers: Answers, requested: Mapping[str, str]) -> dict[str, Level]:
    """Choose the level of each axis that its other levels are compared with.

    The default is 0 extra tokens, no accumulation, the usual level of an axis of words, and the first level of any other.

    Args:
        answers: of the finished cells.
        requested: levels by option, such as {"tokens": "32"}.

    Raises:
        QtablateError: an unknown axis, or a level that no finished cell has.
    """
    axis_of = dict(zip((axis.option for axis in axes.AXES), answers.axes, strict=True))
    for option in requested:
        if option not in axis_of:
            raise QtablateError(f"--baseline: unknown axis '{option}'; known: {', '.join(axis_of)}")
    by_axis = {axis_of[option]: level for option, level in requested.items()}
    chosen = {}
    for place, axis in enumerate(answers.axes):
        levels = list(
            dict.fromkeys(condition[place] for condition in answers.conditions if axis not in answers.inactive(condition))
        )
        if axis in by_axis:
            chosen[axis] = _requested_level(axes.AXES[place].option, axis, levels, by_axis[axis])
        elif levels:
            chosen[axis] = _usual_level(axes.AXES[place], levels)
    return chosen


def _usual_level(axis: axes.Axis, levels: Sequence[Level]) -> Level:
    """Return the level that others are compared with where the user names none."""
    if axis in axes.HEADLINE:
        return min(levels, key=float)
    return axis.usual if axis.usual is not None and axis.usual in levels else levels[0]


def _requested_level(option: str, axis: str, levels: Sequence[Level], text: str) -> Level:
    """Find the level that `--baseline` names. Raises QtablateError."""
    for level in levels:
        if (f"{level:g}" if isinstance(level, float) else str(level)) == text:
            return level
    known = ", ".join(axes.show_level(axis, level) for level in levels)
    raise QtablateError(
        f"--baseline {option}={text}: no finished cell has it; "
        + (f"there are {known}" if known else "there is none whose answers could be compared")
    )


def contrasts(answers: Answers, base: Mapping[str, Level]) -> list[Contrast]:
    """List all contrasts that the finished conditions allow.

    A condition that breaks a rule of accumulation is compared only with the one that keeps this rule and is like it otherwise.

    Args:
        answers: of the finished cells.
        base: baseline level by axis.
    """
    varying = _varying_axes(answers)
    out: list[Contrast] = []
    for place, axis in enumerate(answers.axes):
        simple = []
        for condition in answers.conditions:
            if axis not in base or condition[place] == base[axis] or axis in answers.inactive(condition):
                continue
            if _breaks_other_rule(answers, condition, axis):
                continue
            reference = matched_condition(answers, condition, {axis: base[axis]}, base)
            if reference:
                fixed = _fixed_levels(answers, condition, varying - {place})
                simple.append(Contrast(SIMPLE, axis, condition[place], base[axis], {condition: 1.0, reference: -1.0}, fixed))
        out += simple
        for level in dict.fromkeys(contrast.level for contrast in simple):
            same = [contrast for contrast in simple if contrast.level == level]
            if len(same) > 1:
                weights = _mean_weights([contrast.weights for contrast in same])
                out.append(Contrast(MAIN, axis, level, base[axis], weights, _averaged_levels(same)))
    return [*out, *_whole_conditions(answers, base, out), *_interactions(answers, base)]


def _whole_conditions(answers: Answers, base: Mapping[str, Level], found: Sequence[Contrast]) -> Iterator[Contrast]:
    """Yield a comparison with the baseline of every condition that is in no contrast yet."""
    compared = {condition for contrast in found for condition in contrast.weights}
    correct = [condition for condition in answers.conditions if not answers.is_incorrect(condition)]
    reference = baseline_condition(answers, base) or next(iter(correct), None)
    for condition in correct:
        if reference is not None and condition not in compared and condition != reference:
            differing = [axis for axis, *pair in zip(answers.axes, condition, reference, strict=True) if pair[0] != pair[1]]
            level, baseline = (_named(answers, one, differing) for one in (condition, reference))
            yield Contrast(WHOLE, CONDITION, level, baseline, {condition: 1.0, reference: -1.0})


def _named(answers: Answers, condition: Condition, shown: Sequence[str]) -> str:
    """Name a condition by its levels of some axes, as far as they have an effect."""
    levels, inactive = answers.levels(condition), answers.inactive(condition)
    return ", ".join(f"{AXIS_LABELS[axis]} {axes.show_level(axis, levels[axis])}" for axis in shown if axis not in inactive)


def _interactions(answers: Answers, base: Mapping[str, Level]) -> Iterator[Contrast]:
    """Yield the interactions of two axes, with all other axes at their baselines."""
    varying = _varying_axes(answers)
    pairs = itertools.combinations([(place, axis) for place, axis in enumerate(answers.axes) if axis in base], 2)
    for (a, first), (b, second) in pairs:
        for corner in answers.conditions:
            inactive = answers.inactive(corner)
            if corner[a] == base[first] or corner[b] == base[second] or {first, second} & inactive:
                continue
            others = [
                place
                for place, axis in enumerate(answers.axes)
                if place not in (a, b) and axis in base and axis not in inactive
            ]
            if any(corner[place] != base[answers.axes[place]] for place in others) or _breaks_other_rule(answers, corner, ""):
                continue
            sides = [
                matched_condition(answers, corner, moved, base) for moved in ({first: base[first]}, {second: base[second]})
            ]
            reference = matched_condition(answers, corner, {first: base[first], second: base[second]}, base)
            if reference and sides[0] and sides[1] and len({corner, reference, *sides}) == 4:
                weights = {corner: 1.0, sides[0]: -1.0, sides[1]: -1.0, reference: 1.0}
                fixed = _fixed_levels(answers, corner, varying - {a, b})
                yield Contrast(INTERACTION, first, corner[a], base[first], weights, fixed, second, corner[b], base[second])


def matched_condition(
    answers: Answers, condition: Condition, levels: Mapping[str, Level], base: Mapping[str, Level]
) -> Condition | None:
    """Find the condition that has these levels and is like a given one otherwise.

    An axis that has no effect in the given condition but has one in the other (the initial value of extra tokens, where there
    were none) stands at its baseline.

    Args:
        answers: of the finished cells.
        condition: the given one.
        levels: the levels by axis that differ.
        base: baseline level by axis.

    Returns:
        None where no finished condition is like that, or where it is the given one again.
    """
    inactive = answers.inactive(condition)
    wanted: dict[str, Level] = {
        **answers.levels(condition),
        **{axis: base[axis] for axis in inactive if axis in base},
        **levels,
    }
    wanted = axes.canonical_levels(wanted, answers.reference_batch, answers.scaled_levels)
    match = tuple(wanted[axis] for axis in answers.axes)
    return match if match in answers.places and match != condition else None


def baseline_condition(answers: Answers, base: Mapping[str, Level]) -> Condition | None:
    """Return the finished condition with every axis at its baseline; None where there is none."""
    return next(
        (
            condition
            for condition in answers.conditions
            if all(
                level == base[axis] or axis in answers.inactive(condition)
                for axis, level in answers.levels(condition).items()
                if axis in base
            )
        ),
        None,
    )


def _varying_axes(answers: Answers) -> set[int]:
    """Return the places of the axes that have several levels among the conditions in which they have an effect."""
    levels = [
        {condition[place] for condition in answers.conditions if axis not in answers.inactive(condition)}
        for place, axis in enumerate(answers.axes)
    ]
    return {place for place, found in enumerate(levels) if len(found) > 1}


def _fixed_levels(answers: Answers, condition: Condition, places: Iterable[int]) -> FixedLevels:
    """Return a condition's levels of the axes at these places, as far as they have an effect."""
    inactive = answers.inactive(condition)
    return tuple((answers.axes[place], (condition[place],)) for place in sorted(places) if answers.axes[place] not in inactive)


def _breaks_other_rule(answers: Answers, condition: Condition, axis: str) -> bool:
    """Whether a condition breaks another rule than that of `axis`: no comparison with it gives advice."""
    levels = answers.levels(condition)
    return answers.is_incorrect(condition) and bool(
        axes.incorrect_levels({name: level for name, level in levels.items() if name != axis})
    )


def _mean_weights(weights: Sequence[Mapping[Condition, float]]) -> dict[Condition, float]:
    """Average the weights of several contrasts."""
    out: dict[Condition, float] = {}
    for condition, weight in itertools.chain.from_iterable(each.items() for each in weights):
        out[condition] = out.get(condition, 0.0) + weight / len(weights)
    return out


def _averaged_levels(contrasts: Sequence[Contrast]) -> FixedLevels:
    """Collect the levels of the other axes over which a main effect averages."""
    levels: dict[str, dict[Level, None]] = {}
    for axis, values in itertools.chain.from_iterable(contrast.fixed_levels for contrast in contrasts):
        levels.setdefault(axis, {}).update(dict.fromkeys(values))
    return tuple((axis, tuple(values)) for axis, values in levels.items())

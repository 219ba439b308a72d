"""Rules for the interval of a difference of conditions, on the same grids: the report's former one and others considered.

The report's own rule is not here: studies run the report's code. A new rule is one entry of RULES.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from qtablate.report.contrasts import Contrast
from qtablate.report.families import ALL, Tests
from qtablate.statistics.clustered import clip_variance
from qtablate.statistics.estimate import ALPHA, Floats, combined, larger_variance, pooled_seed_variance


@dataclass(frozen=True, slots=True)
class Parts:
    """What variances rest on: (contrasts,) of one grid, or (grids, contrasts)."""

    value: Floats
    seeds: Floats
    clips: Floats
    """Variance between clips of the mean difference, corrected for clips of unequal sizes."""
    clip_dof: Floats
    plain_clips: Floats
    """The same with the factor G / (G - 1) for G clips."""
    plain_clip_dof: Floats
    both: Floats
    """V(clips x seeds); 0 with one seed."""
    plain_both: Floats
    own: Floats
    """Variance of the mean difference between its own seeds; 0 with one seed."""
    pooled: Floats
    """The one that the variance pooled over the sweep foretells."""
    pooled_dof: Floats
    squares: Floats
    """Sum of the squared weights of the conditions."""
    by_condition: Floats
    """V(seeds) as the sum over conditions, each with its own variance."""
    by_condition_dof: Floats


def parts(correct: Floats, clips: NDArray[np.int64], done: NDArray[np.bool_], weights: Floats) -> Parts:
    """Return what the variances of contrasts of a grid rest on.

    Args:
        correct: (conditions, seeds, items).
        clips: (items,) clip of each item, in order from 0.
        done: (conditions, seeds) which cells have finished.
        weights: (contrasts, conditions).
    """
    sizes = np.bincount(clips).astype(np.float64)
    starts, groups, n = np.flatnonzero(np.diff(clips, prepend=-1)), len(sizes), len(clips)
    accuracies = np.where(done, correct.mean(axis=2), np.nan)
    pooled = pooled_seed_variance(accuracies)
    assert pooled
    of_conditions = variance_of_conditions(accuracies)
    of_cells, over_all_seeds = np.add.reduceat(correct, starts, axis=2), correct.mean(axis=1)
    rows = []
    for of_contrast in weights:
        used = np.flatnonzero(of_contrast)
        seeds = np.flatnonzero(done[used].all(axis=0))
        of_items = over_all_seeds[used] if len(seeds) == done.shape[1] else correct[used][:, seeds].mean(axis=1)
        over_seeds = of_contrast[used] @ of_items
        count, value = len(seeds), float(over_seeds.mean())
        sums = np.tensordot(of_contrast[used], of_cells[used][:, seeds], 1)  # (seeds, clips)
        of_seeds = sums.sum(axis=1) / n
        sums -= value * sizes
        over_seeds -= value
        between = clip_variance(sums.mean(axis=0), sizes, float(over_seeds @ over_seeds))
        residuals = sums - sums.mean(axis=0) - sizes * (of_seeds - value)[:, None]
        both = float(np.square(residuals).sum()) / n**2 / (count - 1) / count if count > 1 else 0.0
        plain = groups / (groups - 1)
        own = float(of_seeds.var(ddof=1)) / count if count > 1 else 0.0
        squares = float(of_contrast @ of_contrast)
        terms = of_contrast[used] ** 2 * of_conditions[used] / count
        below = float((terms**2).sum()) / max(count - 1, 1)
        rows.append(
            Parts(
                *(value, count, max(between.variance, 1 / n**2), between.dof),
                *(max(plain * float(np.square(sums.mean(axis=0)).sum()) / n**2, 1 / groups**2), groups - 1),
                *(both * between.correction, both * plain, own, squares * pooled.variance / count, pooled.dof, squares),
                *(float(terms.sum()), float(terms.sum()) ** 2 / below if below else 1.0),
            )
        )
    return stacked(rows)


def stacked(rows: Sequence[Parts]) -> Parts:
    """Stack the parts of contrasts, or of grids."""
    return Parts(*(np.array([getattr(row, field.name) for row in rows], np.float64) for field in fields(Parts)))


def variance_of_conditions(accuracies: Floats) -> Floats:
    """Estimate each condition's own variance between seeds from residuals of condition and seed means.

    With C conditions the residuals of one have the expected variance v (1 - 2 / C) + mean(v) / C, which is solved for v. With
    two conditions it cannot be: both get the mean.

    Args:
        accuracies: (conditions, seeds), nan where a cell has not finished.
    """
    residuals = accuracies - np.nanmean(accuracies, axis=1, keepdims=True)
    residuals -= np.nanmean(residuals, axis=0)
    count = len(accuracies)
    found = np.nansum(residuals**2, axis=1) / np.maximum((~np.isnan(accuracies)).sum(axis=1) - 1, 1)
    if count < 3:
        return np.full(count, found.mean() * count / (count - 1))
    return np.maximum((found - found.mean() / (count - 1)) / (1 - 2 / count), 0.0)


Variance = tuple[Floats, Floats]
"""V(seeds) of a mean difference, and its degrees of freedom."""


def pooled_variance(of: Parts) -> Variance:
    """Pooled over all conditions of the sweep."""
    return of.pooled, of.pooled_dof


def own_variance(of: Parts) -> Variance:
    """Between the difference's own seeds."""
    return of.own, np.maximum(of.seeds - 1, 1)


def variance_by_condition(of: Parts) -> Variance:
    """The sum of the conditions' own (Welch)."""
    return of.by_condition, of.by_condition_dof


def wider_variance(of: Parts) -> Variance:
    """The larger of pooled and own, with the degrees of freedom of that one."""
    own, dof = own_variance(of)
    return np.maximum(own, of.pooled), np.where(own > of.pooled, dof, of.pooled_dof)


def blended_variance(of: Parts) -> Variance:
    """The larger of the two, with the report's degrees of freedom."""
    return larger_variance(*own_variance(of), of.pooled, of.pooled_dof)


def moderated_variance(of: Parts) -> Variance:
    """Shrunk to what the contrasts of the sweep have in common (Smyth 2004, doi 10.2202/1544-6115.1027).

    Degrees of freedom are at most those of the pooled variance.
    """
    own, dof = own_variance(of)
    per_weight = np.log(np.maximum(own * of.seeds / of.squares, 1e-12))
    centered = per_weight - special.digamma(dof / 2) + np.log(dof / 2)
    excess = centered.var(axis=-1, ddof=1) if centered.shape[-1] > 1 else np.zeros(centered.shape[:-1])
    prior = 2 * _inverse_trigamma(np.maximum(excess - special.polygamma(1, dof / 2).mean(axis=-1), 1e-4))[..., None]
    common = np.exp(centered.mean(axis=-1, keepdims=True) + special.digamma(prior / 2) - np.log(prior / 2))
    shrunk = (prior * common * of.squares / of.seeds + dof * own) / (prior + dof)
    return shrunk, np.minimum(prior + dof, np.maximum(of.pooled_dof, dof))


def _inverse_trigamma(values: Floats) -> Floats:
    """Return x with trigamma(x) = value."""
    roots = [optimize.brentq(lambda x, y=float(y): special.polygamma(1, x) - y, 1e-6, 1e6) for y in np.ravel(values)]
    return np.reshape(roots, np.shape(values))


Total = Callable[[Floats, Floats, Floats, Floats, Floats, Floats], Variance]
"""Like estimate.combined."""


def satterthwaite(clips: Floats, clip_dof: Floats, seeds: Floats, seed_dof: Floats, both: Floats, both_dof: Floats) -> Variance:
    """Return V(clips) + V(seeds) - V(clips x seeds) with Satterthwaite's degrees of freedom."""
    total = np.maximum(clips + seeds - both, np.maximum(clips, seeds))
    return total, total**2 / (clips**2 / clip_dof + seeds**2 / seed_dof + both**2 / both_dof)


@dataclass(frozen=True, slots=True)
class Rule:
    """How an interval is made."""

    seeds: Callable[[Parts], Variance]
    total: Total = satterthwaite
    former: bool = False
    """Whether clips count alike whatever their sizes, and p-values are adjusted by axis and kind."""


NEW, OLD = "new", "old"
"""The report's rule, and its former one."""
RULES = {
    OLD: Rule(pooled_variance, former=True),
    "own seeds": Rule(own_variance),
    "Welch": Rule(variance_by_condition),
    "wider": Rule(wider_variance),
    "moderated": Rule(moderated_variance),
    "new, no raise": Rule(blended_variance),
    "own, raised": Rule(own_variance, combined),
    "wider, raised": Rule(wider_variance, combined),
    "moderated, raised": Rule(moderated_variance, combined),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says of the contrasts of many grids, (grids, contrasts)."""

    value: Floats
    low: Floats
    high: Floats
    claims: NDArray[np.int64]
    """1 where better, -1 where worse, 0 otherwise."""
    equivalent: NDArray[np.bool_]


def apply(rule: Rule, of: Parts, wanted: Sequence[Contrast], margin: float) -> Found:
    """Apply a rule to the contrasts of many grids.

    Args:
        rule: one of RULES.
        of: parts, (grids, contrasts).
        wanted: the contrasts.
        margin: below which differences are equivalent.
    """
    variance, dof = estimated(rule, of)
    stderr = np.sqrt(variance)
    half = special.stdtrit(dof, 1 - ALPHA / 2) * stderr
    p = 2 * special.stdtr(dof, -np.abs(of.value) / stderr)
    p_tost = special.stdtr(dof, -(margin - np.abs(of.value)) / stderr)
    p, p_tost = (adjusted(values, families_of(wanted, rule.former)) for values in (p, p_tost))
    equivalent = p_tost < ALPHA
    claims = np.where((p < ALPHA) & ~equivalent, np.sign(of.value), 0).astype(np.int64)
    return Found(of.value, of.value - half, of.value + half, claims, equivalent)


def estimated(rule: Rule, of: Parts) -> Variance:
    """Return the variance of mean differences and its degrees of freedom."""
    clips, dof, both = (of.plain_clips, of.plain_clip_dof, of.plain_both) if rule.former else (of.clips, of.clip_dof, of.both)
    return rule.total(clips, dof, *rule.seeds(of), both, dof * np.maximum(of.seeds - 1, 1))


Families = list[tuple[list[int], list[int]]]
"""Columns that are adjusted together, and those of them that this decides."""


def families_of(wanted: Sequence[Contrast], former: bool) -> Families:
    """Return the families of contrasts: the report's, or the former ones by axis and kind."""
    tests = Tests.of([("", ALL, contrast, tuple(contrast.weights.items())) for contrast in wanted])
    if former:
        return [([test[0] for test in family], [test[0] for test in family]) for family in tests.by_axis]
    return [([test[0] for test in family], sorted(decided)) for family, decided in tests.deciding]


def adjusted(p: Floats, families: Families) -> Floats:
    """Adjust p-values of many grids by Holm's method, (grids, contrasts)."""
    out = np.full(p.shape, np.nan)
    for family, decided in families:
        part = p[:, family]
        order = np.argsort(part, axis=1)
        steps = np.take_along_axis(part, order, axis=1) * np.arange(len(family), 0, -1)
        holm = np.empty_like(part)
        np.put_along_axis(holm, order, np.minimum(1.0, np.maximum.accumulate(steps, axis=1)), axis=1)
        out[:, decided] = holm[:, [family.index(column) for column in decided]]
    return out

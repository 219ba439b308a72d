"""How much a difference of two conditions varies between seeds and between items, for planning: measured, given or unknown.

    python -m qtablate.sweep.deviations results/nano-world > qtablate/sweep/reference_deviations.json

writes what is known of nano on the world, from a finished sweep of the default grid.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from qtablate.data.sources import is_world
from qtablate.errors import StoreError
from qtablate.report.answers import Answers, read_answers
from qtablate.report.contrasts import SIMPLE, baselines, contrasts
from qtablate.report.effects import pooled_over
from qtablate.report.folder import read_complete_sweep
from qtablate.report.frames import cell_frame
from qtablate.statistics.estimate import VarianceComponents, estimate
from qtablate.store import Store
from qtablate.sweep.plan import SweepPlan

_REFERENCE = "reference_deviations.json"


@dataclass(frozen=True, slots=True)
class Deviations:
    """Components of the variance of the difference of two conditions' accuracies. Variances are of shares, not of points."""

    seed: float
    """Between seeds, of one seed: what is left of it on very many items."""
    clip: float
    """Between clips, times the number of items: falls as 1 / items."""
    interaction: float
    """Of clips x seeds, of one seed, times the number of items."""
    dof: float
    """Degrees of freedom of the variance between seeds; nan where it was given by hand and so counts as known."""
    source: str
    """Where these are from, in words."""

    def between_seeds(self, items: int) -> float:
        """Return V(seeds) of a difference, of one seed, as this many items would show it."""
        return self.seed + self.interaction / items

    def scaled(self, factor: float, items: int) -> "Deviations":
        """Return the deviations with V(seeds) on this many items multiplied by a factor."""
        seed = max(self.between_seeds(items) * factor - self.interaction / items, 0.0)
        return dataclasses.replace(self, seed=seed)


def known_deviations(plan: SweepPlan, folder: Path | None, seed_sd: float | None) -> Deviations | None:
    """Choose the deviations that a plan rests on.

    These are, in this order: those of the named sweep; the standard deviation that was given; those of a finished sweep of the
    same model and benchmark in the plan's own folder; and for nano on its world those of the reference sweep.

    Args:
        plan: what is planned.
        folder: results folder of an earlier sweep (--deviations).
        seed_sd: standard deviation between seeds of one condition, as a share (--seed-sd).

    Returns:
        None where nothing is known.

    Raises:
        StoreError: the named folder holds no sweep, or one that says nothing about seeds.
    """
    if folder:
        try:
            return measured_deviations(Store(folder))
        except StoreError as error:
            raise StoreError(f"--deviations: {error}") from None
    if seed_sd is not None:
        return given_deviations(seed_sd)
    data = plan.config.data
    with suppress(StoreError):
        sweep = read_complete_sweep(plan.store)
        same = sweep.fingerprints.model == plan.cells[0].fingerprints.model and sweep.config.data.bench == data.bench
        if same and all(plan.store.finished(cell.key) for cell in sweep.cells if cell.key not in sweep.not_needed):
            return measured_deviations(plan.store)
    return reference_deviations() if data.model == "nano" and is_world(data.bench) else None


def measured_deviations(store: Store) -> Deviations:
    """Measure the deviations of a sweep.

    Raises:
        StoreError: it is no sweep, its cells' files are gone, or fewer than two conditions have finished with two seeds.
    """
    sweep = read_complete_sweep(store)
    answers = read_answers(store, cell_frame(store), sweep)
    seeds = len({seed for _, seed in answers.correct})
    found = deviations_of(
        answers,
        f"{store.root} ({len(answers.conditions)} conditions, {seeds} seeds, {len(answers.items)} items, "
        f"{sweep.settings.budget_in_words} per cell)",
    )
    if found:
        return found
    raise StoreError(
        f"{store.root} says nothing about differences between seeds: expected two conditions or more that have finished with "
        "the same two seeds or more; name another sweep, or give the standard deviation between seeds (--seed-sd)"
    )


def deviations_of(answers: Answers, source: str) -> Deviations | None:
    """Measure the deviations of some answers; None where no two conditions share two seeds.

    The variance between seeds is pooled over the conditions. That of each contrast in a report is the larger of two estimates,
    and so too large on average. The components of clips are means over the simple contrasts. Conditions that break a rule of
    accumulation count only where there are no others to compare.
    """
    for incorrect in (False, True):
        pooled = pooled_over(answers, answers.correct, incorrect) if answers.correct else None
        components = list(_simple_components(answers, incorrect))
        if pooled and components:
            items = len(answers.items)
            interaction = sum(each.interaction for each in components) / len(components)
            clip = sum(each.clip for each in components) / len(components)
            seed = max(2 * pooled.variance - interaction, 0.0)
            return Deviations(seed, clip * items, interaction * items, pooled.dof, source)
    return None


def _simple_components(answers: Answers, incorrect: bool) -> Iterator[VarianceComponents]:
    """Yield the components of each simple contrast of two different runs that share two seeds."""
    for contrast in contrasts(answers, baselines(answers, {})) if answers.correct else ():
        level, base = contrast.weights if contrast.kind == SIMPLE else ((), ())
        if not level or answers.run_of(level) == answers.run_of(base):
            continue
        if not incorrect and (answers.is_incorrect(level) or answers.is_incorrect(base)):
            continue
        seeds = [seed for seed in answers.seeds_of(level) if (base, seed) in answers.correct]
        if len(seeds) > 1:
            columns = [answers.correct[level, seed] - answers.correct[base, seed] for seed in seeds]
            components = estimate(np.stack(columns, axis=1), answers.clips).components
            if components:
                yield components


def given_deviations(seed_sd: float) -> Deviations:
    """Return the deviations for a standard deviation between seeds of one condition, given as a share.

    Two conditions vary independently, so that their difference has twice the variance. What is due to the items is as in the
    reference sweep, where the answers of two runs differ on about a fifth of the items: binomial arithmetic, the variance of a
    difference of single answers is the share of the items on which they differ.
    """
    reference = reference_deviations()
    source = f"--seed-sd {100 * seed_sd:g} points between seeds of one condition; of the items: {reference.source}"
    return dataclasses.replace(reference, seed=2 * seed_sd**2, dof=math.nan, source=source)


def reference_deviations() -> Deviations:
    """Return the deviations of the reference sweep, which the package holds."""
    text = resources.files(__package__).joinpath(_REFERENCE).read_text(encoding="utf-8")
    return Deviations(**json.loads(text))


def _main() -> None:
    measured = measured_deviations(Store(Path(sys.argv[1])))
    where = measured.source.partition(" (")[2]
    content = dataclasses.asdict(measured) | {"source": f"the reference sweep of nano on the world ({where}"}
    print(json.dumps({name: float(f"{x:.4g}") if isinstance(x, float) else x for name, x in content.items()}, indent=1))


if __name__ == "__main__":
    _main()

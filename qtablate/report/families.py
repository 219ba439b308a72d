"""Families of tests: whose p-values are adjusted together (Holm), so that a report without effects rarely claims any.

- Primary contrasts are the levels of every axis against its baseline over all items: averaged over the other axes where these
  have several levels, else as they stand. Holm's adjustment over all of them decides their verdicts.
- Secondary contrasts, at one level of the other axes where an average exists, and interactions, are adjusted over all contrasts
  of the report.
- The tasks of one contrast are a family of their own.

Every outcome has its own families. Rows that compare the same two runs are one test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtablate.report.answers import Condition
from qtablate.report.contrasts import INTERACTION, MAIN, Contrast
from qtablate.report.verdicts import adjusted
from qtablate.statistics.estimate import ALPHA, Floats

ALL = "all"
"""What stands as the task where a contrast is over all items."""
Weights = tuple[tuple[Condition, float], ...]
"""Weights of a contrast by run, those that cancel left out."""
Test = list[int]
"""Numbers of the rows that show a test."""
Family = list[Test]


@dataclass(frozen=True, slots=True)
class Tests:
    """The rows of a frame of contrasts as tests, sorted into families."""

    primary: list[bool]
    """Whether each row is a primary contrast over all items."""
    deciding: list[tuple[Family, set[int]]]
    """Families, each with the rows whose verdicts it decides. A primary test is in the family of the secondary ones, too."""
    same_as: list[int | None]
    """The earlier row that compares the same runs, for each row."""
    by_axis: list[Family]
    """The contrasts of one axis and kind; the tasks of one contrast."""

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, Contrast, Weights]]) -> "Tests":
        """Sort rows into families.

        Args:
            rows: the outcome, task, contrast and weights of each row. Rows without weights are not tested.
        """
        of_contrasts = are_primary([contrast for _, _, contrast, _ in rows])
        primary = [task == ALL and of_all for (_, task, _, _), of_all in zip(rows, of_contrasts, strict=True)]
        families: dict[tuple[object, ...], Family] = {}
        by_axis: dict[tuple[object, ...], Family] = {}
        decided: dict[tuple[object, ...], set[int]] = {}
        first: dict[tuple[object, ...], int] = {}
        same_as: list[int | None] = [None] * len(rows)
        for number, (outcome, task, contrast, weights) in enumerate(rows):
            if not weights:
                continue
            if task != ALL:
                names: list[tuple[object, ...]] = [(outcome, id(contrast))]
            else:
                names = [(outcome, "primary"), (outcome, "report")] if primary[number] else [(outcome, "report")]
            same = first.setdefault((outcome, task, weights), number)
            same_as[number] = same if same != number else None
            for name in names:
                _add(families.setdefault(name, []), same, number)
            decided.setdefault(names[0], set()).add(number)
            _add(by_axis.setdefault((outcome, *(contrast.family if task == ALL else names[0])), []), same, number)
        deciding = [(family, decided.get(name, set())) for name, family in families.items()]
        return cls(primary, deciding, same_as, list(by_axis.values()))

    def adjusted(self, p: "pd.Series[float]") -> Floats:
        """Return the p-values that decide the verdicts."""
        out = np.full(len(p), np.nan)
        for family, decided in self.deciding:
            rows = sorted(decided)
            out[rows] = np.array(adjusted(p, [family]))[rows]
        return out

    def adjusted_by_axis(self, p: "pd.Series[float]") -> list[float]:
        """Return the p-values adjusted over the contrasts of one axis and kind, or over the tasks of one contrast."""
        return adjusted(p, self.by_axis)

    def levels(self, p: "pd.Series[float]") -> Floats:
        """Return the level at which each row is tested.

        It is what Holm's adjustment leaves to the tests of a family that do not reject, this one among them.

        Args:
            p: p-values before the adjustment.
        """
        out = np.full(len(self.primary), np.nan)
        for family, decided in self.deciding:
            not_rejected = np.array(adjusted(p, [family])) >= ALPHA
            left = sum(bool(not_rejected[test[0]]) for test in family)
            for test in family:
                rows = [row for row in test if row in decided]
                out[rows] = ALPHA / (left + (not not_rejected[test[0]]))
        return out


def are_primary(contrasts: Sequence[Contrast]) -> list[bool]:
    """Return which of a report's contrasts are primary over all items."""
    averaged = {(contrast.axis, contrast.level) for contrast in contrasts if contrast.kind == MAIN}
    return [one.kind == MAIN or (one.kind != INTERACTION and (one.axis, one.level) not in averaged) for one in contrasts]


def _add(family: Family, same: int, number: int) -> None:
    """Add a row to a family, in place: to the test of row `same` where that is in the family, or as a test of its own."""
    test = next((test for test in family if test[0] == same), None)
    if test is None:
        family.append([number])
    else:
        test.append(number)

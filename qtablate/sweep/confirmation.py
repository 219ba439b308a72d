"""What a plan knows of its confirmation: the cells with fresh seeds of the two conditions that the finished grid has told."""

from dataclasses import dataclass

from qtablate.grid import Cell
from qtablate.grid_config import GridConfig

CONDITIONS = 2
"""Conditions that are confirmed: the recommended one and the baseline."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The confirmation of a plan. Empty before its grid is finished, and where nothing is confirmed."""

    cells: tuple[Cell, ...] = ()
    """Seed by seed, the recommended condition before the baseline."""
    wanted: frozenset[str] = frozenset()
    """Keys of the cells that are run where they are not finished. The others were recorded by a sweep that asked for more."""
    remark: str = ""
    """What --confirm compares, or why it has nothing to compare; empty before that is known."""


def fresh_seeds(grid: GridConfig, count: int) -> tuple[int, ...]:
    """Return the smallest seeds above the largest one of the grid."""
    return tuple(max(grid.seeds) + number for number in range(1, count + 1))

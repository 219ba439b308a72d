"""What is found of a gate, and the texts that gates share."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qtablate.report.labels import condition_label, shown_axes
from qtablate.report.rows import records_of

NAMED = 4
"""Number of conditions or cells that a gate names; of more it gives the number."""
ONE_SEED = "one seed cannot tell what another would change; run two seeds or more"
ONE_CLIP = "all items are of one clip"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found, and whether that is what was asked for."""

    found: str
    passed: bool
    errors: str = ""


def not_judged(reason: str) -> Judgement:
    """Fail a gate that cannot be judged, with the reason."""
    return Judgement(f"cannot be judged: {reason}", passed=False)


def listed(names: Sequence[str]) -> str:
    """Join names, the first NAMED of them."""
    more = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def names_of(frame: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Name the conditions of some rows of a frame; cells with their seeds."""
    shown = shown_axes(frame)
    return [
        condition_label(row, shown) + (f", seed {row['seed']}" if "seed" in row and "key" in row else "")
        for row in records_of(rows)
    ]

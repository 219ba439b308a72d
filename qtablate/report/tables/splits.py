"""The table of the batch split check."""

from collections.abc import Sequence

import pandas as pd

from qtablate.axes import SPLIT
from qtablate.report.batch_split_check import EARLY, NEAR_TIE, SplitPair
from qtablate.report.identical_runs import LOSS_TOLERANCE
from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.tables.cells import plural
from qtablate.table import Table

_COLUMNS = (
    "batch",
    "seed",
    "accum",
    "steps",
    "early loss diff",
    "loss diff",
    "answers differ",
    "near-ties",
    "coincide",
)


def batch_split_table(pairs: Sequence[SplitPair], cells: pd.DataFrame) -> Table | None:
    """Return a row per pair of cells that must coincide because only the split of their batch differs; None without any.

    Args:
        pairs: as compared.
        cells: all cells of the sweep.
    """
    if not pairs:
        return None
    shown = [axis for axis in shown_axes(cells) if axis not in SPLIT]
    rows = tuple(
        (
            *level_labels(pair.levels, shown),
            str(int(pair.levels["effective_batch_size"])),
            str(pair.seed),
            f"{pair.split[0]} and {pair.split[1]}",
            str(pair.steps),
            f"{pair.early_difference:.1e}",
            f"{pair.loss_difference:.1e}",
            f"{pair.answers_differing} of {pair.answers}",
            str(pair.near_ties),
            _outcome(pair),
        )
        for pair in pairs
    )
    columns = (*axis_labels(shown), *_COLUMNS)
    return Table("Batch split check", columns, rows, _note(pairs), optional=("near-ties", "steps", "batch"))


def _outcome(pair: SplitPair) -> str:
    """Say whether two cells coincide."""
    return "dropout" if pair.dropout else "yes" if pair.passed else "drifts" if pair.drifted else "NO"


def _note(pairs: Sequence[SplitPair]) -> str:
    """Explain the check and count its outcomes."""
    note = (
        "Cells that split one effective batch in different ways must coincide: the relative difference of their losses is at "
        f"most {LOSS_TOLERANCE:g} at every step, and their answers differ only where the two best options are within "
        f"{NEAR_TIE:g} nats."
    )
    if any(pair.dropout for pair in pairs):
        note += " dropout: training draws random masks, which depend on the split, so this cannot be checked."
    judged = [pair for pair in pairs if not pair.dropout]
    drifted = sum(pair.drifted for pair in judged)
    if drifted:
        note += (
            f" drifts: the losses agree over the first {100 * EARLY:g} % of the steps, so the arithmetic is the same, and "
            "differ later: unstable training, as at too high a learning rate, amplifies rounding."
        )
    if not judged:
        return note
    coincide = sum(pair.passed for pair in judged)
    rest = "" if coincide == len(judged) else f", {drifted} drift"
    return f"{note} Coincide: {coincide} of {plural(len(judged), 'pair')}{rest}."

"""The samples of a cell in their order: its configuration, as train/sample_order.py needs it. Without torch."""

from collections.abc import Callable, Mapping, Sequence

from qtablate.datatypes import Sample
from qtablate.grid import Cell
from qtablate.train.sample_order import SampleOrder, draw_samples, draw_token_budget


def sample_order(cell: Cell) -> SampleOrder:
    """Return what decides the order of a cell's samples."""
    return SampleOrder(cell.seed, cell.condition.mixing, cell.settings.image_ratio, cell.media_block)


def training_samples(
    cell: Cell, samples: Sequence[Sample], weights: Mapping[str, float], supervised_tokens: Callable[[Sample], int]
) -> list[Sample]:
    """Return what a cell trains on, in order, within its budget of samples, steps or supervised tokens.

    Args:
        cell: its seed, mixing and budget decide.
        samples: all training samples.
        weights: how often each source is drawn from.
        supervised_tokens: counts those of a sample; called only where the budget is one of tokens.

    Raises:
        DataError: a budget of tokens cannot be reached by a whole window.
    """
    order = sample_order(cell)
    if cell.samples is not None:
        return draw_samples(order, samples, weights, cell.samples)
    settings, window = cell.settings, cell.condition.effective_batch_size
    return draw_token_budget(order, samples, weights, settings.budget_size, supervised_tokens, window, settings.samples)

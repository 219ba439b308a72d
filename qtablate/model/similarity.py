"""Measures of how similar the rows of a matrix are."""

import torch
from torch import Tensor


def effective_rank(rows: Tensor) -> float:
    """Return exp(entropy) of the normalized singular values (Roy and Vetterli 2007), averaged over leading dimensions.

    n for n orthogonal rows of one length, 1 for copies of one row; nan where all rows are zero.

    Args:
        rows: (..., n, D).
    """
    values = torch.linalg.svdvals(rows.double())
    shares = values / values.sum(-1, keepdim=True)
    entropy = -torch.special.xlogy(shares, shares).sum(-1)
    return float(entropy.exp().mean())


def cosine(rows: Tensor) -> float | None:
    """Return the mean cosine similarity over all pairs of rows and leading dimensions; None for a single row.

    Args:
        rows: (..., n, D).
    """
    n = rows.shape[-2]
    if n < 2:
        return None
    unit = torch.nn.functional.normalize(rows.double(), dim=-1)
    pairs = unit @ unit.mT
    return float((pairs.sum((-2, -1)) - pairs.diagonal(dim1=-2, dim2=-1).sum(-1)).mean() / (n * (n - 1)))

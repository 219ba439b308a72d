"""How alike rows of a table are."""

import torch
from torch import Tensor


def effective_rank(rows: Tensor) -> float:
    """exp(entropy) of the singular values' shares (Roy and Vetterli 2007): n for n orthogonal rows of one length, 1 for
    copies of one. (..., n, D) -> mean over the leading dimensions; nan where all rows are zero."""
    values = torch.linalg.svdvals(rows.double())
    shares = values / values.sum(-1, keepdim=True)
    entropy = -torch.special.xlogy(shares, shares).sum(-1)
    return float(entropy.exp().mean())


def cosine(rows: Tensor) -> float | None:
    """Mean cosine of all pairs of rows. (..., n, D) -> mean over the leading dimensions; None for a single row."""
    n = rows.shape[-2]
    if n < 2:
        return None
    unit = torch.nn.functional.normalize(rows.double(), dim=-1)
    pairs = unit @ unit.mT
    return float((pairs.sum((-2, -1)) - pairs.diagonal(dim1=-2, dim2=-1).sum(-1)).mean() / (n * (n - 1)))

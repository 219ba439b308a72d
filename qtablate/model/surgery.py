"""Explicit surgery on the extra query tokens: what is kept, cut and newly made is said, never left to `strict=False`."""

import torch
from torch import nn

from qtablate.errors import ModelError
from qtablate.model.family import Family
from qtablate.model.initialise import normal
from qtablate.model.rows import Surgery

INITS = ("normal", "zeros")


@torch.no_grad()
def resize_extra(model: Family, wanted: int, init: str, seed: int) -> Surgery:
    """Give the model `wanted` extra query tokens: first rows are kept, surplus ones cut, missing ones made.

    Args:
        init: `normal` draws new rows at the scale (standard deviation) of the base queries; `zeros` is the original's
            choice, whose rows start identical and hardly part in a short run.

    Raises:
        ModelError: an unknown `init`.
    """
    if init not in INITS:
        raise ModelError(f"unknown initial value '{init}' for extra query tokens; known: {', '.join(INITS)}")
    base = model.query_tokens
    held = model.config.extra_num_query_tokens
    old = model.extra_query_tokens.data if held else base.data[:, :0]
    how = "zeros" if init == "zeros" else f"normal, std {float(base.std()):.3g} as the base queries"
    surgery = Surgery(held, wanted, how)
    if held:
        del model.extra_query_tokens
    model.config.extra_num_query_tokens = wanted
    if wanted:
        table = torch.zeros(1, wanted, base.shape[-1])
        if init == "normal":
            table = normal(tuple(table.shape), float(base.std()), "init", seed, "extra_query_tokens")
        table = table.to(base.dtype)
        table[:, : surgery.kept] = old[:, : surgery.kept]
        model.extra_query_tokens = nn.Parameter(table.to(base.device))
    return surgery

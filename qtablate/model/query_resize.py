"""Explicit surgery on the extra query tokens: what is kept, cut and newly made is said, never left to `strict=False`."""

import torch
from torch import nn

from qtablate.axes import BY_NAME
from qtablate.errors import ModelError
from qtablate.model.family import Family
from qtablate.model.initialise import normal
from qtablate.model.rows import Surgery

APART = 0.1
"""Of the base queries' scale: what copies differ by at first. Exact ones would get the same gradient from the Q-Former."""


@torch.no_grad()
def resize_extra(model: Family, wanted: int, init: str, seed: int) -> Surgery:
    """Give the model `wanted` extra query tokens: first rows are kept, surplus ones cut, missing ones made.

    Args:
        init: `normal` draws new rows at the scale (standard deviation) of the base queries; `zeros` is the original's
            choice, whose rows start identical and hardly part in a short run; `copy` repeats the base queries' rows, a tenth
            of their scale apart.

    Raises:
        ModelError: an unknown `init`.
    """
    known = BY_NAME["extra_init"].known
    if init not in known:
        raise ModelError(f"unknown initial value '{init}' for extra query tokens; known: {', '.join(known)}")
    base = model.query_tokens
    held = model.config.extra_num_query_tokens
    old = model.extra_query_tokens.data if held else base.data[:, :0]
    scale = float(base.std())
    how = {
        "zeros": "zeros",
        "normal": f"normal, std {scale:.3g} as the base queries",
        "copy": f"copies of the base queries, {APART * scale:.3g} apart",
    }[init]
    surgery = Surgery(held, wanted, how)
    if held:
        del model.extra_query_tokens
    model.config.extra_num_query_tokens = wanted
    if wanted:
        table = torch.zeros(1, wanted, base.shape[-1])
        if init != "zeros":
            table = normal(tuple(table.shape), scale * (APART if init == "copy" else 1), "init", seed, "extra_query_tokens")
        if init == "copy":
            table += base[:, [row % base.shape[1] for row in range(wanted)]].float().cpu()
        table = table.to(base.dtype)
        table[:, : surgery.kept] = old[:, : surgery.kept]
        model.extra_query_tokens = nn.Parameter(table.to(base.device))
    return surgery

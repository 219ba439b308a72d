"""Explicit surgery on the extra query tokens: what is kept, cut and newly made is said, never left to `strict=False`."""

from dataclasses import dataclass

import torch
from torch import nn

from qtablate.errors import ModelError
from qtablate.model.family import Family
from qtablate.model.initialise import normal

INITS = ("normal", "zeros")


@dataclass(frozen=True, slots=True)
class Surgery:
    kept: int
    cut: int
    made: int
    how: str

    def __str__(self) -> str:
        parts = [f"kept rows 0-{self.kept - 1}" if self.kept else ""]
        parts += [f"cut {self.cut}" if self.cut else "", f"made {self.made} ({self.how})" if self.made else ""]
        return "extra query tokens: " + (", ".join(part for part in parts if part) or "none, none made")


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
    kept = min(held, wanted)
    how = "zeros" if init == "zeros" else f"normal, std {float(base.std()):.3g} as the base queries"
    if held:
        del model.extra_query_tokens
    model.config.extra_num_query_tokens = wanted
    if wanted:
        table = torch.zeros(1, wanted, base.shape[-1])
        if init == "normal":
            table = normal(tuple(table.shape), float(base.std()), "init", seed, "extra_query_tokens")
        table = table.to(base.dtype)
        table[:, :kept] = old[:, :kept]
        model.extra_query_tokens = nn.Parameter(table.to(base.device))
    return Surgery(kept, held - kept, wanted - kept, how)

"""Changing the number of extra query tokens: which rows are kept, removed and newly made is stated, never left to
`load_state_dict(strict=False)`.

Imports no torch at import time, since a sweep's plan states it too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtablate.axes import BY_COLUMN
from qtablate.errors import ModelError

if TYPE_CHECKING:
    from qtablate.model.video_lm import VideoLM

COPY_NOISE = 0.1
"""Standard deviation of the noise on copied rows, relative to that of the base queries. Exact copies would get the same
gradient from the Q-Former as their original and stay copies."""


@dataclass(frozen=True, slots=True)
class QueryResize:
    """What becomes of the rows of the extra query tokens."""

    old_rows: int
    """Number of rows in the model's files."""
    new_rows: int
    """Number of rows wanted."""
    init: str
    """How new rows are initialized, in words."""

    @property
    def kept(self) -> int:
        """Number of rows that are kept."""
        return min(self.old_rows, self.new_rows)

    def __str__(self) -> str:
        parts = [
            _rows("kept", 0, self.kept),
            _rows("cut", self.kept, self.old_rows),
            _rows("made", self.kept, self.new_rows) + (f" ({self.init})" if self.new_rows > self.kept else ""),
        ]
        return "extra query tokens: " + (", ".join(part for part in parts if part) or "none, none made")


def _rows(action: str, start: int, end: int) -> str:
    if end <= start:
        return ""
    return f"{action} row {start}" if end == start + 1 else f"{action} rows {start}-{end - 1}"


def resize_extra_queries(model: "VideoLM", count: int, init: str, seed: int) -> QueryResize:
    """Give the model `count` extra query tokens: the first rows are kept, surplus ones removed, missing ones made.

    Args:
        init: `normal` draws new rows at the standard deviation of the base queries; `zeros` is VideoChat2's choice, whose
            rows start identical and hardly diverge in a short run; `copy` repeats the base queries' rows with noise.
        seed: of the new rows' values.

    Raises:
        ModelError: `init` is unknown.
    """
    import torch
    from torch import nn

    from qtablate.model.initialize import normal

    known = BY_COLUMN["extra_init"].names
    if init not in known:
        raise ModelError(f"unknown initial value '{init}' for extra query tokens; known: {', '.join(known)}")
    base = model.query_tokens.detach()  # (1, Q, D)
    old_rows = model.config.extra_num_query_tokens
    old = model.extra_query_tokens.data if old_rows else base[:, :0]  # (1, old rows, D)
    std = float(base.std())
    description = {
        "zeros": "zeros",
        "normal": f"normal, std {std:.3g} as the base queries",
        "copy": f"copies of the base queries, {COPY_NOISE * std:.3g} apart",
    }[init]
    resize = QueryResize(old_rows, count, description)
    if old_rows:
        del model.extra_query_tokens
    model.config.extra_num_query_tokens = count
    if count:
        table = torch.zeros(1, count, base.shape[-1])
        if init != "zeros":
            table = normal(tuple(table.shape), std * (COPY_NOISE if init == "copy" else 1), "init", seed, "extra_query_tokens")
        if init == "copy":
            table += base[:, [row % base.shape[1] for row in range(count)]].float().cpu()
        table = table.to(base.dtype)
        table[:, : resize.kept] = old[:, : resize.kept]
        model.extra_query_tokens = nn.Parameter(table.to(base.device))
    return resize

"""Shared by the studies of the world: training and scoring of a small transformer that chooses an option, and tables."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtablate.nano.pretrain import Optimizers, one_cycle

SEED = 1
WIDTH = 96
BATCH, PEAK = 128, 1.5e-3

Say = Callable[[str], None]


def body() -> nn.TransformerEncoder:
    """Bidirectional transformer encoder, (B, L, WIDTH) -> (B, L, WIDTH)."""
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 3, nn.LayerNorm(WIDTH), enable_nested_tensor=False)


def fit(model: nn.Module, loss: Callable[[slice], Tensor], examples: int, say: Say) -> None:
    """Train on a number of examples in batches; `loss` returns the loss of a slice of the caller's order."""
    optimizers = Optimizers(model.parameters(), PEAK)
    steps, recent = examples // BATCH, 0.0
    for step in range(steps):
        value = loss(slice(step * BATCH, (step + 1) * BATCH))
        optimizers.step(value, one_cycle(step, steps))
        recent += value.item()
        if step % 200 == 199:
            say(f"step {step + 1} of {steps}, loss {recent / 200:.4f}")
            recent = 0.0


@torch.inference_mode()
def correct(model: nn.Module, scores: Callable[[NDArray[np.int64]], Tensor], gold: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the gold option has the best score in each row; a few hundred rows at a time."""
    model.eval()
    parts = np.array_split(np.arange(len(gold)), len(gold) // 500 + 1)
    return np.concatenate([scores(rows).argmax(1).numpy() == gold[rows] for rows in parts])


def markdown(frame: pd.DataFrame, digits: int) -> str:
    cells = [[f"{x:.{digits}f}" if isinstance(x, float) else str(x) for x in row] for row in frame.itertuples(index=False)]
    rows = [list(frame.columns), ["---"] * len(frame.columns), *cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def options(doc: str, out: str, train: int, items: int, epochs: int) -> argparse.ArgumentParser:
    """Command-line options of a study, with its defaults."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--train", type=int, default=train)
    parser.add_argument("--items", type=int, default=items)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def clock() -> Say:
    """Limit torch to one thread and return a function that prints a text with the seconds since now."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    return lambda text: print(f"{time.perf_counter() - start:6.0f} s  {text}", flush=True)


def write(out: Path, frame: pd.DataFrame, text: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.round(4).to_csv(out, index=False)
    out.with_suffix(".md").write_text(text)
    print(text)

"""What the time of a cell is made of: each change that was made for speed undone by itself, and how near the processor's limit.

    OMP_NUM_THREADS=1 python tests/benchmarks/speed.py --out results/speed    # nothing else may run beside it; some minutes

All variants of a measurement are run in turn, --rounds times, in one process of one thread; tables have medians, lowest and
highest. FLOP are those of torch.utils.flop_counter. The limit is what torch reaches in the matrix products of the same pass,
each alone in a loop. The loop by hand is the least that trains the same: forward, backward, AdamW, on micro-batches made
before.
"""

import argparse
import ctypes
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from learner import markdown
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from qtablate.cell.build import PreparedModel, make_training, prepare_model, train_plan
from qtablate.cell.inputs import CellInputs, read_inputs
from qtablate.cell.process import keep_freed_memory
from qtablate.cell.sample_order import training_samples
from qtablate.cell.scoring import score_items
from qtablate.config import SweepConfig
from qtablate.datatypes import Sample
from qtablate.grid import Cell
from qtablate.model.packing import ATTENTION
from qtablate.sweep.plan import make_plan
from qtablate.sweep.run import _compute_features
from qtablate.train.batches import loss_sum, make_micro_batch
from qtablate.train.device import deterministic
from qtablate.train.trainable import build_optimizer

BATCH = 8
MICRO_BATCHES = 48
"""That are trained on in each turn of a variant; the first WARM of them are not timed."""
WARM = 8
PACKED, FUSED, UNFILLED, KEPT = "packed rows", "fused AdamW", "no fill of new memory", "freed memory kept"
ROWS = "options in one row"


@dataclass(frozen=True)
class Prepared:
    """A cell of the default sweep, its inputs and its model."""

    cell: Cell
    inputs: CellInputs
    model: PreparedModel

    @property
    def samples(self) -> list[Sample]:
        """The first samples that it trains on."""
        drawn = training_samples(self.cell, self.inputs.samples, self.inputs.weights, lambda _: 0)
        return drawn[: BATCH * MICRO_BATCHES]


def prepare(tokens: int, accumulate: int = 1, batch_size: int = BATCH) -> Prepared:
    """Read and prepare a cell, its features computed where they are missing."""
    grid = {"tokens": (tokens,), "accum": (accumulate,), "batch_size": (batch_size,), "seeds": (101,)}
    plan = make_plan(SweepConfig(grid=grid))  # type: ignore[arg-type]
    _compute_features(plan, lambda _: None)
    [cell] = plan.cells
    inputs = read_inputs(plan.cell_job(cell).inputs)
    inputs.encoder.remember(inputs.samples)
    return Prepared(cell, inputs, prepare_model(cell, inputs.model, inputs.encoder))


@contextmanager
def without(change: str, prepared: Prepared) -> Any:
    """Undo one change within the block."""
    language_model, fused = prepared.model.model.language_model, torch.optim.AdamW
    if change in (PACKED, ROWS):
        language_model.set_attn_implementation("sdpa")
    elif change == FUSED:
        torch.optim.AdamW = lambda *given, **named: fused(*given, **{**named, "fused": False})  # type: ignore
    elif change == UNFILLED:
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    elif change == KEPT:
        for parameter in (-3, -1):  # malloc.h: the thresholds of mmap and trim, at their defaults
            ctypes.CDLL(None).mallopt(parameter, 128 << 10)
    try:
        yield
    finally:
        language_model.set_attn_implementation(ATTENTION)
        torch.optim.AdamW = fused  # type: ignore[misc]
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        keep_freed_memory()


def train(prepared: Prepared) -> float:
    """Milliseconds of 8 samples, their share of the optimizer step included."""
    lookup, plan = prepared.inputs.training_features.__getitem__, train_plan(prepared.cell)
    run = make_training(prepared.model, prepared.samples, lookup, plan)
    windows = plan.window // BATCH
    return 1000 * statistics.median([step.seconds / windows for step in run][WARM // windows :])


def train_by_hand(prepared: Prepared) -> float:
    """The same by the plainest loop."""
    model, plan, lookup = prepared.model.model, train_plan(prepared.cell), prepared.inputs.training_features.__getitem__
    parameters = prepared.model.parameters
    optimizer = build_optimizer(parameters, plan.learning_rate, plan.weight_decay, plan.betas, plan.extra_lr)
    made = [
        make_micro_batch(
            prepared.samples[at : at + BATCH], lookup, prepared.model.encoder, model.count_visual_tokens, plan.max_text_tokens
        )
        for at in range(0, len(prepared.samples), BATCH)
    ]
    seconds = []
    for micro_batch in made:
        began = time.perf_counter()
        (loss_sum(model, micro_batch) / micro_batch.supervised_tokens).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[WARM:])


def evaluate(prepared: Prepared, control: str) -> float:
    """Milliseconds of an item under a control."""
    began = time.perf_counter()
    features = prepared.inputs.benchmark_features.__getitem__
    score_items(prepared.model, prepared.inputs.items, control, features, lambda _: None)
    return 1000 * (time.perf_counter() - began) / len(prepared.inputs.items)


def share_of_limit(work: Callable[[], object], units: int, milliseconds: float) -> dict[str, float]:
    """GFLOP of a unit of work, GFLOP/s, those of its matrix products alone, and the share of these that is reached."""
    shapes: Counter[tuple[int, int, int]] = Counter()
    total = 0

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            nonlocal total
            named, packet = named or {}, function._overloadpacket
            out = function(*arguments, **named)
            if packet in flop_registry:
                total += flop_registry[packet](*arguments, **named, out_val=out)
            if packet in (torch.ops.aten.mm, torch.ops.aten.addmm):
                a, b = arguments[-2:]
                shapes[a.shape[0], a.shape[1], b.shape[1]] += 1
            if packet is torch.ops.aten.linear:  # as it is in inference mode
                a, (n, k) = arguments[0], arguments[1].shape
                shapes[a.numel() // k, k, n] += 1
                total += 2 * a.numel() * n
            return out

    with Counted():
        work()
    gflop = total / units / 1e9
    flops = seconds = 0.0
    for (m, k, n), times in shapes.items():
        a, b = torch.randn(m, k), torch.randn(k, n)
        measured = []
        for _ in range(7):
            began = time.perf_counter()
            torch.mm(a, b)
            measured.append(time.perf_counter() - began)
        flops, seconds = flops + times * 2 * m * k * n, seconds + times * statistics.median(measured)
    limit = flops / seconds / 1e9
    return {
        "GFLOP": gflop,
        "GFLOP/s": 1000 * gflop / milliseconds,
        "GFLOP/s of products alone": limit,
        "share of it": 1000 * gflop / milliseconds / limit,
    }


def in_turn(rounds: int, what: str, variants: dict[str, Callable[[], float]]) -> list[dict[str, Any]]:
    """Run variants in turn; rows with their times, relative to the first."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            found[name].append(run())
    first = next(iter(found.values()))
    rows = []
    for name, times in found.items():
        ratios = [one / other for one, other in zip(times, first, strict=True)]
        row = {"what": what, "variant": name, "ms": statistics.median(times), "lowest": min(times), "highest": max(times)}
        rows.append({**row, "relative": statistics.median(ratios)})
        print(rows[-1], flush=True)
    return rows


def measure(rounds: int) -> list[dict[str, Any]]:
    """All rows of the table."""
    rows: list[dict[str, Any]] = []
    for tokens in (0, 32, 64):
        one, eight, large = prepare(tokens), prepare(tokens, 8), prepare(tokens, 1, 32)

        def undone(change: str, prepared: Prepared = one) -> float:
            with without(change, prepared):
                return train(prepared)

        variants: dict[str, Callable[[], float]] = {"as it is": lambda one=one: train(one)}  # type: ignore[misc]
        variants |= {f"without: {change}": lambda c=change: undone(c) for change in (PACKED, FUSED, UNFILLED, KEPT)}  # type: ignore
        variants |= {
            "loop by hand": lambda one=one: train_by_hand(one),
            "A = 8": lambda eight=eight: train(eight),
            "micro-batch of 32, 8 samples of it": lambda large=large: train(large),
        }  # type: ignore
        found = in_turn(rounds, f"training on 8 samples, {tokens} extra tokens", variants)
        found[0] |= share_of_limit(lambda one=one: train(one), MICRO_BATCHES, found[0]["ms"])  # type: ignore[misc]
        rows += found
        for control in ("full", "blind"):

            def cached(prepared: Prepared = one, control: str = control) -> float:
                with without(ROWS, prepared):
                    return evaluate(prepared, control)

            both: dict[str, Callable[[], float]] = {
                "as it is": lambda one=one, control=control: evaluate(one, control),  # type: ignore[misc]
                f"without: {ROWS}": cached,
            }
            found = in_turn(rounds, f"item, {control}, {tokens} extra tokens", both)
            items = len(one.inputs.items)
            found[0] |= share_of_limit(lambda one=one, c=control: evaluate(one, c), items, found[0]["ms"])  # type: ignore[misc]
            rows += found
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()
    with deterministic():
        table = pd.DataFrame(measure(arguments.rounds))
    arguments.out.mkdir(parents=True, exist_ok=True)
    capability = torch.backends.cpu.get_cpu_capability()
    name = f"parts-{capability.lower()}"
    table.to_csv(arguments.out / f"{name}.csv", index=False, float_format="%.4g")
    head = f"{arguments.rounds} rounds in turn; {platform.machine()} {capability}, torch {torch.__version__}, one thread.\n\n"
    (arguments.out / f"{name}.md").write_text(head + markdown(table.astype(object).where(table.notna(), ""), 3))


if __name__ == "__main__":
    main()

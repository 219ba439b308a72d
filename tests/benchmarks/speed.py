"""What a cell's time is made of: each change that was made for speed undone by itself, against the limit of the processor.

    python tests/benchmarks/speed.py --out results/speed          # nothing else may run beside it; about 15 minutes

Each measurement is a process of one thread, and all variants of one are run in turn, --rounds times; tables have medians. FLOP
are counted by torch.utils.flop_counter, and the limit is what torch reaches in the most frequent matrix products of the same
pass, measured in the same process. The cells' features are those of the default sweep: run it before, or they are computed.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from learner import markdown

STEPS = 120
"""Micro-batches that are timed, after the first WARM."""
WARM = 10
VARIANTS = {
    "as it is": "",
    "padded rows": "training sequences are padded to the longest of their micro-batch",
    "AdamW tensor by tensor": "the optimizer is not fused",
    "memory filled": "deterministic mode fills memory that was not written yet",
    "memory given back": "the C library gives large blocks back to the system",
}
EVALUATIONS = {"as it is": "", "option by option": "each option continues from a copy of its question's keys and values"}


def prepared(tokens: int, accumulate: int = 1, samples: int = 0) -> Any:
    """Return a cell of the default sweep, its inputs, and its model."""
    from qtablate.cell.build import prepare_model
    from qtablate.cell.inputs import read_inputs
    from qtablate.config import SweepConfig
    from qtablate.sweep.plan import make_plan
    from qtablate.sweep.run import _compute_features

    del samples
    plan = make_plan(SweepConfig(grid={"tokens": (tokens,), "accum": (accumulate,), "seeds": (101,)}))
    _compute_features(plan, lambda _: None)
    [cell] = plan.cells
    inputs = read_inputs(plan.cell_job(cell).inputs)
    return cell, inputs, prepare_model(cell, inputs.model, inputs.encoder)


def undo(variant: str, model: Any) -> None:
    """Undo one change in this process."""
    import torch

    if variant == "memory given back":
        for parameter, default in ((-3, 128 << 10), (-1, 128 << 10)):  # malloc.h and its defaults
            ctypes.CDLL(None).mallopt(parameter, default)
    elif variant in ("padded rows", "option by option"):
        model.language_model.set_attn_implementation("sdpa")
    elif variant == "AdamW tensor by tensor":
        inner = torch.optim.AdamW
        torch.optim.AdamW = lambda *given, **named: inner(*given, **{**named, "fused": False})  # type: ignore[assignment,misc]
    elif variant == "memory filled":
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


def time_training(variant: str, tokens: int, accumulate: int) -> dict[str, float]:
    """Median milliseconds of a micro-batch; FLOP/s of it, and of the matrix products of these shapes alone."""
    from qtablate.cell.build import make_training, train_plan
    from qtablate.cell.process import keep_freed_memory
    from qtablate.cell.sample_order import training_samples
    from qtablate.train.device import deterministic

    keep_freed_memory()
    cell, inputs, model = prepared(tokens, accumulate)
    samples = training_samples(cell, inputs.samples, inputs.weights, lambda _: 0)[: 8 * (STEPS + WARM)]
    with deterministic():
        undo(variant, model.model)
        run = make_training(model, samples, inputs.training_features.__getitem__, train_plan(cell))
        seconds = [step.seconds / accumulate for step in run][WARM // accumulate + 1 :]
        counted = make_training(model, samples[:64], inputs.training_features.__getitem__, train_plan(cell))
        flops, shapes = count(lambda: [*counted])
        rate = product_rate(shapes)
    micro = statistics.median(seconds)
    per_micro = flops / 8
    return {
        "ms": 1000 * micro,
        "gflop": per_micro / 1e9,
        "gflop_per_s": per_micro / micro / 1e9,
        "products_gflop_per_s": rate / 1e9,
        "share": per_micro / micro / rate,
    }


def time_evaluation(variant: str, tokens: int, control: str) -> dict[str, float]:
    """Seconds of scoring all items; FLOP/s as in time_training."""
    from qtablate.cell.process import keep_freed_memory
    from qtablate.cell.scoring import score_items
    from qtablate.train.device import deterministic

    keep_freed_memory()
    _, inputs, model = prepared(tokens)
    with deterministic():
        undo(variant, model.model)

        def once(items: Any = inputs.items) -> None:
            score_items(model, items, control, inputs.benchmark_features.__getitem__, lambda _: None)

        once(inputs.items[:200])
        began = time.perf_counter()
        once()
        seconds = time.perf_counter() - began
        flops, shapes = count(once)
        rate = product_rate(shapes)
    return {
        "s": seconds,
        "gflop": flops / 1e9,
        "gflop_per_s": flops / seconds / 1e9,
        "products_gflop_per_s": rate / 1e9,
        "share": flops / seconds / rate,
    }


def count(work: Callable[[], object]) -> tuple[int, Counter[tuple[int, int, int]]]:
    """FLOP of some work, and the FLOP of its matrix products by shape (m, k, n)."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    shapes: Counter[tuple[int, int, int]] = Counter()

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
                a, b = arguments[-2:]
                shapes[a.shape[0], a.shape[1], b.shape[1]] += 2 * a.shape[0] * a.shape[1] * b.shape[1]
            return function(*arguments, **(named or {}))

    with FlopCounterMode(display=False) as counter, Products():
        work()
    return counter.get_total_flops(), shapes


def product_rate(shapes: Counter[tuple[int, int, int]], most: int = 12) -> float:
    """FLOP/s of the matrix products with the most FLOP, each alone in a loop, weighted by their FLOP."""
    import torch

    seconds = flops = 0.0
    for (m, k, n), total in shapes.most_common(most):
        a, b = torch.randn(m, k), torch.randn(k, n)
        times = []
        for _ in range(30):
            began = time.perf_counter()
            torch.mm(a, b)
            times.append(time.perf_counter() - began)
        seconds += total / (2 * m * k * n) * statistics.median(times)
        flops += total
    return flops / seconds


def measure(kind: str, variant: str, tokens: int, extra: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", json.dumps([kind, variant, tokens, extra])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def plans() -> Iterator[list[tuple[str, str, int, str]]]:
    """Sets of measurements that are compared with one another."""
    for tokens in (0, 32):
        yield [("training", variant, tokens, "1") for variant in VARIANTS] + [("training", "as it is", tokens, "8")]
    for control in ("full", "blind"):
        yield [("evaluation", variant, 32, control) for variant in EVALUATIONS]
    yield [("evaluation", "as it is", 0, "full")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/speed"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, variant, tokens, extra = json.loads(arguments.one)
        found = time_training(variant, tokens, int(extra)) if kind == "training" else time_evaluation(variant, tokens, extra)
        print(json.dumps(found))
        return
    rows: list[dict[str, Any]] = []
    for plan in plans():
        found: dict[tuple[str, str, int, str], list[dict[str, float]]] = {one: [] for one in plan}
        for _ in range(arguments.rounds):
            for one in plan:
                found[one].append(measure(*one))
        first = statistics.median(values["ms" if plan[0][0] == "training" else "s"] for values in found[plan[0]])
        for (kind, variant, tokens, extra), values in found.items():
            unit = "ms" if kind == "training" else "s"
            times = [value[unit] for value in values]
            rows.append(
                {
                    "what": "micro-batch of 8, ms" if kind == "training" else f"2,000 items, {extra}, s",
                    "extra tokens": tokens,
                    "accum": extra if kind == "training" else "",
                    "variant": variant,
                    "median": statistics.median(times),
                    "lowest": min(times),
                    "highest": max(times),
                    "ratio": statistics.median(times) / first,
                    **{
                        name: statistics.median(value[name] for value in values)
                        for name in ("gflop", "gflop_per_s", "products_gflop_per_s", "share")
                    },
                }
            )
            print(rows[-1], flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(arguments.out / "parts.csv", index=False, float_format="%.4g")
    import torch

    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, one thread"
    notes = [f"- {name}: {text}." for name, text in {**VARIANTS, **EVALUATIONS}.items() if text]
    text = [f"Medians of {arguments.rounds} processes each, in turn; {machine}.\n", markdown(table, 2), *notes]
    (arguments.out / "parts.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()

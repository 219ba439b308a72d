"""Tries other connectors and recipes for nano's cells, on development seeds: 101 and up; committed sweeps have others.

    python tests/benchmarks/recipes.py '{"width": 96, "layers": 2, "heads": 4}' --seeds 101,102,103 --tokens 0,32 --out FILE.csv

A recipe names what differs from the default: the Q-Former's width, layers, heads, inter (its feed-forward's width);
query_std and projection_scale of the initial values; samples, learning_rate, warmup, min_lr, beta2, clip, batch, accum;
captions (the share of samples that are captions) and pairs (questions a sample); average (the last share of the steps over
which weights are averaged). One row a cell: accuracy over the default benchmark, mean loss of each quarter of the steps,
seconds of this process.
"""

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from qtablate.cell.build import make_training, prepare_model, train_plan
from qtablate.cell.inputs import CellInputs, read_inputs
from qtablate.cell.sample_order import sample_order
from qtablate.cell.scoring import score_items
from qtablate.config import SweepConfig
from qtablate.grid import Cell
from qtablate.model.directory import model_directory
from qtablate.model.load import load, load_tokenizer
from qtablate.nano.pretrain import BASE_QFORMER, save_base
from qtablate.sweep.plan import make_plan
from qtablate.sweep.run import _compute_features
from qtablate.train.device import deterministic
from qtablate.train.sample_order import draw_samples
from qtablate.world import benchmark as world

QFORMER = {"width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads", "inter": "intermediate_size"}
PLAN = {
    "learning_rate": "learning_rate",
    "warmup": "warmup_ratio",
    "min_lr": "min_lr_ratio",
    "batch": "micro_batch_size",
    "accum": "accumulate_grad_batches",
}
OTHERS = ("query_std", "projection_scale", "samples", "beta2", "clip", "captions", "pairs", "average")


def base_with(recipe: dict[str, Any], folder: Path) -> str:
    """Write nano with another connector; return its directory."""
    nano, _ = load("nano")
    shape = {name: recipe.get(key, BASE_QFORMER[name]) for key, name in QFORMER.items()}
    save_base(nano, load_tokenizer(model_directory("nano")), 1, folder, shape)  # type: ignore[arg-type]
    if "query_std" in recipe:
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, "query_init_std": recipe["query_std"]}))
    return str(folder)


def run(recipe: dict[str, Any], model: str, cell: Cell, inputs: CellInputs) -> dict[str, Any]:
    """Train and score one cell of a recipe."""
    prepared = prepare_model(cell, *load(model))
    with torch.no_grad():
        prepared.model.projection.weight.mul_(recipe.get("projection_scale", 1.0))  # type: ignore[operator,union-attr]
    plan = replace(train_plan(cell), **{name: recipe[key] for key, name in PLAN.items() if key in recipe})
    plan = replace(plan, betas=(plan.betas[0], recipe.get("beta2", plan.betas[1])))
    plan = replace(plan, rules=replace(plan.rules, max_grad_norm=recipe.get("clip")))
    samples = draw_samples(sample_order(cell), inputs.samples, {}, recipe.get("samples", cell.samples))
    losses, mean, counted, began = [], [], 0, time.process_time()
    with deterministic():
        training = make_training(prepared, samples, inputs.training_features.__getitem__, plan)
        for step in training:
            losses.append(step.loss or 0.0)
            if len(losses) > training.steps * (1 - recipe.get("average", 0.0)):
                counted += 1
                mean = mean or [parameter.detach().clone() for parameter in prepared.parameters.values()]
                torch._foreach_lerp_(mean, [parameter.detach() for parameter in prepared.parameters.values()], 1 / counted)
        for parameter, averaged in zip(prepared.parameters.values(), mean, strict=False):
            parameter.data.copy_(averaged)
        trained = time.process_time() - began
        features = inputs.benchmark_features.__getitem__
        scores = score_items(prepared, inputs.items, "full", features, lambda _: None)["likelihood"]
    accuracy = sum(one.predicted == one.item.answer for one in scores) / len(scores)
    quarters = [losses[len(losses) * n // 4 : len(losses) * (n + 1) // 4] for n in range(4)]
    return {
        "recipe": json.dumps(recipe),
        "seed": cell.seed,
        "extra_tokens": cell.condition.extra_num_query_tokens,
        "accuracy": round(100 * accuracy, 2),
        **{f"loss_{n}": round(sum(quarter) / len(quarter), 3) for n, quarter in enumerate(quarters, start=1)},
        "train_seconds": round(trained, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=json.loads)
    parser.add_argument("--seeds", default="101,102,103")
    parser.add_argument("--tokens", default="0,32")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = arguments.recipe
    if unknown := recipe.keys() - {*QFORMER, *PLAN, *OTHERS}:
        parser.error(f"unknown: {', '.join(unknown)}")
    world._CAPTION_SHARE = recipe.get("captions", world._CAPTION_SHARE)
    world.PAIRS_PER_SAMPLE = recipe.get("pairs", world.PAIRS_PER_SAMPLE)
    grid = {"tokens": arguments.tokens, "accum": (1,), "seeds": arguments.seeds}
    train = {"samples": recipe["samples"]} if "samples" in recipe else {}
    plan = make_plan(SweepConfig.model_validate({"grid": grid, "train": train}))
    _compute_features(plan, lambda _: None)
    inputs = read_inputs(plan.cell_job(plan.cells[0]).inputs)
    with TemporaryDirectory() as folder, arguments.out.open("a", newline="") as out:
        model = base_with(recipe, Path(folder))
        for cell in plan.cells:
            row = run(recipe, model, cell, inputs)
            writer = csv.DictWriter(out, row)
            if not out.tell():
                writer.writeheader()
            writer.writerow(row)
            out.flush()
            print(row, flush=True)


if __name__ == "__main__":
    main()

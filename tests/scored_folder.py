"""A results folder whose cells have made-up answers, for tests of reports."""

import dataclasses
from dataclasses import asdict

import numpy as np
from finished_cells import answer_row
from settings import config, settings, sweep_file

from qtablate.axes import Condition
from qtablate.cell.outputs import TRAIN_COLUMNS
from qtablate.records import Figures, PlannedCell, Record, TaskScore
from qtablate.statistics.clustered import ClusteredMean, clustered_mean
from qtablate.store import Store


def drawn(share):
    """Answers that are correct with this probability, common random numbers by seed and item."""
    return lambda seed, items: np.random.default_rng(seed).uniform(size=items) < share


QUARTER = drawn(0.25)


def folder(
    path,
    conditions,
    seeds=(1, 2),
    items=40,
    clips=20,
    tasks=("a",),
    blind=QUARTER,
    failed=(),
    steps=4,
    noise=(),
    bench="world",
    problems=(),
    asked=(),
    micro=None,
    **changes,
):
    """A finished sweep.

    Args:
        conditions: (extra tokens, accumulation) -> (seed, items) -> which answers are correct.
        noise: pairs of signal and noise, a step each.
        failed: (condition, seed).
        asked: items of a benchmark, which then have their names, tasks and clips.
        micro: micro-batch size by accumulation; 8 elsewhere.
        changes: of the configuration.
    """
    store, entries = Store(path), []
    for (tokens, accum), right_of in conditions.items():
        condition = asdict(Condition(tokens, accum, (micro or {}).get(accum, 8), "mixed", "normal" if tokens else "none"))
        for seed in seeds:
            key = f"{tokens}-{accum}-{seed}"
            entries.append(PlannedCell(key, seed, condition))
            if ((tokens, accum), seed) in failed:
                store.write_record(Record(key, "failed", {}, None, "out of memory", "Traceback"))
                continue
            named = {"full": right_of(seed, items)} | ({"blind": blind(0, items)} if blind else {})
            of = [asked[n].task if asked else tasks[n % len(tasks)] for n in range(items)]
            media = [asked[n].cluster if asked else f"clip-{n % clips}" for n in range(items)]
            rows = [
                answer_row(control, asked[n].id if asked else f"{of[n]}-{n:04d}", of[n], media[n], good)
                for control, answers in named.items()
                for n, good in enumerate(answers)
            ]
            store.write_rows(store.cell_file(key, "answers.csv"), rows, tuple(rows[0]))
            train = [
                dict.fromkeys(TRAIN_COLUMNS)
                | {"step": n + 1, "loss": 1.0 + 0.01 * tokens + 0.001 * accum, "image_ratio": 0.0}
                | (dict(zip(("grad_signal", "grad_noise"), noise[n % len(noise)], strict=True)) if noise else {})
                for n in range(steps)
            ]
            store.write_rows(store.cell_file(key, "train.csv"), train, TRAIN_COLUMNS)
            right = {name: np.asarray(some, dtype=float) for name, some in named.items()}
            value = clustered_mean(list(right["full"]), media)
            gain = clustered_mean(list(right["full"] - right["blind"]), media) if blind else ClusteredMean(None, None, 0)
            controls = {"blind": clustered_mean(list(right["blind"]), media)} if blind else {}
            scores = tuple(
                TaskScore(
                    task,
                    ClusteredMean(
                        float(np.mean([good for good, t in zip(right["full"], of, strict=True) if t == task])),
                        0.0,
                        of.count(task),
                    ),
                    value,
                    controls,
                    0.25,
                )
                for task in dict.fromkeys(of)
            )
            figures = Figures(
                steps,
                8 * accum * steps,
                1000,
                0,
                0,
                1e-3,
                0,
                False,
                1.0,
                value,
                value.value,
                value,
                controls,
                gain,
                ClusteredMean(None, None, 0),
                0.25,
                scores,
                2 + tokens,
                10,
                10,
                "",
                None,
                10.0 + tokens,
                1.0,
                1.0,
                0.0,
                500.0,
            )
            store.write_record(Record(key, "ok", {}, dataclasses.asdict(figures), files=store.checksums(key)))
    shared = settings(samples=32, budget="steps", budget_size=steps, image_ratio=0.0)
    store.write_sweep(
        sweep_file(entries, items=items, config=config(bench=bench, **changes), settings=shared, problems=tuple(problems))
    )
    return store

"""Measures the effect of accumulation rules, batch-size advice, mixing of media and initialization of extra tokens on nano.

    S="--tokens 32 --seeds 1,2,3,4,5 --samples 2400 --controls blind"
    qtablate sweep $S --batch-size 8,32 --accum 1,4 --lr-scaling none,sqrt,linear --out DIR/batches
    qtablate sweep $S --accum 4 --loss-norm tokens,micro_mean,none --out DIR/norms
    qtablate sweep $S --accum 1 --extra-init normal,zeros,copy --out DIR/init
    qtablate sweep $S --accum 4 --max-grad-norm 1 --clip-per window,micro_batch --lr-step-per window,micro_batch --out DIR/steps
    qtablate sweep $S --accum 4 --image-ratio 0.25 --mixing mixed,random,interleaved --out DIR/mixing
    qtablate sweep $S --accum 1 --warmup-ratio 0 --extra-init normal,zeros --out DIR/no-warm-up
    python tests/benchmarks/accumulation_study.py DIR results/accumulation

Copies the tables of each sweep and writes README.md (questions and the report's sentences) and tables.md: the report's
tables, and for the first sweep the differences from one small batch without accumulation, which are not along a single axis
of the grid.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd
from learner import markdown

import qtablate
from qtablate.report import tables
from qtablate.report.answers import ACCURACY, read_answers
from qtablate.report.batch_split_check import split_pairs
from qtablate.report.build import report
from qtablate.report.contrasts import SIMPLE, Contrast
from qtablate.report.effects import contrast_frame
from qtablate.report.families import ALL
from qtablate.report.results import Results
from qtablate.report.rows import records_of
from qtablate.report.sentences import contrast_sentence
from qtablate.store import Store

QUESTIONS = {
    "batches": "A smaller batch first, accumulation only when needed (Ask-Anything issue 174; arXiv 2507.07101)? On the same "
    "samples, one small batch, the same with accumulation 4, and a batch four times as large without, at three ways of scaling "
    "the learning rate. Both together make an effective batch of 128.",
    "norms": "What does an incorrect loss norm cost? micro_mean weights short answers more; none, beside it, multiplies the "
    "gradient by 4, which AdamW hides.",
    "steps": "What does it cost to clip at every micro-batch, and to count the schedule in micro-batches?",
    "mixing": "Both media in every micro-batch, one medium each in random order, or one each evenly, at a quarter of images.",
    "init": "Extra tokens that start apart, as zeros (the original's choice), and as copies of the base queries.",
    "no-warm-up": "The same without a warm-up, where zeros are said to stay together.",
}
KEPT = ("sweep.json", "cells.csv", "summary.csv", "training.csv", "contrasts.csv", "report.md")
MARGIN = 0.02


def from_the_smallest(results: Results) -> str:
    """Every condition against micro-batches of 8 without accumulation, on the same samples."""
    given = read_answers(results.store, results.cells, results.sweep)
    place = {axis: number for number, axis in enumerate(given.axes)}
    batch, accum, rate = place["micro_batch_size"], place["accumulate_grad_batches"], place["lr_scaling"]
    start = next(one for one in given.conditions if (one[batch], one[accum]) == (8, 1))
    others = [one for one in given.conditions if one != start]
    wanted = [Contrast(SIMPLE, "condition", n, "8 x 1", {one: 1.0, start: -1.0}) for n, one in enumerate(others)]
    found = contrast_frame(given, wanted, MARGIN, per_task=False)
    rows = [
        {
            "micro-batch": others[row["level"]][batch],
            "accum": others[row["level"]][accum],
            "rate": others[row["level"]][rate],
            "minus 8 x 1": 100 * row["difference"],
            "ci_low": 100 * row["ci_low"],
            "ci_high": 100 * row["ci_high"],
            "p (Holm)": f"{row['p_holm']:.3f}",
            "verdict": row["verdict"],
        }
        for row in found[found["task"] == ALL].to_dict("records")
    ]
    return markdown(pd.DataFrame(rows), 1)


def section(folder: Path) -> str:
    results = qtablate.load(folder)
    sheets = [
        tables.summary_table(results.summary, f"{results.sweep.settings.budget_in_words} per cell"),
        tables.training_table(results.training),
        tables.contrast_table(results.contrasts),
        tables.batch_split_table(split_pairs(results.store, results.cells), results.cells),
    ]
    parts = [sheet.markdown().replace("## ", "### ", 1) for sheet in sheets if sheet]
    if folder.name == "batches":
        parts.append("### Every condition against one small batch\n\n" + from_the_smallest(results))
    return "\n\n".join([f"## {folder.name}", *parts])


def answered(folder: Path) -> str:
    """A part of the README: its question, and what the report says."""
    results = qtablate.load(folder)
    found = results.contrasts
    found = found[(found["kind"] == SIMPLE) & (found["task"] == ALL) & (found["outcome"] == ACCURACY)]
    said = [
        line
        for axis in dict.fromkeys(found["axis"])
        for line in map(contrast_sentence, records_of(found[found["axis"] == axis]))
    ]
    sheet = tables.training_table(results.training)
    batch_split_table = tables.batch_split_table(split_pairs(results.store, results.cells), results.cells)
    lines = [f"- {line}" for line in said] + [f"- {line}" for line in sheet.remarks.splitlines()]
    if batch_split_table:
        lines.append(f"- Batch split check: {batch_split_table.note.rpartition('. ')[2]}")
    seeds = sorted({int(n) for n in results.summary["seeds_done"]})
    head = (
        f"{results.sweep.settings.budget_in_words} per cell, {' to '.join(map(str, seeds))} seeds, {results.sweep.items} items."
    )
    return "\n".join([f"## {folder.name}", "", QUESTIONS[folder.name], "", head, "", *lines])


INTRODUCTION = """# What the rules and the advice are worth

nano on its procedural world, 32 extra tokens; points of accuracy, 95 % intervals over clips and seeds. All tables, with Holm's
p, averages over other axes, mixes of media, batches and noise scales: [tables.md](tables.md). A model of a million parameters,
trained for a minute: what is large here may be small elsewhere. The last command writes this file.
"""


def readme(source: Path, there: list[str]) -> str:
    commands = "\n".join(line.removeprefix("    ") for line in (__doc__ or "").splitlines() if line.startswith("    "))
    return "\n".join([INTRODUCTION, f"```\n{commands}\n```\n", *(answered(source / part) + "\n" for part in there)])


def main() -> None:
    source, out = map(Path, sys.argv[1:3])
    there = [part for part in QUESTIONS if (source / part / "report.md").exists()]
    for part in there:
        report(Store(source / part), figures=False)  # by the code that writes the tables below, whichever ran the sweep
        (out / part).mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copy(source / part / name, out / part / name)
        kept = Store(out / part)
        sweep = kept.read_sweep()  # the folder that it was run in is nobody else's
        run = sweep.config.run.model_copy(update={"out": Path(part)})
        kept.write_sweep(sweep.model_copy(update={"config": sweep.config.model_copy(update={"run": run})}))
    (out / "README.md").write_text(readme(source, there))
    (out / "tables.md").write_text("# Tables\n\n" + "\n\n".join(section(source / part) for part in there) + "\n")


if __name__ == "__main__":
    main()

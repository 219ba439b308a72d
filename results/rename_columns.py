"""Rewrite committed results from old names to new ones: CSV files, columns, levels, and the words of Markdown files.

    python results/rename_columns.py [FOLDER]

Only names change. No figure does: every number is copied as the text it was. A second run changes nothing.
To rename something else, add an entry to a table below; to rewrite another kind of file, add a function to STEPS.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILES = {
    "choices.csv": "scorer_agreement.csv",
    "held.csv": "token_ablation.csv",
    "looks.csv": "attention.csv",
    "tokens.csv": "query_diagnostics.csv",
    "looks-64-normal.png": "attention-64-normal.png",
}
TABLES = {
    "cells.csv",
    "tasks.csv",
    "summary.csv",
    "training.csv",
    "contrasts.csv",
    "cost.csv",
    "answers.csv",
    "train.csv",
    "scorers.csv",
    *(name for name in FILES.values() if name.endswith(".csv")),
}
"""Tables of a sweep, under their new names. Other CSV files have columns of their own: see OTHER_COLUMNS."""
AXES = {"clip_at": "clip_per", "schedule_at": "lr_step_per"}
COLUMNS = {
    **AXES,
    "faulty": "incorrect",
    "low": "ci_low",
    "high": "ci_high",
    "freedom": "dof",
    "p_equivalent": "p_tost",
    "detectable": "mde",
    "seeds_to_decide": "seeds_needed",
    "items_to_decide": "items_needed",
    "at": "fixed_levels",
    "media": "cluster",
    "n_media": "n_clusters",
    "samples_cut": "truncated_samples",
    "other_accuracy": "mismatched_clip_accuracy",
    "first_that_do": "min_sufficient_tokens",
    "named": "extra_state",
    "what": "ablation",
    "image_fraction": "image_ratio",
    "image_share": "image_ratio",
    "image_share_sd": "image_ratio_sd",
    "noise_scale_low": "noise_scale_ci_low",
    "noise_scale_high": "noise_scale_ci_high",
    "batch_is": "vs_critical_batch",
    "cheapest_by_tokens": "pareto_by_tokens",
    "cheapest_by_time": "pareto_by_time",
    "as_good_as_best": "equivalent_to_best",
    "upstream": "official_check",
    "upstream_stderr": "official_check_stderr",
    "upstream_differs": "official_check_differs",
    "letters_said": "predicted_letters",
    "letters_gold": "gold_letters",
}
OTHER_COLUMNS = {
    "nano/token_curve.csv": {"low": "ci_low", "high": "ci_high"},
    "nano/single_frame.csv": {"se": "stderr"},
    "nano/text_only.csv": {"se": "stderr"},
    "nano/tasks.csv": {},
    "statistics/calibration.csv": {"detectable": "mde", "found": "power"},
}
"""By path below the results: tables that studies made."""
LEVELS = {
    "mixing": {"multi": "mixed", "single": "random", "aligned": "interleaved"},
    "control": {"none": "full", "other": "mismatched_clip"},
    "gradient": {"one batch again": "one batch, repeated", "clip_at micro_batch": "clip_per micro_batch"},
    "reference": {"schedule_at micro_batch": "lr_step_per micro_batch"},
    "metric": {"farthest": "max_deviation"},
}
"""Renamed values, by the new name of the column that holds them."""
SETTINGS = {
    "image_share": "image_ratio",
    "warm_up": "warmup_ratio",
    "longest": "max_text_tokens",
    "checkpointing": "gradient_checkpointing",
}
"""Renamed settings of sweep.json."""
TRAIN = (
    *("samples", "image_ratio", "learning_rate", "warmup_ratio", "min_lr_ratio", "weight_decay", "adam_beta1", "max_grad_norm"),
    *("train_language_model", "lora_rank", "precision", "gradient_checkpointing"),
)
"""Settings of sweep.json that the user gives, under their new names."""
LEVEL_COLUMNS = {"level": "axis", "baseline": "axis", "other_level": "other_axis", "other_baseline": "other_axis"}
"""Columns of contrasts.csv that hold a level, each with the column that names its axis."""
LABELS = {"(faulty)": "(incorrect)"}
WORDS: tuple[tuple[str, str], ...] = (
    # files, columns and options
    *((rf"(?<![\w-]){re.escape(old)}", new) for old, new in FILES.items()),
    ("`seeds_to_decide` and `items_to_decide`", "`seeds_needed` and `items_needed`"),
    (r"(?<=[\s`])--image-share\b", "--image-ratio"),
    (r"(?<=[\s`])--clip-at\b", "--clip-per"),
    (r"(?<=[\s`])--schedule-at\b", "--lr-step-per"),
    (r"(?<=[\s`])--warm-up\b", "--warmup-ratio"),
    (r"(?<=[\s`])--items (?=\d)", "--items-per-task "),
    # levels
    (r"\(faulty\)", "(incorrect)"),
    (r"--mixing multi,single,aligned", "--mixing mixed,random,interleaved"),
    (
        r"(?<=mixing )multi\b|(?<=mixing single - )multi\b|(?<=mixing aligned - )multi\b|(?<=[|] )multi(?= "
        r"[|])|(?<=/)multi\b(?= [|])",
        "mixed",
    ),
    (r"(?<=mixing )single\b|(?<=[|] )single(?= [|])|(?<=/)single\b(?= [|])", "random"),
    (r"(?<=mixing )aligned\b|(?<=[|] )aligned(?= [|])|(?<=/)aligned\b(?= [|])", "interleaved"),
    (r"(?<=\+)multi\b|\bmulti(?=\+)", "mixed"),
    (r"(?<=\+)single\b|\bsingle(?=\+)", "random"),
    (r"(?<=\+)aligned\b|\baligned(?=\+)", "interleaved"),
    (r"\bclip at(?= micro_batch| window|/schedule| \|)", "clip per"),
    (r"\bschedule at(?= micro_batch| window|\b\n| \|)", "lr step per"),
    (r"(?<=\| )other(?= \|)|(?<=item's clip \()other(?=\))", "mismatched_clip"),
    # titles
    (r"(?m)^(#+) What the data support$", r"\1 Contrasts"),
    (r"(?m)^(#+) A task at a time$", r"\1 Contrasts per task"),
    (r"(?m)^(#+) Ways of reading an answer$", r"\1 Scorer agreement"),
    (r"(?m)^(#+) What the extra tokens hold$", r"\1 Extra query tokens"),
    (r"(?m)^(#+) Equal effective batches$", r"\1 Batch split check"),
    (r"(?m)^(#+) Made by$", r"\1 Software"),
    ("- Equal effective batches: Coincide", "- Batch split check: Coincide"),
    # heads of columns
    (r"(?<=\| comparison \| )where(?= \|)", "fixed levels"),
    (r"(?<=\| verdict \| )detectable \| to decide(?= \|)", "MDE | needed"),
    (r"(?<=\| )peak rate(?= \|)", "peak lr"),
    (r"(?<=\| )batch is(?= \|)", "vs critical batch"),
    (r"(?<=\| )moved extra/base %(?= \|)", "update extra/base %"),
    (r"(?<=\| )extra tokens are(?= \|)", "extra state"),
    (r"(?<=\| )upstream(?= \|)", "official check"),
    (r"(?<=\| prefill GFLOPs \| )more %(?= \|)", "added %"),
    (r"(?<=\| )front \| as good(?= \|)", "Pareto | vs best"),
    (r"(?<=\| )first that do \| named(?= \|)", "min sufficient | state"),
    (r"(?<=\| )first steps \| all steps(?= \|)", "early loss diff | loss diff"),
    (r"(?<=\| minus 8 x 1 \| )low \| high(?= \|)|(?<=\| minus_none \| )low \| high(?= \|)", "ci_low | ci_high"),
    (r"(?<=\| )se(?= \|)", "stderr"),
    (r"(?<=\| )detectable \| found(?= \|)", "mde | power"),
    (
        r"- detectable, found: the difference called detectable \(median of 200 grids\), and how often it was found; 80 % is "
        r"promised\.",
        "- mde, power: the minimum detectable effect (median of 200 grids), and the share that found it; 80 % is promised.",
    ),
    # notes
    (r"; held: (\w+ \w+) a cell,", r"; budget: \1 per cell,"),
    (r"; hold (micro-batch|effective-batch);", r"; fixed: \1;"),
    (
        r"\baccuracy over ([^;]+), mean of the seeds; ± is the standard error over items, clustered by clip; seed sd "
        r"is the spread "
        r"between seeds; chance is ([\d.]+); visual gain = accuracy - blind, temporal gain = accuracy - that on "
        r"shuffled frames\. "
        r"Held: ([^.]+) a cell\.",
        r"Accuracy over \1, mean over seeds. ±: standard error over items, clustered by clip. Seed sd: standard "
        r"deviation between "
        r"seeds. Chance: \2 %. Visual gain = accuracy - blind accuracy. Temporal gain = accuracy - accuracy on "
        r"shuffled frames. "
        r"Budget: \3 per cell.",
    ),
    (
        r"\bsamples, steps, supervised tokens: of a cell, mean of the seeds; images: of a window's samples, sd over "
        r"windows",
        "Samples, steps, supervised tokens: per cell, mean over seeds. Images: % of the samples of a window, with the "
        "standard "
        "deviation over windows",
    ),
    (
        r"; critical batch: the gradient noise scale in samples \(McCandlish et al\. 2018\) over the second half of "
        r"the steps, 95 % "
        r"interval; below it a larger batch makes a step nearly as much better as it is larger, above it hardly; told "
        r"where several "
        r"micro-batches share a window",
        ". Critical batch: the gradient noise scale in samples (McCandlish et al. 2018) over the second half of the "
        "steps, with a "
        "95 % interval, measured where a window has several micro-batches. Below it, a larger batch improves a step "
        "almost in "
        "proportion to its size; above it, hardly",
    ),
    (
        r"; moved: by a step, relative to their norm, second half; cosine \(mean over pairs\) and effective rank: of "
        r"the extra tokens "
        r"at the end\.",
        ". Update: length of a step relative to the norm of the tokens, second half. Cosine (mean over pairs) and "
        "effective rank: of "
        "the extra tokens at the end.",
    ),
    (
        r"Warning: ([^/]+?) / ([^/]+?) / (\w+) \((\w[\w ]*?) / (\w[\w ]*?) / (\w[\w ]*?)\) have frozen extra tokens: "
        r"they hardly "
        r"move while the base queries do\. --extra-init normal or a longer --warm-up mends that\.",
        r"Warning: \4 \1, \5 \2, \6 \3: the extra tokens are frozen: they hardly move while the base queries do. Use "
        r"--extra-init "
        r"normal or a larger --warmup-ratio.",
    ),
    (
        r"\bpaired by item and seed over ([^;]+); intervals by clips and seeds; p adjusted \(Holm\) over the "
        r"contrasts of an axis of one "
        r"kind, or over the interactions; equivalent: surely within ±([\d.]+) points \(--margin\); detectable: the "
        r"true difference "
        r"found in 80 % of all repetitions; to decide: what would make ([\d.]+) points detectable\.",
        r"Differences of accuracy in points, paired by item and seed over \1. Intervals: two-way clustered by clip "
        r"and seed. p: adjusted "
        r"(Holm) over the contrasts of one axis and kind, or over the interactions. Equivalent: surely within ±\2 "
        r"points (--margin). "
        r"MDE (minimum detectable effect): the true difference that 80 % of all repetitions would find. Needed: what "
        r"would make a "
        r"difference of \3 points detectable.",
    ),
    (r": more, (?=\+)", ": better, "),
    (r": less, (?=-)", ": worse, "),
    (r": the same within ", ": equivalent within "),
    ("points could have been seen", "points would have been detectable"),
    (
        r"\baccuracy % of the same items shown (.+?); mean of the seeds\. Seconds: scoring a cell as it is, and under "
        r"all controls\.",
        r"Accuracy in % on the same items with another input, mean over seeds: \1. eval s, controls s: seconds to "
        r"score a cell without "
        r"a control, and under all of them.",
    ),
    (
        r"\baccuracy % by likelihood: of each option's text; letter: of its letter behind 'Best option:\('; generate: "
        r"a greedy answer "
        r"read strictly; upstream: the same answer by the original's own check, which an empty one passes; unparsed: "
        r"generated answers "
        r"that name no option, counted as wrong; differs: strict and upstream disagree; =: items on which two ways "
        r"choose the same\. "
        r"Letters chosen, %:",
        "Accuracy in % by each scorer. likelihood: the likelihood of each option's text; letter: the likelihood of "
        "each option's letter "
        "after 'Best option:('; generate: a greedy answer, parsed strictly; official check: the same answer by "
        "VideoChat2's own check, "
        "which accepts an empty answer. unparsed: % of generated answers that name no option, counted as incorrect. "
        "differs: % on which "
        "the strict parser and VideoChat2's check disagree. a=b: % of items on which both scorers choose the same "
        "option. Predicted "
        "letters in %:",
    ),
    (
        r"\bprefill and KV cache \(bf16\): ([\w-]+) reading (\d+) tokens of text and the visual ones, by formula "
        r"\(--at names another "
        r"model\), more: than the text alone; step, item and memory: measured here; front: nothing with as few visual "
        r"tokens, or as "
        r"little training time, scores higher\.",
        r"Prefill and KV cache (bf16): by formula, for \1 reading \2 tokens of text and the visual tokens "
        r"(--cost-model names another "
        r"model). Added: relative to the text alone. Step, item, memory: measured here. Pareto: no condition with as "
        r"few visual tokens "
        r"(tokens), or as little training time (time), has a higher accuracy.",
    ),
    ("Cheapest that is surely within", "Cheapest condition that is surely within"),
    (r"\baccuracy %, mean of the seeds; columns are (.+)", r"Accuracy in %, mean over seeds. Columns: \1."),
    (
        r"\bpoints against ([^;]+); ± is half of the 95 % interval; \* differs after Holm's adjustment over the (\d+) "
        r"tasks, = "
        r"equivalent",
        r"Difference in points against \1. ±: half of the 95 % interval. *: differs after Holm's adjustment over \2 "
        r"tasks. =: equivalent.",
    ),
    (
        r"\bone effective batch split in two ways must give one run: relative loss difference at most ([\d.e-]+) at "
        r"every step, and "
        r"answers that differ only where the two best options are within ([\d.]+) nats",
        r"Cells that split one effective batch in different ways must coincide: the relative difference of their "
        r"losses is at most \1 at "
        r"every step, and their answers differ only where the two best options are within \2 nats",
    ),
    (
        r"; drifts: one run over the first (\d+) % of the steps, so that the arithmetic is one, and apart later: "
        r"rounding grows where "
        r"training is unstable, as at too high a learning rate\.",
        r". drifts: the losses agree over the first \1 % of the steps, so the arithmetic is the same, and differ "
        r"later: unstable "
        r"training, as at too high a learning rate, amplifies rounding.",
    ),
    (
        r'"ONE SEED: the intervals hold item uncertainty only, what another seed would\s+change is not in them"',
        '"ONE SEED: the intervals hold the uncertainty of the items only,\nnot what another seed would change"',
    ),
    # prose
    (r"\bfaulty (?=norms|rules)", "incorrect "),
    (r"\ba faulty\b", "an incorrect"),
    (r"\[Where the 64 look\]", "[Cross-attention of the 64]"),
)
"""Regular expressions and their replacements in Markdown files. Numbers are kept: a replacement names the groups "
"that hold them."""


def rename_files(folder: Path) -> None:
    """Give files their new names."""
    for old, new in FILES.items():
        for path in folder.rglob(old):
            path.rename(path.with_name(new))


def rename_columns(folder: Path) -> None:
    """Give columns and levels of all known CSV files their new names."""
    for path in folder.rglob("*.csv"):
        if columns := columns_of(path.relative_to(folder)):
            _rewrite(path, lambda text, columns=columns: renamed_table(text, columns))


def columns_of(path: Path) -> Mapping[str, str]:
    """Old -> new names of the columns of a CSV file, given by its path below the results; empty for an unknown file."""
    return OTHER_COLUMNS.get(path.as_posix(), COLUMNS if path.name in TABLES else {})


def renamed_table(text: str, columns: Mapping[str, str]) -> str:
    """A CSV file's text with new names of columns and levels.

    Args:
        text: the file, its first row the header.
        columns: old -> new name of the columns.
    """
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    header = [columns.get(name, name) for name in header]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n" if "\r\n" in text else "\n")
    writer.writerow(header)
    for values in rows:
        row = dict(zip(header, values, strict=True))
        writer.writerow([_renamed_value(name, value, row) for name, value in row.items()])
    return out.getvalue()


def _renamed_value(column: str, value: str, row: Mapping[str, str]) -> str:
    if column in ("axis", "other_axis"):
        return AXES.get(value, value)
    if column in ("incorrect", "fixed_levels"):
        return "; ".join(_renamed_assignment(part) for part in value.split("; "))
    kind = row[LEVEL_COLUMNS[column]] if column in LEVEL_COLUMNS else column
    return LEVELS.get(AXES.get(kind, kind), {}).get(value, value)


def _renamed_assignment(text: str) -> str:
    """`mixing=multi+single` -> `mixing=mixed+random`."""
    axis, equals, levels = text.partition("=")
    if not equals:
        return text
    for old, new in LABELS.items():
        levels = levels.replace(old, new)
    axis = AXES.get(axis, axis)
    return f"{axis}={'+'.join(LEVELS.get(axis, {}).get(level, level) for level in levels.split('+'))}"


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    old = path.read_bytes().decode()
    new = change(old)
    if new != old:
        path.write_bytes(new.encode())


def rename_words(folder: Path) -> None:
    """Give files, columns, levels, options, titles and notes in Markdown files their new names."""
    for path in folder.rglob("*.md"):
        _rewrite(path, renamed_words)


def renamed_words(text: str) -> str:
    """A Markdown file's text with new words."""
    for old, new in WORDS:
        text = re.sub(old, new, text)
    return text


def convert_sweep_files(folder: Path) -> None:
    """Give sweep.json of record schema 4 and 5 the layout of SweepFile (qtablate/records.py); its schema number stays."""
    for path in folder.rglob("sweep.json"):
        sweep = json.loads(path.read_text())
        if "recipe" in sweep:
            path.write_text(json.dumps(converted_sweep(sweep), indent=1, sort_keys=True) + "\n")


def converted_sweep(old: Mapping[str, Any]) -> dict[str, Any]:
    """What a sweep.json says, in the new layout: the same settings under their new names."""
    recipe, sources = old["recipe"], old["sources"]
    settings = {SETTINGS.get(name, name): value for name, value in recipe.items() if name != "betas"}
    settings |= {"adam_beta1": recipe["betas"][0], "controls": [_level("control", name) for name in recipe["controls"]]}
    grid = {AXES.get(name, name): value for name, value in old["grid"].items() if name not in ("hold", "lr_batch")}
    grid |= {"mixing": [_level("mixing", name) for name in grid["mixing"]], "batch_size_is": old["grid"]["hold"]}
    grid["adam_beta2"] = [recipe["betas"][1]]
    budget = None if recipe["budget"] == "samples" else {"unit": recipe["budget"], "size": recipe["budget_size"]}
    data = {
        "model": sources["model"],
        "bench": sources["bench"],
        "train": sources["train"],
        "media_root": sources["media_root"],
    }
    data |= {"items_per_task": sources["items_a_task"], "items_seed": sources.get("items_seed", 0)}
    weights = sources["weights"].split(",") if sources["weights"] else []
    host = dict(old["host"])
    axes = {AXES.get(name, name) for cell in old["cells"] for name in cell} - {"key", "seed"}
    return {
        "schema": old["schema"],
        "config": {
            "grid": grid,
            "train": {name: settings[name] for name in TRAIN} | {"budget": budget},
            "eval": {name: settings[name] for name in ("controls", "scorers", "diagnose")},
            "data": data | {"mixture_weights": [float(weight) for weight in weights]},
            "run": {"processes_per_cell": host.get("ranks", 1)},
        },
        "settings": settings,
        "reference_batch": old["grid"]["lr_batch"],
        "fingerprints": old["fingerprints"],
        "num_query_tokens": old["num_query_tokens"],
        "base_accuracy": old["base"],
        "items": old["items"],
        "cells": [_converted_cell(cell, axes) for cell in old["cells"]],
        "problems": [{"of": "item", **problem} for problem in old["problems"]],
        "versions": old["versions"],
        "host": {name: host[name] for name in ("cores", "machine", "python")} | {"processes_per_cell": host.get("ranks", 1)},
    }


def _converted_cell(cell: Mapping[str, Any], axes: set[str]) -> dict[str, Any]:
    named = {AXES.get(name, name): value for name, value in cell.items()}
    condition = {name: _level(name, named[name]) for name in sorted(axes)}
    return {"key": cell["key"], "seed": cell["seed"], "condition": condition}


def _level(column: str, value: Any) -> Any:
    return LEVELS.get(column, {}).get(value, value)


STEPS: tuple[Callable[[Path], None], ...] = (rename_files, rename_columns, rename_words, convert_sweep_files)
"""What the script does. Add a step here."""


def main() -> None:
    """Rewrite a folder of results, by default the one that holds this script."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for step in STEPS:
        step(folder)


if __name__ == "__main__":
    main()

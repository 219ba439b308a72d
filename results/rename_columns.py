"""Rewrite committed results from old names to new ones: CSV files, columns, levels, and the words of Markdown files.

    python results/rename_columns.py [FOLDER]

Only names change. No figure does: every number is copied as the text it was. A second run changes nothing.
To rename something else, add an entry to a table below; to rewrite another kind of file, add a function to STEPS.
"""

import csv
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FILES = {
    "choices.csv": "scorer_agreement.csv",
    "held.csv": "token_ablation.csv",
    "looks.csv": "attention.csv",
    "tokens.csv": "query_diagnostics.csv",
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
    *FILES.values(),
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
    "audit/nano.csv": {"what": "gradient", "against": "reference", "figure": "metric", "allowed": "tolerance"},
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
LEVEL_COLUMNS = {"level": "axis", "baseline": "axis", "other_level": "other_axis", "other_baseline": "other_axis"}
"""Columns of contrasts.csv that hold a level, each with the column that names its axis."""
LABELS = {"(faulty)": "(incorrect)"}


def rename_files(folder: Path) -> None:
    """Give CSV files their new names."""
    for old, new in FILES.items():
        for path in folder.rglob(old):
            path.rename(path.with_name(new))


def rename_columns(folder: Path) -> None:
    """Give columns and levels of all known CSV files their new names."""
    for path in folder.rglob("*.csv"):
        columns = OTHER_COLUMNS.get(path.relative_to(folder).as_posix(), COLUMNS if path.name in TABLES else None)
        if columns is not None and not is_study(path, folder):
            _rewrite(path, lambda text, columns=columns: renamed_table(text, columns))


def is_study(path: Path, folder: Path) -> bool:
    """Whether a table has the name of a sweep's but was made by a study: nano/tasks.csv."""
    return path.relative_to(folder).as_posix() == "nano/tasks.csv"


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


STEPS: tuple[Callable[[Path], None], ...] = (rename_files, rename_columns)


def main() -> None:
    """Rewrite a folder of results, by default the one that holds this script."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for step in STEPS:
        step(folder)


if __name__ == "__main__":
    main()

"""Tabulates accuracy by number of extra query tokens, with intervals, from a finished sweep of one accumulation.

    qtablate sweep --tokens 0,1,2,4,8,16,32,64 --accum 1 --seeds 11,12,13,14,15 --extra-init normal,zeros --out DIR
    python tests/benchmarks/token_curve.py DIR results/nano/token_curve.csv

Differences and intervals are the report's own (qtablate/report/contrasts.py), at the level of the first accumulation.
"""

import sys
from pathlib import Path

import pandas as pd
from learner import markdown

import qtablate
from qtablate.report.answers import ACCURACY
from qtablate.report.contrasts import SIMPLE
from qtablate.report.families import ALL

AXIS = "extra_num_query_tokens"


def curve(folder: Path) -> pd.DataFrame:
    """One row per condition, in percent and percentage points."""
    results = qtablate.load(folder)
    found = results.contrasts
    wanted = {"task": ALL, "outcome": ACCURACY, "kind": SIMPLE, "axis": AXIS}
    found = found[(found[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    rows = []
    for row in results.summary.sort_values(["extra_init", AXIS]).to_dict("records"):
        mine = found[found["level"] == row[AXIS]]
        if found["fixed_levels"].str.contains("extra_init").any():
            mine = mine[mine["fixed_levels"].str.contains(f"extra_init={row['extra_init']}")]
        points = mine.to_dict("records")[0] if len(mine) else dict.fromkeys(("difference", "ci_low", "ci_high", "p_holm"))
        rows.append(
            {
                "extra_init": row["extra_init"],
                AXIS: row[AXIS],
                "seeds": row["seeds_done"],
                "items": row["n_items"],
                "clips": row["n_clusters"],
                "accuracy": 100 * row["accuracy"],
                "seed_sd": 100 * row["accuracy_seed_sd"],
                "blind": 100 * row["blind_accuracy"],
                "shuffled": 100 * row["shuffled_accuracy"],
                **{
                    name: None if points[key] is None else 100 * points[key]
                    for name, key in (("minus_none", "difference"), ("ci_low", "ci_low"), ("ci_high", "ci_high"))
                },
                "p_holm": points["p_holm"],
                "train_seconds": row["train_seconds"],
                "eval_seconds": row["eval_seconds"] + row["control_seconds"],
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    table = curve(folder)
    table.to_csv(out, index=False, float_format="%.3f")
    text = markdown(table.astype(object).where(table.notna(), ""), 1)
    out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

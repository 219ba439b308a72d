"""Tabulates the scores of the embedded default per task: controls, pretrained base and two numbers of extra tokens.

    python tests/benchmarks/task_table.py DIR results/nano/tasks.csv

DIR is the finished sweep of the token curve (tests/benchmarks/token_curve.py); its `normal` cells at 0 and 32 extra
tokens are used. `text-only` comes from results/nano/text_only.csv and `base` from the sweep's own sweep.json. Standard
errors are over items, clustered by clip, of the answers averaged over the seeds.
"""

import sys
from pathlib import Path

import pandas as pd
from learner import markdown

from qtablate.report.frames import cell_frame
from qtablate.statistics.clustered import clustered_mean
from qtablate.store import Store

TOKENS = (0, 32)
TEXT_ONLY = Path(__file__).parents[2] / "results" / "nano" / "text_only.csv"


def task_table(store: Store, text_only: pd.DataFrame) -> pd.DataFrame:
    """All figures in percent."""
    table = cell_frame(store)
    table = table[(table["status"] == "ok") & table["extra_init"].isin(["normal", "none"])]
    keys = {tokens: list(table.loc[table["extra_num_query_tokens"] == tokens, "key"]) for tokens in TOKENS}
    given = {
        tokens: pd.concat([pd.read_csv(store.cell_file(key, "answers.csv")) for key in some]) for tokens, some in keys.items()
    }
    base = store.read_sweep().base_accuracy or {}
    readers = text_only[text_only["texts"] == "as asked"].set_index("task")
    rows = []
    for task in given[0]["task"].drop_duplicates():
        row: dict[str, object] = {"task": task}
        for tokens, frame in given.items():
            mine = frame[(frame["task"] == task) & (frame["control"] == "full")]
            row |= {"n": mine["item"].nunique(), "chance": 100 * (1 / mine["options"]).mean()}
            row |= _rate(f"extra_{tokens}", mine)
            if tokens == TOKENS[-1]:
                row |= _rate("blind", frame[(frame["task"] == task) & (frame["control"] == "blind")])
        row |= {"text_only": readers.loc[task, "reader"], "base": 100 * base[task] if task in base else None}
        rows.append(row)
    order = ["task", "n", "chance", "text_only", "blind", "blind_stderr", "base"]
    order += [f"extra_{tokens}{end}" for tokens in TOKENS for end in ("", "_stderr")]
    return pd.DataFrame(rows)[order]


def _rate(name: str, rows: pd.DataFrame) -> dict[str, float | None]:
    means = rows.groupby(["item", "cluster"])["correct"].mean()
    found = clustered_mean(list(means), list(means.index.get_level_values("cluster")))
    return {name: 100 * (found.value or 0.0), f"{name}_stderr": 100 * found.stderr if found.stderr is not None else None}


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    table = task_table(Store(folder), pd.read_csv(TEXT_ONLY))
    table.to_csv(out, index=False, float_format="%.1f")
    text = markdown(table, 1)
    out.with_suffix(".md").write_text(text)
    print(text)
    gains = (table["extra_32"] - table["blind"]) / (table["extra_32_stderr"] ** 2 + table["blind_stderr"] ** 2) ** 0.5
    print(f"{(gains > 2).sum()} of {len(table)} tasks above their blind score by more than two standard errors")


if __name__ == "__main__":
    main()

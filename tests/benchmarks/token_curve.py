"""The curve of accuracy over extra query tokens, with intervals, from the files of a finished sweep.

    qtablate sweep --tokens 0,1,2,4,8,16,32,64 --accum 1 --seeds 11,12,13,14,15 --extra-init normal,zeros --out DIR
    python tests/benchmarks/token_curve.py DIR results/nano/token_curve.csv

Every condition is compared with 0 extra tokens, item by item and seed by seed. The interval of a difference rests on
both units: the variance between the seeds' mean differences over the seeds, plus that between clips of the
differences averaged over the seeds (their interaction is counted twice, which makes it wider), with Satterthwaite's
degrees of freedom.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from qtablate.analyse.frames import answers, cells
from qtablate.analyse.rates import rate
from qtablate.store import Store


def right_answers(store: Store, keys: list[str]) -> pd.DataFrame:
    """(item) x (seed) of 1 and 0; the index holds each item's clip."""
    given = answers(store, keys)
    return given[given["control"] == "none"].pivot_table(index=["item", "media"], columns="key", values="correct")[keys]


def interval(difference: NDArray[np.float64], clips: list[str]) -> tuple[float, float, float]:
    """Mean of an (item, seed) array of differences and its 95 % interval."""
    mean = float(difference.mean())
    groups, seeds = len(set(clips)), difference.shape[1]
    of_clips = (rate(list(difference.mean(axis=1)), clips).stderr or 0.0) ** 2
    of_seeds = float(difference.mean(axis=0).var(ddof=1)) / seeds
    freedom = (of_clips + of_seeds) ** 2 / (of_clips**2 / (groups - 1) + of_seeds**2 / (seeds - 1))
    half = float(stats.t.ppf(0.975, freedom)) * (of_clips + of_seeds) ** 0.5
    return mean, mean - half, mean + half


def curve(store: Store) -> pd.DataFrame:
    """A row a condition, in percent and points."""
    table = cells(store)
    table = table[table["status"] == "ok"].sort_values("seed")
    base = right_answers(store, list(table.loc[table["extra_num_query_tokens"] == 0, "key"]))
    rows = []
    for (init, tokens), group in table.groupby(["extra_init", "extra_num_query_tokens"], sort=True):
        mine = right_answers(store, list(group["key"])).reindex(base.index)
        clips = list(base.index.get_level_values("media"))
        mean, low, high = interval(mine.to_numpy(float) - base.to_numpy(float), clips) if tokens else (0.0, np.nan, np.nan)
        rows.append({
            "extra_init": init, "extra_num_query_tokens": tokens, "seeds": len(group), "items": len(mine),
            "clips": len(set(clips)), "accuracy": 100 * mine.to_numpy().mean(),
            "seed_sd": 100 * float(group["accuracy"].astype(float).std(ddof=1)), "blind": 100 * group["blind_accuracy"].mean(),
            "minus_none": 100 * mean, "low": 100 * low, "high": 100 * high,
            "seconds": float((group["train_seconds"] + group["eval_seconds"]).mean()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    table = curve(Store(folder))
    table.to_csv(out, index=False, float_format="%.2f")
    print(table.round(1).to_string(index=False))


if __name__ == "__main__":
    main()

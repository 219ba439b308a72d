"""Agreement of scorers that read the answers of one model: the accuracy by each, and how often two choose the same option."""

from itertools import combinations

import numpy as np
import pandas as pd

from qtablate.prompts.mvbench import LETTERS, SCORERS
from qtablate.report.folder import AXES
from qtablate.report.rows import Row
from qtablate.statistics.clustered import clustered_mean
from qtablate.store import Store

COLUMNS = (
    *AXES,
    "seeds_done",
    "n_items",
    *(f"{scorer}{part}" for scorer in SCORERS for part in ("", "_stderr")),
    "official_check",
    "official_check_stderr",
    "official_check_differs",
    "unparsed",
    *(f"{first}_{second}_agree" for first, second in combinations(SCORERS[:3], 2)),
    "predicted_letters",
    "gold_letters",
)
UNPARSED = -1
"""The prediction where an answer names no option."""


def scored_cells(store: Store, cells: pd.DataFrame) -> list[str]:
    """Return the keys of the finished cells whose answers several scorers have read."""
    done = [str(key) for key in cells.loc[cells["status"] == "ok", "key"]]
    return [key for key in done if store.cell_file(key, "scorers.csv").is_file()]


def scorer_agreement_frame(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row per condition: shares of the items, mean of the seeds, with standard errors clustered by clip.

    Args:
        store: the results folder.
        cells: its frame of cells.
    """
    keys = set(scored_cells(store, cells))
    rows = []
    for condition, group in cells[cells["key"].isin(keys)].groupby(list(AXES), sort=False):
        frames = [pd.read_csv(store.cell_file(str(key), "scorers.csv")) for key in group["key"]]
        row: Row = dict(zip(AXES, condition, strict=True))
        row |= {"seeds_done": len(frames), "n_items": len(frames[0])}
        rows.append(row | _agreement(pd.concat(frames, ignore_index=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _agreement(choices: pd.DataFrame) -> Row:
    """Return the figures of one condition; `choices` has a row per seed and item, with the option that each scorer chose."""
    figures: Row = {}
    scorers = [scorer for scorer in SCORERS if scorer in choices]
    correct = {scorer: choices[scorer] == choices["gold"] for scorer in scorers}
    if "official_check" in choices:
        correct["official_check"] = choices["official_check"] == 1
        figures["unparsed"] = float((choices["generate"] == UNPARSED).mean())
        figures["official_check_differs"] = float((correct["official_check"] != correct["generate"]).mean())
    clusters = list(choices.groupby("item", sort=False)["cluster"].first())
    for scorer, values in correct.items():
        accuracy = clustered_mean(list(values.astype(float).groupby(choices["item"], sort=False).mean()), clusters)
        figures |= {scorer: accuracy.value, f"{scorer}_stderr": accuracy.stderr}
    for first, second in combinations(scorers, 2):
        if f"{first}_{second}_agree" in COLUMNS:
            figures[f"{first}_{second}_agree"] = float((choices[first] == choices[second]).mean())
    if "letter" in choices:
        figures["predicted_letters"] = letter_shares(choices["letter"])
        figures["gold_letters"] = letter_shares(choices["gold"])
    return figures


def letter_shares(places: pd.Series) -> str:
    """Format the share of each letter among the answers, in percent: `A 31 B 29 C 40`."""
    counts = np.bincount(places[places >= 0].astype(int))
    return " ".join(f"{LETTERS[place]} {100 * count / len(places):.0f}" for place, count in enumerate(counts))

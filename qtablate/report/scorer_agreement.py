"""Several ways of reading one model's choice, side by side: how right each is, and how often they agree."""

from itertools import combinations

import numpy as np
import pandas as pd

from qtablate.prompts.mvbench import LETTERS, SCORERS
from qtablate.report.frames import AXES
from qtablate.statistics.clustered import clustered_mean
from qtablate.store import Store

COLUMNS = (
    *AXES,
    "seeds_done",
    "n_items",
    *(f"{how}{part}" for how in SCORERS for part in ("", "_stderr")),
    "official_check",
    "official_check_stderr",
    "official_check_differs",
    "unparsed",
    *(f"{one}_{other}_agree" for one, other in combinations(SCORERS[:3], 2)),
    "predicted_letters",
    "gold_letters",
)
UNPARSED = -1


def kept(store: Store, cells: pd.DataFrame) -> list[str]:
    """Finished cells whose choices were read in more than one way."""
    done = [str(key) for key in cells.loc[cells["status"] == "ok", "key"]]
    return [key for key in done if store.cell_file(key, "scorers.csv").is_file()]


def table(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """A row a condition; shares over items, of the seeds' means, standard errors clustered by clip."""
    keys = set(kept(store, cells))
    rows = []
    for condition, group in cells[cells["key"].isin(keys)].groupby(list(AXES), sort=False):
        frames = [pd.read_csv(store.cell_file(str(key), "scorers.csv")) for key in group["key"]]
        whole = pd.concat(frames, ignore_index=True)
        row: dict[str, object] = dict(zip(AXES, condition, strict=True))
        row |= {"seeds_done": len(frames), "n_items": len(frames[0])}
        ways = [how for how in SCORERS if how in whole]
        right = {how: whole[how] == whole["gold"] for how in ways}
        if "official_check" in whole:
            right["official_check"] = whole["official_check"] == 1
            row["unparsed"] = float((whole["generate"] == UNPARSED).mean())
            row["official_check_differs"] = float((right["official_check"] != right["generate"]).mean())
        for how, values in right.items():
            means = values.astype(float).groupby(whole["item"], sort=False).mean()
            media = whole.groupby("item", sort=False)["cluster"].first()
            found = clustered_mean(list(means), list(media))
            row |= {how: found.value, f"{how}_stderr": found.stderr}
        for one, other in combinations(ways, 2):
            if f"{one}_{other}_agree" in COLUMNS:
                row[f"{one}_{other}_agree"] = float((whole[one] == whole[other]).mean())
        if "letter" in whole:
            row["predicted_letters"], row["gold_letters"] = histogram(whole["letter"]), histogram(whole["gold"])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def histogram(places: pd.Series) -> str:
    """`A 31 B 29 C 40`: percent of the answers, by letter."""
    counts = np.bincount(places[places >= 0].astype(int))
    return " ".join(f"{LETTERS[n]} {100 * count / len(places):.0f}" for n, count in enumerate(counts))

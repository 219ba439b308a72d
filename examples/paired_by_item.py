"""Reading a results folder with pandas: what more query tokens changed, question by question.

    python examples/paired_by_item.py results/nano-world

Cells of one seed answered the same items, so two conditions are compared item by item rather than mean by mean.
"""

import sys
from pathlib import Path

import pandas as pd


def paired(results: Path) -> pd.DataFrame:
    """For each number of extra tokens above the fewest: items gained and lost against the fewest, all seeds together."""
    cells = pd.read_csv(results / "cells.csv").query("status == 'ok'")
    frames = [pd.read_csv(results / "cells" / row.key / "answers.csv").assign(**row._asdict()) for row in cells.itertuples()]
    answers = pd.concat(frames).query("control == 'full'")
    names = ["accumulate_grad_batches", "seed", "item"]
    by_tokens = answers.pivot_table(index=names, columns="extra_num_query_tokens", values="correct")
    fewest = by_tokens.columns[0]
    rows = [
        {
            "tokens": tokens,
            "against": fewest,
            "pairs": int(both.sum()),
            "gained": int((change > 0).sum()),
            "lost": int((change < 0).sum()),
        }
        for tokens in by_tokens.columns[1:]
        for both in [by_tokens[[fewest, tokens]].notna().all(axis=1)]
        for change in [(by_tokens[tokens] - by_tokens[fewest])[both]]
    ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(paired(Path(sys.argv[1])).to_string(index=False))

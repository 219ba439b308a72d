"""Compare conditions item by item with pandas: which items do more query tokens gain and lose?

    python examples/paired_by_item.py results/nano-world

Cells of one seed answer the same items, so two conditions can be compared item by item rather than by their means.
"""

import sys
from pathlib import Path

import pandas as pd


def paired(results: Path) -> pd.DataFrame:
    """Count, per number of extra tokens, the items gained and lost against the smallest number, over all seeds."""
    cells = pd.read_csv(results / "cells.csv").query("status == 'ok'")
    frames = [pd.read_csv(results / "cells" / row.key / "answers.csv").assign(**row._asdict()) for row in cells.itertuples()]
    answers = pd.concat(frames).query("control == 'full'")
    names = ["accumulate_grad_batches", "seed", "item"]
    by_tokens = answers.pivot_table(index=names, columns="extra_num_query_tokens", values="correct")
    baseline = by_tokens.columns[0]
    rows = [
        {
            "tokens": tokens,
            "against": baseline,
            "pairs": int(both.sum()),
            "gained": int((change > 0).sum()),
            "lost": int((change < 0).sum()),
        }
        for tokens in by_tokens.columns[1:]
        for both in [by_tokens[[baseline, tokens]].notna().all(axis=1)]
        for change in [(by_tokens[tokens] - by_tokens[baseline])[both]]
    ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(paired(Path(sys.argv[1])).to_string(index=False))

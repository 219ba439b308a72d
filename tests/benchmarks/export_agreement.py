"""Measures whether the exported benchmark gives the same answers as the one in memory: trains a cell twice, one for each.

    python tests/benchmarks/export_agreement.py [ITEMS_PER_TASK]

Exported frames go through H.264 at 4:2:0 and a bicubic resize, so a few answers may differ; their number is printed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd


def qtablate(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "qtablate", *words], check=True, stdout=subprocess.DEVNULL)


def answers(results: Path) -> pd.DataFrame:
    [key] = pd.read_csv(results / "cells.csv")["key"]
    return pd.read_csv(results / "cells" / key / "answers.csv").query("control == 'full'").set_index("item")


def main(items: str = "40") -> None:
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        qtablate("bench", "export", str(tmp / "bench"), "--items", items)
        grid = ["--tokens", "32", "--accum", "1", "--seeds", "1", "--samples", "3200", "--jobs", "1"]
        qtablate("sweep", *grid, "--items", items, "--out", str(tmp / "memory"))
        qtablate("sweep", *grid, "--bench", f"mvbench:{tmp / 'bench'}", "--out", str(tmp / "files"))
        memory, files = answers(tmp / "memory"), answers(tmp / "files")
        names = {
            f"{file.stem}-{number:04d}": entry["item"]
            for file in (tmp / "bench" / "json").glob("*.json")
            for number, entry in enumerate(json.loads(file.read_text()))
        }
        both = memory.join(files.rename(index=names), rsuffix="_files")
        same = int((both["predicted"] == both["predicted_files"]).sum())
        print(f"{same} of {len(both)} answers agree ({100 * same / len(both):.1f} %)")
        for name, column in (("in memory", "correct"), ("from files", "correct_files")):
            print(f"accuracy {name}: {100 * both[column].mean():.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])

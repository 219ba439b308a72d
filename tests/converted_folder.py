"""A folder with clips, a benchmark, a training file and a small model of the original's shape, for tests of whole cells."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qtablate.data.export import write_mp4
from qtablate.model.convert import ConversionSettings, convert

GOLDEN = Path(__file__).parent / "golden"


def write_converted_folder(folder: Path, frames: Sequence[int]) -> None:
    """Write clips of these numbers of frames, a question about each but the last, and a training sample of the last."""
    (folder / "json").mkdir()
    (folder / "video").mkdir()
    for n, count in enumerate(frames):
        pixels = np.random.default_rng(n).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        write_mp4(folder / "video" / f"{n}.mp4", pixels, scale=2, repeats=1, fps=8)
    last = len(frames) - 1
    entry = {"question": "What?", "candidates": ["a man", "a cup", "red"], "answer": "red"}
    (folder / "json" / "asked.json").write_text(json.dumps([{"video": f"{n}.mp4", **entry} for n in range(last)]))
    sample = {"video": f"{last}.mp4", "QA": [{"i": "Watch.", "q": "What?", "a": "a man"}]}
    (folder / "train.json").write_text(json.dumps([sample]))
    files, bert = [GOLDEN / "stage2.pth", GOLDEN / "stage3.pth"], GOLDEN / "bert-base-uncased"
    settings = ConversionSettings(vision_heads=4, qformer_heads=4, image_size=32)
    convert(files, GOLDEN / "mistral-tiny", folder / "model", bert, settings)

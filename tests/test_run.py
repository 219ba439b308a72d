"""What reaches the language model of a cell: a small model of the original's shape, on files, in this process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from qtablate.bench.export import write_mp4
from qtablate.bench.sources import Sources
from qtablate.errors import ModelError
from qtablate.grid import Grid
from qtablate.jobs import CellJob, ProbeJob
from qtablate.model.convert import Settings, convert
from qtablate.model.encode import Encoder
from qtablate.model.load import load
from qtablate.run import compute_features, probe, run_cell
from qtablate.store import Store
from qtablate.sweep import Sweep, feature_jobs, plan, recipe_for

GOLDEN = Path(__file__).parent / "golden"
SENTENCE = "The video contains 8 frames sampled at "


@pytest.fixture
def folder(tmp_path):
    """Two clips of other lengths to ask about, one to train on, and a model that says when frames were sampled."""
    (tmp_path / "json").mkdir()
    (tmp_path / "video").mkdir()
    for n, frames in enumerate((16, 32, 24)):
        pixels = np.random.default_rng(n).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)
        write_mp4(tmp_path / "video" / f"{n}.mp4", pixels, scale=2, hold=1, fps=8)
    entry = {"question": "What?", "candidates": ["a man", "a cup", "red"], "answer": "red"}
    (tmp_path / "json" / "asked.json").write_text(json.dumps([{"video": f"{n}.mp4", **entry} for n in range(2)]))
    sample = {"video": "2.mp4", "QA": [{"i": "Watch.", "q": "What?", "a": "a man"}]}
    (tmp_path / "train.json").write_text(json.dumps([sample]))
    files, bert = [GOLDEN / "stage2.pth", GOLDEN / "stage3.pth"], GOLDEN / "bert-base-uncased"
    settings = Settings(vision_heads=4, qformer_heads=4, image_size=32)
    convert(files, GOLDEN / "mistral-tiny", tmp_path / "model", bert, settings)
    yield tmp_path
    torch.use_deterministic_algorithms(False)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Sweep, set[str], set[str]]:
    """(sweep, texts that were trained on, texts that were asked): what stands behind the visual tokens."""
    seen: dict[str, set[str]] = {"told": set(), "asked": set()}
    told, asked = Encoder.told, Encoder.asked

    def noted_told(self, sample):
        found = told(self, sample)
        seen["told"].add(self.text(found.behind))
        return found

    def noted_asked(self, item, lettered=False):
        found = asked(self, item, lettered)
        seen["asked"].add(self.text(found.context))
        return found

    monkeypatch.setattr(Encoder, "told", noted_told)
    monkeypatch.setattr(Encoder, "asked", noted_asked)
    sources = Sources(str(folder / "model"), f"mvbench:{folder}", f"{folder}/train.json", f"{folder}/video")
    controls, scorers = ("blind", "reversed", "other"), ("likelihood", "letter", "generate", "circular")
    recipe = recipe_for(sources, 4, 0.0, None, 0.2, None, False, controls, False, 0, "fp32", False, scorers)
    grid = Grid((0,), (1,), (4,), (1,), ("multi",), ("normal",), "micro-batch")
    planned = plan(Store(folder / "r"), sources, grid, recipe, folder / "features", 1)
    for _, job in feature_jobs(planned):
        compute_features(job, lambda _: None)
    [cell] = planned.cells
    run_cell(CellJob(cell, sources, planned.store.root, planned.training, planned.benchmark), lambda _: None)
    monkeypatch.setattr(Encoder, "told", told)
    monkeypatch.setattr(Encoder, "asked", asked)
    return planned, *seen.values()


def tell_seconds(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    assert config["tell_seconds"] is False
    (model / "config.json").write_text(json.dumps(config | {"tell_seconds": True}))


def test_a_model_is_told_when_its_frames_were_sampled(folder, monkeypatch):
    plainly, told, asked = run(folder, monkeypatch)
    assert not any(SENTENCE in text for text in told | asked)
    assert plainly.training.seconds() == {}
    tell_seconds(folder / "model")
    planned, told, asked = run(folder, monkeypatch)
    assert planned.cells[0].key != plainly.cells[0].key
    # 24 frames at 8 a second: segments of 23 / 8 frames, their middles at 1, 4, 7, 10, 12, 15, 18, 21
    [text] = told
    assert f"</Video> {SENTENCE}0.1, 0.5, 0.9, 1.2, 1.6, 1.9, 2.2, 2.6 seconds. [/INST]" in text
    assert all(text.count(SENTENCE) == 1 for text in asked)
    clips = {text.partition(SENTENCE)[2].partition(" seconds")[0] for text in asked}
    assert clips == {", ".join(f"{n:.1f}" for n in planned.benchmark.seconds()[clip]) for clip in ("0.mp4", "1.mp4")}
    assert len(clips) == 2
    assert probe(ProbeJob(planned.cells[0], planned.sources), lambda _: None).micro_seconds > 0


def test_conversations_without_a_place_for_it_are_refused(folder):
    model = folder / "model"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"tell_seconds": True, "conversation": "plain"}))
    with pytest.raises(ModelError, match="'tell_seconds' wants one of the conversations videochat2_mistral, videochat2_vicuna"):
        load(str(model))

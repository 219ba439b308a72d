"""Pretraining of nano: the command runs, and the same command gives the same files."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from qtablate.model.directory import WEIGHTS, base_scores, read_config
from qtablate.model.load import load
from qtablate.nano import pretrain
from qtablate.world.questions import TASKS

SMALL = ["--vision-steps", "2", "--language-steps", "2", "--pool", "64", "--items", "2"]


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in ("config.json", WEIGHTS, "tokenizer.json")]


def test_same_command_gives_same_files(tmp_path, monkeypatch):
    """Once as a command in its own process and once in this one."""
    command = [sys.executable, "-m", "qtablate.nano.pretrain", "--out", str(tmp_path / "a"), *SMALL]
    env = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}  # as this process (conftest.py)
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)
    monkeypatch.setattr(sys, "argv", ["pretrain", "--out", str(tmp_path / "b"), *SMALL])
    threads = torch.get_num_threads()
    try:
        pretrain.main()
    finally:
        torch.set_num_threads(threads)
    assert hashes(tmp_path / "a" / "nano") == hashes(tmp_path / "b" / "nano")
    base = str(tmp_path / "a" / "nano")
    model, _ = load(base)
    assert (model.config.num_query_tokens, model.num_visual_tokens) == (2, 2)
    assert read_config(base)["fresh_parts"] == ["qformer", "query_tokens", "projection"]
    scores = json.loads((tmp_path / "a" / "nano" / "scores.json").read_text())
    assert set(scores["accuracy"]) == set(TASKS)
    assert base_scores(base, scores["benchmark"]) == scores["accuracy"]
    assert base_scores(base, "another benchmark") == {}
    stages = {json.loads(line)["stage"] for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()}
    assert stages == {"vision", "language"}

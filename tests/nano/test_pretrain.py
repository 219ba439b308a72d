"""How nano is made: the command runs through, and the same command gives the same file."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from qtablate.model.directory import WEIGHTS, base_scores, read_config
from qtablate.model.load import load
from qtablate.world.questions import TASKS


def pretrain(out: Path) -> None:
    small = ["--vision-steps", "2", "--language-steps", "2", "--pool", "64", "--items", "2"]
    words = [sys.executable, "-m", "qtablate.nano.pretrain", "--out", str(out), *small]
    subprocess.run(words, check=True, capture_output=True, timeout=300)


def test_the_same_command_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        pretrain(tmp_path / name)
    digests = [
        [
            hashlib.sha256((tmp_path / n / "nano" / f).read_bytes()).hexdigest()
            for f in ("config.json", WEIGHTS, "tokenizer.json")
        ]
        for n in ("a", "b")
    ]
    assert digests[0] == digests[1]
    shipped = str(tmp_path / "a" / "nano")
    model, _ = load(shipped)
    assert (model.config.num_query_tokens, model.num_visual_tokens) == (2, 2)
    assert read_config(shipped)["fresh_parts"] == ["qformer", "query_tokens", "projection"]
    note = json.loads((tmp_path / "a" / "nano" / "scores.json").read_text())
    assert set(note["accuracy"]) == set(TASKS)
    assert base_scores(shipped, note["benchmark"]) == note["accuracy"]
    assert base_scores(shipped, "another benchmark") == {}
    stages = {json.loads(line)["stage"] for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()}
    assert stages == {"vision", "language"}

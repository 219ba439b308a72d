"""A clip whose decoding never ends is one bad clip, all else is as if it were not there, and it can be tried again."""

import csv
import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import wait_until
from settings import config, run

from qtablate.cell.features import compute_features
from qtablate.data.export import write_mp4
from qtablate.datatypes import VIDEO
from qtablate.errors import BadMedia, DataError, QtablateError
from qtablate.execute.events import Progress
from qtablate.interrupts import SIGNALS
from qtablate.model.cache import retryable_chunks
from qtablate.sweep.plan import SweepPlan, make_plan
from qtablate.video import isolated
from qtablate.video.frames import Clip, TimeSpan, read_clip
from qtablate.video.isolated import DECODE_TIMEOUT, DECODER_CRASHED, DEFAULT_TIMEOUT, RETRYABLE, run_isolated

PATH = Path("clip.mp4")
HANGING = """
import ctypes, os
import av

opened = av.open

def hangs(file, *words, **named):
    if os.path.basename(str(file)) == os.environ.get("HANGS"):
        ctypes.PyDLL(None).sleep(3600)  # as C code does that never gives Python a turn
    return opened(file, *words, **named)

av.open = hangs
"""


def clip(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    write_mp4(path, pixels, scale=2, repeats=1, fps=10)
    return path


def test_frames_are_those_that_are_read_here(tmp_path):
    path = clip(tmp_path / "a.mp4", 0)
    assert np.array_equal(Clip(path, VIDEO, TimeSpan(0.5, 1.5)).read(4, 16), read_clip(path, 4, 16, TimeSpan(0.5, 1.5)))


def test_a_hanging_call_times_out_and_the_next_call_gets_its_own_answer(monkeypatch):
    assert run_isolated(PATH, os.getpid) != os.getpid()
    monkeypatch.setenv("QTABLATE_CLIP_SECONDS", "0.5")
    began = time.monotonic()
    with pytest.raises(BadMedia, match="clip") as raised:
        run_isolated(PATH, time.sleep, 3600)
    assert raised.value.kind == DECODE_TIMEOUT
    assert time.monotonic() - began < 30
    assert run_isolated(PATH, abs, -3) == 3


def test_an_answer_that_nobody_waited_for_is_nobody_elses(monkeypatch):
    run_isolated(PATH, abs, 0)
    decoder = isolated._decoder
    monkeypatch.setattr(decoder, "_connection", InterruptedConnection(decoder._connection))
    with pytest.raises(KeyboardInterrupt):
        run_isolated(PATH, abs, -1)
    assert run_isolated(PATH, abs, -2) == 2


class InterruptedConnection:
    """A pipe whose answers the user does not wait for."""

    def __init__(self, pipe):
        self.send, self.recv = pipe.send, pipe.recv

    def poll(self, seconds):
        raise KeyboardInterrupt


def test_a_crash_is_one_bad_clip_and_a_kill_says_nothing_about_it():
    with pytest.raises(BadMedia, match="SIGSEGV") as raised:
        run_isolated(PATH, ctypes.string_at, 0)
    assert raised.value.kind == DECODER_CRASHED
    with pytest.raises(DataError, match="run again"):
        run_isolated(PATH, signal.raise_signal, signal.SIGKILL)
    assert run_isolated(PATH, abs, -3) == 3


def test_errors_come_as_they_were():
    with pytest.raises(BadMedia) as raised:
        run_isolated(PATH, read_clip, Path("none.mp4"), 4, 16)
    assert (raised.value.kind, raised.value.detail) == ("missing video", "none.mp4")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_isolated(PATH, divmod, 1, 0)


def test_a_decoder_without_an_owner_ends(tmp_path):
    """Nobody is left to stop it, and it hangs."""
    (tmp_path / "own.py").write_text("import ctypes\ndef deaf(): ctypes.PyDLL(None).sleep(3600)\n")
    script = (
        "import os, threading, time, pathlib, own\nfrom qtablate.video import isolated\nisolated._GRACE_SECONDS = 0\n"
        "isolated.run_isolated(pathlib.Path('a'), abs, 1)\nprint(isolated._decoder.pid, flush=True)\n"
        "threading.Timer(0.3, os._exit, (0,)).start()\nisolated.run_isolated(pathlib.Path('a'), own.deaf)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    env = os.environ | {"PYTHONPATH": path, "QTABLATE_CLIP_SECONDS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60)
    pid, until = int(done.stdout), time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/status").read_text().split("State:")[1][:3]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_decoder_ends_with_its_owner_in_the_middle_of_a_clip(tmp_path):
    """Long before the clip's limit, and though Python gets no turn in it."""
    (tmp_path / "own.py").write_text(
        "import ctypes, os\ndef deaf():\n    os.close(int(os.environ['TOLD']))\n    ctypes.PyDLL(None).sleep(3600)\n"
    )
    script = (
        "import pathlib, own\nfrom qtablate.video import isolated\n"
        "isolated.run_isolated(pathlib.Path('a'), abs, 1)\nprint(isolated._decoder.pid, flush=True)\n"
        "isolated.run_isolated(pathlib.Path('a'), own.deaf)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    env = os.environ | {"PYTHONPATH": path, "TOLD": "1"}
    with subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True) as owner:
        stat = Path(f"/proc/{int(owner.stdout.readline())}")
        assert wait_until(lambda: not (stat / "fd/1").exists(), 60)  # it is in the middle
        owner.kill()
        assert wait_until(lambda: not stat.exists() or "Z" in (stat / "status").read_text().split("State:")[1][:3], 10)


def test_a_decoder_receives_no_signal_of_its_group():
    """Ctrl-C in a terminal reaches it, and would print the traceback of whatever it imports or reads."""
    run_isolated(PATH, abs, 1)
    for signum in SIGNALS:
        os.kill(isolated._decoder.pid, signum)
    assert run_isolated(PATH, os.getpid) == isolated._decoder.pid
    assert isolated._decoder.is_usable()


@pytest.mark.parametrize(("value", "seconds"), [("3", 3.0), ("1e9", 1e6), ("", DEFAULT_TIMEOUT)])
def test_the_limit_is_the_users(monkeypatch, value, seconds):
    monkeypatch.setenv("QTABLATE_CLIP_SECONDS", value)
    assert isolated.decode_timeout() == seconds


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "a minute"])
def test_an_invalid_limit_is_refused(monkeypatch, value):
    monkeypatch.setenv("QTABLATE_CLIP_SECONDS", value)
    with pytest.raises(QtablateError, match=f"QTABLATE_CLIP_SECONDS: expected a number of seconds, more than 0, got '{value}'"):
        isolated.decode_timeout()


class Folder:
    """Five clips to ask about and three to train on, one of which may hang."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        for n in range(8):
            clip(root / "video" / f"{n}.mp4", n)
        entries = [
            {"video": f"{n}.mp4", "question": f"what {n} ?", "candidates": ["left", "right", "red"], "answer": "left"}
            for n in range(5)
        ]
        (root / "json").mkdir()
        (root / "json" / "asked.json").write_text(json.dumps(entries))
        samples = [{"video": f"{n}.mp4", "QA": [{"q": "what ?", "a": "red"}]} for n in range(5, 8)]
        (root / "train.json").write_text(json.dumps(samples))
        (root / "own").mkdir()
        (root / "own" / "sitecustomize.py").write_text(HANGING)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "own"), *filter(None, sys.path)]))
        monkeypatch.setenv("QTABLATE_CLIP_SECONDS", "2")
        self.monkeypatch = monkeypatch

    def hang(self, name: str) -> None:
        self.monkeypatch.setenv("HANGS", name)
        if isolated._decoder:
            isolated._decoder.stop()  # it has read the environment

    def plan(self, cache: str, out: str) -> SweepPlan:
        files = {"bench": f"mvbench:{self.root}", "train": f"{self.root}/train.json", "media_root": f"{self.root}/video"}
        return make_plan(config(**files, samples=8, jobs=1, out=self.root / out), self.root / cache / "features")

    def sweep(self, cache: str, out: str) -> SweepPlan:
        """As `qtablate sweep` does it, in this process."""
        return run(self.plan(cache, out))

    def qtablate(self, cache: str, *words: str) -> str:
        # as this process (conftest.py): features are compared bit by bit
        env = os.environ | {"QTABLATE_CACHE": str(self.root / cache), "ATEN_CPU_CAPABILITY": "avx2"}
        command = [sys.executable, "-W", "error", "-m", "qtablate", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self, out: str, cell: str) -> list[list[str]]:
        with (self.root / out / "cells" / cell / "answers.csv").open() as rows:
            return list(csv.reader(rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    yield Folder(tmp_path, monkeypatch)
    torch.use_deterministic_algorithms(False)
    if isolated._decoder:
        isolated._decoder.stop()


def assert_same_answers(found: list[list[str]], expected: list[list[str]]) -> None:
    """The same rows; log-likelihoods up to rounding, since matrix products of a batch that is one item smaller round the last
    digit differently on some CPUs."""
    place = expected[0].index("scores")
    for mine, other in zip(found, expected, strict=True):
        assert mine[:place] + mine[place + 1 :] == other[:place] + other[place + 1 :]
    scores = [[float(score) for row in rows[1:] for score in row[place].split(";")] for rows in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_clip_that_hangs_is_left_out_by_name_and_changes_nothing_else(folder, tmp_path):
    whole = folder.sweep("whole", "whole_r")
    [key] = [cell.key for cell in whole.cells]
    answers, every = folder.answers("whole_r", key), whole.inputs[8].benchmark.read()

    folder.hang("2.mp4")
    asked = ["--bench", f"mvbench:{tmp_path}", "--train", f"{tmp_path}/train.json", "--media-root", f"{tmp_path}/video"]
    grid = ["--samples", "8", "--tokens", "0", "--accum", "1", "--seeds", "1", "--controls", "blind", "--jobs", "1"]
    grid += ["--max-invalid", "0.2"]
    folder.qtablate("hung", "sweep", *asked, *grid, "--out", f"{tmp_path}/r")
    sweep = json.loads((tmp_path / "r" / "sweep.json").read_text())
    [problem], [first] = sweep["problems"], [cell["key"] for cell in sweep["cells"]]
    assert (problem["of"], problem["kind"], problem["subject"]) == ("item", DECODE_TIMEOUT, "asked-0002")
    assert (problem["detail"], sweep["items"]) == (f"{tmp_path}/video/2.mp4: not read in 2 s", 4)
    assert "qtablate cache --retry" in (tmp_path / "r" / "report.md").read_text()
    others = dataclasses.replace(whole.inputs[8].benchmark, folder=tmp_path / "hung" / "features").read()
    assert others.keys() == every.keys() - {"2.mp4"}
    assert all(torch.equal(one, every[name]) for name, one in others.items())
    assert_same_answers(folder.answers("r", first), [row for row in answers if row[1] != "asked-0002"])

    folder.hang("")  # the machine is well again; what was found stays until somebody asks for another try
    assert [one.stem for one in retryable_chunks(tmp_path / "hung" / "features")] == [whole.inputs[8].benchmark.chunks[0][0]]
    assert "Removed 1 files" in folder.qtablate("hung", "cache", "--retry")
    assert [cell.key for cell in folder.sweep("hung", "r").cells] == [key]
    assert first != key  # what was run without the clip is not taken for what is run with it
    assert folder.answers("r", key) == answers


def test_each_decoded_clip_is_reported(folder):
    """A chunk of long ones takes minutes, in which its worker is not silent."""
    heard: list[Progress] = []
    for _, job in folder.plan("cache", "r").feature_jobs():
        compute_features(job, heard.append)
    assert heard == [Progress("features", n + 1, total) for total in (3, 5) for n in range(total)]


def test_a_training_clip_that_hangs_counts_as_bad(folder):
    folder.hang("6.mp4")
    with pytest.raises(DataError, match=f"1 of 3 training samples cannot be used.*6.mp4: {DECODE_TIMEOUT}"):
        folder.sweep("cache", "r")


def test_a_timeout_noted_by_an_older_version_can_be_tried_again():
    assert set(RETRYABLE) == {DECODE_TIMEOUT, DECODER_CRASHED, "took too long"}

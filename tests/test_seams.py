"""Where things are added: each test adds one thing as CONTRIBUTING says and finds it in use. Axes: sweep/test_new_axes.py."""

import importlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from settings import config

from qtablate import run_sweep
from qtablate.config import DataConfig
from qtablate.controls import BLIND, CONTROLS, MISMATCHED_CLIP
from qtablate.data import temporal
from qtablate.data.sources import open_benchmark
from qtablate.execute.events import Event
from qtablate.model.directory import FAMILIES, NANO, read_config, visual_tokens
from qtablate.model.load import load
from qtablate.prompts.registry import FORMATS
from qtablate.seeds import Rng
from qtablate.sweep import executors
from qtablate.table import Table
from qtablate.world.benchmark import WorldBench
from qtablate.world.question import make_question
from qtablate.world.questions import TASKS, Task

BENCHMARK = """\
import numpy as np
from qtablate.datatypes import Item

class Gray:
    items = [Item("gray-0", "gray", "a", "How bright?", ("dark", "bright"), 0)]
    problems, fingerprint = (), "1"
    def clips(self): return ["a"]
    def key(self, clip): return clip
    def frames(self, clip): return np.full((8, 32, 32, 3), 40, np.uint8)

def benchmark(frames, image_size, items_per_task): return Gray()
"""


def test_a_task_of_the_world_is_one_function(monkeypatch):
    def ask(scene, rng):
        count = min(4, len(scene.objects))
        return [make_question(rng, "object_count", "How many objects are there?", ["1", "2", "3", "4"], str(count))]

    monkeypatch.setitem(TASKS, "object_count", Task(ask))
    items = WorldBench(2, tasks=("object_count", "moving_count")).items
    assert [item.task for item in items] == ["object_count"] * 2 + ["moving_count"] * 2


def test_a_control_is_a_name_and_a_function_of_frames(monkeypatch):
    assert set(temporal.PERTURBATIONS) == set(CONTROLS) - {BLIND, MISMATCHED_CLIP}
    monkeypatch.setitem(temporal.PERTURBATIONS, "first", lambda frames, rng: np.repeat(frames[:1], len(frames), axis=0))
    frames = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    assert temporal.perturb("first", "clip", frames).ravel().tolist() == [0, 0, 0, 0]


def test_a_benchmark_is_a_file(tmp_path):
    (tmp_path / "gray.py").write_text(BENCHMARK)
    model = {"num_frames": 8, "vision_config": {"image_size": 32}}
    opened = open_benchmark(DataConfig(bench=f"custom:{tmp_path / 'gray.py'}"), model)
    assert [item.id for item in opened.items] == ["gray-0"]


def test_a_family_is_a_row_and_a_model_class(monkeypatch, tmp_path):
    folder = shutil.copytree(NANO, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text()) | {"model_type": "mine"}
    (folder / "config.json").write_text(json.dumps(values))
    monkeypatch.setitem(FAMILIES, "mine", replace(FAMILIES["videochat2"], tokens_per_frame=True))
    assert visual_tokens(read_config(str(folder)), 3) == (2 + 3) * 8
    model, _ = load(str(folder))
    assert model.num_queries == 2


def test_a_conversation_format_is_an_entry(monkeypatch, tmp_path):
    folder = shutil.copytree(NANO, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text()) | {"conversation": "mine"}
    (folder / "config.json").write_text(json.dumps(values))
    monkeypatch.setitem(FORMATS, "mine", replace(FORMATS["nano"], human="<a>"))
    item = WorldBench(1).items[0]
    (_, mine), (_, nano) = load(str(folder)), load("nano")
    assert mine.encode_item(item).context != nano.encode_item(item).context


def test_an_executor_is_a_function_that_yields_events(monkeypatch, tmp_path):
    def run_here(function, jobs, *_, **__) -> Iterator[Event]:
        module, _, name = function.partition(":")
        for key, job in jobs:
            yield Event(key, "started")
            yield Event(key, "done", result=getattr(importlib.import_module(module), name)(job, lambda _: None))

    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(executors, "run_jobs", run_here)
    stages = []
    results = run_sweep(config(samples=16, items_per_task=1, out=tmp_path / "r"), lambda event: stages.append(event.stage))
    assert list(results.cells["status"]) == ["ok"]
    assert set(stages) == {"features", "cells"}


def test_a_table_is_text_for_terminal_and_markdown():
    table = Table("Mine", ("condition", "figure"), (("tokens 0", "1"), ("tokens 32", "2")), note="What it shows.", left=1)
    assert table.markdown().splitlines()[2:4] == ["| condition | figure |", "| --- | ---: |"]


def test_random_streams_are_named():
    assert Rng("mine", 1).randrange(1000) == Rng("mine", 1).randrange(1000) != Rng("mine", 2).randrange(1000)

"""Unfinished runs on disk: they go on where they were, and a file that cannot be read is as good as none."""

import copy

import pytest
import torch

from qtablate.bench.items import VIDEO, Sample
from qtablate.train import checkpoint
from qtablate.train.accumulate import Rules
from qtablate.train.loop import Plan, Training, choose_trainable

SAMPLES = [Sample(str(n), VIDEO, "clip", (("what moves?", "red left"),)) for n in range(12)]
FEATURES = {"clip": torch.randn(16, 24, generator=torch.Generator().manual_seed(7))}
PLAN = Plan(1, 2, 1e-2, 0.25, 0.25, 0.02, (0.9, 0.999), 256, Rules())


@pytest.fixture
def training(tiny, encoder):
    start = copy.deepcopy(tiny.state_dict())

    def anew() -> Training:
        tiny.load_state_dict(start)
        return Training(tiny, choose_trainable(tiny, False), SAMPLES, FEATURES.__getitem__, encoder, PLAN)

    return anew


def test_a_run_goes_on_where_it_was_saved(training, tmp_path):
    whole = [step.loss for step in training()]
    run, steps = training(), []
    for step in run:
        steps.append(step)
        if step.step == 0:
            checkpoint.save(tmp_path / "c.pt", run, steps)
            break
    again = training()
    steps = checkpoint.resume(tmp_path / "c.pt", again)
    assert [step.step for step in steps] == [0]
    assert run.steps == 6  # four more updates rest on the moments
    assert [step.loss for step in [*steps, *again]] == whole


@pytest.mark.parametrize("content", [None, b"", b"no file of torch's", b"half"])
def test_a_file_that_cannot_be_read_is_as_good_as_none(training, tmp_path, content):
    run = training()
    path = tmp_path / "c.pt"
    if content == b"half":
        checkpoint.save(path, run, [next(iter(run))])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif content is not None:
        path.write_bytes(content)
    whole = [step.loss for step in training()]
    run = training()
    assert checkpoint.resume(path, run) == []
    assert [step.loss for step in run] == whole


def test_no_code_is_run_from_one(training, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    torch.save({"training": Trap(), "steps": []}, tmp_path / "c.pt")
    assert checkpoint.resume(tmp_path / "c.pt", training()) == []

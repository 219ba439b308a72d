"""Unfinished runs on disk: they go on where they were, and a file that cannot be read is as good as none."""

import copy
import io
from pathlib import Path

import pytest
import torch

from qtablate.datatypes import VIDEO, Sample
from qtablate.train import checkpoint
from qtablate.train.accumulate import AccumulationRules
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.trainable import choose_trainable

SAMPLES = [Sample(str(n), VIDEO, "clip", (("what moves?", "red left"),)) for n in range(12)]
FEATURES = {"clip": torch.randn(16, 24, generator=torch.Generator().manual_seed(7))}
PLAN = TrainPlan(1, 2, 1e-2, 0.25, 0.25, 0.02, (0.9, 0.999), 256, AccumulationRules())


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
    if content is None:
        assert checkpoint.resume(path, run) == []
    else:
        with pytest.raises(checkpoint.UnusableCheckpoint):
            checkpoint.resume(path, run)
    assert not path.exists()
    assert [step.loss for step in run] == whole


@pytest.mark.parametrize("flips", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_bit_that_flips_anywhere_is_noticed_or_changes_nothing(training, tmp_path, flips):
    """At so many places: what is gone on from is to the bit what was saved, or the run starts over as it would without."""
    run, path = training(), tmp_path / "c.pt"
    checkpoint.save(path, run, [next(iter(run))])
    saved = path.read_bytes()
    wanted, start = flat(run.state()), flat(training().state())
    noticed = 0
    for place in range(0, len(saved), len(saved) // flips):
        damaged = bytearray(saved)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        again = training()
        try:
            steps = checkpoint.resume(path, again)
        except checkpoint.UnusableCheckpoint:
            noticed += 1
            assert not path.exists()
            assert same(flat(again.state()), start)
        else:
            assert [step.step for step in steps] == [0]
            assert same(flat(again.state()), wanted)
    assert noticed > 0.7 * flips  # the rest is padding


def flat(state, name="") -> dict[str, object]:
    if not isinstance(state, dict | list | tuple):
        return {name: copy.deepcopy(state)}
    parts = state.items() if isinstance(state, dict) else enumerate(state)
    return {key: value for part, inner in parts for key, value in flat(inner, f"{name}/{part}").items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )


@pytest.mark.parametrize("lacks", ["training", "steps", "optimizer", "query_tokens", "folder"])
def test_what_lacks_a_part_is_removed_and_the_run_starts_at_its_beginning(training, tmp_path, lacks):
    path, run = tmp_path / "c.pt", training()
    if lacks == "folder":
        (path / "inside").mkdir(parents=True)
    else:
        checkpoint.save(path, run, [next(iter(run))])
        state = torch.load(path, weights_only=True)
        for part in (state, state["training"], state["training"]["parameters"]):
            part.pop(lacks, None)
        torch.save(state, path)
    whole = [step.loss for step in training()]
    run = training()
    with pytest.raises(checkpoint.UnusableCheckpoint):
        checkpoint.resume(path, run)
    assert not path.exists()
    assert [step.loss for step in run] == whole


def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_last_one(training, tmp_path, monkeypatch):
    path, run = tmp_path / "c.pt", training()
    steps = [next(iter(run))]
    checkpoint.save(path, run, steps)
    before = path.read_bytes()

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() > 1000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: Full(self, mode))
        with pytest.raises(OSError, match="No space left on device"):  # which torch makes a RuntimeError of
            checkpoint.save(path, run, steps)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["c.pt"]


def test_no_code_is_run_from_one(training, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    torch.save({"training": Trap(), "steps": []}, tmp_path / "c.pt")
    with pytest.raises(checkpoint.UnusableCheckpoint):
        checkpoint.resume(tmp_path / "c.pt", training())

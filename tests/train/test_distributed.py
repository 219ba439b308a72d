"""Property 8 of accumulation: two processes are one. Every incorrect variant is shown to fail."""

import importlib
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from qtablate.execute.local import run_jobs
from qtablate.train.accumulate import AccumulationRules as Rules
from qtablate.train.distributed import ProcessGroup


@pytest.fixture(scope="module")
def jobs():
    """The module that the processes import too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        yield importlib.import_module("rank_jobs")


@pytest.fixture
def job(jobs, tiny_directory):
    return lambda **settings: jobs.Job(tiny_directory, **settings)


def together(function: str, job, ranks: int = 2):
    """What happened in a job of two ranks, whose processes are gone; its end apart."""
    *events, last = run_jobs(f"rank_jobs:{function}", [("job", job)], 1, ranks)
    assert multiprocessing.active_children() == []
    return [event.kind for event in events], last


def result(function: str, job, ranks: int = 2):
    _, last = together(function, job, ranks)
    assert last.kind == "done", last.error + last.traceback
    return last.result


def apart(mine: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(mine - other) / np.linalg.norm(other))


def near(rows, others, tolerance: float) -> None:
    """All that a step's row says but its time, and the gradient's noise that several ranks do not measure."""
    for row, other in zip(rows, others, strict=True):
        assert row["grad_signal"] is row["grad_noise"] is None
        exact = ("step", "samples_seen", "supervised_tokens", "lr", "image_ratio", "truncated_samples")
        assert [row[name] for name in exact] == [other[name] for name in exact]
        close = ("loss", "grad_norm", "extra_grad_norm", "extra_update", "query_update", "extra_cosine", "extra_rank")
        assert [row[name] for name in close] == pytest.approx([other[name] for name in close], rel=tolerance)


@pytest.mark.parametrize(
    ("ranks", "double", "tolerance", "at_the_end"), [(2, True, 1e-12, 1e-12), (3, True, 1e-12, 1e-12), (2, False, 1e-5, 1e-4)]
)
def test_several_processes_are_one(jobs, job, ranks, double, tolerance, at_the_end):
    """Three, since a factor that is a power of two hides what it does to rounding."""
    asked = job(double=double)
    two, one = result("train", asked, ranks), jobs.train(asked, print_nothing)
    assert apart(two["gradients"][0], one["gradients"][0]) <= tolerance
    for mine, other in zip(two["gradients"], one["gradients"], strict=True):
        assert apart(mine, other) <= at_the_end
    near(two["rows"], one["rows"], at_the_end)
    assert apart(two["parameters"], one["parameters"]) <= at_the_end
    assert one["rows"][0]["grad_noise"] is not None
    assert one["rows"][0]["grad_norm"] > 0.5  # it was clipped
    assert sum(row["truncated_samples"] for row in one["rows"]) > 0
    assert [row["samples_seen"] for row in one["rows"]] == [10, 20, 30, 31]
    # gradients meet once a window, all in one
    assert [sum(size >= two["size"] for size in sizes) for sizes in two["reduced"]] == [1, 1, 1, 1]
    assert one["reduced"] == [[], [], [], []]


def test_shares_computed_in_parts_are_the_whole(jobs, job):
    """Some shares have fewer samples than parts, and some parts no supervised token."""
    rules = Rules(clip_per="micro_batch", max_grad_norm=0.5)
    two, one = result("train", job(rules=rules, parts=2)), jobs.train(job(rules=rules), print_nothing)
    for mine, other in zip(two["gradients"], one["gradients"], strict=True):
        assert apart(mine, other) <= 1e-12
    near(two["rows"], one["rows"], 1e-12)
    assert two["rows"][0]["micro_batch_parts"] == 2


def print_nothing(_) -> None:
    pass


def test_the_window_with_a_rank_without_tokens_is_such_a_window(jobs):
    some = jobs.samples()
    for start, told in ((0, [True, True]), (10, [True, False])):
        window = [some[at : at + 5] for at in (start, start + 5)]
        ranks = [ProcessGroup(rank, 2, jobs.CPU, 0) for rank in range(2)]
        assert [any(s.pairs for micro in window for s in rank.local_share(micro)) for rank in ranks] == told
    assert [len(rank.local_share(some[30:])) for rank in ranks] == [0, 1]


def test_each_ranks_own_mean_is_another_gradient(jobs, job):
    """The negative control."""
    two = result("train", job(kind=jobs.OwnMean, windows=1))
    one = jobs.train(job(windows=1), print_nothing)
    assert apart(two["gradients"][0], one["gradients"][0]) > 1e-2


@pytest.mark.parametrize(
    "rules",
    [
        Rules(loss_norm="micro_mean"),
        Rules(loss_norm="none"),
        Rules(clip_per="micro_batch", max_grad_norm=0.5),
    ],
    ids=["micro_mean", "none", "clip_per"],
)
def test_incorrect_rules_are_as_incorrect_on_two_processes(jobs, job, rules):
    asked = job(rules=rules, windows=1)
    two, one = result("train", asked), jobs.train(asked, print_nothing)
    for mine, other in zip(two["gradients"], one["gradients"], strict=True):
        assert apart(mine, other) <= 1e-12
    right = jobs.train(job(windows=1), print_nothing)
    assert apart(one["gradients"][0], right["gradients"][0]) > 1e-2


def test_a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_both(jobs):
    first, second, third = result("overflow", jobs.ProcessGroup)["windows"]
    assert first == {"weight": [0.0] * 3, "scale": 4.0, "tokens": 3, "held": [True, False]}
    assert second == {"weight": [0.0] * 3, "scale": 2.0, "tokens": 5, "held": [True, False]}
    assert third["weight"] == pytest.approx([-(2 + 1 + 1 + 6) / 6] * 3)  # sums over ranks and micro-batches, over all tokens
    assert third["scale"] == 2.0
    incorrect, _ = result("overflow", jobs.Apart)["windows"]
    assert incorrect["scale"] == 4.0  # the first rank would have gone on alone


def test_ranks_that_start_apart_are_refused_by_name(job):
    before, last = together("train", job(fault="unequal"))
    assert (before, last.kind) == (["started"], "failed")  # before a step was taken
    assert "the 2 ranks of this cell do not start alike: projection.bias differ; all must read the same files" in last.error
    assert last.error.startswith(("rank 0 of 2: QtablateError", "rank 1 of 2: QtablateError"))


def test_resuming_from_the_first_ranks_state_is_the_uninterrupted_run(jobs, job, tmp_path):
    """With masks drawn, which each rank draws anew."""
    whole = result("train", job(dropout=0.2))
    first = result("train", job(dropout=0.2, windows=2, resume=tmp_path / "state.pt"))
    second = result("train", job(dropout=0.2, resume=tmp_path / "state.pt"))
    assert first["rows"] + second["rows"] == whole["rows"]
    assert np.array_equal(second["parameters"], whole["parameters"])
    plain = jobs.train(job(windows=1), print_nothing)
    assert plain["rows"][0]["loss"] != pytest.approx(whole["rows"][0]["loss"], rel=1e-6)  # there were masks


def test_ranks_draw_masks_of_their_own_that_depend_on_the_window(jobs):
    a, b, again_a, again_b, later_a, later_b = result("masks", 5)
    assert (a, b) == (again_a, again_b)
    assert a == later_a == pytest.approx(torch.rand(1, generator=torch.Generator().manual_seed(5)).item())
    assert len({a, b, later_b}) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("killed", "rank 1 of 2: the process was killed by SIGKILL (out of memory?)"),
        ("raise", "rank 1 of 2: ValueError: no such thing"),
        # who waited tells; whom it waited for cannot
        ("hang", "rank 0 of 2: QtablateError: another rank was lost, or kept this one waiting too long"),
    ],
)
def test_a_lost_rank_ends_the_other(job, fault, error):
    began = time.monotonic()
    _, last = together("train", job(fault=fault))
    assert last.kind == "failed"
    assert last.error.startswith(error)
    assert time.monotonic() - began < 25  # not the minutes that a rank would wait


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_are_contiguous_and_even(jobs, world):
    for size in range(12):
        shares = [ProcessGroup(rank, world, jobs.CPU, 0).local_share(range(size)) for rank in range(world)]
        assert [one for share in shares for one in share] == list(range(size))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

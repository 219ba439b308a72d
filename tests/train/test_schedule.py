"""Optimizer steps by walking the samples; the learning rate against torch's own schedulers and at its corners."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, SequentialLR

from qtablate.train.schedule import learning_rate, optimizer_steps


def rates(steps: int, peak: float, warm_up: float, floor: float) -> list[float]:
    return [learning_rate(step, steps, peak, warm_up, floor) for step in range(steps)]


def of_torch(steps: int, peak: float, ramp: int, floor: float) -> list[float]:
    """The same curve, of torch's parts: a linear ramp that ends at the peak, then a cosine that starts there."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    cosine = CosineAnnealingLR(optimizer, T_max=steps - ramp - 1, eta_min=peak * floor)
    schedule = cosine
    if ramp:
        rise = LambdaLR(optimizer, lambda step: (step + 1) / ramp)
        schedule = SequentialLR(optimizer, [rise, cosine], milestones=[ramp])
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return out


@pytest.mark.parametrize(
    ("steps", "warm_up", "ramp", "floor"),
    [(100, 0.2, 20, 0.25), (100, 0.0, 0, 0.25), (7, 0.3, 2, 0.0), (50, 0.001, 1, 0.1), (400, 0.05, 20, 1.0), (2, 0.0, 0, 0.5)],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch's own, within SequentialLR
def test_learning_rate_matches_torch_reference(steps, warm_up, ramp, floor):
    assert rates(steps, 1.5e-3, warm_up, floor) == pytest.approx(of_torch(steps, 1.5e-3, ramp, floor), rel=1e-9)


def test_hand_written_table():
    expected = [0.5, 1.0, 1.0, 0.85355339, 0.5, 0.14644661, 0.0]
    assert rates(7, 1.0, 2 / 7, 0.0) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("steps", [2, 3, 10, 97, 1000])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_starts_at_the_peak_without_warm_up_and_ends_at_the_floor(steps, floor):
    curve = rates(steps, 3.0, 0.0, floor)
    assert curve[0] == 3.0
    assert curve[-1] == pytest.approx(3.0 * floor, abs=1e-15)


@pytest.mark.parametrize("warm_up", [0.01, 0.2, 0.5])
def test_rises_to_the_peak_then_never_rises_again(warm_up):
    curve = rates(60, 2.0, warm_up, 0.25)
    top = curve.index(2.0)
    assert top + 1 == max(1, round(60 * warm_up))
    assert curve[: top + 1] == sorted(curve[: top + 1])
    assert curve[top:] == sorted(curve[top:], reverse=True)
    assert curve[0] > 0, "a first step at rate 0 would be a wasted window"
    assert curve[-1] == pytest.approx(0.5)


def test_a_run_of_one_step_trains_at_the_peak():
    assert [rates(1, 2.0, warm_up, 0.25) for warm_up in (0.0, 0.2, 1.0)] == [[2.0]] * 3


def test_warm_up_of_everything_only_rises():
    assert rates(4, 1.0, 1.0, 0.25) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("samples", [1, 7, 8, 31, 32, 33, 100, 960])
@pytest.mark.parametrize(("micro", "accum"), [(1, 1), (8, 1), (8, 4), (3, 5)])
def test_optimizer_steps_count_windows(samples, micro, accum):
    assert optimizer_steps(samples, micro, accum) == len(range(0, len(range(0, samples, micro)), accum))

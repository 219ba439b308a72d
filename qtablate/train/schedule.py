"""The learning rate as a function of the optimizer step alone."""

import math


def learning_rate(step: int, steps: int, peak: float, warm_up: float, floor: float) -> float:
    """Linear warm-up over the first `warm_up` of the steps, then a cosine from `peak` to `peak * floor`.

    Args:
        step: 0 .. steps - 1, counted in optimizer steps.
        warm_up: share of all steps, at least one step when it is above zero.
        floor: the last rate as a share of the peak (VideoChat2's min_lr_multi is 0.25).
    """
    ramp = max(1, round(warm_up * steps)) if warm_up > 0 else 0
    if step < ramp:
        return peak * (step + 1) / ramp
    done = (step - ramp) / max(1, steps - ramp - 1)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

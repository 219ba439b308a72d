"""The number of optimizer steps of a run, and the learning rate as a function of the optimizer step alone."""

import math


def optimizer_steps(samples: int, micro_batch_size: int, accumulate_grad_batches: int) -> int:
    """Return the number of windows that the samples fill; the last micro-batch and the last window may be shorter."""
    return math.ceil(math.ceil(samples / micro_batch_size) / accumulate_grad_batches)


def learning_rate(step: int, steps: int, peak: float, warmup_ratio: float, min_lr_ratio: float) -> float:
    """Return the rate of a step: a linear warm-up, then a cosine from `peak` to `peak * min_lr_ratio`.

    Args:
        step: 0 .. steps - 1, counted in optimizer steps.
        steps: optimizer steps of the run.
        peak: the highest rate.
        warmup_ratio: share of all steps; at least one step when it is above zero.
        min_lr_ratio: the last rate as a share of the peak (VideoChat2's min_lr_multi is 0.25).
    """
    ramp = max(1, round(warmup_ratio * steps)) if warmup_ratio > 0 else 0
    if step < ramp:
        return peak * (step + 1) / ramp
    done = (step - ramp) / max(1, steps - ramp - 1)
    return peak * (min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

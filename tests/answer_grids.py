"""Answers of made-up grids of conditions, for tests of contrasts."""

from dataclasses import astuple, replace

import numpy as np

from qtablate.axes import Condition, canonical_levels
from qtablate.report.answers import Answers, axes_of
from qtablate.report.contrasts import baselines, contrasts
from qtablate.report.effects import contrast_frame

AXES = axes_of("micro-batch")
ITEMS = 200


def condition(tokens, accum=1, init=None, batch=8):
    """A condition by its number of extra tokens, accumulation and micro-batch size."""
    init = ("none" if tokens == 0 else "normal") if init is None else init
    return astuple(Condition(tokens, accum, batch, "mixed", init))


def answers_of(effects, seeds=(1, 2, 3), missing=(), items=ITEMS):
    """Answers of conditions that are correct with a probability of .5 plus their effect; common random numbers by item."""
    random = np.random.default_rng(1)
    draws = {seed: random.uniform(size=items) for seed in seeds}
    correct = {
        (key, seed): (0.7 * draws[seed] + 0.3 * random.uniform(size=items) < 0.5 + effect).astype(float)
        for key, effect in effects.items()
        for seed in seeds
        if (key, seed) not in missing
    }
    tasks = np.array(["a", "b"])[np.arange(items) % 2]
    return Answers(AXES, correct, np.arange(items) // 2, tasks, np.arange(items).astype(str))


GRID = {condition(tokens, accum): 0.0 for tokens in (0, 32, 64) for accum in (1, 4)}


def contrasts_of(answers, margin=0.02, **baseline):
    """All contrasts against a baseline, and their frame."""
    wanted = contrasts(answers, baselines(answers, baseline))
    return wanted, contrast_frame(answers, wanted, margin)


def with_rule(accum, norm="tokens", scaling="none", batch=8):
    """A condition of 32 extra tokens by its loss norm and its scaling of the learning rate."""
    return astuple(Condition(32, accum, batch, "mixed", "normal", lr_scaling=scaling, loss_norm=norm))


def grid_condition(
    tokens, accum, *, batch=8, extra_lr=1.0, scaling="none", norm="tokens", clip="window", lr_batch=8, beta2=0.999
):
    """A condition as a grid makes it, with inactive axes at their canonical levels."""
    levels = dict(zip(axes_of("micro-batch"), condition(tokens, accum, batch=batch), strict=True))
    levels |= {"extra_lr": extra_lr, "lr_scaling": scaling, "loss_norm": norm, "clip_per": clip, "adam_beta2": beta2}
    return tuple(canonical_levels(levels, lr_batch, {"adam_beta2": (beta2,)}).values())


def flat_answers(conditions, lr_batch=8):
    """Answers of these conditions, none of which has an effect."""
    return replace(answers_of(dict.fromkeys(conditions, 0.0)), reference_batch=lr_batch)

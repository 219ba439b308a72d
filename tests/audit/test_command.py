"""What an audit is asked of: the samples that a cell sees first, and schedules by hand."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch

from qtablate.audit.measure import COUNTED, EARLY, LATE, RIGHT, audit, first_samples, schedule
from qtablate.audit.records import FAULTS, WINDOW
from qtablate.data.sources import Sources
from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import BadMedia, DataError
from qtablate.grid import Cell, Condition, Fingerprints, Grid, Recipe
from qtablate.train.accumulate import AccumulationRules
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.sample_order import SampleOrder, draw_samples
from qtablate.train.trainable import choose_trainable


def recipe(samples: int, warm_up: float = 0.0) -> Recipe:
    return Recipe(samples, 0.25, 1e-3, warm_up, 0.25, 0.0, (0.9, 0.999), None, False, 256)


def cell(samples: int) -> Cell:
    return Cell(Condition(2, 1, 4, "mixed", "normal"), 7, 4, recipe(samples), Fingerprints("", "", ""))


@dataclass
class Data:
    broken: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def samples(self):
        return [Sample(f"{medium}{n}", medium, f"{medium}{n}", ()) for medium in (VIDEO, IMAGE) for n in range(16)]

    def frames(self, clip):
        if clip in self.broken:
            raise BadMedia("broken video", "torn")
        return clip.upper()


def test_samples_are_the_first_that_a_cell_sees():
    seen = draw_samples(SampleOrder(7, "mixed", 0.25, 4), Data().samples, {}, 32)
    found, shown, left_out = first_samples(Data(), cell(32), 12)
    assert found == seen[:12]
    assert shown == {sample.clip: sample.clip.upper() for sample in seen[:12]}
    assert left_out == ()


def test_clips_that_cannot_be_shown_are_named_and_passed_over():
    seen = draw_samples(SampleOrder(7, "mixed", 0.25, 4), Data().samples, {}, 32)
    found, _, left_out = first_samples(Data((seen[2].clip,)), cell(32), 12)
    assert found == [*seen[:2], *seen[3:13]]
    assert left_out == (f"{seen[2].clip}: broken video: torn",)
    with pytest.raises(DataError, match=r"only 31 of the 32 samples that are needed can be shown: .*torn"):
        first_samples(Data((seen[2].clip,)), cell(32), 32)


def test_schedules_by_hand():
    """24 samples in micro-batches of 2, 3 a window: 12 micro-batches, 4 steps; no warm-up, a cosine from 1 to a quarter."""

    def cosine(done: float) -> float:
        return 0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    wanted = {
        RIGHT: [1, cosine(1 / 3), cosine(2 / 3), 0.25],
        COUNTED: [1, cosine(3 / 11), cosine(6 / 11), cosine(9 / 11)],
        EARLY: [1, 0.25, 0.25, 0.25],
        LATE: [1, cosine(1 / 11), cosine(2 / 11), cosine(3 / 11)],
    }
    found = schedule(recipe(24), 2, 3)
    assert found.steps == 4
    assert [one.name for one in found.rates] == list(wanted)
    for one in found.rates:
        rates = wanted[one.name]
        assert one.mean == pytest.approx(sum(rates) / 4)
        assert one.last == pytest.approx(rates[-1])
        assert one.farthest == pytest.approx(max(abs(a - b) for a, b in zip(rates, wanted[RIGHT], strict=True)))


@pytest.mark.parametrize(("name", "at"), [(RIGHT, "window"), (COUNTED, "micro_batch")])
def test_schedules_are_those_of_training(name, at, tiny, encoder):
    samples = [Sample(str(n), VIDEO, str(n), (("what moves?", "red"),)) for n in range(11)]
    plan = TrainPlan(2, 2, 1.0, 0.3, 0.25, 0.0, (0.9, 0.999), 256, AccumulationRules(lr_step_per=at))
    torch.nn.init.zeros_(tiny.projection.weight)
    steps = Training(tiny, choose_trainable(tiny, False), samples, lambda clip: torch.zeros(16, 24), encoder, plan)
    rates = [step.lr for step in steps]
    [found] = [one for one in schedule(recipe(11, warm_up=0.3), 2, 2).rates if one.name == name]
    assert (found.mean, found.last) == (pytest.approx(sum(rates) / len(rates)), pytest.approx(rates[-1]))


def test_a_directory_is_audited_with_lora_and_recomputed_activations(tiny_directory):
    grid = Grid((4,), (1, 3), (4,), (7,), ("mixed",), ("normal",), "micro-batch")
    asked = replace(recipe(32), longest=128, lora_rank=2, checkpointing=True)
    found = audit(Sources(str(tiny_directory)), grid, asked)
    assert found.passed
    assert len(found.measured.dropout) == 15  # the LoRA's: two layers with seven matrices each, and the head
    assert "kept rows 0-1, made rows 2-3" in found.surgery
    assert [window.accumulate_grad_batches for window in found.measured.windows] == [1, 3]
    assert found.measured.windows[1].of(FAULTS[0], WINDOW).every.relative > 1e-2
    assert [one.steps for one in found.schedules] == [8, 3]
    alone = audit(Sources(str(tiny_directory)), replace(grid, accum=(1,)), replace(asked, checkpointing=False))
    assert found.measured.windows[0].batch.saved < 0.7 * alone.measured.windows[0].batch.saved

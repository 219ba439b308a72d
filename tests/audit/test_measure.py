"""The audit of a setting: the first samples of a cell, and learning-rate schedules computed by hand."""

import json
import math
from dataclasses import dataclass, field

import pytest
import torch
from settings import config, settings

from qtablate.audit.measure import CORRECT, PER_MICRO_BATCH, TOO_FAST, TOO_SLOW, audit, first_samples, schedule
from qtablate.audit.records import INCORRECT_RULES, WINDOW
from qtablate.axes import Condition
from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import BadMedia, DataError
from qtablate.grid import Cell, CellSettings, Fingerprints
from qtablate.train.accumulate import AccumulationRules
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.sample_order import SampleOrder, draw_samples
from qtablate.train.trainable import choose_trainable


def of_cell(samples: int, warmup_ratio: float = 0.0) -> CellSettings:
    return settings(samples=samples, warmup_ratio=warmup_ratio, weight_decay=0.0)


def cell(samples: int) -> Cell:
    return Cell(Condition(2, 1, 4, "mixed", "normal"), 7, 4, of_cell(samples), Fingerprints("", "", ""))


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


def test_samples_are_the_first_of_a_cell():
    seen = draw_samples(SampleOrder(7, "mixed", 0.25, 4), Data().samples, {}, 32)
    samples, frames, skipped = first_samples(Data(), cell(32), 12)
    assert samples == seen[:12]
    assert frames == {sample.clip: sample.clip.upper() for sample in seen[:12]}
    assert skipped == ()


def test_clips_that_cannot_be_read_are_skipped_and_named():
    seen = draw_samples(SampleOrder(7, "mixed", 0.25, 4), Data().samples, {}, 32)
    samples, _, skipped = first_samples(Data((seen[2].clip,)), cell(32), 12)
    assert samples == [*seen[:2], *seen[3:13]]
    assert skipped == (f"{seen[2].clip}: broken video: torn",)
    with pytest.raises(DataError, match=r"32 samples are needed, but the clips of only 31 can be read: .*torn"):
        first_samples(Data((seen[2].clip,)), cell(32), 32)


def test_schedules_computed_by_hand():
    """24 samples in micro-batches of 2, 3 a window: 12 micro-batches, 4 steps; no warm-up, a cosine from 1 to a quarter."""

    def cosine(done: float) -> float:
        return 0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    expected = {
        CORRECT: [1, cosine(1 / 3), cosine(2 / 3), 0.25],
        PER_MICRO_BATCH: [1, cosine(3 / 11), cosine(6 / 11), cosine(9 / 11)],
        TOO_FAST: [1, 0.25, 0.25, 0.25],
        TOO_SLOW: [1, cosine(1 / 11), cosine(2 / 11), cosine(3 / 11)],
    }
    computed = schedule(of_cell(24), 2, 3)
    assert computed.steps == 4
    assert [row.name for row in computed.rates] == list(expected)
    for row in computed.rates:
        rates = expected[row.name]
        assert row.mean == pytest.approx(sum(rates) / 4)
        assert row.last == pytest.approx(rates[-1])
        assert row.max_deviation == pytest.approx(max(abs(a - b) for a, b in zip(rates, expected[CORRECT], strict=True)))


@pytest.mark.parametrize(("name", "at"), [(CORRECT, "window"), (PER_MICRO_BATCH, "micro_batch")])
def test_schedules_equal_those_of_training(name, at, tiny, encoder):
    samples = [Sample(str(n), VIDEO, str(n), (("what moves?", "red"),)) for n in range(11)]
    plan = TrainPlan(2, 2, 1.0, 0.3, 0.25, 0.0, (0.9, 0.999), 256, AccumulationRules(lr_step_per=at))
    torch.nn.init.zeros_(tiny.projection.weight)
    steps = Training(tiny, choose_trainable(tiny, False), samples, lambda clip: torch.zeros(16, 24), encoder, plan)
    rates = [step.lr for step in steps]
    [computed] = [row for row in schedule(of_cell(11, warmup_ratio=0.3), 2, 2).rates if row.name == name]
    assert (computed.mean, computed.last) == (pytest.approx(sum(rates) / len(rates)), pytest.approx(rates[-1]))


def test_model_directory_with_lora_and_gradient_checkpointing(tiny_directory):
    stored = json.loads((tiny_directory / "config.json").read_text())
    (tiny_directory / "config.json").write_text(json.dumps(stored | {"max_txt_len": 128}))
    axes = {"tokens": (4,), "batch_size": (4,), "seeds": (7,), "samples": 32, "image_ratio": 0.25, "warmup_ratio": 0.0}
    lora = {"model": str(tiny_directory), "lora_rank": 2, "weight_decay": 0.0, "learning_rate": 1e-3}
    result = audit(config(**axes, **lora, accum=(1, 3), gradient_checkpointing=True))
    assert result.passed
    assert len(result.measurement.dropout) == 15  # the LoRA's: two layers with seven matrices each, and the head
    assert "kept rows 0-1, made rows 2-3" in result.query_resize
    assert [window.accumulate_grad_batches for window in result.measurement.windows] == [1, 3]
    assert result.measurement.windows[1].comparison(INCORRECT_RULES[0], WINDOW).total.relative > 1e-2
    assert [row.steps for row in result.schedules] == [8, 3]
    alone = audit(config(**axes, **lora, accum=(1,)))
    assert result.measurement.windows[0].batch_memory.saved < 0.7 * alone.measurement.windows[0].batch_memory.saved

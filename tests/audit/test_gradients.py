"""The audit passes correct gradients and fails every planted fault. Numbers refer to the properties in accumulation.md."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from qtablate.audit import gradients, target
from qtablate.audit.gradients import Settings, audit, difference
from qtablate.audit.instruments import saved_bytes
from qtablate.audit.records import (
    BATCH,
    CLIPPED,
    INCORRECT_RULES,
    REPEAT,
    TRAINER_MEAN,
    TRAINER_TOKENS,
    WINDOW,
    Measurement,
    in_precision,
)
from qtablate.audit.target import FP16_SCALE, Target, in_dtype
from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import DataError
from qtablate.model import convert
from qtablate.model.dropout import has_dropout
from qtablate.model.load import load
from qtablate.train.accumulate import accumulate
from qtablate.train.batches import make_micro_batch
from qtablate.train.device import LOAD_DTYPES, compute_context
from qtablate.train.trainable import choose_trainable

GOLDEN = Path(__file__).parents[1] / "golden"
PATCHES = {VIDEO: 16, IMAGE: 4}
SIZE = 3
MICRO_MEAN, NONE, CLIP = INCORRECT_RULES


def ragged(n: int = 24) -> list[Sample]:
    """Conversations of very different numbers of supervised tokens, both media."""
    out = []
    for number in range(n):
        words = " ".join(["red", "left", "moves"][: 1 + number % 3] * (1 + 5 * (number % 4 == 0)))
        medium = IMAGE if number % 4 == 3 else VIDEO
        out.append(Sample(str(number), medium, f"{medium}{number}", (("what moves?", words),) * (1 + number % 3)))
    return out


def equal(n: int = 24) -> list[Sample]:
    return [Sample(str(number), VIDEO, f"{VIDEO}{number}", (("what moves?", "red left"),)) for number in range(n)]


def features(clip: str) -> torch.Tensor:
    medium = VIDEO if clip.startswith(VIDEO) else IMAGE
    return torch.randn(PATCHES[medium], 24, generator=torch.Generator().manual_seed(int(clip.removeprefix(medium))))


def measured(model, encoder, accumulations: Sequence[int] = (3,), samples=None, precision="fp32", **more) -> Measurement:
    model_target = more.pop("model_target", None) or Target(model, choose_trainable(model, language_model=True))
    settings = Settings(more.pop("size", SIZE), accumulations, 256, precision, **more)
    return audit(model_target, ragged() if samples is None else samples, features, encoder, settings)


@pytest.fixture
def no_copies(monkeypatch):
    """Skip references in other precisions, which have tests of their own."""
    monkeypatch.setattr(target, "COPY_BYTES", 0)


def relative(measurement: Measurement, what: str, against: str = WINDOW) -> list[float]:
    return [window.comparison(what, against).total.relative for window in measurement.windows]


def test_windows_equal_one_batch_and_micro_mean_does_not(tiny, encoder):  # properties 1, 2 and 10
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    measurement = measured(tiny, encoder, (1, 2, 3, 8))
    assert all(window.passed for window in measurement.windows)
    assert max(relative(measurement, WINDOW, BATCH)) <= 1e-5
    assert max(relative(measurement, in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64"))) <= 1e-12
    assert {c.gradient for c in measurement.windows[0].comparisons if c.tolerance} == {
        WINDOW,
        CLIPPED,
        in_precision(WINDOW, "fp64"),
    }
    assert relative(measurement, MICRO_MEAN)[0] == 0
    assert min(relative(measurement, MICRO_MEAN)[1:]) > 1e-2
    assert relative(measurement, NONE)[1:] == pytest.approx([1, 2, 7], rel=0.3)  # not divided: A times too large
    assert [window.samples for window in measurement.windows] == [tuple(map(str, range(SIZE * a))) for a in (1, 2, 3, 8)]
    assert [window.accumulate_grad_batches for window in measurement.windows] == [1, 2, 3, 8]
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())


def test_supervised_tokens_per_micro_batch(tiny, encoder, no_copies):
    [window] = measured(tiny, encoder, (8,)).windows
    alone = [make_micro_batch([one], features, encoder, 5, 256).supervised_tokens for one in ragged()]
    assert window.tokens == tuple(sum(alone[at : at + SIZE]) for at in range(0, 24, SIZE))


def with_rules(**changes):
    return lambda window, loss, parameters, rules, **more: accumulate(
        window, loss, parameters, replace(rules, **changes), **more
    )


def without_the_last_micro_batch(window, loss, parameters, rules, **more):
    return accumulate(window[:-1], loss, parameters, rules, **more)


def with_doubled_extra_gradient(window, loss, parameters, rules, **more):
    done = accumulate(window, loss, parameters, rules, **more)
    next(p for p in parameters if p.shape == (1, 2, 24)).grad.mul_(2)
    return done


@pytest.mark.parametrize(
    ("planted", "failing"),
    [
        (with_rules(loss_norm="micro_mean"), {WINDOW, CLIPPED, in_precision(WINDOW, "fp64")}),
        (with_rules(loss_norm="none"), {WINDOW, CLIPPED, in_precision(WINDOW, "fp64")}),
        (with_rules(clip_per="micro_batch"), {CLIPPED}),
        (without_the_last_micro_batch, {WINDOW, CLIPPED, in_precision(WINDOW, "fp64")}),
        (with_doubled_extra_gradient, {WINDOW, CLIPPED, in_precision(WINDOW, "fp64")}),
    ],
)
def test_planted_faults_fail(planted, failing, tiny, encoder, monkeypatch):
    monkeypatch.setattr(gradients, "accumulate", planted)
    [window] = measured(tiny, encoder).windows
    assert {c.gradient for c in window.comparisons if not c.passed} == failing


def test_batch_norm_is_rejected_by_name(tiny, encoder):  # 14
    tiny.projection = nn.Sequential(tiny.projection, nn.BatchNorm1d(5))
    measurement = measured(tiny, encoder)
    assert measurement.rejection.startswith("layer 'projection.1' is a BatchNorm1d")
    assert measurement.windows == ()


def test_dropout_is_named_and_disabled(tiny, encoder, monkeypatch):
    tiny.qformer.encoder.layer[0].attention.output.dropout.p = 0.1
    tiny.language_model.model.layers[0].self_attn.attention_dropout = 0.1
    unaware = copy.deepcopy(tiny)
    measurement = measured(tiny, encoder)
    assert measurement.dropout == (
        "qformer.encoder.layer.0.attention.output.dropout",
        "language_model.model.layers.0.self_attn",
    )
    assert all(window.passed for window in measurement.windows)
    assert not has_dropout(tiny)
    monkeypatch.setattr(gradients, "disable_dropout", lambda layer: None)
    [window] = measured(unaware, encoder).windows
    assert not window.passed
    assert window.comparison(REPEAT, BATCH).total.relative > 1e-2


def test_micro_mean_is_harmless_with_answers_of_equal_length(tiny, encoder, no_copies):
    measurement = measured(tiny, encoder, (2, 4), equal())
    assert max(relative(measurement, MICRO_MEAN)) <= 1e-5


def test_clipping_is_compared_at_max_grad_norm_or_half_the_norm(tiny, encoder, no_copies):
    [half] = measured(tiny, encoder).windows
    assert half.clip_norm == half.norm / 2
    [given] = measured(tiny, encoder, max_grad_norm=half.norm * 10).windows
    assert given.clip_norm == half.norm * 10
    assert given.comparison(CLIP, WINDOW).total.relative <= 1e-5  # nothing is clipped
    assert half.comparison(CLIP, WINDOW).total.relative > 1e-2


def test_saved_bytes_grow_with_the_micro_batch_and_not_with_accumulation(tiny, encoder, no_copies):
    measurement = measured(tiny, encoder, (1, 2, 4), equal()).windows
    one, *others = [window.window_memory.saved for window in measurement]
    assert others == [one, one]
    assert [window.batch_memory.saved / one for window in measurement] == pytest.approx([1, 2, 4], rel=0.01)
    [larger] = measured(tiny, encoder, (1,), equal(), size=2 * SIZE).windows
    assert larger.window_memory.saved == pytest.approx(2 * one, rel=0.01)


def test_saved_bytes_count_each_storage_once_without_parameters():
    model = nn.Linear(4, 3, bias=False)
    seen = torch.randn(5, 4)
    with saved_bytes(model) as measurement:
        out = model(seen)  # keeps what it saw; its weight is a parameter
    assert sum(measurement.values()) == seen.nbytes
    with saved_bytes(model) as measurement:
        (out * out).sum()  # keeps it twice, as one storage
    assert sum(measurement.values()) == out.nbytes


def test_fp64_copy_computes_in_fp64_throughout(tiny):
    """transformers' RMSNorm computes in fp32 whatever the dtype of its input."""
    model_target = Target(tiny, choose_trainable(tiny, language_model=True))
    copied = in_dtype(model_target, torch.float64)
    exact, parameters = copied.model, copied.parameters
    norm = exact.language_model.model.norm
    x = torch.randn(2, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = norm.weight * x / (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    assert (norm(x) - wanted).abs().max() <= 1e-15
    assert (type(norm).forward(norm, x) - wanted).abs().max() > 1e-10
    assert parameters.keys() == model_target.parameters.keys()
    assert {p.dtype for p in parameters.values()} == {torch.float64}
    assert tiny.query_tokens.dtype == torch.float32


def test_model_too_large_for_a_copy_is_compared_with_one_batch_only(tiny, encoder, no_copies):
    measurement = measured(tiny, encoder)
    assert "a copy of the model would take" in measurement.missing_references["fp64"]
    assert {c.gradient for c in measurement.windows[0].comparisons if c.tolerance} == {WINDOW, CLIPPED}


def test_bf16_is_compared_with_fp32(tiny_directory):  # 9
    model, encoder = load(str(tiny_directory), LOAD_DTYPES["bf16"])
    spot = compute_context(model, "bf16")
    model_target = Target(model, choose_trainable(model, language_model=False), autocast=spot.autocast)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel refuses CPUs with AMX where tests hold torch to AVX2 (conftest.py)
        measurement = measured(model, encoder, (1, 4), precision="bf16", model_target=model_target)
    for window in measurement.windows:
        judged = window.comparison(WINDOW, in_precision(BATCH, "fp32"))
        assert 1e-3 < judged.total.relative <= judged.tolerance <= 5e-2
        assert window.comparison(WINDOW, BATCH).tolerance is None
        assert window.comparison(in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64")).passed


def test_fp16_losses_are_scaled_and_compared_with_fp32(tiny_directory):
    model, encoder = load(str(tiny_directory), LOAD_DTYPES["fp16"])
    model_target = Target(
        model,
        choose_trainable(model, language_model=False),
        autocast=compute_context(model, "fp16").autocast,
        loss_scale=FP16_SCALE,
    )
    measurement = measured(model, encoder, (1, 4), precision="fp16", model_target=model_target)
    for window in measurement.windows:
        judged = window.comparison(WINDOW, in_precision(BATCH, "fp32"))
        assert 1e-4 < judged.total.relative <= judged.tolerance == 2e-2
    faulty = measured(model, encoder, (4,), precision="fp16", model_target=replace(model_target, loss_scale=2.0**-12))
    assert faulty.windows[0].comparison(WINDOW, in_precision(BATCH, "fp32")).total.relative > 2e-2  # small gradients vanish


def test_qformer_text_padded_on_the_left_is_reported(tmp_path):
    """As in VideoChat2, where the tokens of a clip depend on the longest text in its batch."""
    out = tmp_path / "model"
    convert.convert(
        [GOLDEN / "stage2.pth", GOLDEN / "stage3.pth"],
        GOLDEN / "mistral-tiny",
        out,
        GOLDEN / "bert-base-uncased",
        convert.ConversionSettings(vision_heads=4, qformer_heads=4),
    )
    model, encoder = load(str(out))
    width = model.config.qformer_config.encoder_hidden_size
    samples = [replace(s, instruction="what is it? " * (1 + n // SIZE)) for n, s in enumerate(equal(6))]
    shown = {s.clip: torch.randn(8, width, generator=torch.Generator().manual_seed(n)) for n, s in enumerate(samples)}
    model_target = Target(model, choose_trainable(model, language_model=False))
    for padded_left in (False, True):
        encoder.qformer_tokenizer = replace(encoder.qformer_tokenizer, pad_left=padded_left)
        measurement = audit(model_target, samples, shown.__getitem__, encoder, Settings(SIZE, (2,), 256, "fp32"))
        assert measurement.padded_left is padded_left
        assert (
            measurement.windows[0].comparison(in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64")).passed
            is not padded_left
        )
        assert measurement.windows[0].passed is not padded_left


def test_samples_without_supervised_tokens_raise(tiny, encoder):
    silent = [replace(sample, pairs=()) for sample in ragged()]
    with pytest.raises(DataError, match="the first 9 samples hold no supervised token"):
        measured(tiny, encoder, samples=silent)


def test_trainer_agrees_where_the_model_takes_the_tokens_and_else_equals_micro_mean(tiny, encoder, capfd, no_copies):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    measurement = measured(tiny, encoder, (1, 3), trainer=True)
    assert max(relative(measurement, TRAINER_TOKENS)) <= 1e-5
    assert relative(measurement, TRAINER_MEAN)[0] <= 1e-5
    assert relative(measurement, TRAINER_MEAN)[1] == pytest.approx(relative(measurement, MICRO_MEAN)[1], rel=1e-3)
    assert relative(measurement, TRAINER_MEAN)[1] > 1e-2
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_difference_is_relative_to_the_second_gradient_and_nan_fails():
    a, b = [torch.tensor([3.0, 0.0])], [torch.tensor([0.0, 4.0])]
    assert difference(a, b).relative == pytest.approx(5 / 4)
    assert difference(a, b).cosine == 0
    zero = [torch.zeros(2)]
    assert (difference(zero, zero).relative, difference(a, zero).relative) == (0, math.inf)
    broken = difference([torch.tensor([math.nan])], [torch.tensor([1.0])])
    assert not gradients._compare("a", {"x": torch.tensor([math.nan])}, "b", {"x": torch.ones(1)}, 1e-5).passed
    assert math.isnan(broken.relative)

"""The audit finds a window's gradient right where it is, and every planted fault. Numbers as in accumulation.md."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from qtablate.audit import gradients as audits
from qtablate.audit.gradients import FP16_SCALE, Subject, audit, difference, saved_bytes
from qtablate.audit.records import AGAIN, BATCH, CLIPPED, FAULTS, MENDED, OWN_MEAN, WINDOW, Measured, at
from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import DataError
from qtablate.model import convert
from qtablate.model.load import load
from qtablate.train.accumulate import accumulate
from qtablate.train.batches import make_micro_batch
from qtablate.train.device import LOAD_DTYPES, compute_context
from qtablate.train.trainable import choose_trainable, has_dropout

GOLDEN = Path(__file__).parents[1] / "golden"
PATCHES = {VIDEO: 16, IMAGE: 4}
SIZE = 3
MICRO_MEAN, NONE, CLIP = FAULTS


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


def measured(model, encoder, accumulations: Sequence[int] = (3,), samples=None, precision="fp32", **more) -> Measured:
    subject = more.pop("subject", None) or Subject(model, choose_trainable(model, language_model=True))
    given = ragged() if samples is None else samples
    return audit(subject, given, features, encoder, more.pop("size", SIZE), accumulations, 256, precision, **more)


@pytest.fixture
def no_copies(monkeypatch):
    """References in other precisions have tests of their own."""
    monkeypatch.setattr(audits, "COPY_BYTES", 0)


def relative(found: Measured, what: str, against: str = WINDOW) -> list[float]:
    return [window.of(what, against).every.relative for window in found.windows]


def test_windows_equal_one_batch_and_micro_mean_does_not(tiny, encoder):  # properties 1, 2 and 10
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    found = measured(tiny, encoder, (1, 2, 3, 8))
    assert all(window.passed for window in found.windows)
    assert max(relative(found, WINDOW, BATCH)) <= 1e-5
    assert max(relative(found, at(WINDOW, "fp64"), at(BATCH, "fp64"))) <= 1e-12
    assert {one.what for one in found.windows[0].comparisons if one.allowed} == {WINDOW, CLIPPED, at(WINDOW, "fp64")}
    assert relative(found, MICRO_MEAN)[0] == 0
    assert min(relative(found, MICRO_MEAN)[1:]) > 1e-2
    assert relative(found, NONE)[1:] == pytest.approx([1, 2, 7], rel=0.3)  # not divided: A times too large
    assert [window.samples for window in found.windows] == [tuple(map(str, range(SIZE * a))) for a in (1, 2, 3, 8)]
    assert [window.accumulate_grad_batches for window in found.windows] == [1, 2, 3, 8]
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())


def test_tokens_are_counted_by_micro_batch(tiny, encoder, no_copies):
    [window] = measured(tiny, encoder, (8,)).windows
    alone = [make_micro_batch([one], features, encoder, 5, 256).supervised_tokens for one in ragged()]
    assert window.tokens == tuple(sum(alone[at : at + SIZE]) for at in range(0, 24, SIZE))


def by_rules(**changes):
    return lambda window, loss, parameters, rules, **more: accumulate(
        window, loss, parameters, replace(rules, **changes), **more
    )


def without_the_last(window, loss, parameters, rules, **more):
    return accumulate(window[:-1], loss, parameters, rules, **more)


def with_extra_doubled(window, loss, parameters, rules, **more):
    done = accumulate(window, loss, parameters, rules, **more)
    next(p for p in parameters if p.shape == (1, 2, 24)).grad.mul_(2)
    return done


@pytest.mark.parametrize(
    ("planted", "failing"),
    [
        (by_rules(loss_norm="micro_mean"), {WINDOW, CLIPPED, at(WINDOW, "fp64")}),
        (by_rules(loss_norm="none"), {WINDOW, CLIPPED, at(WINDOW, "fp64")}),
        (by_rules(clip_per="micro_batch"), {CLIPPED}),
        (without_the_last, {WINDOW, CLIPPED, at(WINDOW, "fp64")}),
        (with_extra_doubled, {WINDOW, CLIPPED, at(WINDOW, "fp64")}),
    ],
)
def test_a_planted_fault_does_not_pass(planted, failing, tiny, encoder, monkeypatch):
    monkeypatch.setattr(audits, "accumulate", planted)
    [window] = measured(tiny, encoder).windows
    assert {one.what for one in window.comparisons if not one.passed} == failing


def test_batch_statistics_are_refused_by_name(tiny, encoder):  # 14
    tiny.projection = nn.Sequential(tiny.projection, nn.BatchNorm1d(5))
    found = measured(tiny, encoder)
    assert found.refused.startswith("layer 'projection.1' is a BatchNorm1d")
    assert found.windows == ()


def test_dropout_is_named_and_switched_off(tiny, encoder, monkeypatch):
    tiny.qformer.encoder.layer[0].attention.output.dropout.p = 0.1
    tiny.language_model.model.layers[0].self_attn.attention_dropout = 0.1
    unaware = copy.deepcopy(tiny)
    found = measured(tiny, encoder)
    assert found.dropout == ("qformer.encoder.layer.0.attention.output.dropout", "language_model.model.layers.0.self_attn")
    assert all(window.passed for window in found.windows)
    assert not has_dropout(tiny)
    monkeypatch.setattr(audits, "_switch_off", lambda layer: None)
    [window] = measured(unaware, encoder).windows
    assert not window.passed
    assert window.of(AGAIN, BATCH).every.relative > 1e-2


def test_micro_mean_of_equally_long_answers_is_harmless(tiny, encoder, no_copies):
    found = measured(tiny, encoder, (2, 4), equal())
    assert max(relative(found, MICRO_MEAN)) <= 1e-5


def test_clipping_is_compared_at_the_users_norm_or_at_half_the_gradients(tiny, encoder, no_copies):
    [half] = measured(tiny, encoder).windows
    assert half.clip == half.norm / 2
    [given] = measured(tiny, encoder, max_grad_norm=half.norm * 10).windows
    assert given.clip == half.norm * 10
    assert given.of(CLIP, WINDOW).every.relative <= 1e-5  # nothing is clipped
    assert half.of(CLIP, WINDOW).every.relative > 1e-2


def test_saved_bytes_grow_with_the_micro_batch_and_not_with_accumulation(tiny, encoder, no_copies):
    found = measured(tiny, encoder, (1, 2, 4), equal()).windows
    one, *others = [window.micro_batch.saved for window in found]
    assert others == [one, one]
    assert [window.batch.saved / one for window in found] == pytest.approx([1, 2, 4], rel=0.01)
    [larger] = measured(tiny, encoder, (1,), equal(), size=2 * SIZE).windows
    assert larger.micro_batch.saved == pytest.approx(2 * one, rel=0.01)


def test_saved_bytes_are_those_of_storages_without_parameters():
    model = nn.Linear(4, 3, bias=False)
    seen = torch.randn(5, 4)
    with saved_bytes(model) as found:
        out = model(seen)  # keeps what it saw; its weight is a parameter
    assert sum(found.values()) == seen.nbytes
    with saved_bytes(model) as found:
        (out * out).sum()  # keeps it twice, as one storage
    assert sum(found.values()) == out.nbytes


def test_the_fp64_copy_computes_in_fp64_throughout(tiny):
    """transformers' RMSNorm goes through fp32 whatever it is given."""
    subject = Subject(tiny, choose_trainable(tiny, language_model=True))
    exact, parameters = audits._copied(subject, torch.float64)
    norm = exact.language_model.model.norm
    x = torch.randn(2, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = norm.weight * x / (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    assert (norm(x) - wanted).abs().max() <= 1e-15
    assert (type(norm).forward(norm, x) - wanted).abs().max() > 1e-10
    assert parameters.keys() == subject.parameters.keys()
    assert {p.dtype for p in parameters.values()} == {torch.float64}
    assert tiny.query_tokens.dtype == torch.float32


def test_a_model_too_large_for_a_copy_is_judged_by_one_batch_alone(tiny, encoder, no_copies):
    found = measured(tiny, encoder)
    assert "a copy of the model would take" in found.not_copied["fp64"]
    assert {one.what for one in found.windows[0].comparisons if one.allowed} == {WINDOW, CLIPPED}


def test_bf16_is_judged_against_fp32(tiny_directory):  # 9
    model, encoder = load(str(tiny_directory), LOAD_DTYPES["bf16"])
    spot = compute_context(model, "bf16")
    subject = Subject(model, choose_trainable(model, language_model=False), autocast=spot.autocast)
    found = measured(model, encoder, (1, 4), precision="bf16", subject=subject)
    for window in found.windows:
        judged = window.of(WINDOW, at(BATCH, "fp32"))
        assert 1e-3 < judged.every.relative <= judged.allowed <= 5e-2
        assert window.of(WINDOW, BATCH).allowed is None
        assert window.of(at(WINDOW, "fp64"), at(BATCH, "fp64")).passed


def test_fp16_is_scaled_and_judged_against_fp32(tiny_directory):
    model, encoder = load(str(tiny_directory), LOAD_DTYPES["fp16"])
    subject = Subject(
        model, choose_trainable(model, language_model=False), autocast=compute_context(model, "fp16").autocast, scale=FP16_SCALE
    )
    found = measured(model, encoder, (1, 4), precision="fp16", subject=subject)
    for window in found.windows:
        judged = window.of(WINDOW, at(BATCH, "fp32"))
        assert 1e-4 < judged.every.relative <= judged.allowed == 2e-2
    faulty = measured(model, encoder, (4,), precision="fp16", subject=replace(subject, scale=2.0**-12))
    assert faulty.windows[0].of(WINDOW, at(BATCH, "fp32")).every.relative > 2e-2  # small gradients vanish


def test_a_qformer_text_padded_on_the_left_is_found(tmp_path):
    """The original's quirk: a clip's tokens depend on the longest text in its batch."""
    out = tmp_path / "model"
    convert.convert(
        [GOLDEN / "stage2.pth", GOLDEN / "stage3.pth"],
        GOLDEN / "mistral-tiny",
        out,
        GOLDEN / "bert-base-uncased",
        convert.Settings(vision_heads=4, qformer_heads=4),
    )
    model, encoder = load(str(out))
    width = model.config.qformer_config.encoder_hidden_size
    samples = [replace(s, instruction="what is it? " * (1 + n // SIZE)) for n, s in enumerate(equal(6))]
    shown = {s.clip: torch.randn(8, width, generator=torch.Generator().manual_seed(n)) for n, s in enumerate(samples)}
    subject = Subject(model, choose_trainable(model, language_model=False))
    for padded_left in (False, True):
        encoder.reader = replace(encoder.reader, padded_left=padded_left)
        found = audit(subject, samples, shown.__getitem__, encoder, SIZE, (2,), 256, "fp32")
        assert found.padded_left is padded_left
        assert found.windows[0].of(at(WINDOW, "fp64"), at(BATCH, "fp64")).passed is not padded_left
        assert found.windows[0].passed is not padded_left


def test_samples_without_a_supervised_token_are_refused(tiny, encoder):
    silent = [replace(sample, pairs=()) for sample in ragged()]
    with pytest.raises(DataError, match="the first 9 samples hold no supervised token"):
        measured(tiny, encoder, samples=silent)


def test_trainer_agrees_where_it_is_told_the_tokens_and_else_is_micro_mean(tiny, encoder, capfd, no_copies):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    found = measured(tiny, encoder, (1, 3), trainer=True)
    assert max(relative(found, MENDED)) <= 1e-5
    assert relative(found, OWN_MEAN)[0] <= 1e-5
    assert relative(found, OWN_MEAN)[1] == pytest.approx(relative(found, MICRO_MEAN)[1], rel=1e-3)
    assert relative(found, OWN_MEAN)[1] > 1e-2
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_difference_is_relative_to_the_second_and_what_is_no_number_does_not_pass():
    a, b = [torch.tensor([3.0, 0.0])], [torch.tensor([0.0, 4.0])]
    assert difference(a, b).relative == pytest.approx(5 / 4)
    assert difference(a, b).cosine == 0
    zero = [torch.zeros(2)]
    assert (difference(zero, zero).relative, difference(a, zero).relative) == (0, math.inf)
    broken = difference([torch.tensor([math.nan])], [torch.tensor([1.0])])
    assert not audits._compare("a", {"x": torch.tensor([math.nan])}, "b", {"x": torch.ones(1)}, 1e-5).passed
    assert math.isnan(broken.relative)

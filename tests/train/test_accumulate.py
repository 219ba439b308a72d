"""The three rules, by their properties (numbers as in accumulation.md). Each incorrect variant is shown to fail its test.

Elsewhere: 6 and 9 (fp16, bf16) in test_place, 8 (several processes) in test_ranks, 10 (order of samples) in test_order, 12
(resuming) in test_loop, test_checkpoint and tests/test_sweep; 1, 2, 5 and 14 again through `audit` in test_audit.
"""

from collections.abc import Sequence

import pytest
import torch
from precision import in_fp64
from torch import nn

from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import ModelError
from qtablate.train.accumulate import AccumulationRules as Rules
from qtablate.train.accumulate import accumulate, clear_gradients, validate_no_batch_statistics
from qtablate.train.batches import MicroBatch, loss_sum, make_micro_batch
from qtablate.train.loop import Training, TrainPlan
from qtablate.train.schedule import learning_rate, optimizer_steps
from qtablate.train.trainable import choose_trainable

N = 24
RIGHT = Rules()


def ragged(n: int = N) -> list[Sample]:
    """Conversations of very different numbers of supervised tokens, both media."""
    out = []
    for number in range(n):
        turns = 1 + number % 3
        words = " ".join(["red", "left", "moves"][: 1 + number % 3] * (1 + 5 * (number % 4 == 0)))
        medium = IMAGE if number % 4 == 3 else VIDEO
        out.append(Sample(str(number), medium, f"{medium}{number}", tuple(("what moves?", words) for _ in range(turns))))
    return out


@pytest.fixture
def features(tiny) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    patches = {VIDEO: 16, IMAGE: 4}
    return {s.clip: torch.randn(patches[s.medium], 24, generator=generator) for s in ragged()}


def micro_batches(samples: Sequence[Sample], features, encoder, size: int) -> list[MicroBatch]:
    lookup = features.__getitem__
    return [make_micro_batch(samples[at : at + size], lookup, encoder, 5, 256) for at in range(0, len(samples), size)]


def gradient(model, encoder, features, size: int, rules: Rules = RIGHT, samples=None) -> tuple[torch.Tensor, object]:
    """All gradients of one window of the samples, split into micro-batches of `size`."""
    parameters = list(choose_trainable(model, language_model=True).values())
    clear_gradients(parameters)
    window = micro_batches(samples or ragged(), features, encoder, size)
    result = accumulate(window, lambda micro: loss_sum(model, micro), parameters, rules)
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]), result


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("accumulation", [1, 2, 3, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_window_gradient_equals_full_batch_gradient(tiny, encoder, features, accumulation, dtype, tolerance):  # 1
    model = in_fp64(tiny) if dtype == torch.float64 else tiny
    shown = {name: value.to(dtype) for name, value in features.items()}
    whole, _ = gradient(model, encoder, shown, N)
    split, _ = gradient(model, encoder, shown, N // accumulation)
    assert relative(split, whole) <= tolerance


def test_full_batch_gradient_equals_a_plain_loop(tiny, encoder, features):
    """The independent reference: each sample alone, its own forward, log-softmax by hand, one sum over one count."""
    model = in_fp64(tiny)
    shown = {name: value.double() for name, value in features.items()}
    parameters = list(choose_trainable(model, language_model=True).values())
    clear_gradients(parameters)
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for sample in ragged():
        form = encoder.format
        ids = encoder.token_ids(form.opening + form.media[sample.medium][0])
        before = len(ids)
        after, labels = encoder.token_ids(form.media[sample.medium][1]), []
        labels += [None] * len(after)
        for question, answer in sample.pairs:
            asked = encoder.token_ids(form.human) + encoder.token_ids(question) + encoder.token_ids(form.assistant)
            told = encoder.token_ids(answer) + encoder.token_ids(form.end)
            after = after + asked + told
            labels += [None] * len(asked) + told
        table = model.language_model.get_input_embeddings()
        visual = model.visual_tokens(shown[sample.clip][None])[0]
        embeds = torch.cat([table(torch.tensor(ids)), visual, table(torch.tensor(after))])
        log_probs = model.language_model(inputs_embeds=embeds[None]).logits[0].log_softmax(-1)
        for place, label in enumerate(labels):
            if label is not None:
                total = total - log_probs[before + len(visual) + place - 1, label]
                tokens += 1
    (total / tokens).backward()
    reference = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    mine, result = gradient(model, encoder, shown, 5)
    assert result.tokens == tokens
    assert result.loss == pytest.approx(float(total.detach()) / tokens, rel=1e-12)
    assert relative(mine, reference) <= 1e-12


@pytest.mark.parametrize("incorrect", ["micro_mean", "none"])
def test_incorrect_norms_differ_on_ragged_labels(tiny, encoder, features, incorrect):  # 2, the negative control
    whole, _ = gradient(tiny, encoder, features, N)
    wrong, _ = gradient(tiny, encoder, features, 3, Rules(loss_norm=incorrect))
    assert relative(wrong, whole) > 1e-2


def test_micro_mean_is_right_when_all_are_equally_long(tiny, encoder, features):
    same = [Sample(s.id, s.medium, s.clip, (("what moves?", "red left"),)) for s in ragged()]
    whole, _ = gradient(tiny, encoder, features, N, samples=same)
    mean, _ = gradient(tiny, encoder, features, 3, Rules(loss_norm="micro_mean"), samples=same)
    assert relative(mean, whole) <= 1e-5


def test_short_last_window_divides_by_what_it_holds(tiny, encoder, features):  # 3
    steps = run(tiny, encoder, features, 5, 2)  # 5 micro-batches, the last of 4 samples, alone in its window
    assert len(steps) == optimizer_steps(24, 5, 2) == 3
    assert [step.samples_seen for step in steps] == [10, 20, 24]
    [batch] = micro_batches(ragged()[20:], features, encoder, 5)
    assert steps[-1].supervised_tokens == batch.supervised_tokens
    last, _ = gradient(tiny, encoder, features, 2, samples=ragged()[20:])
    whole, _ = gradient(tiny, encoder, features, 4, samples=ragged()[20:])
    assert relative(last, whole) <= 1e-5


def test_adamw_hides_a_wrong_scale_so_gradients_are_what_is_tested(tiny, encoder, features):  # 4
    right, _ = gradient(tiny, encoder, features, N)
    parameter = nn.Parameter(torch.zeros_like(right))
    updates = []
    for scale in (1.0, 8.0):
        parameter.data.zero_()
        parameter.grad = right * scale
        torch.optim.AdamW([parameter], lr=1e-3).step()
        updates.append(parameter.detach().clone())
    assert relative(updates[1], updates[0]) < 0.05  # eight times the loss, nearly the same update
    assert relative(right * 8, right) == pytest.approx(7)


def test_clipping_happens_once_on_the_accumulated_gradient(tiny, encoder, features, monkeypatch):  # 5
    whole, _ = gradient(tiny, encoder, features, N)
    calls = []
    original = nn.utils.clip_grad_norm_
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda p, limit: calls.append(limit) or original(p, limit))
    limit = float(whole.norm()) / 3
    clipped, result = gradient(tiny, encoder, features, 3, Rules(max_grad_norm=limit))
    assert calls == [limit]
    assert result.norm == pytest.approx(float(whole.norm()), rel=1e-5)
    assert relative(clipped, whole / 3) <= 1e-4
    incorrect, _ = gradient(tiny, encoder, features, 3, Rules(max_grad_norm=limit, clip_per="micro_batch"))
    assert len(calls) > 2
    assert relative(incorrect, clipped) > 1e-2


def run(model, encoder, features, size: int, accumulation: int, rules: Rules = RIGHT, samples=None):
    plan = TrainPlan(size, accumulation, 1e-3, 0.25, 0.25, 0.02, (0.9, 0.999), 256, rules)
    parameters = choose_trainable(model, language_model=False)
    return list(Training(model, parameters, samples or ragged(), features.__getitem__, encoder, plan))


def test_learning_rates_are_those_of_optimizer_steps(tiny, encoder, features):  # 7
    steps = run(tiny, encoder, features, 2, 3)
    assert [step.lr for step in steps] == [learning_rate(n, 4, 1e-3, 0.25, 0.25) for n in range(4)]
    incorrect = run(tiny, encoder, features, 2, 3, Rules(lr_step_per="micro_batch"))
    assert [step.lr for step in incorrect] != [step.lr for step in steps]
    assert [step.lr for step in incorrect] == [learning_rate(3 * n, 12, 1e-3, 0.25, 0.25) for n in range(4)]


def test_window_without_supervised_tokens_is_skipped_and_counted(tiny, encoder, features):  # 11
    silent = [Sample(s.id, s.medium, s.clip, ()) for s in ragged()[:4]]
    samples = [*ragged()[:4], *silent, *ragged()[4:8]]
    steps = run(tiny, encoder, features, 2, 2, samples=samples)
    assert [step.supervised_tokens > 0 for step in steps] == [True, False, True]
    assert steps[1].loss is None
    assert all(bool(p.isfinite().all()) for p in tiny.parameters())


def test_skipped_window_leaves_parameters_untouched(tiny, encoder, features):
    silent = [Sample(s.id, s.medium, s.clip, ()) for s in ragged()]
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    run(tiny, encoder, features, 4, 2, samples=silent)
    assert all(torch.equal(before[name], value) for name, value in tiny.state_dict().items())


def test_micro_batch_without_supervised_tokens_in_a_window_changes_nothing(tiny, encoder, features):
    silent = [Sample(s.id, s.medium, s.clip, ()) for s in ragged()[:3]]
    alone, _ = gradient(tiny, encoder, features, 3, samples=ragged()[3:6])
    beside, _ = gradient(tiny, encoder, features, 3, samples=[*silent, *ragged()[3:6]])
    assert relative(beside, alone) <= 1e-6


@pytest.mark.parametrize("accumulation", [2, 4, 8])
def test_logged_loss_is_token_weighted_and_independent_of_a(tiny, encoder, features, accumulation):  # 13
    _, whole = gradient(tiny, encoder, features, N)
    _, split = gradient(tiny, encoder, features, N // accumulation)
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)
    assert split.tokens == whole.tokens
    means = [float(loss_sum(tiny, m).detach()) / m.supervised_tokens for m in micro_batches(ragged(), features, encoder, 3)]
    assert abs(sum(means) / len(means) - whole.loss) > 1e-4 * whole.loss  # the unweighted mean is another number


def test_batch_norm_in_training_mode_is_refused_by_name():  # 14
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(ModelError, match="layer '1' is a BatchNorm1d"):
        validate_no_batch_statistics(model)
    validate_no_batch_statistics(model.eval())


def test_equal_effective_batch_gives_equal_runs(tiny, encoder, features):
    """The free gate of accumulation.md: splitting a batch changes arithmetic only."""
    start = {name: value.clone() for name, value in tiny.state_dict().items()}
    whole = run(tiny, encoder, features, 8, 1)
    tiny.load_state_dict(start)
    split = run(tiny, encoder, features, 2, 4)
    assert [s.samples_seen for s in whole] == [s.samples_seen for s in split]
    assert [s.loss for s in split] == pytest.approx([s.loss for s in whole], rel=1e-4)


def test_training_repeats_bit_for_bit(tiny, encoder, features):
    start = {name: value.clone() for name, value in tiny.state_dict().items()}
    first = run(tiny, encoder, features, 4, 2)
    weights = {name: value.clone() for name, value in tiny.state_dict().items()}
    tiny.load_state_dict(start)
    second = run(tiny, encoder, features, 4, 2)
    assert [s.loss for s in first] == [s.loss for s in second]
    assert all(torch.equal(weights[name], value) for name, value in tiny.state_dict().items())
